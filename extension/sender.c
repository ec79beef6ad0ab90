/*-------------------------------------------------------------------------
 *
 * sender.c
 *	  The link worker: sends WAL to one standby and takes its answers.
 *
 * A fixed number of workers (tandem.max_links) runs while the server is a
 * primary.  An idle one waits in accept.c; one that serves a standby does
 * nothing else, so a slow standby holds no other.
 *
 * The standby's own walsender idles meanwhile.  The worker borrows its entry
 * in WalSndCtl->walsnds[], so that pg_stat_replication tells what the link
 * does, and so that (up to PostgreSQL 15) core wakes the worker after a
 * flush.  It holds the slot that the standby names, and moves it.  The entry
 * belongs to the walsender's pid, which is checked at every use: when that
 * process is gone, so is the standby's authentication, and the link ends.
 *
 * Background workers are ended before the shutdown checkpoint is written,
 * walsenders after it.  So on SIGTERM the worker gives the slot back, sends
 * the standby back to its walsender, and leaves when that streams.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <signal.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define HANDOVER_MS    2000 /* for the standby to stream from its walsender */
#define LAZY_BOUND_MS  10   /* a bound without WAL may wait this long */
#define STALLED_MS     100  /* a look whether the gate moves again */
#define PING_MS        1000
#define WRITE_LEVEL_MS 1000
#define SAMPLE_EVERY   64

typedef struct Sender
{
	LinkConn *conn;
	TandemLink *link; /* NULL: nothing to give back */
	TandemOffer offer;
	LinkHello hello;
	uint16 hello_flags; /* of its frame: what compression the standby can take */
	WalSnd *entry;      /* the borrowed one, or NULL */
#if WALSND_HAS_LATCH
	Latch *entry_latch;
#endif
	TimeLineID timeline;
	uint64 term;
	XLogRecPtr sent;       /* WAL up to here has been given to the connection */
	XLogRecPtr bound_sent; /* the bound the standby has been told */
	XLogRecPtr sendable;
	WalFile file;
	LagTracker *lag;
	LinkAck ack; /* the last one */
	bool acked;  /* there was one */
	TimestampTz last_received;
	TimestampTz last_sent;
	TimestampTz last_ping;
	TimestampTz writes_seen;  /* when sessions last waited for remote_write */
	TimestampTz applies_seen; /* and for remote_apply */
	bool applies_told;        /* which the last frame told the standby */
	TimestampTz poll_until;   /* a write of WAL was cut short: look often */
	uint64 short_writes;
	uint64 early_frames;   /* frames sent before the local flush */
	XLogRecPtr sample_lsn; /* of one of them, or invalid: when is it flushed? */
	TimestampTz sample_time;
	TimestampTz handed_over; /* when the standby was sent back, or 0 */
	WaitEventSet *set;
	uint64 bytes_out_seen;
	bool open_again; /* for another compression */
} Sender;

static Sender sender = {.file = {.fd = -1}};

/* Wake the worker that serves a link, for instance to notice a pause. */
void
link_wake_worker(const TandemLink *link)
{
	PGPROC *proc = link->pid != 0 ? BackendPidGetProc(link->pid) : NULL;

	if (proc != NULL)
		SetLatch(&proc->procLatch);
}

/* ------------------------------------------------- the walsender's entry */

/*
 * Borrow the entry of the standby's walsender.  False if that is gone.
 */
static bool
borrow_entry(Sender *s)
{
	WalSnd *entry = &WalSndCtl->walsnds[s->offer.walsnd];

	SpinLockAcquire(&entry->mutex);
	if (entry->pid != s->offer.pid)
	{
		SpinLockRelease(&entry->mutex);
		return false;
	}
	entry->state = WALSNDSTATE_CATCHUP;
	entry->sentPtr = s->hello.start;
#if WALSND_HAS_LATCH
	s->entry_latch = entry->latch;
	entry->latch = MyLatch;
#endif
	SpinLockRelease(&entry->mutex);
	s->entry = entry;
	s->link->latch = MyLatch; /* from here on capture at write wakes us */
	return true;
}

