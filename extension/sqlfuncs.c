/*-------------------------------------------------------------------------
 *
 * sqlfuncs.c
 *	  What pg_tandem shows and does in SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <math.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "link/rdma.h"

PG_FUNCTION_INFO_V1(tandem_status);
PG_FUNCTION_INFO_V1(tandem_links);
PG_FUNCTION_INFO_V1(tandem_receiver);
PG_FUNCTION_INFO_V1(tandem_capture);
PG_FUNCTION_INFO_V1(tandem_events);
PG_FUNCTION_INFO_V1(tandem_pause_link);
PG_FUNCTION_INFO_V1(tandem_resume_link);
PG_FUNCTION_INFO_V1(tandem_set_alone);
PG_FUNCTION_INFO_V1(tandem_set_in_sync);
PG_FUNCTION_INFO_V1(tandem_wait_for);

#define WAIT_POLL_MS 5

static void
require_preloaded(void)
{
	if (tandem == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("pg_tandem must be loaded via shared_preload_libraries")));
}

static void
require_primary(void)
{
	require_preloaded();
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this server is a standby"),
						errhint("Call this function on the primary.")));
	if (max_wal_senders < 2)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_tandem cannot replicate with max_wal_senders = %d", max_wal_senders)));
}

/* ------------------------------------------------------------ one row at a time */

/* Columns are put one after the other; all functions here use it. */
typedef struct Row
{
	int n;
	Datum values[48];
	bool nulls[48];
} Row;

static void
put(Row *row, Datum value)
{
	row->nulls[row->n] = false;
	row->values[row->n++] = value;
}

static void
put_null(Row *row)
{
	row->nulls[row->n] = true;
	row->values[row->n++] = (Datum) 0;
}

static void
put_text(Row *row, const char *value)
{
	if (value == NULL || value[0] == '\0')
		put_null(row);
	else
		put(row, CStringGetTextDatum(value));
}

static void
put_lsn(Row *row, XLogRecPtr value)
{
	if (XLogRecPtrIsInvalid(value))
		put_null(row);
	else
		put(row, LSNGetDatum(value));
}

static void
put_time(Row *row, TimestampTz value)
{
	if (value == 0)
		put_null(row);
	else
		put(row, TimestampTzGetDatum(value));
}

static void
put_interval(Row *row, TimeOffset value)
{
	Interval *interval;

	if (value < 0)
	{
		put_null(row);
		return;
	}
	interval = palloc0(sizeof(Interval));
	interval->time = value;
	put(row, IntervalPGetDatum(interval));
}

static void
put_pid(Row *row, pid_t pid)
{
	if (pid == 0)
		put_null(row);
	else
		put(row, Int32GetDatum(pid));
}

/* The nice value of a process, unless there is none. */
static void
put_nice(Row *row, pid_t pid)
{
	if (pid == 0)
		put_null(row);
	else
		put(row, Int32GetDatum(priority_of(pid)));
}

/* The columns about RDMA that both sides have. */
static void
put_rdma(Row *row, const TandemRdma *rdma, bool up)
{
	put_text(row, up ? rdma->reason : NULL);
	put(row, Int64GetDatum(up ? rdma->memory : 0));
	put(row, Int64GetDatum(rdma->completions));
	put(row, Int64GetDatum(rdma->bytes));
	put(row, Int64GetDatum(rdma->fallbacks));
	put_text(row, rdma->last_fallback);
}

static void
emit(FunctionCallInfo fcinfo, Row *row)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	Assert(row->n == rsinfo->setDesc->natts);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, row->values, row->nulls);
}

/* ----------------------------------------------------------------- views */

Datum
tandem_status(PG_FUNCTION_ARGS)
{
	bool standby = RecoveryInProgress();
	LinkIncarnation current;
	TandemGate gate;
	TimeLineID timeline;
	const char *why;
	Row row = {0};

	require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	incarnation_current(&current);
	if (standby)
		(void) GetXLogReplayRecPtr(&timeline);
	else
		(void) GetFlushRecPtr(&timeline);
	LWLockAcquire(tandem->gate_lock, LW_SHARED);
	gate = tandem->gate;
	LWLockRelease(tandem->gate_lock);

	put_text(&row, tandem_node_name);
	put_text(&row, standby ? "standby" : "primary");
	if (current.term == 0)
	{
		put_null(&row);
		put_null(&row);
	}
	else
	{
		put(&row, Int64GetDatum(current.term));
		put(&row, Int32GetDatum(current.incarnation));
	}
	put(&row, Int32GetDatum(timeline));
	if (standby || gate.since == 0)
	{
		for (int i = 0; i < 4; i++)
			put_null(&row);
	}
	else
	{
		put_text(&row, gate_state_name(gate.state));
		put_time(&row, gate.since);
		put_text(&row, gate.reason);
		put_lsn(&row, gate.alone ? GetFlushRecPtr(NULL) : gate.released);
	}
	if (standby)
	{
		put_null(&row);
		put_null(&row);
	}
	else
	{
		put_text(&row, capture_point(&why));
		put_text(&row, why);
	}
	put(&row, Int64GetDatum(pg_atomic_read_u64(&tandem->gate.unreplicated)));
	put_text(&row, link_rdma_built() ? "built in" : "not built in: TCP only");
	emit(fcinfo, &row);
	return (Datum) 0;
}

