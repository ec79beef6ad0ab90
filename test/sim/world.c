/*
 * world.c
 *		Virtual time: the event queue, clocks, chance and the network of the simulator.
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------- chance ---------- */

/* xorshift64*: the only source of chance, so that a seed replays a schedule. */
uint64_t
rnd(World *w)
{
	w->prng ^= w->prng >> 12;
	w->prng ^= w->prng << 25;
	w->prng ^= w->prng >> 27;
	return w->prng * UINT64_C(2685821657736338717);
}

Time
between(World *w, Time lo, Time hi)
{
	return hi > lo ? lo + (Time) ((rnd(w) >> 11) % (uint64_t) (hi - lo)) : lo;
}

bool
chance(World *w, int per_thousand)
{
	return (int) ((rnd(w) >> 20) % 1000) < per_thousand;
}

/* ---------- clocks ---------- */

static Time
running_time(World *w, int i)
{
	Host *h = &w->h[i];

	if (!opt.freezeclock)
		return w->now;
	return w->now - h->lost - (h->frozen ? w->now - h->frozen_at : 0);
}

/* CLOCK_BOOTTIME of host i, now. */
FsmTime
local(World *w, int i)
{
	Host *h = &w->h[i];
	Time t = running_time(w, i);

	return h->offset + t + t / 1000 * h->ppm / 1000;
}

/* When, in true time, does host i's clock show "at" (not earlier than that)? */
Time
true_time(World *w, int i, FsmTime at)
{
	Host *h = &w->h[i];
	FsmTime ahead = at - local(w, i);

	if (ahead <= 0)
		return w->now;
	return w->now + ahead * 1000000 / (1000000 + h->ppm) + 2;
}

/* ---------- the queue: a binary heap of indexes into a pool ---------- */

static bool
earlier(const World *w, uint32_t a, uint32_t b)
{
	const Event *x = &w->pool[a];
	const Event *y = &w->pool[b];

	return x->at < y->at || (x->at == y->at && x->number < y->number);
}

static void
push(World *w, uint32_t e)
{
	uint32_t k;

	if (w->nheap == w->cap_heap)
	{
		w->cap_heap = w->cap_heap != 0 ? w->cap_heap * 2 : 1024;
		w->heap = realloc(w->heap, w->cap_heap * sizeof(w->heap[0]));
		if (w->heap == NULL)
			abort();
	}
	k = w->nheap++;
	while (k > 0 && earlier(w, e, w->heap[(k - 1) / 2]))
	{
		w->heap[k] = w->heap[(k - 1) / 2];
		k = (k - 1) / 2;
	}
	w->heap[k] = e;
}

static uint32_t
pop(World *w)
{
	uint32_t top = w->heap[0];
	uint32_t e = w->heap[--w->nheap];
	uint32_t k = 0;

	for (;;)
	{
		uint32_t kid = 2 * k + 1;

		if (kid >= w->nheap)
			break;
		if (kid + 1 < w->nheap && earlier(w, w->heap[kid + 1], w->heap[kid]))
			kid++;
		if (!earlier(w, w->heap[kid], e))
			break;
		w->heap[k] = w->heap[kid];
		k = kid;
	}
	if (w->nheap > 0)
		w->heap[k] = e;
	return top;
}

static uint32_t
new_event(World *w)
{
	uint32_t e = w->free_list;

	if (e != NONE)
	{
		w->free_list = w->pool[e].next;
		return e;
	}
	if (w->npool == w->cap_pool)
	{
		w->cap_pool = w->cap_pool != 0 ? w->cap_pool * 2 : 1024;
		w->pool = realloc(w->pool, w->cap_pool * sizeof(w->pool[0]));
		if (w->pool == NULL)
			abort();
	}
	return w->npool++;
}

static void
free_event(World *w, uint32_t e)
{
	free(w->pool[e].free_me);
	w->pool[e].free_me = NULL;
	w->pool[e].next = w->free_list;
	w->free_list = e;
}

/*
 * A new event.  The pointer is valid until the next post(); its handler gets a copy's address
 * that stays valid while it runs.
 */
Event *
post(World *w, Time delay, int host, Proc proc, int gen, Handler run)
{
	uint32_t e = new_event(w);
	Event *ev = &w->pool[e];

	ev->at = w->now + (delay > 0 ? delay : 0);
	ev->number = w->numbers++;
	ev->run = run;
	ev->free_me = NULL;
	ev->host = (int8_t) host;
	ev->proc = (int8_t) proc;
	ev->gen = gen;
	ev->a = ev->b = 0;
	push(w, e);
	return ev;
}