#if WALSND_HAS_LATCH
/*
 * Core wakes who waits for a flush through the entry's latch.  At write there
 * is nothing to be done at a flush that could not wait a few milliseconds,
 * unless a session waits for its commit to be applied.
 */
static void
choose_wakeups(Sender *s, TimestampTz now)
{
	bool wanted = !capture_is_at_write() || s->sample_lsn != InvalidXLogRecPtr ||
				  !TimestampDifferenceExceeds(s->applies_seen, now, WRITE_LEVEL_MS);
	Latch *latch = wanted ? MyLatch : NULL;

	if (s->entry == NULL || s->entry->latch == latch)
		return;
	SpinLockAcquire(&s->entry->mutex);
	if (s->entry->pid == s->offer.pid)
		s->entry->latch = latch;
	SpinLockRelease(&s->entry->mutex);
}
#endif

static void
return_entry(Sender *s)
{
	WalSnd *entry = s->entry;

	if (entry == NULL)
		return;
	SpinLockAcquire(&entry->mutex);
	if (entry->pid == s->offer.pid)
	{
		entry->state = WALSNDSTATE_STARTUP;
#if WALSND_HAS_LATCH
		entry->latch = s->entry_latch;
#endif
	}
	SpinLockRelease(&entry->mutex);
	s->entry = NULL;
	offer_return(s->offer.id);
}

/*
 * Show in the entry where the link stands.  False if the walsender is gone.
 */
static bool
show_entry(Sender *s, TimestampTz reply_time, TimeOffset *lag)
{
	WalSnd *entry = s->entry;
	bool alive;

	SpinLockAcquire(&entry->mutex);
	alive = entry->pid == s->offer.pid;
	if (alive)
	{
		entry->sentPtr = s->sent;
		entry->state = s->link->state == TANDEM_LINK_STREAMING ? WALSNDSTATE_STREAMING
															   : WALSNDSTATE_CATCHUP;
		if (s->acked)
		{
			entry->write = s->ack.write;
			entry->flush = s->ack.flush;
			entry->apply = s->ack.apply;
		}
		if (reply_time != 0)
			entry->replyTime = reply_time;
		if (lag != NULL)
		{
			entry->writeLag = lag[SYNC_REP_WAIT_WRITE];
			entry->flushLag = lag[SYNC_REP_WAIT_FLUSH];
			entry->applyLag = lag[SYNC_REP_WAIT_APPLY];
		}
	}
	SpinLockRelease(&entry->mutex);
	return alive;
}

/* ------------------------------------------------------- state of the link */

static void
set_state(Sender *s, TandemLinkState state)
{
	TandemLink *link = s->link;

	if (link->state == state)
		return;
	SpinLockAcquire(&link->mutex);
	link->state = state;
	link->since = GetCurrentTimestamp();
	SpinLockRelease(&link->mutex);
	watchdog_wake();
}

/*
 * The link is over: give everything back.  Does nothing the second time; also
 * called when the process exits.
 */
static void
end_link(Sender *s, const char *why)
{
	TandemLink *link = s->link;
	char text[sizeof(link->last_error)];

	if (link != NULL)
		link->latch = NULL;
	priority_set(false);
	walfile_close(&s->file);
	return_entry(s);
	if (s->set != NULL)
		FreeWaitEventSet(s->set);
	s->set = NULL;
	link_conn_destroy(s->conn);
	sendring_end();
	s->conn = NULL;
	if (link == NULL)
		return;
	s->link = NULL;
	tandem_store_text(text, sizeof(text), why);
	SpinLockAcquire(&link->mutex);
	link->state = TANDEM_LINK_DOWN;
	link->since = GetCurrentTimestamp();
	strlcpy(link->last_error, text, sizeof(link->last_error));
	SpinLockRelease(&link->mutex);
	gate_link_changed(link, why);
	tandem_event("link", link->name, "down: %s", why);

	/* last, so that nobody takes the entry while it is being left */
	SpinLockAcquire(&link->mutex);
	link->pid = 0;
	SpinLockRelease(&link->mutex);
	watchdog_wake();
}