static const char *
link_state_name(TandemLinkState state)
{
	switch (state)
	{
		case TANDEM_LINK_DOWN:
			return "down";
		case TANDEM_LINK_CATCHING_UP:
			return "catching up";
		case TANDEM_LINK_STREAMING:
			return "streaming";
		case TANDEM_LINK_PAUSED:
			return "paused";
		case TANDEM_LINK_HANDING_OVER:
			return "handing over";
	}
	return "unknown";
}

/* What compression is in force, and what it has done since the start. */
static void
put_compression(Row *row, const TandemLink *link, bool up)
{
	const char *name = link_compression_name(link->compression);

	if (!up)
		put_null(row);
	else if (link->compression == LINK_COMPRESSION_ZSTD)
		put_text(row, psprintf("%s:%d", name, link->compression_level));
	else
		put_text(row, name);
	if (link->packed_bytes == 0)
	{
		put_null(row);
		put_null(row);
		return;
	}
	put(row, Float8GetDatum(rint(100.0 * link->raw_bytes / link->packed_bytes) / 100));
	put_interval(row, link->compression_cpu);
}

/* The WAL that is kept for it, its limit, and when that is reached. */
static void
put_backlog(Row *row, const TandemLink *link)
{
	bool known = link->slot_name[0] != '\0' && link->backlog_time != 0;

	if (known)
		put(row, Int64GetDatum(link->backlog));
	else
		put_null(row);
	if (!known || link->backlog_limit == 0)
	{
		put_null(row);
		put_null(row);
		return;
	}
	put(row, Int64GetDatum(link->backlog_limit));
	/* not for a link that is as good as idle */
	if (link->backlog_growth < 1 || link->backlog >= link->backlog_limit)
		put_null(row);
	else
		put_interval(row, Min((link->backlog_limit - link->backlog) / link->backlog_growth, 1e9) *
							  USECS_PER_SEC);
}

static void
emit_link(FunctionCallInfo fcinfo, const TandemLink *link, bool in_sync, XLogRecPtr end)
{
	bool up = link->state != TANDEM_LINK_DOWN;
	uint64 exposed;
	TimeOffset exposed_time;
	Row row = {0};

	put_text(&row, link->name);
	put_text(&row, link->address);
	put_text(&row, up ? (link->rdma.on ? "rdma" : "tcp") : NULL);
	if (up)
		put(&row, BoolGetDatum(link->encrypted));
	else
		put_null(&row);
	if (!up && link->slot_lost)
		put_text(&row, "needs resync");
	else
		put_text(&row, link->pause && !up ? "down, paused" : link_state_name(link->state));
	put_text(&row, link->async ? "async" : "sync");
	put(&row, BoolGetDatum(in_sync));
	put_lsn(&row, link->sent);
	put_lsn(&row, link->written);
	put_lsn(&row, link->flushed);
	put_lsn(&row, link->replayed);
	if (XLogRecPtrIsInvalid(link->flushed))
		put_null(&row);
	else
		put(&row, Int64GetDatum(end > link->flushed ? end - link->flushed : 0));
	if (exposure_of(link, &exposed, &exposed_time))
	{
		put(&row, Int64GetDatum(exposed));
		put_interval(&row, exposed_time);
	}
	else
	{
		put_null(&row);
		put_null(&row);
	}
	put_interval(&row, up ? link->write_lag : -1);
	put_interval(&row, up ? link->flush_lag : -1);
	put_interval(&row, up ? link->replay_lag : -1);
	put(&row, Int64GetDatum(link->wal_bytes));
	put(&row, Int64GetDatum(link->wire_bytes));
	put_compression(&row, link, up);
	put_text(&row, up ? link->congestion : NULL);
	if (up && link->max_rate > 0)
		put(&row, Int64GetDatum(link->max_rate));
	else
		put_null(&row);
	put_interval(&row, up ? link->round_trip : -1);
	put_time(&row, link->since);
	put_time(&row, link->last_reply);
	put(&row, Int64GetDatum(link->connects));
	put_text(&row, link->slot_name);
	put_backlog(&row, link);
	put_pid(&row, link->pid);
	put_nice(&row, link->pid);
	put_pid(&row, up ? link->walsender_pid : 0);
	put_text(&row, link->last_error);
	put_rdma(&row, &link->rdma, up);
	put(&row, Int64GetDatum(link->rdma.waits));
	emit(fcinfo, &row);
}

