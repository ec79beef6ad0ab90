/*
 * test_rebuild_swap.c
 *		A new copy takes the place of the old one, cut before each of its steps in turn: nothing of
 *		either copy is lost, and the next attempt completes it.
 *
 * The linker's --wrap puts step() in front of each system call that changes something.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rebuild_files.h"
#include "report.h"
#include "shell.h"

#define COPY UINT64_C(0xabc)

static char top[] = "/tmp/tandem-swap-XXXXXX";
static Config config;
static int steps_left = -1; /* -1: no limit */

static void
step(void)
{
	if (steps_left == 0)
		_exit(7);
	if (steps_left > 0)
		steps_left--;
}

#define WRAP(type, name, args, pass) \
	extern type __real_##name args;  \
	extern type __wrap_##name args;  \
	type __wrap_##name args          \
	{                                \
		step();                      \
		return __real_##name pass;   \
	}

WRAP(int, rename, (const char *a, const char *b), (a, b))
WRAP(int, unlink, (const char *a), (a))
WRAP(int, symlink, (const char *a, const char *b), (a, b))
WRAP(int, mkdir, (const char *a, mode_t m), (a, m))
WRAP(int, fsync, (int fd), (fd))

#define shell(...) shell_in(top, __VA_ARGS__)

/* An old copy and a complete new one, with WAL and a tablespace elsewhere. */
static void
make(RebuildNote *note)
{
	shell(
		"rm -rf data wal space state; mkdir data data/base data/pg_tblspc data/pg_tandem wal space "
		"space/PG_15_1 state; echo old | tee data/PG_VERSION data/base/1 data/onlyold wal/seg "
		"space/PG_15_1/f data/pg_tandem/incarnations data/pg_tandem/boot_id >/dev/null; "
		"ln -s %s/wal data/pg_wal; ln -s %s/space data/pg_tblspc/100; touch space/stranger",
		top, top);
	shell(
		"mkdir data/tandem_seed wal/tandem_seed space/tandem_seed; cd data/tandem_seed; mkdir base "
		"pg_tblspc pg_tandem ../../space/tandem_seed/PG_15_1; echo new | tee PG_VERSION base/1 "
		"onlynew "
		"../../wal/tandem_seed/seg ../../space/tandem_seed/PG_15_1/f pg_tandem/incarnations "
		"pg_tandem/boot_id pg_tandem/copy >/dev/null; ln -s %s/wal/tandem_seed pg_wal; "
		"ln -s %s/space/tandem_seed pg_tblspc/100",
		top, top);
	memset(note, 0, sizeof(*note));
	note->phase = REBUILD_OUT;
	note->copy = COPY;
	note->saved = note->kept = true;
	note->nplaces = 3;
	snprintf(note->place[0], sizeof(note->place[0]), "%s/data", top);
	snprintf(note->place[1], sizeof(note->place[1]), "%s/wal", top);
	snprintf(note->place[2], sizeof(note->place[2]), "%s/space", top);
	assert_true(copy_file_write(note->place[0], &(CopyFile){.id = COPY, .rebuilding = true}));
	assert_int_equal(rebuild_note_write(&config, note), 0);
}

/* Whatever has happened so far, no file of either copy is gone, and the copy is marked. */
static void
check_between(void)
{
	CopyFile copy;

	shell("for f in PG_VERSION base/1 onlyold; do grep -qsx old data/$f data/tandem_old/$f; done");
	shell("for f in PG_VERSION base/1 onlynew; do grep -qsx new data/$f data/tandem_seed/$f || "
		  "exit 1; "
		  "done");
	shell("grep -qsx old wal/seg wal/tandem_old/seg && grep -qsx new wal/seg wal/tandem_seed/seg");
	shell("grep -qsx old space/PG_15_1/f space/tandem_old/PG_15_1/f && "
		  "grep -qsx new space/PG_15_1/f space/tandem_seed/PG_15_1/f");
	assert_true(copy_file_read(config.data_directory, &copy));
	assert_true(copy.id == COPY && copy.rebuilding);
}

