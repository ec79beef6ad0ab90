/*
 * pg.c
 *		The simulator's PostgreSQL with our extension: WAL, gate, link, clients.
 *
 * WAL is a list of record ids; a start as primary writes one (the checkpoint).  It is sent when
 * written, before the local flush.  The gate is the real gate_rule.c, the handshake the real
 * link_rule.c.  Here the invariants about commits are checked: I1 at every opening and every late
 * acknowledgement, I2 at every release, I3 (reads from an old primary) at every opening.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

/* ---------- WAL ---------- */

static void
wal_truncate(Pg *p, uint64_t len)
{
	if (p->len > len)
		p->len = len;
	if (p->flush > len)
		p->flush = len;
	if (p->applied > len)
		p->applied = len;
}

static void
wal_append(Pg *p, int id)
{
	if (p->len == p->cap)
	{
		p->cap = p->cap != 0 ? p->cap * 2 : 1024;
		p->wal = realloc(p->wal, p->cap * sizeof(p->wal[0]));
		if (p->wal == NULL)
			abort();
	}
	p->wal[p->len++] = id;
}

static int
new_id(World *w, uint64_t index)
{
	int id = w->next_id++;

	if (id >= w->cap_ids)
	{
		int cap = w->cap_ids != 0 ? w->cap_ids * 2 : 8192;

		w->acked = realloc(w->acked, (size_t) cap);
		w->where = realloc(w->where, (size_t) cap * sizeof(int));
		w->received = realloc(w->received, (size_t) cap);
		if (w->acked == NULL || w->where == NULL || w->received == NULL)
			abort();
		w->cap_ids = cap;
	}
	w->acked[id] = 0;
	w->where[id] = (int) index;
	w->received[id] = 0;
	return id;
}

static bool
holds(World *w, int i, int id)
{
	Pg *p = &w->h[i].pg;
	uint64_t at = (uint64_t) w->where[id];

	return at < p->len && p->wal[at] == id;
}

/* A crash of the host takes what was not flushed. */
void
pg_drop_unflushed(World *w, int i)
{
	Pg *p = &w->h[i].pg;

	wal_truncate(p, p->flush);
}

bool
pg_primary_here(World *w, int i)
{
	return w->h[i].up && w->h[i].pg.up && w->h[i].pg.primary;
}

/* ---------- commits ---------- */

static bool
lives_as_newer(World *w, int i, int o)
{
	return o != i && w->h[o].data && w->h[o].pg.open_term > w->h[i].pg.gate.term;
}

/* The acknowledgement reaches the client. */
static void
acknowledge(World *w, int i, Event *e)
{
	int id = (int) e->a;

	if (w->acked[id] == 2)
		return;
	w->acked[id] = 1;
	w->acks++;
	if (w->now - w->last_ack > w->max_gap)
		w->max_gap = w->now - w->last_ack;
	w->last_ack = w->now;
	w->last_ack_host = i;
	for (int o = 0; o < w->n; o++)
		if (lives_as_newer(w, i, o) && pg_primary_here(w, o) && !holds(w, o, id))
			fail(w, "I1 commit %d acknowledged late by %c is missing on the newer primary %c", id,
				 'A' + i, 'A' + o);
}

/* Everything up to "released" may be acknowledged. */
static void
release_waiting(World *w, int i)
{
	Pg *p = &w->h[i].pg;
	int keep = 0;

	for (int k = 0; k < p->nwaiting; k++)
	{
		if (p->waiting[k].lsn > p->gate.released)
		{
			p->waiting[keep++] = p->waiting[k];
			continue;
		}
		for (int o = 0; o < w->n && !opt.freezeclock && !opt.wild; o++)
			if (lives_as_newer(w, i, o))
				fail(w, "I2 %c acknowledges in term %llu after %c opened in term %llu", 'A' + i,
					 (unsigned long long) p->gate.term, 'A' + o,
					 (unsigned long long) w->h[o].pg.open_term);
		post_pg(w, i, between(w, 0, 2 * MS), acknowledge)->a = p->waiting[k].id;
	}
	p->nwaiting = keep;
}

