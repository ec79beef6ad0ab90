/*-------------------------------------------------------------------------
 *
 * exposure.c
 *	  When was WAL flushed here?  For how much a standby would lose, in time.
 *
 * A history of (LSN, time) in shared memory: up to this LSN WAL had been
 * flushed, as was last seen at this time.  So what lies beyond it was flushed
 * later.  Link workers look every STEP_MS while they are busy, the gate
 * worker once a second.  When the history is full, every other entry of its
 * older half goes, so that it reaches back as long as the server runs and is
 * as exact as its entries are young.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "access/xlog.h"
#include "utils/timestamp.h"

#define STEP_MS 10

/* Every other entry of the older half goes.  Mutex held. */
static void
thin_out(TandemFlushes *flushes)
{
	int kept = 0;

	for (int i = 0; i < flushes->count; i++)
	{
		if (i < TANDEM_FLUSHES / 2 && i % 2 == 1)
			continue;
		flushes->entry[kept++] = flushes->entry[i];
	}
	flushes->count = kept;
}

/*
 * Look how far WAL is flushed.  Any process of a primary; does nothing if one
 * has looked within STEP_MS.
 */
void
exposure_look(TimestampTz now)
{
	TandemFlushes *flushes = &tandem->flushes;
	XLogRecPtr lsn;

	if (now - flushes->looked < STEP_MS * INT64CONST(1000))
		return;
	lsn = GetFlushRecPtr(NULL);
	SpinLockAcquire(&flushes->mutex);
	flushes->looked = now;
	if (flushes->count > 0 && flushes->entry[flushes->count - 1].lsn >= lsn)
	{
		/* still there; somebody may have looked after we had */
		if (flushes->entry[flushes->count - 1].lsn == lsn)
			flushes->entry[flushes->count - 1].time = now;
	}
	else
	{
		if (flushes->count == TANDEM_FLUSHES)
			thin_out(flushes);
		flushes->entry[flushes->count++] = (TandemFlush){lsn, now};
	}
	SpinLockRelease(&flushes->mutex);
}

/*
 * Since when is there WAL beyond 'lsn'?  A little too early rather than too
 * late; not before the start of this server.  0 if nothing is known.
 */
TimestampTz
exposure_since(XLogRecPtr lsn)
{
	TandemFlushes *flushes = &tandem->flushes;
	TimestampTz since = 0;

	SpinLockAcquire(&flushes->mutex);
	for (int i = 0; i < flushes->count; i++)
	{
		if (i > 0 && flushes->entry[i].lsn > lsn)
			break;
		since = flushes->entry[i].time;
	}
	SpinLockRelease(&flushes->mutex);
	return since;
}

/*
 * How far the slot of a standby says that it has WAL durably; also true while
 * it streams by core.  Invalid if there is no such slot, or it keeps nothing.
 */
static XLogRecPtr
slot_position(const char *name)
{
	XLogRecPtr lsn = InvalidXLogRecPtr;

	if (name[0] == '\0')
		return lsn;
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (!slot->in_use || strcmp(NameStr(slot->data.name), name) != 0)
			continue;
		SpinLockAcquire(&slot->mutex);
		lsn = slot->data.restart_lsn;
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return lsn;
}

/*
 * What would be lost if the primary were gone now and this standby took over:
 * WAL that the gate has released and that is not durable there, in bytes, and
 * how long ago the oldest of it was flushed, in us.  False if it cannot be
 * known.
 */
bool
exposure_of(const TandemLink *link, uint64 *bytes, TimeOffset *time)
{
	XLogRecPtr durable = Max(link->flushed, slot_position(link->slot_name));
	XLogRecPtr released = gate_bound(NULL, GetFlushRecPtr(NULL));
	TimestampTz since;

	if (durable == InvalidXLogRecPtr)
		return false;
	*bytes = 0;
	*time = 0;
	if (released <= durable)
		return true;
	*bytes = released - durable;
	since = exposure_since(durable);
	*time = since != 0 ? Max(GetCurrentTimestamp() - since, 0) : -1;
	return true;
}
