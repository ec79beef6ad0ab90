/*-------------------------------------------------------------------------
 *
 * got_program.h
 *	  Tests of got.c.  They are a program of their own, built twice: lazily
 *	  bound (test_got_lazy.c) and fully bound (test_got_now.c).
 *
 *-------------------------------------------------------------------------
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "got.h"

typedef ssize_t (*PwriteFunction)(int, const void *, size_t, off_t);

static int calls;
static PwriteFunction real_pwrite;

static ssize_t
counting_pwrite(int fd, const void *buf, size_t length, off_t offset)
{
	calls++;
	return real_pwrite(fd, buf, length, offset);
}

/* The program's own mappings with their protections. */
static void
read_maps(char *text, size_t size)
{
	char program[4096];
	char line[8192];
	size_t used = 0;
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	FILE *maps = fopen("/proc/self/maps", "r");

	assert_true(n > 0);
	assert_non_null(maps);
	program[n] = '\0';
	while (fgets(line, sizeof(line), maps) != NULL)
	{
		if (strstr(line, program) == NULL)
			continue;
		assert_true(used + strlen(line) < size);
		strcpy(text + used, line);
		used += strlen(line);
	}
	fclose(maps);
	assert_true(used > 0);
}

/* The order matters: until here the program has not called pwrite(). */
static void
replaced_before_the_first_call(void **state)
{
	static char before[16384];
	static char after[16384];
	char path[] = "/tmp/got.XXXXXX";
	char data[6] = {0};
	int fd = mkstemp(path);

	(void) state;
	assert_true(fd >= 0);
	unlink(path);
	real_pwrite = (PwriteFunction) got_real("pwrite");
	assert_non_null(real_pwrite);

	read_maps(before, sizeof(before));
	assert_true(got_replace("pwrite", counting_pwrite) + got_replace("pwrite64", counting_pwrite) >
				0);
	read_maps(after, sizeof(after));
	assert_string_equal(before, after);

	/* twice: a resolver that overwrites the entry would do so in the first */
	assert_int_equal(pwrite(fd, "abc", 3, 0), 3);
	assert_int_equal(calls, 1);
	assert_int_equal(pwrite(fd, "def", 3, 3), 3);
	assert_int_equal(calls, 2);
	assert_int_equal(pread(fd, data, 6, 0), 6);
	assert_memory_equal(data, "abcdef", 6);

	/* the function itself is as it was */
	assert_int_equal(real_pwrite(fd, "x", 1, 0), 1);
	assert_int_equal(calls, 2);
	close(fd);
}

/* A lazily bound program must still be able to resolve other functions. */
static void
others_are_still_resolved(void **state)
{
	(void) state;
	assert_int_equal(getpgid(0), getpgrp());
	assert_true(sysconf(_SC_OPEN_MAX) > 0);
	assert_int_equal(access("/", R_OK), 0);
}

static void
unknown_function(void **state)
{
	(void) state;
	assert_int_equal(got_replace("no_such_function", counting_pwrite), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replaced_before_the_first_call),
		cmocka_unit_test(others_are_still_resolved),
		cmocka_unit_test(unknown_function),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
