/*
 * test_rebuild.c
 *		An old primary comes back: by a plain restart, by pg_rewind, by a new seed; and what is cut in
 *		between is completed by the next attempt.
 *
 * Needs root, as test_postgres does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pg_bed.h"
#include "rebuild.h"

#define MINUTE INT64_C(60000000)
#define COPY   UINT64_C(0x77)

static Bed bed;

static int
begin(void **state)
{
	(void) state;
	bed_open(&bed);
	return 0;
}

static int
end(void **state)
{
	(void) state;
	bed_close(&bed);
	return 0;
}

/* ---------- stories ---------- */

/* pg_tandem/incarnations as the extension writes it, so far as it matters. */
static void
put_history(const char *data, const char *lines)
{
	bed_shell(
		"mkdir -p %s/pg_tandem && printf '%s' >%s/pg_tandem/incarnations && chown -R postgres: "
		"%s/pg_tandem",
		data, lines, data, data);
}

static int
count(int port, const char *what)
{
	char query[200];

	snprintf(query, sizeof(query), "SELECT count(*) FROM t WHERE x = '%s'", what);
	return atoi(bed_ask(&bed, port, query));
}

/*
 * Alpha is the primary, beta its standby; both hold "both".  Beta is promoted and writes "new", alpha
 * writes "lost" and is killed.
 */
static void
diverge(bool same_timeline_loss)
{
	char history[300];
	char fork[40];

	bed_make_alpha(&bed);
	bed_make_beta(&bed);
	bed_manage(&bed);
	bed_worker_start(&bed, -1);
	bed_lease(&bed, 1, MINUTE);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	postgres_run_primary(bed.postgres, 1, 1);
	BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_PRIMARY);
	bed_start(&bed, bed.other);
	bed_ask(&bed, bed.port, "CREATE TABLE t (x text)");
	bed_ask(&bed, bed.port, "INSERT INTO t SELECT 'both' FROM generate_series(1, 100)");
	BED_UNTIL(&bed, 20, count(bed.other_port, "both") == 100);
	put_history(bed.data, "1 1 1 0/1000000 aa\\n");
	bed_promote_beta(&bed);
	bed_ask(&bed, bed.other_port, "INSERT INTO t SELECT 'new' FROM generate_series(1, 50)");
	bed_ask(&bed, bed.port, "INSERT INTO t SELECT 'lost' FROM generate_series(1, 30)");
	strcpy(fork, bed_ask(&bed, bed.other_port,
						 "SELECT substring(pg_read_file('pg_wal/00000002.history') from "
						 "'[0-9A-F]+/[0-9A-F]+')"));
	assert_true(strlen(fork) > 3);
	snprintf(history, sizeof(history), "1 1 1 0/1000000 aa\\n%s2 1 2 %s cc\\n",
			 same_timeline_loss ? "1 2 1 0/2000028 bb\\n" : "", fork);
	put_history(bed.other, history);
	kill(postgres_look(bed.postgres)->postmaster, SIGKILL);
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
}

static void
rebuild(bool seed)
{
	bed.rebuilt = 0;
	postgres_rebuild(bed.postgres, 1, COPY, seed);
	BED_UNTIL(&bed, 60, bed.rebuilt != 0);
	if (bed.rebuilt < 0)
		print_message("    %s\n", bed.error);
	assert_int_equal(bed.rebuilt, 1);
}

static void
check_copy(void)
{
	CopyFile copy;

	assert_true(copy_file_read(bed.data, &copy));
	assert_true(copy.id == COPY);
	assert_true(copy.rebuilding); /* until the decision core says otherwise */
}

/* It follows beta, has what beta has, and is itself: port, name. */
static void
check_standby(void)
{
	postgres_run_standby(bed.postgres, 1);
	BED_UNTIL(&bed, 30, BED_STATE(&bed) == FSM_PG_STANDBY);
	bed_ask(&bed, bed.other_port, "INSERT INTO t VALUES ('after')");
	BED_UNTIL(&bed, 30, count(bed.port, "after") == 1);
	assert_int_equal(count(bed.port, "both"), 100);
	assert_int_equal(count(bed.port, "new"), 50);
	assert_int_equal(count(bed.port, "lost"), 0);
	assert_string_equal(bed_ask(&bed, bed.port, "SHOW primary_slot_name"), "alpha");
	assert_int_equal(bed_processes(bed.data) > 0, 1);
}

static int
kept_segments(void)
{
	FILE *f;
	char command[200];
	char answer[20] = "0";

	snprintf(command, sizeof(command), "ls %s/state/discarded/*-alpha 2>/dev/null | grep -c ^0000",
			 bed.top);
	f = popen(command, "r");
	if (fgets(answer, sizeof(answer), f) == NULL)
		strcpy(answer, "0");
	pclose(f);
	return atoi(answer);
}

static void
make_slot(void)
{
	bed_ask(&bed, bed.other_port, "SELECT pg_create_physical_replication_slot('alpha', true)");
}

/* ---------- tests ---------- */

