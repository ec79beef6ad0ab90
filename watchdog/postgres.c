/*
 * postgres.c
 *		See postgres.h: what PostgreSQL is, and telling so.
 *
 * The postmaster is found by postmaster.pid and held by a pidfd, whoever started it.  Its death is
 * answered at once: what it left behind (backends in a system call, archive commands) is killed,
 * and PostgreSQL is "down" when a look at all processes finds nothing more.  What it is while it
 * lives, the extension reports; whether it works, the probe says.
 *
 * A postmaster that tandemd started and that does not come to work is killed, so that the attempt
 * counts: after "start_timeout" without progress in recovery, or after twice "probe_timeout" without
 * an answer once recovery is over.  One that somebody else started is only reported.
 *
 * A primary that worked and does not answer any more falls silent to the decision core.  A standby may
 * have good reasons not to answer (a lock it replays) and go on receiving WAL; it is hung when none of
 * its processes has done anything either.  So is one that tandemd finds in that state when it starts,
 * and that cannot report what it is: its postmaster.pid says whether it had come to work.
 */
#include "postgres_internal.h"

#include "pg_file.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUICK_TICK     20000 /* us: something is about to happen */
#define SOON           50000
#define DOWN_TICK      200000  /* somebody may start it */
#define SCAN_INTERVAL  5000000 /* while it is down */
#define REPORT_AGE     1000000 /* of a report that counts */
#define WORK_INTERVAL  5000000
#define WORK_ENOUGH    5        /* in WORK_INTERVAL, see pg_processes_work: 1 % of a core */
#define MUTE_LIMIT     15000000 /* it works, and the extension does not report */
#define ORPHAN_AGE     5        /* s: a postmaster writes its file sooner */
#define SLOTS_INTERVAL 5000000

void
postgres_told(Postgres *p, const char *kind, const char *format, ...)
{
	char text[1000];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	p->cb.told(p->user, kind, text);
}

void
postgres_say(Postgres *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(p->text, sizeof(p->text), format, args);
	va_end(args);
}

/* ---------- what it is ---------- */

bool
postgres_is_down(const Postgres *p)
{
	return p->pid == 0 && p->nothing_lives && p->start != START_RUN;
}

bool
postgres_has_role(const Postgres *p, WatchRole role)
{
	return p->pid != 0 && p->has_role && p->look.report.role == role;
}

static FsmPgState
state_now(const Postgres *p)
{
	if (p->pid != 0)
		return postgres_has_role(p, WATCH_PRIMARY)   ? FSM_PG_PRIMARY
			   : postgres_has_role(p, WATCH_STANDBY) ? FSM_PG_STANDBY
													 : FSM_PG_UNKNOWN;
	if (!postgres_is_down(p) || p->start != START_NONE)
		return FSM_PG_UNKNOWN;
	return p->broken != NULL ? FSM_PG_BROKEN : FSM_PG_DOWN;
}

static void
refresh(Postgres *p)
{
	RebuildProgress progress;
	PostgresLook *l = &p->look;

	rebuild_progress(p->rebuild, &progress);
	l->state = state_now(p);
	l->postmaster = p->pid;
	l->reported = p->has_report && lease_file_now() - p->report_at <= REPORT_AGE;
	l->text = l->state == FSM_PG_BROKEN ? p->broken : p->text;
	l->busy = progress.busy;
	l->percent = progress.percent;
	l->bytes = progress.bytes;
	l->rate = progress.rate;
	l->left = progress.left;
}

const PostgresLook *
postgres_look(Postgres *p)
{
	refresh(p);
	return &p->look;
}

static void
tell(Postgres *p)
{
	refresh(p);
	p->told.state = p->look.state;
	p->told.postmaster = p->look.postmaster;
	p->told.reported = p->look.reported;
	p->cb.changed(p->user);
}

/*
 * Tell the owner if what it is has changed since it was told: anybody may look in between (every
 * heartbeat does), so what was looked at last is not what the owner knows.
 */
static void
update(Postgres *p)
{
	refresh(p);
	if (p->look.state != p->told.state || p->look.postmaster != p->told.postmaster ||
		p->look.reported != p->told.reported)
		tell(p);
}

/* ---------- processes ---------- */

