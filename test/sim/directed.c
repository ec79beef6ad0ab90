/*
 * directed.c
 *		Scenes: the schedules that chance plays too rarely, with random timing within each.
 *
 * Every scene starts with a primary P in sync with a standby Q and a witness, plays its faults,
 * and is healed like any other schedule.  With the real rules every scene passes; each was
 * written for a mutation that it must notice (doc/simulator.md).
 */
#include "sim.h"

#include <string.h>

typedef bool (*Condition)(World *w, int i);

/*
 * Run until the condition holds for node i; false if it did not within max (or a rule was
 * violated).
 */
static bool
wait_for(World *w, Condition cond, int i, Time max)
{
	Time end = w->now + max;

	while (!w->failed && w->now < end)
	{
		if (cond(w, i))
			return true;
		run_until(w, w->now + 200);
	}
	return false;
}

static void
run_for(World *w, Time lo, Time hi)
{
	run_until(w, w->now + between(w, lo, hi));
}

static bool
serves_in_sync(World *w, int i)
{
	(void) i;
	return in_sync(w);
}

static bool
is_open(World *w, int i)
{
	return pg_primary_here(w, i) && w->h[i].pg.gate.open;
}

static bool
is_alone(World *w, int i)
{
	return is_open(w, i) && w->h[i].fsm.state == FSM_ALONE && !w->h[i].pg.gate.require;
}

static bool
in_join_name(World *w, int i)
{
	return w->h[i].fsm.state == FSM_JOIN_NAME;
}

static bool
is_leaving(World *w, int i)
{
	return w->h[i].fsm.state == FSM_LEAVING;
}

static bool
claimed(World *w, int i)
{
	return w->h[i].fsm.state == FSM_PROMOTE;
}

static bool
has_handed_over(World *w, int i)
{
	return w->h[i].fsm.state == FSM_STANDBY;
}

static bool
has_written(World *w, int i)
{
	return w->h[i].fsm.durable == w->h[i].fsm.image;
}

static bool
is_stopping(World *w, int i)
{
	return w->h[i].fsm.state == FSM_STOPPING;
}

static bool
has_answered(World *w, int i)
{
	return w->link[i].on && w->link[i].answered;
}

static bool
linked(World *w, int i)
{
	return w->link[i].on;
}

static bool
has_unflushed(World *w, int i)
{
	return w->h[i].pg.len >= w->h[i].pg.flush + 6;
}

/* A quiet network, a primary in sync: *p and *q.  False if that did not come about. */
static bool
ready(World *w, int *p, int *q)
{
	w->loss = w->slow = 0;
	if (!wait_for(w, serves_in_sync, 0, 20 * SEC))
	{
		fail(w, "L0 no primary in sync at the start of a scene");
		return false;
	}
	run_for(w, 500 * MS, SEC);
	*p = primary_of(w);
	*q = *p >= 0 ? w->h[*p].fsm.cur.peer : -1;
	return *p >= 0 && *q >= 0 && in_sync(w);
}

/* ---------- leases ---------- */

/* The watchdogs' datagrams between two nodes are lost; the link goes on. */
static void
filter(World *w, int p, int q)
{
	trace(w, "datagrams between %c and %c are filtered", 'A' + p, 'A' + q);
	w->late[p][q] = w->late[q][p] = 60 * SEC;
}

static void
filter_ends(World *w, int p, int q)
{
	w->late[p][q] = w->late[q][p] = 0;
}

/* Rule 17: the witness restarts while a standby that does not hear the primary asks for votes. */
static void
voter_restarts(World *w, int p, int q)
{
	filter(w, p, q);
	run_for(w, 800 * MS, SEC);
	for (int k = 0; k < 3 && !w->failed; k++)
	{
		td_kill(w, WITNESS);
		run_for(w, 50 * MS, 300 * MS);
		if (!w->failed)
			td_start(w, WITNESS, false);
		run_for(w, 300 * MS, 700 * MS);
	}
	run_for(w, 2 * SEC, 3 * SEC);
	filter_ends(w, p, q);
}

/* Rule 5: the answers to the primary's last rounds come late, and then it is isolated. */
static void
late_answers(World *w, int p, int q)
{
	Time d = between(w, 600 * MS, 950 * MS);

	w->late[q][p] = w->late[WITNESS][p] = d;
	run_for(w, 300 * MS, 400 * MS);
	isolate(w, p);
	run_for(w, 3 * SEC, 4 * SEC);
	w->late[q][p] = w->late[WITNESS][p] = 0;
}