/*
 * An override has made node i primary: what it does not hold is given up (rule 21), and only that.
 * Where it was the confirmation of rule 22, that must be what this standby never received.
 */
void
pg_accept_loss(World *w, int i)
{
	int lost = 0;

	w->overridden = true;
	for (int id = 1; id < w->next_id; id++)
		if (!holds(w, i, id))
		{
			if (opt.dr && !opt.override && w->acked[id] == 1 && (w->received[id] & (1u << i)) != 0)
				fail(w, "I1 acknowledged commit %d, which %c had received, is missing there", id,
					 'A' + i);
			lost += w->acked[id] == 1;
			w->acked[id] = 2;
		}
	trace(w, "the override to %c gives up %d acknowledged commits", 'A' + i, lost);
}

static void
check_opening(World *w, int i)
{
	Pg *p = &w->h[i].pg;

	for (int id = 1; id < w->next_id; id++)
	{
		if (w->acked[id] != 1 || holds(w, i, id))
			continue;
		fail(w, "I1 acknowledged commit %d is missing on primary %c term %llu", id, 'A' + i,
			 (unsigned long long) p->gate.term);
		return;
	}
	for (int o = 0; o < w->n && !opt.freezeclock && !opt.wild; o++)
	{
		Host *y = &w->h[o];

		if (o == i || !y->data)
			continue;
		if (pg_primary_here(w, o) && y->pg.gate.open && !y->pg.stopped && !y->frozen &&
			y->pg.gate.term < p->gate.term && w->now - y->woken_at > opt.timing.stop)
			fail(w, "I3 old primary %c still serves reads when %c opens", 'A' + o, 'A' + i);
		if (y->pg.open_term > p->gate.term)
			fail(w, "I2 %c opens in term %llu after %c opened in term %llu", 'A' + i,
				 (unsigned long long) p->gate.term, 'A' + o, (unsigned long long) y->pg.open_term);
	}
}

static void
opened(World *w, int i)
{
	Pg *p = &w->h[i].pg;

	trace(w, "%c OPEN for clients, term %llu inc %llu, %s, WAL %llu", 'A' + i,
		  (unsigned long long) p->gate.term, (unsigned long long) p->gate.inc,
		  p->gate.require ? "in sync" : "alone", (unsigned long long) p->len);
	check_opening(w, i);
	if (w->h[i].fsm.cur.lossy && w->h[i].fsm.term == p->gate.term)
		w->lossy_opened = p->gate.term;
	if (p->gate.term > p->open_term)
		p->open_term = p->gate.term;
	for (uint64_t k = 0; k < p->len; k++)
		w->acked[p->wal[k]] = 1; /* visible is acknowledged */
}

/* ---------- the gate ---------- */

static void
peer_view(World *w, int i, GatePeer *peer)
{
	Pg *p = &w->h[i].pg;

	*peer = (GatePeer){.node = -1};
	for (int n = 0; n < w->n; n++)
	{
		Session *l = &w->link[n];

		if (!l->on || l->primary != i || l->gen_primary != p->gen || !l->answered)
			continue;
		if (n == p->gate.peer || (MUT(gate_any_copy) && peer->node < 0))
			*peer = (GatePeer){.node = n, .copy = l->copy, .flush = l->flush};
	}
}

/* Mutation gate_nonatomic: the move, in a critical section of its own. */
static void
move_later(World *w, int i, Event *e)
{
	Pg *p = &w->h[i].pg;

	if (p->primary && (uint64_t) e->a > p->gate.released)
	{
		p->gate.released = (uint64_t) e->a;
		release_waiting(w, i);
	}
}

static void
run_gate(World *w, int i)
{
	Pg *p = &w->h[i].pg;
	FsmTime now = local(w, i);
	GatePeer peer;

	if (!p->primary)
		return;
	peer_view(w, i, &peer);
	if (MUT(gate_nonatomic) && !p->gate.require && gate_lease_valid(&p->gate, now))
		post_pg(w, i, between(w, 0, 500 * MS), move_later)->a = (int64_t) p->flush;
	else if (MUT(lone_timeout_no_record) && p->gate.require && p->gate.peer >= 0 &&
			 gate_lease_valid(&p->gate, now) && w->now - w->link[p->gate.peer].answer_at > SEC)
	{
		p->gate.released = p->flush;
		release_waiting(w, i);
	}
	else if (gate_advance(&p->gate, now, p->flush, &peer))
		release_waiting(w, i);
	if (gate_open(&p->gate, now, &peer, true))
		opened(w, i);
}

