/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Everything that differs between PostgreSQL 15, 16, 17 and 18.
 *
 * 15 is built and tested.  The rest is written from the later versions'
 * sources so that the differences stand in one place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_COMPAT_H
#define TANDEM_COMPAT_H

#include "postgres.h"

#include "replication/slot.h"
#include "replication/walreceiver.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/proc.h"

#if PG_VERSION_NUM < 150000
#error "pg_tandem needs PostgreSQL 15 or later"
#endif

/* ReplicationSlotAcquire: 18 asks whether an invalidated slot is an error */
#if PG_VERSION_NUM >= 180000
#define TandemSlotAcquire(name) ReplicationSlotAcquire((name), true, true)
#else
#define TandemSlotAcquire(name) ReplicationSlotAcquire((name), true)
#endif

/* walrcv_connect: 16 may demand a password, 17 connects without replication, too */
#if PG_VERSION_NUM >= 170000
#define TANDEM_CONNECT_PARAMETERS                                                 \
	const char *conninfo, bool replication, bool logical, bool must_use_password, \
		const char *appname, char **err
#define TANDEM_CONNECT_ARGUMENTS conninfo, replication, logical, must_use_password, appname, err
#elif PG_VERSION_NUM >= 160000
#define TANDEM_CONNECT_PARAMETERS \
	const char *conninfo, bool logical, bool must_use_password, const char *appname, char **err
#define TANDEM_CONNECT_ARGUMENTS conninfo, logical, must_use_password, appname, err
#else
#define TANDEM_CONNECT_PARAMETERS \
	const char *conninfo, bool logical, const char *appname, char **err
#define TANDEM_CONNECT_ARGUMENTS conninfo, logical, appname, err
#endif

/*
 * At the exit of a process, which may be for an error thrown under one of our
 * locks: shmem_exit() gives them back before it calls anybody, but not in older
 * minor releases, and then our callbacks would wait for themselves.
 */
#define TandemReleaseLocks() LWLockReleaseAll()

/* WalSndWakeup: 16 tells physical from logical */
#if PG_VERSION_NUM >= 160000
#define TandemWakeCascade() WalSndWakeup(true, false)
#else
#define TandemWakeCascade() WalSndWakeup()
#endif

/* walsnds[].latch: set at every flush up to 15, unused in 16, gone in 18 */
#if PG_VERSION_NUM >= 160000
#define WALSND_HAS_LATCH 0
#else
#define WALSND_HAS_LATCH 1
#endif

/* walsnds[].kind: there from 16 */
#if PG_VERSION_NUM >= 160000
#define TandemSetPhysical(walsnd) ((walsnd)->kind = REPLICATION_KIND_PHYSICAL)
#else
#define TandemSetPhysical(walsnd) ((void) 0)
#endif

/* sessions waiting for a level of synchronous_commit */
#if PG_VERSION_NUM >= 160000
#define TandemQueueIsEmpty(mode) dlist_is_empty(&WalSndCtl->SyncRepQueue[mode])
#else
#define TandemQueueIsEmpty(mode) SHMQueueEmpty(&WalSndCtl->SyncRepQueue[mode])
#endif

/* a slot that keeps nothing any more: 16 has a reason instead of an LSN */
#if PG_VERSION_NUM >= 160000
#define TandemSlotIsLost(slot) ((slot)->data.invalidated != RS_INVAL_NONE)
#define TandemSlotSetLost(slot) \
	((slot)->data.invalidated = RS_INVAL_WAL_REMOVED, (slot)->data.restart_lsn = InvalidXLogRecPtr)
#else
#define TandemSlotIsLost(slot)                        \
	((slot)->data.restart_lsn == InvalidXLogRecPtr && \
	 (slot)->data.invalidated_at != InvalidXLogRecPtr)
#define TandemSlotSetLost(slot)                              \
	((slot)->data.invalidated_at = (slot)->data.restart_lsn, \
	 (slot)->data.restart_lsn = InvalidXLogRecPtr)
#endif

/* take one process off the walsenders' free list; postmaster only */
static inline bool
TandemTakeWalSenderProc(void)
{
#if PG_VERSION_NUM >= 160000
	if (dlist_is_empty(&ProcGlobal->walsenderFreeProcs))
		return false;
	dlist_pop_head_node(&ProcGlobal->walsenderFreeProcs);
#else
	if (ProcGlobal->walsenderFreeProcs == NULL)
		return false;
	ProcGlobal->walsenderFreeProcs = (PGPROC *) ProcGlobal->walsenderFreeProcs->links.next;
#endif
	return true;
}

#endif /* TANDEM_COMPAT_H */
