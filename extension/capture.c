/*-------------------------------------------------------------------------
 *
 * capture.c
 *	  Learning that there is WAL to send.
 *
 * At write: PostgreSQL writes WAL with pwrite() and then flushes it.  In the
 * postmaster, before any child is forked, the main program's entry for
 * pwrite() is replaced by ours (got.c).  Ours calls the real one, recognises
 * a WAL page, publishes how far WAL has been written, and wakes the link
 * workers, which send while the writing session is still inside fdatasync().
 * It runs inside a critical section: it never throws, allocates or locks, and
 * leaves errno alone.
 *
 * What has been written is a hint.  XLogWrite() writes whole pages, and the
 * last one may hold records that are still being copied; the walk (walk.c)
 * tells up to where all is final.  It is shared by all link workers, under
 * its own lock.  It needs a position where a record begins: the gate worker
 * makes one by writing a no-op record, whose end it is.
 *
 * At flush: the local flush LSN, of which the link workers learn by the
 * wake-up that core gives its own walsenders.  So it is where the entry for
 * pwrite() cannot be found, where wal_sync_method makes the write itself
 * durable, where it is asked for, and while there is no walk.
 *
 * In either case WAL is sent up to the local flush LSN or the walk's end,
 * whichever is further, by the same code.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "access/rmgr.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "got.h"

#define WALK_BUFFER (256 * 1024)
#define WALK_BEHIND (1024 * 1024) /* a walk this far behind is begun anew */

typedef ssize_t (*PwriteFunction)(int fd, const void *buf, size_t length, off_t offset);

static PwriteFunction real_pwrite = NULL;
static bool installed = false;
static char not_installed[128] = "the library was not preloaded";

/* ------------------------------------------------------- the replacement */

/*
 * WAL pages have been written up to 'end'; 'whole' tells whether all that was
 * to be written was.
 */
static void
publish(XLogRecPtr end, bool whole)
{
	TandemCapture *capture = &tandem->capture;
	uint64 written = pg_atomic_read_u64(&capture->written);

	while (written < end && !pg_atomic_compare_exchange_u64(&capture->written, &written, end))
		;
	if (!whole)
		pg_atomic_fetch_add_u64(&capture->short_writes, 1);

	/* also when 'end' is not new: the page written again holds more records */
	pg_atomic_fetch_add_u64(&capture->writes, 1);
	for (int i = 0; i < tandem_max_links; i++)
	{
		Latch *latch = tandem->links[i].latch;

		if (latch != NULL)
			SetLatch(latch);
	}
}

static ssize_t
pwrite_and_tell(int fd, const void *buf, size_t length, off_t offset)
{
	ssize_t done = real_pwrite(fd, buf, length, offset);
	const XLogPageHeaderData *header = buf;

	if (done > 0 && length >= XLOG_BLCKSZ && length % XLOG_BLCKSZ == 0 &&
		offset % XLOG_BLCKSZ == 0 && tandem != NULL &&
		pg_atomic_read_u32(&tandem->capture.at_write) != 0 &&
		header->xlp_magic == XLOG_PAGE_MAGIC && header->xlp_tli == tandem->capture.timeline &&
		XLogSegmentOffset(header->xlp_pageaddr, wal_segment_size) == (uint64) offset)
	{
		int save_errno = errno;

		publish(header->xlp_pageaddr + done - done % XLOG_BLCKSZ, (size_t) done == length);
		errno = save_errno;
	}
	return done;
}

/*
 * Replace pwrite().  Postmaster only, while preloading.
 */
void
capture_install(void)
{
	int replaced;
	int replaced64;

	real_pwrite = (PwriteFunction) got_real("pwrite");
	if (real_pwrite == NULL)
	{
		strlcpy(not_installed, "the C library's pwrite() was not found", sizeof(not_installed));
		return;
	}
	replaced = got_replace("pwrite", pwrite_and_tell);
	replaced64 = got_replace("pwrite64", pwrite_and_tell);
	/* a program is built to call one of the two; with 64 bits they are the same */
	if (replaced64 > 0)
		real_pwrite = (PwriteFunction) got_real("pwrite64");
	if (replaced < 0 || replaced64 < 0)
		snprintf(not_installed, sizeof(not_installed),
				 "the server's entry for pwrite() could not be changed: %s", strerror(errno));
	else if (replaced + replaced64 == 0)
		strlcpy(not_installed, "the server's entry for pwrite() was not found",
				sizeof(not_installed));
	else
		installed = true;
}

