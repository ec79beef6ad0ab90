/*
 * rebuild.c
 *		See rebuild.h.
 *
 * A chain of steps, each a program or a task, the next one started when it has ended:
 *
 *	look at the primary -> (clean shutdown) -> pg_rewind --dry-run -> keep -> pg_rewind -> finish
 *	                   \-> prepare -> pg_basebackup -> arrange (keep, swap, finish)
 *
 * pg_rewind knows timelines only.  Where WAL was lost in a crash of a host without a new timeline,
 * its fork point lies behind the point from which the two copies differ, and it would leave pages
 * as they are that must be replaced.  So its fork point (by --dry-run) is compared with the point
 * where the histories of incarnations part (rule 15), and it is used only if it is not the later
 * one.
 */
#include "rebuild.h"

#include "follow.h"
#include "pg_file.h"
#include "program.h"
#include "rebuild_job.h"
#include "report.h"
#include "rights.h"
#include "task.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define LOOK_LIMIT       30000000
#define CHECKPOINT_LIMIT 600000000
#define DRY_LIMIT        600000000
#define ROOM_TO_LEAVE    (UINT64_C(256) * 1024 * 1024)
#define HISTORY_SIZE     65536
#define MAX_TABLESPACES  (REBUILD_MAX_PLACES - 2)

struct Rebuild
{
	const Config *config;
	sd_event *event;
	RebuildCallbacks cb;
	void *user;
	Program *program;
	Task *task;
	Task *cleaner; /* removes what a seed has left; nobody waits for it */

	bool runs;
	int lock; /* held while it runs, and by its programs; -1: not */
	int from;
	bool seed; /* a seed was asked for */
	RebuildNote note;
	char conninfo[FOLLOW_SIZE];

	/* what the primary said */
	uint32_t timeline;   /* now */
	uint32_t checkpoint; /* of its latest checkpoint */
	bool checkpointed;   /* it has been asked for one */
	bool slot;           /* this node's slot is there, and free */
	int ntablespaces;
	char tablespace[MAX_TABLESPACES][CONFIG_PATH_SIZE];
	char *history; /* HISTORY_SIZE */

	/* what pg_rewind said */
	uint64_t fork;
	bool no_rewind;

	/* progress */
	const char *busy;
	int percent;
	uint64_t done; /* kB */
	uint64_t total;
	int64_t began;
	bool no_room;
	char error[1600];
};

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void __attribute__((format(printf, 3, 4)))
tell(Rebuild *r, const char *kind, const char *format, ...)
{
	char text[1400];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	r->cb.told(r->user, kind, text);
}

/* ---------- one at a time ---------- */

/*
 * The lock is shared with the programs that are started, as descriptor 3: if tandemd is killed they
 * are, too, but not in the same instant, and not their children (pg_basebackup has one).
 */
static void
kill_holders(const char *lock_path)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
	{
		char path[300];
		char target[PG_FILE_PATH];
		ssize_t n;

		if (!isdigit((unsigned char) entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fd/3", entry->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (strcmp(target, lock_path) == 0 && atoi(entry->d_name) != getpid())
			(void) kill(atoi(entry->d_name), SIGKILL);
	}
	if (dir != NULL)
		closedir(dir);
}

static bool
lock(Rebuild *r)
{
	char path[CONFIG_PATH_SIZE + CONFIG_NAME_SIZE + 32];

	if (r->lock >= 0)
		return true;
	snprintf(path, sizeof(path), "%s/%s.rebuild.lock", r->config->state_directory,
			 r->config->node[r->config->self].name);
	r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (r->lock >= 0 && flock(r->lock, LOCK_EX | LOCK_NB) == 0)
		return true;
	if (r->lock >= 0)
	{
		close(r->lock);
		kill_holders(path);
	}
	r->lock = -1;
	return false;
}

static void
unlock(Rebuild *r)
{
	if (r->lock >= 0)
		close(r->lock);
	r->lock = -1;
}

static void
end(Rebuild *r, bool ok)
{
	r->runs = false;
	r->busy = NULL;
	unlock(r);
	r->cb.ended(r->user, ok, ok ? NULL : r->error);
}

static void __attribute__((format(printf, 2, 3))) fail(Rebuild *r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->error, sizeof(r->error), format, args);
	va_end(args);
	end(r, false);
}

