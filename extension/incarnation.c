/*-------------------------------------------------------------------------
 *
 * incarnation.c
 *	  The history of primaries that wrote this data directory's WAL.
 *
 * A standby may hold WAL that a primary lost when its host crashed before the
 * flush.  To notice that, every start of a primary is an incarnation {term,
 * incarnation, timeline, start, nonce}, where 'start' is the LSN at which its
 * own WAL begins: the end of recovery, or the end of the shutdown checkpoint
 * after a clean stop.  The nonce is random: a directory that is set back to an
 * earlier copy, with its history, and started again is another incarnation.
 * Two nodes compare their whole histories: what one
 * holds beyond the smallest start after the common part may not be what the
 * other holds (SAFETY.md rule 15; comparing only the last entries loses
 * commits).
 *
 * The history is a text file in the data directory, written aside, flushed,
 * renamed, and its directory flushed.  pg_basebackup copies it, so a new
 * standby starts with its primary's history.  A data directory without the
 * file has only ever streamed by core, which never sends what is not flushed.
 *
 * The term grows when the timeline does, that is with every promotion.  With
 * tandem.lease_required it is the lease's, and may also grow in place.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"

#include "watchdog/lease_file.h"
#include "watchdog/link_rule.h"

#define HISTORY_FORMAT "pg_tandem incarnations, format "
#define HISTORY_HEADER HISTORY_FORMAT "1\n"
#define LINE_FORMAT    UINT64_FORMAT " %u %u %X/%X %016" INT64_MODIFIER "x\n"
#define LINE_SIZE      100
#define FILE_SIZE      (sizeof(HISTORY_HEADER) + LINE_SIZE * (LINK_MAX_HISTORY + 1))

/* ------------------------------------------------------------------ file */

static uint32
text_crc(const char *text, size_t length)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, text, length);
	FIN_CRC32C(crc);
	return crc;
}

static void history_is_damaged(const char *what) pg_attribute_noreturn();

static void
history_is_damaged(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("file \"%s\" is damaged: %s", TANDEM_HISTORY_FILE, what),
			 errhint("On a standby, seed it again. On a primary, remove the file and seed all its "
					 "standbys again.")));
}

/*
 * Read the history; count 0 if there is no file.  ERROR if it cannot be read
 * or is damaged: guessing here could discard acknowledged commits.
 */
void
incarnation_load(LinkHistory *history)
{
	char *text = palloc(FILE_SIZE);
	char *at;
	char *last;
	unsigned int crc = 0;
	ssize_t length;
	int fd;

	history->count = 0;
	fd = OpenTransientFile(TANDEM_HISTORY_FILE, O_RDONLY | PG_BINARY);
	if (fd < 0)
	{
		if (errno == ENOENT)
		{
			pfree(text);
			return;
		}
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not open file \"%s\": %m", TANDEM_HISTORY_FILE)));
	}
	length = read(fd, text, FILE_SIZE - 1);
	if (length < 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not read file \"%s\": %m", TANDEM_HISTORY_FILE)));
	text[length] = '\0';
	CloseTransientFile(fd);

	if (strncmp(text, HISTORY_HEADER, strlen(HISTORY_HEADER)) != 0)
	{
		if (strncmp(text, HISTORY_FORMAT, strlen(HISTORY_FORMAT)) == 0)
			ereport(
				ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("file \"%s\" has a format that this version of pg_tandem does not know",
						TANDEM_HISTORY_FILE),
				 errhint("Install the version of pg_tandem that has written it, or a later one.")));
		history_is_damaged("its first line is not known");
	}
	last = strstr(text, "crc ");
	if (last == NULL || sscanf(last, "crc %8X\n", &crc) != 1)
		history_is_damaged("its last line is missing");
	if (crc != text_crc(text, last - text))
		history_is_damaged("its checksum does not match");
	for (at = text + strlen(HISTORY_HEADER); at < last; at = strchr(at, '\n') + 1)
	{
		LinkIncarnation *entry = &history->entry[history->count];
		uint32 hi = 0;
		uint32 lo = 0;
		unsigned long long term = 0;
		unsigned long long nonce = 0;

		if (history->count == LINK_MAX_HISTORY ||
			sscanf(at, "%llu %u %u %X/%X %llx\n", &term, &entry->incarnation, &entry->timeline, &hi,
				   &lo, &nonce) != 6)
			history_is_damaged("a line is not understood");
		entry->term = term;
		entry->start = ((uint64) hi) << 32 | lo;
		entry->nonce = nonce;
		history->count++;
	}
	pfree(text);
}

/*
 * Make 'history' the one in the data directory, durably: when this returns it
 * is there after any crash.  ERROR if that fails; the old one is then intact.
 */