static const char *
cgroup(Postgres *p)
{
	return p->unit != NULL ? pg_unit_cgroup(p->unit) : NULL;
}

/* The postmaster is no more. */
static void
lost_postmaster(Postgres *p)
{
	p->death = sd_event_source_disable_unref(p->death);
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->pidfd = -1;
	p->pid = 0;
	p->has_report = p->has_role = false;
	p->look.answered = p->look.hung = false;
	p->nothing_lives = false;
	p->orphans_not_after = pg_process_clock();
	p->scan_at = 0;
	pg_probe_stop(p->probe);
	pg_probe_stop(p->query);
}

/*
 * Look at all processes.  Those of a dead postmaster are killed; those that were started since, by
 * whomever, are perhaps a postmaster that has not written its file yet.
 */
static void
scan(Postgres *p)
{
	PgProcesses found;
	bool was = p->nothing_lives;
	int killed;

	p->scan_at = p->now + SCAN_INTERVAL;
	if (pg_processes_find(&found, &p->place, cgroup(p)) < 0)
	{
		p->nothing_lives = false; /* not known */
		return;
	}
	p->nothing_lives = found.n == 0;
	if (found.n > 0 && !p->single)
	{
		uint64_t young = pg_process_clock() - ORPHAN_AGE * (uint64_t) sysconf(_SC_CLK_TCK);
		uint64_t limit = p->goal == GOAL_KILL           ? UINT64_MAX
						 : p->orphans_not_after > young ? p->orphans_not_after
														: young;

		killed = pg_processes_kill(&found, &p->place,
								   p->start == START_RUN ? p->orphans_not_after : limit);
		if (killed > 0 && p->goal != GOAL_KILL)
			postgres_say(p, "killed %d processes that a dead postmaster left behind", killed);
	}
	pg_processes_free(&found);
	if (p->nothing_lives && !was)
		postgres_died(p);
}

static int
on_death(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	Postgres *p = arg;
	bool asked = p->signalled || p->goal == GOAL_KILL;
	bool quick;

	(void) source;
	(void) fd;
	(void) events;
	p->now = lease_file_now();
	quick = !asked && p->mine && !p->has_role && p->now - p->found_at < POSTGRES_QUICK_LIMIT;
	/* It is our child, too, if we have started it and then ourselves anew (reload).  A child that is
	 * not reaped keeps its pid, and with it postmaster.pid and a unit's PIDFile in force. */
	if (p->server == NULL || program_pid(p->server) != p->pid)
		(void) waitpid(p->pid, NULL, WNOHANG);
	if (!asked)
		postgres_told(p, "stop", "the postmaster (process %d) has died", (int) p->pid);
	lost_postmaster(p);
	if (!(quick && postgres_tries_again(p)))
	{
		p->quick_ends = 0;
		postgres_goal_failed(p);
	}
	scan(p);
	postgres_advance(p);
	update(p);
	postgres_wake(p);
	return 0;
}

static void
adopt(Postgres *p, pid_t pid)
{
	int fd = pg_process_open(pid, &p->place);

	if (fd < 0)
		return;
	if (sd_event_add_io(p->event, &p->death, fd, EPOLLIN, on_death, p) < 0)
	{
		close(fd);
		return;
	}
	(void) sd_event_source_set_priority(p->death, SD_EVENT_PRIORITY_IMPORTANT);
	(void) pg_place_look(&p->place);
	p->pid = pid;
	p->pidfd = fd;
	p->nothing_lives = false;
	p->mine = p->start == START_RUN;
	p->found_at = p->progress_at = p->work_at = p->now;
	p->work = 0;
	p->recovered_at = 0;
	p->works = !p->mine && pg_postmaster_was_ready(&p->place); /* under the tandemd before */
	p->signalled = p->mute_told = p->silent = p->look.full = p->look.hung = false;
	p->probe_at = p->now;
	p->slots_at = p->now;
	p->text[0] = '\0';
	postgres_found(p);
}

void
postgres_kill_all(Postgres *p)
{
	PgProcesses found;

	if (pg_processes_find(&found, &p->place, cgroup(p)) < 0)
		return;
	(void) pg_processes_kill(&found, &p->place, UINT64_MAX);
	pg_processes_free(&found);
}

/* ---------- the extension ---------- */