static void
worker_exit(pg_attribute_unused() int code, pg_attribute_unused() Datum arg)
{
	TandemReleaseLocks();
	end_link(&sender, "its worker exits");
}

/* ---------------------------------------------------------------- answers */

/*
 * The standby says how far it is.  False if that cannot be true: then the
 * session is worth nothing.
 */
static bool
take_ack(Sender *s, const LinkAck *ack, TimestampTz now)
{
	TandemLink *link = s->link;
	TimeOffset lag[NUM_SYNC_REP_WAIT_MODE];
	bool idle;

	if (ack->write > s->sent || (s->acked && ack->flush < s->ack.flush))
		return false;

	/* as core: forget the lags when everything is there and nothing moves */
	idle = s->acked && ack->apply >= s->sent && ack->flush >= s->sent &&
		   ack->flush == s->ack.flush && ack->apply == s->ack.apply;
	lag[SYNC_REP_WAIT_WRITE] = lag_reached(s->lag, SYNC_REP_WAIT_WRITE, ack->write, now);
	lag[SYNC_REP_WAIT_FLUSH] = lag_reached(s->lag, SYNC_REP_WAIT_FLUSH, ack->flush, now);
	lag[SYNC_REP_WAIT_APPLY] = lag_reached(s->lag, SYNC_REP_WAIT_APPLY, ack->apply, now);

	s->ack = *ack;
	s->acked = true;
	SpinLockAcquire(&link->mutex);
	link->written = ack->write;
	link->flushed = ack->flush;
	link->replayed = ack->apply;
	link->last_reply = now;
	if (lag[SYNC_REP_WAIT_WRITE] >= 0 || idle)
		link->write_lag = lag[SYNC_REP_WAIT_WRITE];
	if (lag[SYNC_REP_WAIT_FLUSH] >= 0 || idle)
		link->flush_lag = lag[SYNC_REP_WAIT_FLUSH];
	if (lag[SYNC_REP_WAIT_APPLY] >= 0 || idle)
		link->replay_lag = lag[SYNC_REP_WAIT_APPLY];
	if (ack->echo != 0)
		link->round_trip = now - ack->echo;
	lag[SYNC_REP_WAIT_WRITE] = link->write_lag;
	lag[SYNC_REP_WAIT_FLUSH] = link->flush_lag;
	lag[SYNC_REP_WAIT_APPLY] = link->replay_lag;
	SpinLockRelease(&link->mutex);

	if ((!link->async || link->named) && link->state != TANDEM_LINK_PAUSED && s->handed_over == 0)
		gate_answer(link, ack->write, ack->flush, ack->apply);
	if (s->entry != NULL)
		(void) show_entry(s, now, lag);
	slot_move(s->link, ack->flush, now);
	return true;
}

/*
 * RDMA is over, and TCP goes on where the standby's WAL ends.  NULL, or why
 * the link ends.
 */
static const char *
go_on_by_tcp(Sender *s)
{
	XLogRecPtr resume = s->conn->ring->resume;

	if (resume > s->sent || resume < s->hello.start || (s->acked && resume < s->ack.write))
		return "protocol violation: a position that cannot be true";
	s->sent = resume;
	s->sample_lsn = InvalidXLogRecPtr;
	lag_reset(s->lag);
	SpinLockAcquire(&s->link->mutex);
	s->link->sent = resume;
	SpinLockRelease(&s->link->mutex);
	return NULL;
}

/* The standby says something about RDMA, or without a frame: look after it. */
static const char *
look_at_ring(Sender *s, const LinkHeader *header, const uint8_t *payload, long *wait_ms)
{
	LinkHeader stamp = {.term = s->term, .lsn = s->sent, .bound = s->bound_sent};
	bool ended = false;
	const char *why;

	stamp.time = GetCurrentTimestamp();
	if (header != NULL)
		why = sendring_frame(s->conn, header, payload, &stamp, &ended);
	else
		why = sendring_step(s->conn, &stamp, &ended, wait_ms);
	return why == NULL && ended ? go_on_by_tcp(s) : why;
}