void
incarnation_store(const LinkHistory *history)
{
	const char *temporary = TANDEM_HISTORY_FILE ".tmp";
	char *text = palloc(FILE_SIZE);
	size_t length;
	int fd;

	length = snprintf(text, FILE_SIZE, "%s", HISTORY_HEADER);
	for (int i = 0; i < history->count; i++)
		length += snprintf(text + length, FILE_SIZE - length, LINE_FORMAT, history->entry[i].term,
						   history->entry[i].incarnation, history->entry[i].timeline,
						   LSN_FORMAT_ARGS(history->entry[i].start), history->entry[i].nonce);
	length += snprintf(text + length, FILE_SIZE - length, "crc %08X\n", text_crc(text, length));

	if (MakePGDirectory(TANDEM_DIRECTORY) != 0)
	{
		if (errno != EEXIST)
			ereport(ERROR, (errcode_for_file_access(),
							errmsg("could not create directory \"%s\": %m", TANDEM_DIRECTORY)));
	}
	else
		fsync_fname(".", true);

	fd = OpenTransientFile(temporary, O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not create file \"%s\": %m", temporary)));
	errno = 0;
	if (write(fd, text, length) != (ssize_t) length)
	{
		/* if write didn't set errno, assume no disk space */
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not write to file \"%s\": %m", temporary)));
	}
	if (pg_fsync(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not fsync file \"%s\": %m", temporary)));
	if (CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not close file \"%s\": %m", temporary)));
	(void) durable_rename(temporary, TANDEM_HISTORY_FILE, ERROR);
	pfree(text);
}

/* ------------------------------------------------------- start of a primary */

/*
 * The LSN just behind a record of 'length' bytes that starts at 'record', which
 * is not the beginning of a page.
 */
XLogRecPtr
incarnation_end_of_record(XLogRecPtr record, uint32 length)
{
	uint32 left = length;
	XLogRecPtr at = record;

	for (;;)
	{
		uint32 room = XLOG_BLCKSZ - at % XLOG_BLCKSZ;

		if (left <= room)
			return at + left;
		left -= room;
		at += room;
		at += XLogSegmentOffset(at, wal_segment_size) == 0 ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
	}
}

/*
 * The LSN just behind a shutdown checkpoint record that starts at 'record'.
 * The record holds a CheckPoint and no blocks, so its length is known.
 */
static XLogRecPtr
end_of_checkpoint(XLogRecPtr record)
{
	return incarnation_end_of_record(
		record, MAXALIGN(SizeOfXLogRecord + SizeOfXLogRecordDataHeaderShort + sizeof(CheckPoint)));
}

/*
 * Remember whether this start follows a clean stop.  Postmaster only, while
 * shared memory is made, that is before the startup process changes the
 * control file.
 */
void
incarnation_note_clean_stop(void)
{
	bool crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	tandem->clean_start = 0;
	if (crc_ok && control->state == DB_SHUTDOWNED)
		tandem->clean_start = end_of_checkpoint(control->checkPoint);
	pfree(control);
}

/* Make room for one more entry; nodes that share none of the rest must be seeded. */
static void
drop_oldest(LinkHistory *history)
{
	if (history->count < LINK_MAX_HISTORY)
		return;
	history->count = LINK_MAX_HISTORY / 2;
	memmove(history->entry, history->entry + LINK_MAX_HISTORY - history->count,
			history->count * sizeof(LinkIncarnation));
}