/* A clean hand-over needs neither rewind nor seed. */
static void
test_plain_restart(void **state)
{
	(void) state;
	bed_make_alpha(&bed);
	bed_make_beta(&bed);
	bed_manage(&bed);
	bed_worker_start(&bed, -1);
	bed_lease(&bed, 1, MINUTE);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	postgres_run_primary(bed.postgres, 1, 1);
	BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_PRIMARY);
	bed_start(&bed, bed.other);
	bed_ask(&bed, bed.port, "CREATE TABLE t (x text)");
	bed_ask(&bed, bed.port, "INSERT INTO t SELECT 'both' FROM generate_series(1, 100)");
	BED_UNTIL(&bed, 20, count(bed.other_port, "both") == 100);
	postgres_stop(bed.postgres);
	BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_DOWN);
	bed_promote_beta(&bed);
	make_slot();
	bed_ask(&bed, bed.other_port, "INSERT INTO t SELECT 'new' FROM generate_series(1, 50)");
	check_standby();
	assert_int_equal(kept_segments(), 0);
}

static void
test_rewind(void **state)
{
	(void) state;
	diverge(false);
	make_slot();
	rebuild(false);
	assert_true(bed_told(&bed, "started and stopped once before"));
	assert_true(bed_told(&bed, "rewound to \"beta\""));
	assert_true(bed_told(&bed, "which \"beta\" does not have, is kept in"));
	assert_true(kept_segments() > 0);
	bed_shell("test -s %s/state/discarded/*-alpha/README", bed.top);
	check_copy();
	assert_false(rebuild_is_pending(bed.config));
	/* asked for again because tandemd was killed in that moment: it is done already */
	bed_leave(&bed);
	bed_manage(&bed);
	bed_forget(&bed);
	rebuild(false);
	assert_false(bed_told(&bed, "begins"));
	check_standby();
}

/* WAL was lost within the timeline before: pg_rewind would fork too late. */
static void
test_no_wrong_fork(void **state)
{
	(void) state;
	diverge(true);
	make_slot();
	rebuild(false);
	assert_true(bed_told(&bed, "pg_rewind would take a wrong fork point"));
	assert_true(bed_told(&bed, "seeded from \"beta\""));
	assert_true(kept_segments() > 0);
	check_copy();
	check_standby();
}

/* A first seed: there is nothing yet.  Percent, rate and time left are shown. */
static void
test_first_seed(void **state)
{
	bool percent = false;
	bool left = false;

	(void) state;
	diverge(false);
	make_slot();
	/* so that it takes a moment */
	bed_ask(&bed, bed.other_port,
			"CREATE TABLE big AS SELECT repeat(md5(i::text), 20) AS x FROM "
			"generate_series(1, 200000) i");
	bed_shell("rm -rf %s", bed.data);
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_BROKEN);
	postgres_rebuild(bed.postgres, 1, COPY, true);
	while (bed.rebuilt == 0)
	{
		const PostgresLook *l = postgres_look(bed.postgres);

		if (l->busy != NULL && strcmp(l->busy, "seed") == 0 && l->percent >= 0 && l->bytes > 0)
		{
			percent = percent || l->rate > 0;
			left = left || l->left >= 0;
		}
		bed_run(&bed, 20000);
	}
	assert_int_equal(bed.rebuilt, 1);
	assert_true(percent && left);
	check_copy();
	/* a first copy has beta's configuration; the port here is a matter of the test */
	bed_shell("echo 'port = %d' >>%s/postgresql.conf", bed.port, bed.data);
	check_standby();
	BED_UNTIL(&bed, 20,
			  bed_try("test ! -e %s/tandem_seed -a ! -e %s/tandem_old", bed.data, bed.data));
}

/* WAL and a tablespace elsewhere. */
static void
test_places(void **state)
{
	(void) state;
	diverge(false);
	make_slot();
	bed_shell("install -d -o postgres -m 700 %s/space %s/wal && mv %s/pg_wal/* %s/wal/ && "
			  "rmdir %s/pg_wal && ln -s %s/wal %s/pg_wal",
			  bed.top, bed.top, bed.data, bed.top, bed.data, bed.top, bed.data);
	bed_shell("install -d -o postgres -m 700 %s/space/b", bed.top);
	{
		char query[200];

		snprintf(query, sizeof(query), "CREATE TABLESPACE s LOCATION '%s/space/b'", bed.top);
		bed_ask(&bed, bed.other_port, query);
		bed_ask(&bed, bed.other_port, "CREATE TABLE elsewhere TABLESPACE s AS SELECT 1 AS x");
	}
	/* both clusters are on this host: alpha gets its own directory under the same name */
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	postgres_rebuild(bed.postgres, 1, COPY, true);
	BED_UNTIL(&bed, 60, bed.rebuilt != 0);
	/* the tablespace's place is beta's own here: it is moved aside, which is why it is the last test */
	print_message("    %s\n", bed.error);
	assert_int_equal(bed.rebuilt, 1);
	bed_shell("test -L %s/pg_wal && test \"$(readlink %s/pg_wal)\" = %s/wal && ls %s/wal | grep -q "
			  "^00000002",
			  bed.data, bed.data, bed.top, bed.top);
	bed_shell("readlink %s/pg_tblspc/* | grep -qx %s/space/b", bed.data, bed.top);
	check_copy();
}