/* A report of a postmaster that is not found yet: look for it now. */
static bool
is_of_postmaster(Postgres *p, const WatchReport *report)
{
	pid_t single;
	pid_t pid;

	if (p->pid == 0 && (pid = pg_postmaster_find(&p->place, &single)) != 0)
		adopt(p, pid);
	return p->pid != 0 && report->postmaster == p->pid;
}

static void
on_report(void *user, const WatchReport *report)
{
	Postgres *p = user;
	bool first = !p->has_role;
	WatchRole before = p->look.report.role;

	p->now = lease_file_now();
	if (!is_of_postmaster(p, report))
		return;
	p->look.report = *report;
	p->has_report = p->has_role = true;
	p->quick_ends = 0;
	p->report_at = p->now;
	if (report->role == WATCH_RECOVERING)
	{
		/* PostgreSQL's own restart after the crash of a backend, or the moment of a promotion */
		if (p->works && !(before == WATCH_STANDBY && p->goal == GOAL_PRIMARY))
		{
			postgres_told(p, "stop", "a server process crashed: PostgreSQL recovers by itself");
			p->progress_at = p->work_at = p->now;
		}
		p->recovered_at = 0;
		p->works = false;
	}
	else if (p->recovered_at == 0)
		p->recovered_at = p->now;
	if (first || before != report->role)
	{
		p->slots_at = p->now;
		if (!pg_probe_runs(p->probe))
			p->probe_at = p->now;
		postgres_advance(p);
		postgres_wake(p);
	}
	tell(p);
}

/* What it was it still is, until its worker comes back and says otherwise. */
static void
on_lost(void *user)
{
	Postgres *p = user;

	p->has_report = false;
	p->now = lease_file_now();
	update(p);
}

static void
on_refused(void *user, const char *text)
{
	postgres_told(user, "probe", "%s", text);
}

/* ---------- probes ---------- */

/*
 * Somebody waits for the first answer of a server that has come so far that it should accept; while
 * it still recovers each question is a line in its log.
 */
static int64_t
next_probe(const Postgres *p, const PgProbeResult *result)
{
	bool first = !result->answered && p->recovered_at != 0 && (!p->works || result->not_yet);
	int64_t interval = p->config->probe_interval;

	return first && interval > SOON ? SOON : interval;
}

static void
on_probe(void *user, const PgProbeResult *result)
{
	Postgres *p = user;
	bool standby = postgres_has_role(p, WATCH_STANDBY);

	p->now = lease_file_now();
	p->probe_at = p->now + next_probe(p, result);
	p->look.answered = result->answered;
	if (result->answered)
		p->look.answered_at = p->now;
	if (result->full != p->look.full)
	{
		p->look.full = result->full;
		postgres_told(p, "probe",
					  p->look.full ? "no room is left on the disk of the WAL: %s"
								   : "there is room again on the disk of the WAL%s",
					  p->look.full ? result->text : "");
	}
	/* a standby may have been set up not to answer (hot_standby = off) */
	if (p->recovered_at != 0 && (result->answered || (standby && result->not_yet)))
		p->works = true;
	if (!result->answered && !result->not_yet && p->works && !p->silent)
		postgres_told(p, "probe", "PostgreSQL failed its probe: %s", result->text);
	if (result->answered && p->silent)
		postgres_told(p, "probe", "PostgreSQL answers its probe again");
	p->silent = !result->answered && !result->not_yet && p->works;
	postgres_say(p, "%s", result->text);
	postgres_advance(p);
	tell(p);
	postgres_wake(p);
}

static void
probe(Postgres *p)
{
	if (p->pid == 0 || p->now < p->probe_at || pg_probe_runs(p->probe))
		return;
	pg_probe_start(p->probe, postgres_has_role(p, WATCH_PRIMARY));
}

static void
on_query(void *user, const PgProbeResult *result)
{
	Postgres *p = user;

	if (!result->answered && !p->slots_told)
		postgres_told(p, "probe", "the replication slots of the other nodes cannot be kept: %s",
					  result->text);
	p->slots_told = !result->answered;
}

