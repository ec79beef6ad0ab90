/*
 * postgres_run.c
 *		PostgreSQL is started, promoted, made to follow, stopped, killed, rebuilt.
 *
 * What was asked for last is the goal; postgres_advance() takes the next step towards it whenever
 * something has happened.  Files are written by a task, one at a time, and a start follows only if
 * the goal still is the same when they are durable.
 *
 * Where there is no unit the server program is started as pg_ctl would do it, in a session of its
 * own with its output appended to log_file, but as a child: so its end is known at once even if it
 * comes before the server has written postmaster.pid.
 *
 * A node that has standby.signal becomes primary by starting as a standby and being promoted, on a
 * new timeline: all WAL that it received is replayed, and its WAL is not mistaken for that of the
 * primary before it.  A promotion is signalled as "pg_ctl promote" does it, which needs no
 * connection.
 */
#include "postgres_internal.h"

#include "follow.h"
#include "pg_file.h"
#include "rebuild_files.h"
#include "rights.h"
#include "units.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUICK_ENDS     1        /* a start that ends at once is told the second time */
#define FOUND_LIMIT    1000000  /* us: systemd says it is started, and there is no postmaster */
#define NOTICE_LIMIT   5000000  /* systemd, that PostgreSQL is dead */
#define UNIT_LIMIT     90000000 /* a start job without an answer */
#define PROMOTE_AGAIN  2000000
#define FOLLOW_RETRY   2000000  /* after files could not be written */
#define STOP_LIMIT     30000000 /* of a fast shutdown before a rebuild */
#define REBUILD_PAUSE  10000000 /* after one that failed */
#define PROGRESS_EVERY 30000000 /* a line about a rewind or seed */
#define SLOTS_LIMIT    5000000

/* ---------- the lease ---------- */

/* SAFETY rule 12: only while the lease of this very term is valid. */
static bool
may_be_primary(Postgres *p)
{
	const char *node = p->config->node[p->config->self].name;
	GateCell cell;

	if (p->lease == NULL || !lease_file_read(p->lease, node, &cell))
	{
		char path[CONFIG_PATH_SIZE + CONFIG_NAME_SIZE + 8];

		lease_file_close(p->lease);
		config_run_path(p->config, ".lease", path, sizeof(path));
		p->lease = lease_file_open(path);
		if (p->lease == NULL || !lease_file_read(p->lease, node, &cell))
			return false;
	}
	return gate_may_start(&cell, p->term, lease_file_now());
}

/* ---------- files before a start ---------- */

typedef struct Files
{
	Follow follow;
	PgPlace place;
	char socket[CONFIG_PATH_SIZE + 32]; /* the Unix socket */
	int node;
	bool standby; /* write whom it follows, and standby.signal */
	bool running; /* it runs: only what it follows */
	bool lives;   /* somebody has started it since it was found dead */
	bool stale;   /* postmaster.pid names another process */
	bool promote; /* make the file that asks for a promotion */
	const char *failed;
} Files;

/*
 * The lock of the Unix socket names a data directory, too.  If it is this one, whose processes are all
 * dead, its pid has been given to somebody else or has not been reaped: PostgreSQL would not start.
 */
static void
remove_socket_lock(const Files *f)
{
	char path[CONFIG_PATH_SIZE + 40];
	char *text = NULL;
	const char *line;

	snprintf(path, sizeof(path), "%s.lock", f->socket);
	if (pg_file_read(path, &text) < 0)
		return;
	line = strchr(text, '\n');
	if (line != NULL && strncmp(line + 1, f->place.path, strlen(f->place.path)) == 0 &&
		line[1 + strlen(f->place.path)] == '\n')
	{
		(void) unlink(f->socket);
		(void) unlink(path);
	}
	free(text);
}

static int
write_as_user(Files *f)
{
	const char *directory = f->follow.data_directory;
	char path[PG_FILE_PATH];
	int r = 0;
	RIGHTS_OF_DATABASE;

	if (f->promote)
	{
		f->failed = "make the file \"promote\"";
		return pg_file_join(path, directory, "promote") ? pg_file_write(path, "", 0600)
														: -ENAMETOOLONG;
	}
	if (!f->running && !f->lives)
		remove_socket_lock(f);
	if (f->stale)
	{
		f->failed = "remove a postmaster.pid that names another process";
		if (!pg_file_join(path, directory, "postmaster.pid"))
			return -ENAMETOOLONG;
		r = pg_file_remove(path);
	}
	if (r < 0 || !f->standby)
		return r;
	if (!f->running)
	{
		f->failed = "write standby.signal";
		r = follow_signal(directory);
	}
	if (r < 0)
		return r;
	f->failed = "write postgresql.auto.conf";
	return follow_write(&f->follow, directory);
}