void
pg_gate_command(World *w, int i, Event *e)
{
	Pg *p = &w->h[i].pg;

	if (!p->primary || !gate_command(&p->gate, &e->u.gate))
		return;
	switch (e->u.gate.order)
	{
		case GATE_REQUIRE:
			trace(w, "%c gate waits for %c from %llu", 'A' + i, 'A' + p->gate.peer,
				  (unsigned long long) p->gate.waits_from);
			break;
		case GATE_ALONE:
			trace(w, "%c gate ALONE", 'A' + i);
			break;
		case GATE_TERM:
			trace(w, "%c gate takes term %llu", 'A' + i, (unsigned long long) p->gate.term);
			if (p->nhist < MAX_HIST)
				p->hist[p->nhist++] = (LinkIncarnation){
					.term = p->gate.term, .incarnation = (uint32_t) p->gate.inc, .start = p->len};
			for (int n = 0; n < w->n; n++)
				if (w->link[n].primary == i)
					w->link[n].on = false;
			break;
	}
	run_gate(w, i);
}

/* ---------- the link ---------- */

void
pg_forget_sessions(World *w, int i)
{
	for (int n = 0; n < w->n; n++)
		if (w->link[n].on && (n == i || w->link[n].primary == i))
			w->link[n].on = false;
}

/* One message on a session; dir 0 = to the standby.  TCP: in order, or broken. */
static Event *
on_link(World *w, int standby, int id, int dir, Handler run)
{
	Session *l = &w->link[standby];
	int from = dir == 0 ? l->primary : standby;
	int to = dir == 0 ? standby : l->primary;
	Time at = w->now + between(w, 500, 8 * MS);
	Event *e;

	if (!l->on || l->id != id)
		return NULL;
	if (!reachable(w, from, to))
		l->broken[dir] = true;
	if (l->broken[dir])
		return NULL;
	if (chance(w, w->slow / 4))
		at = w->now + between(w, 0, 1500 * MS);
	if (dir == 0)
	{
		at += w->late_frame;
		w->late_frame = 0;
	}
	if (at <= l->last[dir])
		at = l->last[dir] + 1;
	l->last[dir] = at;
	e = post(w, at - w->now, to, P_PG, dir == 0 ? l->gen_standby : l->gen_primary, run);
	return e;
}

static void
answer_arrives(World *w, int i, Event *e)
{
	Session *l = &w->link[e->u.frame.bound];
	Pg *p = &w->h[i].pg;
	const Frame *f = &e->u.frame;

	if (!p->primary || l->primary != i || f->term != p->gate.term || f->inc != p->gate.inc)
		return;
	if ((!l->on || l->id != f->session) && !MUT(old_session_ok))
		return;
	if (f->from > l->flush || !l->answered)
		l->flush = f->from;
	l->answered = true;
	l->answer_at = w->now;
	l->copy = (uint64_t) e->a;
	run_gate(w, i);
}

/* The standby says what it holds. */
static void
answer(World *w, int standby, const Frame *f, uint64_t flush)
{
	Host *h = &w->h[standby];
	Event *e;

	if (f->term < h->pg.gate.cell.floor && !MUT(old_term_frames))
		return;
	e = on_link(w, standby, f->session, 1, answer_arrives);
	if (e == NULL)
		return;
	if (h->td && f->term < h->fsm.d.prom)
		fail(w, "I8 %c acknowledges WAL of term %llu after promising term %llu", 'A' + standby,
			 (unsigned long long) f->term, (unsigned long long) h->fsm.d.prom);
	e->a = (int64_t) h->fsm.d.copy_id;
	e->u.frame.session = f->session;
	e->u.frame.term = f->term;
	e->u.frame.inc = f->inc;
	e->u.frame.from = flush;
	e->u.frame.bound = (uint64_t) standby;
}

