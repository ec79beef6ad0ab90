/*
 * test_postgres.c
 *		The watchdog's PostgreSQL room against real clusters: every way in which PostgreSQL fails at
 *		this layer ends in what the decision core needs to know.
 *
 * Needs root (a server runs as another user); skipped otherwise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pg_bed.h"

#define MINUTE INT64_C(60000000)

static Bed bed;

static int
begin(void **state)
{
	(void) state;
	bed_open(&bed);
	bed_make_alpha(&bed);
	bed_manage(&bed);
	bed_worker_start(&bed, -1);
	return 0;
}

static int
end(void **state)
{
	(void) state;
	bed_close(&bed);
	return 0;
}

static void
start_primary(uint64_t term)
{
	bed_lease(&bed, term, MINUTE);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	postgres_run_primary(bed.postgres, term, 1);
	BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_PRIMARY && postgres_look(bed.postgres)->answered);
}

/* ---------- ---------- */

static void
test_needs_a_lease(void **state)
{
	(void) state;
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	bed_lease(&bed, 5, -1);
	postgres_run_primary(bed.postgres, 5, 1);
	BED_UNTIL(&bed, 10, bed_told(&bed, "the lease of this term is not valid"));
	assert_int_equal(bed_processes(bed.data), 0);
	bed_lease(&bed, 6, MINUTE); /* another term's */
	bed_forget(&bed);
	postgres_run_primary(bed.postgres, 5, 1);
	BED_UNTIL(&bed, 10, bed_told(&bed, "the lease of this term is not valid"));
	assert_int_equal(bed_processes(bed.data), 0);
	start_primary(7);
	assert_true(postgres_look(bed.postgres)->reported);
}

/* The postmaster dies: seen at once, nothing is left, and it starts again within a second. */
static void
test_postmaster_dies(void **state)
{
	(void) state;
	start_primary(1);
	for (int i = 0; i < 3; i++)
	{
		pid_t pid = postgres_look(bed.postgres)->postmaster;
		int64_t killed = lease_file_now();
		int64_t down;

		kill(pid, SIGKILL);
		BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
		down = lease_file_now();
		assert_int_equal(bed_processes(bed.data), 0);
		postgres_run_primary(bed.postgres, 1, 2);
		BED_UNTIL(&bed, 10,
				  BED_STATE(&bed) == FSM_PG_PRIMARY && postgres_look(bed.postgres)->answered);
		print_message("    down %lld ms after SIGKILL, primary again %lld ms after that\n",
					  (long long) (down - killed) / 1000,
					  (long long) (lease_file_now() - down) / 1000);
		assert_true(down - killed < 500000);
	}
	assert_true(bed_told(&bed, "has died"));
}

/* It hangs: the probe says so, and a kill reaches stopped processes. */
static void
test_hang(void **state)
{
	pid_t pid;

	(void) state;
	start_primary(1);
	pid = postgres_look(bed.postgres)->postmaster;
	kill(pid, SIGSTOP);
	BED_UNTIL(&bed, 10, !postgres_look(bed.postgres)->answered);
	assert_string_equal(postgres_look(bed.postgres)->text,
						"PostgreSQL does not accept a connection");
	postgres_kill(bed.postgres);
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
	assert_int_equal(bed_processes(bed.data), 0);
	postgres_run_primary(bed.postgres, 1, 2);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_PRIMARY);
}

/* It dies before it has begun, again and again: each attempt ends, down again, and says where to look. */
static void
test_does_not_start(void **state)
{
	(void) state;
	bed_set(bed.data, "shared_preload_libraries = 'there_is_no_such_library'");
	bed_lease(&bed, 1, MINUTE);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	for (int i = 0; i < 3; i++)
	{
		bed_forget(&bed);
		postgres_run_primary(bed.postgres, 1, 1);
		BED_UNTIL(&bed, 10, bed_told(&bed, "did not start (exit status 1)"));
		BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
	}
	bed_set(bed.data, "shared_preload_libraries = ''");
	start_primary(1);
}

/* It starts and does not get through: killed after start_timeout, as an attempt that failed. */
static void
test_hangs_in_start(void **state)
{
	(void) state;
	bed.config->start_timeout = 3000000;
	bed_lease(&bed, 1, MINUTE);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	bed_worker_stop(&bed);
	postgres_run_primary(bed.postgres, 1, 1);
	BED_UNTIL(&bed, 10, postgres_look(bed.postgres)->postmaster != 0);
	kill(postgres_look(bed.postgres)->postmaster, SIGSTOP);
	BED_UNTIL(&bed, 30, bed_told(&bed, "does not get through its start"));
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
}

