/*-------------------------------------------------------------------------
 *
 * gate.c
 *	  The one place that decides up to which LSN commits may be acknowledged.
 *
 * Core does the waiting.  To core the gate is a standby: an entry in
 * WalSndCtl->walsnds[] that calls itself "tandem", the one name in
 * synchronous_standby_names.  Its LSNs are
 *
 *	in sync		what the standbys in sync hold,
 *	alone		everything: commits wait for the local flush only,
 *	stalled		what was released last; commits wait.
 *
 * A link worker moves the gate itself when a standby answers: it points
 * MyWalSnd at the gate's entry for the call of SyncRepReleaseWaiters(), so
 * that a commit costs no process switch more than with core's walsender.
 *
 * The entry is walsnds[0], always.  Core takes the synchronous standbys in
 * the order of priority and then of this index, and several clients may call
 * themselves "tandem"; with any other index a stranger with the REPLICATION
 * attribute could take the gate's place.  So the postmaster reserves it while
 * it makes shared memory, together with one process of the walsenders' pool
 * (without that the last walsender would find no entry and crash the server).
 * While no gate worker runs, the entry has an impossible pid, is in the state
 * "stopping" (or shutdown would wait for it for ever) and keeps its last
 * LSNs, so that the place stays taken.
 *
 * Alone must not cost a process switch per commit.  While it lasts, the heads
 * of core's queues (WalSndCtl->lsn[]) are as far ahead as can be, so that no
 * commit waits at all.  Going back is exact: under SyncRepLock the heads are
 * set to the insert position, which no commit that was let through can lie
 * beyond; that LSN is what a standby must hold to be in sync again.
 *
 * What cannot be changed from here: a commit whose wait is cancelled or
 * terminated is acknowledged (with a warning, as in core).  It is counted.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define GATE_INDEX   0
#define RESERVED_PID ((pid_t) -1)

#define IDLE_MS      1000 /* housekeeping */
#define FALLBACK_MS  5    /* a standby that streams by core is polled */

static WalSnd *
gate_entry(void)
{
	return &WalSndCtl->walsnds[GATE_INDEX];
}

/* Without a place for the gate nothing is ever released. */
static bool
gate_possible(void)
{
	return max_wal_senders >= 2;
}

const char *
gate_state_name(TandemGateState state)
{
	switch (state)
	{
		case TANDEM_GATE_STALLED:
			return "stalled";
		case TANDEM_GATE_IN_SYNC:
			return "in sync";
		case TANDEM_GATE_ALONE:
			return "alone";
	}
	return "unknown";
}

/* --------------------------------------------------------------- the entry */

/* Give the entry its shape while no gate worker runs. */
static void
park_entry(void)
{
	WalSnd *entry = gate_entry();

	SpinLockAcquire(&entry->mutex);
	entry->pid = RESERVED_PID;
	entry->state = WALSNDSTATE_STOPPING;
	entry->sync_standby_priority = 1;
	if (entry->flush == InvalidXLogRecPtr)
		entry->sentPtr = entry->write = entry->flush = entry->apply = 1; /* valid, and below all */
	entry->writeLag = entry->flushLag = entry->applyLag = -1;
	TandemSetPhysical(entry);
#if WALSND_HAS_LATCH
	entry->latch = NULL;
#endif
	SpinLockRelease(&entry->mutex);
}

/*
 * Reserve the entry and its process.  Postmaster only, while shared memory is
 * made.
 */
void
gate_reserve(void)
{
	if (!gate_possible() || !TandemTakeWalSenderProc())
	{
		ereport(WARNING,
				(errmsg("pg_tandem cannot replicate with max_wal_senders = %d", max_wal_senders),
				 errhint("Set max_wal_senders to the number of standbys and backups "
						 "plus 1, at least 2.")));
		return;
	}
	park_entry();
}

/* -------------------------------------------------------------- the state */

/*
 * Does this standby hold everything released, as far as it has told?  Gate
 * lock held.
 */
bool
gate_link_in_sync(const TandemLink *link)
{
	return link->in_sync && link->written >= tandem->gate.released;
}

