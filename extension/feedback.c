/*-------------------------------------------------------------------------
 *
 * feedback.c
 *	  hot_standby_feedback: what the standby's sessions still have to see.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "access/transam.h"
#include "storage/procarray.h"

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
 * Take what the standby says about its oldest transaction, in the worker that
 * serves it. As ProcessStandbyHSFeedbackMessage() in walsender.c:
 * the xmin goes to the slot, or without one into our own PGPROC.
 */
void
feedback_take(const LinkFeedback *feedback)
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
