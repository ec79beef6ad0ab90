/*
 * postgres_rule.c
 *		What tandemd asks of PostgreSQL and of the extension's gate (SAFETY rules 9 to 13, 16).
 *
 * Nothing is assumed to have been done because it was asked for: reports of PostgreSQL's state
 * drive everything, and what is still missing is asked for again after pg_retry.
 */
#include "fsm_internal.h"

#include <string.h>

/* The cell: term and lease, as they stand. */
void
fsm_pg_lease(Ctx *c)
{
	Fsm *x = c->x;
	FsmAction *a = fsm_act(c, FSM_A_CELL_LEASE);

	a->term = x->term;
	a->at = x->lease_until;
	if (x->vip)
		fsm_act(c, FSM_A_VIP_HOLD)->at = x->lease_until;
}

static bool
may_ask(const Ctx *c)
{
	return c->now - c->x->pg_asked >= c->cfg->pg_retry;
}

/*
 * Start and/or promote PostgreSQL in this term, as a new incarnation.  It is started once the
 * incarnation is durable.
 */
void
fsm_pg_run_primary(Ctx *c)
{
	Fsm *x = c->x;
	FsmAction a;

	fsm_dirty(c);
	x->d.inc++;
	x->pg_asked = c->now;
	fsm_pg_lease(c);
	memset(&a, 0, sizeof(a));
	a.type = FSM_A_PG_RUN_PRIMARY;
	a.term = x->term;
	a.inc = x->d.inc;
	fsm_act_durable(c, &a);
}

static void
run_standby(Ctx *c)
{
	Fsm *x = c->x;

	x->pg_asked = c->now;
	x->pg_follows = x->primary;
	fsm_act(c, FSM_A_PG_RUN_STANDBY)->node = x->primary;
}

/* Local recovery (rule 12): restart here, and hand over only when that has not helped. */
static void
restart(Ctx *c)
{
	Fsm *x = c->x;

	if (x->attempts == 0 || c->now - x->attempts_since > c->cfg->restart_window)
	{
		x->attempts = 0;
		x->attempts_since = c->now;
	}
	x->attempts++;
	if (x->attempts > c->cfg->restart_attempts)
	{
		if (x->cur.peer >= 0 && !x->paused && !c->cfg->dr)
		{
			fsm_alarm(c, "PostgreSQL does not stay up here: handing over");
			holder_hand_over(c, false);
			return;
		}
		if (x->attempts == c->cfg->restart_attempts + 1)
			fsm_alarm(c,
					  "PostgreSQL does not stay up and there is no standby in sync: still trying");
	}
	fsm_pg_run_primary(c);
}

/* ---------- the gate ---------- */

/* Commands go out in the order of their numbers, all through the same queue. */
static void
command(Ctx *c, GateCommand *g)
{
	Fsm *x = c->x;
	FsmAction a;

	g->instance = x->instance;
	g->cmd = ++x->cmd;
	g->term = x->term;
	x->cmd_at = c->now;
	memset(&a, 0, sizeof(a));
	a.type = FSM_A_GATE;
	a.u.gate = *g;
	fsm_act_durable(c, &a);
}

/* Commits shall wait for this copy (rule 8 b; and after every start). */
void
fsm_pg_gate_require(Ctx *c, int peer, uint64_t copy)
{
	GateCommand g = {.order = GATE_REQUIRE, .peer = peer, .peer_copy = copy};

	command(c, &g);
}

static bool
outstanding(const Ctx *c)
{
	const Fsm *x = c->x;

	if (x->pg.instance == x->instance && x->pg.cmd >= x->cmd)
		return false;
	return x->cmd_at != 0 && c->now - x->cmd_at < c->cfg->pg_retry / 2;
}

/*
 * Bring the gate to where the state says it shall be.  Stalled states (leaving, settle without a
 * peer) say nothing: the gate stays as it is.
 */
void
fsm_pg_gate(Ctx *c)
{
	Fsm *x = c->x;
	const FsmPg *pg = &x->pg;

	if (pg->state != FSM_PG_PRIMARY || !IN_STATE(x, FSM_RUNNING))
		return;
	if (pg->term != x->term)
	{
		GateCommand g = {.order = GATE_TERM, .peer = FSM_NOBODY};

		if (outstanding(c))
			return;
		fsm_dirty(c);
		g.inc = ++x->d.inc;
		command(c, &g);
		return;
	}
	if (x->state == FSM_ALONE && pg->require)
	{
		GateCommand g = {.order = GATE_ALONE, .peer = FSM_NOBODY};

		if (!outstanding(c))
			command(c, &g);
	}
	else if (IN_STATE(x, FSM_BIT(FSM_IN_SYNC) | FSM_BIT(FSM_SETTLE)) && x->cur.peer >= 0 &&
			 (!pg->require || pg->peer != x->cur.peer || pg->peer_copy != x->cur.peer_copy))
	{
		if (!outstanding(c))
			fsm_pg_gate_require(c, x->cur.peer, x->cur.peer_copy);
	}
}

/* ---------- reports ---------- */

