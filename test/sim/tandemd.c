/*
 * tandemd.c
 *		The simulator's tandemd: the real decision core, and around it what a tandemd does for
 *		it.
 *
 * Inputs come from the network, from timers, from writing the voter's file, from PostgreSQL (a
 * poll of the extension's shared memory, and the pidfd for its death) and from the fence agent.
 * Actions are carried out with the delays of real ones, so that anything can happen in between.
 */
#include "sim.h"

#include <string.h>

static FsmActions actions; /* of the step being carried out; steps never nest */

/* ---------- carrying out actions ---------- */

static void
written(World *w, int i, Event *e)
{
	Host *h = &w->h[i];
	FsmInput in;

	memset(&in, 0, sizeof(in));
	in.type = FSM_I_PERSISTED;
	in.seq = (uint64_t) e->a;
	in.ok = !h->disk_full;
	h->in_flight = false;
	if (in.ok && !MUT(no_fsync_voter))
		h->disk = h->writing;
	h->disk.copy_id = h->writing.copy_id; /* in the data directory */
	h->disk.rebuilding = h->writing.rebuilding;
	td_input(w, i, &in);
}

static void
do_persist(World *w, int i, const FsmAction *a)
{
	Host *h = &w->h[i];
	Time delay = between(w, 200, 2 * MS);

	if (h->slow_files || (w->slow > 0 && chance(w, 20)))
		delay = between(w, 0, SEC);
	h->writing = a->u.image;
	h->in_flight = true;
	post_td(w, i, delay, written)->a = (int64_t) a->seq;
}

static void
timer(World *w, int i, Event *e)
{
	FsmInput in;

	if (e->a != w->h[i].timer_gen)
		return;
	memset(&in, 0, sizeof(in));
	in.type = FSM_I_TIMER;
	td_input(w, i, &in);
}

static void
do_timer(World *w, int i, FsmTime at)
{
	Time when = true_time(w, i, at) + between(w, 0, MS);

	post_td(w, i, when - w->now, timer)->a = ++w->h[i].timer_gen;
}

static void
gate_command_arrives(World *w, int i, Event *e)
{
	pg_gate_command(w, i, e);
}

/* Gate commands arrive in order at the postmaster that ran when they were given. */
static void
do_gate(World *w, int i, const FsmAction *a)
{
	Pg *p = &w->h[i].pg;
	Time at = w->now + (chance(w, w->slow) ? between(w, 0, 500 * MS) : between(w, 100, 8 * MS));

	if (!p->up)
		return;
	if (at <= p->gate_last)
		at = p->gate_last + 1;
	p->gate_last = at;
	post_pg(w, i, at - w->now, gate_command_arrives)->u.gate = a->u.gate;
}

static void
promote(World *w, int i, Event *e)
{
	if (w->h[i].pg.primary)
		return;
	pg_become_primary(w, i, (uint64_t) e->a, (uint64_t) e->b);
	td_poll_now(w, i);
}

/* Start; a postmaster that may not be primary comes up as a standby. */
static void
start_primary(World *w, int i, Event *e)
{
	Host *h = &w->h[i];

	if (h->disk.rebuilding)
		return;
	if (h->pg.up)
	{
		if (!h->pg.primary)
		{
			Event *p = post_pg(w, i, between(w, MS, 50 * MS), promote);

			p->a = e->a;
			p->b = e->b;
		}
		return;
	}
	pg_start(w, i);
	if (!pg_become_primary(w, i, (uint64_t) e->a, (uint64_t) e->b))
		pg_standby_loop(w, i);
	td_poll_now(w, i);
}

static void
do_run_primary(World *w, int i, const FsmAction *a)
{
	Pg *p = &w->h[i].pg;
	Time delay = between(w, 30 * MS, 250 * MS);
	Event *e = p->up ? post_pg(w, i, delay, promote) : post_td(w, i, delay, start_primary);

	e->a = (int64_t) a->term;
	e->b = (int64_t) a->inc;
}

static void
start_standby(World *w, int i, Event *e)
{
	Host *h = &w->h[i];

	(void) e;
	if (h->pg.up || h->fsm.d.rebuilding)
		return;
	pg_start(w, i);
	h->pg.was_primary = false;
	pg_standby_loop(w, i);
	td_poll_now(w, i);
}