/* The last line a program has written, for a message. */
static const char *
last_line(const char *output)
{
	static char line[400];
	const char *at = output;
	size_t n = 0;

	line[0] = '\0';
	while (*at != '\0')
	{
		n = strcspn(at, "\r\n");
		if (n > 0)
			snprintf(line, sizeof(line), "%.*s", (int) n, at);
		at += n;
		at += *at != '\0';
	}
	return line;
}

/* ---------- steps that block: tasks ---------- */

static int
run_task(Rebuild *r, int (*run)(void *), void (*done)(void *, void *, int))
{
	char error[300];
	RebuildJob *job = calloc(1, sizeof(RebuildJob));
	TaskSpec spec = {
		.run = run, .done = done, .free_data = rebuild_free_job, .data = job, .user = r};

	if (job == NULL)
		return -ENOMEM;
	job->config = *r->config;
	job->note = r->note;
	job->from = r->fork;
	if (r->history != NULL)
		job->history = strdup(r->history);
	if (!follow_prepare(&job->follow, r->config, r->from, error, sizeof(error)))
	{
		rebuild_free_job(job);
		return -EINVAL;
	}
	return task_run(&r->task, r->event, &spec);
}

static void
say_kept(Rebuild *r, const char *kind, const RebuildJob *job)
{
	if (job->segments > 0)
		tell(r, kind,
			 "WAL from %X/%X on, which \"%s\" does not have, is kept in \"%s\" (%d segments)",
			 (unsigned int) (job->from >> 32), (unsigned int) job->from,
			 r->config->node[r->from].name, job->kept_in, job->segments);
}

static bool
task_failed(Rebuild *r, const RebuildJob *job, int result)
{
	r->task = NULL;
	r->note = job->note;
	if (result >= 0)
		return false;
	fail(r, "could not %s: %s", job->failed != NULL ? job->failed : "work with the data directory",
		 strerror(-result));
	return true;
}

/* ---------- programs ---------- */

static const char *
program_path(const Rebuild *r, const char *name)
{
	static char path[CONFIG_PATH_SIZE + 32];

	snprintf(path, sizeof(path), "%s/%s", r->config->bin_directory, name);
	return path;
}

static void
run_program(Rebuild *r, ProgramSpec *spec)
{
	int e;

	spec->os_user = r->config->os_user;
	spec->lock = r->lock;
	spec->user = r;
	e = program_run(&r->program, r->event, spec);
	if (e < 0)
		fail(r, "could not run %s: %s", spec->argv[0], strerror(-e));
}

/* "  123/456 kB (27%) ..." of pg_basebackup and pg_rewind. */
static void
on_progress(void *user, const char *line)
{
	Rebuild *r = user;
	unsigned long long done;
	unsigned long long total;
	int percent;

	if (sscanf(line, " %llu/%llu kB (%d%%)", &done, &total, &percent) != 3)
		return;
	r->done = done;
	r->total = total;
	r->percent = percent > 100 ? 100 : percent;
}

static void
show(Rebuild *r, const char *busy)
{
	r->busy = busy;
	r->percent = -1;
	r->done = r->total = 0;
	r->began = now_us();
}

/* ---------- a seed ---------- */

static void
cleaned_up(void *user, void *data, int result)
{
	Rebuild *r = user;

	(void) data;
	(void) result;
	r->cleaner = NULL;
	if (r->runs)
		end(r, true);
}

/*
 * Remove the old copy.  PostgreSQL waits for it: starting after a base backup it would flush every
 * file it finds in the data directory.  False if it cannot be done now.
 */
