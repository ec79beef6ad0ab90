/*-------------------------------------------------------------------------
 *
 * port_check.c
 *	  What the server must still be and do afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port.h"

int checks_passed;
int checks_failed;

static void
check(bool good, const char *what, const char *detail)
{
	if (good)
		checks_passed++;
	else
		checks_failed++;
	printf("%-45s %s%s%s\n", what, good ? "yes" : "NO", detail[0] != '\0' ? ": " : "", detail);
}

/* The first value, "" for NULL or no row; NULL if the query failed. */
char *
query(const char *sql)
{
	PGresult *result = PQexec(control, sql);
	char *value = NULL;

	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		value = strdup(PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return value;
}

static bool
is_utf8(const char *text)
{
	const unsigned char *s = (const unsigned char *) text;

	while (*s != '\0')
	{
		int more = *s < 0x80 ? 0 : *s >> 5 == 6 ? 1 : *s >> 4 == 14 ? 2 : *s >> 3 == 30 ? 3 : -1;

		if (more < 0)
			return false;
		for (s++; more > 0; more--, s++)
		{
			if (*s >> 6 != 2)
				return false;
		}
	}
	return true;
}

/* What standbys called themselves must not break what a DBA looks at. */
static void
check_views(void)
{
	static const char *const views[] = {"tandem.links", "tandem.events", "tandem.status"};
	char *there = query("SELECT to_regclass('tandem.links') IS NOT NULL AND "
						"current_setting('server_encoding') = 'UTF8'");

	if (there == NULL || strcmp(there, "t") != 0)
	{
		printf("%-45s not looked at: no extension pg_tandem, or not UTF8\n", "views are readable");
		free(there);
		return;
	}
	free(there);
	for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
	{
		char sql[100];
		char what[100];
		PGresult *result;
		const char *problem = "";

		snprintf(sql, sizeof(sql), "SELECT * FROM %s", views[i]);
		snprintf(what, sizeof(what), "%s is readable", views[i]);
		result = PQexec(control, sql);
		if (PQresultStatus(result) != PGRES_TUPLES_OK)
			problem = PQerrorMessage(control);
		for (int row = 0; row < PQntuples(result) && problem[0] == '\0'; row++)
		{
			for (int column = 0; column < PQnfields(result); column++)
			{
				const char *value = PQgetvalue(result, row, column);

				if (!is_utf8(value))
					problem = "a value is not UTF-8";
				for (const char *c = value; *c != '\0'; c++)
				{
					if ((unsigned char) *c < 0x20)
						problem = "a value has control characters";
				}
			}
		}
		check(problem[0] == '\0', what, problem);
		PQclear(result);
	}
}

/* With nobody connected no commit may be acknowledged, whatever was lied. */
static void
check_stalled(void)
{
	char *configured = query("SELECT current_setting('synchronous_standby_names') ~ 'tandem'");
	struct pollfd p = {.fd = PQsocket(control), .events = POLLIN};
	bool waits;
	PGcancel *cancel;
	char error[256];

	if (configured == NULL || strcmp(configured, "t") != 0)
	{
		printf("%-45s not looked at: synchronous_standby_names is not 'tandem'\n", "commits wait");
		free(configured);
		return;
	}
	free(configured);
	if (!PQsendQuery(control, "SET synchronous_commit = remote_apply;"
							  "SELECT pg_logical_emit_message(true, 'fuzz', txid_current()::text)"))
		die("%s", PQerrorMessage(control));
	waits = poll(&p, 1, 1000) == 0;
	if (!waits)
	{
		/* an early message is no answer yet */
		PQconsumeInput(control);
		waits = PQisBusy(control) && poll(&p, 1, 1000) == 0;
	}
	check(waits, "commits wait", "");
	cancel = PQgetCancel(control);
	(void) PQcancel(cancel, error, sizeof(error));
	PQfreeCancel(cancel);
	for (PGresult *result; (result = PQgetResult(control)) != NULL;)
		PQclear(result);
}

void
check_server(const char *workers)
{
	int64_t deadline = now_ms() + 20000;
	char *value;

	/* over the connection from the start: a crash would have ended it */
	value = query("SELECT 1");
	check(value != NULL, "the server has not been restarted", PQerrorMessage(control));
	if (value == NULL)
		return;
	free(value);

	value = query("SELECT bool_and(greatest(sent_lsn, write_lsn, flush_lsn, replay_lsn) <= "
				  "pg_current_wal_insert_lsn()) FROM pg_stat_replication "
				  "WHERE application_name = 'tandem'");
	check(value != NULL && strcmp(value, "t") == 0, "the gate is not ahead of the WAL", "");
	free(value);

	/* a worker that ended with an error comes back after a moment */
	for (;;)
	{
		value = query("SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'tandem'");
		if (value == NULL || strcmp(value, workers) == 0 || now_ms() > deadline)
			break;
		free(value);
		poll(NULL, 0, 200);
	}
	check(value != NULL && strcmp(value, workers) == 0, "all workers are there", "");
	free(value);
	check_views();
	check_stalled();
}

/* A standby that does everything right gets its stream. */
void
check_good_standby(void)
{
	int64_t deadline = now_ms() + 20000;
	bool started = false;

	while (now_ms() < deadline)
	{
		closing.failed = closing.refused = 0;
		while (!(started = job_start(&jobs[0], -1 - closing.runs, &brokers[0], &closing)) &&
			   now_ms() < deadline)
			poll(NULL, 0, 100);
		while (active_jobs() > 0)
			poll_jobs(20);
		if (closing.welcomed > 0)
			break;
		poll(NULL, 0, 500);
	}
	check(started && closing.welcomed > 0 && closing.failed == 0, closing.name, closing.why);
}
