/*-------------------------------------------------------------------------
 *
 * rcvtail.c
 *	  Received WAL beyond the bound: what became of it, and until that is known.
 *
 * The primary may have lost it, so recovery must not see it.  But where a
 * walreceiver ends, recovery reads pg_wal to its physical end.  So while there
 * is such a tail no error ends the walreceiver: it is told, and all is tried
 * again, until a primary of ours says what became of the tail, or someone
 * promotes this standby.  That a server which cannot be of use answers at the
 * primary's address says nothing about the primary.
 *
 * Without a tail errors end the walreceiver where core's streaming would end:
 * what is in an archive may help.
 *
 * A change of primary_conninfo ends the walreceiver, too, and recovery waits
 * for the next one without reading pg_wal, unless that ends.  So a tail
 * is handed on in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "receiver.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "watchdog/link_rule.h"

#define REFUSAL_MS 5000 /* between two errors that will not pass by themselves */

static WalReceiverFunctionsType *core;

/* May pg_wal hold WAL beyond the bound? */
bool
rcvtail_is_there(void)
{
	return rcvwal.end > rcvwal.bound;
}

/*
 * Does a whole record begin at 'start' and end before 'end'?  If that cannot
 * be read here, it may.
 */
static bool
has_record(TimeLineID timeline, XLogRecPtr start, XLogRecPtr end)
{
	WalFile file = {.fd = -1};
	uint32 length;
	bool whole = true;

	if (start % XLOG_BLCKSZ == 0)
		start += XLogSegmentOffset(start, wal_segment_size) == 0 ? SizeOfXLogLongPHD
																 : SizeOfXLogShortPHD;
	if (start + sizeof(length) > end)
		return false;
	if (walfile_read(&file, timeline, start, &length, sizeof(length)))
		whole = length >= SizeOfXLogRecord && length <= end - start &&
				incarnation_end_of_record(start, length) <= end;
	walfile_close(&file);
	return whole;
}

/* ------------------------------------------------------- what became of it */

/*
 * Up to where may recovery have gone, of what the primary does not have from
 * 'divergence' on?  It reads ahead of what it replays, and keeps what it has
 * read while it waits, for instance for recovery_min_apply_delay: every record
 * that it was shown counts.  A part of one does not: the primary's flush, which
 * is what recovery is shown, may end within a record.
 */
static XLogRecPtr
recovery_position(XLogRecPtr replayed, XLogRecPtr divergence)
{
	XLogRecPtr shown;

	SpinLockAcquire(&WalRcv->mutex);
	shown = WalRcv->flushedUpto;
	SpinLockRelease(&WalRcv->mutex);
	return shown > Max(replayed, divergence) && has_record(rcvwal.timeline, divergence, shown)
			   ? shown
			   : replayed;
}

/*
 * There is WAL from 'divergence' on that this primary does not have.  If we have
 * followed one of a later term, that is not lost because this one lacks it.
 */
static void
check_term(const LinkHistory *mine, const LinkHistory *theirs, XLogRecPtr divergence)
{
	uint64 our_term = mine->entry[mine->count - 1].term;
	uint64 their_term = theirs->entry[theirs->count - 1].term;

	if (their_term >= our_term)
		return;
	rcvtail_refused("the primary's term is older than that of the last one", false);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the primary's term " UINT64_FORMAT " is older than term " UINT64_FORMAT
					" of the last one",
					their_term, our_term),
			 errdetail("This standby holds WAL from %X/%X on that it would have to discard.",
					   LSN_FORMAT_ARGS(divergence)),
			 errhint("Check primary_conninfo. If this server is to be the primary again, seed the "
					 "standby again with pg_basebackup.")));
}

/*
 * Compare the primary's incarnations with ours.  Discards what it has lost
 * and makes its history ours.  ERROR if we have replayed what it has lost, or
 * if it is not for this primary to tell.
 * Whether we hold more than the primary does is for the primary to see, when
 * we greet it.
 */