static void
kill_arrives(World *w, int i, Event *e)
{
	if (w->h[i].pg.up && w->h[i].pg.gen == (int) e->a)
		pg_kill(w, i);
}

static void
do_kill(World *w, int i, bool planned)
{
	Pg *p = &w->h[i].pg;
	Time delay = between(w, MS, opt.timing.stop * 2 / 5);

	if (!p->up)
	{
		td_poll_now(w, i);
		return;
	}
	if (planned)
		delay = between(w, 50 * MS, 200 * MS);
	post_td(w, i, delay, kill_arrives)->a = p->gen;
}

static void
rebuild_done(World *w, int i, Event *e)
{
	Host *h = &w->h[i];
	Host *src = &w->h[e->a];
	FsmInput in;

	memset(&in, 0, sizeof(in));
	in.type = FSM_I_REBUILT;
	in.ok = reachable(w, i, (int) e->a) && reachable(w, (int) e->a, i) && src->pg.up &&
			src->pg.primary && !src->pg.stopped && !src->frozen &&
			src->pg.gate.term >= h->fsm.d.prom;
	if (MUT(rewind_keeps_copy))
		in.ok = true;
	else if (in.ok)
		pg_rebuild(w, i, (int) e->a);
	td_input(w, i, &in);
}

/* A rewind stops PostgreSQL first. */
static void
do_rebuild(World *w, int i, int from)
{
	Pg *p = &w->h[i].pg;

	if (p->up)
		pg_kill(w, i);
	if (MUT(rewind_keeps_copy))
	{
		p->len = p->len > 8 ? p->len - 8 : 0; /* half done */
		p->flush = p->len;
		p->applied = 0;
		p->applied_async = 0;
		p->nhist = 0;
	}
	trace(w, "%c rewinds from %c", 'A' + i, 'A' + from);
	post_td(w, i, between(w, 200 * MS, 800 * MS), rebuild_done)->a = from;
}

static void
fence_answer(World *w, int i, Event *e)
{
	FsmInput in;

	memset(&in, 0, sizeof(in));
	in.type = FSM_I_FENCE;
	in.node = (int) e->a;
	in.seq = (uint64_t) e->b;
	in.ok = true;
	trace(w, "%c fence of %c confirmed", 'A' + i, 'A' + in.node);
	td_input(w, i, &in);
}

static void
fenced_boots(World *w, int i, Event *e)
{
	(void) e;
	host_boot(w, i, false);
}

static void
power_off(World *w, int i, Event *e)
{
	int node = (int) e->a;
	Host *h = &w->h[i];
	Event *r;

	if (!w->h[node].dead)
	{
		trace(w, "%c is powered off by a fence of %c", 'A' + node, 'A' + i);
		host_crash(w, node);
		post_sys(w, between(w, SEC, 8 * SEC), node, fenced_boots);
	}
	r = post(w, between(w, 10 * MS, 300 * MS) + (chance(w, 150) ? between(w, 0, 4 * SEC) : 0), i,
			 P_TD, h->td_gen, fence_answer);
	r->a = node;
	r->b = e->b;
}

/* The agent carries it out whatever becomes of the one who asked; sometimes late. */
static void
do_fence(World *w, int i, const FsmAction *a)
{
	Time delay = chance(w, 100) ? between(w, 2 * SEC, 6 * SEC) : between(w, 200 * MS, 2 * SEC);
	Event *e = post_sys(w, delay, i, power_off);

	trace(w, "%c asks to fence %c", 'A' + i, 'A' + a->node);
	e->a = a->node;
	e->b = (int64_t) a->seq;
}

static void
do_vip(World *w, int i, FsmTime until)
{
	Host *h = &w->h[i];

	for (int o = 0; o < w->n && !h->vip && !opt.wild && !opt.freezeclock; o++)
	{
		Host *y = &w->h[o];

		if (o != i && y->up && !y->frozen && y->vip && w->now - y->woken_at > opt.timing.stop &&
			(local(w, o) < y->vip_until || MUT(vip_forever)))
			fail(w, "I4 the VIP is on %c and comes up on %c", 'A' + o, 'A' + i);
	}
	h->vip = true;
	h->vip_until = until;
}

/*
 * I7: while one node holds a lease, no other does.  This is what I2 rests on; it is seen earlier
 * and more often.
 */