/*
 * Take one frame from the standby.  NULL, or why the link ends.
 */
static const char *
take_frame(Sender *s, const LinkHeader *header, const uint8_t *payload, TimestampTz now)
{
	LinkAck ack;
	LinkFeedback feedback;
	LinkNotice notice;

	s->last_received = now;
	if (header->term != s->term)
		return "protocol violation: a frame of another term";
	switch (header->type)
	{
		case LINK_ACK:
			if (!link_ack_decode(payload, header->length, &ack))
				return "protocol violation: malformed answer";
			if (!take_ack(s, &ack, now))
				return "protocol violation: an answer that cannot be true";
			return NULL;
		case LINK_FEEDBACK:
			if (!link_feedback_decode(payload, header->length, &feedback))
				return "protocol violation: malformed feedback";
			if (s->handed_over == 0)
				slot_feedback(&feedback);
			return NULL;
		case LINK_NOTICE:
			if (!link_notice_decode(payload, header->length, &notice))
				return "protocol violation: malformed notice";
			tandem_clean_text(notice.message);
			return psprintf("the standby closed it: %s", notice.message);
		default:
			if (link_switch_is_frame(header))
				return look_at_ring(s, header, payload, NULL);
			return "protocol violation: unexpected frame";
	}
}

/* Take everything that has come.  NULL, or why the link ends. */
static const char *
take_answers(Sender *s)
{
	do
	{
		LinkHeader header;
		const uint8_t *payload;
		LinkDecode decode;
		ssize_t n = link_fill(s->conn);

		if (n == LINK_IO_AGAIN)
			return NULL;
		if (n < 0)
			return link_conn_error(s->conn);
		while ((decode = link_next(s->conn, &header, &payload)) == LINK_DECODE_OK)
		{
			const char *why = take_frame(s, &header, payload, GetCurrentTimestamp());

			if (why != NULL)
				return why;
		}
		if (decode != LINK_DECODE_MORE)
			return psprintf("protocol violation: %s", link_decode_text(decode));
	} while (!s->conn->drained);
	return NULL;
}

/* ---------------------------------------------------------------- sending */

static LinkHeader
make_header(Sender *s, LinkFrameType type, XLogRecPtr bound, TimestampTz now)
{
	LinkHeader header = {.type = type};

	header.term = s->term;
	header.lsn = s->sent;
	header.bound = bound = gate_bound(s->link, bound);
	header.time = now;
	if (!TandemQueueIsEmpty(SYNC_REP_WAIT_WRITE))
		s->writes_seen = now;
	if (!TimestampDifferenceExceeds(s->writes_seen, now, WRITE_LEVEL_MS))
		header.flags |= LINK_FLAG_WRITES;
	if (!TandemQueueIsEmpty(SYNC_REP_WAIT_APPLY))
		s->applies_seen = now;
	s->applies_told = !TimestampDifferenceExceeds(s->applies_seen, now, WRITE_LEVEL_MS);
	if (s->applies_told)
		header.flags |= LINK_FLAG_APPLIES;
	s->bound_sent = bound;
	s->last_sent = now;
	return header;
}

/*
 * The next 'length' bytes are sent before all of them are flushed here.  For
 * one in SAMPLE_EVERY such frames find out how long before: choose_wakeups()
 * then has core wake us at the flush.
 */
static void
note_early(Sender *s, XLogRecPtr flushed, size_t length, TimestampTz now)
{
	XLogRecPtr end = s->sent + length;

	pg_atomic_fetch_add_u64(&tandem->capture.early_bytes, end - Max(s->sent, flushed));
	if (s->early_frames++ % SAMPLE_EVERY == 0)
	{
		s->sample_lsn = end;
		s->sample_time = now;
	}
}

/*
 * How much of the WAL that can be sent goes into the next frame, bytes.  Only
 * the last one may end within a page, which is where a record ends then.  The
 * standby may show recovery the WAL of each frame by itself, and recovery takes
 * it that all of a page is there when it finds on it the header of a record
 * that goes on on the next page (xlogreader.c, and XLogSendPhysical() about it).
 */
