/*-------------------------------------------------------------------------
 *
 * receiver.c
 *	  The standby: core's walreceiver process with our transport.
 *
 * walreceiver.c in core does its work through a table of functions
 * (WalReceiverFunctions), which libpqwalreceiver fills.  We fill it first,
 * keep a copy of what core put there, and replace the members that stream.
 * Later loads of that library are no-ops, so the table stays ours.
 *
 * Everything around stays core's: starting and ending the process, timelines
 * and history files, the state in pg_stat_wal_receiver, promotion.  While the
 * link carries the stream, core's loop sees no WAL at all: receive() takes it
 * from the link, writes, flushes and acknowledges it, and hands core at most a
 * keepalive a second, as many as frames have come.
 *
 * Where the link cannot be had, core streams as it always does, and now and
 * then we look whether the link can be had again.
 *
 *-------------------------------------------------------------------------
 */
#include "receiver.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define DRAIN_BYTES   (1024 * 1024)      /* before a look around */
#define FLUSH_BYTES   (16 * 1024 * 1024) /* before a flush, while far behind */
#define CLOSE_US      100                /* WAL came during the last flush, or as good as */
#define KEEPALIVE_MS  1000
#define PUBLISH_US    5000
#define PROBE_MS      10000  /* between two looks for the link */
#define PROBE_MAX_MS  160000 /* if the link cannot be had again and again */
#define PROBE_FAST_MS 100    /* while a look is under way */

/* The first member of core's struct WalReceiverConn, in all versions. */
#define LIBPQ(conn)   (*(PGconn **) (conn))

typedef enum StreamMode
{
	MODE_NONE,
	MODE_LINK, /* the link carries the stream, or is being opened */
	MODE_CORE, /* core streams */
	MODE_ENDED /* core was to stream but there is no more WAL */
} StreamMode;

static WalReceiverFunctionsType ours;
static WalReceiverFunctionsType *core;

static StreamMode mode = MODE_NONE;
static WalRcvStreamOptions options;
static char option_slot[NAMEDATALEN];
static WaitEventSet *wait_set = NULL;

static TimestampTz last_frame; /* when the primary was last heard */
static int64 last_frame_time;  /* what its clock said */
static bool frames_since_keepalive;
static TimestampTz last_keepalive;
static bool tell_applied; /* sessions of the primary wait for replay */
static TimestampTz next_probe;
static int probe_ms = PROBE_MS;
static bool core_was_quiet;
static TimestampTz core_heard; /* when core last received something */

/* Tell the view tandem.receiver. */
void
receiver_show(TandemReceiverState state, const char *error)
{
	TandemReceiver *show = &tandem->receiver;
	char text[sizeof(show->last_error)];
	bool changed;

	tandem_store_text(text, sizeof(text), error);
	SpinLockAcquire(&show->mutex);
	changed = show->state != state || show->pid != MyProcPid;
	if (changed)
		show->since = GetCurrentTimestamp();
	show->pid = MyProcPid;
	show->state = state;
	if (state == TANDEM_RCV_STREAMING || state == TANDEM_RCV_CORE)
		show->diverged = false;
	show->written = rcvwal.written;
	show->durable = rcvwal.durable;
	show->bound = rcvwal.bound;
	show->wal_bytes = rcvwal.bytes;
	show->flushes = rcvwal.flushes;
	show->last_message = last_frame;
	if (error[0] != '\0')
		strlcpy(show->last_error, text, sizeof(show->last_error));
	SpinLockRelease(&show->mutex);
	if (changed)
		watchdog_wake();
}

/* ------------------------------------------------------ from the primary */

typedef enum Drained
{
	DRAINED_ALL,      /* nothing more for now */
	DRAINED_MORE,     /* there is more; flushed in between */
	DRAINED_HANDOVER, /* the primary sends us back to core's streaming */
	DRAINED_LOST      /* the link is lost, and has been closed */
} Drained;

