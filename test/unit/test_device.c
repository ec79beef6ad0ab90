/*-------------------------------------------------------------------------
 *
 * test_device.c
 *	  Tests of the kernel's watchdog (watchdog/device.c).  The device is made
 *	  here: the linker gives device.c our open(), ioctl(), write() and close(),
 *	  which do for the path "/dev/test" what the kernel does, and a clock that
 *	  can be put forward.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "helpers.h"

#define MS    INT64_C(1000)
#define SEC   INT64_C(1000000)
#define PATH  "/dev/test"
#define STOP  (400 * MS)
#define VALID (1036 * MS) /* of a lease of 1.5 s: the device's timeout is 1 s */

static sd_event *event;
static Config config;
static Device *device;
static char told[1024];
static int ntold;

/* The device. */
static struct
{
	int fd; /* a descriptor of /dev/null; -1: not open */
	bool armed;
	bool magic;
	int64_t fed_at;
	int timeout; /* s */
	int feeds;
	int opened;
	/* how it is */
	int error;      /* of open() */
	int feed_error; /* of the ioctl */
	int least;      /* timeout */
	int options;
	bool no_way_out;
} dog;

static int64_t later; /* the clock is so much ahead */

extern int __real_clock_gettime(clockid_t clock, struct timespec *t);
extern int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
extern int __real_open(const char *path, int flags, ...);
extern int __real_close(int fd);
extern int __real_ioctl(int fd, unsigned long request, ...);
extern ssize_t __real_write(int fd, const void *data, size_t size);
extern int __wrap_open(const char *path, int flags, ...);
extern int __wrap_close(int fd);
extern int __wrap_ioctl(int fd, unsigned long request, ...);
extern ssize_t __wrap_write(int fd, const void *data, size_t size);

int
__wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
	int r = __real_clock_gettime(clock, t);

	t->tv_sec += later / SEC;
	return r;
}

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * SEC + t.tv_nsec / 1000;
}

static void
feed(void)
{
	dog.fed_at = now_us();
	dog.feeds++;
}

int
__wrap_open(const char *path, int flags, ...)
{
	va_list args;
	int mode;

	va_start(args, flags);
	mode = (flags & O_CREAT) != 0 ? va_arg(args, int) : 0;
	va_end(args);
	if (strcmp(path, PATH) != 0)
		return __real_open(path, flags, mode);
	if (dog.error != 0 || dog.fd >= 0)
	{
		errno = dog.error != 0 ? dog.error : EBUSY;
		return -1;
	}
	dog.fd = __real_open("/dev/null", flags);
	if (!dog.armed)
		feed();
	dog.armed = true;
	dog.magic = false;
	dog.opened++;
	return dog.fd;
}

int
__wrap_close(int fd)
{
	if (fd >= 0 && fd == dog.fd)
	{
		dog.fd = -1;
		if ((dog.magic || (dog.options & WDIOF_MAGICCLOSE) == 0) && !dog.no_way_out)
			dog.armed = false;
	}
	return __real_close(fd);
}

ssize_t
__wrap_write(int fd, const void *data, size_t size)
{
	if (fd < 0 || fd != dog.fd)
		return __real_write(fd, data, size);
	dog.magic = memchr(data, 'V', size) != NULL;
	feed();
	return (ssize_t) size;
}

int
__wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *data;
	int seconds;

	va_start(args, request);
	data = va_arg(args, void *);
	va_end(args);
	if (fd < 0 || fd != dog.fd)
		return __real_ioctl(fd, request, data);
	switch (request)
	{
		case WDIOC_KEEPALIVE:
			if (dog.feed_error != 0)
			{
				errno = dog.feed_error;
				return -1;
			}
			feed();
			return 0;
		case WDIOC_SETTIMEOUT:
			memcpy(&seconds, data, sizeof(seconds));
			dog.timeout = seconds < dog.least ? dog.least : seconds;
			memcpy(data, &dog.timeout, sizeof(seconds));
			feed();
			return 0;
		case WDIOC_GETSUPPORT:
			((struct watchdog_info *) data)->options = (uint32_t) dog.options;
			return 0;
		case WDIOC_SETOPTIONS:
			if (dog.no_way_out)
			{
				errno = EBUSY;
				return -1;
			}
			dog.armed = false;
			return 0;
		default:
			errno = ENOTTY;
			return -1;
	}
}

