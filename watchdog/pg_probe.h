/*
 * pg_probe.h
 *		Does PostgreSQL accept, answer and write?  Does the disk of its WAL?
 *
 * A probe makes a new connection each time, as a client would (a postmaster that hangs still has
 * old backends that answer).  On a primary it writes WAL and waits for the local flush, never for a
 * standby (synchronous_commit = local).  At the same time a thread writes and fsyncs a small file
 * beside the WAL, as the owner of the data directory.  Both have to end within the time limit.
 */
#ifndef TANDEM_PG_PROBE_H
#define TANDEM_PG_PROBE_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "config.h"

typedef struct PgProbe PgProbe;

typedef struct PgProbeResult
{
	bool answered;
	bool not_yet;     /* PostgreSQL answered "cannot connect now" (57P03) */
	bool full;        /* the WAL's disk has no room: PostgreSQL still runs, but not for long */
	const char *text; /* why not answered, or what else is wrong; empty: nothing */
	int64_t took;     /* us */
} PgProbeResult;

typedef void (*PgProbeDone)(void *user, const PgProbeResult *result);

extern int
pg_probe_new(PgProbe **p, const Config *c, sd_event *event, PgProbeDone done, void *user);
extern void pg_probe_free(PgProbe *p);
/* Does nothing while one is under way.  write: it is a primary. */
extern void pg_probe_start(PgProbe *p, bool write);
extern bool pg_probe_runs(const PgProbe *p);
/* PostgreSQL has died: forget the one under way. */
extern void pg_probe_stop(PgProbe *p);
/* Run a statement instead (kept by the caller until it is done), without the file and with a time
 * limit (us) of its own; answered says whether it succeeded. */
extern void pg_probe_query(PgProbe *p, const char *statement, int64_t limit);

#endif /* TANDEM_PG_PROBE_H */