static size_t
frame_length(const Sender *s)
{
	XLogRecPtr end = s->sent + link_stream_max(s->conn);
	uint32 room = wal_segment_size - XLogSegmentOffset(s->sent, wal_segment_size);

	end = s->sendable <= end ? s->sendable : end - end % XLOG_BLCKSZ;
	return Min(end - s->sent, room);
}

/*
 * Put the next piece of WAL into the connection.  False with errno set if it
 * cannot be read (see walfile_read()); ERROR if its segment went while it was
 * read.
 */
static bool
send_wal(Sender *s, XLogRecPtr flushed, TimestampTz now)
{
	size_t length = frame_length(s);
	LinkHeader header;
	uint8_t *payload;
	XLogSegNo segno;

	payload = link_stream_begin(s->conn, length);
	Assert(payload != NULL); /* the buffer is empty, or the ring ready */
	if (!walfile_read(&s->file, s->timeline, s->sent, payload, length))
		return false;
	XLByteToSeg(s->sent, segno, wal_segment_size);
	CheckXLogRemoved(segno, s->timeline);
	pg_atomic_fetch_add_u64(&tandem->capture.reads, 1);
	pg_atomic_fetch_add_u64(&tandem->capture.bytes, length);

	header = make_header(s, LINK_WAL, flushed, now);
	if (!link_stream_end(s->conn, &header, length))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg_internal("%s", link_conn_error(s->conn))));
	if (s->sent + length > flushed)
		note_early(s, flushed, length, now);
	s->sent += length;
	lag_sent(s->lag, s->sent, now);
	return true;
}

static bool
send_bound(Sender *s, XLogRecPtr flushed, bool ping, TimestampTz now)
{
	LinkHeader header = make_header(s, LINK_BOUND, flushed, now);

	if (ping)
	{
		header.flags |= LINK_FLAG_REPLY;
		s->last_ping = now;
	}
	return link_stream_put(s->conn, &header);
}

/*
 * Does the bound have to go by itself?  It travels with every frame; alone it
 * may wait a little, unless a session waits for its commit to be applied.
 * *wait_ms is lowered to when it is time.
 */
static bool
bound_is_due(Sender *s, XLogRecPtr flushed, TimestampTz now, long *wait_ms)
{
	long waited;

	flushed = gate_bound(s->link, flushed);
	if (!TandemQueueIsEmpty(SYNC_REP_WAIT_APPLY))
	{
		s->applies_seen = now;
		if (!s->applies_told)
			return true;
	}
	if (flushed == s->bound_sent)
	{
		/* what was sent early is not flushed, or not released, yet: look again soon */
		if (s->bound_sent < s->sent || now < s->poll_until)
			*wait_ms = Min(*wait_ms, s->link->async && tandem->gate.state == TANDEM_GATE_STALLED
										 ? STALLED_MS
										 : LAZY_BOUND_MS);
		return false;
	}
	if (!TimestampDifferenceExceeds(s->applies_seen, now, WRITE_LEVEL_MS))
		return true;
	waited = TimestampDifferenceMilliseconds(s->last_sent, now);
	if (waited >= LAZY_BOUND_MS)
		return true;
	*wait_ms = Min(*wait_ms, LAZY_BOUND_MS - waited);
	return false;
}

/* What is sent changes the view now and then, not at every frame. */
static void
show_sent(Sender *s)
{
	TandemLink *link = s->link;

	SpinLockAcquire(&link->mutex);
	link->wal_bytes += s->sent - link->sent;
	link->sent = s->sent;
	link->wire_bytes += link_stream_bytes(s->conn) - s->bytes_out_seen;
	linkopts_count(s->conn, link);
	SpinLockRelease(&link->mutex);
	s->bytes_out_seen = link_stream_bytes(s->conn);
}

/*
 * WAL that the standby needs cannot be read, for 'error'.  Tell it, and say why
 * the link ends.  Only a segment that is not there is gone for good.
 */
