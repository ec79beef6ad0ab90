/*-------------------------------------------------------------------------
 *
 * ring.h
 *	  The ring: frames placed by RDMA into the standby's memory, under credits.
 *
 * The standby has a registered ring of 'size' bytes.  The primary has one of
 * the same size, and builds each frame there at the offset at which it is to
 * lie at the standby.  A frame begins at a multiple of LINK_RING_ALIGN and
 * never crosses the end of the ring: one that would starts the next lap.
 *
 * Positions count the bytes since the beginning, laps included: offset =
 * position % size.  The immediate of a write is the position behind its
 * frame, in units of LINK_RING_ALIGN, modulo 2^32; as a ring is much smaller
 * than that, the standby always knows which position is meant.
 *
 * A place may be written again when the standby has given it back (credit)
 * and the primary's own write from there has completed.  So the ring cannot
 * be overrun, and no write ever waits for a receive entry.
 *
 * Which of TCP and the ring carries the stream is decided in switch.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_RING_H
#define TANDEM_LINK_RING_H

#include "verbs.h"

#define LINK_RING_ALIGN 64

/* How the stream goes; the names are those of switch.c. */
typedef enum LinkRingState
{
	LINK_RING_OFF,
	LINK_RING_OFFERED, /* primary: waits for LINK_RING_ACCEPT */
	LINK_RING_TRYING,  /* primary: waits for the trial frame's credit; standby:
						* waits for the trial frame */
	LINK_RING_TRIED,   /* standby: waits for LINK_RING_START */
	LINK_RING_ON,      /* the ring carries the stream */
	LINK_RING_STOPPING /* primary: waits for the standby's LINK_RING_STOP */
} LinkRingState;

typedef struct LinkRing LinkRing;

struct LinkRing
{
	LinkRingState state;
	LinkVerbs *verbs; /* owned; NULL while off or stopping */
	uint32_t generation;
	bool started;     /* START was sent (primary) or taken (standby) */
	bool failed;      /* a write could not be posted: to be stopped */
	uint64_t resume;  /* primary: the LSN where TCP goes on */
	char reason[256]; /* why it was stopped last */

	size_t size; /* of the ring, bytes */
	uint32_t slots;

	/* primary */
	uint64_t head;     /* where the next frame may begin */
	uint64_t begun;    /* where the frame being built begins */
	uint64_t freed;    /* credit */
	uint64_t *ends;    /* of the last writes, by number % slots */
	uint64_t posted;   /* number of writes */
	uint64_t written;  /* of them completed */
	uint64_t released; /* of them, given back by the standby */
	uint64_t seen;     /* completions, when link_switch_is_stuck() looked last */
	int64_t seen_at;   /* when these were new, or nothing was under way; us */

	/* standby */
	uint64_t tail;     /* behind the last frame taken */
	uint64_t taken;    /* frames taken, the last one of which is in use */
	uint64_t reposted; /* receive entries given back */
	uint64_t credited; /* the position told last */
	uint32_t marks[32];
	int mark_next;
	int mark_count;

	/* counters, for the whole life of the link */
	uint64_t completions; /* writes completed, or arrived */
	uint64_t bytes;       /* placed by them */
	uint64_t waits;       /* times a frame had to wait for room */
	bool waiting;
};

/*
 * Life.  reset takes over 'verbs' for a new generation, and begins at
 * position 0; close gives it up.  destroy also frees the ring; NULL is fine.
 */
extern LinkRing *link_ring_create(void);
extern bool link_ring_reset(LinkRing *ring, LinkVerbs *verbs, uint32_t generation);
extern bool link_ring_dimension(LinkRing *ring, size_t size, uint32_t slots);
extern void link_ring_close(LinkRing *ring);
extern void link_ring_destroy(LinkRing *ring);

/*
 * Primary.  begin returns where to put 'length' bytes of payload, or NULL
 * while there is no room.  end sends the frame.  reap takes note of completed
 * writes, credit of what the standby has given back.  They return false when
 * the ring is of no more use; 'reason' says why.
 */
extern uint8_t *link_ring_begin(LinkRing *ring, size_t length);
extern bool link_ring_end(LinkRing *ring, LinkHeader *header, size_t length);
extern bool link_ring_reap(LinkRing *ring);
extern bool link_ring_credit(LinkRing *ring, uint64_t position);

/*
 * Standby.  next takes one frame: 1, 0 when there is none, -1 when the ring
 * is of no more use.  Its payload stays valid until the places are given
 * back.  pending only looks whether next would find something.  credit_due tells the position to be told to the primary, if it is time, or
 * if 'now' at any rate; the places up to there are given back.
 */
extern int link_ring_next(LinkRing *ring, LinkHeader *header, const uint8_t **payload);
extern int link_ring_pending(LinkRing *ring);
extern bool link_ring_credit_due(LinkRing *ring, bool now, uint64_t *position);

/* Say why; the first reason since reset counts.  Returns false. */
extern bool link_ring_fail(LinkRing *ring, const char *reason);

#endif /* TANDEM_LINK_RING_H */