/* Say in what state the gate is, and record a change. Gate lock held. */
static void
update_state(const char *why)
{
	TandemGate *gate = &tandem->gate;
	TandemGateState state = TANDEM_GATE_STALLED;

	if (gate->alone)
		state = TANDEM_GATE_ALONE;
	else
	{
		bool in_sync = gate->fallback;

		for (int i = 0; i < tandem_max_links && !in_sync; i++)
			in_sync = gate_link_in_sync(&tandem->links[i]);
		if (in_sync)
			state = TANDEM_GATE_IN_SYNC;
	}
	if (state == gate->state && gate->since != 0)
		return;
	gate->state = state;
	gate->since = GetCurrentTimestamp();
	tandem_store_text(gate->reason, sizeof(gate->reason), why);
	tandem_event("gate", tandem_node_name, "%s: %s", gate_state_name(state), why);
}

/* Move the entry forward and let core release who waits.  Gate lock held. */
static void
release_waiters(XLogRecPtr write, XLogRecPtr flush, XLogRecPtr apply)
{
	WalSnd *entry = gate_entry();
	WalSnd *save = MyWalSnd;

	SpinLockAcquire(&entry->mutex);
	entry->write = Max(entry->write, write);
	entry->flush = Max(entry->flush, flush);
	entry->apply = Max(entry->apply, apply);
	entry->sentPtr = Max(entry->sentPtr, entry->write);
	entry->replyTime = GetCurrentTimestamp();
	SpinLockRelease(&entry->mutex);

	MyWalSnd = entry;
	SyncRepReleaseWaiters();
	MyWalSnd = save;
}

/*
 * A standby has answered: move the gate.  'link' is the caller's, or NULL for
 * a standby that streams by core.  Takes the gate lock and SyncRepLock.
 */
void
gate_answer(TandemLink *link, XLogRecPtr write, XLogRecPtr flush, XLogRecPtr apply)
{
	TandemGate *gate = &tandem->gate;
	bool in_sync;

	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	if (gate->pid == 0 || gate->alone)
	{
		LWLockRelease(tandem->gate_lock);
		return;
	}

	/*
	 * A standby that is in sync and has written all of it may be a moment
	 * behind with flushing, because remote_write lets more through.
	 */
	in_sync = flush >= gate->released || (link != NULL && link->in_sync && write >= gate->released);
	gate->released = Max(gate->released, flush);
	if (!TandemQueueIsEmpty(SYNC_REP_WAIT_WRITE))
		gate->released = Max(gate->released, write);
	release_waiters(write, flush, Min(apply, flush));

	if (in_sync && link != NULL && (!link->in_sync || gate->state == TANDEM_GATE_STALLED))
	{
		link->in_sync = true;
		update_state(psprintf("standby \"%s\" holds all WAL", link->name));
	}
	else if (!in_sync && link != NULL && link->in_sync)
	{
		/* another one is ahead of it */
		link->in_sync = false;
		update_state(psprintf("standby \"%s\" is behind", link->name));
	}
	else if (in_sync && link == NULL && !gate->fallback)
	{
		gate->fallback = true;
		update_state("a standby holds all WAL and streams without the link");
	}
	LWLockRelease(tandem->gate_lock);
}

/*
 * A link has ended, or is paused: its standby no longer counts.  Takes the
 * gate lock.
 */
void
gate_link_changed(TandemLink *link, const char *why)
{
	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	if (link->in_sync)
	{
		link->in_sync = false;
		update_state(psprintf("standby \"%s\": %s", link->name, why));
	}
	LWLockRelease(tandem->gate_lock);
}

/* ------------------------------------------------------------ the operator */

/*
 * Put the heads of core's queues as far ahead as can be, which also wakes who
 * waits now; the entry itself shows the local flush.  Gate lock held.
 */
static void
let_everything_through(void)
{
	WalSnd *entry = gate_entry();
	XLogRecPtr local = GetFlushRecPtr(NULL);

	release_waiters(PG_UINT64_MAX, PG_UINT64_MAX, PG_UINT64_MAX);
	SpinLockAcquire(&entry->mutex);
	entry->sentPtr = entry->write = entry->flush = entry->apply = local;
	SpinLockRelease(&entry->mutex);
}

