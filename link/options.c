/*-------------------------------------------------------------------------
 *
 * options.c
 *	  Reads tandem.link_options; see options.h.
 *
 * The whole text is always checked, also what it says about others: so the
 * same function tells a DBA who sets it what is wrong.
 *
 *-------------------------------------------------------------------------
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "options.h"

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

/* A number with its unit. */
typedef struct Unit
{
	const char *name;
	double bytes;
	bool rate; /* makes sense for a rate only */
} Unit;

static const Unit units[] = {
	{"kbit", 1e3 / 8, true},
	{"Mbit", 1e6 / 8, true},
	{"Gbit", 1e9 / 8, true},
	{"kB", 1024, false},
	{"MB", 1024.0 * 1024, false},
	{"GB", 1024.0 * 1024 * 1024, false},
	{"TB", 1024.0 * 1024 * 1024 * 1024, false},
};

static bool
parse_number(const char *text, bool rate, uint64_t *value)
{
	char *end;
	double number;

	if (strcmp(text, "0") == 0)
	{
		*value = 0;
		return true;
	}
	if (!isdigit((unsigned char) text[0]))
		return false;
	errno = 0;
	number = strtod(text, &end);
	if (errno != 0 || strspn(text, "0123456789.") != (size_t) (end - text))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
	{
		if ((units[i].rate && !rate) || strcmp(end, units[i].name) != 0)
			continue;
		number *= units[i].bytes;
		/* a limit that is no limit, or that lets nothing through, is a mistake */
		if (number < 1024 || number > 1e15)
			return false;
		*value = (uint64_t) number;
		return true;
	}
	return false;
}

static bool
parse_compression(const char *text, LinkOptions *options)
{
	char *end;
	long level;

	options->level = LINK_ZSTD_LEVEL;
	for (int kind = LINK_COMPRESSION_NONE; kind <= LINK_COMPRESSION_AUTO; kind++)
	{
		if (strcmp(text, link_compression_name(kind)) == 0)
		{
			options->compression = kind;
			return true;
		}
	}
	if (strncmp(text, "zstd:", 5) != 0 || !isdigit((unsigned char) text[5]))
		return false;
	level = strtol(text + 5, &end, 10);
	if (*end != '\0' || level < LINK_ZSTD_MIN_LEVEL || level > LINK_ZSTD_MAX_LEVEL)
		return false;
	options->compression = LINK_COMPRESSION_ZSTD;
	options->level = (int) level;
	return true;
}

static bool
parse_congestion(const char *text, LinkOptions *options)
{
	size_t length = strlen(text);

	if (length == 0 || length >= LINK_CONGESTION_SIZE || strspn(text, NAME_CHARACTERS) != length)
		return false;
	strcpy(options->congestion, strcmp(text, "auto") == 0 ? "" : text);
	return true;
}

/* One option.  False, with the reason, if it is none. */
static bool
parse_option(const char *key, const char *value, LinkOptions *options, char *error, size_t size)
{
	const char *wanted;
	bool good;

	if (strcmp(key, "compression") == 0)
	{
		good = parse_compression(value, options);
		wanted = "auto, none, lz4, zstd, or zstd:LEVEL with a level from 1 to 9";
	}
	else if (strcmp(key, "congestion") == 0)
	{
		good = parse_congestion(value, options);
		wanted = "auto, or the name of a congestion control of the kernel";
	}
	else if (strcmp(key, "max_rate") == 0)
	{
		good = parse_number(value, true, &options->max_rate);
		wanted = "a rate with its unit, kbit, Mbit, Gbit, kB, MB or GB a second, or 0";
	}
	else if (strcmp(key, "send_buffer") == 0)
	{
		good = parse_number(value, false, &options->send_buffer);
		wanted = "a size with its unit, kB, MB or GB, or 0";
	}
	else if (strcmp(key, "max_backlog") == 0)
	{
		good = parse_number(value, false, &options->max_backlog);
		wanted = "a size with its unit, MB, GB or TB, or 0";
	}
	else
	{
		snprintf(error, size, "There is no option \"%.64s\".", key);
		return false;
	}
	if (!good)
		snprintf(error, size, "\"%.64s\" is not what \"%s\" takes: %s.", value, key, wanted);
	return good;
}

/* "option=value, option=value" */
static bool
parse_list(char *text, LinkOptions *options, char *error, size_t size)
{
	char *save;
	char *word = strtok_r(text, ", \t\n", &save);

	for (; word != NULL; word = strtok_r(NULL, ", \t\n", &save))
	{
		char *value = strchr(word, '=');

		if (value == NULL)
		{
			snprintf(error, size, "\"%.64s\" is not of the form option=value.", word);
			return false;
		}
		*value++ = '\0';
		if (!parse_option(word, value, options, error, size))
			return false;
	}
	return true;
}

/* Cut the blanks off both ends. */
static char *
trim(char *text)
{
	char *end;

	text += strspn(text, " \t\n");
	end = text + strlen(text);
	while (end > text && strchr(" \t\n", end[-1]) != NULL)
		*--end = '\0';
	return text;
}

/*
 * Once through all of the text.  What is said about 'name' goes to *options,
 * the rest is only checked.
 */
static bool
parse_all(const char *text, const char *name, LinkOptions *options, char *error, size_t size)
{
	char *copy = strdup(text);
	char *save;
	bool good = copy != NULL;

	if (!good)
	{
		snprintf(error, size, "Out of memory.");
		return false;
	}
	for (char *part = strtok_r(copy, ";", &save); good && part != NULL;
		 part = strtok_r(NULL, ";", &save))
	{
		LinkOptions others = *options;
		char *list = strchr(part, ':');
		char *link;

		if (trim(part)[0] == '\0')
			continue; /* a semicolon at the end */
		if (list != NULL)
			*list++ = '\0';
		link = trim(part);
		if (list == NULL ||
			(strcmp(link, "*") != 0 &&
			 (link[0] == '\0' || strlen(link) >= LINK_NAME_SIZE || strchr(link, '=') != NULL ||
			  strspn(link, NAME_CHARACTERS) != strlen(link))))
		{
			snprintf(error, size, "\"%.64s\" is not of the form name: option=value, ....", link);
			good = false;
		}
		else
			good = parse_list(list, name != NULL && strcmp(link, name) == 0 ? options : &others,
							  error, size);
	}
	free(copy);
	return good;
}

bool
link_options_parse(const char *text, const char *name, LinkOptions *options, char *error,
				   size_t size)
{
	LinkOptions none = {.compression = LINK_COMPRESSION_AUTO, .level = LINK_ZSTD_LEVEL};

	*options = none;
	if (parse_all(text, "*", options, error, size) && parse_all(text, name, options, error, size))
		return true;
	*options = none;
	return false;
}

bool
link_name_is_slot(const char *name, const char *slot)
{
	for (; *name != '\0'; name++, slot++)
	{
		char ch = *name;

		if (ch >= 'A' && ch <= 'Z')
			ch += 'a' - 'A';
		else if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9')))
			ch = '_';
		if (*slot != ch)
			return false;
	}
	return *slot == '\0';
}

bool
link_options_of_slot(const char *text, const char *slot, char name[LINK_NAME_SIZE])
{
	for (const char *at = text; at != NULL; at = strchr(at, ';'))
	{
		size_t length;

		at += strspn(at, "; \t\n");
		length = strspn(at, NAME_CHARACTERS); /* "*" has none */
		if (length == 0 || length >= LINK_NAME_SIZE)
			continue;
		memcpy(name, at, length);
		name[length] = '\0';
		if (link_name_is_slot(name, slot))
			return true;
	}
	return false;
}