/* Its worker says "primary", and nobody gets a connection. */
static void
test_does_not_accept(void **state)
{
	(void) state;
	bed_lease(&bed, 1, MINUTE);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	bed_worker_start(&bed, WATCH_PRIMARY);
	bed.config->socket_directory[strlen(bed.config->socket_directory) - 1] = '_';
	postgres_run_primary(bed.postgres, 1, 1);
	BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_PRIMARY);
	BED_UNTIL(&bed, 20, bed_told(&bed, "does not accept connections: it is killed"));
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
}

static void
test_data_directory_gone(void **state)
{
	(void) state;
	start_primary(1);
	bed_shell("mv %s %s.away", bed.data, bed.data);
	BED_UNTIL(&bed, 10, !postgres_look(bed.postgres)->answered);
	postgres_kill(bed.postgres);
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_BROKEN);
	assert_non_null(strstr(postgres_look(bed.postgres)->text, "there is no data directory"));
	bed_shell("mv %s.away %s", bed.data, bed.data);
	assert_int_equal(bed_processes(bed.data), 0);
	start_primary(1);
}

/* The WAL's disk is full: said while PostgreSQL still runs; once it has died it does not come up. */
static void
test_full_disk(void **state)
{
	char wal[200];

	(void) state;
	snprintf(wal, sizeof(wal), "%s/pg_wal", bed.data);
	bed_shell("mv %s %s.old && mkdir %s && mount -t tmpfs -o size=48M tmpfs %s && "
			  "cp -a %s.old/. %s/ && chown -R postgres: %s && rm -rf %s.old",
			  wal, wal, wal, wal, wal, wal, wal, wal);
	start_primary(1);
	bed_ask(&bed, bed.port, "SET synchronous_commit = local; CREATE TABLE t (x text)");
	bed_try("head -c 60M /dev/zero >%s/filler 2>/dev/null", wal);
	BED_UNTIL(&bed, 10, bed_told(&bed, "no room is left on the disk of the WAL"));
	assert_int_equal(BED_STATE(&bed), FSM_PG_PRIMARY);
	for (int i = 0; i < 20 && BED_STATE(&bed) == FSM_PG_PRIMARY; i++)
	{
		bed_ask(&bed, bed.port,
				"INSERT INTO t SELECT repeat(md5(i::text), 50) FROM generate_series(1, 5000) i");
		bed_run(&bed, 50000);
	}
	BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_DOWN || !postgres_look(bed.postgres)->answered);
	postgres_kill(bed.postgres);
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
	for (int i = 0; i < 2; i++)
	{
		postgres_run_primary(bed.postgres, 1, 2);
		BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_UNKNOWN);
		BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_DOWN);
	}
	bed_shell("rm %s/filler", wal);
	start_primary(1);
	postgres_kill(bed.postgres);
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
	bed_shell("umount -l %s", wal);
}

/* What a dead postmaster leaves behind is killed: a command of COPY that does not end, too. */
static void
test_orphans(void **state)
{
	(void) state;
	start_primary(1);
	bed_shell(
		"cd / && runuser -u postgres -- %s/psql -X -h %s -p %d -d postgres -c \"COPY (SELECT 1) "
		"TO PROGRAM 'exec sleep 1000'\" >/dev/null 2>&1 &",
		bed_bin(), bed.top, bed.port);
	BED_UNTIL(&bed, 10,
			  atoi(bed_ask(&bed, bed.port,
						   "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%'")) == 1);
	kill(postgres_look(bed.postgres)->postmaster, SIGKILL);
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
	assert_int_equal(bed_processes(bed.data), 0);
}

static void
test_stop(void **state)
{
	(void) state;
	start_primary(1);
	postgres_stop(bed.postgres);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	assert_true(bed_told(&bed, "has been stopped"));
	bed_shell("%s/pg_controldata %s | grep -q 'state: *shut down$'", bed_bin(), bed.data);
}

/* tandemd ends and starts again: PostgreSQL is left alone and found again. */
static void
test_restart_of_tandemd(void **state)
{
	pid_t pid;

	(void) state;
	start_primary(1);
	pid = postgres_look(bed.postgres)->postmaster;
	bed_leave(&bed);
	bed_manage(&bed);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_PRIMARY);
	assert_int_equal(postgres_look(bed.postgres)->postmaster, pid);
	kill(pid, SIGKILL);
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
}