/*
 * Let commits go on local durability only.  Takes the gate lock; the gate
 * worker does it at once.
 */
void
gate_set_alone(const char *reason)
{
	TandemGate *gate = &tandem->gate;

	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	gate->alone = true;
	update_state(reason);
	if (gate->latch != NULL)
		SetLatch(gate->latch);
	LWLockRelease(tandem->gate_lock);
}

/*
 * Let commits wait for a standby again.  Takes the gate lock and SyncRepLock.
 */
void
gate_set_in_sync(void)
{
	TandemGate *gate = &tandem->gate;
	WalSnd *entry = gate_entry();
	XLogRecPtr highest;
	XLogRecPtr head[NUM_SYNC_REP_WAIT_MODE];

	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	if (!gate->alone)
	{
		LWLockRelease(tandem->gate_lock);
		return;
	}

	/* SAFETY.md rule 8b: nothing beyond 'highest' has been let through. */
	LWLockAcquire(SyncRepLock, LW_EXCLUSIVE);
	highest = GetXLogInsertRecPtr();
	for (int mode = 0; mode < NUM_SYNC_REP_WAIT_MODE; mode++)
	{
		/* never up: that would let commits through without waking them */
		WalSndCtl->lsn[mode] = Min(WalSndCtl->lsn[mode], highest);
		head[mode] = Max(WalSndCtl->lsn[mode], 1); /* valid */
	}
	LWLockRelease(SyncRepLock);

	SpinLockAcquire(&entry->mutex);
	entry->sentPtr = highest;
	entry->write = head[SYNC_REP_WAIT_WRITE];
	entry->flush = head[SYNC_REP_WAIT_FLUSH];
	entry->apply = head[SYNC_REP_WAIT_APPLY];
	SpinLockRelease(&entry->mutex);

	gate->alone = false;
	gate->released = Max(gate->released, highest);
	gate->fallback = false;
	for (int i = 0; i < tandem_max_links; i++)
		tandem->links[i].in_sync = false;
	update_state(psprintf("set by an operator; waiting for a standby to hold WAL up to %X/%X",
						  LSN_FORMAT_ARGS(highest)));
	LWLockRelease(tandem->gate_lock);
}

/* ---------------------------------------------------- commits not replicated */

/*
 * At the end of a commit in any session: was it acknowledged although the
 * gate has not reached it?  That is so when its wait was cancelled.
 */
void
gate_xact_callback(XactEvent event, pg_attribute_unused() void *arg)
{
	static XLogRecPtr seen = InvalidXLogRecPtr;
	static bool wrote_wal = false;
	int mode;

	/* as RecordTransactionCommit() finds out whether there is what to wait for */
	if (event == XACT_EVENT_PRE_COMMIT)
		wrote_wal = XactLastRecEnd != InvalidXLogRecPtr;

	/* without a transaction ID core does not wait either */
	if (event != XACT_EVENT_COMMIT || XactLastCommitEnd == seen || !wrote_wal ||
		!TransactionIdIsValid(GetTopTransactionIdIfAny()) || !gate_possible())
		return;
	seen = XactLastCommitEnd;
	if (!SyncRepRequested() || (WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) == 0)
		return;
	switch (synchronous_commit)
	{
		case SYNCHRONOUS_COMMIT_REMOTE_WRITE:
			mode = SYNC_REP_WAIT_WRITE;
			break;
		case SYNCHRONOUS_COMMIT_REMOTE_FLUSH:
			mode = SYNC_REP_WAIT_FLUSH;
			break;
		case SYNCHRONOUS_COMMIT_REMOTE_APPLY:
			mode = SYNC_REP_WAIT_APPLY;
			break;
		default:
			return;
	}
	if (seen <= ((volatile WalSndCtlData *) WalSndCtl)->lsn[mode])
		return;
	pg_atomic_fetch_add_u64(&tandem->gate.unreplicated, 1);
	ereport(LOG, (errmsg("a commit ending at %X/%X was acknowledged without the standby",
						 LSN_FORMAT_ARGS(seen)),
				  errdetail("Its wait for synchronous replication was canceled.")));
}

