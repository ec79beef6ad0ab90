/*
 * rebuild_files.h
 *		What a rewind or seed does with files: the note of what is under way, the node's own
 *		configuration, the WAL that will be discarded.
 *
 * All of it blocks: call it from a task.  Functions return 0 or negative errno.
 */
#ifndef TANDEM_REBUILD_FILES_H
#define TANDEM_REBUILD_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "config.h"

#define REBUILD_MAX_PLACES 16
#define REBUILD_SEED       "tandem_seed" /* in each place: the new copy, until it is complete */
#define REBUILD_OLD        "tandem_old"  /* in each place: the old copy, until it is removed */

/* How far it has got.  Each phase can be begun again from its beginning. */
typedef enum RebuildPhase
{
	REBUILD_NONE,
	REBUILD_BEGUN,  /* nothing of the old copy has been touched */
	REBUILD_REWIND, /* pg_rewind has been started: only a seed makes it whole again */
	REBUILD_OUT,    /* the new copy is complete; the old one is being moved aside */
	REBUILD_IN,     /* the old one is aside; the new one is being moved in */
	REBUILD_DONE    /* whole; only the decision core may not know it yet */
} RebuildPhase;

/*
 * <state_directory>/<node>.rebuild: a rewind or seed is not complete.  It stands outside the data
 * directory because both programs bring the primary's files, its copy id among them.  Once it is
 * complete the note stays and says so: nobody shall begin the same one again because tandemd ended
 * in that moment.
 */
typedef struct RebuildNote
{
	RebuildPhase phase;
	uint64_t copy;
	bool saved; /* the node's own configuration files are in <node>.saved */
	bool kept;  /* the WAL that will be discarded has been kept */
	/* Directories that a seed fills: the data directory, then WAL and tablespaces elsewhere. */
	int nplaces;
	char place[REBUILD_MAX_PLACES][CONFIG_PATH_SIZE];
} RebuildNote;

/* REBUILD_NONE if there is none; a damaged one reads as REBUILD_REWIND. */
extern void rebuild_note_read(const Config *c, RebuildNote *note);
extern int rebuild_note_write(const Config *c, const RebuildNote *note);
extern int rebuild_note_remove(const Config *c);
extern bool rebuild_note_is_open(const RebuildNote *note);

/* Save the configuration files of the data directory (they are a node's own), and put them into
 * another one or back. */
extern int rebuild_save_configuration(const Config *c);
extern int rebuild_restore_configuration(const Config *c, const char *directory);
extern int rebuild_forget_configuration(const Config *c);

/* LSN from which the histories of incarnations of two nodes are not the same (rule 15), as texts of
 * the file pg_tandem/incarnations.  0: nothing is common; UINT64_MAX: they do not part. */
extern uint64_t rebuild_divergence(const char *mine, const char *theirs);
/* Of a data directory; NULL if it has none.  The caller frees it. */
extern char *rebuild_history(const char *directory);

/*
 * Copy the segments of pg_wal that hold WAL from this LSN on to
 * <state_directory>/discarded/<date>-<node>; *segments is their number, 0 if there are none, and
 * "directory" says where.  -ENOSPC if there is no room.
 */
extern int rebuild_keep_wal(const Config *c, uint64_t from, int *segments,
							char directory[CONFIG_PATH_SIZE * 2]);

/* What pg_control says, so far as it is needed. */
typedef struct RebuildControl
{
	bool clean;        /* shut down, as a primary or in recovery */
	uint32_t timeline; /* of the latest checkpoint */
} RebuildControl;

extern int rebuild_control(const char *directory, RebuildControl *control);

/* Move the old copy aside and the new one in, in all places; resumes where the note says.  When it
 * returns 0 the new copy is in place and durable, with copy id and "rebuilding" as the note has
 * them. */
extern int rebuild_swap(const Config *c, RebuildNote *note);
/* Remove what a swap, or a seed that was cut, has left in the places. */
extern int rebuild_clean(const RebuildNote *note, bool old, bool seed);
/* Is there something left to be cleaned in the places of the data directory as it is now?  They are
 * put into the note. */
extern bool rebuild_leftovers(const Config *c, RebuildNote *note);

#endif /* TANDEM_REBUILD_FILES_H */
