/*-------------------------------------------------------------------------
 *
 * sendring.c
 *	  The primary's side of RDMA: when to try it, and when to leave it.
 *
 * The link worker streams by TCP and asks here, whenever it is awake, whether
 * the ring is to be tried, looked after, or given up.  Nothing here waits for
 * the standby.  An attempt that fails costs the stream nothing (see
 * link/switch.h); the next one follows after RETRY_MIN_MS, and then after
 * twice as long each time, until RDMA has worked for a while.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "utils/timestamp.h"

#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
#define STABLE_MS    60000 /* in use for so long: the next failure is a first one */
#define ATTEMPT_MS   5000  /* for the standby to take the trial frame */
#define WRITING_MS   50    /* how often to look while writes are not completed */
#define BLOCKED_MS   5     /* and while they are waited for */

static RdmaShow show;
static bool show_again; /* why RDMA is not used: the settings have changed */
static int epoll_fd = -1;
static TimestampTz next_try;
static int retry_ms;
static TimestampTz deadline; /* of an attempt, or for the answer to STOP */
static TimestampTz started_at;

/*
 * A link begins, by TCP.  Returns a descriptor that becomes readable when
 * sendring_step() has something to look at, valid until sendring_end(); -1 if
 * there can be none, and then RDMA is not tried.
 */
int
sendring_begin(TandemLink *link, LinkConn *conn)
{
	show.mutex = &link->mutex;
	show.rdma = &link->rdma;
	show.encrypted = &link->encrypted;
	show.name = link->name;
	rdma_show_begin(&show, conn);
	next_try = 0;
	retry_ms = RETRY_MIN_MS;
	sendring_end();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		rdma_show_reason(&show, "too many open files");
	return epoll_fd;
}

/* The link is over.  What the connection held has gone with it. */
void
sendring_end(void)
{
	if (epoll_fd >= 0)
		close(epoll_fd);
	epoll_fd = -1;
}

/* Settings have changed: try again now. */
void
sendring_retry(void)
{
	next_try = 0;
	retry_ms = RETRY_MIN_MS;
	show_again = true;
}

/* A change of carrier.  NULL, or why the link ends. */
static const char *
note(LinkConn *conn, LinkSwitch change, bool *ended)
{
	TimestampTz now = GetCurrentTimestamp();

	switch (change)
	{
		case LINK_SWITCH_NOTHING:
			return NULL;
		case LINK_SWITCH_VIOLATION:
			return "protocol violation: RDMA";
		case LINK_SWITCH_STARTED:
			started_at = now;
			break;
		case LINK_SWITCH_ENDED:
			*ended = true;
			if (TimestampDifferenceExceeds(started_at, now, STABLE_MS))
				retry_ms = RETRY_MIN_MS;
			/* FALLTHROUGH */
		case LINK_SWITCH_REFUSED:
			next_try = TimestampTzPlusMilliseconds(now, retry_ms);
			retry_ms = Min(retry_ms * 2, RETRY_MAX_MS);
			break;
	}
	rdma_show_change(&show, conn, change);
	return NULL;
}

/*
 * Take a frame of the standby's about RDMA.  *ended: the stream goes on by
 * TCP, at conn->ring->resume.  NULL, or why the link ends.
 */
const char *
sendring_frame(LinkConn *conn, const LinkHeader *header, const uint8_t *payload,
			   const LinkHeader *stamp, bool *ended)
{
	const char *why = note(conn, link_switch_primary_frame(conn, header, payload, stamp), ended);

	if (conn->ring != NULL && conn->ring->state == LINK_RING_STOPPING)
		deadline = TimestampTzPlusMilliseconds(stamp->time, tandem_link_timeout);
	return why;
}

/* Begin an attempt. */
static const char *
try_it(LinkConn *conn, const LinkHeader *stamp, bool *ended)
{
	char why[sizeof(show.rdma->reason)];
	LinkVerbs *verbs = rdma_open(conn, false, 0, why, sizeof(why));
	struct epoll_event event = {.events = EPOLLIN};

	deadline = TimestampTzPlusMilliseconds(stamp->time, Min(ATTEMPT_MS, tandem_link_timeout));
	if (verbs != NULL && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, verbs->fd, &event) == 0)
		return note(conn, link_switch_offer(conn, verbs, stamp), ended);
	if (verbs != NULL)
	{
		snprintf(why, sizeof(why), "%s() failed: %m", "epoll_ctl");
		verbs->ops->destroy(verbs);
	}
	rdma_show_reason(&show, why);
	next_try = TimestampTzPlusMilliseconds(stamp->time, retry_ms);
	retry_ms = Min(retry_ms * 2, RETRY_MAX_MS);
	return NULL;
}

/* When the worker has to look again, even if nothing wakes it. */
static long
patience(const LinkRing *ring)
{
	if (ring == NULL || ring->verbs == NULL || ring->written == ring->posted)
		return PG_INT32_MAX;
	return ring->waiting ? BLOCKED_MS : WRITING_MS;
}

/*
 * Look after RDMA.  As sendring_frame(); *wait_ms is lowered to when this
 * wants to be called again.
 */
const char *
sendring_step(LinkConn *conn, const LinkHeader *stamp, bool *ended, long *wait_ms)
{
	const char *why_not = epoll_fd < 0 ? "too many open files" : rdma_why_not(conn);
	LinkRing *ring = conn->ring;
	bool off = ring == NULL || ring->state == LINK_RING_OFF;
	bool late = stamp->time >= deadline;
	const char *why;

	if (off && why_not != NULL)
	{
		if (show_again || strcmp(show.rdma->reason, why_not) != 0)
			rdma_show_reason(&show, why_not);
		show_again = false;
		return NULL;
	}
	if (off)
		return stamp->time < next_try ? NULL : try_it(conn, stamp, ended);

	if (ring->state == LINK_RING_STOPPING)
		return late ? "the standby did not say how far it got by RDMA" : NULL;
	why = note(conn, link_switch_primary_look(conn, stamp), ended);
	if (why == NULL && why_not != NULL)
		why = note(conn, link_switch_stop(conn, why_not, stamp), ended);
	if (why == NULL &&
		link_switch_is_stuck(ring, stamp->time, INT64CONST(1000) * (tandem_link_timeout / 2)))
		why = note(conn, link_switch_stop(conn, "writes were not completed in time", stamp), ended);
	if (why == NULL && late &&
		(ring->state == LINK_RING_OFFERED || ring->state == LINK_RING_TRYING))
		why = note(conn,
				   link_switch_stop(conn,
									ring->state == LINK_RING_OFFERED
										? "the standby did not answer in time"
										: "the trial frame was not taken in time",
									stamp),
				   ended);
	if (ring->state == LINK_RING_STOPPING)
		deadline = TimestampTzPlusMilliseconds(stamp->time, tandem_link_timeout);
	rdma_show_counters(&show, conn);
	*wait_ms = Min(*wait_ms, patience(ring));
	return why;
}
