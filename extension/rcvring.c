/*-------------------------------------------------------------------------
 *
 * rcvring.c
 *	  The standby's side of RDMA: the ring that the primary writes to.
 *
 * The walreceiver takes frames from the ring as it takes them from TCP, and
 * writes their payload to pg_wal from where the device has put it.  The
 * ring's descriptor is in the epoll set that it waits for anyway.
 *
 * All of it belongs to the connection (uplink_conn) and ends with it.
 *
 *-------------------------------------------------------------------------
 */
#include "receiver.h"

#include <sys/epoll.h>

#include "portability/instr_time.h"
#include "utils/timestamp.h"

static RdmaShow show;
static const char *why_not_shown;
static int transport_shown;

/*
 * The primary may never offer anything: say by ourselves what forbids RDMA
 * here, also after a reload.
 */
static void
show_why_not(void)
{
	const char *why_not = rdma_why_not(uplink_conn);

	if (why_not == why_not_shown && tandem_transport == transport_shown)
		return;
	why_not_shown = why_not;
	transport_shown = tandem_transport;
	rdma_show_reason(&show, why_not != NULL ? why_not : "");
}

/* The link has just been opened. */
void
rcvring_begin(void)
{
	TandemReceiver *receiver = &tandem->receiver;

	show.mutex = &receiver->mutex;
	show.rdma = &receiver->rdma;
	show.encrypted = &receiver->encrypted;
	show.name = tandem_node_name;
	rdma_show_begin(&show, uplink_conn);
	why_not_shown = NULL;
	transport_shown = tandem_transport;
	show_why_not();
}

static LinkHeader
make_stamp(void)
{
	LinkHeader stamp = {.term = uplink_term, .lsn = rcvwal.written, .time = GetCurrentTimestamp()};

	return stamp;
}

/* A change of carrier.  NULL, or why the link is lost. */
static const char *
note(LinkSwitch change)
{
	if (change == LINK_SWITCH_VIOLATION)
		return "protocol violation: RDMA";
	if (change != LINK_SWITCH_NOTHING)
		rdma_show_change(&show, uplink_conn, change);
	return NULL;
}

/* Make our end of what the primary offers; NULL with a reason. */
static LinkVerbs *
open_end(pg_attribute_unused() void *arg, const LinkRingEnd *peer, char *why, size_t why_size)
{
	const char *why_not = rdma_why_not(uplink_conn);
	struct epoll_event event = {.events = EPOLLIN};
	LinkVerbs *verbs;

	if (why_not != NULL)
	{
		strlcpy(why, why_not, why_size);
		return NULL;
	}
	verbs = rdma_open(uplink_conn, true, peer->size, why, why_size);
	if (verbs == NULL)
		return NULL;
	verbs->local.slots = Min(verbs->local.slots, peer->slots);
	event.data.fd = verbs->fd;
	if (epoll_ctl(uplink_fd(), EPOLL_CTL_ADD, verbs->fd, &event) == 0)
		return verbs;
	snprintf(why, why_size, "%s() failed: %m", "epoll_ctl");
	verbs->ops->destroy(verbs);
	return NULL;
}

/* Take a frame of the primary's about RDMA.  NULL, or why the link is lost. */
const char *
rcvring_frame(const LinkHeader *header, const uint8_t *payload)
{
	LinkHeader stamp = make_stamp();

	return note(link_switch_standby_frame(uplink_conn, header, payload, &stamp, open_end, NULL));
}

/*
 * The next frame from the ring, if there is one.  *lost: why the link is lost,
 * or NULL.
 */
bool
rcvring_next(LinkHeader *header, const uint8_t **payload, const char **lost)
{
	LinkSwitch result;
	LinkHeader stamp;
	bool found;

	*lost = NULL;
	if (uplink_conn->ring == NULL || uplink_conn->ring->state == LINK_RING_OFF)
		return false;
	stamp = make_stamp();
	found = link_switch_next(uplink_conn, header, payload, &stamp, &result) == 1;
	*lost = note(result);
	return found;
}

/*
 * All frames taken have been written: give back their room.  With 'wait', the
 * caller is going to wait, unless this is true: there is more.
 */
bool
rcvring_idle(bool wait, const char **lost)
{
	LinkRing *ring = uplink_conn->ring;
	const char *why_not;
	LinkSwitch result;
	LinkHeader stamp;
	bool more;

	*lost = NULL;
	if (ring == NULL || ring->state == LINK_RING_OFF)
	{
		show_why_not();
		return false;
	}
	stamp = make_stamp();
	why_not = rdma_why_not(uplink_conn);
	if (why_not != NULL)
	{
		*lost = note(link_switch_standby_stop(uplink_conn, why_not, &stamp));
		return false;
	}
	more = link_switch_idle(uplink_conn, wait, &stamp, &result);
	*lost = note(result);
	if (wait)
		rdma_show_counters(&show, uplink_conn);
	return more;
}

/*
 * Look for WAL in the ring for tandem.rdma_poll_us.  True: some has come.
 */
bool
rcvring_spin(void)
{
	instr_time start;
	instr_time now;

	if (tandem_rdma_poll_us == 0 || uplink_conn == NULL || !link_switch_is_on(uplink_conn))
		return false;
	INSTR_TIME_SET_CURRENT(start);
	do
	{
		if (link_ring_pending(uplink_conn->ring) != 0)
			return true;
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
	} while (INSTR_TIME_GET_MICROSEC(now) < (uint64) tandem_rdma_poll_us);
	return false;
}