/* Who lives there is looked up with tandemd's own rights: the user's do not show every process. */
static int
write_files(void *data)
{
	Files *f = data;
	pid_t single = 0;

	f->place.path = f->follow.data_directory;
	if (pg_place_look(&f->place) && !f->running)
	{
		f->lives = pg_postmaster_find(&f->place, &single) != 0 || single != 0;
		f->stale = !f->lives && pg_postmaster_file_is_stale(&f->place);
	}
	return write_as_user(f);
}

static bool
run_files(Postgres *p, bool standby, int node, bool promote, void (*done)(void *, void *, int))
{
	Files *f = calloc(1, sizeof(Files));
	TaskSpec spec = {.run = write_files, .done = done, .free_data = free, .data = f, .user = p};
	char error[400];

	if (f == NULL)
		return false;
	f->node = node;
	f->standby = standby;
	f->running = p->pid != 0;
	f->promote = promote;
	snprintf(f->socket, sizeof(f->socket), "%s/.s.PGSQL.%d", p->config->socket_directory,
			 p->config->port);
	if (!follow_prepare(&f->follow, p->config, node, error, sizeof(error)))
	{
		free(f);
		postgres_say(p, "%s", error);
		postgres_told(p, "follow", "%s", error);
		return false;
	}
	return task_run(&p->task, p->event, &spec) == 0;
}

/* ---------- a start ---------- */

void
postgres_goal_failed(Postgres *p)
{
	if (p->goal == GOAL_PRIMARY || p->goal == GOAL_STANDBY)
		p->goal = GOAL_NONE;
}

/* Nothing runs.  error: why not; NULL: it was given up because something else is wanted now. */
static void
start_ended(Postgres *p, const char *error)
{
	p->start = START_NONE;
	p->quick_ends = 0;
	postgres_goal_failed(p);
	if (error != NULL)
	{
		postgres_say(p, "%s", error);
		postgres_told(p, "start", "%s", error);
	}
	if (p->clean != CLEAN_NONE)
	{
		p->clean = CLEAN_NONE;
		rebuild_cleaned(p->rebuild, false, error != NULL ? error : "PostgreSQL was killed");
	}
	postgres_wake(p);
}

/*
 * Shared memory of the one before may be in use for an instant after its last process is seen to be
 * dead (the kernel frees it later than /proc tells): PostgreSQL then ends before or after it has
 * written postmaster.pid.
 */
bool
postgres_tries_again(Postgres *p)
{
	p->nothing_lives = false;
	if (p->quick_ends >= QUICK_ENDS || p->clean != CLEAN_NONE)
		return false;
	p->quick_ends++;
	p->start = START_NONE;
	postgres_wake(p);
	return true;
}

static void
server_ended(void *user, int status, const char *output)
{
	Postgres *p = user;
	char text[CONFIG_PATH_SIZE + 200];

	(void) output;
	p->server = NULL;
	if (p->start != START_RUN || p->pid != 0)
		return; /* its pidfd tells the rest */
	p->now = lease_file_now();
	if (postgres_tries_again(p))
		return;
	snprintf(text, sizeof(text), "PostgreSQL did not start (%s): see \"%s\"",
			 program_status_text(status), p->config->log_file);
	start_ended(p, text);
}

static int
start_server(Postgres *p)
{
	static char program[CONFIG_PATH_SIZE + 16];
	static char file[CONFIG_PATH_SIZE + 16];
	const Config *c = p->config;
	ProgramSpec spec = {.os_user = c->os_user,
						.log_file = c->log_file,
						.detached = true,
						.done = server_ended,
						.user = p};
	int n = 0;

	if (p->server != NULL) /* the one before: its end is being handled */
	{
		program_kill(p->server);
		p->server = NULL;
	}
	snprintf(program, sizeof(program), "%s/postgres", c->bin_directory);
	spec.argv[n++] = program;
	spec.argv[n++] = "-D";
	spec.argv[n++] = c->data_directory;
	if (c->config_file[0] != '\0')
	{
		snprintf(file, sizeof(file), "config_file=%s", c->config_file);
		spec.argv[n++] = "-c";
		spec.argv[n++] = file;
	}
	spec.argv[n] = NULL;
	return program_run(&p->server, p->event, &spec);
}