static void
check_complete(void)
{
	CopyFile copy;

	shell("cd data && test ! -e onlyold && grep -qx new PG_VERSION && grep -qx new base/1 && "
		  "grep -qx new onlynew && grep -qx new pg_wal/seg && grep -qx new pg_tblspc/100/PG_15_1/f "
		  "&& "
		  "grep -qx new pg_tandem/incarnations && test ! -e pg_tandem/boot_id && "
		  "test -e ../space/stranger && test $(readlink pg_wal) = %s/wal && "
		  "test $(readlink pg_tblspc/100) = %s/space",
		  top, top);
	assert_true(copy_file_read(config.data_directory, &copy));
	assert_true(copy.id == COPY && copy.rebuilding);
}

static void
test_each_cut(void **state)
{
	RebuildNote note;
	int n = 0;

	(void) state;
	for (bool complete = false; !complete; n++)
	{
		int status;
		pid_t pid;

		make(&note);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
		{
			steps_left = n;
			_exit(rebuild_swap(&config, &note) == 0 ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		complete = WEXITSTATUS(status) == 0;
		if (!complete)
			assert_int_equal(WEXITSTATUS(status), 7);
		check_between();
		rebuild_note_read(&config, &note);
		assert_true(note.phase == REBUILD_OUT || note.phase == REBUILD_IN);
		assert_int_equal(note.nplaces, 3);
		assert_int_equal(rebuild_swap(&config, &note), 0);
		check_complete();
		assert_true(rebuild_leftovers(&config, &note));
		assert_int_equal(note.nplaces, 3);
		assert_int_equal(rebuild_clean(&note, true, true), 0);
		assert_false(rebuild_leftovers(&config, &note));
	}
	print_message("    %d steps\n", n - 1);
	assert_true(n > 30);
}

/* A note that is damaged must not be taken for none: a seed makes it whole. */
static void
test_damaged_note(void **state)
{
	RebuildNote note;

	(void) state;
	make(&note);
	shell("head -c 40 state/a.rebuild >x && mv x state/a.rebuild");
	rebuild_note_read(&config, &note);
	assert_int_equal(note.phase, REBUILD_REWIND);
	assert_int_equal(note.nplaces, 0);
	assert_int_equal(rebuild_note_remove(&config), 0);
	rebuild_note_read(&config, &note);
	assert_int_equal(note.phase, REBUILD_NONE);
}

/* Only segments that hold WAL from there on are kept, of whatever timeline. */
static void
test_keep_wal(void **state)
{
	RebuildNote note;
	char where[CONFIG_PATH_SIZE * 2];
	int segments;

	(void) state;
	make(&note);
	shell("cat >w.py <<'X'\n"
		  "import struct\n"
		  "for name, addr in (('000000010000000000000004', 4), ('000000010000000000000005', 5),\n"
		  "        ('000000010000000000000006', 6), ('000000020000000000000006', 6),\n"
		  "        ('000000010000000000000009', 3)):\n"
		  "    f = open('wal/' + name, 'wb')\n"
		  "    f.write(struct.pack('<HHIQ', 0xD110, 0, 1, addr << 24))\n"
		  "    f.truncate(16 << 20)\n"
		  "X\n"
		  "python3 w.py");
	assert_int_equal(rebuild_keep_wal(&config, (5 << 24) + 100, &segments, where), 0);
	assert_int_equal(segments, 3);
	shell("test -e %s/000000010000000000000005 && test -e %s/000000020000000000000006 && "
		  "test ! -e %s/000000010000000000000009 && grep -q 'from$' %s/README",
		  where, where, where, where);
	assert_int_equal(rebuild_keep_wal(&config, 10 << 24, &segments, where), 0);
	assert_int_equal(segments, 0);
}

static int
begin(void **state)
{
	(void) state;
	if (mkdtemp(top) == NULL)
		return 1;
	config.nnodes = 1;
	strcpy(config.node[0].name, "a");
	snprintf(config.state_directory, sizeof(config.state_directory), "%s/state", top);
	snprintf(config.data_directory, sizeof(config.data_directory), "%s/data", top);
	return 0;
}

static int
end(void **state)
{
	char command[100];

	(void) state;
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_cut),
		cmocka_unit_test(test_damaged_note),
		cmocka_unit_test(test_keep_wal),
	};

	return cmocka_run_group_tests_name("rebuild_swap", tests, begin, end);
}
