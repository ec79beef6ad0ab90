/*
 * helpers.h
 *		What runs beside the database: fence agents, other services, the kernel's watchdog.
 */
#ifndef TANDEM_HELPERS_H
#define TANDEM_HELPERS_H

#include <systemd/sd-event.h>

#include "config.h"

/* fence.c: the fence_* agents' standard-input interface; action off, then status must say off. */
typedef struct Fence Fence;
typedef void (*FenceDone)(void *user, int node, uint64_t seq, bool ok, const char *text);
extern int fence_new(Fence **f, const Config *c, sd_event *event, FenceDone done, void *user);
extern void fence_free(Fence *f);
extern void fence_power_off(Fence *f, int node, uint64_t seq);

/* resources.c: ordered start, stop and monitor of other services with the primary role. */
typedef struct Resources Resources;
/* hand_over: a resource could not be kept running and its on_failure is failover. */
typedef void (*ResourcesTold)(void *user, const char *name, const char *text, bool hand_over);
extern int
resources_new(Resources **r, const Config *c, sd_event *event, ResourcesTold told, void *user);
extern void resources_free(Resources *r);
/* The node is primary and open, or it is not (any more): converge to that, in order. */
extern void resources_want(Resources *r, bool running);
extern bool resources_all(const Resources *r, bool running);      /* have they got there? */
extern const char *resources_text(const Resources *r, int index); /* "running", "failed: ..." */

/*
 * device.c: /dev/watchdog.  Fed only while fed_until lies ahead; closed with the magic 'V' only
 * when this node holds no lease.
 */
typedef struct Device Device;
extern int device_new(Device **d, const Config *c, sd_event *event);
extern void device_free(Device *d, bool disarm);
/* Armed while the node is primary: the host resets itself if tandemd does not call this again
 * before deadline + stop budget (CLOCK_BOOTTIME us); 0 disarms. */
extern void device_hold(Device *d, int64_t deadline);
extern const char *device_text(const Device *d);

#endif /* TANDEM_HELPERS_H */
