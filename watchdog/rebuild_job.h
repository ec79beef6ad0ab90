/*
 * rebuild_job.h
 *		The steps of a rewind or seed that block: each is run by a task (task.h).
 *
 * They work with copies, because the thread may outlive whoever started it.  Each function takes a
 * RebuildJob and returns 0 or negative errno; "failed" then says what could not be done.
 */
#ifndef TANDEM_REBUILD_JOB_H
#define TANDEM_REBUILD_JOB_H

#include "follow.h"
#include "rebuild_files.h"

typedef struct RebuildJob
{
	Config config;
	RebuildNote note;
	Follow follow;
	uint64_t from; /* WAL from here on is discarded */
	char *history; /* the primary's; for a seed */
	int segments;
	char kept_in[CONFIG_PATH_SIZE * 2];
	const char *failed; /* what could not be done */
	bool clean_old;
	bool clean_seed;
} RebuildJob;


extern void rebuild_free_job(void *data);
/* Before pg_basebackup: an empty tandem_seed in each place, and the note. */
extern int rebuild_prepare(void *data);
/* After it: keep what will be lost, swap, finish. */
extern int rebuild_arrange(void *data);
/* Remove what a seed has left. */
extern int rebuild_clean_up(void *data);
/* Before pg_rewind touches anything, and after it has ended well. */
extern int rebuild_keep_for_rewind(void *data);
extern int rebuild_finish_rewind(void *data);

#endif /* TANDEM_REBUILD_JOB_H */
