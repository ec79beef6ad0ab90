/*-------------------------------------------------------------------------
 *
 * rcvwal.c
 *	  Received WAL: write it, flush it, show it to recovery up to the bound.
 *
 * What XLogWalRcvWrite(), XLogWalRcvFlush() and XLogWalRcvClose() do in core's
 * walreceiver.c, with two differences.  Recovery is shown only what the
 * primary itself has flushed (the bound): WAL beyond it may be lost by the
 * primary, and what was replayed cannot be taken back.  And a segment is
 * handed to the archiver only when the bound has passed it.
 *
 *-------------------------------------------------------------------------
 */
#include "receiver.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogarchive.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/ps_status.h"

#define OVERLAPS   32  /* flushes that met no other, before none is expected any more */
#define OVERLAP_US 400 /* a shorter flush is not worth two wake-ups (measured) */

ReceivedWal rcvwal;

static int segment_fd = -1;
static XLogSegNo segment_no;
static int segment_sync;       /* how it was opened to be flushed: sync_now() */
static XLogSegNo archive_next; /* first segment not handed to the archiver */
static int overlaps;           /* for how many more flushes it is expected that they overlap */
static long flush_us;          /* what one takes: note_flush() */

/*
 * Begin to receive timeline 'timeline' at 'start'.  The bound starts there
 * too.
 */
void
rcvwal_begin(TimeLineID timeline, XLogRecPtr start)
{
	rcvwal_close();
	rcvwal.timeline = timeline;
	rcvwal.written = rcvwal.begun = rcvwal.durable = rcvwal.bound = start;
	rcvwal.end = Max(start, rcvtail_left(timeline));
	XLByteToSeg(start, archive_next, wal_segment_size);
}

/*
 * Go on after core has streamed up to 'flushed'.  What we hold beyond that is
 * still there.
 */
void
rcvwal_continue(XLogRecPtr flushed)
{
	rcvwal_close();
	rcvwal.written = rcvwal.begun = rcvwal.durable = Max(rcvwal.durable, flushed);
	rcvwal.bound = Max(rcvwal.bound, flushed);
	rcvwal.end = Max(rcvwal.end, rcvwal.durable);
	XLByteToSeg(flushed, archive_next, wal_segment_size);
}

/*
 * Who is going to stream cannot say what became of the WAL beyond the bound:
 * do not tell it that it is here.  It stays where it is: it may have been
 * acknowledged, and a promotion must find it.
 */
void
rcvwal_forget_tail(void)
{
	rcvwal_settle();
	rcvwal.written = rcvwal.begun = rcvwal.durable = Min(rcvwal.durable, rcvwal.bound);
}

/* Close the segment that is open.  What was written to it stays unflushed. */
void
rcvwal_close(void)
{
	rcvwal_settle();
	rcvflush_close();
	if (segment_fd >= 0 && close(segment_fd) != 0)
		ereport(PANIC, (errcode_for_file_access(), errmsg("could not close a WAL segment: %m")));
	segment_fd = -1;
}

/* How WAL is made durable: wal_sync_method, or -1: with fsync off, not at all. */
static int
sync_now(void)
{
	return enableFsync ? sync_method : -1;
}

/*
 * Open, or make, the segment of 'lsn'.  XLogFileInit() throws when the disk
 * is full; that must end the link and not the walreceiver, because without a
 * walreceiver recovery would read beyond the bound.  It holds no lock when it
 * throws and leaves no file, so it can be caught.
 */
static bool
open_segment(XLogRecPtr lsn, char *error, size_t error_size)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool opened = true;

	XLByteToSeg(lsn, segment_no, wal_segment_size);
	segment_sync = sync_now();
	PG_TRY();
	{
		segment_fd = XLogFileInit(segment_no, rcvwal.timeline);
	}
	PG_CATCH();
	{
		ErrorData *caught;

		MemoryContextSwitchTo(context);
		LWLockReleaseAll();
		pgstat_report_wait_end();
		caught = CopyErrorData();
		FlushErrorState();
		strlcpy(error, caught->message, error_size);
		FreeErrorData(caught);
		segment_fd = -1;
		opened = false;
	}
	PG_END_TRY();
	return opened;
}

/* Tell the archiver about segments that the primary has flushed as well. */
static void
archive_completed(void)
{
	XLogSegNo bound_no;

	XLByteToSeg(Min(rcvwal.durable, rcvwal.bound), bound_no, wal_segment_size);
	for (; archive_next < bound_no; archive_next++)
	{
		char name[MAXFNAMELEN];

		XLogFileName(name, rcvwal.timeline, archive_next, wal_segment_size);
		if (XLogArchiveMode != ARCHIVE_MODE_ALWAYS)
			XLogArchiveForceDone(name);
		else
			XLogArchiveNotify(name);
	}
}

/*
 * Write 'data', a frame's, which follows what is written already.  False with a
 * message when the disk does not take it.  Part of it may be there then, but does
 * not count: recovery must not see where a write has ended within a page (see
 * frame_length() in sender.c).
 */
