/*
 * faults.c
 *		What goes wrong: hosts, processes, disks, the network; and how it is healed.
 */
#include "sim.h"

#include <string.h>

/* ---------- hosts ---------- */

/* Power is lost: WAL that was not flushed is gone, and perhaps a voter's file being written. */
void
host_crash(World *w, int i)
{
	Host *h = &w->h[i];

	if (!h->up)
		return;
	trace(w, "HOST %c crashes", 'A' + i);
	if (h->pg.up)
		pg_kill(w, i);
	pg_drop_unflushed(w, i);
	h->up = h->td = h->td_stopped = h->frozen = h->pg.stopped = h->vip = false;
	h->td_gen++;
	forget(w, &h->deferred);
	forget(w, &h->pg.deferred);
	if (h->in_flight && chance(w, 500) && !MUT(no_fsync_voter))
		h->disk = h->writing;
	if (MUT(no_fsync_voter) && chance(w, 500))
		h->disk = h->writing; /* the file system wrote it after all */
	h->in_flight = false;
}

void
host_boot(World *w, int i, bool autostart)
{
	Host *h = &w->h[i];

	if (h->up || h->dead)
		return;
	h->up = true;
	h->boot++;
	h->offset = between(w, SEC, 50 * SEC);
	h->lost = 0;
	memset(&h->pg.gate, 0, sizeof(h->pg.gate));
	trace(w, "HOST %c boots", 'A' + i);
	if (autostart && h->data)
		pg_autostart(w, i);
	td_start(w, i, false);
}

void
host_freeze(World *w, int i)
{
	Host *h = &w->h[i];

	if (!h->up || h->frozen)
		return;
	trace(w, "VM %c is frozen", 'A' + i);
	h->frozen = true;
	h->frozen_at = w->now;
}

void
host_thaw(World *w, int i)
{
	Host *h = &w->h[i];

	if (!h->frozen)
		return;
	trace(w, "VM %c goes on", 'A' + i);
	h->frozen = false;
	h->lost += w->now - h->frozen_at;
	h->woken_at = w->now;
	if (!h->td_stopped)
		release_deferred(w, &h->deferred);
	if (!h->pg.stopped)
		release_deferred(w, &h->pg.deferred);
}

/* ---------- network ---------- */

void
cut(World *w, int a, int b, bool both)
{
	trace(w, "cut %c -> %c%s", 'A' + a, 'A' + b, both ? " and back" : "");
	w->h[a].cut |= 1u << b;
	if (both)
		w->h[b].cut |= 1u << a;
}

void
isolate(World *w, int i)
{
	trace(w, "isolate %c", 'A' + i);
	for (int o = 0; o < w->n; o++)
	{
		if (o == i)
			continue;
		w->h[i].cut |= 1u << o;
		w->h[o].cut |= 1u << i;
	}
}

void
join_net(World *w, int i)
{
	for (int o = 0; o < w->n; o++)
	{
		w->h[i].cut &= ~(1u << o);
		w->h[o].cut &= ~(1u << i);
	}
}

/* ---------- faults and their ends ---------- */

static void
end_cut(World *w, int i, Event *e)
{
	w->h[i].cut &= ~(1u << e->a);
	if (e->b != 0)
		w->h[e->a].cut &= ~(1u << i);
}

static void
end_isolation(World *w, int i, Event *e)
{
	(void) e;
	join_net(w, i);
}

static void
end_crash(World *w, int i, Event *e)
{
	(void) e;
	host_boot(w, i, chance(w, 250));
}

static void
end_td_kill(World *w, int i, Event *e)
{
	(void) e;
	if (w->h[i].up && !w->h[i].td)
	{
		trace(w, "tandemd %c starts again", 'A' + i);
		td_start(w, i, false);
	}
}

static void
end_td_stop(World *w, int i, Event *e)
{
	if (w->h[i].td_gen == (int) e->a)
		td_continue(w, i);
}

static void
end_pg_stop(World *w, int i, Event *e)
{
	if (w->h[i].pg.gen == (int) e->a)
		pg_continue(w, i);
}

static void
end_freeze(World *w, int i, Event *e)
{
	(void) e;
	host_thaw(w, i);
}

static void
end_disk(World *w, int i, Event *e)
{
	(void) e;
	w->h[i].disk_full = false;
	w->h[i].slow_files = false;
}

static void
end_device(World *w, int i, Event *e)
{
	(void) e;
	td_device(w, i, true);
}

static int
data_node(World *w)
{
	static const int nodes[] = {0, 1, THIRD};

	return nodes[rnd(w) % (opt.third ? 3u : 2u)];
}

static void
crash_for(World *w, int i, Time d)
{
	host_crash(w, i);
	post_sys(w, d, i, end_crash);
}

static void
switch_over(World *w, int i)
{
	if (w->h[i].up && w->h[i].td && fsm_is_holder(&w->h[i].fsm))
		td_operator(w, i, chance(w, 800) ? FSM_OP_SWITCHOVER : FSM_OP_DROP_PEER, 0);
}