/* ---------- the record ---------- */

/* Rule 3: the new primary is lost for good between its claim and its opening. */
static void
claim_then_loss(World *w, int p, int q)
{
	host_crash(w, p);
	if (!wait_for(w, claimed, q, 6 * SEC))
		return;
	host_crash(w, q);
	w->h[q].dead = true;
	run_for(w, 100 * MS, SEC);
	host_boot(w, p, false);
	run_until(w, w->now + 6 * SEC + 3 * opt.timing.lease);
	if (!w->failed && w->now - w->last_ack > SEC)
		fail(w, "L1 no service although a promotion failed before it opened");
	w->h[q].dead = false;
}

/* Rule 8: a naming that is chosen but whose answers are lost. */
static void
unanswered_naming(World *w, int p, int q)
{
	pg_stop(w, q);
	if (!wait_for(w, is_alone, p, 6 * SEC))
		return;
	pg_continue(w, q);
	if (!wait_for(w, in_join_name, p, 6 * SEC))
		return;
	cut(w, q, p, false);
	cut(w, WITNESS, p, false);
	pg_kill(w, q);
	run_for(w, 2 * SEC, 3 * SEC);
	isolate(w, p);
	run_for(w, 3 * SEC, 4 * SEC);
}

/* Rule 13: tandemd restarts after it wrote a record without the standby that nobody else has. */
static void
restart_while_leaving(World *w, int p, int q)
{
	pg_kill(w, q);
	pg_stop(w, q);
	run_for(w, 350 * MS, 500 * MS);
	isolate(w, p);
	if (!wait_for(w, is_leaving, p, 2 * SEC))
		return;
	run_for(w, 3 * MS, 30 * MS);
	td_kill(w, p);
	run_for(w, MS, 20 * MS);
	td_start(w, p, false);
	run_for(w, 3 * SEC, 4 * SEC);
}

/* State: the witness goes down between answering and writing. */
static void
witness_forgets(World *w, int p, int q)
{
	w->h[WITNESS].slow_files = true;
	cut(w, p, q, true);
	if (!wait_for(w, is_alone, p, 6 * SEC))
		return;
	run_for(w, 50 * MS, 200 * MS);
	host_crash(w, WITNESS);
	w->h[WITNESS].slow_files = false;
	isolate(w, p);
	run_for(w, 100 * MS, 300 * MS);
	host_boot(w, WITNESS, false);
	run_for(w, 4 * SEC, 5 * SEC);
}

/* ---------- hand-over ---------- */

/* Rule 14: tandemd dies in the middle of a hand-over. */
static void
killed_in_hand_over(World *w, int p, int q)
{
	(void) q;
	td_operator(w, p, FSM_OP_SWITCHOVER, 0);
	run_for(w, 0, 40 * MS);
	td_kill(w, p);
	run_for(w, 2 * SEC, 3 * SEC);
}

static FsmMsg
release_of(World *w, int from, int to, uint64_t term)
{
	FsmMsg m;

	memset(&m, 0, sizeof(m));
	m.type = FSM_M_RELEASE;
	m.from = (int8_t) from;
	m.to = (int8_t) to;
	m.fenced = FSM_NOBODY;
	m.term = term;
	m.boot = w->h[from].fsm.boot;
	return m;
}

/* Late copies of a RELEASE of this term reach the witness. */
static void
repeat_release(World *w, int from, uint64_t term)
{
	for (int k = 0; k < 6; k++)
	{
		Event *e = post(w, between(w, 0, 600 * MS), WITNESS, P_TD, -1, td_message);

		e->u.msg = release_of(w, from, WITNESS, term);
	}
}

/*
 * Rules 13 and 14: the RELEASE of a hand-over is late; meanwhile the host reboots and the init
 * system starts PostgreSQL as the primary it was.  tandemd must not resume the term that it gave
 * up.
 */
