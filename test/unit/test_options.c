/*-------------------------------------------------------------------------
 *
 * test_options.c
 *	  Tests of the text of tandem.link_options (link/options.c).
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "options.h"

static LinkOptions
parsed(const char *text, const char *name)
{
	LinkOptions options;
	char error[256] = "";

	if (!link_options_parse(text, name, &options, error, sizeof(error)))
		fail_msg("%s: %s", text, error);
	return options;
}

static void
test_nothing_said(void **state)
{
	static const char *const texts[] = {"", " ", ";", "b: compression=zstd:9 max_rate=1MB"};

	(void) state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
	{
		LinkOptions options = parsed(texts[i], "a");

		assert_int_equal(options.compression, LINK_COMPRESSION_AUTO);
		assert_int_equal(options.level, LINK_ZSTD_LEVEL);
		assert_string_equal(options.congestion, "");
		assert_int_equal(options.max_rate, 0);
		assert_int_equal(options.send_buffer, 0);
		assert_int_equal(options.max_backlog, 0);
	}
}

static void
test_all_said(void **state)
{
	LinkOptions options = parsed("far-1.x: compression=zstd:3, congestion=cubic max_rate=50Mbit,"
								 "send_buffer=4MB,\n\tmax_backlog=1.5GB ;",
								 "far-1.x");

	(void) state;
	assert_int_equal(options.compression, LINK_COMPRESSION_ZSTD);
	assert_int_equal(options.level, 3);
	assert_string_equal(options.congestion, "cubic");
	assert_int_equal(options.max_rate, 6250000);
	assert_int_equal(options.send_buffer, 4 * 1024 * 1024);
	assert_true(options.max_backlog == UINT64_C(3) * 512 * 1024 * 1024);
}

static void
test_star_comes_first(void **state)
{
	const char *text =
		"a: compression=lz4; *: compression=zstd max_backlog=20GB; b: congestion=bbr";
	LinkOptions a = parsed(text, "a");
	LinkOptions b = parsed(text, "b");
	LinkOptions c = parsed(text, NULL);

	(void) state;
	assert_int_equal(a.compression, LINK_COMPRESSION_LZ4);
	assert_int_equal(b.compression, LINK_COMPRESSION_ZSTD);
	assert_string_equal(a.congestion, "");
	assert_string_equal(b.congestion, "bbr");
	assert_true(a.max_backlog == UINT64_C(20) << 30);
	assert_true(c.max_backlog == UINT64_C(20) << 30);
}

static void
test_back_to_the_default(void **state)
{
	LinkOptions options = parsed("*: compression=lz4 congestion=bbr max_rate=1MB max_backlog=1GB;"
								 "a: compression=auto congestion=auto max_rate=0 max_backlog=0",
								 "a");

	(void) state;
	assert_int_equal(options.compression, LINK_COMPRESSION_AUTO);
	assert_string_equal(options.congestion, "");
	assert_int_equal(options.max_rate, 0);
	assert_int_equal(options.max_backlog, 0);
}

static void
test_units(void **state)
{
	static const struct
	{
		const char *text;
		uint64_t bytes;
	} rates[] = {
		{"8kbit", 0},  {"16kbit", 2000},   {"100Mbit", 12500000}, {"1Gbit", 125000000},
		{"1kB", 1024}, {"12MB", 12 << 20}, {"0.5Mbit", 62500},    {"1mbit", 0},
		{"1Mb", 0},    {"100", 0},         {"Mbit", 0},           {"-1MB", 0},
		{"1e3MB", 0},  {"nanMB", 0},       {"1Mbit/s", 0},        {"1 MB", 0},
		{"1..2MB", 0}, {"99999999TB", 0},  {"0x10MB", 0},         {"", 0},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
	{
		LinkOptions options;
		char text[64] = "a: max_rate=";
		char error[256];
		bool good;

		strcat(text, rates[i].text);
		good = link_options_parse(text, "a", &options, error, sizeof(error));
		assert_int_equal(good, rates[i].bytes != 0);
		assert_int_equal(options.max_rate, rates[i].bytes);
	}
}

static void
test_refused(void **state)
{
	static const struct
	{
		const char *text;
		const char *error;
	} cases[] = {
		{"a", "\"a\" is not of the form name: option=value, ...."},
		{"compression=lz4", "\"compression=lz4\" is not of the form name: option=value, ...."},
		{"t/wo: compression=lz4", "\"t/wo\" is not of the form name: option=value, ...."},
		{": compression=lz4", "\"\" is not of the form name: option=value, ...."},
		{"a: compression", "\"compression\" is not of the form option=value."},
		{"a: speed=fast", "There is no option \"speed\"."},
		{"a: compression=gzip",
		 "\"gzip\" is not what \"compression\" takes: auto, none, lz4, zstd, "
		 "or zstd:LEVEL with a level from 1 to 9."},
		{"a: compression=zstd:0", "\"zstd:0\" is not what"},
		{"a: compression=zstd:10", "\"zstd:10\" is not what"},
		{"a: compression=zstd:3x", "\"zstd:3x\" is not what"},
		{"a: congestion=", "\"\" is not what \"congestion\" takes"},
		{"a: congestion=a_very_long_name_indeed", "is not what \"congestion\" takes"},
		{"a: max_backlog=50Mbit", "\"50Mbit\" is not what \"max_backlog\" takes"},
		{"a: max_rate=1MB; b: max_rate=fast", "\"fast\" is not what \"max_rate\" takes"},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		LinkOptions options;
		char error[256] = "";

		assert_false(link_options_parse(cases[i].text, "a", &options, error, sizeof(error)));
		if (strstr(error, cases[i].error) == NULL)
			fail_msg("%s: \"%s\" is not in \"%s\"", cases[i].text, cases[i].error, error);
		assert_int_equal(options.max_rate, 0); /* nothing of it is in force */
	}
}

static void
test_names(void **state)
{
	const char *text =
		" beta : max_rate=1MB; gamma:max_backlog=1GB;*: compression=none;Tokyo-1.b: ";
	char name[LINK_NAME_SIZE];

	(void) state;
	assert_true(link_options_of_slot(text, "beta", name));
	assert_string_equal(name, "beta");
	assert_true(link_options_of_slot(text, "gamma", name));
	assert_string_equal(name, "gamma");
	assert_true(link_options_of_slot(text, "tokyo_1_b", name));
	assert_string_equal(name, "Tokyo-1.b");
	assert_false(link_options_of_slot(text, "*", name));
	assert_false(link_options_of_slot(text, "bet", name));
	assert_false(link_options_of_slot(text, "beta_", name));
	assert_false(link_options_of_slot(text, "amma", name));
	assert_false(link_options_of_slot(text, "max_rate", name));
	assert_false(link_options_of_slot("", "beta", name));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_said),
		cmocka_unit_test(test_all_said),
		cmocka_unit_test(test_star_comes_first),
		cmocka_unit_test(test_back_to_the_default),
		cmocka_unit_test(test_units),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