static void
unit_started(void *user, const char *error)
{
	Postgres *p = user;

	p->now = lease_file_now();
	if (p->start != START_RUN)
		return;
	p->unit_done = true;
	p->unit_quick = p->now - p->start_at < POSTGRES_QUICK_LIMIT;
	p->start_at = p->now; /* a unit may succeed even if the server did not start */
	if (error != NULL && !(p->unit_quick && postgres_tries_again(p)))
		start_ended(p, error);
	postgres_wake(p);
}

static void
launch(Postgres *p)
{
	char text[CONFIG_PATH_SIZE + 200];
	int r;

	p->start = START_RUN;
	p->start_at = p->now;
	p->unit_done = false;
	p->orphans_not_after = 0;
	(void) pg_place_look(&p->place);
	r = p->unit != NULL ? pg_unit_start(p->unit) : start_server(p);
	if (r < 0)
	{
		snprintf(text, sizeof(text), "could not start PostgreSQL: %s", strerror(-r));
		if (r == -EACCES && p->unit == NULL)
			snprintf(text, sizeof(text), "could not start PostgreSQL: \"%s\" may not write \"%s\"",
					 p->config->os_user, p->config->log_file);
		start_ended(p, text);
	}
}

/* The files are durable: is the start still wanted, and allowed? */
static void
await_unit(Postgres *p)
{
	PgGoal goal = p->goal; /* another one may have been asked for meanwhile */

	if (p->start != START_WAIT)
		return;
	if (p->pid != 0 ||
		(p->clean != CLEAN_START && goal != (p->start_standby ? GOAL_STANDBY : GOAL_PRIMARY)))
	{
		start_ended(p, NULL);
		p->goal = goal;
	}
	else if (p->unit != NULL && !pg_unit_is_stopped(p->unit) && p->now - p->start_at < NOTICE_LIMIT)
		return; /* asked again at the next tick, which is soon */
	else if (p->clean == CLEAN_NONE && goal == GOAL_PRIMARY && !may_be_primary(p))
		start_ended(p, "not started as primary: the lease of this term is not valid now");
	else
		launch(p);
}

static void
files_written(void *user, void *data, int result)
{
	Postgres *p = user;
	const Files *f = data;
	char text[300];

	p->task = NULL;
	p->now = lease_file_now();
	if (p->start != START_PREPARE)
		return;
	if (result < 0)
	{
		snprintf(text, sizeof(text), "could not %s: %s", f->failed, strerror(-result));
		start_ended(p, text);
	}
	else
	{
		p->start = START_WAIT;
		p->start_at = p->now;
		p->start_standby = f->standby;
		if (p->unit != NULL)
			pg_unit_look_again(p->unit);
		await_unit(p);
	}
	postgres_wake(p);
}

static void
begin_start(Postgres *p, bool standby, int node)
{
	if (p->task != NULL || p->start != START_NONE)
		return;
	p->start = START_PREPARE;
	if (!run_files(p, standby, node, false, files_written))
		start_ended(p, "could not prepare a start of PostgreSQL");
}

/* systemd does not say whether a server came of it. */
static void
watch_unit(Postgres *p)
{
	if (p->start != START_RUN || p->unit == NULL || p->pid != 0 || !p->nothing_lives)
		return;
	if (p->unit_done && p->now - p->start_at > FOUND_LIMIT)
	{
		if (!(p->unit_quick && postgres_tries_again(p)))
			start_ended(p, "PostgreSQL did not start: see its own log");
	}
	else if (!p->unit_done && p->now - p->start_at > UNIT_LIMIT + p->config->start_timeout)
		start_ended(p, "systemd does not answer whether PostgreSQL has started");
}

void
postgres_found(Postgres *p)
{
	bool started = p->start == START_RUN;

	p->start = START_NONE;
	if (started)
		postgres_told(p, "start", "PostgreSQL has been started (process %d)", (int) p->pid);
	else
		postgres_told(p, "start", "PostgreSQL runs (process %d)", (int) p->pid);
}

/* ---------- promotion ---------- */

static void
remove_promote(const Postgres *p)
{
	char path[PG_FILE_PATH];
	RIGHTS_OF_DATABASE;

	if (pg_file_join(path, p->config->data_directory, "promote"))
		(void) unlink(path);
}

