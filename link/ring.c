/*-------------------------------------------------------------------------
 *
 * ring.c
 *	  The ring's arithmetic, for any LinkVerbs.  See ring.h.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "ring.h"

/* The standby gives back a ring's part of this size at a time. */
#define CREDIT_PART 4

static uint64_t
aligned(uint64_t bytes)
{
	return (bytes + LINK_RING_ALIGN - 1) / LINK_RING_ALIGN * LINK_RING_ALIGN;
}

bool
link_ring_fail(LinkRing *ring, const char *reason)
{
	if (ring->reason[0] == '\0')
		snprintf(ring->reason, sizeof(ring->reason), "%s", reason);
	return false;
}

/* ------------------------------------------------------------------- life */

/* NULL when out of memory. */
LinkRing *
link_ring_create(void)
{
	return calloc(1, sizeof(LinkRing));
}

void
link_ring_close(LinkRing *ring)
{
	if (ring->verbs != NULL)
		ring->verbs->ops->destroy(ring->verbs);
	ring->verbs = NULL;
	free(ring->ends);
	ring->ends = NULL;
}

void
link_ring_destroy(LinkRing *ring)
{
	if (ring == NULL)
		return;
	link_ring_close(ring);
	free(ring);
}

/* As long as the dimensions are not known, nothing can be written or taken. */
bool
link_ring_reset(LinkRing *ring, LinkVerbs *verbs, uint32_t generation)
{
	link_ring_close(ring);
	ring->verbs = verbs;
	ring->generation = generation;
	ring->started = ring->failed = ring->waiting = false;
	ring->reason[0] = '\0';
	ring->size = 0;
	ring->slots = 0;
	ring->head = ring->begun = ring->freed = 0;
	ring->posted = ring->written = ring->released = 0;
	ring->tail = ring->taken = ring->reposted = ring->credited = 0;
	ring->mark_next = ring->mark_count = 0;
	return true;
}

/* False when out of memory. */
bool
link_ring_dimension(LinkRing *ring, size_t size, uint32_t slots)
{
	ring->size = size;
	ring->slots = slots;
	ring->ends = calloc(slots, sizeof(uint64_t));
	return ring->ends != NULL || link_ring_fail(ring, "out of memory");
}

/* ---------------------------------------------------------------- primary */

/* Where a frame of so many bytes begins: here, or with the next lap. */
static uint64_t
place(const LinkRing *ring, uint64_t need)
{
	uint64_t offset = ring->head % ring->size;

	return offset + need <= ring->size ? ring->head : ring->head + (ring->size - offset);
}

static bool
has_room(const LinkRing *ring, uint64_t begin, uint64_t need)
{
	uint64_t oldest = ring->released < ring->written ? ring->released : ring->written;
	uint64_t free_from = ring->freed;

	/* our own write from there may still be read from */
	if (ring->written < ring->posted)
	{
		uint64_t done = ring->written > 0 ? ring->ends[(ring->written - 1) % ring->slots] : 0;

		if (done < free_from)
			free_from = done;
	}
	return ring->posted - oldest < ring->slots && begin + need - free_from <= ring->size;
}

uint8_t *
link_ring_begin(LinkRing *ring, size_t length)
{
	uint64_t need = aligned(LINK_HEADER_SIZE + length);
	uint64_t begin = place(ring, need);

	if (!has_room(ring, begin, need))
	{
		/* completions are not waited for, so look whether there are some */
		if (!link_ring_reap(ring))
		{
			ring->failed = true;
			return NULL;
		}
		if (!has_room(ring, begin, need))
		{
			if (!ring->waiting)
				ring->waits++;
			ring->waiting = true;
			return NULL;
		}
	}
	ring->waiting = false;
	ring->begun = begin;
	return ring->verbs->memory + begin % ring->size + LINK_HEADER_SIZE;
}