/* ---------------------------------------------------------- at write or not */

/* May WAL be captured at write here and now?  If not, *why. */
static bool
possible(const char **why)
{
	if (tandem_capture_at == TANDEM_CAPTURE_FLUSH)
		*why = "tandem.capture is flush";
	else if (!installed)
		*why = not_installed;
	else if (sync_method != SYNC_METHOD_FDATASYNC && sync_method != SYNC_METHOD_FSYNC)
		*why = "wal_sync_method is neither fdatasync nor fsync";
	else
		return true;
	return false;
}

/* Where WAL is captured, and why there.  Any process of a primary. */
const char *
capture_point(const char **why)
{
	if (!possible(why))
		return "flush";
	if (pg_atomic_read_u32(&tandem->capture.at_write) == 0)
	{
		*why = "the walk over new WAL has not begun";
		return "flush";
	}
	*why = "WAL is sent as it is written";
	return "write";
}

bool
capture_is_at_write(void)
{
	return pg_atomic_read_u32(&tandem->capture.at_write) != 0;
}

static ssize_t
read_for_walk(void *arg, XLogRecPtr from, char *buf, size_t length)
{
	return walfile_read(arg, tandem->capture.timeline, from, buf, length) ? (ssize_t) length : -1;
}

/* Walk on as far as 'limit'.  Walk lock held. */
static WalkStop
walk_on(XLogRecPtr limit)
{
	static WalFile file = {.fd = -1};
	static char *buffer = NULL;
	WalkReader reader = {.read = read_for_walk, .arg = &file, .bufsize = WALK_BUFFER};
	WalkStop stop;

	if (buffer == NULL)
		buffer = MemoryContextAlloc(TopMemoryContext, WALK_BUFFER);
	reader.buf = buffer;
	stop = WalkAdvance(&tandem->capture.walk, &reader, limit);
	if (stop == WALK_CHANGED)
		pg_atomic_fetch_add_u64(&tandem->capture.changes, 1);
	return stop;
}

/*
 * A walk is given up: look once more at what it has reported last, which is
 * flushed by now, because nobody will later.  Gate worker only.
 */
static void
finish_walk(void)
{
	TandemCapture *capture = &tandem->capture;
	XLogRecPtr boundary;

	LWLockAcquire(tandem->walk_lock, LW_SHARED);
	boundary = capture->walk.boundary;
	LWLockRelease(tandem->walk_lock);
	if (boundary == InvalidXLogRecPtr)
		return;
	XLogFlush(boundary);
	LWLockAcquire(tandem->walk_lock, LW_EXCLUSIVE);
	if (capture->walk.boundary != InvalidXLogRecPtr && capture->walk.stop != WALK_CHANGED)
		(void) walk_on(capture->walk.boundary + XLOG_BLCKSZ);
	memset(&capture->walk, 0, sizeof(capture->walk));
	LWLockRelease(tandem->walk_lock);
}

/*
 * Begin the walk at a position known to be the end of a record: that of one
 * written here.
 */
static void
begin_walk(void)
{
	TandemCapture *capture = &tandem->capture;
	int nothing = 0;
	XLogRecPtr end;

	hostcrash_remember_boot();

	XLogBeginInsert();
	XLogRegisterData((char *) &nothing, sizeof(nothing));
	end = XLogInsert(RM_XLOG_ID, XLOG_NOOP);
	XLogFlush(end);

	LWLockAcquire(tandem->walk_lock, LW_EXCLUSIVE);
	(void) GetFlushRecPtr(&capture->timeline);
	if (WalkInit(&capture->walk, end, InvalidXLogRecPtr, capture->timeline, wal_segment_size,
				 GetSystemIdentifier()))
	{
		pg_atomic_write_u64(&capture->walked, end);
		pg_atomic_write_u64(&capture->written, 0);
		pg_atomic_write_u32(&capture->at_write, 1);
	}
	LWLockRelease(tandem->walk_lock);
}

/*
 * Do what the settings ask for.  The gate worker calls this at its start, at
 * every reload, and when it is woken because a walk has ended.
 */
void
capture_decide(void)
{
	const char *why;
	bool at_write = pg_atomic_read_u32(&tandem->capture.at_write) != 0;
	bool restart = pg_atomic_exchange_u32(&tandem->capture.restart, 0) != 0;

	if (possible(&why) && at_write && !restart)
		return;
	pg_atomic_write_u32(&tandem->capture.at_write, 0);
	finish_walk();
	if (possible(&why))
		begin_walk();
}