static void
reboot_after_release(World *w, int p, int q)
{
	uint64_t term = w->h[p].fsm.term;

	filter(w, p, q);
	w->late[p][WITNESS] = 60 * SEC;
	td_operator(w, p, FSM_OP_SWITCHOVER, 0);
	td_stop(w, q);
	if (!wait_for(w, has_handed_over, p, 2 * SEC) || !wait_for(w, has_written, p, 2 * SEC))
		return;
	host_crash(w, p);
	run_for(w, 100 * MS, 200 * MS);
	w->late[p][WITNESS] = 0;
	host_boot(w, p, true);
	run_for(w, 500 * MS, 900 * MS);
	td_continue(w, q);
	run_for(w, 800 * MS, 1200 * MS);
	repeat_release(w, p, term);
	run_for(w, 2 * SEC, 3 * SEC);
	filter_ends(w, p, q);
}

/* Rule 14: a copy of a RELEASE arrives when its sender is primary again, in a later term. */
static void
late_release(World *w, int p, int q)
{
	uint64_t term = w->h[p].fsm.term;

	td_operator(w, p, FSM_OP_SWITCHOVER, 0);
	if (!wait_for(w, is_open, q, 5 * SEC) || !wait_for(w, serves_in_sync, q, 5 * SEC))
		return;
	run_for(w, 300 * MS, 600 * MS);
	td_operator(w, q, FSM_OP_SWITCHOVER, 0);
	if (!wait_for(w, is_open, p, 5 * SEC) || !wait_for(w, serves_in_sync, p, 5 * SEC))
		return;
	filter(w, p, q);
	run_for(w, 900 * MS, 1200 * MS);
	repeat_release(w, p, term);
	run_for(w, 2 * SEC, 3 * SEC);
	filter_ends(w, p, q);
}

/* Rule 11: tandemd dies between shutting the gate and killing PostgreSQL. */
static void
killed_in_step_down(World *w, int p, int q)
{
	(void) q;
	isolate(w, p);
	if (!wait_for(w, is_stopping, p, 4 * SEC))
		return;
	td_kill(w, p);
	run_for(w, 2 * SEC, 3 * SEC);
}

/* ---------- the gate ---------- */

/*
 * Rules 8 and 9: the standby is named while it holds X and not a byte more, and the primary is
 * lost before it gets more. Whatever the gate released after it said X must not have been
 * released without the standby.
 */
static void
named_at_x(World *w, int p, int q)
{
	pg_stop(w, q);
	if (!wait_for(w, is_alone, p, 6 * SEC))
		return;
	run_for(w, 0, SEC);
	pg_continue(w, q);
	if (!wait_for(w, has_answered, q, 6 * SEC))
		return;
	run_for(w, 0, 40 * MS);
	pg_stop(w, q);
	if (!wait_for(w, serves_in_sync, p, SEC))
		return;
	run_for(w, 200 * MS, 400 * MS);
	host_crash(w, p);
	pg_continue(w, q);
	run_for(w, 4 * SEC, 5 * SEC);
}

/* ---------- the link ---------- */

/*
 * Rule 15: an answer from before a session arrives after that session has delivered WAL.  The
 * bound does not move meanwhile (a slow local flush), so nothing that the older answer would
 * discard has been applied.
 */
static void
late_resume(World *w, int p, int q)
{
	Time late = between(w, 500 * MS, 700 * MS);
	Time at = w->now;

	w->hold_flush = true;
	w->link[q].on = false;
	w->late_hello = late;
	while (!w->failed && w->late_hello != 0 && w->now < at + SEC)
		run_until(w, w->now + 200);
	at = w->now + late;
	if (wait_for(w, linked, q, 400 * MS))
	{
		run_until(w, at - between(w, 10 * MS, 40 * MS));
		cut(w, p, q, false);
		w->hold_flush = false;
		run_until(w, at - MS);
		w->link[q].on = false;
		w->h[p].cut = 0;
		for (int k = 0; k < 12 && !w->failed && !linked(w, q); k++)
			run_until(w, w->now + MS);
	}
	w->hold_flush = false;
	host_crash(w, p);
	run_for(w, 4 * SEC, 5 * SEC);
}