/* What a batch of frames leaves to be done. */
typedef struct Batch
{
	bool bound_moved;
	bool reply; /* answer at once ... */
	int64 echo; /* ... with this time */
	bool tell_written;
	bool handover;
	UplinkLoss loss;
	const char *lost;    /* why, or NULL */
	LinkNotice *refusal; /* what the primary said, or NULL */
} Batch;

static char write_error[256];
static bool drained_frames; /* the last drain() took some */
static TimestampTz flush_ended;
static TimestampTz published; /* when recovery was last woken */
static bool to_publish;       /* there is more since */

/* Take one frame.  False: the link is lost for batch->lost. */
static bool
take_frame(Batch *batch, const LinkHeader *header, const uint8_t *payload)
{
	batch->lost = NULL;
	if (link_switch_is_frame(header) && header->term == uplink_term)
	{
		batch->lost = rcvring_frame(header, payload);
		return batch->lost == NULL;
	}
	if (header->type == LINK_REFUSE)
	{
		batch->refusal = palloc(sizeof(LinkNotice));
		if (link_notice_decode(payload, header->length, batch->refusal))
		{
			tandem_clean_text(batch->refusal->message);
			tandem_clean_text(batch->refusal->hint);
			batch->lost = psprintf("the primary closed it: %s", batch->refusal->message);
		}
		else
		{
			batch->refusal = NULL;
			batch->lost = "protocol violation: malformed notice";
		}
	}
	else if (header->term != uplink_term)
		batch->lost = "protocol violation: a frame of another term";
	else if (header->type != LINK_WAL && header->type != LINK_BOUND &&
			 header->type != LINK_HANDOVER)
		batch->lost = "protocol violation: unexpected frame";
	else if (header->type == LINK_WAL && header->lsn != rcvwal.written)
		batch->lost = "protocol violation: a gap in the WAL";
	else if (header->type == LINK_WAL &&
			 !rcvwal_write(header->lsn, payload, header->length, write_error, sizeof(write_error)))
	{
		batch->loss = UPLINK_LOST_DISK;
		batch->lost = write_error;
	}
	if (batch->lost != NULL)
		return false;

	last_frame_time = header->time;
	batch->handover |= header->type == LINK_HANDOVER;
	batch->tell_written |= (header->flags & LINK_FLAG_WRITES) != 0;
	tell_applied = (header->flags & LINK_FLAG_APPLIES) != 0;
	if ((header->flags & LINK_FLAG_REPLY) != 0)
	{
		batch->reply = true;
		batch->echo = header->time;
	}
	if (header->bound > rcvwal.bound)
	{
		rcvwal.bound = header->bound;
		batch->bound_moved = true;
	}
	return true;
}

/*
 * The next frame, from the ring or from TCP.  *from_ring is its size there,
 * or 0.
 */
static LinkDecode
next_frame(Batch *batch, LinkHeader *header, const uint8_t **payload, size_t *from_ring)
{
	*from_ring = 0;
	if (rcvring_next(header, payload, &batch->lost))
	{
		*from_ring = LINK_HEADER_SIZE + header->length;
		return LINK_DECODE_OK;
	}
	if (batch->lost != NULL)
		return LINK_DECODE_MORE;
	return link_next(uplink_conn, header, payload);
}

/* Take the frames that are there, up to DRAIN_BYTES.  True if there are more. */
static bool
take_frames(Batch *batch)
{
	size_t taken = 0;

	for (;;)
	{
		LinkHeader header;
		const uint8_t *payload;
		LinkDecode decode;
		size_t from_ring;
		ssize_t n;

		while ((decode = next_frame(batch, &header, &payload, &from_ring)) == LINK_DECODE_OK)
		{
			last_frame = GetCurrentTimestamp();
			frames_since_keepalive = true;
			if (!take_frame(batch, &header, payload))
				return false;
			taken += from_ring;
			if (taken >= DRAIN_BYTES)
				return true;
		}
		if (batch->lost != NULL)
			return false;
		if (decode != LINK_DECODE_MORE)
		{
			batch->lost = psprintf("protocol violation: %s", link_decode_text(decode));
			return false;
		}
		if (taken > 0 && uplink_conn->drained)
			return false;
		if (taken >= DRAIN_BYTES)
			return true;
		n = link_fill(uplink_conn);
		if (n == LINK_IO_AGAIN)
			return false;
		if (n < 0)
		{
			batch->lost = link_conn_error(uplink_conn);
			return false;
		}
		taken += n;
	}
}