static bool
start_cleaner(Rebuild *r, const RebuildNote *note)
{
	RebuildJob *job = calloc(1, sizeof(RebuildJob));
	TaskSpec spec = {.run = rebuild_clean_up,
					 .done = cleaned_up,
					 .free_data = rebuild_free_job,
					 .data = job,
					 .user = r};

	if (job == NULL)
		return false;
	job->note = *note;
	job->clean_old = job->clean_seed = true;
	task_forget(r->cleaner);
	return task_run(&r->cleaner, r->event, &spec) == 0;
}

static void
arranged(void *user, void *data, int result)
{
	Rebuild *r = user;
	RebuildJob *job = data;

	if (task_failed(r, job, result))
		return;
	say_kept(r, "seed", job);
	tell(r, "seed", "seeded from \"%s\"", r->config->node[r->from].name);
	if (!start_cleaner(r, &r->note))
		end(r, true);
}

static void
start_arrange(Rebuild *r)
{
	int e = run_task(r, rebuild_arrange, arranged);

	if (e < 0)
		fail(r, "could not put the new copy in its place: %s", strerror(-e));
}

static void
basebackup_ended(void *user, int status, const char *output)
{
	Rebuild *r = user;

	r->program = NULL;
	if (r->no_room)
		end(r, false);
	else if (status != 0)
		fail(r, "pg_basebackup: %s (%s)", last_line(output), program_status_text(status));
	else
		start_arrange(r);
}

/*
 * Does the new copy fit beside the old one?  pg_basebackup tells its size with its first line.  Only
 * the data directory's disk is looked at: with tablespaces elsewhere this asks for more than needed
 * there, so it is then left to pg_basebackup to find out.
 */
static void
on_basebackup_line(void *user, const char *line)
{
	Rebuild *r = user;
	bool first = r->total == 0;
	struct statvfs fs;
	uint64_t room;

	on_progress(user, line);
	if (!first || r->total == 0 || r->note.nplaces > 1 || r->no_room ||
		statvfs(r->config->data_directory, &fs) != 0)
		return;
	room = (uint64_t) fs.f_bavail * fs.f_frsize / 1024;
	if (room >= r->total - r->done + ROOM_TO_LEAVE / 1024)
		return;
	r->no_room = true;
	snprintf(r->error, sizeof(r->error),
			 "no room for a new copy beside the old one: it needs %" PRIu64 " MB, %" PRIu64
			 " MB are free on the disk of \"%s\"; make room, or remove the old copy, which nothing "
			 "else will do",
			 r->total / 1024, room / 1024, r->config->data_directory);
	program_stop(r->program); /* its end is told */
}

static void
start_basebackup(Rebuild *r)
{
	static char seed[PG_FILE_PATH];
	static char wal[PG_FILE_PATH + 16];
	static char map[MAX_TABLESPACES][CONFIG_PATH_SIZE * 2 + 32];
	ProgramSpec spec = {.line = on_basebackup_line, .done = basebackup_ended};
	char path[PG_FILE_PATH];
	struct stat st;
	int n = 0;

	(void) pg_file_join(seed, r->config->data_directory, REBUILD_SEED);
	spec.argv[n++] = program_path(r, "pg_basebackup");
	spec.argv[n++] = "-d";
	spec.argv[n++] = r->conninfo;
	spec.argv[n++] = "-D";
	spec.argv[n++] = seed;
	spec.argv[n++] = "-X";
	spec.argv[n++] = "stream";
	spec.argv[n++] = "-c";
	spec.argv[n++] = "fast";
	spec.argv[n++] = "-P";
	if (r->slot)
	{
		spec.argv[n++] = "-S";
		spec.argv[n++] = r->config->slot;
	}
	if (pg_file_join(path, r->config->data_directory, "pg_wal") && lstat(path, &st) == 0 &&
		S_ISLNK(st.st_mode) && r->note.nplaces > 1)
	{
		snprintf(wal, sizeof(wal), "%s/" REBUILD_SEED, r->note.place[1]);
		spec.argv[n++] = "--waldir";
		spec.argv[n++] = wal;
	}
	for (int i = 0; i < r->ntablespaces; i++)
	{
		snprintf(map[i], sizeof(map[i]), "%s=%s/" REBUILD_SEED, r->tablespace[i], r->tablespace[i]);
		spec.argv[n++] = "-T";
		spec.argv[n++] = map[i];
	}
	spec.argv[n] = NULL;
	r->no_room = false;
	show(r, "seed");
	tell(r, "seed", "a new seed from \"%s\" begins", r->config->node[r->from].name);
	run_program(r, &spec);
}