void
rcvtail_follow(const LinkHistory *theirs)
{
	LinkHistory *mine = palloc(sizeof(LinkHistory));

	incarnation_load(mine);
	if (mine->count > 0)
	{
		TimeLineID timeline;
		XLogRecPtr replayed = GetCurrentReplayRecPtr(&timeline);
		uint64 divergence = link_divergence(mine->entry, mine->count, theirs->entry, theirs->count);
		XLogRecPtr reached = recovery_position(replayed, divergence);
		uint64 resume;

		if (link_resume(mine->entry, mine->count, theirs->entry, theirs->count,
						Max(rcvwal.durable, reached), reached, PG_UINT64_MAX,
						&resume) == LINK_REBUILD)
		{
			rcvtail_refused("this standby has diverged from its primary", true);
			ereport(
				ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this standby has diverged from its primary"),
				 divergence == 0
					 ? errdetail("The histories of the two in file \"%s\" have nothing in common.",
								 TANDEM_HISTORY_FILE)
					 : errdetail("The primary's WAL begins anew at %X/%X, but this standby %s WAL "
								 "up to %X/%X that the primary does not have.",
								 LSN_FORMAT_ARGS(divergence),
								 replayed > divergence ? "has replayed" : "is replaying",
								 LSN_FORMAT_ARGS(replayed > divergence ? replayed : reached)),
				 errhint("Seed this standby again with pg_basebackup, or use pg_rewind if "
						 "the primary is on a newer timeline.")));
		}
		if (divergence < rcvwal.end)
			check_term(mine, theirs, divergence);
		if (divergence != LINK_NO_DIVERGENCE)
			rcvwal_discard(rcvwal.timeline, divergence);
	}
	if (!incarnation_equal(mine, theirs))
		incarnation_store(theirs);

	LWLockAcquire(tandem->history_lock, LW_EXCLUSIVE);
	tandem->history = *theirs;
	LWLockRelease(tandem->history_lock);
	pfree(mine);
}

/* ------------------------------------------------------ errors, and waiting */

/*
 * An error follows that will not pass by itself: show it.  'diverged': a rewind
 * or a new seed helps, and nothing else.
 *
 * If it ends the walreceiver, the startup process starts another one after
 * wal_retrieve_retry_interval, which is short; so this waits, if the last such
 * error was less than REFUSAL_MS ago.
 */
void
rcvtail_refused(const char *why, bool diverged)
{
	TandemReceiver *show = &tandem->receiver;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;

	receiver_show(TANDEM_RCV_CONNECTING, why);
	SpinLockAcquire(&show->mutex);
	show->diverged = diverged;
	until = TimestampTzPlusMilliseconds(show->refused, REFUSAL_MS);
	show->refused = Max(now, until);
	SpinLockRelease(&show->mutex);
	watchdog_wake();
	if (rcvtail_is_there())
		return;
	while ((now = GetCurrentTimestamp()) < until && !ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(now, until), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Tell why there is a wait with a tail; the same only once a minute. */
static void
tell(ErrorData *error)
{
	if (!tandem_event_repeated("link", tandem_node_name, "waiting with WAL beyond the bound: %s",
							   error->message) ||
		(error->detail == NULL && error->hint == NULL))
		return;
	error->elevel = LOG;
	ThrowErrorData(error);
}

/*
 * In PG_CATCH(), while there is a tail: take the error instead of ending with
 * it, and what it has left.  Returns its message, in the present memory
 * context.
 */
const char *
rcvtail_take_error(void)
{
	ErrorData *error;

	LWLockReleaseAll();
	pgstat_report_wait_end();
	AtEOXact_Files(false);
	error = CopyErrorData();
	FlushErrorState();
	tell(error);
	return error->message;
}

/* -------------------------------------------------------- handing a tail on */

/* The walreceiver ends, and all it has written is durable. */
void
rcvtail_leave(void)
{
	TandemReceiver *show = &tandem->receiver;
	XLogRecPtr shown; /* also by core */

	SpinLockAcquire(&WalRcv->mutex);
	shown = WalRcv->flushedUpto;
	SpinLockRelease(&WalRcv->mutex);
	SpinLockAcquire(&show->mutex);
	show->tail_timeline = rcvwal.timeline;
	show->tail = rcvtail_is_there() && rcvwal.end > shown ? rcvwal.end : InvalidXLogRecPtr;
	SpinLockRelease(&show->mutex);
}

/*
 * The end of the tail of this timeline that the last walreceiver has left, if
 * recovery has not read it meanwhile; otherwise 0.
 */
XLogRecPtr
rcvtail_left(TimeLineID timeline)
{
	TandemReceiver *show = &tandem->receiver;
	XLogRecPtr replayed = GetXLogReplayRecPtr(NULL);
	XLogRecPtr tail;

	SpinLockAcquire(&show->mutex);
	tail = show->tail_timeline == timeline ? show->tail : InvalidXLogRecPtr;
	SpinLockRelease(&show->mutex);
	return tail > replayed && has_record(timeline, replayed, tail) ? tail : InvalidXLogRecPtr;
}

/* Wait, at most until then.  FATAL if the walreceiver is to end. */
static void
wait_until(TimestampTz until)
{
	TimestampTz now;

	while ((now = GetCurrentTimestamp()) < until)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 TimestampDifferenceMilliseconds(now, until), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending)
			ereport(FATAL,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("terminating walreceiver process due to administrator command")));
	}
}