/* -------------------------------------------------------------- the worker */

static void
gate_exit(pg_attribute_unused() int code, pg_attribute_unused() Datum arg)
{
	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	tandem->gate.pid = 0;
	tandem->gate.latch = NULL;
	LWLockRelease(tandem->gate_lock);
	MyWalSnd = NULL;
	park_entry();
}

/* Take the entry.  Everything in local WAL may have been seen by clients. */
static void
take_entry(void)
{
	TandemGate *gate = &tandem->gate;
	WalSnd *entry = gate_entry();

	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	gate->pid = MyProcPid;
	gate->latch = MyLatch;
	if (gate->released == InvalidXLogRecPtr)
		gate->released = GetFlushRecPtr(NULL);

	SpinLockAcquire(&entry->mutex);
	entry->pid = MyProcPid;
	entry->state = WALSNDSTATE_STREAMING;
	SpinLockRelease(&entry->mutex);

	MyWalSnd = entry;
	if (gate->since == 0)
		update_state("no standby has connected since the start");
	LWLockRelease(tandem->gate_lock);
	before_shmem_exit(gate_exit, 0);
	SyncRepInitConfig();
}

/* The slot that this process holds, or an empty string. */
static void
slot_of_process(pid_t pid, char *name)
{
	name[0] = '\0';
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (!slot->in_use)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->active_pid == pid)
			strlcpy(name, NameStr(slot->data.name), NAMEDATALEN);
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);
}

/*
 * May commits be released by the standby behind this walsender?  What streams
 * without the link does not tell its node name.  So where some standbys are
 * asynchronous it must be known from an earlier link, by its slot or by its
 * application_name, that this one is not.
 */
static bool
walsender_is_sync(pid_t pid)
{
	char slot[NAMEDATALEN];
	const char *application = "";
	int n;

	if (tandem_async_links[0] == '\0')
		return true;
	slot_of_process(pid, slot);
	n = pgstat_fetch_stat_numbackends();
	for (int i = 1; i <= n; i++)
	{
		PgBackendStatus *status = &pgstat_fetch_stat_local_beentry(i)->backendStatus;

		if (status->st_procpid == pid)
			application = status->st_appname;
	}
	for (int i = 0; i < tandem_max_links; i++)
	{
		const TandemLink *link = &tandem->links[i];

		if (link->name[0] != '\0' && ((slot[0] != '\0' && strcmp(link->slot_name, slot) == 0) ||
									  strcmp(link->name, application) == 0))
			return !tandem_is_async(link->name);
	}
	return false;
}

/*
 * Take the answers of standbys that stream by core because the link could not
 * be had.  True if there are any.
 */
static bool
poll_fallback(void)
{
	int cursor = 0;
	int index;
	pid_t pid = 0;
	bool any = false;

	while ((index = offer_fallback_walsender(&cursor, &pid)) >= 0)
	{
		WalSnd *walsnd = &WalSndCtl->walsnds[index];
		XLogRecPtr write = 0;
		XLogRecPtr flush = 0;
		XLogRecPtr apply = 0;
		bool streaming;

		SpinLockAcquire(&walsnd->mutex);
		streaming = walsnd->pid == pid && walsnd->state == WALSNDSTATE_STREAMING;
		if (streaming)
		{
			write = walsnd->write;
			flush = walsnd->flush;
			apply = walsnd->apply;
		}
		SpinLockRelease(&walsnd->mutex);
		if (!streaming || flush == InvalidXLogRecPtr || !walsender_is_sync(pid))
			continue;
		any = true;
		gate_answer(NULL, write, flush, apply);
	}
	if (!any && tandem->gate.fallback)
	{
		LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
		tandem->gate.fallback = false;
		update_state("the standby that streamed without the link is gone");
		LWLockRelease(tandem->gate_lock);
	}
	return any;
}

/*
 * Nobody else may be synchronous under the gate's name.  walsnds[0] keeps the
 * place in a priority list.  In a quorum list (ANY ...), which is not to be
 * used and warned of, an impostor counts until it is found here.
 */