Event *
post_td(World *w, int host, Time delay, Handler run)
{
	return post(w, delay, host, P_TD, w->h[host].td_gen, run);
}

Event *
post_pg(World *w, int host, Time delay, Handler run)
{
	return post(w, delay, host, P_PG, w->h[host].pg.gen, run);
}

Event *
post_sys(World *w, Time delay, int host, Handler run)
{
	return post(w, delay, host, P_SYS, -1, run);
}

static void
defer(World *w, Deferred *d, uint32_t e)
{
	w->pool[e].next = NONE;
	if (d->head == NONE)
		d->head = e;
	else
		w->pool[d->tail].next = e;
	d->tail = e;
}

/* The process died: what it had not got to is gone. */
void
forget(World *w, Deferred *d)
{
	while (d->head != NONE)
	{
		uint32_t e = d->head;

		d->head = w->pool[e].next;
		free_event(w, e);
	}
}

/* The process goes on: it gets everything it missed, in order. */
void
release_deferred(World *w, Deferred *d)
{
	if (w->requeue < w->now)
		w->requeue = w->now;
	while (d->head != NONE)
	{
		uint32_t e = d->head;

		d->head = w->pool[e].next;
		w->pool[e].at = ++w->requeue;
		w->pool[e].number = w->numbers++;
		push(w, e);
	}
}

static void
dispatch(World *w, uint32_t e)
{
	Event *ev = &w->pool[e];
	Host *h = ev->host >= 0 ? &w->h[ev->host] : NULL;
	void *mine;
	Event copy;

	if (ev->proc != P_SYS)
	{
		bool td = ev->proc == P_TD;
		bool alive = h->up && (td ? h->td : h->pg.up);
		int gen = td ? h->td_gen : h->pg.gen;

		if (!alive || (ev->gen >= 0 && ev->gen != gen))
		{
			free_event(w, e);
			return;
		}
		if (h->frozen || (td ? h->td_stopped : h->pg.stopped))
		{
			defer(w, td ? &h->deferred : &h->pg.deferred, e);
			return;
		}
	}
	copy = *ev;
	mine = ev->free_me;
	ev->free_me = NULL;
	free_event(w, e);
	copy.run(w, copy.host, &copy);
	free(mine);
}

/* Let everything happen until true time t, or until a rule is violated. */
void
run_until(World *w, Time t)
{
	while (!w->failed && w->nheap > 0 && w->pool[w->heap[0]].at <= t)
	{
		uint32_t e = pop(w);

		w->now = w->pool[e].at;
		w->events++;
		dispatch(w, e);
	}
	if (!w->failed)
		w->now = t;
}

void
clear_queue(World *w)
{
	while (w->nheap > 0)
		free_event(w, pop(w));
}

/* ---------- network ---------- */

/* Can host a reach host b at this moment? */
bool
reachable(World *w, int a, int b)
{
	return (w->h[a].cut & (1u << b)) == 0 && !w->h[a].dead && !w->h[b].dead && w->h[b].up;
}

/* A datagram: lost, doubled, late (also later than a lease) and so out of order. */
void
send_datagram(World *w, const FsmMsg *m)
{
	int copies = chance(w, 20) ? 2 : 1;

	if (!reachable(w, m->from, m->to) || chance(w, w->loss))
		return;
	while (copies-- > 0)
	{
		Time delay = between(w, 500, 10 * MS);
		Event *e;

		if (chance(w, w->slow))
			delay = between(w, 0, chance(w, 100) ? 2 * opt.timing.lease : 3 * SEC);
		e = post(w, delay + w->late[m->from][m->to], m->to, P_TD, -1, td_message);
		e->u.msg = *m;
	}
}

/* ---------- what people read ---------- */

void
trace(World *w, const char *fmt, ...)
{
	va_list ap;

	if (!opt.verbose)
		return;
	printf("%9.4f ", (double) w->now / 1e6);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* A rule is violated: the schedule ends here. */
void
fail(World *w, const char *fmt, ...)
{
	va_list ap;

	if (w->failed)
		return;
	w->failed = true;
	va_start(ap, fmt);
	vsnprintf(w->why, sizeof(w->why), fmt, ap);
	va_end(ap);
	trace(w, "VIOLATION %s", w->why);
}