/* Add 'now', with a nonce, durably, and let offers be made. */
static void
add_incarnation(LinkHistory *history, LinkIncarnation *now)
{
	if (!pg_strong_random(&now->nonce, sizeof(now->nonce)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random number")));
	history->entry[history->count++] = *now;
	incarnation_store(history);

	LWLockAcquire(tandem->history_lock, LW_EXCLUSIVE);
	tandem->history = *history;
	tandem->history_ready = true;
	LWLockRelease(tandem->history_lock);
}

/*
 * The term of a primary that starts now, after 'last'.  Under a lease it is
 * the lease's, and without a valid one it stays: the gate is then shut.
 */
static uint64
term_of_start(const LinkIncarnation *last, TimeLineID tli)
{
	GateCell cell;
	int64 now = lease_file_now();

	if (!tandem_lease_required)
		return last->term + (last->timeline != tli ? 1 : 0);
	(void) lease_read(&cell, now, true);
	return gate_may_start(&cell, cell.term, now) ? cell.term : last->term;
}

/*
 * This server is a primary now: add its incarnation, durably, and let offers
 * be made.  Gate worker only; does nothing when it has been done in this life
 * of shared memory.  ERROR if the history cannot be stored; no standby can
 * connect until it is.
 */
void
incarnation_begin(void)
{
	LinkHistory *history;
	LinkIncarnation now = {.term = 1, .incarnation = 1};
	XLogRecPtr replayed = GetXLogReplayRecPtr(NULL);
	TimeLineID tli;

	if (incarnation_ready())
		return;

	(void) GetFlushRecPtr(&tli);
	history = palloc(sizeof(LinkHistory));
	incarnation_load(history);
	drop_oldest(history);
	if (history->count == 0)
	{
		const LinkIncarnation none = {.term = 1, .timeline = tli};

		now.term = term_of_start(&none, tli);
	}
	else
	{
		const LinkIncarnation *last = &history->entry[history->count - 1];

		now.term = term_of_start(last, tli);
		/* under a lease it never starts again: tandemd counts it, too */
		now.incarnation = now.term == last->term || tandem_lease_required ? last->incarnation + 1
																		  : 1;
	}
	now.timeline = tli;
	now.start = replayed != 0 ? replayed : tandem->clean_start;
	add_incarnation(history, &now);
	tandem_event("node", tandem_node_name,
				 "primary of term " UINT64_FORMAT ", incarnation %u, timeline %u, from %X/%X",
				 now.term, now.incarnation, now.timeline, LSN_FORMAT_ARGS(now.start));
	pfree(history);
}

/*
 * The term is about to change in place: no offers until it has.  Links that
 * are open are the caller's to end.
 */
void
incarnation_suspend(void)
{
	LWLockAcquire(tandem->history_lock, LW_EXCLUSIVE);
	tandem->history_ready = false;
	LWLockRelease(tandem->history_lock);
}

/* The change was given up: offers again. */
void
incarnation_resume(void)
{
	LWLockAcquire(tandem->history_lock, LW_EXCLUSIVE);
	tandem->history_ready = tandem->history.count > 0;
	LWLockRelease(tandem->history_lock);
}

/*
 * This primary goes on in a higher term, without a new start of PostgreSQL
 * (SAFETY.md rule 6).  No link is open, and nothing beyond 'start' has been
 * sent to anybody.  Durable when it returns the number of the incarnation, at
 * least the one asked for; ERROR if it cannot be stored.
 */
uint64
incarnation_reterm(uint64 term, uint64 incarnation, XLogRecPtr start)
{
	LinkHistory *history = palloc(sizeof(LinkHistory));
	LinkIncarnation now = {.term = term, .start = start};

	incarnation_load(history);
	drop_oldest(history);
	now.incarnation = Max(incarnation, history->entry[history->count - 1].incarnation + 1);
	(void) GetFlushRecPtr(&now.timeline);
	add_incarnation(history, &now);
	tandem_event("node", tandem_node_name,
				 "goes on as primary of term " UINT64_FORMAT ", incarnation %u, from %X/%X", term,
				 now.incarnation, LSN_FORMAT_ARGS(start));
	pfree(history);
	return now.incarnation;
}

/* Has incarnation_begin() been done?  Any process. */
bool
incarnation_ready(void)
{
	bool ready;

	LWLockAcquire(tandem->history_lock, LW_SHARED);
	ready = tandem->history_ready;
	LWLockRelease(tandem->history_lock);
	return ready;
}

/* The history in shared memory (a primary's own, or what a standby adopted). */
void
incarnation_copy(LinkHistory *history)
{
	LWLockAcquire(tandem->history_lock, LW_SHARED);
	*history = tandem->history;
	LWLockRelease(tandem->history_lock);
}

/* Its last entry; all zero when there is none. */
void
incarnation_current(LinkIncarnation *current)
{
	LWLockAcquire(tandem->history_lock, LW_SHARED);
	if (tandem->history.count > 0)
		*current = tandem->history.entry[tandem->history.count - 1];
	else
		memset(current, 0, sizeof(*current));
	LWLockRelease(tandem->history_lock);
}

/* -------------------------------------------------------------- comparing */

bool
incarnation_equal(const LinkHistory *a, const LinkHistory *b)
{
	if (a->count != b->count)
		return false;
	for (int i = 0; i < a->count; i++)
	{
		if (!link_same_incarnation(&a->entry[i], &b->entry[i]))
			return false;
	}
	return true;
}

/*
 * CRC-32C over the switch points that led to timeline 'tli': two nodes that
 * were promoted apart from each other to the same timeline number differ.
 * Reads the history file; ERROR if it is damaged.
 */
uint32
incarnation_timeline_crc(TimeLineID tli)
{
	List *entries = readTimeLineHistory(tli);
	ListCell *cell;
	pg_crc32c crc;

	INIT_CRC32C(crc);
	foreach (cell, entries)
	{
		TimeLineHistoryEntry *entry = lfirst(cell);

		COMP_CRC32C(crc, &entry->tli, sizeof(entry->tli));
		COMP_CRC32C(crc, &entry->begin, sizeof(entry->begin));
	}
	FIN_CRC32C(crc);
	list_free_deep(entries);
	return crc;
}