static void
lose_link(const Batch *batch)
{
	if (batch->loss == UPLINK_LOST_DISK)
		rcvanswer_disk(batch->lost);
	uplink_down(batch->loss, batch->lost);
	if (batch->refusal != NULL)
		(void) uplink_refused(batch->refusal); /* ERROR if it will not pass */
}

/*
 * While the standby is far behind nobody waits for its answer, and what comes
 * next is under way: then one flush for many megabytes is quicker than many
 * flushes.  When nothing has come it is time in any case.
 */
static bool
flush_is_due(void)
{
	return !drained_frames || rcvwal.written - rcvwal.begun >= FLUSH_BYTES ||
		   rcvwal.bound < rcvwal.written + DRAIN_BYTES;
}

/*
 * Show recovery what it may have.  If nobody waits for replay it is woken only
 * every PUBLISH_US: it would run before the next flush begins, or before the
 * answer is under way.
 */
static void
publish(bool at_once)
{
	TimestampTz now = GetCurrentTimestamp();

	if (at_once || tell_applied || now >= published + PUBLISH_US || now < published)
	{
		published = now;
		to_publish = false;
		rcvwal_publish();
	}
	else
		to_publish = true;
}

/* Has the time come for the rest?  Returns when to look again, in ms, at most 'ms'. */
static long
publish_rest(long ms)
{
	if (to_publish)
		publish(false);
	return to_publish ? Min(ms, PUBLISH_US / 1000) : ms;
}

/*
 * Flush what is written, or begin to, and acknowledge what is durable.  True if
 * that is more than before.
 */
static bool
flush_and_answer(const Batch *batch)
{
	bool last = batch->lost != NULL || batch->handover;
	bool flushed = rcvwal_flush_ended();

	if (flushed)
		rcvanswer_ack(batch->echo);
	if (rcvwal.begun == rcvwal.written && !(last && rcvflush_under_way() > 0))
		return flushed;
	if (last)
		rcvwal_flush();
	else if (!flush_is_due())
		return flushed;
	else
	{
		if (batch->tell_written && !flushed)
			rcvanswer_ack(0);
		/* now, so that recovery replays during the flush */
		if (batch->bound_moved || flushed)
			publish(false);
		if (!rcvwal_flush_begin(last_frame - flush_ended < CLOSE_US))
			return flushed;
	}
	rcvanswer_ack(batch->echo);
	return true;
}

/*
 * Take what the link has brought: write it all, flush it together, acknowledge
 * it, and only then wake recovery for what was flushed.
 */
static Drained
drain(void)
{
	Batch batch = {0};
	TimestampTz before = last_frame;
	bool more = take_frames(&batch);

	if (batch.lost == NULL)
		(void) rcvring_idle(false, &batch.lost);
	drained_frames = last_frame != before;

	/* SAFETY.md rule 15: looked at after the frames came, before they are acknowledged */
	if (batch.lost == NULL && uplink_term < lease_floor())
	{
		batch.lost = "the primary's term is over";
		lose_link(&batch);
		return DRAINED_LOST;
	}

	if (flush_and_answer(&batch))
	{
		flush_ended = rcvanswer_last();
		batch.bound_moved = true;
	}
	else if (batch.reply || (tell_applied && rcvanswer_replayed()))
		rcvanswer_ack(batch.echo);
	if (batch.bound_moved)
		publish(batch.lost != NULL);
	if (batch.bound_moved || batch.reply)
		receiver_show(TANDEM_RCV_STREAMING, "");
	if (batch.lost == NULL && !more &&
		TimestampDifferenceExceeds(last_frame, GetCurrentTimestamp(), tandem_link_timeout))
	{
		batch.loss = UPLINK_LOST_SILENT;
		batch.lost = "nothing was heard from the primary for tandem.link_timeout";
	}
	if (batch.lost != NULL)
	{
		lose_link(&batch);
		return DRAINED_LOST;
	}
	if (batch.handover)
		return DRAINED_HANDOVER;
	return more ? DRAINED_MORE : DRAINED_ALL;
}

