/*
 * test_follow.c
 *		Whom a standby follows: the conninfo that is made, and the lines in postgresql.auto.conf.
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
#include <unistd.h>

#include "follow.h"
#include "fsm.h"
#include "pg_file.h"

static char top[] = "/tmp/tandem-follow-XXXXXX";
static Config config;
static char error[400];

static char *
automatic(void)
{
	char path[100];
	char *text;

	snprintf(path, sizeof(path), "%s/postgresql.auto.conf", top);
	assert_int_equal(pg_file_read(path, &text), 0);
	return text;
}

static void
put_automatic(const char *text)
{
	char path[100];

	snprintf(path, sizeof(path), "%s/postgresql.auto.conf", top);
	assert_int_equal(pg_file_write(path, text, 0600), 0);
}

static void
test_conninfo(void **state)
{
	char conninfo[FOLLOW_SIZE];

	(void) state;
	strcpy(config.node[1].conninfo, "host=10.0.0.2,192.168.7.2 port=5432 password='it''s'");
	assert_false(
		follow_conninfo(&config, 1, NULL, conninfo, sizeof(conninfo), error, sizeof(error)));
	strcpy(config.node[1].conninfo, "host=10.0.0.2,192.168.7.2 port=5432 password='it\\'s a \\\\' "
									"application_name=x dbname=y");
	assert_true(
		follow_conninfo(&config, 1, NULL, conninfo, sizeof(conninfo), error, sizeof(error)));
	/* in libpq's order */
	assert_string_equal(conninfo,
						"password='it\\'s a \\\\' host='10.0.0.2,192.168.7.2' port='5432' "
						"user='rep' application_name='alpha'");
	/* a program of ours has a database, and does not wait for ever */
	strcpy(config.node[1].conninfo, "host=10.0.0.2 user=other connect_timeout=3");
	assert_true(
		follow_conninfo(&config, 1, "postgres", conninfo, sizeof(conninfo), error, sizeof(error)));
	assert_non_null(strstr(conninfo, "user='other'"));
	assert_null(strstr(conninfo, "user='rep'"));
	assert_non_null(strstr(conninfo, "connect_timeout='3'"));
	assert_null(strstr(conninfo, "connect_timeout='10'"));
	assert_non_null(strstr(conninfo, "dbname='postgres'"));
	assert_non_null(strstr(conninfo, "tcp_user_timeout='60000'"));
	/* too long is an error, not a cut */
	assert_false(follow_conninfo(&config, 1, "postgres", conninfo, 40, error, sizeof(error)));
}

static void
test_settings(void **state)
{
	Follow f;
	char *text;
	char *again;

	(void) state;
	strcpy(config.node[1].conninfo, "host=b password='it\\'s'");
	put_automatic("# a comment\n"
				  "work_mem = '8MB'\n"
				  "PRIMARY_CONNINFO = 'host=old'\n"
				  "primary_slot_name='old'\n"
				  "  tandem.node_name 'old'\n"
				  "primary_conninfo_of_mine = 'x'\n"
				  "last = 'without a line end'");
	assert_true(follow_prepare(&f, &config, 1, error, sizeof(error)));
	assert_int_equal(follow_write(&f, top), 1);
	text = automatic();
	assert_string_equal(text, "# a comment\n"
							  "work_mem = '8MB'\n"
							  "primary_conninfo_of_mine = 'x'\n"
							  "last = 'without a line end'\n"
							  "wal_retrieve_retry_interval = '100ms'\n"
							  "primary_conninfo = 'password=''it\\\\''s'' host=''b'' user=''rep'' "
							  "application_name=''alpha'''\n"
							  "primary_slot_name = 'alpha'\n"
							  "tandem.node_name = 'alpha'\n");
	/* nothing changes: nothing is written, nothing has to be reloaded */
	assert_int_equal(follow_write(&f, top), 0);
	again = automatic();
	assert_string_equal(again, text);
	free(again);
	free(text);
	/* of nobody; a retry interval of the DBA's own stays */
	put_automatic("wal_retrieve_retry_interval = '2s'\n");
	assert_true(follow_prepare(&f, &config, FSM_NOBODY, error, sizeof(error)));
	assert_int_equal(follow_write(&f, top), 1);
	text = automatic();
	assert_string_equal(text, "wal_retrieve_retry_interval = '2s'\n"
							  "primary_conninfo = ''\n"
							  "primary_slot_name = 'alpha'\n"
							  "tandem.node_name = 'alpha'\n");
	free(text);
}

static void
test_signal(void **state)
{
	Follow f;
	char path[100];

	(void) state;
	assert_true(follow_prepare(&f, &config, FSM_NOBODY, error, sizeof(error)));
	snprintf(path, sizeof(path), "%s/standby.signal", top);
	assert_int_equal(follow_signal(top), 0);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(follow_signal(top), 0);
	assert_true(follow_signal("/nowhere/at/all") < 0);
}

static int
begin(void **state)
{
	(void) state;
	if (mkdtemp(top) == NULL)
		return 1;
	config.nnodes = 2;
	strcpy(config.node[0].name, "alpha");
	strcpy(config.node[1].name, "beta");
	strcpy(config.replication_user, "rep");
	strcpy(config.slot, "alpha");
	strcpy(config.data_directory, top);
	return 0;
}

static int
end(void **state)
{
	(void) state;
	return pg_file_remove_tree(top);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conninfo),
		cmocka_unit_test(test_settings),
		cmocka_unit_test(test_signal),
	};

	return cmocka_run_group_tests_name("follow", tests, begin, end);
}
