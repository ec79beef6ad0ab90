/*
 * not_yet.c
 *		Temporary: fencing, other services and the kernel's watchdog are not built yet.
 *
 * A configuration that asks for one of them is refused at the start.  Weak: the real room takes the
 * place of what is here, and this file goes away with the last of them.
 */
#include "helpers.h"

#include <errno.h>
#include <stddef.h>

#define WEAK __attribute__((weak))

WEAK int
fence_new(Fence **f, const Config *c, sd_event *event, FenceDone done, void *user)
{
	(void) event;
	(void) done;
	(void) user;
	*f = NULL;
	return c->fsm.fence ? -ENOSYS : 0;
}

WEAK void
fence_free(Fence *f)
{
	(void) f;
}

WEAK void
fence_power_off(Fence *f, int node, uint64_t seq)
{
	(void) f;
	(void) node;
	(void) seq;
}

WEAK int
resources_new(Resources **r, const Config *c, sd_event *event, ResourcesTold told, void *user)
{
	(void) event;
	(void) told;
	(void) user;
	*r = NULL;
	return c->nresources > 0 ? -ENOSYS : 0;
}

WEAK void
resources_free(Resources *r)
{
	(void) r;
}

WEAK void
resources_want(Resources *r, bool running)
{
	(void) r;
	(void) running;
}

WEAK const char *
resources_text(const Resources *r, int index)
{
	(void) r;
	(void) index;
	return "not built";
}

WEAK int
device_new(Device **d, const Config *c, sd_event *event)
{
	(void) event;
	*d = NULL;
	return c->device == DEVICE_REQUIRED ? -ENOSYS : 0;
}

WEAK void
device_free(Device *d, bool disarm)
{
	(void) d;
	(void) disarm;
}

WEAK void
device_hold(Device *d, int64_t deadline)
{
	(void) d;
	(void) deadline;
}

WEAK const char *
device_text(const Device *d)
{
	(void) d;
	return "off";
}