/* When it would reset the host. */
static int64_t
resets_at(void)
{
	return dog.armed ? dog.fed_at + dog.timeout * SEC : INT64_MAX;
}

/* ---------- the bed ---------- */

static void
on_told(void *user, const char *text)
{
	(void) user;
	ntold++;
	snprintf(told, sizeof(told), "%s", text);
}

static void
run_for(int64_t us)
{
	int64_t until = now_us() + us;

	while (now_us() < until)
	{
		assert_true(now_us() < resets_at());
		sd_event_run(event, (uint64_t) 5000);
	}
}

static int
each(void **state)
{
	(void) state;
	memset(&dog, 0, sizeof(dog));
	dog.fd = -1;
	dog.least = 1;
	dog.timeout = 60;
	dog.options = WDIOF_MAGICCLOSE | WDIOF_SETTIMEOUT | WDIOF_KEEPALIVEPING;
	memset(&config, 0, sizeof(config));
	config.device = DEVICE_REQUIRED;
	strcpy(config.device_path, PATH);
	config.fsm.timing.stop = STOP;
	config.fsm.timing.validity = VALID;
	told[0] = '\0';
	ntold = 0;
	later = 0;
	device = NULL;
	return sd_event_new(&event) < 0;
}

static int
after_each(void **state)
{
	(void) state;
	device_free(device, true);
	sd_event_unref(event);
	return 0;
}

static void
make(void)
{
	assert_int_equal(device_new(&device, &config, event, on_told, NULL), 0);
}

/* ---------- tests ---------- */

static void
test_armed(void **state)
{
	int64_t deadline = 0;
	int64_t begin = now_us();

	(void) state;
	make();
	assert_string_equal(device_text(device), PATH ", not armed");
	assert_false(dog.armed);
	device_hold(device, 0);
	assert_int_equal(dog.opened, 1);
	/* the lease is renewed: it goes on */
	while (now_us() - begin < 3 * SEC)
	{
		deadline = now_us() + VALID - 10 * MS;
		device_hold(device, deadline);
		assert_true(dog.armed);
		assert_int_equal(dog.timeout, 1);
		run_for(300 * MS);
	}
	assert_int_equal(dog.opened, 2);
	assert_string_equal(device_text(device),
						PATH ", armed: resets this host 1 s after tandemd stands still");
	/* this process stands still now */
	assert_true(resets_at() <= deadline + STOP);
	device_hold(device, 0);
	assert_false(dog.armed);
	assert_int_equal(dog.fd, -1);
	assert_string_equal(device_text(device), PATH ", not armed");
	assert_int_equal(ntold, 2);
}

/* The loop runs, but the lease is not renewed: the host has until deadline + stop budget. */
static void
test_not_renewed(void **state)
{
	int64_t deadline;

	(void) state;
	make();
	deadline = now_us() + VALID;
	device_hold(device, deadline);
	run_for(600 * MS);
	/* never later; earlier if this process got no CPU in time to feed it for the last time */
	assert_true(resets_at() <= deadline + STOP + 25 * MS);
	assert_true(resets_at() >= deadline - 50 * MS);
	/* asked for again with the same deadline: not a moment longer */
	run_for(200 * MS);
	device_hold(device, deadline);
	assert_true(resets_at() <= deadline + STOP + 25 * MS);
	/* PostgreSQL is dead in time */
	device_hold(device, 0);
	assert_false(dog.armed);
}

