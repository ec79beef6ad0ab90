/*-------------------------------------------------------------------------
 *
 * test_lease_file.c
 *	  Tests of the gate's cell between tandemd and the extension
 *	  (watchdog/lease_file.c).
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
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "watchdog/lease_file.h"

static char directory[] = "/tmp/test_lease_file.XXXXXX";
static char path[sizeof(directory) + 16];

static int
make_directory(void **state)
{
	(void) state;
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/a.lease", directory);
	return 0;
}

static int
remove_directory(void **state)
{
	(void) state;
	return rmdir(directory);
}

static int
remove_file(void **state)
{
	(void) state;
	(void) unlink(path);
	return 0;
}

static void
test_missing(void **state)
{
	(void) state;
	errno = 0;
	assert_null(lease_file_open(path));
	assert_int_equal(errno, ENOENT);
}

static void
test_written_is_read(void **state)
{
	LeaseFile *file = lease_file_create(path, "a");
	const LeaseFile *reader = lease_file_open(path);
	GateCell cell = {.term = 7, .deadline = 1234567, .floor = 5};
	GateCell seen = {.term = 99};
	struct stat st;

	(void) state;
	assert_non_null(file);
	assert_non_null(reader);
	assert_true(lease_file_read(reader, "a", &seen));
	assert_true(seen.term == 0 && seen.deadline == 0 && seen.floor == 0);
	lease_file_write(file, &cell);
	assert_true(lease_file_read(reader, "a", &seen));
	assert_true(seen.term == 7 && seen.deadline == 1234567 && seen.floor == 5);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	lease_file_close(file);
	lease_file_close(reader);
}

static void
test_floor_never_sinks(void **state)
{
	LeaseFile *file = lease_file_create(path, "a");
	GateCell cell = {.term = 7, .deadline = 10, .floor = 5};
	GateCell seen;

	(void) state;
	lease_file_write(file, &cell);
	cell = (GateCell){.term = 6, .deadline = 3, .floor = 4};
	lease_file_write(file, &cell);
	assert_true(lease_file_read(file, "a", &seen));
	assert_true(seen.term == 6 && seen.deadline == 3 && seen.floor == 5);
	lease_file_close(file);
}

/* A tandemd that starts again finds what the earlier one has granted. */
static void
test_cell_is_kept(void **state)
{
	LeaseFile *file = lease_file_create(path, "a");
	const LeaseFile *reader = lease_file_open(path);
	GateCell cell = {.term = 7, .deadline = 10, .floor = 5};
	GateCell seen;

	(void) state;
	lease_file_write(file, &cell);
	lease_file_close(file);
	file = lease_file_create(path, "a");
	assert_non_null(file);
	assert_true(lease_file_read(file, "a", &seen));
	assert_true(seen.term == 7 && seen.deadline == 10 && seen.floor == 5);
	cell.deadline = 20;
	lease_file_write(file, &cell);
	assert_true(lease_file_read(reader, "a", &seen)); /* it is the same file */
	assert_int_equal(seen.deadline, 20);
	lease_file_close(file);
	lease_file_close(reader);
}

static void
test_other_node(void **state)
{
	LeaseFile *file = lease_file_create(path, "a");
	GateCell cell = {.term = 7, .deadline = 10, .floor = 5};
	GateCell seen;

	(void) state;
	lease_file_write(file, &cell);
	assert_false(lease_file_read(file, "b", &seen));
	assert_false(lease_file_read(file, "", &seen));
	assert_false(lease_file_read(file, "aa", &seen));
	lease_file_close(file);
}

/* In another boot nothing of it holds, and whoever has mapped it sees that it is over. */
static void
test_other_boot(void **state)
{
	LeaseFile *file = lease_file_create(path, "a");
	LeaseFile *fresh;
	GateCell cell = {.term = 7, .deadline = 10, .floor = 5};
	GateCell seen;

	(void) state;
	lease_file_write(file, &cell);
	file->boot_id[0] = file->boot_id[0] == '0' ? '1' : '0';
	assert_false(lease_file_read(file, "a", &seen));
	fresh = lease_file_create(path, "a");
	assert_non_null(fresh);
	assert_true(lease_file_read(fresh, "a", &seen));
	assert_true(seen.term == 0 && seen.deadline == 0 && seen.floor == 0);
	strcpy(file->boot_id, lease_file_boot_id());
	assert_false(lease_file_read(file, "a", &seen));
	lease_file_close(file);
	lease_file_close(fresh);
}