/* Has every voter its state?  (Two that lost it at once need an operator.) */
bool
all_admitted(World *w)
{
	for (int i = 0; i < w->n; i++)
		if (!w->h[i].dead && (w->h[i].state_lost || !w->h[i].disk.admitted))
			return false;
	return true;
}

static void
one_fault(World *w, int kind, int i, int dn, Time d)
{
	Host *h = &w->h[i];
	int j = (int) (rnd(w) % (uint64_t) w->n);

	switch (kind)
	{
		case 0:
		case 1:
			if (i != j)
			{
				bool both = chance(w, 600);
				Event *e;

				cut(w, i, j, both);
				e = post_sys(w, d, i, end_cut);
				e->a = j;
				e->b = both;
			}
			break;
		case 2:
			isolate(w, i);
			post_sys(w, d, i, end_isolation);
			break;
		case 3:
		case 4:
			crash_for(w, i, d);
			break;
		case 5:
			td_kill(w, i);
			post_sys(w, d, i, end_td_kill);
			break;
		case 6:
			if (w->h[dn].up)
				pg_kill(w, dn);
			break;
		case 7:
			td_stop(w, i);
			post_sys(w, d, i, end_td_stop)->a = h->td_gen;
			break;
		case 8:
			pg_stop(w, dn);
			post_sys(w, d, dn, end_pg_stop)->a = w->h[dn].pg.gen;
			break;
		case 9:
			host_freeze(w, i);
			post_sys(w, d, i, end_freeze);
			break;
		case 10:
			switch_over(w, dn);
			break;
		case 11:
			w->loss = chance(w, 500) ? 300 : 10;
			break;
		case 12:
			crash_for(w, dn, between(w, 300 * MS, 2 * SEC));
			break;
		case 13:
			h->slow_files = true;
			post_sys(w, d, i, end_disk);
			break;
		case 14:
			if (h->up && h->td)
			{
				trace(w, "disk of %c is full", 'A' + i);
				h->disk_full = true;
				post_sys(w, d, i, end_disk);
			}
			break;
		case 15: /* tandemd is killed and PostgreSQL stopped at once: only the gate is left */
			td_kill(w, dn);
			pg_stop(w, dn);
			post_sys(w, d, dn, end_td_kill);
			post_sys(w, between(w, 0, 2 * d), dn, end_pg_stop)->a = w->h[dn].pg.gen;
			break;
		case 16: /* a voter loses its state, but not what belongs to its data directory */
			if (h->dead || !all_admitted(w))
				break;
			if (opt.two && !opt.nofence && !chance(w, 100))
				break; /* such a pair then waits for an operator: not too often */
			host_crash(w, i);
			h->state_lost = true;
			post_sys(w, between(w, 100 * MS, SEC), i, end_crash);
			break;
		case 17:
			td_device(w, dn, false);
			post_sys(w, d, dn, end_device);
			break;
	}
}

static void
fault(World *w, int i, Event *e)
{
	Time d = chance(w, 500) ? between(w, 100 * MS, 1200 * MS) : between(w, SEC, 6 * SEC);
	int kind = (int) (rnd(w) % 18);

	(void) e;
	if (!w->chaos)
		return;
	i = (int) (rnd(w) % (uint64_t) w->n);
	one_fault(w, kind, i, data_node(w), d);
	post_sys(w, chance(w, 300) ? between(w, 50 * MS, 500 * MS) : between(w, 300 * MS, 2500 * MS),
			 -1, fault);
}

void
chaos_begin(World *w, Time delay)
{
	w->chaos = true;
	post_sys(w, delay, -1, fault);
}

/* Everything works again: what was stopped goes on, what was down boots. */
void
heal(World *w)
{
	trace(w, "---- all faults are over");
	w->chaos = false;
	w->loss = w->slow = 0;
	w->hold_flush = false; /* a scene may have come to its end early */
	memset(w->late, 0, sizeof(w->late));
	for (int i = 0; i < w->n; i++)
	{
		Host *h = &w->h[i];

		h->cut = 0;
		h->disk_full = h->slow_files = false;
		host_thaw(w, i);
		td_continue(w, i);
		pg_continue(w, i);
		if (!h->up)
			host_boot(w, i, false);
		else if (!h->td)
			td_start(w, i, false);
		td_device(w, i, true);
	}
}

/* The primary that serves clients in sync, or -1. */
int
primary_of(World *w)
{
	for (int i = 0; i < w->n; i++)
		if (pg_primary_here(w, i) && fsm_is_holder(&w->h[i].fsm) && w->h[i].pg.gate.open)
			return i;
	return -1;
}

bool
in_sync(World *w)
{
	int i = primary_of(w);

	if (i < 0)
		return false;
	if (opt.dr)
		return w->h[i].fsm.state == FSM_ALONE;
	return w->h[i].fsm.state == FSM_IN_SYNC && w->h[i].pg.gate.require;
}