static void
expel_impostors(void)
{
	int n = -1;

	for (int i = GATE_INDEX + 1; i < max_wal_senders; i++)
	{
		WalSnd *walsnd = &WalSndCtl->walsnds[i];
		pid_t pid;
		int priority;

		SpinLockAcquire(&walsnd->mutex);
		pid = walsnd->pid;
		priority = walsnd->sync_standby_priority;
		SpinLockRelease(&walsnd->mutex);
		if (pid == 0 || priority == 0)
			continue;

		if (n < 0)
			n = pgstat_fetch_stat_numbackends();
		for (int k = 1; k <= n; k++)
		{
			LocalPgBackendStatus *status = pgstat_fetch_stat_local_beentry(k);

			if (status->backendStatus.st_procpid != pid ||
				pg_strcasecmp(status->backendStatus.st_appname, TANDEM_GATE_NAME) != 0)
				continue;
			SpinLockAcquire(&walsnd->mutex);
			if (walsnd->pid == pid)
				walsnd->sync_standby_priority = 0;
			SpinLockRelease(&walsnd->mutex);
			ereport(WARNING,
					(errmsg("replication client with PID %d calls itself \"%s\" and is ignored as "
							"a synchronous standby",
							(int) pid, TANDEM_GATE_NAME),
					 errhint("Give that client another application_name.")));
		}
	}
	pgstat_clear_backend_activity_snapshot();
}

static void
check_standby_names(void)
{
	if (SyncRepConfig == NULL)
		return;
	if (SyncRepConfig->nmembers != 1 || SyncRepConfig->num_sync != 1 ||
		SyncRepConfig->syncrep_method != SYNC_REP_PRIORITY ||
		pg_strcasecmp(SyncRepConfig->member_names, TANDEM_GATE_NAME) != 0)
		ereport(WARNING,
				(errmsg("synchronous_standby_names is not \"%s\"", TANDEM_GATE_NAME),
				 errdetail("Commits are acknowledged by other rules than those of pg_tandem."),
				 errhint("Set synchronous_standby_names = '%s' on every node.", TANDEM_GATE_NAME)));
}

/*
 * While alone: release, and again if synchronous_standby_names was empty at
 * the time; 'show' moves what the entry shows.
 */
static void
keep_alone(bool show)
{
	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	if (tandem->gate.alone && (show || WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH] != PG_UINT64_MAX))
		let_everything_through();
	LWLockRelease(tandem->gate_lock);
}

/* Let the gate worker look around at once.  Any process. */
void
gate_wake(void)
{
	LWLockAcquire(tandem->gate_lock, LW_SHARED);
	if (tandem->gate.latch != NULL)
		SetLatch(tandem->gate.latch);
	LWLockRelease(tandem->gate_lock);
}

/* Main function of the gate worker, one per server while it is a primary. */
void
tandem_gate_main(pg_attribute_unused() Datum arg)
{
	TimestampTz housekeeping = 0;
	MemoryContext loop_context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	SetConfigOption("application_name", TANDEM_GATE_NAME, PGC_USERSET, PGC_S_SESSION);
	loop_context = AllocSetContextCreate(TopMemoryContext, "tandem gate", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(loop_context);

	incarnation_begin();
	hostcrash_forget_other_boots();
	if (gate_possible())
		take_entry();
	check_standby_names();

	for (;;)
	{
		TimestampTz now;
		bool fallback = false;
		bool clean_up;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending)
			proc_exit(1); /* 0 would mean: never start it again */
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			if (gate_possible())
				SyncRepInitConfig();
			check_standby_names();
		}
		MemoryContextReset(loop_context);
		capture_decide();

		if (gate_possible())
		{
			fallback = poll_fallback();
			now = GetCurrentTimestamp();
			clean_up = TimestampDifferenceExceeds(housekeeping, now, IDLE_MS);
			if (clean_up)
			{
				housekeeping = now;
				expel_impostors();
			}
			if (tandem->gate.alone)
				keep_alone(clean_up);
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 fallback ? FALLBACK_MS : IDLE_MS, PG_WAIT_EXTENSION);
	}
}