/* Where recovery needs WAL from, and with it the slots, moves with the checkpoints. */
static void
slots(Postgres *p)
{
	if (!p->works || !p->has_report || p->now < p->slots_at || pg_probe_runs(p->query))
		return;
	p->slots_at = p->now + SLOTS_INTERVAL;
	postgres_slots(p);
}

/* ---------- does it work? ---------- */

static void
measure(Postgres *p)
{
	PgProcesses found;
	uint64_t work;

	if (p->now - p->work_at < WORK_INTERVAL || pg_processes_find(&found, &p->place, cgroup(p)) < 0)
		return;
	work = pg_processes_work(&found);
	pg_processes_free(&found);
	/* a process that has ended takes its share with it */
	if (work >= p->work + WORK_ENOUGH || work < p->work)
		p->progress_at = p->now;
	p->work = work;
	p->work_at = p->now;
}

static void
judge_standby(Postgres *p)
{
	int64_t limit = 2 * p->config->fsm.probe_timeout;
	bool standby = postgres_has_role(p, WATCH_STANDBY);
	bool hung = false;

	/* one that was found hung cannot report what it is */
	if (p->silent && !p->signalled && (standby || !p->has_role))
	{
		measure(p);
		hung = p->now - p->look.answered_at > limit && p->now - p->progress_at > limit &&
			   p->work_at > p->progress_at; /* measured since, and nothing found */
	}
	if (hung == p->look.hung)
		return;
	p->look.hung = hung;
	if (hung)
		postgres_told(p, "probe", "%s is hung: no answer, and nothing done, for %d s",
					  standby ? "the standby" : "PostgreSQL", (int) (limit / 1000000));
	tell(p);
}

static void
judge(Postgres *p)
{
	const Config *c = p->config;
	const char *what;

	if (p->pid == 0)
		return;
	if (p->look.answered && !p->has_role && !p->mute_told && p->now - p->found_at > MUTE_LIMIT)
	{
		p->mute_told = true;
		postgres_told(p, "probe",
					  "PostgreSQL runs, but pg_tandem in it does not report to tandemd. Are "
					  "shared_preload_libraries = 'pg_tandem', tandem.node_name = '%s' and "
					  "tandem.watchdog_directory = '%s' set?",
					  c->node[c->self].name, c->run_directory);
	}
	if (p->works)
	{
		judge_standby(p);
		return;
	}
	measure(p);
	if (p->recovered_at != 0 && p->now - p->recovered_at > 2 * c->fsm.probe_timeout)
		what = "PostgreSQL has started but does not accept connections";
	else if (p->recovered_at == 0 && p->now - p->progress_at > c->start_timeout)
		what = "PostgreSQL does not get through its start, and has done nothing for start_timeout";
	else
		return;
	p->progress_at = p->now;
	if (p->recovered_at != 0)
		p->recovered_at = p->now;
	postgres_told(p, "stop", "%s%s (%s)", what, p->mine ? ": it is killed" : "", p->text);
	if (!p->mine)
		return;
	p->signalled = true;
	postgres_kill_all(p);
}

/*
 * A server whose data directory is gone, or is another one now, does no good any more, and ends by
 * itself only when it looks for postmaster.pid, once a minute.
 */
static void
look_for_directory(Postgres *p)
{
	PgPlace now = {.path = p->place.path};

	if (p->pid == 0)
		return;
	errno = 0;
	if (pg_place_look(&now) ? now.dev == p->place.dev && now.ino == p->place.ino
							: errno != ENOENT && errno != ENOTDIR)
		return;
	if (!p->signalled)
		postgres_told(p, "stop",
					  "the data directory \"%s\" is gone: what is left of PostgreSQL is "
					  "killed",
					  p->place.path);
	p->signalled = true;
	postgres_kill_all(p);
}

/* ---------- why it cannot be started ---------- */

static void
look_for_trouble(Postgres *p)
{
	static char text[CONFIG_PATH_SIZE + 200];
	char path[PG_FILE_PATH];
	const char *directory = p->config->data_directory;

	p->broken = NULL;
	if (rebuild_runs(p->rebuild))
		return;
	if (!pg_file_exists(directory))
		snprintf(text, sizeof(text), "there is no data directory \"%s\"", directory);
	else if (!pg_file_join(path, directory, "PG_VERSION") || !pg_file_exists(path))
		snprintf(text, sizeof(text), "\"%s\" is not a data directory: it has no PG_VERSION",
				 directory);
	else if (!pg_file_join(path, directory, "global/pg_control") || !pg_file_exists(path))
		snprintf(text, sizeof(text), "\"%s\" has lost its pg_control", directory);
	else if (rebuild_is_pending(p->config))
		snprintf(text, sizeof(text),
				 "a rewind or seed has not been completed: the data directory must not be started");
	else
		return;
	p->broken = text;
}

