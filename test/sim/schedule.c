/*
 * schedule.c
 *		One schedule: quiet start, chaos, healing, then one permanent loss.
 */
#include "sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void
configure(World *w, int i)
{
	FsmConfig *c = &w->h[i].cfg;

	memset(c, 0, sizeof(*c));
	c->self = i;
	c->nnodes = w->n;
	c->voters = opt.two ? 0x3 : 0x7;
	c->data = 0x3 | (opt.third ? 1u << THIRD : 0);
	c->timing = opt.timing;
	c->peer_timeout = 600 * MS;
	c->probe_timeout = 4 * SEC;
	c->pg_retry = SEC;
	c->restart_attempts = 3;
	c->restart_window = 10 * SEC;
	c->fence = opt.fence;
	c->isolation_continue = opt.proceed;
	c->dr = c->any_dr = opt.dr;
	c->confirm_failover = opt.dr;
	c->confirm_timeout = 3 * SEC;
	if (fsm_check_config(c) != NULL)
		fail(w, "L3 configuration refused: %s", fsm_check_config(c));
}

static void
reset_host(World *w, int i)
{
	Host *h = &w->h[i];
	int *wal = h->pg.wal;
	uint64_t cap = h->pg.cap;

	memset(h, 0, sizeof(*h));
	h->pg.wal = wal;
	h->pg.cap = cap;
	h->deferred.head = h->pg.deferred.head = NONE;
	h->up = true;
	h->boot = 1;
	h->data = i != WITNESS;
	h->dead = opt.two && i == WITNESS;
	h->ppm = between(w, 0, 9900);
	if (opt.wild)
		h->ppm = (int64_t) (exp((double) between(w, -2000, 2000) / 1000.0) * 1e6) - 1000000;
	h->offset = between(w, SEC, 50 * SEC);
	h->pg.follows = -1;
	h->disk.prom_to = FSM_NOBODY;
	h->disk.rec =
		(FsmRec){.term = 0, .seq = 1, .primary = 0, .primary_copy = 1, .peer = 1, .peer_copy = 2};
	if (opt.dr)
		h->disk.rec.peer = FSM_NOBODY;
	h->disk.admitted = true;
	h->disk.copy_id = (uint64_t) i + 1;
	h->writing = h->disk;
	h->woken_at = -10 * SEC;
	configure(w, i);
}

/* A world before its first event.  Memory of earlier schedules is used again. */
void
world_reset(World *w, uint64_t seed)
{
	clear_queue(w);
	for (int i = 0; i < MAX_HOSTS; i++)
	{
		forget(w, &w->h[i].deferred);
		forget(w, &w->h[i].pg.deferred);
	}
	w->now = w->requeue = 0;
	w->seed = seed;
	w->prng = seed * UINT64_C(0x9E3779B97F4A7C15) + 12345;
	for (int k = 0; k < 9; k++)
		rnd(w);
	w->numbers = 0;
	w->n = opt.third ? 4 : 3;
	memset(w->link, 0, sizeof(w->link));
	w->sessions = 0;
	w->chaos = false;
	w->loss = 10;
	w->slow = chance(w, 300) ? 100 : 20;
	w->slow_flush = 50;
	w->hold_flush = false;
	w->overridden = false;
	w->lossy_opened = 0;
	memset(w->late, 0, sizeof(w->late));
	w->late_hello = w->late_frame = 0;
	w->next_id = 1;
	w->next_copy = 100;
	w->directed = -1;
	w->acks = w->promotions = w->events = 0;
	w->last_ack = w->max_gap = 0;
	w->last_ack_host = 0;
	w->failed = false;
	w->why[0] = '\0';
	w->lost_kind = -1;
	for (int i = 0; i < w->n; i++)
		reset_host(w, i);
	for (int i = 0; i < w->n; i++)
		if (!w->h[i].dead)
			td_start(w, i, true);
}

static void
check_service(World *w, const char *when)
{
	if (w->now - w->last_ack > SEC)
		fail(w, "L0 no service %s", when);
}