/* ERROR if core would end the walreceiver because this server cannot be its primary. */
static void
check_server(WalReceiverConn *conn, TimeLineID wanted)
{
	TimeLineID timeline;
	char mine[32];

	snprintf(mine, sizeof(mine), UINT64_FORMAT, GetSystemIdentifier());
	if (strcmp((core->walrcv_identify_system)(conn, &timeline), mine) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("database system identifier differs between the primary and standby"),
				 errhint("Check primary_conninfo, and where the address in it leads.")));
	if (timeline < wanted)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("highest timeline %u of the primary is behind recovery timeline %u",
							   timeline, wanted)));
}

/* One attempt of our_connect().  NULL if it has failed, which has been told. */
static WalReceiverConn *
try_to_connect(TimeLineID wanted, TANDEM_CONNECT_PARAMETERS)
{
	MemoryContext context = CurrentMemoryContext;
	WalReceiverConn *volatile conn = NULL;

	PG_TRY();
	{
		conn = (core->walrcv_connect)(TANDEM_CONNECT_ARGUMENTS);
		if (conn == NULL)
			ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
							errmsg("could not connect to the primary server: %s", *err)));
		check_server(conn, wanted);
	}
	PG_CATCH();
	{
		TandemReceiver *show = &tandem->receiver;
		char text[sizeof(show->last_error)];

		MemoryContextSwitchTo(context);
		tandem_store_text(text, sizeof(text), rcvtail_take_error());
		if (conn != NULL)
			(core->walrcv_disconnect)(conn);
		conn = NULL;

		/* the LSNs that the last walreceiver has left there are still true */
		SpinLockAcquire(&show->mutex);
		if (show->pid != MyProcPid)
			show->since = GetCurrentTimestamp();
		show->pid = MyProcPid;
		show->state = TANDEM_RCV_CONNECTING;
		strlcpy(show->last_error, text, sizeof(show->last_error));
		SpinLockRelease(&show->mutex);
		watchdog_wake();
	}
	PG_END_TRY();
	return conn;
}

/*
 * Connect to the primary, as core does; but if the last walreceiver has left a
 * tail, wait for a server that can be the primary.
 */
static WalReceiverConn *
our_connect(TANDEM_CONNECT_PARAMETERS)
{
	TimeLineID wanted;
	WalReceiverConn *conn;

	SpinLockAcquire(&WalRcv->mutex);
	wanted = WalRcv->receiveStartTLI;
	SpinLockRelease(&WalRcv->mutex);
	if (logical || !AmWalReceiverProcess() || rcvtail_left(wanted) == InvalidXLogRecPtr)
		return (core->walrcv_connect)(TANDEM_CONNECT_ARGUMENTS);
	while ((conn = try_to_connect(wanted, TANDEM_CONNECT_ARGUMENTS)) == NULL)
		wait_until(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), tandem_reconnect_interval));
	return conn;
}

/* Put our function into the table; the others call core's. */
void
rcvtail_install(WalReceiverFunctionsType *of_core, WalReceiverFunctionsType *ours)
{
	core = of_core;
	ours->walrcv_connect = our_connect;
}