/* ---------- the clock ---------- */

static int64_t
interval(const Postgres *p)
{
	const int64_t steady = p->config->probe_interval < 1000000 ? p->config->probe_interval
															   : 1000000;

	if (postgres_run_busy(p) || (p->pid == 0 && !p->nothing_lives))
		return QUICK_TICK;
	if (p->pid == 0)
		return DOWN_TICK;
	return p->probe_at - p->now >= steady ? steady
		   : p->probe_at > p->now         ? p->probe_at - p->now
		   : pg_probe_runs(p->probe)      ? steady
										  : QUICK_TICK;
}

static void
look_for_postmaster(Postgres *p)
{
	pid_t single = 0;
	pid_t pid = pg_postmaster_find(&p->place, &single);

	p->single = single != 0;
	if (p->single)
		postgres_say(p, "a single-user server (process %d) runs in the data directory",
					 (int) single);
	if (pid != 0)
		adopt(p, pid);
	else if (!p->nothing_lives || p->single || p->start == START_RUN || p->now >= p->scan_at)
		scan(p);
}

static int
on_timer(sd_event_source *source, uint64_t usec, void *arg)
{
	Postgres *p = arg;

	(void) usec;
	p->now = lease_file_now();
	if (p->pid == 0)
		look_for_postmaster(p);
	if (postgres_is_down(p))
		look_for_trouble(p);
	postgres_advance(p);
	probe(p);
	slots(p);
	judge(p);
	look_for_directory(p);
	update(p);
	(void) sd_event_source_set_time(source, (uint64_t) (p->now + interval(p)));
	(void) sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

void
postgres_wake(Postgres *p)
{
	(void) sd_event_source_set_time(p->timer, 0);
	(void) sd_event_source_set_enabled(p->timer, SD_EVENT_ONESHOT);
}

/* ---------- for the owner ---------- */

static int
open_all(Postgres *p)
{
	static const WatchCallbacks watch = {on_report, on_lost, on_refused};
	int r = watch_new(&p->watch, p->config, p->event, &watch, p);

	if (r >= 0)
		r = pg_probe_new(&p->probe, p->config, p->event, on_probe, p);
	if (r >= 0)
		r = pg_probe_new(&p->query, p->config, p->event, on_query, p);
	if (r >= 0)
		r = postgres_run_new(p);
	if (r >= 0)
		r = sd_event_add_time(p->event, &p->timer, CLOCK_BOOTTIME, 0, 1000, on_timer, p);
	return r < 0 ? r : 0;
}

int
postgres_new(Postgres **p, const Config *c, sd_event *event, const PostgresCallbacks *cb,
			 void *user)
{
	Postgres *n = calloc(1, sizeof(Postgres));
	int r;

	if (n == NULL)
		return -ENOMEM;
	n->config = c;
	n->event = event;
	n->cb = *cb;
	n->user = user;
	n->pidfd = -1;
	n->look.percent = -1;
	n->look.left = -1;
	n->look.text = n->text;
	n->place.path = c->data_directory;
	n->node = FSM_NOBODY;
	(void) pg_place_look(&n->place);
	r = open_all(n);
	if (r < 0)
	{
		postgres_free(n);
		return r;
	}
	*p = n;
	return 0;
}

void
postgres_free(Postgres *p)
{
	if (p == NULL)
		return;
	postgres_run_free(p);
	sd_event_source_disable_unref(p->timer);
	sd_event_source_disable_unref(p->death);
	if (p->pidfd >= 0)
		close(p->pidfd);
	pg_probe_free(p->probe);
	pg_probe_free(p->query);
	watch_free(p->watch);
	free(p);
}

void
postgres_gate(Postgres *p, const WatchCommand *command)
{
	if (p->has_report)
		(void) watch_command(p->watch, command);
}