/* It finds a server that hangs and so reports nothing: hung all the same, as it had come to work. */
static void
test_restart_finds_it_hung(void **state)
{
	(void) state;
	start_primary(1);
	bed_leave(&bed);
	bed_worker_stop(&bed);
	bed_shell("kill -STOP $(head -1 %s/postmaster.pid)", bed.data);
	bed.config->fsm.probe_timeout = 1500000;
	bed_manage(&bed);
	BED_UNTIL(&bed, 20, postgres_look(bed.postgres)->hung);
	assert_int_equal(BED_STATE(&bed), FSM_PG_UNKNOWN);
	assert_true(bed_told(&bed, "PostgreSQL is hung"));
	postgres_kill(bed.postgres);
	BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
}

/* A kill while it is being started: nothing appears afterwards. */
static void
test_kill_in_start(void **state)
{
	(void) state;
	bed_lease(&bed, 1, MINUTE);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	for (int i = 0; i < 12; i++)
	{
		postgres_run_primary(bed.postgres, 1, 1);
		for (int n = 0; n < i; n++)
			bed_run(&bed, 3000);
		postgres_kill(bed.postgres);
		BED_UNTIL(&bed, 5, BED_STATE(&bed) == FSM_PG_DOWN);
		assert_int_equal(bed_processes(bed.data), 0);
		for (int n = 0; n < 10; n++)
			bed_run(&bed, 20000);
		assert_int_equal(bed_processes(bed.data), 0);
	}
}

/* A standby follows another primary without a restart, and is promoted only with the lease. */
static void
test_follow_and_promote(void **state)
{
	pid_t pid;

	(void) state;
	bed_make_beta(&bed);
	BED_UNTIL(&bed, 10, BED_STATE(&bed) == FSM_PG_DOWN);
	/* beta becomes the primary, alpha its standby */
	bed_start(&bed, bed.other);
	bed_promote_beta(&bed);
	bed_ask(&bed, bed.other_port, "SELECT pg_create_physical_replication_slot('alpha')");
	postgres_run_standby(bed.postgres, FSM_NOBODY);
	BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_STANDBY);
	pid = postgres_look(bed.postgres)->postmaster;
	postgres_run_standby(bed.postgres, 1);
	BED_UNTIL(&bed, 20, bed_told(&bed, "follows \"beta\" now"));
	BED_UNTIL(&bed, 20,
			  atoi(bed_ask(&bed, bed.other_port,
						   "SELECT count(*) FROM pg_stat_replication "
						   "WHERE application_name = 'alpha'")) == 1);
	assert_int_equal(postgres_look(bed.postgres)->postmaster, pid);
	/* a slot for the other one is kept on the standby, too */
	BED_UNTIL(&bed, 20,
			  atoi(bed_ask(&bed, bed.port,
						   "SELECT count(*) FROM pg_replication_slots WHERE "
						   "slot_name = 'beta' AND restart_lsn IS NOT NULL")) == 1);
	bed_lease(&bed, 3, -1);
	postgres_run_primary(bed.postgres, 3, 1);
	for (int i = 0; i < 30; i++)
		bed_run(&bed, 20000);
	assert_int_equal(BED_STATE(&bed), FSM_PG_STANDBY);
	bed_lease(&bed, 3, MINUTE);
	postgres_run_primary(bed.postgres, 3, 1);
	BED_UNTIL(&bed, 20, BED_STATE(&bed) == FSM_PG_PRIMARY);
	assert_int_equal(postgres_look(bed.postgres)->postmaster, pid);
	BED_UNTIL(&bed, 20, postgres_look(bed.postgres)->answered);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_needs_a_lease, begin, end),
		cmocka_unit_test_setup_teardown(test_postmaster_dies, begin, end),
		cmocka_unit_test_setup_teardown(test_hang, begin, end),
		cmocka_unit_test_setup_teardown(test_does_not_start, begin, end),
		cmocka_unit_test_setup_teardown(test_hangs_in_start, begin, end),
		cmocka_unit_test_setup_teardown(test_does_not_accept, begin, end),
		cmocka_unit_test_setup_teardown(test_data_directory_gone, begin, end),
		cmocka_unit_test_setup_teardown(test_full_disk, begin, end),
		cmocka_unit_test_setup_teardown(test_orphans, begin, end),
		cmocka_unit_test_setup_teardown(test_stop, begin, end),
		cmocka_unit_test_setup_teardown(test_restart_of_tandemd, begin, end),
		cmocka_unit_test_setup_teardown(test_restart_finds_it_hung, begin, end),
		cmocka_unit_test_setup_teardown(test_kill_in_start, begin, end),
		cmocka_unit_test_setup_teardown(test_follow_and_promote, begin, end),
	};

	return bed_run_tests("postgres", tests, sizeof(tests) / sizeof(tests[0]));
}