static bool
same_incarnation(const Pg *p, uint64_t term, uint64_t inc)
{
	return p->nhist > 0 && p->hist[p->nhist - 1].term == term &&
		   p->hist[p->nhist - 1].incarnation == inc;
}

static void
standby_flushed(World *w, int b, Event *e)
{
	Pg *p = &w->h[b].pg;
	uint64_t n = (uint64_t) e->a;

	if (p->primary)
		return;
	if (p->len >= n && p->flush < n && same_incarnation(p, e->u.frame.term, e->u.frame.inc))
	{
		for (uint64_t k = p->flush; k < n; k++)
			w->received[p->wal[k]] |= 1u << b;
		p->flush = n;
	}
	if (p->flush >= n || e->u.frame.n == 0)
		answer(w, b, &e->u.frame, p->flush);
}

static void
apply(World *w, Pg *p, const Frame *f)
{
	uint64_t to = f->bound < p->flush ? f->bound : p->flush;

	(void) w;
	if (to > p->applied)
	{
		p->applied = to;
		if (f->async)
			p->applied_async = to;
	}
}

/* Frames of a session: bytes and the bound (rules 4 of DESIGN section 4, and 15). */
static void
frame_arrives(World *w, int b, Event *e)
{
	Pg *p = &w->h[b].pg;
	Frame *f = &e->u.frame;
	Session *l = &w->link[b];
	bool current = l->on && l->id == f->session;
	Event *done;

	if (p->primary || w->h[b].fsm.d.rebuilding || (!current && !MUT(old_session_ok)))
		return;
	if (f->term < p->gate.cell.floor && !MUT(old_term_frames))
		return;
	if (!same_incarnation(p, f->term, f->inc))
		return;
	if (p->len < f->from)
	{
		if (current)
			l->on = false; /* a gap closes the session */
		return;
	}
	if (f->n > 0)
	{
		if (p->len > f->from)
			wal_truncate(p, f->from);
		for (int k = 0; k < f->n; k++)
			wal_append(p, f->wal[k]);
	}
	apply(w, p, f);
	if (MUT(ack_before_flush))
		answer(w, b, f, p->len);
	done = post_pg(w, b,
				   f->n == 0       ? 0
				   : chance(w, 50) ? between(w, 0, 500 * MS)
								   : between(w, 500, 10 * MS),
				   standby_flushed);
	done->a = (int64_t) (f->from + (uint64_t) f->n);
	done->u.frame.session = f->session;
	done->u.frame.term = f->term;
	done->u.frame.inc = f->inc;
	done->u.frame.n = f->n;
}

static void
send_frames(World *w, int i, int standby)
{
	Pg *p = &w->h[i].pg;
	Session *l = &w->link[standby];
	bool async = !(p->gate.require && p->gate.peer == standby && p->gate.peer_copy == l->copy);
	uint64_t bound = p->flush;

	if (async && !MUT(async_bound) && p->gate.released < bound)
		bound = p->gate.released; /* rule 22 */
	do
	{
		uint64_t n = p->len - l->sent;
		Event *e = on_link(w, standby, l->id, 0, frame_arrives);
		Frame *f;

		if (n > FRAME_RECORDS)
			n = FRAME_RECORDS;
		if (e == NULL)
		{
			l->sent += n; /* lost on a broken connection */
			continue;
		}
		f = &e->u.frame;
		f->session = l->id;
		f->term = p->gate.term;
		f->inc = p->gate.inc;
		f->from = l->sent;
		f->bound = bound;
		f->async = async;
		f->n = (int) n;
		memcpy(f->wal, p->wal + l->sent, n * sizeof(int));
		l->sent += n;
	} while (l->sent < p->len);
}

static void
send_to_all(World *w, int i)
{
	for (int n = 0; n < w->n; n++)
		if (w->link[n].on && w->link[n].primary == i && w->link[n].gen_primary == w->h[i].pg.gen)
			send_frames(w, i, n);
}

/*
 * What was not flushed by the local host could still be lost: the standby must not have it
 * beyond.
 */