/* The other node does not answer: nothing is touched, and it says so. */
static void
test_no_primary(void **state)
{
	(void) state;
	diverge(false);
	bed_shell("cd / && runuser -u postgres -- %s/pg_ctl -w -s -m immediate -D %s stop", bed_bin(),
			  bed.other);
	bed.rebuilt = 0;
	postgres_rebuild(bed.postgres, 1, COPY, false);
	BED_UNTIL(&bed, 60, bed.rebuilt != 0);
	assert_int_equal(bed.rebuilt, -1);
	assert_non_null(strstr(bed.error, "could not ask \"beta\""));
	assert_false(rebuild_is_pending(bed.config));
	assert_int_equal(BED_STATE(&bed), FSM_PG_DOWN);
	postgres_run_primary(bed.postgres, 1, 1);
	BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_PRIMARY);
	assert_int_equal(count(bed.port, "lost"), 30);
}

/* No room for a second copy: nothing is touched. */
static void
test_no_room(void **state)
{
	(void) state;
	diverge(true);
	make_slot();
	bed_ask(&bed, bed.other_port,
			"CREATE TABLE big AS SELECT repeat(md5(i::text), 20) AS x FROM "
			"generate_series(1, 100000) i");
	bed_shell("mv %s %s.old && mkdir %s && mount -t tmpfs -o size=300M tmpfs %s && "
			  "cp -a %s.old/. %s/ && chown postgres: %s && chmod 700 %s",
			  bed.data, bed.data, bed.data, bed.data, bed.data, bed.data, bed.data, bed.data);
	bed.rebuilt = 0;
	postgres_rebuild(bed.postgres, 1, COPY, false);
	BED_UNTIL(&bed, 60, bed.rebuilt != 0);
	assert_int_equal(bed.rebuilt, -1);
	assert_non_null(strstr(bed.error, "no room for a new copy beside the old one"));
	bed_shell("test -e %s/base && test -e %s/global/pg_control", bed.data, bed.data);
	bed_leave(&bed);
	bed_shell("umount -l %s", bed.data);
}

/* ---------- cuts ---------- */

/* tandemd in a process of its own, killed after a while.  True if it had completed by then. */
static bool
cut(bool seed, int64_t after)
{
	pid_t pid = fork();
	int64_t end = lease_file_now() + after;
	int status = 0;

	assert_true(pid >= 0);
	if (pid == 0)
	{
		Bed child = bed;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		assert_true(sd_event_new(&child.event) >= 0);
		bed_manage(&child);
		postgres_rebuild(child.postgres, 1, COPY, seed);
		while (child.rebuilt == 0)
			bed_run(&child, 20000);
		if (child.rebuilt != 1)
			fprintf(stderr, "    %s\n%s", child.error, child.log);
		_exit(child.rebuilt == 1 ? 0 : 1);
	}
	while (lease_file_now() < end)
	{
		if (waitpid(pid, &status, WNOHANG) == pid)
		{
			assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
			return true;
		}
		usleep(1000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return false;
}

/* As tandemd ends in the middle, its programs may go on for a moment; a new one begins at once. */
static void
cuts(bool seed, int64_t step)
{
	bool done = false;
	int n = 0;

	bed_leave(&bed);
	for (int64_t after = 5000; !done && n < 60; after += step, n++)
	{
		done = cut(seed, after);
		if (!done && !bed_try("test -e %s/global/pg_control -o -e %s/tandem_old/global/pg_control",
							  bed.data, bed.data))
			fail_msg("cut after %lld us: the old copy is gone", (long long) after);
	}
	print_message("    completed after %d cuts\n", n - 1);
	assert_true(done);
	bed_manage(&bed);
	check_copy();
	check_standby();
}

static void
test_rewind_cut(void **state)
{
	(void) state;
	diverge(false);
	make_slot();
	cuts(false, 100000);
	assert_true(kept_segments() > 0);
}

static void
test_seed_cut(void **state)
{
	(void) state;
	diverge(true);
	make_slot();
	bed_ask(&bed, bed.other_port,
			"CREATE TABLE big AS SELECT repeat(md5(i::text), 20) AS x FROM "
			"generate_series(1, 50000) i");
	cuts(true, 100000);
	assert_true(kept_segments() > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_plain_restart, begin, end),
		cmocka_unit_test_setup_teardown(test_rewind, begin, end),
		cmocka_unit_test_setup_teardown(test_no_wrong_fork, begin, end),
		cmocka_unit_test_setup_teardown(test_first_seed, begin, end),
		cmocka_unit_test_setup_teardown(test_no_primary, begin, end),
		cmocka_unit_test_setup_teardown(test_no_room, begin, end),
		cmocka_unit_test_setup_teardown(test_rewind_cut, begin, end),
		cmocka_unit_test_setup_teardown(test_seed_cut, begin, end),
		cmocka_unit_test_setup_teardown(test_places, begin, end),
	};

	return bed_run_tests("rebuild", tests, sizeof(tests) / sizeof(tests[0]));
}