/* tandemd ended before its cleaner did. */
static void
clear_leftovers(Rebuild *r)
{
	RebuildNote note;

	rebuild_note_read(r->config, &note);
	if (!rebuild_note_is_open(&note) && rebuild_leftovers(r->config, &note))
		(void) start_cleaner(r, &note);
}

static void
prepared(void *user, void *data, int result)
{
	Rebuild *r = user;

	if (!task_failed(r, data, result))
		start_basebackup(r);
}

/* The places that a seed fills. */
static bool
find_places(Rebuild *r)
{
	RebuildNote *note = &r->note;
	char path[PG_FILE_PATH];
	char target[PG_FILE_PATH];
	struct stat st;

	note->nplaces = 0;
	strcpy(note->place[note->nplaces++], r->config->data_directory);
	if (pg_file_join(path, r->config->data_directory, "pg_wal") && lstat(path, &st) == 0 &&
		S_ISLNK(st.st_mode))
	{
		if (realpath(path, target) == NULL || strlen(target) >= CONFIG_PATH_SIZE)
			return false;
		strcpy(note->place[note->nplaces++], target);
	}
	for (int i = 0; i < r->ntablespaces; i++)
	{
		if (note->nplaces == REBUILD_MAX_PLACES)
			return false;
		strcpy(note->place[note->nplaces++], r->tablespace[i]);
	}
	return true;
}

static void
start_seed(Rebuild *r)
{
	int e;

	show(r, "seed");
	if (!find_places(r))
	{
		fail(r, "could not seed: too many tablespaces, or the link pg_wal leads nowhere");
		return;
	}
	e = run_task(r, rebuild_prepare, prepared);
	if (e < 0)
		fail(r, "could not prepare a seed: %s", strerror(-e));
}

/* ---------- a rewind ---------- */

static void
rewind_finished(void *user, void *data, int result)
{
	Rebuild *r = user;

	if (task_failed(r, data, result))
		return;
	tell(r, "rewind", "rewound to \"%s\"", r->config->node[r->from].name);
	end(r, true);
}

static void
rewind_ended(void *user, int status, const char *output)
{
	Rebuild *r = user;
	int e;

	r->program = NULL;
	if (status != 0)
	{
		/* the copy is neither the old one nor the new one */
		tell(r, "rewind", "pg_rewind failed, a new seed follows: %s (%s)", last_line(output),
			 program_status_text(status));
		start_seed(r);
		return;
	}
	e = run_task(r, rebuild_finish_rewind, rewind_finished);
	if (e < 0)
		fail(r, "could not finish the rewind: %s", strerror(-e));
}

static void
start_rewind(Rebuild *r)
{
	static char source[FOLLOW_SIZE + 32];
	ProgramSpec spec = {.line = on_progress, .done = rewind_ended};
	int n = 0;

	snprintf(source, sizeof(source), "--source-server=%s", r->conninfo);
	spec.argv[n++] = program_path(r, "pg_rewind");
	spec.argv[n++] = "-D";
	spec.argv[n++] = r->config->data_directory;
	spec.argv[n++] = source;
	spec.argv[n++] = "--no-ensure-shutdown";
	spec.argv[n++] = "-P";
	spec.argv[n] = NULL;
	show(r, "rewind");
	tell(r, "rewind", "the rewind to \"%s\" begins", r->config->node[r->from].name);
	run_program(r, &spec);
}

