/*-------------------------------------------------------------------------
 *
 * test_copy_file.c
 *	  Tests of the copy's name in the data directory (watchdog/copy_file.c).
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "watchdog/report.h"

static char directory[] = "/tmp/test_copy_file.XXXXXX";
static char sub[sizeof(directory) + 32];
static char path[sizeof(directory) + 32];
static char temporary[sizeof(directory) + 32];

static int
make_directory(void **state)
{
	(void) state;
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(sub, sizeof(sub), "%s/pg_tandem", directory);
	snprintf(path, sizeof(path), "%s/copy", sub);
	snprintf(temporary, sizeof(temporary), "%s/copy.tandem-tmp", sub);
	return 0;
}

static int
remove_files(void **state)
{
	(void) state;
	(void) unlink(path);
	(void) unlink(temporary);
	(void) rmdir(sub);
	return 0;
}

static int
remove_directory(void **state)
{
	(void) state;
	return rmdir(directory);
}

static void
put(const char *text)
{
	int fd;

	(void) mkdir(sub, 0700);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
	close(fd);
}

static void
get(char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, text, size - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
}

static void
test_missing_is_no_copy(void **state)
{
	CopyFile copy = {.id = 9, .rebuilding = true};

	(void) state;
	assert_true(copy_file_read(directory, &copy));
	assert_true(copy.id == 0 && !copy.rebuilding);
}

static void
test_written_is_read(void **state)
{
	static const CopyFile copies[] = {
		{.id = 1}, {.id = UINT64_MAX, .rebuilding = true}, {.id = UINT64_C(0x0123456789abcdef)}};

	(void) state;
	for (size_t i = 0; i < sizeof(copies) / sizeof(copies[0]); i++)
	{
		CopyFile seen;

		assert_true(copy_file_write(directory, &copies[i]));
		assert_true(copy_file_read(directory, &seen));
		assert_true(seen.id == copies[i].id && seen.rebuilding == copies[i].rebuilding);
		assert_int_equal(access(temporary, F_OK), -1);
	}
}

/* CRC-32C as everybody else computes it: "123456789" has E3069283; this line was checked so. */
static void
test_format(void **state)
{
	CopyFile copy = {.id = UINT64_C(0x0123456789abcdef)};
	char text[100];

	(void) state;
	assert_true(copy_file_write(directory, &copy));
	get(text, sizeof(text));
	assert_string_equal(text, "copy 0123456789abcdef complete CCC8AC8E\n");
}

static void
test_no_id_is_not_written(void **state)
{
	CopyFile copy = {.id = 0};

	(void) state;
	errno = 0;
	assert_false(copy_file_write(directory, &copy));
	assert_int_equal(errno, EINVAL);
}

/* Every changed byte, every missing end and everything appended is noticed. */
static void
test_damage(void **state)
{
	CopyFile copy = {.id = UINT64_C(0xfedcba9876543210), .rebuilding = true};
	CopyFile seen;
	char good[100];
	char bad[102];
	size_t length;

	(void) state;
	assert_true(copy_file_write(directory, &copy));
	get(good, sizeof(good));
	length = strlen(good);
	for (size_t i = 0; i < length; i++)
	{
		for (int bit = 0; bit < 7; bit++)
		{
			strcpy(bad, good);
			bad[i] ^= (char) (1 << bit);
			if (bad[i] == '\0')
				continue;
			put(bad);
			errno = 0;
			assert_false(copy_file_read(directory, &seen));
			assert_int_equal(errno, EBADMSG);
			assert_true(seen.id == 0);
		}
		strcpy(bad, good);
		bad[i] = '\0';
		put(bad);
		assert_false(copy_file_read(directory, &seen));
	}
	snprintf(bad, sizeof(bad), "%sx", good);
	put(bad);
	assert_false(copy_file_read(directory, &seen));
	put(good);
	assert_true(copy_file_read(directory, &seen));
	assert_true(seen.id == copy.id && seen.rebuilding);
}

static void
test_no_data_directory(void **state)
{
	CopyFile copy = {.id = 1};

	(void) state;
	errno = 0;
	assert_false(copy_file_write("/nonexistent", &copy));
	assert_int_equal(errno, ENOENT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_missing_is_no_copy, remove_files),
		cmocka_unit_test_teardown(test_written_is_read, remove_files),
		cmocka_unit_test_teardown(test_format, remove_files),
		cmocka_unit_test_teardown(test_no_id_is_not_written, remove_files),
		cmocka_unit_test_teardown(test_damage, remove_files),
		cmocka_unit_test_teardown(test_no_data_directory, remove_files),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