static void
check_lease(World *w, int i, const FsmAction *a)
{
	if (opt.wild || opt.freezeclock || a->at <= local(w, i))
		return;
	for (int o = 0; o < w->n; o++)
	{
		const GateCell *cell = &w->h[o].pg.gate.cell;

		if (o != i && w->h[o].up && cell->deadline > local(w, o))
			fail(w, "I7 %c has a lease for term %llu while %c's for term %llu is valid", 'A' + i,
				 (unsigned long long) a->term, 'A' + o, (unsigned long long) cell->term);
	}
}

static void
show_edge(World *w, int i, const FsmEdge *e)
{
	const Fsm *x = &w->h[i].fsm;
	int n;

	edges_taken[e - fsm_edges(&n)]++;
	trace(w, "%c %s -> %s  term %llu seq %llu peer %c  (%s)", 'A' + i, fsm_event_name(e->event),
		  fsm_state_name(e->to), (unsigned long long) (x->term), (unsigned long long) x->cur.seq,
		  x->cur.peer >= 0 ? 'A' + x->cur.peer : '-', e->reason);
}

/* The override whose mark this claim inherits has opened already: nothing more may be lost. */
static bool
loss_is_known(World *w, int i)
{
	const Fsm *x = &w->h[i].fsm;

	return fsm_rec_names(&x->best, i, x->d.copy_id) && x->forced == 0 && x->best.lossy &&
		   x->best.term == w->lossy_opened;
}

static void
carry_out(World *w, int i, const FsmAction *a)
{
	Host *h = &w->h[i];

	switch (a->type)
	{
		case FSM_A_PERSIST:
			do_persist(w, i, a);
			break;
		case FSM_A_SEND:
			send_datagram(w, &a->u.msg);
			break;
		case FSM_A_TIMER:
			do_timer(w, i, a->at);
			break;
		case FSM_A_CELL_FLOOR:
			h->pg.gate.cell.floor = a->term;
			break;
		case FSM_A_CELL_LEASE:
			check_lease(w, i, a);
			h->pg.gate.cell.term = a->term;
			h->pg.gate.cell.deadline = a->at;
			break;
		case FSM_A_GATE:
			do_gate(w, i, a);
			break;
		case FSM_A_PG_RUN_PRIMARY:
			if (h->fsm.unguarded)
				fail(w, "I9 %c is to be primary without the watchdog that it requires", 'A' + i);
			do_run_primary(w, i, a);
			break;
		case FSM_A_PG_RUN_STANDBY:
			h->pg.follows = a->node;
			if (!h->pg.up)
				post_td(w, i, between(w, 30 * MS, 250 * MS), start_standby);
			break;
		case FSM_A_PG_KILL:
			do_kill(w, i, false);
			break;
		case FSM_A_PG_STOP:
			do_kill(w, i, true);
			break;
		case FSM_A_REBUILD:
			do_rebuild(w, i, a->node);
			break;
		case FSM_A_VIP_HOLD:
			do_vip(w, i, a->at);
			break;
		case FSM_A_VIP_REMOVE:
			h->vip = false;
			break;
		case FSM_A_FENCE:
			do_fence(w, i, a);
			break;
		case FSM_A_EDGE:
			show_edge(w, i, a->u.edge);
			if (a->u.edge->event == FSM_E_CHOSEN && h->fsm.cur.lossy && !loss_is_known(w, i))
				pg_accept_loss(w, i);
			break;
		case FSM_A_ALARM:
			trace(w, "%c alarm: %s", 'A' + i, a->u.text);
			if (strncmp(a->u.text, "defect", 6) == 0)
				fail(w, "L3 %s: %s", a->u.text, fsm_state_name(h->fsm.state));
			break;
		case FSM_A_REPLY:
			trace(w, "%c answers the operator: %s", 'A' + i, a->u.text);
			break;
	}
}

static void
carry_out_all(World *w, int i)
{
	for (int k = 0; k < actions.n && !w->failed; k++)
		carry_out(w, i, &actions.a[k]);
	if (actions.n >= FSM_MAX_ACTIONS)
		fail(w, "L3 defect: too many actions in one step");
}

/* ---------- inputs ---------- */

