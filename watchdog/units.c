/*
 * units.c
 *		Times and sizes with units.  tandemd and tandemctl link it.
 */
#include "units.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

typedef struct Unit
{
	const char *name;
	int64_t factor;
} Unit;

/* From large to small. */
static const Unit time_units[] = {
	{"d", INT64_C(86400000000)},
	{"h", INT64_C(3600000000)},
	{"min", INT64_C(60000000)},
	{"s", INT64_C(1000000)},
	{"ms", INT64_C(1000)},
	{"us", INT64_C(1)},
	{NULL, 0},
};
static const Unit size_units[] = {
	{"TB", INT64_C(1) << 40}, {"GB", INT64_C(1) << 30}, {"MB", INT64_C(1) << 20},
	{"kB", INT64_C(1) << 10}, {"B", INT64_C(1)},        {NULL, 0},
};

/*
 * DIGITS[.DIGITS][ ]UNIT.  Done in integers: 0.1 s is 100000 us, not nearly so.  Decimals below
 * the smallest unit are refused rather than rounded away.
 */
static bool
parse(const char *text, const Unit *units, int64_t *value)
{
	const char *p = text;
	int64_t number = 0;
	int64_t scale = 1;
	bool digits = false;
	bool point = false;

	for (;; p++)
	{
		if (*p == '.' && !point && digits)
		{
			point = true;
			continue;
		}
		if (!isdigit((unsigned char) *p))
			break;
		digits = true;
		if (__builtin_mul_overflow(number, 10, &number) ||
			__builtin_add_overflow(number, *p - '0', &number))
			return false;
		if (point && __builtin_mul_overflow(scale, 10, &scale))
			return false;
	}
	if (!digits || p[-1] == '.')
		return false;
	while (*p == ' ')
		p++;
	if (*p == '\0')
	{
		*value = 0;
		return number == 0;
	}
	for (; units->name != NULL; units++)
	{
		int64_t product;

		if (strcmp(p, units->name) != 0)
			continue;
		if (__builtin_mul_overflow(number, units->factor, &product) || product % scale != 0)
			return false;
		*value = product / scale;
		return true;
	}
	return false;
}

bool
units_parse_time(const char *text, int64_t *us)
{
	return parse(text, time_units, us);
}

bool
units_parse_size(const char *text, int64_t *bytes)
{
	return parse(text, size_units, bytes);
}

const char *
units_time_text(int64_t us, char *buf)
{
	const Unit *u = time_units;

	if (us == 0)
		return strcpy(buf, "0s");
	while (us % u->factor != 0)
		u++;
	/* 1.5s reads better than 1500ms, 0.3s does not read better than 300ms */
	if (us >= 1000000 && u->factor == 1000)
	{
		int n = snprintf(buf, UNITS_TEXT_SIZE, "%lld.%03d", (long long) (us / 1000000),
						 (int) (us / 1000 % 1000));

		while (buf[n - 1] == '0')
			n--;
		strcpy(buf + n, "s");
	}
	else
		snprintf(buf, UNITS_TEXT_SIZE, "%lld%s", (long long) (us / u->factor), u->name);
	return buf;
}

const char *
units_size_text(int64_t bytes, char *buf)
{
	const Unit *u = size_units;

	while (u[1].name != NULL && bytes < u->factor)
		u++;
	if (u->factor == 1)
		snprintf(buf, UNITS_TEXT_SIZE, "%lld B", (long long) bytes);
	else
	{
		double v = (double) bytes / (double) u->factor;

		snprintf(buf, UNITS_TEXT_SIZE, "%.*f %s", v < 10 ? 2 : (v < 100 ? 1 : 0), v, u->name);
	}
	return buf;
}
