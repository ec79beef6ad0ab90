/*-------------------------------------------------------------------------
 *
 * memrdma.h
 *	  RDMA without a device, for tests: a fabric in memory that keeps none of
 *	  the promises that RDMA does not make.
 *
 * A write is read from the primary's memory and placed into the standby's at
 * any time between its posting and its notification, in pieces, in any order,
 * also among several writes.  Notifications come in order, completions some
 * time after them.  Things happen only in link_memrdma_run(), chosen by a
 * random number generator that the seed determines.
 *
 * It also notices what RDMA would punish: a write for which there is no
 * receive entry, and one over a place that was not given back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_MEMRDMA_H
#define TANDEM_LINK_MEMRDMA_H

#include "verbs.h"

typedef struct LinkMemFabric LinkMemFabric;

/* The ends are to be destroyed before the fabric. */
extern LinkMemFabric *link_memrdma_create(uint64_t seed);
extern void link_memrdma_destroy(LinkMemFabric *fabric);

/* One end.  NULL with a reason when out of descriptors or memory. */
extern LinkVerbs *link_memrdma_open(LinkMemFabric *fabric, bool standby, size_t size,
									uint32_t slots, char *why, size_t why_size);

/* Let so many things happen. */
extern void link_memrdma_run(LinkMemFabric *fabric, int steps);

/*
 * The connection breaks: nothing more is placed.  Each side that is told gets
 * an error from its next operation, the other one silence.
 */
extern void link_memrdma_break(LinkMemFabric *fabric, bool tell_primary, bool tell_standby);

/* What must never happen, happened so many times. */
extern int link_memrdma_violations(const LinkMemFabric *fabric);

#endif /* TANDEM_LINK_MEMRDMA_H */