static void
kept_for_rewind(void *user, void *data, int result)
{
	Rebuild *r = user;
	RebuildJob *job = data;

	if (task_failed(r, job, result))
		return;
	say_kept(r, "rewind", job);
	start_rewind(r);
}

static void
on_dry_line(void *user, const char *line)
{
	Rebuild *r = user;
	const char *at = strstr(line, "servers diverged at WAL location ");
	unsigned int hi;
	unsigned int lo;

	if (at != NULL && sscanf(at, "servers diverged at WAL location %X/%X", &hi, &lo) == 2)
		r->fork = (uint64_t) hi << 32 | lo;
	if (strstr(line, "no rewind required") != NULL)
		r->no_rewind = true;
}

/* Why pg_rewind must not be used; NULL if it may. */
static const char *
why_no_rewind(Rebuild *r)
{
	char *mine = rebuild_history(r->config->data_directory);
	uint64_t divergence = mine != NULL ? rebuild_divergence(mine, r->history) : 0;

	free(mine);
	if (r->no_rewind || r->fork == 0)
		return "the copies differ within one timeline";
	if (r->history[0] == '\0')
		return "the primary's pg_tandem/incarnations could not be read";
	if (divergence < r->fork)
		return "WAL was lost on a timeline that went on: pg_rewind would take a wrong fork point";
	return NULL;
}

static void
dry_run_ended(void *user, int status, const char *output)
{
	Rebuild *r = user;
	const char *why;
	int e;

	r->program = NULL;
	why = status == 0 ? why_no_rewind(r) : last_line(output);
	if (why != NULL)
	{
		tell(r, "rewind", "no rewind, a new seed instead: %s", why);
		r->fork = 0;
		start_seed(r);
		return;
	}
	e = run_task(r, rebuild_keep_for_rewind, kept_for_rewind);
	if (e < 0)
		fail(r, "could not prepare the rewind: %s", strerror(-e));
}

static void
start_dry_run(Rebuild *r)
{
	static char source[FOLLOW_SIZE + 32];
	ProgramSpec spec = {.line = on_dry_line, .done = dry_run_ended, .limit = DRY_LIMIT};
	int n = 0;

	r->fork = 0;
	r->no_rewind = false;
	snprintf(source, sizeof(source), "--source-server=%s", r->conninfo);
	spec.argv[n++] = program_path(r, "pg_rewind");
	spec.argv[n++] = "-D";
	spec.argv[n++] = r->config->data_directory;
	spec.argv[n++] = source;
	spec.argv[n++] = "--no-ensure-shutdown";
	spec.argv[n++] = "--dry-run";
	spec.argv[n] = NULL;
	show(r, "rewind");
	run_program(r, &spec);
}

void
rebuild_cleaned(Rebuild *r, bool ok, const char *text)
{
	if (!r->runs)
		return;
	if (ok)
		start_dry_run(r);
	else
	{
		tell(r, "rewind", "no rewind, a new seed instead: %s", text);
		start_seed(r);
	}
}

/* ---------- looking at the primary ---------- */

static void start_look(Rebuild *r);

static void
checkpoint_ended(void *user, int status, const char *output)
{
	Rebuild *r = user;

	r->program = NULL;
	if (status != 0)
		fail(r, "could not make a checkpoint on \"%s\", which pg_rewind needs: %s (%s)",
			 r->config->node[r->from].name, last_line(output), program_status_text(status));
	else
		start_look(r);
}

/*
 * pg_rewind takes the primary's timeline from its latest checkpoint.  The one after a promotion is
 * spread over minutes.
 */
