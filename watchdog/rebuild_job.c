/*
 * rebuild_job.c
 *		See rebuild_job.h.
 */
#include "rebuild_job.h"

#include "pg_file.h"
#include "report.h"
#include "rights.h"

#include <errno.h>
#include <stdlib.h>

void
rebuild_free_job(void *data)
{
	RebuildJob *job = data;

	free(job->history);
	free(job);
}

static int
failed(RebuildJob *job, const char *what, int result)
{
	if (result < 0 && job->failed == NULL)
		job->failed = what;
	return result;
}

/* The node's configuration and the WAL it will lose, once for each new copy. */
static int
keep(RebuildJob *job, uint64_t from)
{
	int r = 0;

	if (!job->note.saved)
	{
		r = failed(job, "save the configuration files", rebuild_save_configuration(&job->config));
		job->note.saved = r == 0;
	}
	if (r == 0 && !job->note.kept && from != UINT64_MAX)
	{
		r = failed(job, "keep the WAL that will be discarded in the state directory",
				   rebuild_keep_wal(&job->config, from, &job->segments, job->kept_in));
		job->note.kept = r == 0;
	}
	return r;
}

/* Of the primary's host. */
static int
remove_boot_id(const char *directory)
{
	char path[PG_FILE_PATH];
	RIGHTS_OF_DATABASE;

	return pg_file_join(path, directory, "pg_tandem/boot_id") ? pg_file_remove(path)
															  : -ENAMETOOLONG;
}

/* Make the data directory that of a standby of the primary again. */
static int
configure(RebuildJob *job, const char *directory)
{
	int r = failed(job, "restore the configuration files",
				   rebuild_restore_configuration(&job->config, directory));

	if (r == 0)
		r = failed(job, "write postgresql.auto.conf", follow_write(&job->follow, directory));
	if (r >= 0)
		r = failed(job, "write standby.signal", follow_signal(directory));
	if (r == 0)
		r = failed(job, "remove boot_id", remove_boot_id(directory));
	return r;
}

static int
write_copy(RebuildJob *job)
{
	const CopyFile copy = {.id = job->note.copy, .rebuilding = true};

	return copy_file_write(job->config.data_directory, &copy)
			   ? 0
			   : failed(job, "write pg_tandem/copy", -errno);
}

/* The last step of both. From here on only the decision core's own write is missing. */
static int
complete(RebuildJob *job)
{
	int r;

	job->note.phase = REBUILD_DONE;
	r = failed(job, "write the note in the state directory",
			   rebuild_note_write(&job->config, &job->note));
	if (r == 0)
		(void) rebuild_forget_configuration(&job->config);
	return r;
}

/* ---------- a seed ---------- */

/* The primary tells where its tablespaces are: it must not have directories made anywhere. */
static int
make_directory(const char *path)
{
	RIGHTS_OF_DATABASE;

	return pg_file_make_directory(path);
}

/* In the thread: an empty tandem_seed in each place, and the note. */
int
rebuild_prepare(void *data)
{
	RebuildJob *job = data;
	const char *directory = job->config.data_directory;
	int r = 0;

	if (!pg_file_exists(directory))
		r = failed(job, "make the data directory", make_directory(directory));
	if (r == 0)
		r = write_copy(job);
	if (r == 0)
		r = failed(job, "write the note in the state directory",
				   rebuild_note_write(&job->config, &job->note));
	if (r == 0)
		r = failed(job, "remove what an earlier seed has left",
				   rebuild_clean(&job->note, true, true));
	for (int i = 1; r == 0 && i < job->note.nplaces; i++)
		r = failed(job, "make the directory of a tablespace", make_directory(job->note.place[i]));
	return r;
}

/* In the thread: the base backup is complete and durable. */
int
rebuild_arrange(void *data)
{
	RebuildJob *job = data;
	char seed[PG_FILE_PATH];
	int r = 0;

	if (job->note.phase == REBUILD_BEGUN || job->note.phase == REBUILD_REWIND)
	{
		char *mine = rebuild_history(job->config.data_directory);
		char *theirs;

		if (!pg_file_join(seed, job->config.data_directory, REBUILD_SEED))
			return -ENAMETOOLONG;
		theirs = rebuild_history(seed);
		/* after a rewind that was cut, the history here is the primary's, or none */
		job->from = job->note.kept                   ? UINT64_MAX
					: mine != NULL && theirs != NULL ? rebuild_divergence(mine, theirs)
													 : 0;
		free(mine);
		free(theirs);
		r = keep(job, job->from);
		if (r == 0)
			r = configure(job, seed);
		job->note.phase = REBUILD_OUT;
		if (r == 0)
			r = failed(job, "write the note in the state directory",
					   rebuild_note_write(&job->config, &job->note));
	}
	if (r == 0)
		r = failed(job, "put the new copy into the place of the old one",
				   rebuild_swap(&job->config, &job->note));
	return r == 0 ? complete(job) : r;
}

int
rebuild_clean_up(void *data)
{
	RebuildJob *job = data;

	return rebuild_clean(&job->note, job->clean_old, job->clean_seed);
}

/* ---------- a rewind ---------- */

/* In the thread: before pg_rewind touches anything. */
int
rebuild_keep_for_rewind(void *data)
{
	RebuildJob *job = data;
	int r = keep(job, job->from);

	job->note.phase = REBUILD_REWIND;
	if (r == 0)
		r = failed(job, "write the note in the state directory",
				   rebuild_note_write(&job->config, &job->note));
	return r;
}

/* In the thread: pg_rewind has ended well. */
int
rebuild_finish_rewind(void *data)
{
	RebuildJob *job = data;
	int r = configure(job, job->config.data_directory);

	if (r == 0)
		r = write_copy(job);
	return r == 0 ? complete(job) : r;
}
