/*
 * heartbeat.c
 *		See heartbeat.h: sockets, and what is known of the other nodes.
 *
 * The bytes, and what makes them safe to take, are wire.c's.
 */
#include "heartbeat.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "lease_file.h"

#define BEAT_INTERVAL   INT64_C(1000000)
#define CHALLENGE_PAUSE INT64_C(10000)    /* between two challenges to one node */
#define COMPLAIN_PAUSE  INT64_C(60000000) /* between two log lines on strange datagrams */
#define MAX_AT_ONCE     64                /* datagrams of one socket, then others get their turn */

typedef struct Peer
{
	HeartbeatPeer shown;
	WirePeer wire;
	uint64_t proof; /* its nonce for this instance of ours */
	int64_t challenged;
	int64_t answered;
	bool silent; /* as last told */
	bool path_silent[CONFIG_MAX_PATHS];
	bool has_last; /* the last message sent: again, when we are asked to prove ourselves */
	FsmMsg last;
} Peer;

struct Heartbeat
{
	const Config *config;
	WireKey key;
	HeartbeatCallbacks cb;
	void *user;
	uint64_t boot;
	uint64_t instance;
	uint64_t number;
	uint8_t secret[32];
	int64_t complained[WIRE_ADDRESS + 1];
	sd_event_source *beat;
	int nsockets;
	int fd[CONFIG_MAX_PATHS];
	sd_event_source *source[CONFIG_MAX_PATHS];
	Peer peer[FSM_MAX_NODES];
};

