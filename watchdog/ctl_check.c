/*
 * ctl_check.c
 *		tandemctl check: is this node's configuration safe, and does PostgreSQL's fit it?
 *
 * One line for each thing looked at: "ok", "WARN" (works, but costs something) or "FAIL" (unsafe,
 * or does not work).  Times are shown with the inequality they must satisfy.  What cannot be
 * looked at (PostgreSQL is down) is said.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "own_dir.h"
#include "store.h"

typedef enum Verdict
{
	OK,
	WARN,
	FAIL
} Verdict;

static int failures;

static void show(Verdict v, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
show(Verdict v, const char *format, ...)
{
	static const char *const words[] = {"ok  ", "WARN", "FAIL"};
	va_list ap;

	if (v == FAIL)
		failures++;
	printf("%s  ", words[v]);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
}

static double
s(int64_t us)
{
	return (double) us / 1e6;
}

/* ---------- what is in the file ---------- */

static void
check_timing(const FsmTiming *t)
{
	FsmTimingFault fault = fsm_check_timing(t);

	show(fault == FSM_TIMING_POSITIVE ? FAIL : OK,
		 "V = (lease - margin) / 1.01 - stop_budget = (%.3f - %.3f) / 1.01 - %.3f = %.3f s > 0",
		 s(t->lease), s(t->margin), s(t->stop), s(fsm_timing_v(t)));
	if (fault == FSM_TIMING_POSITIVE)
		return;
	show(fault == FSM_TIMING_LEASE ? FAIL : OK,
		 "(V + stop_budget) * 1.01 + margin = %.3f <= lease = %.3f s",
		 s(t->validity + t->stop) * 1.01 + s(t->margin), s(t->lease));
	show(t->heartbeat * 3 > t->validity ? FAIL : OK, "heartbeat = %.3f <= V / 3 = %.3f s",
		 s(t->heartbeat), s(t->validity) / 3);
}

static void
check_file(const Config *c)
{
	const char *unsafe = fsm_check_config(&c->fsm);
	const char *warning = fsm_config_warning(&c->fsm);
	int voters = __builtin_popcount(c->fsm.voters);

	check_timing(&c->fsm.timing);
	if (unsafe != NULL)
		show(FAIL, "%s", unsafe);
	else
		show(OK, "%d nodes, %d voters: nodes, voters and time-outs fit", c->nnodes, voters);
	if (voters == 2 && !c->fsm.fence)
		show(WARN, "two voters and no fence agent: a silent host is not failed over without an "
				   "operator");
	if (warning != NULL)
		show(WARN, "%s", warning);
	if (c->node[c->self].npaths < 2)
		show(WARN, "node %s has one path only: add a second network to \"address\"",
			 c->node[c->self].name);
}

static void
check_state(const Config *c)
{
	FsmDurable d;
	char error[1024];

	if (!store_read(c, &d, error, sizeof(error)))
		show(FAIL, "%s", error);
	else if (!store_exists(c))
		show(WARN, "no state in \"%s\" yet: tandemctl init", c->state_directory);
	else if (!d.admitted)
		show(WARN, "this voter has lost its state and does not vote");
	else
		show(OK, "the voter's state is readable, it votes");
	if (store_exists(c) && !c->node[c->self].witness && d.copy_id == 0)
		show(WARN, "there is no copy of the database here yet: tandemctl seed");
	if (d.rebuilding)
		show(WARN, "a rewind or seed is not complete");
}

/* tandemd does not start otherwise, and makes the one that is missing. */
static void
check_directory(const char *setting, const char *path)
{
	char error[OWN_DIR_ERROR];

	switch (own_dir_check(setting, path, error, sizeof(error)))
	{
		case OWN_DIR_SAFE:
			show(OK, "%s \"%s\" is safe from others", setting, path);
			break;
		case OWN_DIR_MISSING:
			show(WARN, "%s", error);
			break;
		case OWN_DIR_UNSAFE:
			show(FAIL, "%s", error);
			break;
	}
}

static void
check_key(const Config *c)
{
	struct stat st;

	if (stat(c->key_file, &st) != 0)
		show(FAIL, "could not look at key_file \"%s\": %s", c->key_file, strerror(errno));
	else if ((st.st_mode & 077) != 0)
		show(FAIL, "key_file \"%s\" can be read by others (mode %03o)", c->key_file,
			 (unsigned) st.st_mode & 0777);
	else
		show(OK, "key_file is readable by its owner only");
}

/* ---------- PostgreSQL ---------- */

/* The socket knows its users by who they are: be os_user while connecting. */
static PGconn *
connect_to_postgres(const Config *c)
{
	char port[16];
	const char *keys[] = {"host", "port", "user", "dbname", "connect_timeout", "application_name",
						  NULL};
	const char *values[] = {c->socket_directory, port, c->probe_user, c->probe_database, "3",
							"tandemctl check",   NULL};
	struct passwd *user = geteuid() == 0 ? getpwnam(c->os_user) : NULL;
	PGconn *conn;

	snprintf(port, sizeof(port), "%d", c->port);
	if (user != NULL && seteuid(user->pw_uid) != 0)
		return NULL;
	conn = PQconnectdbParams(keys, values, 0);
	if (user != NULL && seteuid(0) != 0)
		exit(CTL_FAILED);
	return conn;
}

