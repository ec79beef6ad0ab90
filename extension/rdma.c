/*-------------------------------------------------------------------------
 *
 * rdma.c
 *	  RDMA on a link: whether it may be used, and what is shown of it.
 *
 * What sendring.c on the primary and rcvring.c on the standby share.  The
 * protocol between them is link/switch.c, the ring link/ring.c, the device
 * link/rdma.c.
 *
 * WAL in the ring is not encrypted.  So "auto" never takes a link off TLS:
 * where tandem.tls is on, both nodes have to say tandem.transport = rdma.
 *
 * An arrival in the ring counts for nothing by itself.  WAL is acknowledged
 * as everywhere else: as written when the standby has written it to its file,
 * as flushed when that is durable.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "link/rdma.h"

/* Why RDMA is not to be used on this link, or NULL. */
const char *
rdma_why_not(const LinkConn *conn)
{
	if (tandem_transport == TANDEM_TRANSPORT_TCP)
		return "tandem.transport is tcp";
	if (!link_rdma_built())
		return "pg_tandem was built without libibverbs";
	if (tandem_transport == TANDEM_TRANSPORT_AUTO && conn->transport->encrypted)
		return "the link is encrypted, which RDMA is not; tandem.transport = rdma would allow it";
	return NULL;
}

/*
 * Our end of a connection for this link, NULL with a reason.  'limit' is the
 * largest ring that the peer can use, or 0.
 */
LinkVerbs *
rdma_open(const LinkConn *conn, bool standby, size_t limit, char *why, size_t why_size)
{
	size_t size = (size_t) tandem_rdma_ring_size * 1024;
	LinkRdmaOptions options = {.device = tandem_rdma_device,
							   .gid_index = tandem_rdma_gid_index,
							   .fd = conn->fd,
							   .standby = standby,
							   .timeout_ms = tandem_link_timeout};

	if (limit != 0)
		size = Min(size, limit);
	options.size = size / LINK_RING_MIN_SIZE * LINK_RING_MIN_SIZE;
	return link_rdma_open(&options, why, why_size);
}

/* ------------------------------------------------------------- the views */

/* A new link: RDMA is not in use. */
void
rdma_show_begin(RdmaShow *show, const LinkConn *conn)
{
	show->completions_seen = show->bytes_seen = show->waits_seen = 0;
	show->told[0] = '\0';
	SpinLockAcquire(show->mutex);
	show->rdma->on = false;
	show->rdma->memory = 0;
	show->rdma->reason[0] = '\0';
	*show->encrypted = conn->transport->encrypted;
	SpinLockRelease(show->mutex);
}

/*
 * RDMA is not used: show why, or that nothing speaks against it any more ("").
 * It is worth an event only if the administrator has asked for RDMA, and if it
 * is not the one of the last time.
 */
void
rdma_show_reason(RdmaShow *show, const char *reason)
{
	char text[sizeof(show->rdma->reason)];

	tandem_store_text(text, sizeof(text), reason);
	SpinLockAcquire(show->mutex);
	strlcpy(show->rdma->reason, text, sizeof(show->rdma->reason));
	SpinLockRelease(show->mutex);
	if (tandem_transport != TANDEM_TRANSPORT_RDMA || strcmp(show->told, text) == 0)
		return;
	strlcpy(show->told, text, sizeof(show->told));
	if (text[0] != '\0')
		tandem_event("link", show->name, "RDMA is not used: %s", text);
}

void
rdma_show_counters(RdmaShow *show, const LinkConn *conn)
{
	const LinkRing *ring = conn->ring;
	TandemRdma *rdma = show->rdma;

	if (ring == NULL)
		return;
	SpinLockAcquire(show->mutex);
	rdma->completions += ring->completions - show->completions_seen;
	rdma->bytes += ring->bytes - show->bytes_seen;
	rdma->waits += ring->waits - show->waits_seen;
	rdma->memory = ring->verbs != NULL ? ring->verbs->size : 0;
	SpinLockRelease(show->mutex);
	show->completions_seen = ring->completions;
	show->bytes_seen = ring->bytes;
	show->waits_seen = ring->waits;
}

/* Tell of a change, in the view and as an event. */
void
rdma_show_change(RdmaShow *show, const LinkConn *conn, LinkSwitch change)
{
	TandemRdma *rdma = show->rdma;
	const LinkRing *ring = conn->ring;
	char text[sizeof(rdma->reason)];
	bool on = change == LINK_SWITCH_STARTED;

	rdma_show_counters(show, conn);
	if (change == LINK_SWITCH_REFUSED)
	{
		rdma_show_reason(show, ring->reason);
		return;
	}
	tandem_store_text(text, sizeof(text), on ? ring->verbs->description : ring->reason);
	SpinLockAcquire(show->mutex);
	strlcpy(rdma->reason, text, sizeof(rdma->reason));
	rdma->on = on;
	*show->encrypted = conn->transport->encrypted && !on;
	if (!on)
	{
		rdma->fallbacks++;
		strlcpy(rdma->last_fallback, text, sizeof(rdma->last_fallback));
	}
	SpinLockRelease(show->mutex);
	show->told[0] = '\0';
	if (on)
		tandem_event("link", show->name, "RDMA carries the WAL: %s", text);
	else
		tandem_event("link", show->name, "back from RDMA to TCP: %s", text);
}
