/*
 * postgres.h
 *		This node's PostgreSQL: start, stop, kill, promote, follow, rebuild, and what it is.
 *
 * Nothing here blocks: programs run as children in a process group of their own, with a time
 * limit; their end comes through the event loop (pidfd).  The postmaster's death is seen by pidfd
 * at once, whoever started it.  A report to the owner says what is known now; the owner (manager.c)
 * gives it to the decision core.
 *
 * "Down" means: every process of this data directory is dead, the postmaster's orphans too
 * (rule 14).  They are found by the unit's cgroup, or where there is none by their current
 * directory (/proc/PID/cwd is the data directory).
 */
#ifndef TANDEM_POSTGRES_H
#define TANDEM_POSTGRES_H

#include <systemd/sd-event.h>

#include "config.h"
#include "report.h"

typedef struct Postgres Postgres;

typedef struct PostgresCallbacks
{
	/* Something that postgres_look() shows has changed, or a probe was answered. */
	void (*changed)(void *user);
	/* A rewind or seed ended. */
	void (*rebuilt)(void *user, bool ok, const char *error);
	/* For log and events; kind is one of start, stop, promote, follow, rewind, seed, probe. */
	void (*told)(void *user, const char *kind, const char *text);
} PostgresCallbacks;

/* What is known now. */
typedef struct PostgresLook
{
	FsmPgState state;    /* DOWN only when nothing of it lives; BROKEN: says why in text */
	pid_t postmaster;    /* 0: none */
	bool answered;       /* the last probe was answered in time */
	int64_t answered_at; /* CLOCK_BOOTTIME us */
	bool hung;     /* worked, no primary (now): no answer, nothing done for twice probe_timeout */
	bool full;     /* the last probe found no room on the disk of the WAL */
	bool reported; /* report is of the present postmaster and not older than 1 s */
	WatchReport report; /* the extension's last */
	const char *text;   /* why broken, or what the last program said; never NULL */
	/* a program that runs: seed or rewind */
	const char *busy; /* NULL: none */
	int percent;      /* -1 unknown */
	uint64_t bytes;   /* done so far */
	int64_t rate;     /* bytes a second */
	int64_t left;     /* us, -1 unknown */
} PostgresLook;

extern int postgres_new(Postgres **p, const Config *c, sd_event *event, const PostgresCallbacks *cb,
						void *user);
/* tandemd ends: children of ours that must not go on are killed, PostgreSQL is left alone. */
extern void postgres_free(Postgres *p);
extern const PostgresLook *postgres_look(Postgres *p);

/* Each is asked for again by the decision core until its effect is seen; a second call while the
 * first is under way does nothing. */

/* FSM_A_PG_RUN_PRIMARY: start without standby.signal and/or promote, if the lease file allows it
 * for this term (gate_may_start) at the moment of starting and again before promoting. */
extern void postgres_run_primary(Postgres *p, uint64_t term, uint64_t inc);
/* FSM_A_PG_RUN_STANDBY: standby.signal, primary_conninfo and primary_slot_name for that node
 * (FSM_NOBODY: none yet); start, or reload if it runs. */
extern void postgres_run_standby(Postgres *p, int node);
/* FSM_A_PG_KILL: SIGKILL to all of it; again every 100 ms until nothing is left. */
extern void postgres_kill(Postgres *p);
/* FSM_A_PG_STOP: fast shutdown. */
extern void postgres_stop(Postgres *p);
/* FSM_A_REBUILD: pg_rewind where possible, else a new seed; copy_id and "rebuilding" are durable
 * already, and are written into the data directory again at the end.  What WAL is discarded is
 * kept in <state_directory>/discarded/<date>-<node>/ and named in the log. */
extern void postgres_rebuild(Postgres *p, int from, uint64_t copy_id, bool seed);

/* A command for the gate (FSM_A_GATE); lost if the extension is not connected (asked again). */
extern void postgres_gate(Postgres *p, const WatchCommand *command);

#endif /* TANDEM_POSTGRES_H */
