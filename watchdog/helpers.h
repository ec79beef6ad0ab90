/*
 * helpers.h
 *		What runs beside the database: fence agents, other services, the kernel's watchdog.
 */
#ifndef TANDEM_HELPERS_H
#define TANDEM_HELPERS_H

#include <systemd/sd-event.h>

#include "config.h"

/*
 * fence.c: the fence_* agents' standard-input interface; action off, then status must say off.
 * done is called once for each request that is carried out, perhaps before fence_power_off() has
 * returned; a request that is followed by another one for the same node before it has begun is not
 * answered.
 */
typedef struct Fence Fence;
typedef void (*FenceDone)(void *user, int node, uint64_t seq, bool ok, const char *text);
/* Keeps c.  Negative errno. */
extern int fence_new(Fence **f, const Config *c, sd_event *event, FenceDone done, void *user);
/* An agent that runs is killed. */
extern void fence_free(Fence *f);
extern void fence_power_off(Fence *f, int node, uint64_t seq);

/* resources.c: ordered start, stop and monitor of other services with the primary role. */
typedef struct Resources Resources;
/* hand_over: a resource could not be kept running and its on_failure is failover. */
typedef void (*ResourcesTold)(void *user, const char *name, const char *text, bool hand_over);
/* Keeps c.  Negative errno. Nothing is done before the first resources_want(). */
extern int
resources_new(Resources **r, const Config *c, sd_event *event, ResourcesTold told, void *user);
/* The services are left as they are. */
extern void resources_free(Resources *r);
/* The node is primary and open, or it is not (any more): converge to that, in order. */
extern void resources_want(Resources *r, bool running);
/* Maintenance: nothing is started.  What must not run here is stopped nevertheless. */
extern void resources_pause(Resources *r, bool paused);
extern bool resources_all(const Resources *r, bool running);      /* have they got there? */
extern const char *resources_text(const Resources *r, int index); /* "running", "failed: ..." */

/*
 * device.c: /dev/watchdog, which resets the host if this process stands still while the node may be
 * primary.
 */
typedef struct Device Device;
/* For log and events. */
typedef void (*DeviceTold)(void *user, const char *text);
/* Negative errno, with the reason told; where the device is only wished for (auto) there is none.
 * What an earlier tandemd has left armed is disarmed. */
extern int device_new(Device **d, const Config *c, sd_event *event, DeviceTold told, void *user);
/* Without disarm an armed device is left armed: the host is reset unless another tandemd comes. */
extern void device_free(Device *d, bool disarm);
/* Armed while the node is primary: the host resets itself if tandemd does not call this again
 * before deadline + stop budget (CLOCK_BOOTTIME us); 0 disarms. */
extern void device_hold(Device *d, int64_t deadline);
/* False if it is required and could not be armed, or fed: until device_hold() finds it works again. */
extern bool device_guards(const Device *d);
extern const char *device_text(const Device *d);

#endif /* TANDEM_HELPERS_H */