static void tell(Heartbeat *h, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
tell(Heartbeat *h, const char *format, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	h->cb.told(h->user, text);
}

/* ---------- sending ---------- */

static socklen_t
address_length(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static void
send_on_all_paths(Heartbeat *h, WireDatagram *d)
{
	const ConfigNode *to = &h->config->node[d->to];
	int n = h->peer[d->to].shown.npaths;
	uint8_t bytes[WIRE_MAX];

	d->from = (int8_t) h->config->self;
	d->boot = h->boot;
	d->instance = h->instance;
	d->number = ++h->number;
	d->proof = h->peer[d->to].proof;
	for (int i = 0; i < n; i++)
	{
		const struct sockaddr_storage *a = &to->path[i < to->npaths ? i : to->npaths - 1];
		int fd = h->fd[i < h->nsockets ? i : h->nsockets - 1];
		size_t length;

		d->path = (uint8_t) i;
		length = wire_encode(&h->key, d, bytes);
		if (length > 0)
			(void) !sendto(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL,
						   (const struct sockaddr *) a, address_length(a));
	}
}

static void
send_beat(Heartbeat *h, int to, const FsmMsg *m)
{
	WireDatagram d;

	memset(&d, 0, sizeof(d));
	d.kind = WIRE_BEAT;
	d.to = (int8_t) to;
	h->cb.say(h->user, &d.status);
	if (m != NULL)
	{
		d.has_msg = true;
		d.msg = *m;
	}
	send_on_all_paths(h, &d);
}

void
heartbeat_send(Heartbeat *h, const FsmMsg *m)
{
	Peer *p;

	if (m->to < 0 || m->to >= h->config->nnodes || m->to == h->config->self)
		return;
	p = &h->peer[m->to];
	p->last = *m;
	p->has_last = true;
	send_beat(h, m->to, m);
}

/* ---------- receiving ---------- */

static void
complain(Heartbeat *h, WireFault fault, const struct sockaddr_storage *from, socklen_t length)
{
	int64_t now = lease_file_now();
	char host[NI_MAXHOST] = "?";
	char port[NI_MAXSERV] = "?";

	if (h->complained[fault] != 0 && now - h->complained[fault] < COMPLAIN_PAUSE)
		return;
	h->complained[fault] = now;
	getnameinfo((const struct sockaddr *) from, length, host, sizeof(host), port, sizeof(port),
				NI_NUMERICHOST | NI_NUMERICSERV | NI_DGRAM);
	tell(h, "refused a datagram from %s port %s: %s", host, port, wire_fault_text(fault));
}

static void
challenge(Heartbeat *h, const WireDatagram *d)
{
	Peer *p = &h->peer[d->from];
	int64_t now = lease_file_now();
	WireDatagram c;

	if (p->challenged != 0 && now - p->challenged < CHALLENGE_PAUSE)
		return;
	p->challenged = now;
	memset(&c, 0, sizeof(c));
	c.kind = WIRE_CHALLENGE;
	c.to = d->from;
	c.asked_boot = d->boot;
	c.asked_instance = d->instance;
	c.nonce = wire_nonce(&p->wire, h->secret, d);
	send_on_all_paths(h, &c);
}

/* The other side wants to know whether this tandemd is alive.  What it has not taken comes again. */
static void
challenged(Heartbeat *h, const WireDatagram *d)
{
	Peer *p = &h->peer[d->from];
	int64_t now = lease_file_now();

	if (d->asked_boot != h->boot || d->asked_instance != h->instance)
		return;
	if (p->proof == d->nonce && now - p->answered < CHALLENGE_PAUSE)
		return;
	p->proof = d->nonce;
	p->answered = now;
	send_beat(h, d->from, p->has_last ? &p->last : NULL);
}

static void
heard_on_path(Heartbeat *h, Peer *p, int node, int path, int64_t now)
{
	p->shown.path_heard[path] = now;
	if (p->path_silent[path])
	{
		p->path_silent[path] = false;
		if (!p->silent && p->shown.npaths > 1)
			tell(h, "node %s is heard on path %d again", h->config->node[node].name, path + 1);
	}
}

static void
taken(Heartbeat *h, const WireDatagram *d)
{
	Peer *p = &h->peer[d->from];
	HeartbeatPeer *s = &p->shown;

	s->heard = lease_file_now();
	if (p->silent)
	{
		p->silent = false;
		tell(h, "node %s is heard", h->config->node[d->from].name);
	}
	s->boot = d->boot;
	s->instance = d->instance;
	s->status = d->status;
	if (d->has_msg)
		h->cb.got(h->user, &d->msg);
}

static void
receive(Heartbeat *h, const uint8_t *bytes, size_t length, const struct sockaddr_storage *from,
		socklen_t from_length)
{
	WireDatagram d;
	WireFault fault = wire_decode(&h->key, bytes, length, &d);
	WireVerdict verdict;
	bool first_on_path;
	Peer *p;

	if (fault != WIRE_OK)
	{
		complain(h, fault, from, from_length);
		return;
	}
	if (d.kind == WIRE_CHALLENGE)
	{
		challenged(h, &d);
		return;
	}
	p = &h->peer[d.from];
	verdict = wire_admit(&p->wire, h->secret, &d, &first_on_path);
	if (first_on_path && d.path < p->shown.npaths)
		heard_on_path(h, p, d.from, d.path, lease_file_now());
	if (verdict == WIRE_UNPROVEN)
		challenge(h, &d);
	else if (verdict == WIRE_TAKE)
		taken(h, &d);
}

static int
readable(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	Heartbeat *h = user;

	(void) source;
	(void) revents;
	for (int i = 0; i < MAX_AT_ONCE; i++)
	{
		uint8_t bytes[WIRE_MAX + 1];
		struct sockaddr_storage from = {0};
		socklen_t length = sizeof(from);
		ssize_t n =
			recvfrom(fd, bytes, sizeof(bytes), MSG_DONTWAIT, (struct sockaddr *) &from, &length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break; /* nothing more, or an ICMP error that says nothing */
		receive(h, bytes, (size_t) n, &from, length);
	}
	return 0;
}

/* ---------- signs of life ---------- */

static void
look_for_silence(Heartbeat *h, int node, int64_t now)
{
	Peer *p = &h->peer[node];
	const char *name = h->config->node[node].name;

	if (!p->silent && now - p->shown.heard > HEARTBEAT_SILENT)
	{
		p->silent = true;
		tell(h, "node %s is silent on all paths", name);
	}
	for (int i = 0; i < p->shown.npaths; i++)
	{
		if (p->path_silent[i] || now - p->shown.path_heard[i] <= HEARTBEAT_SILENT)
			continue;
		p->path_silent[i] = true;
		if (!p->silent)
			tell(h, "node %s is silent on path %d", name, i + 1);
	}
}

static int
beat(sd_event_source *source, uint64_t usec, void *user)
{
	Heartbeat *h = user;
	int64_t now = lease_file_now();

	(void) usec;
	for (int n = 0; n < h->config->nnodes; n++)
	{
		if (n == h->config->self)
			continue;
		send_beat(h, n, NULL);
		look_for_silence(h, n, now);
	}
	sd_event_source_set_time(source, (uint64_t) (now + BEAT_INTERVAL));
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* ---------- start and end ---------- */

static int
open_socket(Heartbeat *h, sd_event *event, int i)
{
	const struct sockaddr_storage *a = &h->config->node[h->config->self].path[i];
	int on = 1;
	int tos = 0xc0; /* CS6, network control: bulk traffic must not delay it */
	int fd = socket(a->ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	if (a->ss_family == AF_INET6)
	{
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
	}
	else
	{
		setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	}
	if (bind(fd, (const struct sockaddr *) a, address_length(a)) < 0)
	{
		r = -errno;
		close(fd);
		return r;
	}
	r = sd_event_add_io(event, &h->source[i], fd, EPOLLIN, readable, h);
	if (r < 0)
	{
		close(fd);
		return r;
	}
	sd_event_source_set_priority(h->source[i], SD_EVENT_PRIORITY_IMPORTANT);
	sd_event_source_set_io_fd_own(h->source[i], true);
	h->fd[i] = fd;
	h->nsockets++;
	return 0;
}

/* *h is usable when 0 is returned; c must outlive it. */
int
heartbeat_new(Heartbeat **out, const Config *c, sd_event *event, uint64_t boot, uint64_t instance,
			  const HeartbeatCallbacks *cb, void *user)
{
	const ConfigNode *self = &c->node[c->self];
	int64_t now = lease_file_now();
	Heartbeat *h = calloc(1, sizeof(*h));
	int r = 0;

	if (h == NULL)
		return -ENOMEM;
	h->config = c;
	h->cb = *cb;
	h->user = user;
	h->boot = boot;
	h->instance = instance;
	wire_key(&h->key, c);
	if (getrandom(h->secret, sizeof(h->secret), 0) != (ssize_t) sizeof(h->secret))
		r = -EIO;
	for (int n = 0; n < c->nnodes; n++)
	{
		HeartbeatPeer *s = &h->peer[n].shown;

		s->npaths = c->node[n].npaths > self->npaths ? c->node[n].npaths : self->npaths;
		h->peer[n].silent = true; /* until it is heard */
		for (int i = 0; i < CONFIG_MAX_PATHS; i++)
			h->peer[n].path_silent[i] = true;
	}
	if (self->npaths == 0)
		r = -EADDRNOTAVAIL;
	for (int i = 0; i < self->npaths && r >= 0; i++)
		r = open_socket(h, event, i);
	if (r >= 0)
		r = sd_event_add_time(event, &h->beat, CLOCK_BOOTTIME, (uint64_t) now, 1000, beat, h);
	if (r < 0)
	{
		heartbeat_free(h);
		return r;
	}
	*out = h;
	return 0;
}

void
heartbeat_free(Heartbeat *h)
{
	if (h == NULL)
		return;
	sd_event_source_disable_unref(h->beat);
	for (int i = 0; i < h->nsockets; i++)
		sd_event_source_disable_unref(h->source[i]); /* closes the socket */
	OPENSSL_cleanse(h->secret, sizeof(h->secret));
	OPENSSL_cleanse(&h->key, sizeof(h->key));
	free(h);
}

const HeartbeatPeer *
heartbeat_peer(const Heartbeat *h, int node)
{
	return &h->peer[node].shown;
}
