/*-------------------------------------------------------------------------
 *
 * rdma.h
 *	  Ends of RDMA connections by libibverbs (link/rdma.c), or the word that
 *	  there are none (link/rdma_none.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_RDMA_H
#define TANDEM_LINK_RDMA_H

#include "verbs.h"

typedef struct LinkRdmaOptions
{
	const char *device; /* "name" or "name:port"; empty: that of the address */
	int gid_index;      /* -1: that of the address */
	int fd;             /* the link's TCP connection, whose local address counts */
	bool standby;       /* our end has the ring, and is written to */
	size_t size;        /* of the ring, bytes; the primary's: the most it can use */
	int timeout_ms;     /* unanswered packets are an error after about this time */
} LinkRdmaOptions;

/* Was pg_tandem built with libibverbs? */
extern bool link_rdma_built(void);

/*
 * One end, for link_switch_offer() or from a LinkSwitchOpen; NULL with a
 * reason for people.  Reads from sysfs and makes system calls, but waits for
 * no peer.  connect may wait, about a second at most, for the kernel to find
 * the peer's hardware address.
 */
extern LinkVerbs *link_rdma_open(const LinkRdmaOptions *options, char *why, size_t why_size);

#endif /* TANDEM_LINK_RDMA_H */