/* Many reports a second do not become as many feeds. */
static void
test_not_too_often(void **state)
{
	int feeds;

	(void) state;
	make();
	device_hold(device, now_us() + VALID);
	feeds = dog.feeds;
	for (int i = 0; i < 100; i++)
		device_hold(device, now_us() + VALID);
	assert_true(dog.feeds - feeds <= 2);
}

/* tandemd ends while the node is primary, and another one comes. */
static void
test_restart(void **state)
{
	(void) state;
	make();
	device_hold(device, now_us() + VALID);
	device_free(device, false);
	assert_true(dog.armed);
	assert_int_equal(dog.fd, -1);
	make();
	assert_false(dog.armed);
	device_hold(device, now_us() + VALID);
	assert_true(dog.armed);
	device_free(device, true);
	device = NULL;
	assert_false(dog.armed);
}

static void
test_off(void **state)
{
	(void) state;
	config.device = DEVICE_OFF;
	make();
	device_hold(device, now_us() + VALID);
	assert_int_equal(dog.opened, 0);
	assert_string_equal(device_text(device), "off");
}

/* Required and not to be had: tandemd does not start.  Only wished for: it says so. */
static void
test_missing(void **state)
{
	(void) state;
	dog.error = ENOENT;
	assert_int_equal(device_new(&device, &config, event, on_told, NULL), -ENOENT);
	assert_string_equal(told, "could not open " PATH ": No such file or directory");
	config.device = DEVICE_AUTO;
	make();
	device_hold(device, now_us() + VALID);
	assert_string_equal(device_text(device), "could not open " PATH ": No such file or directory");
	device_free(device, true);
	dog.error = EBUSY;
	make();
	assert_string_equal(device_text(device), "could not open " PATH ": another program uses it");
}

/* A device that cannot be as quick as the lease asks is no help. */
static void
test_too_slow(void **state)
{
	(void) state;
	dog.least = 2;
	assert_int_equal(device_new(&device, &config, event, on_told, NULL), -ERANGE);
	assert_non_null(strstr(told, "is 2 s at least"));
	assert_false(dog.armed);
	config.fsm.timing.validity = 500 * MS;
	assert_int_equal(device_new(&device, &config, event, on_told, NULL), -ERANGE);
	assert_non_null(strstr(told, "too short"));
	assert_int_equal(dog.opened, 1);
}

static void
test_no_magic(void **state)
{
	(void) state;
	dog.options = 0;
	assert_int_equal(device_new(&device, &config, event, on_told, NULL), -ENOTSUP);
	assert_false(dog.armed);
}

/* It cannot be disarmed, and the kernel did not say so before: it is fed for good. */
static void
test_no_way_out(void **state)
{
	(void) state;
	dog.no_way_out = true;
	make();
	assert_non_null(strstr(device_text(device), "cannot be disarmed"));
	run_for(2500 * MS); /* looks that it is fed */
	device_hold(device, now_us() + VALID);
	device_hold(device, 0);
	run_for(1500 * MS);
	assert_true(dog.armed);
	assert_int_equal(dog.opened, 1);
	dog.no_way_out = false;
}

/*
 * It was there at the start, and is not when the node has got the lease: required, the node may not
 * be primary until it is back; only wished for, it may.
 */
static void
test_lost_before_armed(void **state)
{
	(void) state;
	make();
	assert_true(device_guards(device));
	dog.error = EBUSY;
	device_hold(device, now_us() + VALID);
	assert_false(device_guards(device));
	assert_string_equal(told, "could not open " PATH ": another program uses it");
	/* the node has given up */
	device_hold(device, 0);
	assert_false(device_guards(device));
	later += 11 * SEC;
	device_hold(device, 0);
	assert_false(device_guards(device));
	dog.error = 0;
	device_hold(device, 0); /* not tried all the time */
	assert_false(device_guards(device));
	assert_int_equal(ntold, 1);
	later += 11 * SEC;
	device_hold(device, 0);
	assert_true(device_guards(device));
	assert_string_equal(told, PATH ", not armed");
	assert_false(dog.armed);
	device_hold(device, now_us() + VALID);
	assert_true(dog.armed && device_guards(device));
	device_free(device, true);

	config.device = DEVICE_AUTO;
	make();
	dog.error = EBUSY;
	device_hold(device, now_us() + VALID);
	assert_false(dog.armed);
	assert_true(device_guards(device));
}