/* Rule 15: a frame of an older connection arrives when a newer one has delivered more. */
static void
late_frame(World *w, int p, int q)
{
	Time late = between(w, 300 * MS, 500 * MS);
	Time at = w->now + SEC;

	w->late_frame = late;
	while (!w->failed && w->late_frame != 0 && w->now < at)
		run_until(w, w->now + 200);
	at = w->now + late;
	w->link[q].on = false;
	if (!wait_for(w, linked, q, 250 * MS))
		return;
	run_until(w, at + between(w, 0, 12 * MS));
	host_crash(w, p);
	run_for(w, 4 * SEC, 5 * SEC);
}

/* Rule 15: the standby's host loses what it had not flushed, then the primary is lost. */
static void
standby_reboots(World *w, int p, int q)
{
	run_for(w, 0, SEC);
	host_crash(w, q);
	run_for(w, 10 * MS, 200 * MS);
	host_boot(w, q, false);
	run_for(w, 0, 150 * MS);
	host_crash(w, p);
	run_for(w, 5 * SEC, 6 * SEC);
}

/* Rule 15: the primary's host loses WAL that the standby has; it comes back as the primary. */
static void
standby_is_ahead(World *w, int p, int q)
{
	uint64_t acks;

	w->slow_flush = 1000;
	if (!wait_for(w, has_unflushed, p, 2 * SEC))
		return;
	run_for(w, 5 * MS, 20 * MS);
	td_stop(w, q);
	host_crash(w, p);
	w->slow_flush = 50;
	run_for(w, 100 * MS, 300 * MS);
	host_boot(w, p, false);
	if (!wait_for(w, is_open, p, 6 * SEC))
		return;
	acks = w->acks;
	for (int k = 0; k < 200 && !w->failed && w->acks < acks + 1; k++)
		run_until(w, w->now + MS / 2);
	pg_stop(w, q);
	run_for(w, 0, 100 * MS);
	host_crash(w, p);
	td_continue(w, q);
	pg_continue(w, q);
	run_for(w, 4 * SEC, 5 * SEC);
}

/*
 * Rule 15: the standby learns of an incarnation that begins beyond its own end, and becomes
 * primary before it gets there. A third node that knows neither incarnation must compare with
 * both.
 */
static void
short_history(World *w, int p, int q)
{
	if (!wait_for(w, linked, THIRD, 3 * SEC) || w->link[THIRD].primary != p)
		return;
	w->slow_flush = 0;
	pg_stop(w, q);
	run_for(w, 300 * MS, 450 * MS);
	pg_stop(w, THIRD);
	td_stop(w, THIRD);
	run_for(w, 20 * MS, 60 * MS);
	pg_kill(w, p);
	pg_continue(w, q);
	w->link[q].on = false;
	run_for(w, MS, 5 * MS);
	if (!wait_for(w, linked, q, 2 * SEC))
		return;
	host_crash(w, p);
	if (!wait_for(w, is_open, q, 6 * SEC))
		return;
	td_continue(w, THIRD);
	pg_continue(w, THIRD);
	run_for(w, 3 * SEC, 4 * SEC);
}

/* ---------- fence and operator ---------- */

/*
 * Rule 18: a power-off of an earlier boot is confirmed when the node is primary again in a new
 * boot.
 */
static void
fence_of_old_boot(World *w, int p, int q)
{
	FsmInput in;
	Fsm *x = &w->h[q].fsm;
	uint64_t seq;

	cut(w, p, q, true);
	host_crash(w, p);
	for (int k = 0; k < 30000 && !w->failed && !x->fencing; k++)
		run_until(w, w->now + MS / 5);
	if (!x->fencing)
		return;
	seq = x->fence_seq;
	td_stop(w, q);
	host_boot(w, p, false);
	for (int k = 0; k < 8000 && !w->failed && w->h[p].fsm.state != FSM_SETTLE; k++)
		run_until(w, w->now + MS);
	memset(&in, 0, sizeof(in));
	in.type = FSM_I_FENCE;
	in.node = p;
	in.seq = seq;
	in.ok = true;
	td_continue(w, q);
	td_input(w, q, &in);
	run_for(w, 2 * SEC, 3 * SEC);
}

/*
 * Rule 19: the primary's host is powered off, and the standby, which nobody hears, takes over.  Then
 * that host boots and goes on in its old term.  The third node holds its record, but does not vote:
 * that is no reason to power the new primary off.
 */
