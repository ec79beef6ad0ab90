/*-------------------------------------------------------------------------
 *
 * switch.c
 *	  From TCP to the ring, and back.  See switch.h.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <string.h>

#include "switch.h"

bool
link_switch_is_frame(const LinkHeader *header)
{
	return header->type >= LINK_RING_OFFER && header->type <= LINK_RING_CREDIT;
}

bool
link_switch_is_on(const LinkConn *conn)
{
	return conn->ring != NULL && conn->ring->state == LINK_RING_ON;
}

/* ----------------------------------------------------------- frames on TCP */

/*
 * Put a frame, and send what can be sent.  False when there is no room: the
 * peer has not read for a long time.
 */
static bool
put(LinkConn *conn, LinkFrameType type, const LinkHeader *stamp, const void *payload, size_t length)
{
	LinkHeader header = *stamp;

	header.type = type;
	header.flags = 0;
	if (!link_frame_put(conn, &header, payload, length))
		return false;
	(void) link_flush(conn); /* a failure is seen by the owner's next flush */
	return true;
}

static bool
put_end(LinkConn *conn, LinkFrameType type, const LinkHeader *stamp, const LinkRingEnd *end)
{
	uint8_t payload[LINK_RING_END_SIZE];

	return put(conn, type, stamp, payload, link_ring_end_encode(end, payload));
}

static bool
put_mark(LinkConn *conn, LinkFrameType type, const LinkHeader *stamp, uint64_t position)
{
	LinkRingMark mark = {.generation = conn->ring->generation, .position = position};
	uint8_t payload[sizeof(mark)];

	return put(conn, type, stamp, payload, link_ring_mark_encode(&mark, payload));
}

static bool
put_stop(LinkConn *conn, const LinkHeader *stamp, bool started)
{
	LinkRingStop stop = {.generation = conn->ring->generation, .started = started};
	uint8_t payload[LINK_RING_STOP_MAX];

	snprintf(stop.reason, sizeof(stop.reason), "%s", conn->ring->reason);
	return put(conn, LINK_RING_STOP, stamp, payload, link_ring_stop_encode(&stop, payload));
}

/* The ring of this connection, made when it is needed first; NULL: no memory. */
static LinkRing *
ring_of(LinkConn *conn)
{
	if (conn->ring == NULL)
		conn->ring = link_ring_create();
	return conn->ring;
}

/* ---------------------------------------------------------------- primary */

LinkSwitch
link_switch_offer(LinkConn *conn, LinkVerbs *verbs, const LinkHeader *stamp)
{
	LinkRing *ring = ring_of(conn);
	LinkRingEnd mine = verbs->local;

	if (ring == NULL || ring->state != LINK_RING_OFF)
	{
		verbs->ops->destroy(verbs);
		return LINK_SWITCH_VIOLATION;
	}
	link_ring_reset(ring, verbs, ring->generation + 1);
	mine.generation = ring->generation;
	if (!put_end(conn, LINK_RING_OFFER, stamp, &mine))
		return LINK_SWITCH_VIOLATION;
	ring->state = LINK_RING_OFFERED;
	return LINK_SWITCH_NOTHING;
}

LinkSwitch
link_switch_stop(LinkConn *conn, const char *reason, const LinkHeader *stamp)
{
	LinkRing *ring = conn->ring;

	if (ring == NULL || ring->state == LINK_RING_OFF || ring->state == LINK_RING_STOPPING)
		return LINK_SWITCH_NOTHING;
	(void) link_ring_fail(ring, reason);
	link_ring_close(ring);
	ring->state = LINK_RING_STOPPING;
	return put_stop(conn, stamp, ring->started) ? LINK_SWITCH_NOTHING : LINK_SWITCH_VIOLATION;
}

/* The standby has a ring: connect, and try it. */
static LinkSwitch
take_accept(LinkConn *conn, const LinkRingEnd *theirs, const LinkHeader *stamp)
{
	LinkRing *ring = conn->ring;
	const LinkRingEnd *mine = &ring->verbs->local;
	LinkHeader trial = *stamp;

	if (theirs->size > mine->size || theirs->slots > mine->slots)
		return LINK_SWITCH_VIOLATION;
	if (theirs->layer != mine->layer)
		return link_switch_stop(conn, "one side has InfiniBand, the other one Ethernet", stamp);
	if (!ring->verbs->ops->connect(ring->verbs, theirs))
		return link_switch_stop(conn, ring->verbs->error, stamp);
	if (!link_ring_dimension(ring, theirs->size, theirs->slots))
		return link_switch_stop(conn, ring->reason, stamp);
	ring->state = LINK_RING_TRYING;
	trial.type = LINK_BOUND;
	trial.flags = 0;
	if (link_ring_begin(ring, 0) == NULL || !link_ring_end(ring, &trial, 0))
		return link_switch_stop(conn, ring->reason, stamp);
	return LINK_SWITCH_NOTHING;
}