static void
check_link(World *w, int standby, int primary, uint64_t at)
{
	Pg *s = &w->h[standby].pg;
	Pg *p = &w->h[primary].pg;

	for (uint64_t k = 0; k < at && k < p->len; k++)
		if (p->wal[k] != s->wal[k])
		{
			fail(w, "I5 the link %c -> %c opened on different WAL at %llu", 'A' + primary,
				 'A' + standby, (unsigned long long) k);
			return;
		}
}

static void
adopt_history(Pg *p, const Hello *h)
{
	p->nhist = h->nhist;
	memcpy(p->hist, h->hist, sizeof(h->hist[0]) * (size_t) h->nhist);
}

static void
open_session(World *w, int b, int primary, int gen, uint64_t at, const Hello *h)
{
	Pg *s = &w->h[b].pg;
	Session *l = &w->link[b];

	if (!MUT(keep_ahead))
		wal_truncate(s, at);
	adopt_history(s, h);
	memset(l, 0, sizeof(*l));
	l->id = ++w->sessions;
	l->on = true;
	l->primary = primary;
	l->gen_primary = gen;
	l->gen_standby = s->gen;
	l->sent = at;
	l->last[0] = l->last[1] = w->now;
	if (!MUT(keep_ahead))
		check_link(w, b, primary, at);
	else
	{
		Frame f = {.session = l->id, .term = h->term, .inc = h->inc};

		answer(w, b, &f, s->flush);
	}
	trace(w, "link %c -> %c term %llu.%llu from %llu", 'A' + primary, 'A' + b,
		  (unsigned long long) h->term, (unsigned long long) h->inc, (unsigned long long) at);
}

/* The primary's answer to a standby's hello. */
static void
hello_answered(World *w, int b, Event *e)
{
	Pg *s = &w->h[b].pg;
	int primary = (int) e->a;
	Pg *p = &w->h[primary].pg;
	Hello *h = e->free_me;
	uint64_t at = 0;
	LinkVerdict v;

	if (s->primary || w->h[b].fsm.d.rebuilding || w->link[b].on)
		return;
	if (h->term < s->gate.cell.floor && !MUT(old_term_frames))
		return;
	if (!w->h[primary].up || !p->up || !p->primary || p->gen != h->session_gen ||
		p->gate.term != h->term || p->gate.inc != h->inc)
		return;
	v = link_resume(s->hist, s->nhist, h->hist, h->nhist, s->flush, s->applied, p->len, &at);
	if (MUT(stale_resume_point) && v == LINK_RESUME && h->flush < at && h->flush >= s->applied)
		at = h->flush;
	if (v == LINK_WAIT)
		return;
	if (v == LINK_REBUILD)
	{
		if (s->applied_async > link_divergence(s->hist, s->nhist, h->hist, h->nhist) &&
			!w->overridden)
			fail(w, "I6 %c applied WAL as an asynchronous standby that primary %c does not have",
				 'A' + b, 'A' + primary);
		td_diverged(w, b);
		return;
	}
	open_session(w, b, primary, h->session_gen, at, h);
}

static void
hello_arrives(World *w, int p, Event *e)
{
	Pg *x = &w->h[p].pg;
	int b = (int) e->a;
	Hello *q = e->free_me;
	Hello *h;
	Event *r;

	if (!x->primary || !reachable(w, p, b) || x->gate.term < q->floor)
		return;
	h = malloc(sizeof(Hello) + sizeof(LinkIncarnation) * (size_t) x->nhist);
	if (h == NULL)
		abort();
	h->session_gen = x->gen;
	h->nhist = x->nhist;
	memcpy(h->hist, x->hist, sizeof(x->hist[0]) * (size_t) x->nhist);
	h->flush = q->flush;
	h->floor = 0;
	h->term = x->gate.term;
	h->inc = x->gate.inc;
	r = post(
		w, between(w, MS, 10 * MS) + (chance(w, w->slow) ? between(w, 0, SEC) : 0) + w->late_hello,
		b, P_PG, (int) e->b, hello_answered);
	w->late_hello = 0;
	r->a = p;
	r->free_me = h;
}