static const char *
refuse_wal(Sender *s, int error)
{
	const char *why;

	if (error == ENOENT)
	{
		handshake_refuse(
			s->conn, LINK_REASON_WAL_REMOVED,
			psprintf("WAL at %X/%X has already been removed", LSN_FORMAT_ARGS(s->sent)),
			"Seed the standby again with pg_basebackup, and give it a "
			"replication slot.");
		return "the WAL it needs has already been removed";
	}
	why = psprintf("could not read WAL at %X/%X: %s", LSN_FORMAT_ARGS(s->sent),
				   error != 0 ? strerror(error) : "its segment is too short");
	handshake_refuse(s->conn, LINK_REASON_OTHER, why, "");
	return why;
}

/*
 * Send what can be sent without waiting.  NULL, or why the link ends;
 * *wait_ms is lowered to when this wants to be called again.
 */
static const char *
send_what_can_be_sent(Sender *s, long *wait_ms)
{
	XLogRecPtr before = s->sent;

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		XLogRecPtr flushed;
		XLogRecPtr sendable;
		int result = link_flush(s->conn);

		if (result < 0)
			return link_conn_error(s->conn);
		if (result == LINK_IO_AGAIN || s->handed_over != 0)
			break;

		if (!capture_sendable(&sendable, &flushed))
			return "WAL that was sent before the local flush has changed";
		if (s->sample_lsn != InvalidXLogRecPtr && flushed >= s->sample_lsn)
		{
			capture_note_lead(now - s->sample_time);
			s->sample_lsn = InvalidXLogRecPtr;
		}
		s->sendable = Max(sendable, s->sent);
		if (s->link->pause)
			set_state(s, TANDEM_LINK_PAUSED);
		else if (s->sent < s->sendable)
		{
			if (!link_stream_ready(s->conn))
				break;
			if (s->sent == before)
				pg_atomic_fetch_add_u64(&tandem->capture.wakeups, 1);
			if (!send_wal(s, flushed, now))
				return refuse_wal(s, errno);
			continue;
		}
		else
			set_state(s, TANDEM_LINK_STREAMING);

		if (TimestampDifferenceExceeds(s->last_ping, now, Min(PING_MS, tandem_link_timeout / 3)))
			(void) send_bound(s, flushed, true, now);
		else if (bound_is_due(s, flushed, now, wait_ms))
			(void) send_bound(s, flushed, false, now);
		else
			break;
	}
#if WALSND_HAS_LATCH
	choose_wakeups(s, GetCurrentTimestamp());
#endif
	if (s->sent != before)
	{
		show_sent(s);
		if (!show_entry(s, 0, NULL))
			return "its walsender has ended";
	}
	return NULL;
}

/* ------------------------------------------------------------ leaving well */

/*
 * This server is shutting down (or the worker was told to end): the standby
 * goes back to its walsender, which sends the rest, up to and including the
 * shutdown checkpoint.
 *
 * Core's walsender knows no bound: an asynchronous standby is not sent back
 * while there is WAL that the gate has not released.  It follows again when
 * there is a primary.  False then.
 */
static bool
hand_over(Sender *s)
{
	LinkHeader header;
	XLogRecPtr flushed = GetFlushRecPtr(NULL);

	if (gate_bound(s->link, flushed) < flushed)
		return false;
	slot_give_back();
	set_state(s, TANDEM_LINK_HANDING_OVER);
	return_entry(s);
	s->handed_over = GetCurrentTimestamp();
	header = make_header(s, LINK_HANDOVER, flushed, s->handed_over);
	(void) link_frame_put(s->conn, &header, NULL, 0);
	return true;
}

/* Does the standby stream from its walsender again (or never will)? */
static bool
walsender_streams(Sender *s)
{
	WalSnd *entry = &WalSndCtl->walsnds[s->offer.walsnd];
	bool done;

	SpinLockAcquire(&entry->mutex);
	done = entry->pid != s->offer.pid || entry->state == WALSNDSTATE_STREAMING;
	SpinLockRelease(&entry->mutex);
	return done;
}

/*
 * Stay until the standby streams from its walsender: if we left before, the
 * checkpointer would end the idle walsender, and the standby would miss the
 * shutdown checkpoint.
 */