/* -------------------------------------------------------- core's streaming */

/*
 * Let core stream, from where recovery has been shown: later positions could
 * be refused.  An error here would end the walreceiver, which must not happen
 * while there is WAL beyond the bound, nor because the primary has not yet
 * noticed that the link is over and still holds the slot for it; then false,
 * and all is tried again.
 */
static bool
stream_by_core(WalReceiverConn *conn, const char *why)
{
	static char told[256];
	MemoryContext context = CurrentMemoryContext;
	bool ahead = rcvtail_is_there();
	static TimestampTz failing_since = 0;
	volatile bool started = true;

	uplink_stop();
	publish(true);
	rcvwal_close();
	options.startpoint = Min(rcvwal.durable, rcvwal.bound);
	PG_TRY();
	{
		mode = (core->walrcv_startstreaming)(conn, &options) ? MODE_CORE : MODE_ENDED;
	}
	PG_CATCH();
	{
		ErrorData *error;

		if (failing_since == 0)
			failing_since = GetCurrentTimestamp();
		if (!ahead &&
			TimestampDifferenceExceeds(failing_since, GetCurrentTimestamp(), tandem_link_timeout))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(DEBUG1, (errmsg_internal("core cannot stream yet: %s", error->message)));
		uplink_again(LIBPQ(conn), options.slotname, error->message);
		FreeErrorData(error);
		started = false;
	}
	PG_END_TRY();
	if (!started)
		return false;
	failing_since = 0;
	next_probe = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), probe_ms);
	probe_ms = Min(probe_ms * 2, PROBE_MAX_MS);
	core_was_quiet = false;
	core_heard = GetCurrentTimestamp();
	receiver_show(TANDEM_RCV_CORE, why);
	if (strcmp(told, why) != 0)
	{
		strlcpy(told, why, sizeof(told));
		tandem_event("link", tandem_node_name, "streaming as core does, without the link: %s", why);
	}
	return true;
}

/*
 * Core streams.  When it has nothing to do, and everything it received has
 * been flushed (that is: it also had nothing the time before), look whether
 * the link can be had.
 */
static bool
link_is_back(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!tandem_link || now < next_probe)
		return false;
	next_probe = TimestampTzPlusMilliseconds(now, PROBE_FAST_MS);
	if (uplink_probe())
		return true;
	if (!uplink_probing())
		next_probe = TimestampTzPlusMilliseconds(now, PROBE_MS); /* a refusal costs nothing */
	return false;
}

/* What core has received is ours to go on from. */
static void
core_has_ended(void)
{
	XLogRecPtr flushed;

	SpinLockAcquire(&WalRcv->mutex);
	flushed = WalRcv->flushedUpto;
	SpinLockRelease(&WalRcv->mutex);
	rcvwal_continue(flushed);
}

/*
 * With WAL beyond the bound core must not end the walreceiver because nothing
 * comes, not even an answer to what it asks after half of wal_receiver_timeout.
 */
static void
check_silence(void)
{
	if (wal_receiver_timeout <= 0 || !TimestampDifferenceExceeds(core_heard, GetCurrentTimestamp(),
																 wal_receiver_timeout / 4 * 3))
		return;
	core_has_ended();
	if (rcvtail_is_there())
		ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
						errmsg("nothing was heard from the primary for too long")));
}

