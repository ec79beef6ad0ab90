/*
 * pg_probe.c
 *		See pg_probe.h.
 *
 * libpq's asynchronous interface only.  The connection goes through the Unix socket with the
 * effective user of the data directory's owner, so that "peer" lets it in; the user is changed for
 * the calling thread alone and only around the calls that may connect.
 */
#include "pg_probe.h"

#include "pg_file.h"
#include "program.h"
#include "rights.h"
#include "task.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define PROBE_FILE "pg_wal/tandemd.probe"
#define PROBE_SIZE 8192

static const char write_query[] = "SELECT pg_logical_emit_message(true, 'tandemd', '')";
static const char read_query[] = "SELECT 1";

typedef enum Step
{
	STEP_IDLE,
	STEP_CONNECT,
	STEP_ASK,
	STEP_DONE
} Step;

struct PgProbe
{
	const Config *config;
	sd_event *event;
	PgProbeDone done;
	void *user;
	uid_t uid; /* of the database's user; 0: tandemd is not root */

	PGconn *conn;
	sd_event_source *io;
	sd_event_source *limit;
	Step step;
	const char *query;
	bool sql_ok;
	bool not_yet;
	int64_t began;

	Task *task; /* the file, under way; one that hangs stays */
	bool file_done;
	int file_result;
	char text[512];
};

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* The first line of a message of libpq. */
static void
say(PgProbe *p, const char *text)
{
	if (p->text[0] == '\0')
		snprintf(p->text, sizeof(p->text), "%.*s", (int) strcspn(text, "\n"), text);
}

/* ---------- the end of a probe ---------- */

static void
drop_connection(PgProbe *p)
{
	p->io = sd_event_source_disable_unref(p->io);
	if (p->conn != NULL)
		PQfinish(p->conn);
	p->conn = NULL;
}

static void
finish(PgProbe *p)
{
	PgProbeResult result = {.text = p->text, .took = now_us() - p->began};
	bool full = p->file_done && (p->file_result == -ENOSPC || p->file_result == -EDQUOT);

	drop_connection(p);
	p->limit = sd_event_source_disable_unref(p->limit);
	p->step = STEP_IDLE;
	if (!p->file_done)
		say(p, "a write to the disk of the WAL does not end");
	else if (p->file_result < 0)
	{
		char text[200];

		snprintf(text, sizeof(text), "could not write to the directory of the WAL: %s",
				 strerror(-p->file_result));
		say(p, text);
	}
	result.not_yet = p->not_yet;
	result.full = full;
	result.answered = p->sql_ok && p->file_done && (p->file_result == 0 || full);
	p->done(p->user, &result);
}

static void
finish_if_complete(PgProbe *p)
{
	if (p->step == STEP_DONE && p->file_done)
		finish(p);
}

static void
sql_ends(PgProbe *p, bool ok, const char *text)
{
	p->sql_ok = ok;
	if (text != NULL)
		say(p, text);
	drop_connection(p);
	p->step = STEP_DONE;
	finish_if_complete(p);
}

static int
on_limit(sd_event_source *source, uint64_t usec, void *arg)
{
	PgProbe *p = arg;

	(void) source;
	(void) usec;
	if (p->step != STEP_DONE)
		say(p, p->step == STEP_CONNECT ? "PostgreSQL does not accept a connection"
									   : "PostgreSQL does not answer");
	finish(p);
	return 0;
}

/* ---------- the file ---------- */

/* A new file each time: overwriting an old one needs no room. */
static int
write_file(void *data)
{
	const char *path = data;
	static const char zeros[PROBE_SIZE];
	int fd;
	int r = 0;
	RIGHTS_OF_DATABASE;

	rights_without_reserve(); /* as the server: is there room for it? */
	(void) unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	errno = 0;
	if (write(fd, zeros, PROBE_SIZE) != PROBE_SIZE)
		r = errno != 0 ? -errno : -ENOSPC;
	else if (fsync(fd) != 0)
		r = -errno;
	close(fd);
	if (unlink(path) != 0 && r == 0)
		r = -errno;
	return r;
}

static void
file_written(void *user, void *data, int result)
{
	PgProbe *p = user;

	(void) data;
	p->task = NULL;
	if (p->step == STEP_IDLE)
		return; /* of a probe that has been given up */
	p->file_done = true;
	p->file_result = result;
	finish_if_complete(p);
}

