/*
 * heartbeat.h
 *		The other nodes, by UDP on one to four paths each.
 *
 * Path i of this node talks to path i of the other; where one has fewer, its last one stands in.
 * Every message of the decision core goes out on all paths and is taken once, whichever path it
 * comes by.  Without messages a heartbeat with the status goes out every second.
 *
 * Sockets are bound although their address may not exist yet (IP_FREEBIND), so that tandemd can
 * start before the network does.  Nothing here blocks; what cannot be sent is lost, as any
 * datagram may be.  Times are microseconds of CLOCK_BOOTTIME.
 */
#ifndef TANDEM_HEARTBEAT_H
#define TANDEM_HEARTBEAT_H

#include <systemd/sd-event.h>

#include "wire.h"

typedef struct Heartbeat Heartbeat;

typedef struct HeartbeatCallbacks
{
	/* A message for the decision core. */
	void (*got)(void *user, const FsmMsg *m);
	/* Fill in what this node says of itself. */
	void (*say)(void *user, WireStatus *s);
	/* For log and events: a node or a path is heard, or is not heard any more; strange datagrams. */
	void (*told)(void *user, const char *text);
} HeartbeatCallbacks;

/* How long without a datagram until a path or node is called silent, in microseconds. */
#define HEARTBEAT_SILENT INT64_C(3000000)

typedef struct HeartbeatPeer
{
	int npaths;
	int64_t heard; /* any path; 0: never */
	int64_t path_heard[CONFIG_MAX_PATHS];
	uint64_t boot;
	uint64_t instance;
	WireStatus status; /* its last */
} HeartbeatPeer;

extern int heartbeat_new(Heartbeat **h, const Config *c, sd_event *event, uint64_t boot,
						 uint64_t instance, const HeartbeatCallbacks *cb, void *user);
extern void heartbeat_free(Heartbeat *h);
/* m->to is another node. */
extern void heartbeat_send(Heartbeat *h, const FsmMsg *m);
/* Owned by h; its contents change with every datagram. */
extern const HeartbeatPeer *heartbeat_peer(const Heartbeat *h, int node);

#endif /* TANDEM_HEARTBEAT_H */