Datum
tandem_links(PG_FUNCTION_ARGS)
{
	XLogRecPtr end;

	require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	if (RecoveryInProgress())
		return (Datum) 0;
	end = GetFlushRecPtr(NULL);
	for (int i = 0; i < tandem_max_links; i++)
	{
		TandemLink *link = &tandem->links[i];
		TandemLink copy;
		bool in_sync;

		SpinLockAcquire(&link->mutex);
		copy = *link;
		SpinLockRelease(&link->mutex);
		LWLockAcquire(tandem->gate_lock, LW_SHARED);
		in_sync = gate_link_in_sync(&copy);
		LWLockRelease(tandem->gate_lock);
		if (copy.name[0] != '\0')
			emit_link(fcinfo, &copy, in_sync, end);
	}
	return (Datum) 0;
}

static const char *
receiver_state_name(TandemReceiverState state)
{
	switch (state)
	{
		case TANDEM_RCV_NONE:
			return "none";
		case TANDEM_RCV_CORE:
			return "streaming without the link";
		case TANDEM_RCV_CONNECTING:
			return "connecting";
		case TANDEM_RCV_STREAMING:
			return "streaming";
	}
	return "unknown";
}

Datum
tandem_receiver(PG_FUNCTION_ARGS)
{
	TandemReceiver copy;
	pid_t walreceiver;
	XLogRecPtr core_durable;
	TimestampTz core_message;
	bool live;
	Row row = {0};

	require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	if (!RecoveryInProgress())
		return (Datum) 0;
	SpinLockAcquire(&tandem->receiver.mutex);
	copy = tandem->receiver;
	SpinLockRelease(&tandem->receiver.mutex);
	SpinLockAcquire(&WalRcv->mutex);
	walreceiver = WalRcv->pid;
	core_durable = WalRcv->flushedUpto;
	core_message = WalRcv->lastMsgReceiptTime;
	SpinLockRelease(&WalRcv->mutex);

	live = copy.pid != 0 && copy.pid == walreceiver;
	if (!live)
		copy.state = TANDEM_RCV_NONE;
	if (copy.state == TANDEM_RCV_CORE)
	{
		copy.written = pg_atomic_read_u64(&WalRcv->writtenUpto);
		copy.durable = copy.bound = core_durable; /* core sends what is flushed */
		copy.last_message = core_message;
	}
	else if (!live)
		copy.written = copy.durable = copy.bound = InvalidXLogRecPtr;
	put_text(&row, receiver_state_name(copy.state));
	put_time(&row, copy.since);
	put_text(&row, copy.primary_name);
	put_text(&row, copy.state == TANDEM_RCV_STREAMING ? copy.address : NULL);
	put_text(&row, copy.state != TANDEM_RCV_STREAMING ? NULL : copy.rdma.on ? "rdma" : "tcp");
	if (copy.state == TANDEM_RCV_STREAMING)
		put(&row, BoolGetDatum(copy.encrypted));
	else
		put_null(&row);
	put_lsn(&row, copy.written);
	put_lsn(&row, copy.durable);
	put_lsn(&row, copy.bound);
	put_lsn(&row, GetXLogReplayRecPtr(NULL));
	put(&row, Int64GetDatum(copy.wal_bytes));
	put(&row, Int64GetDatum(copy.flushes));
	put(&row, Int64GetDatum(copy.connects));
	put_time(&row, copy.last_message);
	put_pid(&row, live ? copy.pid : 0);
	put_nice(&row, live ? copy.pid : 0);
	put_text(&row, copy.last_error);
	put_rdma(&row, &copy.rdma, copy.state == TANDEM_RCV_STREAMING);
	emit(fcinfo, &row);
	return (Datum) 0;
}

