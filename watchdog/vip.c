/*
 * vip.c
 *		The virtual addresses: probe, add, announce, renew, remove.
 *
 * Each address is a small machine of its own, driven by one timer ("step") and by what comes on
 * its socket.  A second timer ("expiry") removes it at the exact end of the lease; the kernel's
 * lifetime, in whole seconds, is there for when this process is not.
 */
#include "vip.h"

#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arp.h"
#include "ndisc.h"
#include "netlink.h"

#define MS                INT64_C(1000)
#define SEC               INT64_C(1000000)
#define PROBES            2
#define PROBE_INTERVAL    (40 * MS)
#define PROBE_ANSWER      (60 * MS) /* after the last probe */
#define RETRY_INTERVAL    (500 * MS)
#define BURST             3
#define BURST_INTERVAL    (50 * MS)
#define BURST_AGAIN       (5 * SEC)
#define CONFLICT_INTERVAL (10 * SEC) /* say so, and defend it, no more often */
#define TEXT_SIZE         512
/* So often in such a time at most is read what came (16 packets each): a host that floods the network
 * must not keep this process, which runs before others, busy. */
#define HEAR_INTERVAL     (100 * MS)
#define HEAR_TIMES        40

typedef struct Address
{
	Vip *vip;
	int index;
	const ConfigVip *config;
	VipState state;
	char name[64]; /* for messages */
	char text[TEXT_SIZE];
	int64_t until; /* 0: not wanted */
	NetDevice device;
	int fd;
	sd_event_source *io;
	sd_event_source *step;
	sd_event_source *expiry;
	int count; /* probes or announcements sent */
	int64_t conflict;
} Address;

struct Vip
{
	const Config *config;
	sd_event *event;
	VipTold told;
	void *user;
	Netlink *netlink;
	int n;
	Address address[CONFIG_MAX_VIPS];
};

static void start_probe(Address *a);

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * SEC + t.tv_nsec / 1000;
}