/* One node is lost for good: the others must go on (DESIGN 8.8). */
static void
permanent_loss(World *w)
{
	static const char *const what[] = {"the primary", "the standby", "the witness"};
	int primary = w->last_ack_host;
	int kind = (int) (rnd(w) % 3);
	int victim = WITNESS;
	Time d = 2 * opt.timing.lease + (opt.dr ? 8 : 4) * SEC;

	if (kind == 0)
		victim = primary;
	else if (kind == 1)
		victim = opt.dr ? 1 - primary : w->h[primary].fsm.cur.peer;
	if (victim < 0)
		return;
	w->max_gap = 0;
	w->last_ack = w->now;
	trace(w, "---- %c is lost for good: %s", 'A' + victim, what[kind]);
	host_crash(w, victim);
	w->h[victim].dead = true;
	run_until(w, w->now + d);
	if (w->failed)
		return;
	if (w->now - w->last_ack > SEC)
		fail(w, "L1 no service after the permanent loss of %s", what[kind]);
	if (kind == 2 && w->max_gap > 1200 * MS)
		fail(w, "L2 losing the witness interrupted service");
	w->lost_kind = kind;
	w->gap[kind] = w->max_gap;
}

/*
 * Mode override: all but one data node are off, and stay off until after an operator has said so.
 * Then the service is back, and when the others return there is a standby in sync again.
 */
static void
operator_phase(World *w)
{
	int i = chance(w, 500) ? 0 : 1;
	uint32_t others = 0;
	Time off = between(w, 100 * MS, 4 * SEC);

	for (int o = 0; o < w->n; o++)
	{
		if (o == i || w->h[o].dead)
			continue;
		others |= 1u << o;
		host_crash(w, o);
	}
	run_until(w, w->now + off);
	run_until(w, w->now + 2 * opt.timing.lease + SEC);
	if (!fsm_is_holder(&w->h[i].fsm)) /* a fence agent may have told it the same */
	{
		td_operator(w, i, FSM_OP_FORCE, others);
		td_operator(w, i, FSM_OP_PROMOTE, 0);
	}
	run_until(w, w->now + 4 * SEC);
	if (w->failed)
		return;
	check_service(w, "after an operator's override");
	settle(w, 25 * SEC + 3 * opt.timing.lease);
}

/* All faults are over: within the bound there is service, and a standby in sync. */
void
settle(World *w, Time bound)
{
	heal(w);
	run_until(w, w->now + bound);
	if (w->failed || opt.nolive)
		return;
	if (opt.two && !opt.nofence && !all_admitted(w))
		return; /* rule 17: a pair with a fence waits for an operator */
	check_service(w, "after healing");
	if (!w->failed && !in_sync(w))
		fail(w, "L0 not in sync after healing");
}

static void
random_schedule(World *w)
{
	Time bound = (opt.two || opt.fence || opt.override ? 25 : 12) * SEC + 3 * opt.timing.lease;

	if (opt.wild)
		bound = 400 * SEC;
	chaos_begin(w, between(w, 3 * SEC, 5 * SEC));
	run_until(w, between(w, 25 * SEC, 45 * SEC));
	if (w->failed)
		return;
	settle(w, bound);
	if (opt.nolive)
		return;
	if (w->failed || opt.wild || !all_admitted(w))
		return;
	if (opt.override)
		operator_phase(w);
	else if (!opt.two)
		permanent_loss(w);
}

/*
 * The schedule of this seed.  Every eighth one is directed: a scene for a rule that chance rarely
 * tests, with random timing.
 */
void
schedule_run(World *w, uint64_t seed)
{
	int k = -1;

	if (opt.only != NULL)
	{
		for (int d = 0; d < directed_count(); d++)
			if (strcmp(directed_name(d), opt.only) == 0)
				k = d;
	}
	else if (seed % 8 == 0)
		k = (int) (seed / 8 % (uint64_t) directed_count());
	if (k >= 0 && !directed_fits(k))
		k = -1;
	world_reset(w, seed);
	w->directed = k;
	if (k >= 0)
		directed_run(w, k);
	else
		random_schedule(w);
}