/* A paused primary goes on, and so does the try to arm it. */
static void
test_armed_later(void **state)
{
	(void) state;
	make();
	dog.error = ENOENT;
	device_hold(device, now_us() + VALID);
	dog.error = 0;
	device_hold(device, now_us() + VALID);
	assert_false(dog.armed || device_guards(device));
	later += 11 * SEC;
	device_hold(device, now_us() + VALID);
	assert_true(dog.armed && device_guards(device));
}

static void
test_not_fed(void **state)
{
	(void) state;
	make();
	device_hold(device, now_us() + VALID);
	run_for(100 * MS);
	dog.feed_error = EIO;
	device_hold(device, now_us() + VALID);
	assert_false(device_guards(device));
	assert_string_equal(told, "could not feed " PATH ": Input/output error");
	/* the node gives up in time: disarmed, and for the status there is still the reason */
	device_hold(device, 0);
	assert_false(dog.armed || device_guards(device));
	assert_string_equal(device_text(device), "could not feed " PATH ": Input/output error");
	dog.feed_error = 0;
	later += 11 * SEC;
	device_hold(device, 0);
	assert_true(device_guards(device));
	/* it works again before the node is no longer primary */
	device_hold(device, now_us() + VALID);
	run_for(100 * MS);
	dog.feed_error = EIO;
	device_hold(device, now_us() + VALID);
	assert_false(device_guards(device));
	run_for(100 * MS);
	dog.feed_error = 0;
	device_hold(device, now_us() + VALID);
	assert_true(dog.armed && device_guards(device));
	assert_non_null(strstr(device_text(device), "armed: resets"));
}

/* Primary for the second time: the first thing it is told is the end of the old lease. */
static void
test_old_lease(void **state)
{
	(void) state;
	make();
	device_hold(device, now_us() - 3 * SEC);
	assert_true(device_guards(device));
	assert_false(dog.armed);
	device_hold(device, now_us() + VALID);
	assert_true(dog.armed);
}

/* Lease and stop budget are whole seconds: a renewal answered after almost a heartbeat feeds it. */
static void
test_late_renewal(void **state)
{
	(void) state;
	config.fsm.timing.validity = 1600 * MS;
	config.fsm.timing.heartbeat = 300 * MS;
	make();
	device_hold(device, now_us() + 1600 * MS - 290 * MS);
	assert_true(dog.armed);
	assert_int_equal(dog.timeout, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_armed, each, after_each),
		cmocka_unit_test_setup_teardown(test_not_renewed, each, after_each),
		cmocka_unit_test_setup_teardown(test_not_too_often, each, after_each),
		cmocka_unit_test_setup_teardown(test_restart, each, after_each),
		cmocka_unit_test_setup_teardown(test_off, each, after_each),
		cmocka_unit_test_setup_teardown(test_missing, each, after_each),
		cmocka_unit_test_setup_teardown(test_too_slow, each, after_each),
		cmocka_unit_test_setup_teardown(test_no_magic, each, after_each),
		cmocka_unit_test_setup_teardown(test_no_way_out, each, after_each),
		cmocka_unit_test_setup_teardown(test_lost_before_armed, each, after_each),
		cmocka_unit_test_setup_teardown(test_armed_later, each, after_each),
		cmocka_unit_test_setup_teardown(test_not_fed, each, after_each),
		cmocka_unit_test_setup_teardown(test_old_lease, each, after_each),
		cmocka_unit_test_setup_teardown(test_late_renewal, each, after_each),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
