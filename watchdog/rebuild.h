/*
 * rebuild.h
 *		Rejoin: pg_rewind where it is possible and safe, else a new seed (SAFETY rule 16).
 *
 * When it begins PostgreSQL is down, and copy id and "rebuilding" are durable.  A cut at any point
 * leaves a note outside the data directory (rebuild_files.h), with which the next attempt goes on
 * where that is right and seeds anew where it is not; PostgreSQL is not started meanwhile.
 *
 * A seed is written beside the old copy, which is removed only when the new one is in its place.
 * If there is no room for both, nothing is touched and the attempt fails: whoever wants to give up
 * the old copy removes it.
 */
#ifndef TANDEM_REBUILD_H
#define TANDEM_REBUILD_H

#include <systemd/sd-event.h>

#include "config.h"

typedef struct Rebuild Rebuild;

typedef struct RebuildCallbacks
{
	/* pg_rewind wants a data directory that was shut down: start it as a standby of nobody, stop
	 * it, then call rebuild_cleaned(). */
	void (*make_clean)(void *user);
	void (*ended)(void *user, bool ok, const char *error);
	/* For log and events; kind is rewind or seed. */
	void (*told)(void *user, const char *kind, const char *text);
} RebuildCallbacks;

typedef struct RebuildProgress
{
	const char *busy; /* "rewind", "seed"; NULL: nothing runs */
	int percent;      /* -1 unknown */
	uint64_t bytes;
	int64_t rate; /* bytes a second */
	int64_t left; /* us, -1 unknown */
} RebuildProgress;

extern int
rebuild_new(Rebuild **r, const Config *c, sd_event *event, const RebuildCallbacks *cb, void *user);
/* Programs of ours are killed; what they have done is noted. */
extern void rebuild_free(Rebuild *r);
/* Does nothing while one is under way.  False if it cannot begin yet, because a program of an
 * earlier tandemd is still at work in the data directory. */
extern bool rebuild_start(Rebuild *r, int from, uint64_t copy, bool seed);
extern void rebuild_cleaned(Rebuild *r, bool ok, const char *text);
extern bool rebuild_runs(const Rebuild *r);
extern void rebuild_progress(const Rebuild *r, RebuildProgress *progress);

/* A rewind or seed was cut and is not complete: the data directory must not be started.  Blocks
 * shortly. */
extern bool rebuild_is_pending(const Config *c);
/* Before the voter's state is read: where a rewind or seed was cut, say so in pg_tandem/copy again.
 * The program may have replaced that file by the primary's.  Blocks; false with errno set. */
extern bool rebuild_recover(const Config *c);

#endif /* TANDEM_REBUILD_H */