/* A write of an earlier probe that still hangs stands for this one, too. */
static void
start_file(PgProbe *p)
{
	TaskSpec spec = {.run = write_file, .done = file_written, .free_data = free, .user = p};
	char path[PG_FILE_PATH];

	p->file_done = false;
	if (p->task != NULL)
		return;
	if (pg_file_join(path, p->config->data_directory, PROBE_FILE))
		spec.data = strdup(path);
	if (spec.data == NULL)
		p->file_result = -ENOMEM;
	else
		p->file_result = task_run(&p->task, p->event, &spec);
	p->file_done = p->file_result < 0;
}

/* ---------- the connection ---------- */

/* The effective user, of this thread only: the system call itself, as in rights.c. */
static void
be_owner(const PgProbe *p)
{
	if (p->uid != 0)
		(void) syscall(SYS_setresuid, -1, p->uid, -1);
}

static void
be_root(const PgProbe *p)
{
	if (p->uid != 0 && syscall(SYS_setresuid, -1, 0, -1) != 0)
		abort(); /* cannot happen: the real user is root */
}

static void connection_step(PgProbe *p);

static int
on_io(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void) source;
	(void) fd;
	(void) events;
	connection_step(arg);
	return 0;
}

/* libpq may use another socket at each step of connecting. */
static void
wait_for(PgProbe *p, uint32_t events)
{
	p->io = sd_event_source_disable_unref(p->io);
	if (sd_event_add_io(p->event, &p->io, PQsocket(p->conn), events, on_io, p) < 0)
		sql_ends(p, false, "out of memory");
}

/*
 * Which errors of the server are answers?  It lives, accepted, and refused for a reason that a
 * restart would not change.
 */
static bool
is_answer(const char *state)
{
	static const char *const answers[] = {
		"53300", /* too many connections */
		"28",    /* authentication: tandem.conf or pg_hba.conf is wrong */
		"3D000", /* no such database */
		"42501", /* no privilege */
		"25006", /* default_transaction_read_only */
		"57014", /* canceled: an administrator's statement_timeout */
		"57P01", /* terminated by an administrator */
	};

	for (size_t i = 0; state != NULL && i < sizeof(answers) / sizeof(answers[0]); i++)
	{
		if (strncmp(state, answers[i], strlen(answers[i])) == 0)
			return true;
	}
	return false;
}

/*
 * The SQLSTATE of a refused connection: libpq has it in its message only, ":  SSSSS: ", in whatever
 * language the rest may be.
 */
