/*-------------------------------------------------------------------------
 *
 * slot.c
 *	  The replication slot of a standby, in the hands of its link worker.
 *
 * What the walsender does for a standby that streams by core: hold the slot,
 * move it as the standby advances, and put the xmin of its queries there.
 * The worker holds at most one slot, as MyReplicationSlot.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MOVE_MS 100 /* the slot follows the standby at this interval */

/*
 * Take the slot that the standby names.  False with *why set if it cannot be
 * had.
 */
bool
slot_take(const char *name, const char **why)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool taken = true;

	if (name[0] == '\0')
		return true;
	PG_TRY();
	{
		TandemSlotAcquire(name);
		if (SlotIsLogical(MyReplicationSlot))
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("cannot use a logical replication slot for physical "
								   "replication")));
	}
	PG_CATCH();
	{
		/* thrown with no lock held: the standby is refused, the worker lives */
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (MyReplicationSlot != NULL)
			ReplicationSlotRelease();
		*why = pstrdup(error->message);
		FreeErrorData(error);
		taken = false;
	}
	PG_END_TRY();
	return taken;
}

void
slot_give_back(void)
{
	if (MyReplicationSlot != NULL)
		ReplicationSlotRelease();
	MyProc->xmin = InvalidTransactionId;
}

/*
 * The standby has everything up to 'acknowledged': keep WAL from min(that, our
 * own flush) on; a standby that is ahead of us may still have to get these
 * bytes again.  As PhysicalConfirmReceivedLocation() in walsender.c.  A slot
 * that was given up for its backlog (backlog.c) is not taken into use again
 * while the standby is still beyond the limit.
 */
void
slot_move(const TandemLink *link, XLogRecPtr acknowledged, TimestampTz now)
{
	static TimestampTz moved = 0;
	ReplicationSlot *slot = MyReplicationSlot;
	XLogRecPtr lsn = Min(acknowledged, GetFlushRecPtr(NULL));
	bool changed = false;

	if (slot == NULL || lsn == InvalidXLogRecPtr ||
		!TimestampDifferenceExceeds(moved, now, MOVE_MS))
		return;
	moved = now;
	if (slot->data.restart_lsn == InvalidXLogRecPtr && backlog_is_over(link, lsn))
		return;
	SpinLockAcquire(&slot->mutex);
	if (slot->data.restart_lsn != lsn)
	{
		slot->data.restart_lsn = lsn;
		changed = true;
	}
	SpinLockRelease(&slot->mutex);
	if (changed)
	{
		ReplicationSlotMarkDirty();
		ReplicationSlotsComputeRequiredLSN();
	}
}

/*
 * Is this transaction of the standby a recent one of ours?  As
 * TransactionIdInRecentPast() in walsender.c.
 */
static bool
xid_is_recent(TransactionId xid, uint32 epoch)
{
	FullTransactionId next = ReadNextFullTransactionId();
	TransactionId next_xid = XidFromFullTransactionId(next);
	uint32 next_epoch = EpochFromFullTransactionId(next);

	if (xid <= next_xid ? epoch != next_epoch : epoch + 1 != next_epoch)
		return false;
	return TransactionIdPrecedesOrEquals(xid, next_xid);
}

/* An xmin only moves forward, unless it comes or goes. */
static bool
move_xmin(TransactionId *xmin, TransactionId *effective, TransactionId to)
{
	if (TransactionIdIsNormal(*xmin) && TransactionIdIsNormal(to) &&
		!TransactionIdPrecedes(*xmin, to))
		return false;
	if (*xmin == to)
		return false;
	*xmin = *effective = to;
	return true;
}

/*
 * hot_standby_feedback. As ProcessStandbyHSFeedbackMessage() in walsender.c:
 * the xmin goes to the slot, or without one into our own PGPROC.
 */
void
slot_feedback(const LinkFeedback *feedback)
{
	TransactionId xmin = feedback->xmin;
	TransactionId catalog_xmin = feedback->catalog_xmin;
	ReplicationSlot *slot = MyReplicationSlot;
	bool changed;

	if ((TransactionIdIsNormal(xmin) && !xid_is_recent(xmin, feedback->xmin_epoch)) ||
		(TransactionIdIsNormal(catalog_xmin) &&
		 !xid_is_recent(catalog_xmin, feedback->catalog_xmin_epoch)))
		return;

	if (slot == NULL)
	{
		if (TransactionIdIsNormal(catalog_xmin) &&
			(!TransactionIdIsNormal(xmin) || TransactionIdPrecedes(catalog_xmin, xmin)))
			xmin = catalog_xmin;
		MyProc->xmin = TransactionIdIsNormal(xmin) ? xmin : InvalidTransactionId;
		return;
	}
	SpinLockAcquire(&slot->mutex);
	MyProc->xmin = InvalidTransactionId;
	changed = move_xmin(&slot->data.xmin, &slot->effective_xmin, xmin);
	changed |= move_xmin(&slot->data.catalog_xmin, &slot->effective_catalog_xmin, catalog_xmin);
	SpinLockRelease(&slot->mutex);
	if (changed)
	{
		ReplicationSlotMarkDirty();
		ReplicationSlotsComputeRequiredXmin(false);
	}
}