static const char *
wait_for_walsender(Sender *s)
{
	while (!walsender_streams(s))
	{
		if (TimestampDifferenceExceeds(s->handed_over, GetCurrentTimestamp(), HANDOVER_MS))
			return "its standby did not go back to its walsender in time";
		(void) link_flush(s->conn);
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1, PG_WAIT_EXTENSION);
		CHECK_FOR_INTERRUPTS();
	}
	return "handed over to its walsender";
}

/* --------------------------------------------------------------- the stream */

static void
reload(Sender *s)
{
	bool async;

	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	async = tandem_is_async(s->link->name);
	if (async && !s->link->async)
		gate_link_changed(s->link, "made asynchronous");
	s->link->async = async;
	s->open_again = !linkopts_reload(s->conn, s->link, s->hello_flags);
	sendring_retry();
}

/* Housekeeping between two waits.  NULL, or why the link ends. */
static const char *
look_around(Sender *s)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64 short_writes = pg_atomic_read_u64(&tandem->capture.short_writes);

	/* the rest of a short write is not a whole page, and is not noticed */
	if (s->short_writes != short_writes)
	{
		s->short_writes = short_writes;
		s->poll_until = TimestampTzPlusMilliseconds(now, WRITE_LEVEL_MS);
	}

	exposure_look(now);
	priority_set(!s->link->async && s->link->state == TANDEM_LINK_STREAMING);
	if (s->open_again)
		return "it is opened again with another compression";
	if (s->link->superseded)
		return "its standby has connected again";
	if (pg_atomic_read_u32(&tandem->watchdog.reterm) != 0)
		return "the term of this primary changes";
	if (s->link->pause && s->link->in_sync)
		gate_link_changed(s->link, "paused by an operator");
	if (s->entry != NULL && !show_entry(s, 0, NULL))
		return "its walsender has ended";
	if (s->handed_over == 0 && s->acked)
		slot_move(s->link, s->ack.flush, now);
	backlog_check_own(s->link, now);
	if (TimestampDifferenceExceeds(s->last_received, now, tandem_link_timeout))
	{
		/*
		 * Nothing can be heard of the standby's host, so its idle walsender
		 * would sit in an entry until TCP gives up.
		 */
		if (s->entry != NULL)
			(void) kill(s->offer.pid, SIGTERM);
		return "nothing was heard from the standby for tandem.link_timeout";
	}
	return NULL;
}

/* Stream until the link ends.  Returns why it did. */
static const char *
stream(Sender *s)
{
	bool readable = true;

	for (;;)
	{
		long wait_ms = Max(Min(PING_MS, tandem_link_timeout / 3), 1);
		const char *why = NULL;
		WaitEvent events[2];
		int n;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload(s);
		if (ShutdownRequestPending && s->handed_over == 0 && !hand_over(s))
			return "this server is shutting down, and not all WAL has been released to an "
				   "asynchronous standby";

		if (readable)
			why = take_answers(s);
		if (why != NULL || (why = look_at_ring(s, NULL, NULL, &wait_ms)) != NULL ||
			(why = send_what_can_be_sent(s, &wait_ms)) != NULL || (why = look_around(s)) != NULL)
			return why;
		if (s->handed_over != 0)
			return wait_for_walsender(s);

		ModifyWaitEvent(
			s->set, 0,
			WL_SOCKET_READABLE | (link_conn_wants_write(s->conn) ? WL_SOCKET_WRITEABLE : 0), NULL);
		n = WaitEventSetWait(s->set, wait_ms, events, lengthof(events), PG_WAIT_EXTENSION);
		readable = false;
		for (int i = 0; i < n; i++)
			readable |= (events[i].events & WL_SOCKET_READABLE) != 0;
	}
}

/*
 * Serve one authenticated standby until its link ends, whatever the reason.
 */
