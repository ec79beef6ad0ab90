/*
 * rooms.c
 *		Test doubles of rooms of tandemd: a node whose PostgreSQL does at once what it is asked.
 *
 * All are weak: a room that is linked in takes the place of its double.  For tests of voting alone;
 * never part of what is installed.
 */
#include <stdlib.h>
#include <string.h>

#include "helpers.h"
#include "lease_file.h"
#include "postgres.h"
#include "vip.h"

#define WEAK __attribute__((weak))

struct Postgres
{
	const Config *config;
	PostgresCallbacks cb;
	void *user;
	sd_event_source *tick;
	PostgresLook look;
};

/* A report every 100 ms, as the extension's. */
static int
tick(sd_event_source *source, uint64_t usec, void *user)
{
	Postgres *p = user;

	p->look.answered = p->look.state == FSM_PG_PRIMARY;
	p->look.answered_at = lease_file_now();
	p->look.reported = p->look.state >= FSM_PG_STANDBY;
	p->cb.changed(p->user);
	sd_event_source_set_time(source, usec + 100000);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

WEAK int
postgres_new(Postgres **out, const Config *c, sd_event *event, const PostgresCallbacks *cb,
			 void *user)
{
	Postgres *p = calloc(1, sizeof(*p));

	p->config = c;
	p->cb = *cb;
	p->user = user;
	p->look.state = FSM_PG_DOWN;
	p->look.text = "";
	p->look.percent = -1;
	p->look.left = -1;
	p->look.report.flush = p->look.report.replayed = 0x3000000;
	p->look.report.timeline = 1;
	*out = p;
	return sd_event_add_time(event, &p->tick, CLOCK_BOOTTIME, (uint64_t) lease_file_now(), 1000,
							 tick, p);
}

WEAK void
postgres_free(Postgres *p)
{
	sd_event_source_disable_unref(p->tick);
	free(p);
}

WEAK const PostgresLook *
postgres_look(Postgres *p)
{
	return &p->look;
}

WEAK void
postgres_run_primary(Postgres *p, uint64_t term, uint64_t inc)
{
	p->look.state = FSM_PG_PRIMARY;
	p->look.report.role = WATCH_PRIMARY;
	p->look.report.term = term;
	p->look.report.inc = inc;
	p->look.report.require = true;
	p->look.report.open = false;
}

WEAK void
postgres_run_standby(Postgres *p, int node)
{
	(void) node;
	p->look.state = FSM_PG_STANDBY;
	p->look.report.role = WATCH_STANDBY;
}

WEAK void
postgres_kill(Postgres *p)
{
	p->look.state = FSM_PG_DOWN;
}

WEAK void
postgres_stop(Postgres *p)
{
	p->look.state = FSM_PG_DOWN;
}

WEAK void
postgres_rebuild(Postgres *p, int from, uint64_t copy_id, bool seed)
{
	(void) from;
	(void) copy_id;
	(void) seed;
	p->look.state = FSM_PG_DOWN;
	p->cb.rebuilt(p->user, true, "");
}

WEAK void
postgres_gate(Postgres *p, const WatchCommand *w)
{
	p->look.report.instance = w->instance;
	p->look.report.cmd = w->cmd;
	if (w->order == GATE_ALONE)
		p->look.report.require = false;
	if (w->order == GATE_TERM)
		p->look.report.term = w->term;
	p->look.report.open = !p->look.report.require;
}

WEAK int
vip_new(Vip **v, const Config *c, sd_event *event, VipTold told, void *user)
{
	(void) c;
	(void) event;
	(void) told;
	(void) user;
	*v = NULL;
	return 0;
}

WEAK void
vip_free(Vip *v)
{
	(void) v;
}

WEAK void
vip_hold(Vip *v, int64_t until)
{
	(void) v;
	(void) until;
}

WEAK void
vip_remove(Vip *v)
{
	(void) v;
}

WEAK VipState
vip_state(const Vip *v, int index, const char **text)
{
	(void) v;
	(void) index;
	*text = "";
	return VIP_OFF;
}

WEAK int
fence_new(Fence **f, const Config *c, sd_event *event, FenceDone done, void *user)
{
	(void) c;
	(void) event;
	(void) done;
	(void) user;
	*f = NULL;
	return 0;
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
	(void) c;
	(void) event;
	(void) told;
	(void) user;
	*r = NULL;
	return 0;
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

WEAK bool
resources_all(const Resources *r, bool running)
{
	(void) r;
	(void) running;
	return true;
}

WEAK const char *
resources_text(const Resources *r, int index)
{
	(void) r;
	(void) index;
	return "";
}

WEAK int
device_new(Device **d, const Config *c, sd_event *event)
{
	(void) c;
	(void) event;
	*d = NULL;
	return 0;
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