static LinkSwitch
take_credit(LinkConn *conn, const LinkRingMark *mark, const LinkHeader *stamp)
{
	LinkRing *ring = conn->ring;

	if (ring->state == LINK_RING_STOPPING)
		return LINK_SWITCH_NOTHING; /* it was under way */
	if (ring->state != LINK_RING_TRYING && ring->state != LINK_RING_ON)
		return LINK_SWITCH_VIOLATION;
	if (!link_ring_credit(ring, mark->position))
		return LINK_SWITCH_VIOLATION;
	if (ring->state == LINK_RING_ON || ring->released < ring->posted)
		return LINK_SWITCH_NOTHING;
	ring->state = LINK_RING_ON;
	ring->started = true;
	ring->seen = ring->completions;
	ring->seen_at = stamp->time;
	return put_mark(conn, LINK_RING_START, stamp, ring->head) ? LINK_SWITCH_STARTED
															  : LINK_SWITCH_VIOLATION;
}

/* The peer has stopped it: say that the reason is one of its host. */
static void
fail_there(LinkRing *ring, const char *where, const char *reason)
{
	char text[sizeof(ring->reason)];

	snprintf(text, sizeof(text), "on the %s: %s", where, reason);
	(void) link_ring_fail(ring, text);
}

/* The standby's end is closed. */
static LinkSwitch
take_stop(LinkConn *conn, const LinkHeader *header, const LinkRingStop *stop)
{
	LinkRing *ring = conn->ring;

	if (ring->state == LINK_RING_OFF || (stop->started && !ring->started))
		return LINK_SWITCH_VIOLATION;
	fail_there(ring, "standby", stop->reason);
	link_ring_close(ring);
	if (ring->started && !stop->started)
	{
		ring->state = LINK_RING_STOPPING; /* START is under way, and will be answered */
		return LINK_SWITCH_NOTHING;
	}
	ring->state = LINK_RING_OFF;
	ring->resume = header->lsn;
	return ring->started ? LINK_SWITCH_ENDED : LINK_SWITCH_REFUSED;
}

LinkSwitch
link_switch_primary_frame(LinkConn *conn, const LinkHeader *header, const uint8_t *payload,
						  const LinkHeader *stamp)
{
	LinkRing *ring = conn->ring;
	LinkRingEnd theirs;
	LinkRingMark mark;
	LinkRingStop stop;

	if (ring == NULL)
		return LINK_SWITCH_VIOLATION;
	switch (header->type)
	{
		case LINK_RING_ACCEPT:
			if (!link_ring_end_decode(payload, header->length, &theirs) ||
				theirs.generation != ring->generation)
				return LINK_SWITCH_VIOLATION;
			if (ring->state == LINK_RING_STOPPING && !ring->started)
				return LINK_SWITCH_NOTHING; /* it was under way */
			if (ring->state != LINK_RING_OFFERED)
				return LINK_SWITCH_VIOLATION;
			return take_accept(conn, &theirs, stamp);
		case LINK_RING_CREDIT:
			if (!link_ring_mark_decode(payload, header->length, &mark) ||
				mark.generation != ring->generation)
				return LINK_SWITCH_VIOLATION;
			return take_credit(conn, &mark, stamp);
		case LINK_RING_STOP:
			if (!link_ring_stop_decode(payload, header->length, &stop) ||
				stop.generation != ring->generation)
				return LINK_SWITCH_VIOLATION;
			return take_stop(conn, header, &stop);
		default:
			return LINK_SWITCH_VIOLATION;
	}
}

LinkSwitch
link_switch_primary_look(LinkConn *conn, const LinkHeader *stamp)
{
	LinkRing *ring = conn->ring;
	LinkVerbs *verbs = ring != NULL ? ring->verbs : NULL;

	if (verbs == NULL)
		return LINK_SWITCH_NOTHING;
	if (!verbs->ops->healthy(verbs))
		return link_switch_stop(conn, verbs->error, stamp);
	if (ring->size > 0 && !link_ring_reap(ring))
		return link_switch_stop(conn, ring->reason, stamp);
	if (ring->failed)
		return link_switch_stop(conn, ring->reason, stamp);
	return LINK_SWITCH_NOTHING;
}