bool
rcvwal_write(XLogRecPtr start, const uint8_t *data, size_t length, char *error, size_t error_size)
{
	while (length > 0)
	{
		uint32 offset = XLogSegmentOffset(start, wal_segment_size);
		size_t part = Min(length, (size_t) wal_segment_size - offset);
		ssize_t n;

		if (segment_fd >= 0 && !XLByteInSeg(start, segment_no, wal_segment_size))
		{
			rcvwal.written = start; /* the end of a page */
			rcvwal_flush();         /* or it would have to be opened again for it */
			rcvwal_close();
		}
		if (segment_fd < 0 && !open_segment(start, error, error_size))
			return false;

		errno = 0;
		n = pg_pwrite(segment_fd, data, part, offset);
		if (n <= 0)
		{
			if (errno == EINTR)
				continue;
			/* if write didn't set errno, assume no disk space */
			if (errno == 0)
				errno = ENOSPC;
			snprintf(error, error_size, "could not write WAL at %X/%X: %s", LSN_FORMAT_ARGS(start),
					 strerror(errno));
			return false;
		}
		start += n;
		rcvwal.end = Max(rcvwal.end, start);
		data += n;
		length -= n;
		rcvwal.bytes += n;
	}
	rcvwal.written = start;
	pg_atomic_write_u64(&WalRcv->writtenUpto, rcvwal.written);
	return true;
}

/*
 * Could the next bytes be written now?  For a retry after a full disk: writes
 * what is there once more.  A walreceiver that has been restarted begins with
 * its segment, so that may be WAL that was acknowledged long ago.
 */
bool
rcvwal_has_room(char *error, size_t error_size)
{
	PGAlignedXLogBlock there = {{0}};
	uint32 offset = XLogSegmentOffset(rcvwal.written, wal_segment_size);
	size_t part = XLOG_BLCKSZ - offset % XLOG_BLCKSZ;

	rcvwal_close();
	if (!open_segment(rcvwal.written, error, error_size))
		return false;
	errno = 0;
	if (pg_pread(segment_fd, there.data, part, offset) >= 0 &&
		pg_pwrite(segment_fd, there.data, part, offset) == (ssize_t) part)
		return true;
	/* if write didn't set errno, assume no disk space */
	if (errno == 0)
		errno = ENOSPC;
	snprintf(error, error_size, "could not write WAL at %X/%X: %s", LSN_FORMAT_ARGS(rcvwal.written),
			 strerror(errno));
	return false;
}

/*
 * Make durable what is written, which is all in the segment that is open, and
 * wait for it.  PANIC if that fails, as everywhere in core.
 */
void
rcvwal_flush(void)
{
	rcvwal_settle();
	if (rcvwal.durable == rcvwal.written || segment_fd < 0)
		return;
	if (segment_sync == sync_now())
		issue_xlog_fsync(segment_fd, segment_no, rcvwal.timeline);
	else
	{
		/* as assign_xlog_sync_method(): some methods need another way to open */
		if (pg_fsync(segment_fd) != 0)
			ereport(PANIC,
					(errcode_for_file_access(), errmsg("could not fsync a WAL segment: %m")));
		rcvwal_close();
	}
	rcvwal.begun = rcvwal.durable = rcvwal.written;
}

/* Could this segment be flushed by a flusher? */
static bool
can_overlap(void)
{
	return segment_fd >= 0 && segment_sync == sync_now() &&
		   (segment_sync == SYNC_METHOD_FSYNC || segment_sync == SYNC_METHOD_FDATASYNC);
}

/*
 * A flush took so long.  What the disk needs is kept in flush_us: rather the
 * short ones, the others have waited for a CPU or for each other.
 */
static void
note_flush(long took_us)
{
	flush_us += (took_us - flush_us) / (took_us < flush_us ? 2 : 16);
	rcvwal.flushes++;
}

/*
 * Make durable what is written, or begin to: while WAL comes so quickly that
 * flushes would follow one another without a pause, they overlap.  'at_once':
 * it was there already when the last flush ended.  True if it is durable now;
 * else rcvwal_flush_ended() tells.
 */
bool
rcvwal_flush_begin(bool at_once)
{
	TimestampTz before;

	if (at_once || rcvflush_under_way() > 0)
		overlaps = OVERLAPS;
	else if (overlaps > 0)
		overlaps--;
	if (overlaps > 0 && flush_us >= OVERLAP_US && can_overlap() &&
		rcvflush_begin(rcvwal.timeline, segment_no, rcvwal.written,
					   segment_sync == SYNC_METHOD_FDATASYNC))
	{
		rcvwal.begun = rcvwal.written;
		return false;
	}
	if (rcvflush_under_way() > 0)
		return false; /* it is time again when one has ended */
	before = GetCurrentTimestamp();
	rcvwal_flush();
	note_flush(GetCurrentTimestamp() - before);
	return true;
}

/* Have flushes ended?  Then more is durable. */
bool
rcvwal_flush_ended(void)
{
	bool any = false;
	long took_us;

	while (rcvflush_ended(&rcvwal.durable, &took_us))
	{
		note_flush(took_us);
		any = true;
	}
	return any;
}

