/*
 * device.c
 *		The kernel's watchdog (/dev/watchdog): a host whose tandemd stands still is reset before
 *		another node can be primary.
 *
 * The device counts whole seconds since it was last fed.  Its timeout T is the validity of a lease
 * and the stop budget less a heartbeat, rounded down; it is fed whenever T seconds from now are not
 * later than deadline + stop budget: with each renewal that is answered within a heartbeat.  So it is fed
 * with each renewal of the lease, for the last time, by a timer, T before that instant, and if the
 * lease is neither renewed nor PostgreSQL seen dead and the device disarmed, the host is reset then:
 * whether it is tandemd that hangs or a PostgreSQL that cannot be killed.
 *
 * It is open only while armed.  To disarm is to write the magic "V" and to close.  A device that
 * cannot be disarmed (nowayout) would reset a host whenever tandemd is stopped for long, on a
 * standby too: it is not used.  Where the kernel does not say so before it is opened there is
 * nothing left but to feed it for good.
 *
 * Where it is required, a device that could not be armed or fed is tried now and then, once the
 * node does not need it any more: until that succeeds device_guards() says no.
 */
#include "helpers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SEC       INT64_C(1000000)
#define FEED_MIN  (50 * INT64_C(1000)) /* no need to feed it more often */
#define LATE_MEAL (20 * INT64_C(1000)) /* a fifth of the margin of all times */
#define TRY_AGAIN (10 * SEC)           /* after it could not be armed or fed */
#define TEXT_SIZE (CONFIG_PATH_SIZE + 256)

struct Device
{
	const Config *config;
	sd_event *event;
	DeviceTold told;
	void *user;
	bool used;
	int fd; /* -1: not armed */
	int64_t timeout;
	int64_t until; /* deadline + stop budget */
	int64_t fed_at;
	int64_t not_before;
	sd_event_source *timer;
	bool for_good; /* cannot be disarmed any more */
	bool failed;   /* could not be armed, or fed, when that was last tried */
	char text[TEXT_SIZE];
};

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * SEC + t.tv_nsec / 1000;
}

