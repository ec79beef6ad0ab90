/*
 * postgres_internal.h
 *		What the files of the room "postgres" share: postgres.c sees and tells, postgres_run.c does.
 */
#ifndef TANDEM_POSTGRES_INTERNAL_H
#define TANDEM_POSTGRES_INTERNAL_H

#include "lease_file.h"
#include "pg_probe.h"
#include "pg_process.h"
#include "pg_unit.h"
#include "postgres.h"
#include "program.h"
#include "rebuild.h"
#include "task.h"
#include "watch.h"

/* us: a start that ends within that ended at once; what a unit takes to say so is in it */
#define POSTGRES_QUICK_LIMIT 5000000

/* What was asked for last.  It is over when it is reached, or has failed: the decision core asks
 * again. */
typedef enum PgGoal
{
	GOAL_NONE,
	GOAL_PRIMARY,
	GOAL_STANDBY,
	GOAL_STOP,
	GOAL_KILL,
	GOAL_REBUILD
} PgGoal;

typedef enum PgStart
{
	START_NONE,
	START_PREPARE, /* files are being written: nothing runs yet */
	START_WAIT,    /* they are durable; systemd has not noticed yet that the one before is dead */
	START_RUN      /* a process may appear at any moment */
} PgStart;

/* Rebuild wants a clean shutdown (rebuild.h). */
typedef enum PgClean
{
	CLEAN_NONE,
	CLEAN_START,
	CLEAN_STOP
} PgClean;

struct Postgres
{
	const Config *config;
	sd_event *event;
	PostgresCallbacks cb;
	void *user;
	PostgresLook look;
	struct /* what the owner was told last */
	{
		FsmPgState state;
		pid_t postmaster;
		bool reported;
	} told;
	sd_event_source *timer;
	int64_t now; /* of the event being handled */

	/* the processes */
	PgPlace place;
	pid_t pid; /* of the postmaster; 0: none is known */
	int pidfd;
	sd_event_source *death;
	bool nothing_lives;         /* looked at since the last death or start */
	bool single;                /* a single-user server runs */
	int64_t scan_at;            /* look again */
	uint64_t orphans_not_after; /* those that were started by then belong to a dead postmaster */
	bool mine;                  /* started by tandemd */

	/* the life of this postmaster */
	int64_t found_at;
	int64_t recovered_at; /* first report as primary or standby; 0: none yet */
	bool works;           /* has been recovered and has answered, or its file says so */
	uint64_t work;        /* see pg_processes_work */
	int64_t work_at;      /* when it was measured */
	int64_t progress_at;  /* when there was some last */
	bool signalled;       /* asked to stop */
	int64_t signalled_at;
	bool mute_told; /* the extension does not report: said */

	/* the extension */
	Watch *watch;
	bool has_report; /* of this postmaster, and its worker is connected */
	bool has_role;   /* it has reported: look.report is of this postmaster */
	int64_t report_at;

	/* probes */
	PgProbe *probe;
	int64_t probe_at; /* the next one */
	bool silent;      /* told: does not answer */
	PgProbe *query;
	int64_t slots_at; /* the next look at the slots */
	bool slots_told;
	char *slots_primary; /* statements */
	char *slots_standby;

	/* what was asked for */
	PgGoal goal;
	uint64_t term;
	int node;
	int64_t asked_at;
	PgStart start;
	int64_t start_at;
	bool start_standby;
	bool unit_done;
	bool unit_quick; /* and that within POSTGRES_QUICK_LIMIT */
	Task *task;
	Program *server;
	int quick_ends; /* starts in a row that ended at once */
	PgUnit *unit;
	int64_t promoted_at; /* the last signal to promote */
	int64_t follow_at;   /* not before: it failed */
	const LeaseFile *lease;

	/* rewind and seed */
	Rebuild *rebuild;
	PgClean clean;
	int64_t rebuild_at; /* not before */
	int from;
	uint64_t copy;
	bool seed;
	int percent_told;
	int64_t progress_told;

	const char *broken; /* NULL: it can be started */
	char text[700];
};

/* postgres.c */
extern void postgres_told(Postgres *p, const char *kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* look.text, until something else is said. */
extern void
postgres_say(Postgres *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Look again at once. */
extern void postgres_wake(Postgres *p);
/* Is every process dead, and none on its way? */
extern bool postgres_is_down(const Postgres *p);
/* Is this what the present postmaster reported last? */
extern bool postgres_has_role(const Postgres *p, WatchRole role);
/* SIGKILL to everything that lives now. */
extern void postgres_kill_all(Postgres *p);

/* postgres_run.c */
extern int postgres_run_new(Postgres *p);
extern void postgres_run_free(Postgres *p);
/* Go on towards the goal. */
extern void postgres_advance(Postgres *p);
/* A postmaster has been found; all of it is dead. */
extern void postgres_found(Postgres *p);
extern void postgres_died(Postgres *p);
/* The postmaster died on the way to the goal: it is asked for again, and so counted. */
extern void postgres_goal_failed(Postgres *p);
/* A start has ended at once: the goal stays, and it is tried again, unless it was the second time in a
 * row (false). */
extern bool postgres_tries_again(Postgres *p);
/* The slots of the other nodes. */
extern void postgres_slots(Postgres *p);
extern bool postgres_run_busy(const Postgres *p);

#endif /* TANDEM_POSTGRES_INTERNAL_H */