/* Wait for the flushes that are under way. */
void
rcvwal_settle(void)
{
	while (rcvflush_under_way() > 0)
	{
		rcvflush_wait();
		(void) rcvwal_flush_ended();
	}
}

/* Show recovery, and standbys of ours, what they may have. */
void
rcvwal_publish(void)
{
	XLogRecPtr upto = Min(rcvwal.durable, rcvwal.bound);
	bool moved = false;

	SpinLockAcquire(&WalRcv->mutex);
	if (WalRcv->flushedUpto < upto)
	{
		WalRcv->latestChunkStart = WalRcv->flushedUpto;
		WalRcv->flushedUpto = upto;
		WalRcv->receivedTLI = rcvwal.timeline;
		moved = true;
	}
	SpinLockRelease(&WalRcv->mutex);
	if (!moved)
		return;
	WakeupRecovery();
	if (AllowCascadeReplication())
		TandemWakeCascade();
	archive_completed();
	if (update_process_title)
	{
		char title[50];

		snprintf(title, sizeof(title), "streaming %X/%X", LSN_FORMAT_ARGS(rcvwal.written));
		set_ps_display(title);
	}
}

/* ------------------------------------------------------------- a lost tail */

/*
 * Open a segment if it exists and starts with a page of the WAL it is named
 * for: one that was made in advance or recycled holds nothing of a lost tail.
 * -1 if not; ERROR if that cannot be found out.
 */
static int
open_received(TimeLineID timeline, XLogSegNo segno, char *path)
{
	XLogPageHeaderData header;
	XLogRecPtr start;
	int fd;

	XLogFilePath(path, timeline, segno, wal_segment_size);
	fd = OpenTransientFile(path, O_RDWR | PG_BINARY);
	if (fd < 0)
	{
		if (errno == ENOENT)
			return -1;
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	}
	XLogSegNoOffsetToRecPtr(segno, 0, wal_segment_size, start);
	if (pg_pread(fd, &header, sizeof(header), 0) == sizeof(header) &&
		header.xlp_magic == XLOG_PAGE_MAGIC && header.xlp_pageaddr == start)
		return fd;
	CloseTransientFile(fd);
	return -1;
}

/*
 * Zero a segment from 'offset' on and flush it.  True if there was anything
 * else there.  ERROR if that fails.
 */
static bool
zero_segment(int fd, const char *path, uint32 offset)
{
	static const PGAlignedXLogBlock zeroes;
	PGAlignedXLogBlock there;
	bool found = false;

	while (offset < (uint32) wal_segment_size)
	{
		size_t part = XLOG_BLCKSZ - offset % XLOG_BLCKSZ;

		if (pg_pread(fd, there.data, part, offset) == (ssize_t) part &&
			memcmp(there.data, zeroes.data, part) == 0)
		{
			offset += part;
			continue;
		}
		found = true;
		if (pg_pwrite(fd, zeroes.data, part, offset) != (ssize_t) part)
			ereport(ERROR, (errcode_for_file_access(),
							errmsg("could not write to file \"%s\": %m", path)));
		offset += part;
	}
	if (pg_fsync(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not fsync file \"%s\": %m", path)));
	return found;
}

/*
 * The primary has lost everything from 'from' on, or forked off there: zero
 * what is here of it, durably.  Overwriting it later would not do: records
 * that are left behind can chain onto the new ones, and a promotion would
 * replay them.  The caller has made sure that nothing beyond has been
 * replayed.  ERROR if it cannot be done; nothing may be acknowledged then.
 *
 * The last segment goes first, so that after a crash in between the tail is
 * still found from its beginning.
 */
void
rcvwal_discard(TimeLineID timeline, XLogRecPtr from)
{
	char path[MAXPGPATH];
	XLogSegNo first;
	XLogSegNo segno;
	bool found = false;
	int fd;

	rcvwal_flush();
	rcvwal_close();
	XLByteToSeg(from, first, wal_segment_size);
	for (segno = first; (fd = open_received(timeline, segno, path)) >= 0; segno++)
		CloseTransientFile(fd);
	while (segno-- > first)
	{
		fd = open_received(timeline, segno, path);
		if (fd < 0)
			continue;
		found |=
			zero_segment(fd, path, segno == first ? XLogSegmentOffset(from, wal_segment_size) : 0);
		CloseTransientFile(fd);
	}
	if (found && rcvwal.timeline == timeline && rcvwal.end > from)
		tandem_event("node", tandem_node_name,
					 "discarded received WAL of timeline %u from %X/%X (received up to %X/%X): the "
					 "primary does not have it",
					 timeline, LSN_FORMAT_ARGS(from), LSN_FORMAT_ARGS(rcvwal.end));

	if (rcvwal.timeline == timeline)
	{
		rcvwal.written = Min(rcvwal.written, from);
		rcvwal.begun = rcvwal.durable = Min(rcvwal.durable, from);
		rcvwal.bound = Min(rcvwal.bound, from);
		rcvwal.end = Min(rcvwal.end, from);
		SpinLockAcquire(&WalRcv->mutex);
		if (WalRcv->flushedUpto > from)
			WalRcv->flushedUpto = from;
		SpinLockRelease(&WalRcv->mutex);
	}
}