bool
link_ring_end(LinkRing *ring, LinkHeader *header, size_t length)
{
	LinkVerbs *verbs = ring->verbs;
	size_t offset = ring->begun % ring->size;
	uint64_t end = ring->begun + aligned(LINK_HEADER_SIZE + length);

	header->length = length;
	link_header_encode(header, verbs->memory + offset + LINK_HEADER_SIZE, verbs->memory + offset);
	ring->head = end;
	ring->ends[ring->posted % ring->slots] = end;
	ring->posted++;
	ring->bytes += LINK_HEADER_SIZE + length;
	if (verbs->ops->write(verbs, offset, LINK_HEADER_SIZE + length, end / LINK_RING_ALIGN))
		return true;
	ring->failed = true;
	return link_ring_fail(ring, verbs->error);
}

bool
link_ring_reap(LinkRing *ring)
{
	int n = ring->verbs->ops->written(ring->verbs);

	if (n < 0)
		return link_ring_fail(ring, ring->verbs->error);
	ring->written += n;
	ring->completions += n;
	return true;
}

/* The standby may only give back what it was given, frame by frame. */
bool
link_ring_credit(LinkRing *ring, uint64_t position)
{
	uint64_t released = ring->released;

	if (position == ring->freed)
		return true;
	while (released < ring->posted && ring->ends[released % ring->slots] != position)
		released++;
	if (released == ring->posted)
		return link_ring_fail(ring, "the standby gave back what it was not given");
	ring->released = released + 1;
	ring->freed = position;
	return true;
}

/* ---------------------------------------------------------------- standby */

int
link_ring_pending(LinkRing *ring)
{
	LinkVerbs *verbs = ring->verbs;

	if (ring->mark_next == ring->mark_count)
	{
		int n = verbs->ops->arrived(verbs, ring->marks, sizeof(ring->marks) / sizeof(uint32_t));

		if (n < 0)
			(void) link_ring_fail(ring, verbs->error);
		if (n <= 0)
			return n;
		ring->mark_next = 0;
		ring->mark_count = n;
		ring->completions += n;
	}
	return 1;
}

int
link_ring_next(LinkRing *ring, LinkHeader *header, const uint8_t **payload)
{
	uint32_t mark;
	uint32_t advance;
	uint64_t begin = ring->tail;
	uint64_t end;
	int result = link_ring_pending(ring);

	if (result <= 0)
		return result;
	mark = ring->marks[ring->mark_next++];
	advance = mark - (uint32_t) (ring->tail / LINK_RING_ALIGN);
	end = ring->tail + (uint64_t) advance * LINK_RING_ALIGN;
	if (advance == 0 || end - ring->credited > ring->size)
	{
		(void) link_ring_fail(ring, "a position out of range came with a write");
		return -1;
	}
	if (begin / ring->size != (end - 1) / ring->size)
		begin = (end - 1) / ring->size * ring->size;
	*payload = ring->verbs->memory + begin % ring->size + LINK_HEADER_SIZE;
	if (link_frame_decode(*payload - LINK_HEADER_SIZE, end - begin, header) != LINK_DECODE_OK ||
		aligned(LINK_HEADER_SIZE + header->length) != end - begin ||
		(header->type != LINK_WAL && header->type != LINK_BOUND) ||
		(header->flags & LINK_FLAG_COMPRESSED) != 0) /* which WAL is on TCP only */
	{
		(void) link_ring_fail(ring, "a damaged frame was found in the ring");
		return -1;
	}
	ring->tail = end;
	ring->taken++;
	ring->bytes += LINK_HEADER_SIZE + header->length;
	return 1;
}

/*
 * The caller is done with all frames it has taken.
 */
bool
link_ring_credit_due(LinkRing *ring, bool now, uint64_t *position)
{
	uint64_t frames = ring->taken - ring->reposted;

	if (frames == 0 || (!now && ring->tail - ring->credited < ring->size / CREDIT_PART &&
						frames < ring->slots / CREDIT_PART))
		return false;
	if (!ring->verbs->ops->repost(ring->verbs, frames))
	{
		(void) link_ring_fail(ring, ring->verbs->error);
		ring->failed = true;
		return false;
	}
	ring->reposted = ring->taken;
	ring->credited = *position = ring->tail;
	return true;
}