static void
start_checkpoint(Rebuild *r)
{
	ProgramSpec spec = {.done = checkpoint_ended, .limit = CHECKPOINT_LIMIT};
	int n = 0;

	spec.argv[n++] = program_path(r, "psql");
	spec.argv[n++] = "-XAtqw";
	spec.argv[n++] = "-d";
	spec.argv[n++] = r->conninfo;
	spec.argv[n++] = "-c";
	spec.argv[n++] = "CHECKPOINT";
	spec.argv[n] = NULL;
	r->checkpointed = true;
	run_program(r, &spec);
}

static void
decide(Rebuild *r)
{
	RebuildControl control;

	if (r->seed || r->note.phase == REBUILD_REWIND ||
		rebuild_control(r->config->data_directory, &control) < 0)
		start_seed(r);
	else if (r->checkpoint != r->timeline && !r->checkpointed)
		start_checkpoint(r);
	else if (r->checkpoint != r->timeline)
		fail(r, "waiting for \"%s\" to complete a checkpoint on timeline %u",
			 r->config->node[r->from].name, r->timeline);
	else if (!control.clean)
	{
		show(r, "rewind");
		r->cb.make_clean(r->user);
	}
	else
		start_dry_run(r);
}

static void
look_ended(void *user, int status, const char *output)
{
	Rebuild *r = user;

	r->program = NULL;
	if (status != 0 || r->timeline == 0)
		fail(r, "could not ask \"%s\": %s (%s)", r->config->node[r->from].name, last_line(output),
			 program_status_text(status));
	else
		decide(r);
}

static void
on_look_line(void *user, const char *line)
{
	Rebuild *r = user;
	size_t n = strlen(r->history);

	if (strncmp(line, "timeline ", 9) == 0)
		r->timeline = (uint32_t) strtoul(line + 9, NULL, 16);
	else if (strncmp(line, "checkpoint ", 11) == 0)
		r->checkpoint = (uint32_t) strtoul(line + 11, NULL, 10);
	else if (strcmp(line, "slot") == 0)
		r->slot = true;
	else if (strncmp(line, "tablespace ", 11) == 0 && r->ntablespaces < MAX_TABLESPACES &&
			 strlen(line + 11) < CONFIG_PATH_SIZE)
		strcpy(r->tablespace[r->ntablespaces++], line + 11);
	else if (isdigit((unsigned char) line[0]) && n + strlen(line) + 2 < HISTORY_SIZE)
		sprintf(r->history + n, "%s\n", line);
}

/* One psql, each question by itself: one that may not be asked does not stop the others. */
static void
start_look(Rebuild *r)
{
	static char slot[CONFIG_NAME_SIZE + 160];
	ProgramSpec spec = {.line = on_look_line, .done = look_ended, .limit = LOOK_LIMIT};
	static const char timeline[] =
		"SELECT 'timeline ' || left(pg_walfile_name(pg_current_wal_lsn()), 8)";
	static const char checkpoint[] =
		"SELECT 'checkpoint ' || timeline_id FROM pg_control_checkpoint()";
	static const char tablespaces[] = "SELECT 'tablespace ' || pg_tablespace_location(oid) FROM "
									  "pg_tablespace WHERE pg_tablespace_location(oid) <> ''";
	static const char history[] =
		"SELECT convert_from(pg_read_binary_file('pg_tandem/incarnations'), 'SQL_ASCII')";
	int n = 0;

	snprintf(slot, sizeof(slot),
			 "SELECT 'slot' FROM pg_replication_slots WHERE slot_name = '%s' AND NOT active",
			 r->config->slot);
	spec.argv[n++] = program_path(r, "psql");
	spec.argv[n++] = "-XAtqw";
	spec.argv[n++] = "-d";
	spec.argv[n++] = r->conninfo;
	spec.argv[n++] = "-c";
	spec.argv[n++] = history;
	spec.argv[n++] = "-c";
	spec.argv[n++] = slot;
	spec.argv[n++] = "-c";
	spec.argv[n++] = tablespaces;
	spec.argv[n++] = "-c";
	spec.argv[n++] = checkpoint;
	spec.argv[n++] = "-c";
	spec.argv[n++] = timeline; /* the last one decides psql's exit status */
	spec.argv[n] = NULL;
	r->timeline = r->checkpoint = 0;
	r->slot = false;
	r->ntablespaces = 0;
	r->history[0] = '\0';
	run_program(r, &spec);
}

