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
 * With tandem.lease_required tandemd commands, and watchdog/gate_rule.c decides:
 * the gate moves only under a valid lease of its own term, and only by the
 * answers of the one standby that tandemd has named, from the copy that it has
 * named.  Looking and moving are one critical section (look_under_lease), run
 * by whoever has news: a link worker, the gate worker, the watchdog worker.
 * Each session looks at the lease once more before it tells its client
 * (lease.c), so what is let through in excess of the lease, above all while
 * alone, is not acknowledged.
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

#include "watchdog/lease_file.h"

#define GATE_INDEX   0
#define RESERVED_PID ((pid_t) -1)

#define IDLE_MS      1000 /* housekeeping */
#define FALLBACK_MS  5    /* a standby that streams by core is polled */
#define LEASE_MS     100  /* how often the lease is looked at in any case ... */
#define CLOSED_MS    10   /* ... and while it is awaited */

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

/* In what state is the gate?  Gate lock held. */
static TandemGateState
current_state(void)
{
	TandemGate *gate = &tandem->gate;

	if (gate->alone)
		return TANDEM_GATE_ALONE;
	if (gate->fallback)
		return TANDEM_GATE_IN_SYNC;
	for (int i = 0; i < tandem_max_links; i++)
	{
		if (gate_link_in_sync(&tandem->links[i]))
			return TANDEM_GATE_IN_SYNC;
	}
	return TANDEM_GATE_STALLED;
}