static int
receive_from_core(WalReceiverConn *conn, char **buffer, pgsocket *wait_fd)
{
	int length = (core->walrcv_receive)(conn, buffer, wait_fd);

	if (length != 0)
		core_heard = GetCurrentTimestamp();
	else
		check_silence();
	if (length == 0 && core_was_quiet && link_is_back())
	{
		TimeLineID next;

		(core->walrcv_endstreaming)(conn, &next);
		core_has_ended();
		uplink_start(LIBPQ(conn), options.slotname);
		mode = MODE_LINK;
		*wait_fd = uplink_fd();
	}
	core_was_quiet = length == 0;
	return length;
}

/* ------------------------------------------------- the replaced functions */

/*
 * The walreceiver ends.  Recovery goes on with all that is in pg_wal, and the
 * next walreceiver takes what comes before its first segment for durable: so
 * now it must be, before core says that this one is gone.
 */
static void
flush_at_exit(pg_attribute_unused() int code, pg_attribute_unused() Datum arg)
{
	rcvwal_flush();
	rcvtail_leave();
}

static bool
our_startstreaming(WalReceiverConn *conn, const WalRcvStreamOptions *opts)
{
	static bool registered = false;
	bool temporary;

	if (opts->logical || !AmWalReceiverProcess())
		return (core->walrcv_startstreaming)(conn, opts);

	if (!registered)
		on_shmem_exit(flush_at_exit, 0);
	registered = true;
	options = *opts;
	if (opts->slotname != NULL)
	{
		strlcpy(option_slot, opts->slotname, sizeof(option_slot));
		options.slotname = option_slot;
	}
	rcvwal_begin(opts->proto.physical.startpointTLI, opts->startpoint);
	last_frame = GetCurrentTimestamp();

	/* A temporary slot belongs to the walsender; no link worker can hold it. */
	SpinLockAcquire(&WalRcv->mutex);
	temporary = WalRcv->is_temp_slot;
	SpinLockRelease(&WalRcv->mutex);
	if (temporary)
	{
		rcvwal.end = rcvwal.durable; /* all is as core does it */
		(void) stream_by_core(conn, "wal_receiver_create_temp_slot is on");
		return mode == MODE_CORE;
	}
	uplink_start(LIBPQ(conn), options.slotname);
	mode = MODE_LINK;
	return true;
}

/* A keepalive for core, as if the primary had sent it.  Returns its length. */
static int
make_keepalive(char **buffer)
{
	static char keepalive[1 + 8 + 8 + 1];
	uint64 lsn = pg_hton64(rcvwal.bound);
	uint64 sent = pg_hton64((uint64) last_frame_time);

	frames_since_keepalive = false;
	last_keepalive = GetCurrentTimestamp();
	keepalive[0] = 'k';
	memcpy(keepalive + 1, &lsn, 8);
	memcpy(keepalive + 9, &sent, 8);
	keepalive[17] = 0; /* no reply wanted */
	*buffer = keepalive;
	return sizeof(keepalive);
}

/*
 * Give core a keepalive if the primary has been heard since the last one.  It
 * keeps wal_receiver_timeout from striking and pg_stat_wal_receiver true.
 */
static bool
keepalive_due(char **buffer, int *length)
{
	if (!frames_since_keepalive ||
		!TimestampDifferenceExceeds(last_keepalive, GetCurrentTimestamp(), KEEPALIVE_MS))
		return false;
	*length = make_keepalive(buffer);
	return true;
}

/*
 * Was the latch set because recovery has replayed all it was shown, and for
 * nothing else?  Then core need not see it; as there, the flag is reset before
 * the answer (which rcvanswer_status() gives), so that no later call is missed.
 */
static bool
only_replay_called(void)
{
	if (!WalRcv->force_reply)
		return false;
	ResetLatch(MyLatch);
	WalRcv->force_reply = false;
	pg_memory_barrier();
	if (!ShutdownRequestPending && !ConfigReloadPending && !ProcSignalBarrierPending)
		return true;
	SetLatch(MyLatch);
	return false;
}

/*
 * Wait for the link, the latch, or at most 'ms'.  True if core's loop has to
 * look at what the latch was set for, and resets it.
 */