static void
promote_written(void *user, void *data, int result)
{
	Postgres *p = user;
	const Files *f = data;

	p->task = NULL;
	p->now = lease_file_now();
	if (result < 0)
		postgres_told(p, "promote", "could not %s: %s", f->failed, strerror(-result));
	else if (p->goal == GOAL_PRIMARY && p->pidfd >= 0 && may_be_primary(p))
	{
		if (p->promoted_at == 0)
			postgres_told(p, "promote", "promoting PostgreSQL in term %llu",
						  (unsigned long long) p->term);
		p->promoted_at = p->now;
		(void) pg_process_signal(p->pidfd, SIGUSR1);
	}
	else
		remove_promote(p);
	postgres_wake(p);
}

/* A reached consistency is reported as "standby": before that a promotion is not heard. */
static void
promote(Postgres *p)
{
	if (p->task != NULL || (p->promoted_at != 0 && p->now - p->promoted_at < PROMOTE_AGAIN) ||
		!may_be_primary(p))
		return;
	(void) run_files(p, false, FSM_NOBODY, true, promote_written);
}

/* ---------- following ---------- */

static void
follow_written(void *user, void *data, int result)
{
	Postgres *p = user;
	const Files *f = data;

	p->task = NULL;
	p->now = lease_file_now();
	if (result < 0)
	{
		/* a full disk, say: nobody asks again, so the goal stays */
		postgres_told(p, "follow", "could not %s: %s", f->failed, strerror(-result));
		p->follow_at = p->now + FOLLOW_RETRY;
		return;
	}
	if (result > 0 && p->pidfd >= 0)
	{
		(void) pg_process_signal(p->pidfd, SIGHUP);
		if (f->node >= 0)
			postgres_told(p, "follow", "PostgreSQL follows \"%s\" now",
						  p->config->node[f->node].name);
	}
	if (p->goal == GOAL_STANDBY && p->node == f->node) /* another may be asked for meanwhile */
		p->goal = GOAL_NONE;
	postgres_wake(p);
}

/* ---------- goals ---------- */

static void
stop(Postgres *p)
{
	if (p->pidfd < 0 || p->signalled)
		return;
	p->signalled = true;
	p->signalled_at = p->now;
	(void) pg_process_signal(p->pidfd, SIGINT);
}

static void
advance_primary(Postgres *p)
{
	if (postgres_is_down(p))
	{
		if (p->broken == NULL && !p->single)
			begin_start(p, false, FSM_NOBODY);
	}
	else if (postgres_has_role(p, WATCH_STANDBY))
		promote(p);
	else if (postgres_has_role(p, WATCH_PRIMARY))
		p->goal = GOAL_NONE;
}

static void
advance_standby(Postgres *p)
{
	if (postgres_is_down(p))
	{
		if (p->broken == NULL && !p->single)
			begin_start(p, true, p->node);
	}
	else if (postgres_has_role(p, WATCH_STANDBY) && p->task == NULL && p->now >= p->follow_at)
	{
		if (!run_files(p, true, p->node, false, follow_written))
			p->goal = GOAL_NONE;
	}
	else if (postgres_has_role(p, WATCH_PRIMARY))
		p->goal = GOAL_NONE;
}

static void
advance_rebuild(Postgres *p)
{
	if (p->pid != 0)
	{
		stop(p);
		if (p->now - p->signalled_at > STOP_LIMIT)
			postgres_kill_all(p);
		return;
	}
	if (!postgres_is_down(p) || p->task != NULL || p->start != START_NONE || p->now < p->rebuild_at)
		return;
	if (!rebuild_start(p->rebuild, p->from, p->copy, p->seed))
		return;
	p->goal = GOAL_NONE;
	p->percent_told = 0;
	p->progress_told = p->now;
}

/* The clean shutdown that pg_rewind wants. */
static void
advance_clean(Postgres *p)
{
	if (p->clean == CLEAN_START && p->pid != 0 &&
		(p->look.answered || postgres_has_role(p, WATCH_STANDBY)))
	{
		p->clean = CLEAN_STOP;
		stop(p);
	}
	else if (p->clean == CLEAN_START && p->start == START_NONE && postgres_is_down(p))
		begin_start(p, true, FSM_NOBODY);
	else if (p->clean == CLEAN_STOP && p->pid != 0 && p->now - p->signalled_at > STOP_LIMIT)
		postgres_kill_all(p);
}