/* Say in what state the gate is, and record a change. Gate lock held. */
static void
update_state(const char *why)
{
	TandemGate *gate = &tandem->gate;
	TandemGateState state = current_state();

	if (state == gate->state && gate->since != 0)
		return;
	gate->state = state;
	gate->since = GetCurrentTimestamp();
	tandem_store_text(gate->reason, sizeof(gate->reason), why);
	tandem_event("gate", tandem_node_name, "%s: %s", gate_state_name(state), why);
	watchdog_wake();
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
 * Bring the heads of core's queues back to at most 'highest', beyond which
 * nothing has been let through.  Gate lock and SyncRepLock held.
 */
static void
wait_again(XLogRecPtr highest)
{
	WalSnd *entry = gate_entry();
	XLogRecPtr head[NUM_SYNC_REP_WAIT_MODE];

	for (int mode = 0; mode < NUM_SYNC_REP_WAIT_MODE; mode++)
	{
		/* never up: that would let commits through without waking them */
		WalSndCtl->lsn[mode] = Min(WalSndCtl->lsn[mode], highest);
		head[mode] = Max(WalSndCtl->lsn[mode], 1); /* valid */
	}
	SpinLockAcquire(&entry->mutex);
	entry->sentPtr = highest;
	entry->write = head[SYNC_REP_WAIT_WRITE];
	entry->flush = head[SYNC_REP_WAIT_FLUSH];
	entry->apply = head[SYNC_REP_WAIT_APPLY];
	SpinLockRelease(&entry->mutex);
}

/* ----------------------------------------------------------- under a lease */

/* Does synchronous_standby_names, which is not empty, name the gate alone? */
static bool
names_gate(void)
{
	return SyncRepConfig->nmembers == 1 && SyncRepConfig->num_sync == 1 &&
		   SyncRepConfig->syncrep_method == SYNC_REP_PRIORITY &&
		   pg_strcasecmp(SyncRepConfig->member_names, TANDEM_GATE_NAME) == 0;
}

/*
 * Does core wait for the gate, and for nobody else?  What sessions look at is
 * the flag in shared memory, which the checkpointer sets some time after the
 * start.
 */
static bool
core_waits_for_gate(void)
{
	return (WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0 && SyncRepConfig != NULL &&
		   names_gate();
}

/*
 * The link of the standby that tandemd has named, with what the standby has
 * answered in its present session, or NULL.  Gate lock held.
 */
static TandemLink *
named_peer(GatePeer *peer, XLogRecPtr *write, XLogRecPtr *apply)
{
	const TandemGate *gate = &tandem->gate;

	*peer = (GatePeer){.node = -1};
	*write = *apply = InvalidXLogRecPtr;
	for (int i = 0; i < tandem_max_links && gate->rule.peer >= 0; i++)
	{
		TandemLink *link = &tandem->links[i];
		bool counts;

		if (strcmp(link->name, gate->peer_name) != 0)
			continue;
		SpinLockAcquire(&link->mutex);
		/* one that is asynchronous is named only to hand over to it */
		counts = link->pid != 0 && link->term == gate->rule.term &&
				 (link->state == TANDEM_LINK_STREAMING || link->state == TANDEM_LINK_CATCHING_UP);
		if (counts && link->flushed != InvalidXLogRecPtr)
		{
			*peer = (GatePeer){.node = 0, .copy = link->copy, .flush = link->flushed};
			*write = link->written;
			*apply = link->replayed;
		}
		SpinLockRelease(&link->mutex);
		return counts ? link : NULL;
	}
	return NULL;
}

/*
 * Why the gate is as it is, until the next call.  Gate lock held.  It may be
 * called often in one memory context.
 */
static const char *
explain(const TandemLink *link, const GatePeer *peer, bool readable)
{
	static char text[sizeof(tandem->gate.reason)];
	const TandemGate *gate = &tandem->gate;
	const Gate *rule = &gate->rule;

	if (!gate->lease && !readable)
		return "there is no lease file of the watchdog for this node, or it cannot be read";
	if (!gate->lease && rule->cell.deadline == 0)
		return "the watchdog has given no lease since the host was started";
	if (!gate->lease && rule->cell.term != rule->term)
		snprintf(text, sizeof(text),
				 "the lease is for term " UINT64_FORMAT ", this primary is of term " UINT64_FORMAT,
				 rule->cell.term, rule->term);
	else if (!gate->lease)
		snprintf(text, sizeof(text), "the lease of term " UINT64_FORMAT " has ended", rule->term);
	else if (!rule->require)
		return "authorized by the watchdog to go on without a standby";
	else if (rule->peer < 0)
		return "the watchdog has named no standby yet";
	else if (link == NULL)
		snprintf(text, sizeof(text), "standby \"%s\" has no link", gate->peer_name);
	else if (peer->node < 0)
		snprintf(text, sizeof(text), "standby \"%s\" has not answered yet", gate->peer_name);
	else if (!gate_counts(rule, peer))
		snprintf(text, sizeof(text),
				 "standby \"%s\" is not the copy of the database that is in the record",
				 gate->peer_name);
	else if (link->in_sync)
		snprintf(text, sizeof(text), "standby \"%s\" holds all WAL", gate->peer_name);
	else
		snprintf(text, sizeof(text), "standby \"%s\" does not hold WAL up to %X/%X yet",
				 gate->peer_name, LSN_FORMAT_ARGS(rule->released));
	return text;
}

/*
 * Look at the lease and at what the named standby has answered, and move the
 * gate as far as that permits: SAFETY.md rules 9 and 10.  The gate lock is
 * held from the look to the move.
 *
 * While commits wait for the standby, its answer alone sets how far: a session
 * waits in core's queue only for what it has flushed here itself, so the lower
 * one of the two holds whenever somebody is released.
 */
static void
look_under_lease(void)
{
	TandemGate *gate = &tandem->gate;
	Gate *rule = &gate->rule;
	int64 now = lease_file_now();
	bool had_lease = gate->lease;
	bool held = gate->peer_holds;
	bool readable;
	bool counts;
	TandemLink *link;
	GatePeer peer;
	XLogRecPtr write;
	XLogRecPtr apply;

	if (gate->pid == 0 || !gate->begun)
		return;
	readable = lease_read(&rule->cell, now, false);
	gate->lease = gate_lease_valid(rule, now);
	gate->alone = gate->lease && !rule->require;
	link = named_peer(&peer, &write, &apply);
	counts = gate->lease && rule->require && gate_counts(rule, &peer);
	(void) gate_advance(rule, now, rule->require ? PG_UINT64_MAX : GetFlushRecPtr(NULL), &peer);
	if (gate->alone && WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH] != PG_UINT64_MAX)
		let_everything_through();
	else if (counts)
	{
		if (!TandemQueueIsEmpty(SYNC_REP_WAIT_WRITE))
			rule->released = Max(rule->released, write);
		release_waiters(write, peer.flush, Min(apply, peer.flush));
	}
	gate->released = rule->released;

	/* remote_write may have let through what is written there and not flushed */
	for (int i = 0; i < tandem_max_links; i++)
	{
		tandem->links[i].named = rule->require && link == &tandem->links[i];
		tandem->links[i].in_sync =
			counts && link == &tandem->links[i] &&
			(peer.flush >= rule->released || (link->in_sync && write >= rule->released));
	}
	gate->peer_holds = counts && peer.flush >= rule->waits_from;

	if (gate->since == 0 || current_state() != gate->state)
		update_state(explain(link, &peer, readable));
	else if (gate->state == TANDEM_GATE_STALLED)
		tandem_store_text(gate->reason, sizeof(gate->reason), explain(link, &peer, readable));
	if (!rule->open && gate_open(rule, now, &peer, core_waits_for_gate()))
	{
		pg_atomic_write_u32(&gate->open, 1);
		tandem_event("gate", tandem_node_name, "open for clients in term " UINT64_FORMAT,
					 rule->term);
		watchdog_wake();
	}
	if (gate->peer_holds != held || gate->lease != had_lease)
		watchdog_wake();
}

/*
 * Look at the lease, and at everything else that can move the gate under one.
 * Takes the gate lock.
 */
void
gate_look(void)
{
	if (!tandem_lease_required)
		return;
	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	look_under_lease();
	LWLockRelease(tandem->gate_lock);
}

/*
 * Up to which LSN may this standby replay, of what is flushed here?  One for
 * which no commit waits (NULL: any such) no further than the gate has released,
 * or it would show commits that a later primary may not have (SAFETY.md rule
 * 22).  What no commit waits for is released when it is flushed: while the gate
 * is alone, and without a lease where synchronous_standby_names is empty.
 * Takes the gate lock, if commits do not wait for the standby.
 */
XLogRecPtr
gate_bound(const TandemLink *link, XLogRecPtr flushed)
{
	XLogRecPtr bound = flushed;

	if (link != NULL && (tandem_lease_required ? link->named : !link->async))
		return flushed;
	LWLockAcquire(tandem->gate_lock, LW_SHARED);
	if (!tandem->gate.alone &&
		(tandem_lease_required || (WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0))
		bound = Min(flushed, tandem->gate.released);
	LWLockRelease(tandem->gate_lock);
	return bound;
}

/*
 * Carry out a command of tandemd, or ('only_try') find out whether it would
 * be.  False if it is overtaken.  Of GATE_TERM this is the last step: links
 * have ended and the new incarnation is durable.  Takes the gate lock and
 * SyncRepLock.
 */
bool
gate_obey(const WatchCommand *command, bool only_try)
{
	TandemGate *gate = &tandem->gate;
	Gate *rule = &gate->rule;
	GateCommand c = {
		.order = command->order,
		.instance = command->instance,
		.cmd = command->cmd,
		.term = command->term,
		.inc = command->inc,
		.peer = command->peer[0] != '\0' ? 0 : -1,
		.peer_copy = command->peer_copy,
	};
	Gate after;
	bool obeyed;

	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	after = *rule;
	obeyed = gate->begun && gate_command(&after, &c);
	if (obeyed && !only_try)
	{
		if (c.order == GATE_REQUIRE && !rule->require)
		{
			/*
			 * Rule 8 b.  Who was let through while alone had flushed its commit
			 * here, and passed the heads of the queues under SyncRepLock.
			 */
			LWLockAcquire(SyncRepLock, LW_EXCLUSIVE);
			rule->released = Max(rule->released, GetFlushRecPtr(NULL));
			wait_again(rule->released);
			LWLockRelease(SyncRepLock);
		}
		(void) gate_command(rule, &c);
		if (c.order == GATE_REQUIRE)
		{
			strlcpy(gate->peer_name, command->peer, sizeof(gate->peer_name));
			gate->peer_holds = false;
		}
		pg_atomic_write_u64(&gate->term, rule->term);
		look_under_lease();
	}
	LWLockRelease(tandem->gate_lock);
	return obeyed;
}

/* ----------------------------------------------------------------- answers */

/*
 * A standby has answered: move the gate.  'link' is the caller's, or NULL for
 * a standby that streams by core.  Takes the gate lock and SyncRepLock.
 */
void
gate_answer(TandemLink *link, XLogRecPtr write, XLogRecPtr flush, XLogRecPtr apply)
{
	TandemGate *gate = &tandem->gate;
	bool in_sync;

	if (tandem_lease_required)
	{
		gate_look(); /* it is in links[] already */
		return;
	}
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
	if (tandem_lease_required)
		look_under_lease();
	else if (link->in_sync)
	{
		link->in_sync = false;
		update_state(psprintf("standby \"%s\": %s", link->name, why));
	}
	LWLockRelease(tandem->gate_lock);
}

/* ------------------------------------------------------------ the operator */

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
	XLogRecPtr highest;

	LWLockAcquire(tandem->gate_lock, LW_EXCLUSIVE);
	if (!gate->alone)
	{
		LWLockRelease(tandem->gate_lock);
		return;
	}

	/* SAFETY.md rule 8b: nothing beyond 'highest' has been let through. */
	LWLockAcquire(SyncRepLock, LW_EXCLUSIVE);
	highest = GetXLogInsertRecPtr();
	wait_again(highest);
	LWLockRelease(SyncRepLock);

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
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		wrote_wal = XactLastRecEnd != InvalidXLogRecPtr;
	if (tandem_lease_required && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE))
		lease_wait(event == XACT_EVENT_PREPARE || wrote_wal ||
				   TransactionIdIsValid(GetTopTransactionIdIfAny()));

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
	TandemReleaseLocks();
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
	if (gate->released == InvalidXLogRecPtr && !tandem_lease_required)
		gate->released = GetFlushRecPtr(NULL);

	SpinLockAcquire(&entry->mutex);
	entry->pid = MyProcPid;
	entry->state = WALSNDSTATE_STREAMING;
	SpinLockRelease(&entry->mutex);

	MyWalSnd = entry;
	if (tandem_lease_required && !gate->begun)
	{
		LinkIncarnation current;

		incarnation_current(&current);
		gate_init(&gate->rule, current.term, current.incarnation, GetFlushRecPtr(NULL));
		gate->begun = true;
		pg_atomic_write_u64(&gate->term, current.term);
	}
	if (tandem_lease_required)
		look_under_lease();
	else if (gate->since == 0)
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
	FallbackStream stream;
	bool any = false;

	while (offer_next_fallback(&cursor, &stream))
	{
		if (!stream.caught_up || stream.flush == InvalidXLogRecPtr ||
			!walsender_is_sync(stream.pid))
			continue;
		any = true;
		gate_answer(NULL, stream.write, stream.flush, stream.apply);
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
	if (SyncRepConfig == NULL && tandem_lease_required)
		ereport(WARNING,
				(errmsg("synchronous_standby_names is empty"),
				 errdetail("Commits wait for nobody, so ordinary users are not let in."),
				 errhint("Set synchronous_standby_names = '%s' on every node.", TANDEM_GATE_NAME)));
	if (SyncRepConfig == NULL)
		return;
	if (!names_gate())
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
	if (tandem_lease_required)
		look_under_lease();
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
		long wait_ms = IDLE_MS;

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
			if (tandem_lease_required)
				gate_look();
			else
				fallback = poll_fallback(); /* under a lease it does not count */
			now = GetCurrentTimestamp();
			clean_up = TimestampDifferenceExceeds(housekeeping, now, IDLE_MS);
			if (clean_up)
			{
				housekeeping = now;
				expel_impostors();
				exposure_look(now);
			}
			if (tandem->gate.alone)
				keep_alone(clean_up);
			if (tandem_lease_required)
				wait_ms = tandem->gate.lease && tandem->gate.rule.open ? LEASE_MS : CLOSED_MS;
			else if (fallback)
				wait_ms = FALLBACK_MS;
			wait_ms = Min(wait_ms, backlog_look(now));
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait_ms,
						 PG_WAIT_EXTENSION);
	}
}