static void
say_hello(World *w, int b)
{
	Pg *s = &w->h[b].pg;
	int p = s->follows;
	Hello *h;
	Event *e;

	if (p < 0 || p == b || !reachable(w, b, p) || !reachable(w, p, b) || !w->h[p].data)
		return;
	h = malloc(sizeof(Hello));
	if (h == NULL)
		abort();
	h->nhist = 0;
	h->flush = s->flush;
	h->floor = MUT(old_term_frames) ? 0 : s->gate.cell.floor;
	e = post(w, between(w, MS, 10 * MS) + (chance(w, w->slow) ? between(w, 0, SEC) : 0), p, P_PG,
			 -1, hello_arrives);
	e->a = b;
	e->b = s->gen;
	e->free_me = h;
}

static void
standby_tick(World *w, int i, Event *e)
{
	Host *h = &w->h[i];
	Session *l = &w->link[i];

	(void) e;
	if (h->pg.primary)
		return;
	if (l->on && l->gen_standby == h->pg.gen)
	{
		Time last = l->last[0] > l->last[1] ? l->last[0] : l->last[1];

		if (w->now - last > 600 * MS || l->broken[0] || l->broken[1] || l->primary != h->pg.follows)
		{
			l->on = false;
			trace(w, "link to %c is down", 'A' + i);
		}
	}
	else if (!h->fsm.d.rebuilding)
		say_hello(w, i);
	post_pg(w, i, between(w, 50 * MS, 150 * MS), standby_tick);
}

void
pg_standby_loop(World *w, int i)
{
	trace(w, "%c PostgreSQL starts as standby, WAL %llu", 'A' + i,
		  (unsigned long long) w->h[i].pg.len);
	post_pg(w, i, between(w, 10 * MS, 100 * MS), standby_tick);
}

/* Rewind or seed: afterwards this is a copy of the primary's durable WAL. */
void
pg_rebuild(World *w, int i, int from)
{
	Pg *p = &w->h[i].pg;
	Pg *s = &w->h[from].pg;

	p->len = 0;
	for (uint64_t k = 0; k < s->flush; k++)
		wal_append(p, s->wal[k]);
	p->flush = p->applied = p->len;
	p->applied_async = 0;
	p->nhist = s->nhist;
	memcpy(p->hist, s->hist, sizeof(s->hist[0]) * (size_t) s->nhist);
	trace(w, "%c is rebuilt, WAL %llu", 'A' + i, (unsigned long long) p->len);
}

/* ---------- the postmaster ---------- */

void
pg_start(World *w, int i)
{
	Pg *p = &w->h[i].pg;

	p->up = true;
	p->stopped = false;
	p->primary = false;
	p->gen++;
	p->gate.open = false;
	forget(w, &p->deferred);
	p->flush = p->len;
	if (p->applied < p->len)
		p->applied = p->len; /* recovery replays what is there */
	p->gate_last = w->now;
	p->nwaiting = 0;
}

void
pg_kill(World *w, int i)
{
	Pg *p = &w->h[i].pg;

	if (!p->up)
		return;
	trace(w, "%c PostgreSQL dies (%s)", 'A' + i, p->primary ? "primary" : "standby");
	p->up = p->primary = p->stopped = false;
	p->gate.open = false;
	p->gen++;
	forget(w, &p->deferred);
	pg_forget_sessions(w, i);
	if (w->h[i].up)
		td_pg_died(w, i);
}

void
pg_stop(World *w, int i)
{
	if (!w->h[i].up || !w->h[i].pg.up)
		return;
	trace(w, "SIGSTOP PostgreSQL %c", 'A' + i);
	w->h[i].pg.stopped = true;
}

void
pg_continue(World *w, int i)
{
	Pg *p = &w->h[i].pg;

	if (!p->stopped)
		return;
	trace(w, "SIGCONT PostgreSQL %c", 'A' + i);
	p->stopped = false;
	w->h[i].woken_at = w->now;
	if (!w->h[i].frozen)
		release_deferred(w, &p->deferred);
}