/* A line now and then, for the log. */
static void
tell_progress(Postgres *p)
{
	RebuildProgress progress;
	char done[32];
	char rate[32];

	if (!rebuild_runs(p->rebuild) || p->now - p->progress_told < PROGRESS_EVERY)
		return;
	rebuild_progress(p->rebuild, &progress);
	if (progress.busy == NULL || progress.percent < 0 || progress.percent == p->percent_told)
		return;
	p->percent_told = progress.percent;
	p->progress_told = p->now;
	postgres_told(p, progress.busy, "%d %% (%s, %s a second, %lld s left)", progress.percent,
				  units_size_text((int64_t) progress.bytes, done),
				  units_size_text(progress.rate, rate), (long long) (progress.left / 1000000));
}

void
postgres_advance(Postgres *p)
{
	await_unit(p);
	watch_unit(p);
	if (p->goal == GOAL_KILL)
	{
		if (postgres_is_down(p) && p->start == START_NONE)
			p->goal = GOAL_NONE;
		else if (p->pid != 0 && p->now - p->asked_at >= 100000)
		{
			p->asked_at = p->now;
			postgres_kill_all(p);
		}
		return;
	}
	if (p->clean != CLEAN_NONE)
		advance_clean(p);
	tell_progress(p);
	if (rebuild_runs(p->rebuild))
		return;
	switch (p->goal)
	{
		case GOAL_PRIMARY:
			advance_primary(p);
			break;
		case GOAL_STANDBY:
			advance_standby(p);
			break;
		case GOAL_STOP:
			stop(p);
			break;
		case GOAL_REBUILD:
			advance_rebuild(p);
			break;
		case GOAL_NONE:
		case GOAL_KILL:
			break;
	}
}

/* All of it is dead. */
void
postgres_died(Postgres *p)
{
	RebuildControl control;

	if (p->goal == GOAL_STOP)
	{
		p->goal = GOAL_NONE;
		postgres_told(p, "stop", "PostgreSQL has been stopped");
	}
	p->promoted_at = 0;
	if (p->clean == CLEAN_NONE || p->start != START_NONE)
		return;
	if (p->clean == CLEAN_STOP && rebuild_control(p->config->data_directory, &control) == 0 &&
		control.clean)
	{
		p->clean = CLEAN_NONE;
		rebuild_cleaned(p->rebuild, true, NULL);
		return;
	}
	p->clean = CLEAN_NONE;
	rebuild_cleaned(p->rebuild, false, "PostgreSQL could not be shut down cleanly here");
}

bool
postgres_run_busy(const Postgres *p)
{
	return p->start != START_NONE || p->goal == GOAL_KILL || p->goal == GOAL_PRIMARY ||
		   p->clean != CLEAN_NONE;
}

/* ---------- asked for ---------- */

static void
ask(Postgres *p, PgGoal goal)
{
	p->now = lease_file_now();
	if (p->goal != goal)
		p->asked_at = p->now;
	p->goal = goal;
}

void
postgres_run_primary(Postgres *p, uint64_t term, uint64_t inc)
{
	(void) inc; /* the extension counts them itself */
	if (rebuild_runs(p->rebuild))
		return;
	if (p->term != term)
		p->promoted_at = 0;
	p->term = term;
	ask(p, GOAL_PRIMARY);
	postgres_advance(p);
	postgres_wake(p);
}

void
postgres_run_standby(Postgres *p, int node)
{
	if (rebuild_runs(p->rebuild))
		return;
	p->node = node;
	ask(p, GOAL_STANDBY);
	postgres_advance(p);
	postgres_wake(p);
}

void
postgres_kill(Postgres *p)
{
	ask(p, GOAL_KILL);
	p->asked_at = p->now;
	if (!postgres_is_down(p))
		postgres_kill_all(p);
	postgres_wake(p);
}

void
postgres_stop(Postgres *p)
{
	ask(p, GOAL_STOP);
	postgres_advance(p);
	postgres_wake(p);
}

void
postgres_rebuild(Postgres *p, int from, uint64_t copy_id, bool seed)
{
	if (rebuild_runs(p->rebuild))
		return;
	p->from = from;
	p->copy = copy_id;
	p->seed = seed;
	ask(p, GOAL_REBUILD);
	postgres_advance(p);
	postgres_wake(p);
}