static void
serve(Sender *s, const char *address)
{
	LinkIncarnation current;
	const char *why = NULL;
	uint16 flags;
	char title[NAMEDATALEN + 16];
	int ring_fd;

	s->link = handshake_primary(s->conn, &s->offer, address, &s->hello, &s->hello_flags);
	if (s->link == NULL)
	{
		offer_return(s->offer.id);
		end_link(s, "");
		return;
	}
	incarnation_current(&current);
	s->term = s->link->term = current.term; /* does not change while there is a link */
	s->timeline = s->hello.timeline;
	s->sent = s->hello.start;
	s->bound_sent = gate_bound(s->link, GetFlushRecPtr(NULL));
	s->open_again = false;
	s->acked = false;
	s->sample_lsn = InvalidXLogRecPtr;
	s->handed_over = 0;
	s->bytes_out_seen = s->conn->bytes_out;
	s->last_received = s->last_sent = s->last_ping = GetCurrentTimestamp();
	lag_reset(s->lag);

	if (!slot_take(s->hello.slot_name, &why))
		handshake_refuse(s->conn, LINK_REASON_SLOT, why,
						 "See primary_slot_name on the standby and pg_replication_slots here.");
	else if (!borrow_entry(s))
		why = "its walsender has ended";
	else if (!linkopts_begin(s->conn, s->link, s->hello_flags, &flags))
		why = "out of memory";
	else if (!handshake_welcome(s->conn, &s->hello, s->bound_sent, flags))
		why = link_conn_error(s->conn);
	else
	{
		tandem_event("link", s->link->name, "up: %s%s from %s, from %X/%X",
					 s->conn->transport->name, s->conn->transport->encrypted ? " with TLS" : "",
					 address, LSN_FORMAT_ARGS(s->hello.start));
		snprintf(title, sizeof(title), "serving %s", s->link->name);
		set_ps_display(title);
		ring_fd = sendring_begin(s->link, s->conn);
		s->set = CreateWaitEventSet(TopMemoryContext, 4);
		AddWaitEventToSet(s->set, WL_SOCKET_READABLE, s->conn->fd, NULL, NULL);
		AddWaitEventToSet(s->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(s->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		if (ring_fd >= 0)
			AddWaitEventToSet(s->set, WL_SOCKET_READABLE, ring_fd, NULL, NULL);
		why = pstrdup(stream(s));
	}
	end_link(s, why);
	slot_give_back();
	set_ps_display("idle");
}

/* As InitWalSender(): the xmin that feedback puts into our PGPROC is for all
 * databases. */
static void
affect_all_horizons(void)
{
	LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
	MyProc->statusFlags |= PROC_AFFECTS_ALL_HORIZONS;
	ProcGlobal->statusFlags[MyProc->pgxactoff] = MyProc->statusFlags;
	LWLockRelease(ProcArrayLock);
}

/* Has a checkpoint removed the segment of this LSN? */
static bool
is_removed(XLogRecPtr lsn)
{
	XLogSegNo segment;

	XLByteToSeg(lsn, segment, wal_segment_size);
	return segment <= XLogGetLastRemovedSegno();
}

/* Main function of a link worker. */
void
tandem_link_main(pg_attribute_unused() Datum arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", TANDEM_GATE_NAME, PGC_USERSET, PGC_S_SESSION);
	affect_all_horizons();
	before_shmem_exit(worker_exit, 0);
	sender.lag = lag_create();
	context = AllocSetContextCreate(TopMemoryContext, "tandem link", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	while (!ShutdownRequestPending)
	{
		char address[80];

		MemoryContextReset(context);
		sender.conn = accept_standby(&sender.offer, address, sizeof(address));
		if (sender.conn == NULL)
			continue;
		PG_TRY();
		{
			serve(&sender, address);
		}
		PG_CATCH();
		{
			ErrorData *error;

			/* tell the standby, then end: a new worker takes our place */
			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			if (sender.conn != NULL)
				handshake_refuse(sender.conn,
								 error->sqlerrcode == ERRCODE_UNDEFINED_FILE &&
										 is_removed(sender.sent)
									 ? LINK_REASON_WAL_REMOVED
									 : LINK_REASON_OTHER,
								 error->message, error->hint != NULL ? error->hint : "");
			PG_RE_THROW();
		}
		PG_END_TRY();
	}
	proc_exit(1); /* 0 would mean: never start it again */
}