static bool
wait_for_events(long ms)
{
	static bool flushers_watched = false;
	WaitEvent events[3];
	int n;

	if (wait_set == NULL)
	{
		wait_set = CreateWaitEventSet(TopMemoryContext, 4);
		AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, uplink_fd(), NULL, NULL);
	}
	if (rcvflush_fd() >= 0 && !flushers_watched)
	{
		AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, rcvflush_fd(), NULL, NULL);
		flushers_watched = true;
	}
	n = WaitEventSetWait(wait_set, ms, events, lengthof(events), WAIT_EVENT_WAL_RECEIVER_MAIN);
	for (int i = 0; i < n; i++)
	{
		if ((events[i].events & WL_SOCKET_READABLE) && events[i].fd == rcvflush_fd())
			rcvflush_reset();
		if (events[i].events & WL_LATCH_SET)
			return !only_replay_called();
	}
	return false;
}

/* Before waiting: has more come by RDMA?  Otherwise it will wake us. */
static bool
ring_has_more(void)
{
	const char *lost;

	if (mode != MODE_LINK || uplink_conn == NULL || !uplink_is_open())
		return false;
	if (rcvring_spin() || rcvring_idle(true, &lost))
		return true;
	if (lost != NULL)
		uplink_down(UPLINK_LOST_CLOSED, lost);
	return lost != NULL;
}

/* What our_receive() does, in a memory context of its own. */
static int
receive_in_context(WalReceiverConn *conn, char **buffer, pgsocket *wait_fd)
{
	int length;

	if (mode == MODE_ENDED)
		return -1;
	if (mode != MODE_LINK)
		return receive_from_core(conn, buffer, wait_fd);

	*wait_fd = uplink_fd();
	priority_set(uplink_conn != NULL && uplink_is_open());
	for (;;)
	{
		const char *without_link = NULL;
		long wait_ms = RECEIVER_IDLE_MS;
		bool open = uplink_conn != NULL && uplink_is_open();

		if (open)
		{
			switch (drain())
			{
				case DRAINED_MORE:
					wait_ms = 0;
					break;
				case DRAINED_HANDOVER:
					without_link = "the primary is stopping the link";
					break;
				case DRAINED_ALL:
				case DRAINED_LOST:
					break;
			}
			if (!tandem_link && without_link == NULL)
				without_link = "tandem.link is off";
		}
		if (open && drained_frames && without_link == NULL && uplink_is_open())
			uplink_watch(); /* busy: nothing else needs a look now */
		else if (without_link == NULL)
		{
			switch (uplink_step())
			{
				case UPLINK_STREAM:
					if (!open)
					{
						/* just opened: say where we are, then look for frames */
						probe_ms = PROBE_MS;
						rcvring_begin();
						last_frame = GetCurrentTimestamp();
						rcvanswer_begin();
						continue;
					}
					wait_ms = Min(wait_ms, rcvanswer_status(tell_applied));
					break;
				case UPLINK_NO_LINK:
				case UPLINK_NEW_TIMELINE:
					without_link = uplink_why_no_link();
					break;
				case UPLINK_WAIT:
					wait_ms = Min(wait_ms, uplink_timeout());
					break;
			}
		}
		if (without_link != NULL && stream_by_core(conn, without_link))
		{
			/*
			 * The primary has just answered: core's time for silence begins
			 * now, as ours does (check_silence()), which is to end first.
			 */
			if (mode == MODE_CORE && last_frame_time != 0)
				return make_keepalive(buffer);
			return receive_in_context(conn, buffer, wait_fd);
		}
		if (keepalive_due(buffer, &length))
			return length;
		wait_ms = publish_rest(wait_ms);
		if (ring_has_more())
			wait_ms = 0;
		if (wait_for_events(wait_ms))
			return 0;
	}
}

/*
 * An error ends the walreceiver, unless there is WAL beyond the bound: then the
 * stream, whoever carries it, is lost.  False then.
 */