/* ---------- for postgres.c ---------- */

int
rebuild_new(Rebuild **r, const Config *c, sd_event *event, const RebuildCallbacks *cb, void *user)
{
	Rebuild *n = calloc(1, sizeof(Rebuild));

	if (n != NULL)
		n->history = calloc(1, HISTORY_SIZE);
	if (n == NULL || n->history == NULL)
	{
		free(n);
		return -ENOMEM;
	}
	n->config = c;
	n->event = event;
	n->cb = *cb;
	n->user = user;
	n->lock = -1;
	*r = n;
	clear_leftovers(n);
	return 0;
}

void
rebuild_free(Rebuild *r)
{
	if (r == NULL)
		return;
	program_kill(r->program);
	task_forget(r->task);
	task_forget(r->cleaner);
	unlock(r);
	free(r->history);
	free(r);
}

bool
rebuild_start(Rebuild *r, int from, uint64_t copy, bool seed)
{
	char error[300];

	if (r->runs)
		return true;
	if (r->cleaner != NULL || !lock(r)) /* it removes what this would write */
		return false;
	r->runs = true;
	r->from = from;
	r->seed = seed;
	r->checkpointed = false;
	r->error[0] = '\0';
	show(r, seed ? "seed" : "rewind");
	rebuild_note_read(r->config, &r->note);
	if (r->note.phase == REBUILD_DONE && r->note.copy == copy)
	{
		end(r, true); /* tandemd ended before the decision core knew */
		return true;
	}
	if (!rebuild_note_is_open(&r->note))
		r->note = (RebuildNote){.phase = REBUILD_BEGUN};
	r->note.copy = copy;
	if (!follow_conninfo(r->config, from, r->config->probe_database, r->conninfo,
						 sizeof(r->conninfo), error, sizeof(error)))
		fail(r, "%s", error);
	else if (r->note.phase >= REBUILD_OUT)
		start_arrange(r); /* the seed was complete: only the swap was cut */
	else
		start_look(r);
	return true;
}

bool
rebuild_runs(const Rebuild *r)
{
	return r->runs;
}

void
rebuild_progress(const Rebuild *r, RebuildProgress *progress)
{
	int64_t took = now_us() - r->began;

	*progress = (RebuildProgress){.percent = -1, .left = -1};
	if (!r->runs)
		return;
	progress->busy = r->busy;
	progress->percent = r->percent;
	progress->bytes = r->done * 1024;
	if (took > 0)
		progress->rate = (int64_t) (r->done * 1024 * 1000 / ((uint64_t) took / 1000 + 1));
	if (progress->rate > 0 && r->total >= r->done)
		progress->left =
			(int64_t) ((r->total - r->done) * 1024 * 1000000 / (uint64_t) progress->rate);
}

bool
rebuild_is_pending(const Config *c)
{
	RebuildNote note;

	rebuild_note_read(c, &note);
	return rebuild_note_is_open(&note);
}

static bool
read_copy(const Config *c, CopyFile *copy)
{
	RIGHTS_OF_DATABASE;

	return copy_file_read(c->data_directory, copy);
}

bool
rebuild_recover(const Config *c)
{
	RebuildNote note;
	CopyFile copy = {.rebuilding = true};

	rebuild_note_read(c, &note);
	if (!rebuild_note_is_open(&note) || !pg_file_exists(c->data_directory))
		return true;
	copy.id = note.copy;
	if (copy.id == 0) /* a damaged note: whatever it was, it is not complete */
	{
		CopyFile old;

		copy.id = read_copy(c, &old) && old.id != 0 ? old.id : 1;
	}
	return copy_file_write(c->data_directory, &copy);
}