/* ------------------------------------------------------------------ the walk */

/*
 * Walk over what has been written.  False if the walk has ended: WAL is then
 * captured at flush until the gate worker has begun another one.  Takes the
 * walk lock.
 */
static bool
advance_walk(XLogRecPtr flushed)
{
	TandemCapture *capture = &tandem->capture;
	WalkStop stop;
	XLogRecPtr boundary;
	bool good;

	LWLockAcquire(tandem->walk_lock, LW_EXCLUSIVE);
	if (!capture_is_at_write())
	{
		/* given up in the meantime */
		LWLockRelease(tandem->walk_lock);
		return false;
	}
	stop = walk_on(pg_atomic_read_u64(&capture->written));
	boundary = capture->walk.boundary;
	good = stop != WALK_CHANGED && !WalkIsStuck(&capture->walk, flushed);
	if (good)
		pg_atomic_write_u64(&capture->walked, boundary);
	else
	{
		pg_atomic_write_u32(&capture->at_write, 0);
		pg_atomic_fetch_add_u64(&capture->walks_ended, 1);
	}
	LWLockRelease(tandem->walk_lock);
	if (!good)
	{
		tandem_event("node", tandem_node_name, "the walk over new WAL ended at %X/%X: %s",
					 LSN_FORMAT_ARGS(boundary), WalkStopName(stop));
		gate_wake();
	}
	return good;
}

static uint64 changes_at_begin;

/* A link worker begins to send to a standby. */
void
capture_begin_session(void)
{
	changes_at_begin = pg_atomic_read_u64(&tandem->capture.changes);
}

/*
 * How far WAL may be sent, and in *flushed how far it may be replayed (the
 * bound): the local flush LSN, read before the walk looks once more at what
 * it has reported.  False if that has changed since this session began: then
 * the standby may have been sent bytes that are not the primary's, and its
 * link must end.
 */
bool
capture_sendable(XLogRecPtr *sendable, XLogRecPtr *flushed)
{
	static uint64 writes_walked = 0;
	static XLogRecPtr flushed_walked = InvalidXLogRecPtr;
	TandemCapture *capture = &tandem->capture;
	uint64 writes;

	*flushed = GetFlushRecPtr(NULL);
	*sendable = *flushed;
	if (capture_is_at_write())
	{
		XLogRecPtr walked = pg_atomic_read_u64(&capture->walked);

		if (*flushed > walked + WALK_BEHIND)
		{
			/* nobody has walked for a while: begin again at the end */
			if (pg_atomic_exchange_u32(&capture->restart, 1) == 0)
				gate_wake();
			return true;
		}
		writes = pg_atomic_read_u64(&capture->writes);
		if (writes != writes_walked || *flushed != flushed_walked)
		{
			writes_walked = writes;
			flushed_walked = *flushed;
			if (advance_walk(*flushed))
				*sendable = Max(*flushed, pg_atomic_read_u64(&capture->walked));
		}
		else
			*sendable = Max(*flushed, walked);
	}
	return pg_atomic_read_u64(&capture->changes) == changes_at_begin;
}

/* ------------------------------------------------- how long before the flush */

/* The largest value that bucket 'i' stands for, us. */
static TimeOffset
bucket_value(int i)
{
	TimeOffset power = (TimeOffset) 1 << (i / 4);

	return power + power * (i % 4 + 1) / 4;
}

/* WAL was sent 'lead' microseconds before its local flush was noticed. */
void
capture_note_lead(TimeOffset lead)
{
	int i = 0;

	while (i < TANDEM_LEAD_BUCKETS - 1 && bucket_value(i) < lead)
		i++;
	pg_atomic_fetch_add_u64(&tandem->capture.lead[i], 1);
}

/* The given quantile (0 to 1) of those samples, us; -1 if there are none. */
TimeOffset
capture_lead(double quantile)
{
	uint64 count = 0;
	uint64 passed = 0;

	for (int i = 0; i < TANDEM_LEAD_BUCKETS; i++)
		count += pg_atomic_read_u64(&tandem->capture.lead[i]);
	if (count == 0)
		return -1;
	for (int i = 0; i < TANDEM_LEAD_BUCKETS; i++)
	{
		passed += pg_atomic_read_u64(&tandem->capture.lead[i]);
		if (passed >= quantile * count)
			return bucket_value(i);
	}
	return bucket_value(TANDEM_LEAD_BUCKETS - 1);
}