bool
link_switch_is_stuck(LinkRing *ring, int64_t now, int64_t patience)
{
	if (ring->state != LINK_RING_ON || ring->written == ring->posted ||
		ring->completions != ring->seen)
	{
		ring->seen = ring->completions;
		ring->seen_at = now;
	}
	return now - ring->seen_at >= patience;
}

bool
link_stream_ready(LinkConn *conn)
{
	LinkRing *ring = conn->ring;

	if (ring == NULL || ring->state == LINK_RING_OFF || !ring->started)
		return true;
	return link_stream_begin(conn, LINK_MAX_PAYLOAD) != NULL;
}

size_t
link_stream_max(const LinkConn *conn)
{
	const LinkRing *ring = conn->ring;
	bool in_ring = ring != NULL && ring->state != LINK_RING_OFF && ring->started;

	return in_ring ? LINK_MAX_PAYLOAD : link_wal_max(conn);
}

uint8_t *
link_stream_begin(LinkConn *conn, size_t length)
{
	LinkRing *ring = conn->ring;

	if (ring == NULL || ring->state == LINK_RING_OFF || !ring->started)
		return link_wal_begin(conn, length);
	if (ring->state != LINK_RING_ON || ring->failed)
		return NULL; /* until the standby has said where TCP goes on */
	return link_ring_begin(ring, length);
}

/*
 * A write that cannot be posted has failed as one that does not complete: the
 * next look stops the ring, and the standby says what it has.
 */
bool
link_stream_end(LinkConn *conn, LinkHeader *header, size_t length)
{
	if (!link_switch_is_on(conn))
		return link_wal_end(conn, header, length);
	(void) link_ring_end(conn->ring, header, length);
	return true;
}

bool
link_stream_put(LinkConn *conn, LinkHeader *header)
{
	if (!link_switch_is_on(conn) || link_stream_begin(conn, 0) == NULL)
		return link_frame_put(conn, header, NULL, 0);
	return link_stream_end(conn, header, 0);
}

uint64_t
link_stream_bytes(const LinkConn *conn)
{
	return conn->bytes_out + (conn->ring != NULL ? conn->ring->bytes : 0);
}

/* ---------------------------------------------------------------- standby */

/*
 * Close our end and say so.  What has arrived and was not taken comes again.
 */
LinkSwitch
link_switch_standby_stop(LinkConn *conn, const char *reason, const LinkHeader *stamp)
{
	LinkRing *ring = conn->ring;
	bool was_on;

	if (ring == NULL || ring->state == LINK_RING_OFF)
		return LINK_SWITCH_NOTHING;
	was_on = ring->state == LINK_RING_ON;
	(void) link_ring_fail(ring, reason);
	link_ring_close(ring);
	ring->state = LINK_RING_OFF;
	if (!put_stop(conn, stamp, was_on))
		return LINK_SWITCH_VIOLATION;
	return was_on ? LINK_SWITCH_ENDED : LINK_SWITCH_REFUSED;
}

static LinkSwitch
take_offer(LinkConn *conn, const LinkRingEnd *theirs, const LinkHeader *stamp, LinkSwitchOpen open,
		   void *arg)
{
	LinkRing *ring = ring_of(conn);
	LinkVerbs *verbs;
	LinkRingEnd mine;
	char why[sizeof(ring->reason)] = "";

	if (ring == NULL || ring->state != LINK_RING_OFF || theirs->generation <= ring->generation)
		return LINK_SWITCH_VIOLATION;
	verbs = open(arg, theirs, why, sizeof(why));
	link_ring_reset(ring, verbs, theirs->generation);
	ring->state = LINK_RING_TRYING;
	if (verbs == NULL)
		return link_switch_standby_stop(conn, why, stamp);
	mine = verbs->local;
	mine.generation = theirs->generation;
	if (mine.layer != theirs->layer)
		return link_switch_standby_stop(conn, "one side has InfiniBand, the other one Ethernet",
										stamp);
	if (!verbs->ops->connect(verbs, theirs))
		return link_switch_standby_stop(conn, verbs->error, stamp);
	if (!link_ring_dimension(ring, mine.size, mine.slots))
		return link_switch_standby_stop(conn, ring->reason, stamp);
	return put_end(conn, LINK_RING_ACCEPT, stamp, &mine) ? LINK_SWITCH_NOTHING
														 : LINK_SWITCH_VIOLATION;
}