/* The value of a setting in static memory, or NULL if there is no such setting. */
static const char *
setting(PGconn *conn, const char *name)
{
	static char value[1024];
	const char *parameters[] = {name};
	PGresult *r =
		PQexecParams(conn, "SELECT current_setting($1, true)", 1, NULL, parameters, NULL, NULL, 0);
	bool found = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 && !PQgetisnull(r, 0, 0);

	if (found)
		snprintf(value, sizeof(value), "%s", PQgetvalue(r, 0, 0));
	PQclear(r);
	return found ? value : NULL;
}

/* The setting as a number in its base unit (pg_settings.setting), or -1. */
static long
number(PGconn *conn, const char *name)
{
	const char *parameters[] = {name};
	PGresult *r = PQexecParams(conn, "SELECT setting FROM pg_settings WHERE name = $1", 1, NULL,
							   parameters, NULL, NULL, 0);
	long n = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 ? atol(PQgetvalue(r, 0, 0))
																	   : -1;

	PQclear(r);
	return n;
}

static void
want(PGconn *conn, Verdict otherwise, const char *name, const char *value, const char *why)
{
	const char *is = setting(conn, name);

	if (is == NULL)
		show(otherwise, "%s is not known to PostgreSQL; should be '%s': %s", name, value, why);
	else if (strcmp(is, value) != 0)
		show(otherwise, "%s = '%s', should be '%s': %s", name, is, value, why);
	else
		show(OK, "%s = '%s'", name, is);
}

static void
check_settings(const Config *c, PGconn *conn)
{
	const char *is = setting(conn, "shared_preload_libraries");
	long n;

	show(is != NULL && strstr(is, "pg_tandem") != NULL ? OK : FAIL,
		 "shared_preload_libraries = '%s' (must have pg_tandem)", is != NULL ? is : "");
	want(conn, FAIL, "tandem.node_name", c->node[c->self].name, "it is this node's name");
	want(conn, FAIL, "tandem.lease_required", "on",
		 "without it a primary that lost its lease goes on acknowledging");
	want(conn, FAIL, "tandem.watchdog_directory", c->run_directory,
		 "tandemd and the extension meet there");
	want(conn, FAIL, "synchronous_standby_names", "tandem",
		 "without it commits do not wait for the standby");
	want(conn, FAIL, "fsync", "on", "without it nothing is durable");
	want(conn, FAIL, "full_page_writes", "on", "pg_rewind and crash recovery need it");
	want(conn, WARN, "hot_standby", "on", "the standby is probed through it");

	is = setting(conn, "synchronous_commit");
	show(is != NULL && (strcmp(is, "off") == 0 || strcmp(is, "local") == 0) ? FAIL : OK,
		 "synchronous_commit = '%s' (off and local do not wait for the standby)",
		 is != NULL ? is : "");
	n = number(conn, "wal_retrieve_retry_interval");
	show(n > 1000 ? WARN : OK,
		 "wal_retrieve_retry_interval = %ld ms (a promotion may sleep that long; 100 ms is good)",
		 n);
	n = number(conn, "max_wal_senders");
	show(n < 3 ? FAIL : OK, "max_wal_senders = %ld (standby, seed and one to spare: 3 or more)", n);
	n = number(conn, "max_replication_slots");
	show(n < 1 ? FAIL : OK, "max_replication_slots = %ld", n);

	is = setting(conn, "wal_log_hints");
	if (is != NULL && strcmp(is, "on") == 0)
		show(OK, "wal_log_hints = 'on'");
	else
	{
		is = setting(conn, "data_checksums");
		show(is != NULL && strcmp(is, "on") == 0 ? OK : WARN,
			 "data_checksums = '%s', wal_log_hints = 'off' (pg_rewind needs one of them; otherwise "
			 "an old primary is seeded)",
			 is != NULL ? is : "");
	}
}

static void
check_postgres(const Config *c)
{
	PGconn *conn;

	if (c->node[c->self].witness)
		return;
	conn = connect_to_postgres(c);
	if (conn == NULL || PQstatus(conn) != CONNECTION_OK)
	{
		char text[256];

		snprintf(text, sizeof(text), "%s", conn != NULL ? PQerrorMessage(conn) : strerror(errno));
		text[strcspn(text, "\n")] = '\0';
		show(WARN, "PostgreSQL was not looked at: %s", text);
	}
	else
		check_settings(c, conn);
	PQfinish(conn);
}

/* ---------- tandemd ---------- */

static void
check_others(const Config *c)
{
	json_t *answer = ctl_ask(c, ctl_request("status"), true);
	json_t *nodes = json_object_get(json_object_get(answer, "status"), "nodes");
	size_t i;
	json_t *n;

	if (answer == NULL)
		show(WARN, "tandemd does not run on node %s", c->node[c->self].name);
	json_array_foreach(nodes, i, n)
	{
		const char *name = json_string_value(json_object_get(n, "name"));

		if (json_is_true(json_object_get(n, "self")))
			continue;
		if (json_is_true(json_object_get(n, "heard")))
			show(OK, "node %s is heard", name);
		else
			show(WARN,
				 "node %s is silent: network, key_file, or a configuration that differs (see "
				 "tandemctl events)",
				 name);
	}
	json_decref(answer);
}

int
ctl_check(const Config *c)
{
	show(OK, "\"%s\" is read, for node %s", c->path, c->node[c->self].name);
	check_file(c);
	check_key(c);
	check_directory("state_directory", c->state_directory);
	check_directory("run_directory", c->run_directory);
	check_state(c);
	check_postgres(c);
	check_others(c);
	if (failures > 0)
		printf("\n%d of these must be put right\n", failures);
	return failures > 0 ? CTL_FAILED : CTL_DONE;
}