static void
primary_reported(Ctx *c)
{
	Fsm *x = c->x;

	if (IN_STATE(x, FSM_BIT(FSM_PROMOTE) | FSM_BIT(FSM_RESTART)))
	{
		fsm_move(c, FSM_E_PG_PRIMARY);
		x->peer_gone_since = 0;
		x->peer_answered = 0;
		x->cmd_at = 0;
		holder_settle(c);
	}
	if (IN_STATE(x, FSM_RUNNING))
	{
		if (x->pg.cell_term != x->term || x->pg.cell_deadline != x->lease_until)
			fsm_pg_lease(c);
		if (x->pg.open && !x->vip)
		{
			x->vip = true;
			fsm_act(c, FSM_A_VIP_HOLD)->at = x->lease_until;
		}
		holder_supervise(c);
		fsm_pg_gate(c);
		return;
	}
	if (IN_STATE(x, FSM_BIT(FSM_STOPPING) | FSM_BIT(FSM_HANDOVER) | FSM_BIT(FSM_WITNESS)))
		return;
	if (x->state == FSM_STANDBY && holder_resume(c))
		return;
	{
		FsmAction *a = fsm_act(c, FSM_A_CELL_LEASE); /* rule 11: shut the gate of a stray primary */

		a->term = x->pg.cell_term;
		a->at = x->pg.cell_deadline != 0 && x->pg.cell_deadline < c->now ? x->pg.cell_deadline
																		 : c->now;
	}
	fsm_act(c, FSM_A_VIP_REMOVE);
	x->vip = false;
	fsm_move(c, FSM_E_STRAY_PRIMARY);
	fsm_act(c, FSM_A_PG_KILL);
	x->stop_at = c->now + c->cfg->timing.stop / 2;
}

static void
down_reported(Ctx *c)
{
	Fsm *x = c->x;

	if (IN_STATE(x, FSM_RUNNING))
	{
		fsm_move(c, FSM_E_PG_DEAD);
		if (x->pg.state == FSM_PG_BROKEN)
			x->attempts = c->cfg->restart_attempts;
		x->attempts_since = x->attempts == 0 ? c->now : x->attempts_since;
		if (!x->paused)
			restart(c);
	}
	else if (IN_STATE(x, FSM_BIT(FSM_STOPPING) | FSM_BIT(FSM_HANDOVER)))
		holder_stopped(c);
}

/* A report: state is what was seen just now, under pidfd and the probe (FSM_I_PG). */
void
fsm_pg_status(Ctx *c, const FsmPg *pg)
{
	Fsm *x = c->x;

	x->pg = *pg;
	x->pg_seen = c->now;
	if (pg->inc > x->d.inc)
	{
		fsm_dirty(c);
		x->d.inc = pg->inc;
	}
	/* tandemd may have found it hung, without a report of what it is; when it is down it is started */
	if (pg->hung && x->state == FSM_STANDBY && !x->paused)
		fsm_act(c, FSM_A_PG_KILL);
	switch (pg->state)
	{
		case FSM_PG_UNKNOWN:
			break;
		case FSM_PG_PRIMARY:
			primary_reported(c);
			break;
		case FSM_PG_STANDBY:
			if (IN_STATE(x, FSM_RUNNING))
				fsm_move(c, FSM_E_PG_NOT_PRIMARY);
			else if (x->state == FSM_STOPPING)
				holder_stopped(c);
			break;
		case FSM_PG_DOWN:
		case FSM_PG_BROKEN:
			down_reported(c);
			break;
	}
}

/*
 * What is still missing is asked for again.  A hung primary (its probe unanswered for too long)
 * is killed; its death then starts the local restart.
 */
void
fsm_pg_tick(Ctx *c)
{
	Fsm *x = c->x;

	if (IN_STATE(x, FSM_RUNNING) && !x->paused && c->now - x->pg_seen > c->cfg->probe_timeout)
	{
		x->pg_seen = c->now;
		fsm_act(c, FSM_A_PG_KILL);
		return;
	}
	if (x->pg.state == FSM_PG_UNKNOWN)
		return;
	if (IN_STATE(x, FSM_BIT(FSM_STANDBY) | FSM_SEEKING) && x->pg.state == FSM_PG_STANDBY &&
		x->primary >= 0 && x->primary != x->pg_follows && !x->paused)
		run_standby(c); /* at once: a new primary waits for it */
	if (!may_ask(c))
		return;
	switch (x->state)
	{
		case FSM_STANDBY:
		case FSM_PREVOTE:
		case FSM_CANDIDATE:
			if (x->pg.state == FSM_PG_DOWN && !x->paused)
				run_standby(c);
			break;
		case FSM_PROMOTE:
		case FSM_RESTART:
			if (x->pg.state == FSM_PG_STANDBY && !MUT(no_promote_retry))
				fsm_pg_run_primary(c);
			else if (x->pg.state != FSM_PG_PRIMARY && x->pg.state != FSM_PG_STANDBY && !x->paused)
				restart(c);
			break;
		case FSM_REBUILD:
			if (x->primary >= 0 && !x->paused)
			{
				FsmAction a;

				x->pg_asked = c->now;
				memset(&a, 0, sizeof(a));
				a.type = FSM_A_REBUILD;
				a.node = x->primary;
				fsm_act_durable(c, &a);
			}
			break;
		default:
			break;
	}
}

/* Rule 16: what is about to be rewound is a new copy, durably, before anything is touched. */
void
fsm_pg_diverged(Ctx *c, uint64_t fresh)
{
	Fsm *x = c->x;

	if (!IN_STATE(x, FSM_BIT(FSM_STANDBY) | FSM_SEEKING))
		return;
	if (!MUT(rewind_keeps_copy))
	{
		fsm_dirty(c);
		x->d.copy_id = fresh;
		x->d.rebuilding = true;
	}
	fsm_move(c, FSM_E_DIVERGED);
	x->pg_asked = c->now - c->cfg->pg_retry;
}

/* The rewind or seed ended; a failed one is asked for again. */
void
fsm_pg_rebuilt(Ctx *c, bool ok)
{
	Fsm *x = c->x;

	if (x->state != FSM_REBUILD || !ok)
		return;
	if (x->d.rebuilding)
	{
		fsm_dirty(c);
		x->d.rebuilding = false;
	}
	fsm_move(c, FSM_E_REBUILT);
	x->pg_asked = c->now - c->cfg->pg_retry;
}