static void
old_primary_boots(World *w, int p, int q)
{
	isolate(w, q);
	host_crash(w, p);
	if (!wait_for(w, claimed, q, 8 * SEC))
		return;
	run_for(w, 0, 300 * MS);
	host_boot(w, p, true);
	run_for(w, 3 * SEC, 4 * SEC);
	join_net(w, q);
}

/* Rule 21 b: both others are really off; the operator says so.  Later they come back. */
static void
override(World *w, int p, int q)
{
	isolate(w, p);
	if (!wait_for(w, is_open, q, 8 * SEC))
		return;
	run_for(w, 200 * MS, 2 * SEC);
	host_crash(w, q);
	host_crash(w, WITNESS);
	run_for(w, 100 * MS, SEC);
	td_operator(w, p, FSM_OP_FORCE, 1u << q | 1u << WITNESS);
	if (!wait_for(w, is_open, p, 8 * SEC))
	{
		fail(w, "L1 no service after an operator's override");
		return;
	}
	run_for(w, SEC, 2 * SEC);
	join_net(w, p);
	host_boot(w, q, false);
	host_boot(w, WITNESS, false);
	run_for(w, 3 * SEC, 4 * SEC);
}

/*
 * Rule 21 a: the primary is lost for good, and its standby is in no record; the operator takes
 * the loss.
 */
static void
override_eligibility(World *w, int p, int q)
{
	pg_stop(w, q);
	if (!wait_for(w, is_alone, p, 6 * SEC))
		return;
	host_crash(w, p);
	w->h[p].dead = true;
	pg_continue(w, q);
	run_for(w, 3 * SEC, 4 * SEC);
	if (is_open(w, q))
	{
		fail(w, "I1 a standby that no record names opened by itself");
		return;
	}
	td_operator(w, q, FSM_OP_PROMOTE, 0);
	if (!wait_for(w, is_open, q, 8 * SEC))
		fail(w, "L1 no service after an operator's override of eligibility");
	w->h[p].dead = false;
}

/* ---------- the table ---------- */

static bool
any(void)
{
	return true;
}

static bool
three(void)
{
	return !opt.two && !opt.dr;
}

static bool
three_nofence(void)
{
	return three() && !opt.fence;
}

static bool
three_data(void)
{
	return opt.third && !opt.dr;
}

static bool
three_fence(void)
{
	return !opt.two && opt.fence && !opt.third && !opt.dr;
}

static bool
two_of_three_data(void)
{
	return opt.two && opt.third && opt.fence;
}

static const struct
{
	const char *name;
	bool (*fits)(void);
	void (*play)(World *w, int p, int q);
} scenes[] = {
	{"voter-restarts", three, voter_restarts},
	{"late-answers", three, late_answers},
	{"claim-then-loss", three_nofence, claim_then_loss},
	{"unanswered-naming", three, unanswered_naming},
	{"restart-while-leaving", three, restart_while_leaving},
	{"witness-forgets", three, witness_forgets},
	{"killed-in-hand-over", any, killed_in_hand_over},
	{"reboot-after-release", three, reboot_after_release},
	{"late-release", three, late_release},
	{"named-at-x", three, named_at_x},
	{"late-resume", any, late_resume},
	{"late-frame", any, late_frame},
	{"standby-reboots", three, standby_reboots},
	{"killed-in-step-down", three, killed_in_step_down},
	{"standby-is-ahead", three, standby_is_ahead},
	{"short-history", three_data, short_history},
	{"fence-of-old-boot", three_fence, fence_of_old_boot},
	{"old-primary-boots", two_of_three_data, old_primary_boots},
	{"override", three_nofence, override},
	{"override-eligibility", three, override_eligibility},
};

int
directed_count(void)
{
	return (int) (sizeof(scenes) / sizeof(scenes[0]));
}

const char *
directed_name(int k)
{
	return scenes[k].name;
}

/* Does the scene make sense with these modes?  (clocks out of bounds: only random schedules) */
bool
directed_fits(int k)
{
	return !opt.wild && !opt.freezeclock && !opt.dr && scenes[k].fits();
}

void
directed_run(World *w, int k)
{
	int p, q;

	trace(w, "---- scene %s", scenes[k].name);
	if (ready(w, &p, &q) && !w->failed)
		scenes[k].play(w, p, q);
	if (!w->failed)
		settle(w, (opt.two || opt.fence ? 25 : 12) * SEC + 3 * opt.timing.lease);
}