/* ---------- rewind and seed ---------- */

static void
on_make_clean(void *user)
{
	Postgres *p = user;

	p->now = lease_file_now();
	p->clean = CLEAN_START;
	postgres_told(p, "rewind",
				  "PostgreSQL was not shut down cleanly: it is started and stopped once before");
	postgres_wake(p);
}

static void
on_rebuilt(void *user, bool ok, const char *error)
{
	Postgres *p = user;

	p->now = lease_file_now();
	p->rebuild_at = ok ? 0 : p->now + REBUILD_PAUSE;
	(void) pg_place_look(&p->place);
	postgres_say(p, "%s", ok ? "" : error);
	p->cb.rebuilt(p->user, ok, error);
	postgres_wake(p);
}

static void
on_rebuild_told(void *user, const char *kind, const char *text)
{
	postgres_told(user, kind, "%s", text);
}

/* ---------- slots ---------- */

/* The names of the other nodes' slots as rows: ('beta'),('gamma').  Empty: there are none. */
static void
slot_rows(const Config *c, char *rows, size_t size)
{
	Config *theirs = malloc(sizeof(*theirs));
	size_t n = 0;

	rows[0] = '\0';
	for (int i = 0; theirs != NULL && i < c->nnodes; i++)
	{
		char error[300];
		char slot[CONFIG_NAME_SIZE];

		if (i == c->self || c->node[i].witness)
			continue;
		config_default_slot(c->node[i].name, slot);
		if (config_read_public(theirs, c->path, c->node[i].name, error, sizeof(error)))
			strcpy(slot, theirs->slot);
		n += (size_t) snprintf(rows + n, size - n, "%s('%s')", n > 0 ? "," : "", slot);
	}
	free(theirs);
}

/*
 * Every node with a database has a slot for each other one, a standby too: a primary that failed
 * over to it comes back and needs WAL from before the promotion.  On a standby they hold only what
 * its own recovery needs anyway.
 */
static int
make_statements(Postgres *p)
{
	char rows[FSM_MAX_NODES * (CONFIG_NAME_SIZE + 8)];

	slot_rows(p->config, rows, sizeof(rows));
	if (rows[0] == '\0')
		return 0;
	if (asprintf(&p->slots_primary,
				 "SELECT pg_create_physical_replication_slot(n, true) FROM (VALUES %s) v(n) "
				 "WHERE n NOT IN (SELECT slot_name FROM pg_replication_slots)",
				 rows) < 0 ||
		asprintf(&p->slots_standby,
				 "SELECT CASE WHEN s.slot_name IS NULL "
				 "THEN (pg_create_physical_replication_slot(n, true)).slot_name "
				 "ELSE (pg_replication_slot_advance(s.slot_name, c.redo_lsn)).slot_name END "
				 "FROM (VALUES %s) v(n) CROSS JOIN pg_control_checkpoint() c "
				 "LEFT JOIN pg_replication_slots s ON s.slot_name = n "
				 "WHERE s.slot_name IS NULL OR (NOT s.active AND s.restart_lsn < c.redo_lsn)",
				 rows) < 0)
		return -ENOMEM;
	return 0;
}

void
postgres_slots(Postgres *p)
{
	const char *statement = p->look.report.role == WATCH_PRIMARY ? p->slots_primary
																 : p->slots_standby;

	if (statement != NULL)
		pg_probe_query(p->query, statement, SLOTS_LIMIT);
}

/* ---------- for postgres.c ---------- */

int
postgres_run_new(Postgres *p)
{
	static const RebuildCallbacks callbacks = {on_make_clean, on_rebuilt, on_rebuild_told};
	int r = rebuild_new(&p->rebuild, p->config, p->event, &callbacks, p);

	if (r >= 0 && p->config->unit[0] != '\0')
		r = pg_unit_new(&p->unit, p->config->unit, p->event, unit_started, p);
	if (r >= 0)
		r = make_statements(p);
	if (r >= 0 && !rebuild_recover(p->config))
		postgres_told(p, "rewind", "could not write pg_tandem/copy: %s", strerror(errno));
	return r;
}

void
postgres_run_free(Postgres *p)
{
	program_kill(p->server); /* detached: the server goes on */
	task_forget(p->task);
	rebuild_free(p->rebuild);
	pg_unit_free(p->unit);
	lease_file_close(p->lease);
	free(p->slots_primary);
	free(p->slots_standby);
}