void
td_input(World *w, int i, const FsmInput *in)
{
	Host *h = &w->h[i];

	fsm_step(&h->cfg, &h->fsm, in, local(w, i), &actions);
	carry_out_all(w, i);
}

void
td_message(World *w, int i, Event *e)
{
	FsmInput in;

	in.type = FSM_I_MSG;
	in.msg = e->u.msg;
	td_input(w, i, &in);
}

/* What the probe and shared memory say about PostgreSQL; false if it does not answer. */
static bool
look_at_pg(World *w, int i, FsmPg *s)
{
	Host *h = &w->h[i];
	Pg *p = &h->pg;

	memset(s, 0, sizeof(*s));
	s->cell_term = p->gate.cell.term;
	s->cell_deadline = p->gate.cell.deadline;
	s->peer = FSM_NOBODY;
	if (!p->up)
	{
		s->state = FSM_PG_DOWN;
		return true;
	}
	if (p->stopped)
		return false;
	if (!p->primary)
	{
		s->state = FSM_PG_STANDBY;
		return true;
	}
	s->state = FSM_PG_PRIMARY;
	s->term = p->gate.term;
	s->inc = p->gate.inc;
	s->instance = p->gate.instance;
	s->cmd = p->gate.cmd;
	s->require = p->gate.require;
	s->peer = p->gate.peer;
	s->peer_copy = p->gate.peer_copy;
	s->waits_from = p->gate.waits_from;
	s->open = p->gate.open;
	for (int n = 0; n < w->n; n++)
	{
		Session *l = &w->link[n];

		if (!l->on || l->primary != i || l->gen_primary != p->gen || !l->answered)
			continue;
		s->peers[n].session = (uint64_t) l->id;
		s->peers[n].copy = l->copy;
		s->peers[n].flush = l->flush;
		s->peers[n].age = w->now - l->answer_at;
		s->peers[n].near_end = l->flush + 5 >= p->gate.released;
		s->peers[n].async = opt.dr;
	}
	return true;
}

void
td_poll_now(World *w, int i)
{
	post_td(w, i, 50, td_poll_once); /* through the queue: steps never nest */
}

void
td_poll_once(World *w, int i, Event *e)
{
	FsmInput in;

	(void) e;
	in.type = FSM_I_PG;
	if (look_at_pg(w, i, &in.pg))
		td_input(w, i, &in);
}

/* Mutation outdate_path: a road around the record, as one might build it in good faith. */
static void
outdate(World *w, int i)
{
	Host *h = &w->h[i];
	Pg *p = &h->pg;
	int o = h->fsm.cur.peer;
	Session *l;

	if (!p->up || !p->primary || p->stopped || o < 0 || h->fsm.state != FSM_IN_SYNC)
		return;
	l = &w->link[o];
	if (l->on && l->primary == i && w->now - l->answer_at < 300 * MS)
	{
		if (w->h[o].outdated && l->flush >= p->gate.released)
		{
			w->h[o].outdated = false; /* "caught up"; the gate hears of it later */
			trace(w, "%c is no longer outdated", 'A' + o);
		}
		else if (!w->h[o].outdated && !p->gate.require && chance(w, 300))
			p->gate.require = true;
		return;
	}
	if (p->gate.require && reachable(w, i, o) && reachable(w, o, i) && w->h[o].td &&
		!w->h[o].td_stopped && !w->h[o].frozen && w->h[o].fsm.state == FSM_STANDBY)
	{
		w->h[o].outdated = true;
		p->gate.require = false;
		trace(w, "%c marks itself outdated, %c goes alone", 'A' + o, 'A' + i);
	}
}

static void
poll_loop(World *w, int i, Event *e)
{
	td_poll_once(w, i, e);
	if (MUT(outdate_path))
		outdate(w, i);
	post_td(w, i, between(w, 40 * MS, 100 * MS), poll_loop);
}

/*
 * The kernel's watchdog, where it is required.  tandemd may find out late that it is gone, or has
 * come back.
 */
static void
device_is(World *w, int i, Event *e)
{
	FsmInput in;

	(void) e;
	memset(&in, 0, sizeof(in));
	in.type = FSM_I_DEVICE;
	in.ok = !w->h[i].no_device;
	if (in.ok != !w->h[i].fsm.unguarded)
		td_input(w, i, &in);
}