static void
gate_tick(World *w, int i, Event *e)
{
	Pg *p = &w->h[i].pg;

	(void) e;
	if (!p->primary)
		return;
	if (!MUT(no_self_kill) && !MUT(gate_ignores_lease) &&
		gate_must_stop(&p->gate, local(w, i), opt.timing.stop * 9 / 10))
	{
		trace(w, "%c gate stops its postmaster", 'A' + i);
		pg_kill(w, i);
		return;
	}
	run_gate(w, i);
	if (w->failed)
		return;
	send_to_all(w, i);
	post_pg(w, i, between(w, 20 * MS, 50 * MS), gate_tick);
}

static void
local_flush(World *w, int i, Event *e)
{
	Pg *p = &w->h[i].pg;

	if (!p->primary || (uint64_t) e->a <= p->flush)
		return;
	if (w->hold_flush)
	{
		post_pg(w, i, MS, local_flush)->a = e->a;
		return;
	}
	p->flush = (uint64_t) e->a;
	run_gate(w, i);
}

static void
client(World *w, int i, Event *e)
{
	Pg *p = &w->h[i].pg;

	(void) e;
	if (!p->primary)
		return;
	if (p->gate.open && p->nwaiting < MAX_WAITING)
	{
		int id = new_id(w, p->len);
		Time delay = chance(w, w->slow_flush) ? between(w, 0, SEC) : between(w, MS, 20 * MS);

		wal_append(p, id);
		p->waiting[p->nwaiting++] = (Waiting){.lsn = p->len, .id = id};
		post_pg(w, i, delay, local_flush)->a = (int64_t) p->len;
		send_to_all(w, i);
	}
	post_pg(w, i, between(w, 5 * MS, 60 * MS), client);
}

/* A new incarnation begins where the local WAL ends. */
static void
begin_incarnation(World *w, int i, uint64_t term, uint64_t inc)
{
	Pg *p = &w->h[i].pg;

	if (p->nhist > 0 && inc <= p->hist[p->nhist - 1].incarnation)
		inc = p->hist[p->nhist - 1].incarnation + 1;
	w->link[i].on = false;
	p->primary = p->was_primary = true;
	p->flush = p->applied = p->len;
	p->hist[p->nhist++] =
		(LinkIncarnation){.term = term, .incarnation = (uint32_t) inc, .start = p->len};
	wal_append(p, new_id(w, p->len));
	p->flush = p->applied = p->len;
	p->nwaiting = 0;
	gate_init(&p->gate, term, inc, p->len);
	w->promotions++;
	trace(w, "%c PostgreSQL primary, term %llu inc %llu, WAL %llu", 'A' + i,
		  (unsigned long long) term, (unsigned long long) inc, (unsigned long long) p->len);
	post_pg(w, i, between(w, MS, 20 * MS), gate_tick);
	post_pg(w, i, between(w, MS, 20 * MS), client);
}

/*
 * PostgreSQL becomes primary, in a new incarnation.  False if the lease of this very term is not
 * valid now (gate_may_start); it then stays a standby.
 */
bool
pg_become_primary(World *w, int i, uint64_t term, uint64_t inc)
{
	Host *h = &w->h[i];
	Pg *p = &h->pg;

	if (!p->up || p->primary || h->fsm.d.rebuilding || p->nhist == MAX_HIST)
		return false;
	if (!gate_may_start(&p->gate.cell, term, local(w, i)) && !MUT(gate_ignores_lease) &&
		!MUT(keep_renewing))
		return false;
	begin_incarnation(w, i, term, inc);
	return true;
}

/*
 * The init system starts PostgreSQL at boot, before tandemd: a data directory without
 * standby.signal comes up as primary of its last term, its gate closed for want of a lease.
 */
void
pg_autostart(World *w, int i)
{
	Pg *p = &w->h[i].pg;

	if (p->up || !p->was_primary || p->nhist == 0 || p->nhist == MAX_HIST ||
		w->h[i].disk.rebuilding)
		return;
	trace(w, "%c PostgreSQL is started by the init system", 'A' + i);
	pg_start(w, i);
	begin_incarnation(w, i, p->hist[p->nhist - 1].term, 0);
}