static bool
refusal_state(const char *message, char state[6])
{
	const char *at = message;

	while ((at = strstr(at, ":  ")) != NULL)
	{
		at += 3;
		if (strspn(at, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[5] == ':')
		{
			memcpy(state, at, 5);
			state[5] = '\0';
			return true;
		}
	}
	return false;
}

static void
refused(PgProbe *p)
{
	char state[6] = "";

	(void) refusal_state(PQerrorMessage(p->conn), state);
	p->not_yet = strcmp(state, "57P03") == 0;
	sql_ends(p, is_answer(state), PQerrorMessage(p->conn));
}

static void
ask(PgProbe *p)
{
	p->step = STEP_ASK;
	if (!PQsendQuery(p->conn, p->query))
		sql_ends(p, false, PQerrorMessage(p->conn));
	else
		wait_for(p, EPOLLIN);
}

static void
connect_step(PgProbe *p)
{
	PostgresPollingStatusType status;

	be_owner(p);
	status = PQconnectPoll(p->conn);
	be_root(p);
	switch (status)
	{
		case PGRES_POLLING_READING:
			wait_for(p, EPOLLIN);
			break;
		case PGRES_POLLING_WRITING:
			wait_for(p, EPOLLOUT);
			break;
		case PGRES_POLLING_OK:
			ask(p);
			break;
		default:
			refused(p);
			break;
	}
}

/* A statement of postgres.c has to succeed. */
static bool
is_probe(const char *query)
{
	return query == write_query || query == read_query;
}

static void
answer_ends(PgProbe *p, const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	p->sql_ok = status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
	if (p->sql_ok)
		return;
	say(p, PQresultErrorMessage(result));
	p->sql_ok = is_probe(p->query) && is_answer(PQresultErrorField(result, PG_DIAG_SQLSTATE));
}

static void
answer_step(PgProbe *p)
{
	PGresult *result;

	if (!PQconsumeInput(p->conn))
	{
		sql_ends(p, false, PQerrorMessage(p->conn));
		return;
	}
	while (!PQisBusy(p->conn))
	{
		result = PQgetResult(p->conn);
		if (result == NULL)
		{
			sql_ends(p, p->sql_ok, NULL);
			return;
		}
		answer_ends(p, result);
		PQclear(result);
	}
}

static void
connection_step(PgProbe *p)
{
	if (p->step == STEP_CONNECT)
		connect_step(p);
	else if (p->step == STEP_ASK)
		answer_step(p);
}

/* libpq would write them to standard error. */
static void
ignore_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

static void
start_connection(PgProbe *p)
{
	const Config *c = p->config;
	char port[16];
	const char *const keys[] = {
		"host",    "port",       "user", "dbname", "application_name", "options", "client_encoding",
		"sslmode", "gssencmode", NULL};
	const char *const values[] = {
		c->socket_directory[0] != '\0' ? c->socket_directory : NULL,
		port,
		c->probe_user,
		c->probe_database,
		"tandemd",
		"-c synchronous_commit=local -c lc_messages=C -c log_duration=off "
		"-c log_connections=off -c log_disconnections=off "
		"-c log_min_duration_statement=-1 -c log_statement=none",
		"SQL_ASCII",
		"disable",
		"disable",
		NULL};
	/* only a superuser may set how statements are logged */
	const char *const plain[] = {
		values[0], port,      values[2], values[3], values[4], "-c synchronous_commit=local",
		values[6], values[7], values[8], NULL};

	snprintf(port, sizeof(port), "%d", c->port);
	p->step = STEP_CONNECT;
	be_owner(p);
	p->conn =
		PQconnectStartParams(keys, strcmp(c->probe_user, c->os_user) == 0 ? values : plain, 0);
	be_root(p);
	if (p->conn == NULL || PQstatus(p->conn) == CONNECTION_BAD)
		sql_ends(p, false, p->conn != NULL ? PQerrorMessage(p->conn) : "out of memory");
	else
	{
		PQsetErrorVerbosity(p->conn, PQERRORS_VERBOSE); /* with the SQLSTATE */
		PQsetNoticeProcessor(p->conn, ignore_notice, NULL);
		PQsetnonblocking(p->conn, 1);
		wait_for(p, EPOLLOUT);
	}
}

/* ---------- for postgres.c ---------- */

int
pg_probe_new(PgProbe **p, const Config *c, sd_event *event, PgProbeDone done, void *user)
{
	PgProbe *n = calloc(1, sizeof(PgProbe));
	gid_t gid;

	if (n == NULL)
		return -ENOMEM;
	n->config = c;
	n->event = event;
	n->done = done;
	n->user = user;
	if (geteuid() == 0)
		(void) program_user(c->os_user, &n->uid, &gid);
	*p = n;
	return 0;
}

void
pg_probe_free(PgProbe *p)
{
	if (p == NULL)
		return;
	pg_probe_stop(p);
	task_forget(p->task);
	free(p);
}

bool
pg_probe_runs(const PgProbe *p)
{
	return p->step != STEP_IDLE;
}

/* False if there is no memory; it is tried again. */
static bool
begin(PgProbe *p, const char *query, int64_t limit)
{
	p->query = query;
	p->sql_ok = false;
	p->not_yet = false;
	p->text[0] = '\0';
	p->began = now_us();
	return sd_event_add_time_relative(p->event, &p->limit, CLOCK_BOOTTIME, (uint64_t) limit, 1000,
									  on_limit, p) >= 0;
}

void
pg_probe_start(PgProbe *p, bool write)
{
	if (p->step != STEP_IDLE ||
		!begin(p, write ? write_query : read_query, p->config->fsm.probe_timeout))
		return;
	start_file(p);
	start_connection(p);
}

void
pg_probe_query(PgProbe *p, const char *statement, int64_t limit)
{
	if (p->step != STEP_IDLE || !begin(p, statement, limit))
		return;
	p->file_done = true;
	p->file_result = 0;
	start_connection(p);
}

void
pg_probe_stop(PgProbe *p)
{
	drop_connection(p);
	p->limit = sd_event_source_disable_unref(p->limit);
	p->step = STEP_IDLE;
}