static bool
receive_or_hold(WalReceiverConn *conn, char **buffer, pgsocket *wait_fd, int *length)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool lost = false;

	PG_TRY();
	{
		*length = receive_in_context(conn, buffer, wait_fd);
	}
	PG_CATCH();
	{
		const char *why;

		if (mode == MODE_CORE)
			core_has_ended();
		if (!rcvtail_is_there())
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		why = rcvtail_take_error();
		rcvwal_flush();
		if (mode == MODE_CORE)
			uplink_again(LIBPQ(conn), options.slotname, why);
		else
			uplink_hold(why);
		mode = MODE_LINK;
		*wait_fd = uplink_fd(); /* our caller may wait at once, because the latch is set */
		lost = true;
	}
	PG_END_TRY();
	return !lost;
}

static int
our_receive(WalReceiverConn *conn, char **buffer, pgsocket *wait_fd)
{
	static MemoryContext context = NULL;
	MemoryContext caller = CurrentMemoryContext;
	int length;

	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "tandem receiver", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(context);
	MemoryContextSwitchTo(context);
	while (!receive_or_hold(conn, buffer, wait_fd, &length))
	{
		length = 0;
		if (wait_for_events(RECEIVER_IDLE_MS))
			break;
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	return length;
}

/*
 * Core sends.  If that fails with WAL beyond the bound, the stream is lost, and
 * the next receive says so.
 */
static void
send_by_core(WalReceiverConn *conn, const char *buffer, int nbytes)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		(core->walrcv_send)(conn, buffer, nbytes);
	}
	PG_CATCH();
	{
		if (mode == MODE_CORE)
			core_has_ended();
		if (mode != MODE_CORE || !rcvtail_is_there())
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
}

/*
 * Core's own messages: its status is ours to complete, because it does not
 * know what the link has brought; its feedback is passed on.
 */
static void
our_send(WalReceiverConn *conn, const char *buffer, int nbytes)
{
	char reply[34];

	if (mode == MODE_LINK)
	{
		if (buffer[0] == 'r')
			(void) rcvanswer_status(tell_applied);
		else if (buffer[0] == 'h')
			rcvanswer_feedback();
		return;
	}
	if (mode == MODE_CORE && buffer[0] == 'r' && nbytes == sizeof(reply))
	{
		uint64 write;
		uint64 flush;

		memcpy(reply, buffer, sizeof(reply));
		memcpy(&write, reply + 1, 8);
		memcpy(&flush, reply + 9, 8);
		write = pg_hton64(Max(pg_ntoh64(write), rcvwal.durable));
		flush = pg_hton64(Max(pg_ntoh64(flush), rcvwal.durable));
		memcpy(reply + 1, &write, 8);
		memcpy(reply + 9, &flush, 8);
		buffer = reply;
	}
	send_by_core(conn, buffer, nbytes);
}

static void
our_endstreaming(WalReceiverConn *conn, TimeLineID *next_tli)
{
	if (mode == MODE_ENDED || mode == MODE_LINK)
		*next_tli = uplink_timeline;
	else
		(core->walrcv_endstreaming)(conn, next_tli);
	mode = MODE_NONE;
}

static void
our_disconnect(WalReceiverConn *conn)
{
	if (mode != MODE_NONE)
	{
		uplink_stop();
		receiver_show(TANDEM_RCV_NONE, "");
	}
	mode = MODE_NONE;
	(core->walrcv_disconnect)(conn);
}

/*
 * Put our functions into core's table.  In the postmaster, while preloading.
 */
void
receiver_install(void)
{
	load_file("libpqwalreceiver", false);
	core = WalReceiverFunctions;
	ours = *core;
	rcvtail_install(core, &ours);
	ours.walrcv_startstreaming = our_startstreaming;
	ours.walrcv_endstreaming = our_endstreaming;
	ours.walrcv_receive = our_receive;
	ours.walrcv_send = our_send;
	ours.walrcv_disconnect = our_disconnect;
	WalReceiverFunctions = &ours;
}