Datum
tandem_capture(PG_FUNCTION_ARGS)
{
	TandemCapture *capture;
	const char *why;
	WalkState walk;
	uint64 bytes;
	uint64 early;
	Row row = {0};

	require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	capture = &tandem->capture;
	if (RecoveryInProgress())
		return (Datum) 0;
	put_text(&row, capture_point(&why));
	put_text(&row, why);
	LWLockAcquire(tandem->walk_lock, LW_SHARED);
	walk = capture->walk;
	LWLockRelease(tandem->walk_lock);
	bytes = pg_atomic_read_u64(&capture->bytes);
	early = pg_atomic_read_u64(&capture->early_bytes);
	put(&row, Int64GetDatum(pg_atomic_read_u64(&capture->writes)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&capture->short_writes)));
	put(&row, Int64GetDatum(early));
	put(&row, Int64GetDatum(bytes - Min(early, bytes)));
	put_interval(&row, capture_lead(0.5));
	put_interval(&row, capture_lead(0.99));
	put(&row, Int64GetDatum(walk.records));
	put_lsn(&row, walk.boundary);
	put_text(&row, walk.stop == WALK_NOT_STOPPED ? NULL : WalkStopName(walk.stop));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&capture->walks_ended)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&capture->wakeups)));
	put(&row, Int64GetDatum(pg_atomic_read_u64(&capture->reads)));
	emit(fcinfo, &row);
	return (Datum) 0;
}

Datum
tandem_events(PG_FUNCTION_ARGS)
{
	TandemEvent *events;
	uint64 count;
	uint64 first;

	require_preloaded();
	InitMaterializedSRF(fcinfo, 0);
	events = palloc(sizeof(tandem->events));
	SpinLockAcquire(&tandem->event_mutex);
	count = tandem->event_count;
	memcpy(events, tandem->events, sizeof(tandem->events));
	SpinLockRelease(&tandem->event_mutex);

	first = count > TANDEM_MAX_EVENTS ? count - TANDEM_MAX_EVENTS : 0;
	for (uint64 i = first; i < count; i++)
	{
		const TandemEvent *event = &events[i % TANDEM_MAX_EVENTS];
		Row row = {0};

		put(&row, Int64GetDatum(i + 1));
		put_time(&row, event->time);
		put_text(&row, event->kind);
		put_text(&row, event->name);
		put_text(&row, event->message);
		emit(fcinfo, &row);
	}
	return (Datum) 0;
}

/* ------------------------------------------------------------- the operator */

static void
set_pause(FunctionCallInfo fcinfo, bool pause)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool found = false;

	require_primary();
	for (int i = 0; i < tandem_max_links && !found; i++)
	{
		TandemLink *link = &tandem->links[i];

		SpinLockAcquire(&link->mutex);
		found = link->name[0] != '\0' && strcmp(link->name, name) == 0;
		if (found)
			link->pause = pause;
		SpinLockRelease(&link->mutex);
		if (found)
			link_wake_worker(link);
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no link named \"%s\"", name),
				 errhint("The view tandem.links lists the standbys that have connected.")));
	tandem_event("link", name, "%s by an operator", pause ? "paused" : "resumed");
}

Datum
tandem_pause_link(PG_FUNCTION_ARGS)
{
	set_pause(fcinfo, true);
	PG_RETURN_VOID();
}

Datum
tandem_resume_link(PG_FUNCTION_ARGS)
{
	set_pause(fcinfo, false);
	PG_RETURN_VOID();
}

/* Under a lease the record decides, and tandemd writes that. */
static void
require_no_watchdog(void)
{
	if (tandem_lease_required)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the watchdog decides whether commits wait for a standby"),
						errdetail("The setting \"%s\" is on.", "tandem.lease_required"),
						errhint("See \"tandemctl status\".")));
}

Datum
tandem_set_alone(PG_FUNCTION_ARGS)
{
	char *reason = text_to_cstring(PG_GETARG_TEXT_PP(0));

	require_primary();
	require_no_watchdog();
	if (reason[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a reason is required")));
	gate_set_alone(psprintf("set by an operator: %s", reason));
	PG_RETURN_VOID();
}

Datum
tandem_set_in_sync(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	require_primary();
	require_no_watchdog();
	gate_set_in_sync();
	PG_RETURN_VOID();
}

/* Has 'lsn' been released by the gate, or on a standby been replayed? */
static bool
has_reached(XLogRecPtr lsn)
{
	bool reached;

	if (RecoveryInProgress())
		return GetXLogReplayRecPtr(NULL) >= lsn;
	LWLockAcquire(tandem->gate_lock, LW_SHARED);
	reached = tandem->gate.alone ? GetFlushRecPtr(NULL) >= lsn : tandem->gate.released >= lsn;
	LWLockRelease(tandem->gate_lock);
	return reached;
}

Datum
tandem_wait_for(PG_FUNCTION_ARGS)
{
	XLogRecPtr lsn = PG_GETARG_LSN(0);
	Interval *timeout = PG_GETARG_INTERVAL_P(1);
	TimestampTz end;

	require_preloaded();
	end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												  TimestampTzGetDatum(GetCurrentTimestamp()),
												  IntervalPGetDatum(timeout)));
	for (;;)
	{
		if (has_reached(lsn))
			PG_RETURN_BOOL(true);
		if (GetCurrentTimestamp() >= end)
			PG_RETURN_BOOL(false);
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