/* All WAL on TCP is here. */
static LinkSwitch
take_start(LinkConn *conn, const LinkRingMark *mark, const LinkHeader *stamp)
{
	LinkRing *ring = conn->ring;

	if (ring->started)
		return LINK_SWITCH_VIOLATION;
	ring->started = true;
	if (ring->state == LINK_RING_OFF)
		return put_stop(conn, stamp, true) ? LINK_SWITCH_NOTHING : LINK_SWITCH_VIOLATION;
	if (ring->state != LINK_RING_TRIED || mark->position != ring->tail)
		return LINK_SWITCH_VIOLATION;
	ring->state = LINK_RING_ON;
	return LINK_SWITCH_STARTED;
}

LinkSwitch
link_switch_standby_frame(LinkConn *conn, const LinkHeader *header, const uint8_t *payload,
						  const LinkHeader *stamp, LinkSwitchOpen open, void *arg)
{
	LinkRing *ring = conn->ring;
	LinkRingEnd theirs;
	LinkRingMark mark;
	LinkRingStop stop;

	switch (header->type)
	{
		case LINK_RING_OFFER:
			if (!link_ring_end_decode(payload, header->length, &theirs))
				return LINK_SWITCH_VIOLATION;
			return take_offer(conn, &theirs, stamp, open, arg);
		case LINK_RING_START:
			if (!link_ring_mark_decode(payload, header->length, &mark) || ring == NULL ||
				mark.generation != ring->generation)
				return LINK_SWITCH_VIOLATION;
			return take_start(conn, &mark, stamp);
		case LINK_RING_STOP:
			if (!link_ring_stop_decode(payload, header->length, &stop) || ring == NULL ||
				stop.generation != ring->generation)
				return LINK_SWITCH_VIOLATION;
			fail_there(ring, "primary", stop.reason);
			return link_switch_standby_stop(conn, stop.reason, stamp);
		default:
			return LINK_SWITCH_VIOLATION;
	}
}

/* The trial frame has come: say so, and take nothing more until START. */
static LinkSwitch
take_trial(LinkConn *conn, const LinkHeader *trial, const LinkHeader *stamp)
{
	LinkRing *ring = conn->ring;
	uint64_t position;

	if (trial->type != LINK_BOUND || !link_ring_credit_due(ring, true, &position))
		return link_switch_standby_stop(conn, "the trial frame is not one", stamp);
	ring->state = LINK_RING_TRIED;
	return put_mark(conn, LINK_RING_CREDIT, stamp, position) ? LINK_SWITCH_NOTHING
															 : LINK_SWITCH_VIOLATION;
}

int
link_switch_next(LinkConn *conn, LinkHeader *header, const uint8_t **payload,
				 const LinkHeader *stamp, LinkSwitch *result)
{
	LinkRing *ring = conn->ring;
	int found;

	*result = LINK_SWITCH_NOTHING;
	if (ring == NULL || (ring->state != LINK_RING_ON && ring->state != LINK_RING_TRYING))
		return 0;
	found = link_ring_next(ring, header, payload);
	if (found < 0)
		*result = link_switch_standby_stop(conn, ring->reason, stamp);
	else if (found > 0 && ring->state == LINK_RING_TRYING)
		*result = take_trial(conn, header, stamp);
	else
		return found;
	return 0;
}

bool
link_switch_idle(LinkConn *conn, bool wait, const LinkHeader *stamp, LinkSwitch *result)
{
	LinkRing *ring = conn->ring;
	uint64_t position;
	int pending;

	*result = LINK_SWITCH_NOTHING;
	if (ring == NULL || ring->state == LINK_RING_OFF)
		return false;
	if (ring->state == LINK_RING_ON && link_ring_credit_due(ring, false, &position) &&
		!put_mark(conn, LINK_RING_CREDIT, stamp, position))
	{
		*result = LINK_SWITCH_VIOLATION;
		return false;
	}
	if (ring->failed || !ring->verbs->ops->healthy(ring->verbs))
	{
		*result =
			link_switch_standby_stop(conn, ring->failed ? ring->reason : ring->verbs->error, stamp);
		return false;
	}
	if (wait && !ring->verbs->ops->arm(ring->verbs))
	{
		*result = link_switch_standby_stop(conn, ring->verbs->error, stamp);
		return false;
	}
	if (ring->state == LINK_RING_TRIED)
		return false; /* what has arrived has to wait for START */
	pending = link_ring_pending(ring);
	if (pending < 0)
		*result = link_switch_standby_stop(conn, ring->reason, stamp);
	return pending > 0;
}