static void
test_other_version(void **state)
{
	LeaseFile *file = lease_file_create(path, "a");
	GateCell seen;

	(void) state;
	file->version++;
	assert_false(lease_file_read(file, "a", &seen));
	file->version--;
	file->size--;
	assert_false(lease_file_read(file, "a", &seen));
	file->size++;
	file->magic++;
	assert_false(lease_file_read(file, "a", &seen));
	lease_file_close(file);
}

/* A file that is too short is not mapped, and is replaced. */
static void
test_short_file(void **state)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	LeaseFile *file;
	GateCell seen;

	(void) state;
	assert_int_equal(write(fd, "TLEASE01", 8), 8);
	close(fd);
	errno = 0;
	assert_null(lease_file_open(path));
	assert_int_equal(errno, EBADMSG);
	file = lease_file_create(path, "a");
	assert_non_null(file);
	assert_true(lease_file_read(file, "a", &seen));
	lease_file_close(file);
}

/* A writer that died in the middle: no lease, until the next one takes over. */
static void
test_died_while_writing(void **state)
{
	LeaseFile *file = lease_file_create(path, "a");
	GateCell cell = {.term = 7, .deadline = 10, .floor = 5};
	GateCell seen;

	(void) state;
	lease_file_write(file, &cell);
	file->sequence++;
	assert_false(lease_file_read(file, "a", &seen));
	lease_file_close(file);
	file = lease_file_create(path, "a");
	assert_true(lease_file_read(file, "a", &seen));
	assert_true(seen.term == 7 && seen.deadline == 10 && seen.floor == 5);
	lease_file_close(file);
}

/* Readers never see half of a cell, however fast it changes. */
static void
test_no_torn_cell(void **state)
{
	LeaseFile *file = lease_file_create(path, "a");
	const LeaseFile *reader = lease_file_open(path);
	uint64_t last = 0;
	int stable = 0;
	int status;
	pid_t child;

	(void) state;
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
	{
		for (uint64_t i = 1;; i++)
			lease_file_write(file,
							 &(GateCell){.term = i, .deadline = (int64_t) i * 3, .floor = i * 5});
	}
	for (int i = 0; i < 2000000; i++)
	{
		GateCell seen;

		if (!lease_file_read(reader, "a", &seen))
			continue;
		stable++;
		if (seen.deadline != (int64_t) seen.term * 3 || seen.floor != seen.term * 5 ||
			seen.term < last)
			fail_msg("a torn cell: %ju %jd %ju after %ju", (uintmax_t) seen.term,
					 (intmax_t) seen.deadline, (uintmax_t) seen.floor, (uintmax_t) last);
		last = seen.term;
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	assert_true(stable > 0);
	assert_true(last > 0);
	lease_file_close(file);
	lease_file_close(reader);
}

static void
test_clock_and_boot(void **state)
{
	int64_t before = lease_file_now();

	(void) state;
	assert_true(before > 0);
	usleep(2000);
	assert_true(lease_file_now() >= before + 2000);
	assert_int_equal(strlen(lease_file_boot_id()), 36);
}

static void
test_name_too_long(void **state)
{
	char name[80];

	(void) state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_null(lease_file_create(path, name));
	assert_int_equal(errno, ENAMETOOLONG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_missing, remove_file),
		cmocka_unit_test_teardown(test_written_is_read, remove_file),
		cmocka_unit_test_teardown(test_floor_never_sinks, remove_file),
		cmocka_unit_test_teardown(test_cell_is_kept, remove_file),
		cmocka_unit_test_teardown(test_other_node, remove_file),
		cmocka_unit_test_teardown(test_other_boot, remove_file),
		cmocka_unit_test_teardown(test_other_version, remove_file),
		cmocka_unit_test_teardown(test_short_file, remove_file),
		cmocka_unit_test_teardown(test_died_while_writing, remove_file),
		cmocka_unit_test_teardown(test_no_torn_cell, remove_file),
		cmocka_unit_test_teardown(test_clock_and_boot, remove_file),
		cmocka_unit_test_teardown(test_name_too_long, remove_file),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
