/*
 * manager.h
 *		tandemd as a whole: one event loop around the decision core.
 *
 * manager.c gives every input to fsm_step() and carries out its actions in order.  Everything
 * else is a room of its own that knows nothing of the others: heartbeat.c (network), store.c
 * (disk), postgres.c, vip.c, fence.c, resources.c, device.c, control.c (tandemctl).  Handlers are
 * called from the loop and never block.  Errors are negative errno.
 */
#ifndef TANDEM_MANAGER_H
#define TANDEM_MANAGER_H

#include <systemd/sd-event.h>

#include "config.h"
#include "helpers.h"
#include "lease_file.h"
#include "postgres.h"
#include "store.h"
#include "vip.h"
#include "wire.h"

typedef struct Heartbeat Heartbeat; /* heartbeat.h */
typedef struct Control Control;     /* control.h */

#define MANAGER_MAX_EVENTS 256

/* For tandemctl events; each is a line of the journal too. */
typedef struct ManagerEvent
{
	int64_t time;  /* CLOCK_REALTIME us */
	char kind[16]; /* state, postgres, vip, fence, resource, network, operator, alarm */
	char text[256];
} ManagerEvent;

typedef struct Manager
{
	Config config;
	Fsm fsm;
	sd_event *event;
	sd_event_source *timer;
	LeaseFile *lease;
	Heartbeat *heartbeat;
	Store *store;
	Postgres *postgres;
	Vip *vip;
	Fence *fence;
	Resources *resources;
	Device *device;
	Control *control;
	uint64_t nevents; /* ever */
	ManagerEvent events[MANAGER_MAX_EVENTS];
} Manager;

extern int manager_new(Manager **m, const Config *c, bool first_start);
extern int manager_run(Manager *m);
extern void manager_free(Manager *m);
/* Give an input to the decision core and carry out what it answers. */
extern void manager_input(Manager *m, const FsmInput *in);
extern void manager_event(Manager *m, const char *kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * status.c: everything tandemctl status shows, as a JSON object (jansson; the caller frees it):
 * nodes with role, state, term, LSNs, lag, sign of life; record; lease; VIP; resources; whether a
 * failover is possible now, if not why, and what would be lost; paused; countdown of profile dr.
 */
struct json_t;
extern struct json_t *manager_status(Manager *m);

#endif /* TANDEM_MANAGER_H */
