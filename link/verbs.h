/*-------------------------------------------------------------------------
 *
 * verbs.h
 *	  What a ring needs of RDMA: the operations of one end of a connection.
 *
 * A LinkVerbs is one reliable connected queue pair with its memory.  The
 * primary's end writes (RDMA WRITE WITH IMMEDIATE), the standby's is written
 * to.  link/rdma.c makes them with libibverbs, link/memrdma.c in memory, for
 * tests.  None of the operations waits.  After any of them has failed, the
 * end is good for destroy only; 'error' then says why.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_VERBS_H
#define TANDEM_LINK_VERBS_H

#include "frame.h"

typedef struct LinkVerbs LinkVerbs;

typedef struct LinkVerbsOps
{
	const char *name;

	/*
	 * Connect to the peer's end.  The standby's end is ready to be written to
	 * when this returns, with one receive entry for each of peer->slots.  The
	 * primary's makes and registers its memory here, peer->size bytes.
	 */
	bool (*connect)(LinkVerbs *verbs, const LinkRingEnd *peer);

	/*
	 * Primary: write 'length' bytes of our memory at 'offset' to the same
	 * offset of the ring, and notify the standby with 'mark'.  The bytes must
	 * not change until the write is reported by written().
	 */
	bool (*write)(LinkVerbs *verbs, size_t offset, size_t length, uint32_t mark);

	/* Primary: number of writes completed since the last call, or -1. */
	int (*written)(LinkVerbs *verbs);

	/*
	 * Standby: the marks of writes that have arrived, oldest first, 'max' at
	 * most; their number, or -1.  What a write brought may be read from then
	 * on, not before.  Each uses a receive entry; repost gives some back.
	 */
	int (*arrived)(LinkVerbs *verbs, uint32_t *marks, int max);
	bool (*repost)(LinkVerbs *verbs, int count);

	/*
	 * Have 'fd' become readable when anything arrives or completes after this
	 * call.  Who has called it looks once more before waiting.
	 */
	bool (*arm)(LinkVerbs *verbs);

	/* Are device, port and queue pair still well, as far as was reported? */
	bool (*healthy)(LinkVerbs *verbs);

	void (*destroy)(LinkVerbs *verbs);
} LinkVerbsOps;

struct LinkVerbs
{
	const LinkVerbsOps *ops;
	uint8_t *memory;       /* registered; the primary's from connect on */
	size_t size;           /* of it, bytes; 0: none yet */
	int fd;                /* see arm; owned */
	LinkRingEnd local;     /* to be told to the peer; generation not set */
	char description[160]; /* device, port, GID, for people */
	char error[256];
};

#endif /* TANDEM_LINK_VERBS_H */