static void
say(Address *a, VipState state, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Tells the owner what is new; the same trouble is not told again at every try. */
static void
say(Address *a, VipState state, const char *format, ...)
{
	char text[TEXT_SIZE];
	bool news;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	news = strcmp(text, a->text) != 0 && (state != VIP_PROBING || a->state == VIP_OFF);
	a->state = state;
	if (state == VIP_PROBING && !news)
		return; /* the text goes on saying why it is tried again */
	strcpy(a->text, text);
	if (news)
		a->vip->told(a->vip->user, a->index, state, a->text);
}

/* ---------- timers and sockets ---------- */

static sd_event_source *
forget(sd_event_source *source)
{
	if (source != NULL)
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return sd_event_source_unref(source);
}

/* Accuracy 1: the default of sd-event is a quarter of a second. */
static void
set_timer(Address *a, sd_event_source **source, int64_t at, sd_event_time_handler_t handler)
{
	*source = forget(*source);
	if (sd_event_add_time(a->vip->event, source, CLOCK_BOOTTIME, at, 1, handler, a) < 0)
		*source = NULL; /* out of memory: the next vip_hold() tries again */
}

static void
close_socket(Address *a)
{
	a->io = forget(a->io);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

static int
probe(Address *a)
{
	return a->config->family == AF_INET ? arp_probe(a->fd, &a->device, a->config->address)
										: ndisc_probe(a->fd, &a->device, a->config->address);
}

static int
announce(Address *a)
{
	if (a->fd < 0)
		return 0;
	return a->config->family == AF_INET ? arp_announce(a->fd, &a->device, a->config->address)
										: ndisc_announce(a->fd, &a->device, a->config->address);
}

static bool
claimed(Address *a, char *whose)
{
	return a->config->family == AF_INET
			   ? arp_claimed(a->fd, &a->device, a->config->address, whose)
			   : ndisc_claimed(a->fd, &a->device, a->config->address, whose);
}

/* ---------- off ---------- */

static void
remove_address(Address *a)
{
	NetDevice device;
	int e = netlink_device(a->vip->netlink, a->config->device, &device);

	if (e == 0)
		e = netlink_remove(a->vip->netlink, &device, a->config);
	if (e != 0 && e != -EADDRNOTAVAIL && e != -ENODEV)
		say(a, VIP_FAILED, "could not remove %s: %s; the kernel does it when its lifetime ends",
			a->name, strerror(-e));
}

static void
turn_off(Address *a, const char *why)
{
	VipState before = a->state;

	a->until = 0;
	a->step = forget(a->step);
	a->expiry = forget(a->expiry);
	close_socket(a);
	a->state = VIP_OFF;
	remove_address(a);
	if (a->state == VIP_OFF && before != VIP_OFF)
		say(a, VIP_OFF, "%s removed%s", a->name, why);
	else if (a->state == VIP_OFF)
		a->text[0] = '\0';
}

static int
expired(sd_event_source *source, uint64_t usec, void *user)
{
	(void) source;
	(void) usec;
	turn_off(user, ": the lease has ended");
	return 0;
}

/* ---------- on ---------- */

static int
retry(sd_event_source *source, uint64_t usec, void *user)
{
	(void) source;
	(void) usec;
	start_probe(user);
	return 0;
}

/* The text is set: not now, but in half a second. */
static void
try_again(Address *a)
{
	close_socket(a);
	set_timer(a, &a->step, now_us() + RETRY_INTERVAL, retry);
}

static int
announce_step(sd_event_source *source, uint64_t usec, void *user)
{
	Address *a = user;

	(void) source;
	(void) usec;
	announce(a); /* the link may be down: there will be another one */
	a->count++;
	if (a->count < 2 * BURST)
		set_timer(a, &a->step, now_us() + (a->count == BURST ? BURST_AGAIN : BURST_INTERVAL),
				  announce_step);
	else
		a->step = forget(a->step);
	return 0;
}

/* At least 1: the kernel knows no fractions, and 0 is refused. */
static uint32_t
lifetime(const Address *a)
{
	int64_t left = (a->until - now_us()) / SEC;

	return left < 1 ? 1 : (uint32_t) left;
}

static int
add_address(sd_event_source *source, uint64_t usec, void *user)
{
	Address *a = user;
	int e;

	(void) source;
	(void) usec;
	a->step = forget(a->step);
	if (now_us() >= a->until)
		return 0; /* expiry is about to say so */
	e = netlink_hold(a->vip->netlink, &a->device, a->config, lifetime(a));
	if (e != 0)
	{
		say(a, VIP_FAILED, "could not add %s: %s", a->name, strerror(-e));
		try_again(a);
		return 0;
	}
	a->conflict = 0;
	a->count = 0;
	say(a, VIP_ON, "%s added%s", a->name,
		(a->device.flags & IFF_RUNNING) != 0 ? "" : ", but its device has no carrier");
	announce_step(NULL, 0, a);
	return 0;
}

/*
 * Called after every renewal of the lease, a few times a second.  A device that has been down has
 * lost its IPv6 addresses, and its neighbours may have forgotten the others: it is announced again.
 */
static void
renew(Address *a)
{
	const unsigned up = IFF_UP | IFF_RUNNING;
	NetDevice device;
	int e = netlink_device(a->vip->netlink, a->config->device, &device);

	if (e == 0 && device.index != a->device.index)
		e = -ENODEV; /* another one of that name */
	if (e == 0)
		e = netlink_hold(a->vip->netlink, &device, a->config, lifetime(a));
	if (e != 0)
	{
		say(a, VIP_FAILED, "could not renew %s: %s", a->name, strerror(-e));
		try_again(a);
		return;
	}
	if (((device.flags & up) == up && (a->device.flags & up) != up) ||
		memcmp(device.hw, a->device.hw, sizeof(device.hw)) != 0)
	{
		a->device = device;
		a->count = 0;
		announce_step(NULL, 0, a);
	}
	a->device = device;
}

/* ---------- is it in use? ---------- */

static int
heard(sd_event_source *source, int fd, uint32_t events, void *user)
{
	Address *a = user;
	char whose[NETLINK_HW_TEXT];
	int64_t now = now_us();

	(void) source;
	(void) events;
	if (!claimed(a, whose))
	{
		/* a device that goes down says so once: without this, in a busy loop */
		int e = 0;
		socklen_t size = sizeof(e);

		getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &size);
		return 0;
	}
	if (a->state == VIP_PROBING)
	{
		say(a, VIP_TAKEN, "%s is in use by another host, with hardware address %s", a->name, whose);
		try_again(a);
	}
	else if (a->state == VIP_ON && (a->conflict == 0 || now - a->conflict >= CONFLICT_INTERVAL))
	{
		a->conflict = now;
		a->text[0] = '\0'; /* it may well be the same text */
		say(a, VIP_ON, "%s is claimed by another host, too, with hardware address %s", a->name,
			whose);
		a->count = 0;
		announce_step(NULL, 0, a);
	}
	return 0;
}

static int
probe_step(sd_event_source *source, uint64_t usec, void *user)
{
	Address *a = user;
	int e = probe(a);

	(void) source;
	(void) usec;
	if (e != 0)
	{
		say(a, VIP_FAILED, "could not ask whether %s is in use: %s", a->name, strerror(-e));
		try_again(a);
		return 0;
	}
	a->count++;
	if (a->count < PROBES)
		set_timer(a, &a->step, now_us() + PROBE_INTERVAL, probe_step);
	else
		set_timer(a, &a->step, now_us() + PROBE_ANSWER, add_address);
	return 0;
}

static void
start_probe(Address *a)
{
	int e = netlink_device(a->vip->netlink, a->config->device, &a->device);

	a->step = forget(a->step);
	close_socket(a);
	if (now_us() >= a->until)
		return;
	if (e != 0)
	{
		say(a, VIP_FAILED, "could not find network device \"%s\": %s", a->config->device,
			strerror(-e));
		try_again(a);
		return;
	}
	if ((a->device.flags & IFF_UP) == 0)
	{
		say(a, VIP_FAILED, "could not add %s: the device is down", a->name);
		try_again(a);
		return;
	}
	a->count = 0;
	say(a, VIP_PROBING, "asking whether %s is in use", a->name);
	if ((a->device.flags & (IFF_NOARP | IFF_LOOPBACK)) != 0 || a->device.hw_length == 0)
	{
		add_address(NULL, 0, a); /* nobody there to ask or to tell */
		return;
	}
	e = a->config->family == AF_INET ? arp_open(&a->device) : ndisc_open(&a->device);
	if (e >= 0)
	{
		a->fd = e;
		e = sd_event_add_io(a->vip->event, &a->io, a->fd, EPOLLIN, heard, a);
		if (e >= 0)
			e = sd_event_source_set_ratelimit(a->io, HEAR_INTERVAL, HEAR_TIMES);
	}
	if (e < 0)
	{
		say(a, VIP_FAILED, "could not ask whether %s is in use: %s", a->name, strerror(-e));
		try_again(a);
		return;
	}
	probe_step(NULL, 0, a);
}

/* ---------- the interface ---------- */

int
vip_new(Vip **result, const Config *c, sd_event *event, VipTold told, void *user)
{
	Vip *v = calloc(1, sizeof(Vip));
	int e;

	if (v == NULL)
		return -ENOMEM;
	v->config = c;
	v->event = sd_event_ref(event);
	v->told = told;
	v->user = user;
	v->n = c->nvips;
	for (int i = 0; i < v->n; i++)
	{
		Address *a = &v->address[i];

		a->vip = v;
		a->index = i;
		a->config = &c->vip[i];
		a->fd = -1;
		config_vip_text(a->config, a->name, sizeof(a->name));
	}
	e = netlink_open(&v->netlink);
	if (e != 0)
	{
		vip_free(v);
		return e;
	}
	*result = v;
	return 0;
}

void
vip_free(Vip *v)
{
	if (v == NULL)
		return;
	for (int i = 0; i < v->n; i++)
	{
		Address *a = &v->address[i];

		forget(a->step);
		forget(a->expiry);
		close_socket(a);
	}
	netlink_close(v->netlink);
	sd_event_unref(v->event);
	free(v);
}

void
vip_hold(Vip *v, int64_t until)
{
	for (int i = 0; i < v->n; i++)
	{
		Address *a = &v->address[i];

		if (until <= now_us())
		{
			turn_off(a, ": the lease has ended");
			continue;
		}
		a->until = until;
		set_timer(a, &a->expiry, until, expired);
		if (a->state == VIP_ON)
			renew(a);
		else if (a->step == NULL)
			start_probe(a);
	}
}

void
vip_remove(Vip *v)
{
	for (int i = 0; i < v->n; i++)
		turn_off(&v->address[i], "");
}

VipState
vip_state(const Vip *v, int index, const char **text)
{
	*text = v->address[index].text;
	return v->address[index].state;
}