void
td_device(World *w, int i, bool there)
{
	Host *h = &w->h[i];

	if (h->no_device == !there)
		return;
	trace(w, "%c %s its watchdog device", 'A' + i, there ? "has" : "has lost");
	h->no_device = !there;
	if (h->up && h->td)
		post_td(w, i, between(w, MS, SEC), device_is);
}

/* ---------- the process ---------- */

/*
 * tandemd starts: it has what is on disk, and nothing else.  On the very first start voters have
 * been up for long, so nobody waits for G.
 */
void
td_start(World *w, int i, bool first)
{
	Host *h = &w->h[i];
	FsmDurable d = h->disk;

	h->td = true;
	h->td_stopped = false;
	h->td_gen++;
	h->vip = h->vip && local(w, i) < h->vip_until;
	forget(w, &h->deferred);
	if (h->state_lost)
	{
		uint64_t copy = d.copy_id;
		bool rebuilding = d.rebuilding;

		memset(&d, 0, sizeof(d));
		d.prom_to = FSM_NOBODY;
		d.rec.primary = d.rec.peer = FSM_NOBODY;
		d.copy_id = copy;
		d.rebuilding = rebuilding;
		h->disk = d;
		h->state_lost = false;
	}
	fsm_init(&h->cfg, &h->fsm, &d, (uint64_t) (i + 1) * 1000 + (uint64_t) h->boot,
			 (uint64_t) local(w, i) + 1, (uint32_t) rnd(w), local(w, i), &actions);
	if (first)
	{
		h->fsm.hold_until = 0;
		h->fsm.contact = true;
	}
	carry_out_all(w, i);
	if (h->data)
		post_td(w, i, between(w, MS, 50 * MS), poll_loop);
	if (h->no_device)
		post_td(w, i, between(w, MS, SEC), device_is);
}

void
td_kill(World *w, int i)
{
	Host *h = &w->h[i];

	if (!h->up || !h->td)
		return;
	trace(w, "tandemd %c is killed", 'A' + i);
	h->td = false;
	h->td_gen++;
	h->td_stopped = false;
	forget(w, &h->deferred);
	if (h->in_flight && chance(w, 500) && !MUT(no_fsync_voter))
		h->disk = h->writing;
	h->in_flight = false;
}

void
td_stop(World *w, int i)
{
	if (!w->h[i].up || !w->h[i].td)
		return;
	trace(w, "SIGSTOP tandemd %c", 'A' + i);
	w->h[i].td_stopped = true;
}

void
td_continue(World *w, int i)
{
	Host *h = &w->h[i];

	if (!h->td_stopped)
		return;
	trace(w, "SIGCONT tandemd %c", 'A' + i);
	h->td_stopped = false;
	h->woken_at = w->now;
	if (!h->frozen)
		release_deferred(w, &h->deferred);
}

void
td_operator(World *w, int i, FsmOperator op, uint32_t mask)
{
	FsmInput in;
	Host *h = &w->h[i];

	if (!h->up || !h->td || h->td_stopped || h->frozen)
		return;
	memset(&in, 0, sizeof(in));
	in.type = FSM_I_OPERATOR;
	in.op = op;
	in.mask = mask;
	in.ok = true;
	in.node = FSM_NOBODY;
	if (op == FSM_OP_SWITCHOVER && (opt.dr || chance(w, 100)))
		in.node = (int) (rnd(w) %
						 (uint64_t) w->n); /* a witness, itself or a node that is down is refused */
	trace(w, "operator: command %d to %c", (int) op, 'A' + i);
	td_input(w, i, &in);
}

/* The link of standby i was refused: its copy must be rewound, as a new one. */
static void
diverged(World *w, int i, Event *e)
{
	FsmInput in;

	(void) e;
	memset(&in, 0, sizeof(in));
	in.type = FSM_I_DIVERGED;
	in.fresh = ++w->next_copy;
	td_input(w, i, &in);
}

void
td_diverged(World *w, int i)
{
	if (w->h[i].td)
		post_td(w, i, between(w, MS, 5 * MS), diverged);
}

/* The pidfd. */
void
td_pg_died(World *w, int i)
{
	if (w->h[i].td)
		post_td(w, i, between(w, 500, 5 * MS), td_poll_once);
}