static void say(Device *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Told to the owner if it is new. */
static void
say(Device *d, const char *format, ...)
{
	char text[TEXT_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (strcmp(text, d->text) == 0)
		return;
	strcpy(d->text, text);
	d->told(d->user, d->text);
}

/* How it is while open. */
static void
say_open(Device *d)
{
	if (d->for_good)
		say(d,
			"%s cannot be disarmed: it is fed from now on, and resets this host %lld s after "
			"tandemd has ended",
			d->config->device_path, (long long) (d->timeout / SEC));
	else
		say(d, "%s, armed: resets this host %lld s after tandemd stands still",
			d->config->device_path, (long long) (d->timeout / SEC));
}

static void
has_failed(Device *d)
{
	d->failed = true;
	d->not_before = now_us() + TRY_AGAIN;
}

/* ---------- the device ---------- */

static void
keep_alive(Device *d)
{
	if (ioctl(d->fd, WDIOC_KEEPALIVE, 0) != 0)
	{
		say(d, "could not feed %s: %s", d->config->device_path, strerror(errno));
		has_failed(d);
	}
	else if (d->failed)
	{
		d->failed = false;
		say_open(d);
	}
	d->fed_at = now_us();
}

/* False if it cannot be; it is open then, and goes on counting. */
static bool
disarm_device(Device *d)
{
	int off = WDIOS_DISABLECARD;

	if (ioctl(d->fd, WDIOC_SETOPTIONS, &off) != 0 && errno == EBUSY)
		return false;
	return write(d->fd, "V", 1) == 1; /* what disarms a driver without that option */
}

static int
feed_for_good(sd_event_source *source, uint64_t usec, void *user)
{
	Device *d = user;

	keep_alive(d);
	sd_event_source_set_time(source, usec + (uint64_t) (d->timeout / 3));
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Without disarm the device goes on counting. */
static void
close_device(Device *d, bool disarm)
{
	d->timer = sd_event_source_disable_unref(d->timer);
	if (d->fd < 0)
		return;
	if (disarm && !disarm_device(d))
	{
		d->for_good = true;
		say_open(d);
		keep_alive(d);
		if (sd_event_add_time_relative(d->event, &d->timer, CLOCK_BOOTTIME,
									   (uint64_t) (d->timeout / 3), 1000, feed_for_good, d) < 0)
			d->timer = NULL;
		return;
	}
	close(d->fd);
	d->fd = -1;
}

/* Opening arms it, with whatever timeout it had before. */
static int
open_device(Device *d)
{
	int seconds = (int) (d->timeout / SEC);

	d->fd = open(d->config->device_path, O_WRONLY | O_CLOEXEC);
	if (d->fd < 0)
	{
		int e = errno;

		say(d, "could not open %s: %s", d->config->device_path,
			e == EBUSY ? "another program uses it" : strerror(e));
		return -e;
	}
	if (ioctl(d->fd, WDIOC_SETTIMEOUT, &seconds) != 0)
	{
		int e = errno;

		say(d, "could not set the timeout of %s to %d s: %s", d->config->device_path, seconds,
			strerror(e));
		close_device(d, true);
		return -e;
	}
	if (seconds > (int) (d->timeout / SEC) || seconds < 1)
	{
		say(d, "the timeout of %s is %d s at least, longer than a lease lasts",
			d->config->device_path, seconds);
		close_device(d, true);
		return -ERANGE;
	}
	d->timeout = seconds * SEC;
	return 0;
}

/* What the kernel says of it before it is opened; false if it does not say. */
static bool
no_way_out(const char *path)
{
	const char *name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
	char file[256];
	char value = '0';
	int fd;

	/* /dev/watchdog is /dev/watchdog0 */
	snprintf(file, sizeof(file), "/sys/class/watchdog/%.64s%s/nowayout", name,
			 strcmp(name, "watchdog") == 0 ? "0" : "");
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, &value, 1) != 1)
		value = '0';
	close(fd);
	return value == '1';
}

/*
 * Can it do what is asked of it?  It is armed for an instant; what an earlier tandemd left armed is
 * disarmed, and armed again with the first renewal of the lease.
 */
static int
try_device(Device *d)
{
	struct watchdog_info info = {0};
	int r;

	if (d->timeout < SEC)
	{
		say(d, "a lease is too short for %s, which counts whole seconds", d->config->device_path);
		return -ERANGE;
	}
	if (no_way_out(d->config->device_path))
	{
		say(d, "%s cannot be switched off once it is on (nowayout): it is not used",
			d->config->device_path);
		return -ENOTSUP;
	}
	r = open_device(d);
	if (r < 0)
		return r;
	if (ioctl(d->fd, WDIOC_GETSUPPORT, &info) == 0 && (info.options & WDIOF_MAGICCLOSE) == 0)
	{
		say(d, "%s is disarmed when a program ends (no magic close): it is not used",
			d->config->device_path);
		r = -ENOTSUP;
	}
	close_device(d, true);
	return r;
}

static int
last_meal(sd_event_source *source, uint64_t usec, void *user)
{
	Device *d = user;

	(void) source;
	(void) usec;
	d->timer = sd_event_source_disable_unref(d->timer);
	/* run too late it would put the reset off beyond the lease: then it comes earlier */
	if (now_us() <= d->until - d->timeout + LATE_MEAL)
		keep_alive(d);
	return 0;
}

/* Also sets the timer for the last instant at which it may be fed for this lease. */
static void
feed(Device *d)
{
	int64_t now = now_us();
	int64_t last = d->until - d->timeout;

	if (now > last)
		return;
	if (now - d->fed_at >= FEED_MIN)
		keep_alive(d);
	d->timer = sd_event_source_disable_unref(d->timer);
	if (sd_event_add_time(d->event, &d->timer, CLOCK_BOOTTIME, (uint64_t) last, 1, last_meal, d) <
		0)
		d->timer = NULL; /* a reset comes a little earlier then */
}

/* ---------- the interface ---------- */

int
device_new(Device **result, const Config *c, sd_event *event, DeviceTold told, void *user)
{
	Device *d = calloc(1, sizeof(Device));
	int r = 0;

	if (d == NULL)
		return -ENOMEM;
	d->config = c;
	d->event = sd_event_ref(event);
	d->told = told;
	d->user = user;
	d->fd = -1;
	d->timeout = (c->fsm.timing.validity + c->fsm.timing.stop - c->fsm.timing.heartbeat) / SEC *
				 SEC;
	snprintf(d->text, sizeof(d->text), "off");
	if (c->device != DEVICE_OFF)
		r = try_device(d);
	d->used = c->device != DEVICE_OFF && r >= 0;
	if (r < 0 && c->device == DEVICE_REQUIRED)
	{
		device_free(d, true);
		return r;
	}
	if (d->used && !d->for_good)
		snprintf(d->text, sizeof(d->text), "%s, not armed", c->device_path);
	*result = d;
	return 0;
}

void
device_free(Device *d, bool disarm)
{
	if (d == NULL)
		return;
	if (d->fd >= 0 && disarm)
		(void) disarm_device(d);
	close_device(d, false);
	sd_event_unref(d->event);
	free(d);
}

/* The node does not need it: disarm it, and see whether one that has failed works again. */
static void
rest(Device *d)
{
	d->until = 0;
	if (d->fd >= 0)
	{
		close_device(d, true);
		if (!d->for_good && !d->failed)
			say(d, "%s, not armed", d->config->device_path);
	}
	if (!d->failed || d->for_good || d->config->device != DEVICE_REQUIRED ||
		now_us() < d->not_before)
		return;
	if (try_device(d) < 0)
		has_failed(d);
	else
	{
		d->failed = false;
		if (!d->for_good)
			say(d, "%s, not armed", d->config->device_path);
	}
}

void
device_hold(Device *d, int64_t deadline)
{
	int64_t now = now_us();

	if (!d->used || d->for_good)
		return;
	if (deadline == 0)
	{
		rest(d);
		return;
	}
	d->until = deadline + d->config->fsm.timing.stop;
	if (d->fd < 0)
	{
		/* so old a lease must be renewed first */
		if (now > d->until - d->timeout || now < d->not_before)
			return;
		if (open_device(d) < 0)
		{
			has_failed(d);
			return;
		}
		d->failed = false;
		d->not_before = 0;
		say_open(d);
	}
	feed(d);
}

bool
device_guards(const Device *d)
{
	return !d->failed || d->config->device != DEVICE_REQUIRED;
}

const char *
device_text(const Device *d)
{
	return d->text;
}
