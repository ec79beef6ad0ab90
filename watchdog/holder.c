/*
 * holder.c
 *		The holder of a term: claim, lease, record, re-term, stepping down (SAFETY rules 3 to
 *		8, 11 to 14).
 *
 * A STORE to every node, every H, is at once the write of the record, the renewal of the lease
 * and the sign of life.  A round of it with a majority of answers makes the record chosen and
 * extends the lease, counted from when the round was sent.
 *
 * The record only ever changes in one direction at a time: a new one gets seq + 1 and its own
 * state (leaving, joining), and the gate is told after it is chosen (leaving) or has answered
 * before it is written (joining).
 */
#include "fsm_internal.h"

#include <string.h>

#define SWITCHOVER_PATIENCE INT64_C(60000000) /* us: until the node it shall go to is in sync */

static void
set_record(Ctx *c, int peer, uint64_t copy)
{
	Fsm *x = c->x;

	x->cur.seq++;
	x->cur.lossy = false;
	x->cur.peer = (int8_t) peer;
	x->cur.peer_copy = copy;
}

static FsmRound *
find_round(Fsm *x, FsmTime sent, uint64_t seq)
{
	for (int i = 0; i < x->nrounds; i++)
		if (x->rounds[i].sent == sent && x->rounds[i].seq == seq)
			return &x->rounds[i];
	return NULL;
}

/* Rule 4: send the record as it stands to all, to the own voter first. */
void
holder_store(Ctx *c)
{
	Fsm *x = c->x;
	FsmMsg m;

	memset(&m, 0, sizeof(m));
	m.type = FSM_M_STORE;
	m.term = x->term;
	m.rec = x->cur;
	m.sent = c->now;
	m.fenced = FSM_NOBODY;
	x->last_store = c->now;
	if (find_round(x, c->now, x->cur.seq) == NULL)
	{
		if (x->nrounds == FSM_MAX_ROUNDS)
		{
			x->nrounds--;
			memmove(x->rounds, x->rounds + 1, sizeof(x->rounds[0]) * (size_t) x->nrounds);
		}
		x->rounds[x->nrounds++] = (FsmRound){.sent = c->now, .seq = x->cur.seq};
	}
	/*
	 * The own voter accepts in this very call, so that what it accepted is part of the image that
	 * must be durable before the others get to see the record.
	 */
	m.to = m.from = (int8_t) c->cfg->self;
	m.boot = x->boot;
	voter_message(c, &m);
	for (int n = 0; n < c->cfg->nnodes; n++)
	{
		if (n == c->cfg->self)
			continue;
		m.to = (int8_t) n;
		fsm_send(c, &m);
	}
}

static void
begin_term(Ctx *c, uint64_t term)
{
	Fsm *x = c->x;

	x->term = term;
	x->cur.term = term;
	x->cur.seq = 1;
	x->chosen = 0;
	x->nrounds = 0;
	x->retermed = false;
}

/*
 * Rule 3: the first record of a term.  It names this copy as primary and the rest of the old
 * eligible set as its peer, so that nobody is locked out if the promotion fails.
 */
void
holder_claim(Ctx *c, const FsmRec *best)
{
	Fsm *x = c->x;
	int self = c->cfg->self;
	bool named = fsm_rec_names(best, self, x->d.copy_id);

	memset(&x->cur, 0, sizeof(x->cur));
	x->cur.primary = (int8_t) self;
	x->cur.primary_copy = x->d.copy_id;
	x->cur.peer = FSM_NOBODY;
	/*
	 * also if it follows an override's claim that nothing was built on: that one's loss is this
	 * one's
	 */
	x->cur.lossy = !named || x->forced != 0 || (best->lossy && best->seq == 1);
	if (named && best->primary != self)
	{
		x->cur.peer = best->primary;
		x->cur.peer_copy = best->primary_copy;
	}
	else if (named)
	{
		x->cur.peer = best->peer;
		x->cur.peer_copy = best->peer_copy;
	}
	if (MUT(claim_drops))
		x->cur.peer = FSM_NOBODY;
	begin_term(c, x->cand_term);
	x->lease_until = 0;
	x->deadline = c->now + c->cfg->timing.validity;
	x->peer_gone_since = 0;
	x->peer_answered = 0;
	x->fresh = best->primary != self && !x->handed;
	x->planned = false;
	x->attempts = 0;
	x->cmd_at = 0;
	holder_store(c);
}

/* Rule 11: the gate is shut through the cell; the deadline is kept, never cleared. */
static void
shut_gate(Ctx *c)
{
	Fsm *x = c->x;
	FsmAction *a;
	FsmTime at = c->now;

	if (x->pg.cell_deadline != 0 && x->pg.cell_deadline < at)
		at = x->pg.cell_deadline;
	if (MUT(gate_ignores_lease))
		return;
	a = fsm_act(c, FSM_A_CELL_LEASE);
	a->term = x->term;
	a->at = MUT(stepdown_clears_deadline) ? 0 : at;
	fsm_act(c, FSM_A_VIP_REMOVE); /* an earlier tandemd may have added it */
	x->vip = false;
}

static void
give_up_term(Ctx *c)
{
	Fsm *x = c->x;

	if (x->d.stepped_down < x->term)
	{
		fsm_dirty(c);
		x->d.stepped_down = x->term;
	}
	x->lease_until = 0;
	x->retermed = false;
	x->solo = false;
	x->nrounds = 0;
	x->heard = c->now; /* let another node try first */
	x->primary = FSM_NOBODY;
	x->deadline = 0;
	x->lossy = false;
	x->by_default = false;
	x->handed = false;
	x->wanted = FSM_NOBODY;
}

/*
 * Rule 11, for any reason: lease lost, superseded, nothing can be made durable.  PostgreSQL is
 * killed even where its promotion was only asked for: it may be under way.
 */
void
holder_step_down(Ctx *c, FsmEvent why)
{
	Fsm *x = c->x;

	if (MUT(keep_renewing) && why == FSM_E_LEASE_LOST)
	{
		if (x->pg.state == FSM_PG_PRIMARY)
			fsm_act(c, FSM_A_PG_KILL);
		return;
	}
	shut_gate(c);
	give_up_term(c);
	fsm_move(c, why);
	if (x->state != FSM_STOPPING)
		return;
	fsm_act(c, FSM_A_PG_KILL);
	x->stop_at = c->now + c->cfg->timing.stop / 2;
}

static void
send_release(Ctx *c)
{
	Fsm *x = c->x;
	FsmMsg m;

	if (!MUT(release_not_durable) && x->d.stepped_down < x->term)
	{
		fsm_dirty(c);
		x->d.stepped_down = x->term;
	}
	memset(&m, 0, sizeof(m));
	m.type = FSM_M_RELEASE;
	m.term = x->term;
	m.fenced = FSM_NOBODY;
	for (int n = 0; n < c->cfg->nnodes; n++)
	{
		m.to = (int8_t) n;
		if ((c->cfg->voters & (1u << n)) != 0)
			fsm_send(c, &m);
	}
	m.type = FSM_M_HINT;
	m.ok = x->planned; /* this node comes back as its standby in a moment: worth waiting for */
	m.to = x->cur.peer;
	if (x->cur.peer >= 0)
		fsm_send(c, &m);
}

/* Rule 14: every process of PostgreSQL is dead; stepping down is durable before RELEASE leaves. */
static void
release_lease(Ctx *c)
{
	Fsm *x = c->x;
	uint64_t stepped_down = x->d.stepped_down;

	send_release(c);
	give_up_term(c);
	if (MUT(release_not_durable))
		x->d.stepped_down = stepped_down;
	x->retry_at = c->now + 4 * c->cfg->timing.heartbeat; /* the peer goes first */
	fsm_move(c, FSM_E_PG_DEAD);
}

/*
 * Hand over (rule 14).  A planned one stops PostgreSQL in order, under the lease it still has,
 * and renews no more; any other shuts the gate and kills.
 */
void
holder_hand_over(Ctx *c, bool planned)
{
	Fsm *x = c->x;

	x->planned = planned;
	fsm_move(c, FSM_E_HAND_OVER);
	if (MUT(handover_before_stop))
		send_release(c);
	if (x->pg.state == FSM_PG_DOWN || x->pg.state == FSM_PG_BROKEN)
	{
		shut_gate(c);
		release_lease(c);
		return;
	}
	if (planned)
	{
		fsm_act(c, FSM_A_VIP_REMOVE);
		x->vip = false;
		fsm_act(c, FSM_A_PG_STOP);
	}
	else
	{
		if (!MUT(handover_before_stop))
			shut_gate(c);
		fsm_act(c, FSM_A_PG_KILL);
	}
	x->stop_at = c->now + c->cfg->timing.stop / 2;
}

/*
 * The kernel's watchdog is required and cannot be had: this node neither becomes nor stays primary,
 * whether another one can take over or not.  Only an operator who has paused it is left alone, as
 * long as PostgreSQL runs.
 */
void
holder_leave_unguarded(Ctx *c)
{
	Fsm *x = c->x;

	if (!x->unguarded || !IN_STATE(x, FSM_IN_TERM) || (x->paused && IN_STATE(x, FSM_RUNNING)))
		return;
	fsm_alarm(
		c, "the kernel's watchdog is required and cannot be had: this node gives up being primary");
	holder_hand_over(c, IN_STATE(x, FSM_BIT(FSM_IN_SYNC) | FSM_BIT(FSM_ALONE)));
}

/*
 * An operator wants another primary: the standby in sync (node is FSM_NOBODY), or any other that
 * streams, for which commits then wait until it holds everything.
 */
void
holder_switchover(Ctx *c, int node)
{
	Fsm *x = c->x;
	bool in_sync = x->state == FSM_IN_SYNC && holder_peer_alive(c, x->cur.peer, x->cur.peer_copy);

	if (node == FSM_NOBODY && in_sync)
		node = x->cur.peer;
	if (in_sync && node == x->cur.peer)
	{
		fsm_reply(c, true, "handing over");
		holder_hand_over(c, true);
	}
	else if (node == FSM_NOBODY || !IN_STATE(x, FSM_RUNNING))
		fsm_reply(c, false, "refused: this node is not a primary in sync with its standby");
	else if (node < 0 || node >= c->cfg->nnodes || node == c->cfg->self ||
			 !holder_peer_alive(c, node, x->pg.peers[node].copy))
		fsm_reply(c, false, "refused: that node does not stream from this one");
	else if (x->paused)
		fsm_reply(c, false, "refused: paused");
	else
	{
		x->wanted = node;
		x->wanted_until = c->now + SWITCHOVER_PATIENCE;
		fsm_reply(c, true, "handing over once that node holds everything");
	}
}

/* PostgreSQL is down (or at least no primary) while this node wanted it so. */
void
holder_stopped(Ctx *c)
{
	if (c->x->state == FSM_HANDOVER)
	{
		shut_gate(c);
		release_lease(c);
	}
	else
		fsm_move(c, FSM_E_PG_DEAD);
}

/* ---------- the record and the lease ---------- */

/* Rules 7 and 8: whatever is pending, a later record without the peer must be chosen. */
void
holder_drop_peer(Ctx *c)
{
	Fsm *x = c->x;

	x->peer_gone_since = 0;
	x->peer_answered = 0;
	x->fresh = false;
	if (MUT(abandon_naming) && x->state == FSM_JOIN_NAME)
	{
		x->cur.peer = FSM_NOBODY;
		fsm_move(c, FSM_E_PEER_GONE);
		fsm_move(c, FSM_E_CHOSEN_ALONE);
		fsm_pg_gate(c);
		return;
	}
	set_record(c, FSM_NOBODY, 0);
	fsm_move(c, FSM_E_PEER_GONE);
	if (MUT(continue_unpersisted) && c->cfg->isolation_continue)
	{
		x->solo = true;
		x->chosen = x->cur.seq;
	}
	holder_store(c);
	if (MUT(alone_before_chosen) || (MUT(continue_unpersisted) && x->solo))
	{
		if (x->state == FSM_LEAVING)
			fsm_move(c, FSM_E_CHOSEN_ALONE);
		fsm_pg_gate(c);
	}
}

/* The record as it stands has become chosen, or PostgreSQL has come up under one that is. */
void
holder_settle(Ctx *c)
{
	Fsm *x = c->x;

	if (x->chosen != x->cur.seq)
		return;
	switch (x->state)
	{
		case FSM_CLAIM:
			if (c->now < x->lease_until)
			{
				fsm_move(c, FSM_E_CHOSEN);
				if (x->unguarded)
					holder_leave_unguarded(c);
				else
					fsm_pg_run_primary(c);
			}
			break;
		case FSM_SETTLE:
			fsm_move(c, x->cur.peer >= 0 ? FSM_E_CHOSEN_WITH_PEER : FSM_E_CHOSEN_ALONE);
			fsm_pg_gate(c);
			if (x->state == FSM_IN_SYNC && x->fresh &&
				!holder_peer_alive(c, x->cur.peer, x->cur.peer_copy))
				holder_drop_peer(c); /* rule 3 */
			break;
		case FSM_LEAVING:
			fsm_move(c, FSM_E_CHOSEN_ALONE);
			fsm_pg_gate(c);
			break;
		case FSM_JOIN_NAME:
			fsm_move(c, FSM_E_CHOSEN_WITH_PEER);
			break;
		default:
			break;
	}
}

static void
round_won(Ctx *c, const FsmRound *r)
{
	Fsm *x = c->x;
	FsmTime from = MUT(lease_from_reply) ? c->now : r->sent;
	FsmTime v = c->cfg->timing.validity;

	if (MUT(no_margin))
		v = c->cfg->timing.lease + c->cfg->timing.stop * 9 / 10;
	if (from + v > x->lease_until)
		x->lease_until = from + v;
	if (r->seq > x->chosen)
	{
		x->chosen = r->seq;
		if (r->seq == x->cur.seq)
		{
			fsm_dirty(c);
			x->d.chosen_term = x->term;
			x->d.chosen_seq = r->seq;
		}
	}
	fsm_pg_lease(c);
	holder_settle(c);
}

/* Rule 19's round trip: the answer shows the peer holds the very record that it makes chosen. */
static void
contact(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;
	FsmMsg r;
	bool same = m->ok && IN_STATE(x, FSM_HOLDER) && m->term == x->term && m->rec.seq == x->cur.seq;

	if (!fsm_fence_two_voters(c->cfg) || m->from == c->cfg->self || m->echo != x->boot)
		return;
	if (!same && !MUT(contact_without_record))
		return;
	fsm_fence_contact(c, m->from);
	memset(&r, 0, sizeof(r));
	r.type = FSM_M_CONTACT;
	r.to = m->from;
	r.fenced = FSM_NOBODY;
	r.term = m->term;
	r.rec = m->rec;
	r.echo = m->boot;
	fsm_send(c, &r);
}

static void
refused(Ctx *c, uint64_t prom)
{
	Fsm *x = c->x;
	uint64_t top = x->d.prom > x->max_prom ? x->d.prom : x->max_prom;
	FsmMsg m;

	if (!IN_STATE(x, FSM_IN_TERM) || x->retermed || c->now >= x->lease_until || MUT(no_reterm))
		return;
	if (prom < x->term || (prom == x->term && MUT(reterm_only_higher)))
		return;
	if (top < x->term)
		top = x->term;
	x->retermed = true;
	x->reterm_term = top + 1;
	x->reterm_yes = 0;
	x->reterm_best = x->d.rec;
	x->reterm_deadline = c->now + c->cfg->timing.heartbeat * 3 / 2;
	memset(&m, 0, sizeof(m));
	m.type = FSM_M_VOTE;
	m.term = x->reterm_term;
	m.fenced = FSM_NOBODY;
	for (int n = 0; n < c->cfg->nnodes; n++)
	{
		m.to = (int8_t) n;
		if (((c->cfg->voters | (1u << c->cfg->self)) & (1u << n)) != 0)
			fsm_send(c, &m);
	}
}

/* An answer to a STORE (rules 4 to 6). */
void
holder_store_reply(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;
	FsmRound *r;

	if (m->prom > x->max_prom)
		x->max_prom = m->prom;
	contact(c, m);
	if (!IN_STATE(x, FSM_HOLDER) || m->term != x->term)
		return;
	if ((c->cfg->voters & (1u << m->from)) == 0 && m->from != c->cfg->self)
		return;
	if (!m->ok)
	{
		refused(c, m->prom);
		return;
	}
	r = find_round(x, m->sent, m->rec.seq);
	if (r == NULL)
		return;
	r->yes |= 1u << m->from;
	if (fsm_fence_quorum(c, r->yes))
	{
		FsmRound won = *r;

		round_won(c, &won);
	}
}

/* Rule 6, second half: a majority voted for the higher term. */
static void
take_new_term(Ctx *c)
{
	Fsm *x = c->x;
	int peer = x->cur.peer;
	uint64_t copy = x->cur.peer_copy;

	if (x->reterm_best.primary != c->cfg->self)
	{
		holder_step_down(c, FSM_E_SUPERSEDED);
		return;
	}
	if (peer < 0)
	{
		peer = x->reterm_best.peer;
		copy = x->reterm_best.peer_copy;
	}
	begin_term(c, x->reterm_term);
	x->cur.peer = (int8_t) peer;
	x->cur.peer_copy = copy;
	x->cur.lossy = false;
	fsm_move(c, FSM_E_RETERM);
	fsm_pg_lease(c);
	holder_store(c);
	if (x->pg.state == FSM_PG_PRIMARY)
		fsm_pg_gate(c);
}

void
holder_reterm_vote(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;

	if (m->prom > x->max_prom)
		x->max_prom = m->prom;
	if (!IN_STATE(x, FSM_IN_TERM))
		return;
	if (fsm_rec_less(&x->reterm_best, &m->rec))
		x->reterm_best = m->rec;
	if (!m->ok)
		return;
	x->reterm_yes |= 1u << m->from;
	if (fsm_fence_quorum(c, x->reterm_yes))
		take_new_term(c);
}

/*
 * Rule 13: tandemd (re)started and finds PostgreSQL running as primary.  True if its term goes
 * on: the record on disk may be one that was never chosen, so it is stored again as a new one.
 */
bool
holder_resume(Ctx *c)
{
	Fsm *x = c->x;
	const FsmRec *r = &x->d.rec;

	if (r->primary != c->cfg->self || r->primary_copy != x->d.copy_id || x->d.rebuilding ||
		!x->d.admitted || x->mute)
		return false;
	if (r->term != x->d.prom || x->d.prom_to != c->cfg->self || x->pg.term != x->d.prom)
		return false;
	if (x->d.stepped_down >= x->d.prom && !MUT(resume_stepped_down))
		return false;
	if (x->pg.cell_deadline != 0 && x->pg.cell_deadline <= c->now)
		return false;
	fsm_move(c, FSM_E_RESUME);
	x->cur = *r;
	x->term = r->term;
	x->cur.seq++;
	x->chosen = 0;
	x->nrounds = 0;
	x->lease_until = x->pg.cell_deadline;
	x->deadline = c->now + c->cfg->timing.validity; /* a lease by then, or step down */
	x->peer_gone_since = 0;
	x->peer_answered = 0;
	x->fresh = false;
	x->planned = false;
	x->attempts = 0;
	x->cmd_at = 0;
	if (MUT(resume_trusts_own))
		x->chosen = x->cur.seq;
	holder_store(c);
	holder_settle(c);
	return true;
}

/* ---------- in sync, alone, and between ---------- */

/* Does this copy answer on its link?  From the extension's last report. */
bool
holder_peer_alive(const Ctx *c, int node, uint64_t copy)
{
	const FsmPgPeer *p;

	if (node < 0 || c->x->pg.state != FSM_PG_PRIMARY)
		return false;
	p = &c->x->pg.peers[node];
	return p->session != 0 && p->copy == copy && p->age < c->cfg->peer_timeout;
}

/*
 * Do the voters still answer?  Who hears nobody at all, neither the standby nor the voters, is cut
 * off itself, perhaps in one direction only: a record without the standby, which the voters would
 * store, would then leave nobody who can take over.  With two voters the peer is the other one.
 */
static bool
voters_answer(const Ctx *c)
{
	const FsmTiming *t = &c->cfg->timing;

	return fsm_count_bits(c->cfg->voters) < 3 ||
		   c->x->lease_until - c->now > t->validity - 2 * t->heartbeat;
}

static void
watch_peer(Ctx *c, int node, uint64_t copy)
{
	Fsm *x = c->x;

	if (holder_peer_alive(c, node, copy))
	{
		x->peer_gone_since = 0;
		x->peer_answered = c->now - x->pg.peers[node].age;
		x->fresh = false;
		return;
	}
	/* missed since its last answer, whether its link has ended meanwhile or not */
	if (x->peer_gone_since == 0)
		x->peer_gone_since = x->peer_answered != 0 ? x->peer_answered : c->now;
	if (c->now - x->peer_gone_since >= c->cfg->peer_timeout && voters_answer(c))
		holder_drop_peer(c);
}

static void
ask_gate_to_wait(Ctx *c)
{
	Fsm *x = c->x;

	fsm_pg_gate_require(c, x->join_peer, x->join_copy);
	x->join_cmd = x->cmd;
}

/*
 * Shall commits wait for this node?  Never for an asynchronous one (rule 22), but for the moment
 * in which the primary hands over to it; and while it is to hand over, for nobody else.
 */
static bool
may_join(const Fsm *x, int node)
{
	if (x->wanted != FSM_NOBODY)
		return x->wanted == node;
	return !x->pg.peers[node].async;
}

/* Rule 8 a: is there a standby to join? */
static void
look_for_peer(Ctx *c)
{
	Fsm *x = c->x;

	if (x->chosen != x->cur.seq || x->retermed)
		return;
	for (int n = 0; n < c->cfg->nnodes; n++)
	{
		const FsmPgPeer *p = &x->pg.peers[n];

		if (n == c->cfg->self || !may_join(x, n) || !holder_peer_alive(c, n, p->copy) ||
			!p->near_end)
			continue;
		x->join_peer = n;
		x->join_copy = p->copy;
		x->peer_gone_since = 0;
		x->peer_answered = 0;
		fsm_move(c, FSM_E_PEER_NEAR);
		if (MUT(name_before_wait))
		{
			fsm_move(c, FSM_E_GATE_WAITS);
			fsm_move(c, FSM_E_PEER_HOLDS);
			set_record(c, n, p->copy);
			holder_store(c);
			return;
		}
		ask_gate_to_wait(c);
		return;
	}
}

static bool
gate_waits(const Fsm *x)
{
	return x->pg.instance == x->instance && x->pg.cmd >= x->join_cmd && x->pg.require &&
		   x->pg.peer == x->join_peer && x->pg.peer_copy == x->join_copy;
}

static void
join(Ctx *c)
{
	Fsm *x = c->x;

	if (x->state == FSM_JOIN_GATE)
	{
		if (gate_waits(x))
		{
			x->join_x = x->pg.waits_from;
			fsm_move(c, FSM_E_GATE_WAITS);
		}
		else if (c->now - x->cmd_at > c->cfg->pg_retry)
			ask_gate_to_wait(c);
	}
	if (x->state != FSM_JOIN_FLUSH || !gate_waits(x))
		return;
	if (x->pg.peers[x->join_peer].flush < x->join_x && !MUT(name_before_caughtup))
		return;
	fsm_move(c, FSM_E_PEER_HOLDS);
	set_record(c, x->join_peer, x->join_copy);
	holder_store(c);
}

/* A fresh report of a running primary: rules 7 and 8. */
void
holder_supervise(Ctx *c)
{
	Fsm *x = c->x;

	if (x->paused)
		return;
	switch (x->state)
	{
		case FSM_SETTLE:
			if (x->cur.peer >= 0)
				watch_peer(c, x->cur.peer, x->cur.peer_copy);
			break;
		case FSM_IN_SYNC:
			if (!may_join(x, x->cur.peer))
				holder_drop_peer(c);
			else
				watch_peer(c, x->cur.peer, x->cur.peer_copy);
			if (x->state == FSM_IN_SYNC && x->wanted == x->cur.peer &&
				holder_peer_alive(c, x->cur.peer, x->cur.peer_copy))
				holder_hand_over(c, true);
			break;
		case FSM_ALONE:
			look_for_peer(c);
			break;
		case FSM_JOIN_GATE:
		case FSM_JOIN_FLUSH:
		case FSM_JOIN_NAME:
			watch_peer(c, x->join_peer, x->join_copy);
			if (IN_STATE(x, FSM_JOINING))
				join(c);
			break;
		default:
			break;
	}
}

/* ---------- time ---------- */

/*
 * Rule 20: an isolated holder without witness or fence agent may go on, if the DBA chose so: only
 * after its own record without a peer is durable here, and before its lease is lost.
 */
static void
consider_going_on(Ctx *c)
{
	Fsm *x = c->x;

	if (!c->cfg->isolation_continue || x->solo ||
		!IN_STATE(x, FSM_BIT(FSM_LEAVING) | FSM_BIT(FSM_ALONE)))
		return;
	if (x->lease_until - c->now > 2 * c->cfg->timing.heartbeat || x->durable != x->image)
		return;
	if (x->d.rec.term != x->term || x->d.rec.seq != x->cur.seq || x->d.rec.peer >= 0)
		return;
	x->solo = true;
	fsm_alarm(c, "isolated: going on alone without a majority, as on_isolation = continue says");
	holder_store(c);
}

/*
 * The lease is over (rule 5).  Every step begins with this, so that no input is ever treated
 * under a lease that ran out while the node, or its host, stood still.
 */
void
holder_expire(Ctx *c)
{
	Fsm *x = c->x;
	FsmTime end = x->lease_until != 0 ? x->lease_until : x->deadline;

	if ((IN_STATE(x, FSM_HOLDER) || (x->state == FSM_HANDOVER && !MUT(handover_before_stop))) &&
		c->now >= end)
		holder_step_down(c, FSM_E_LEASE_LOST);
}

/* What time alone brings about for a holder (rules 4, 11, 14). */
void
holder_tick(Ctx *c)
{
	Fsm *x = c->x;

	if (x->state == FSM_STOPPING || x->state == FSM_HANDOVER)
	{
		if (c->now >= x->stop_at)
		{
			fsm_act(c, FSM_A_PG_KILL);
			x->stop_at = c->now + c->cfg->timing.stop / 2;
		}
		return;
	}
	if (!IN_STATE(x, FSM_HOLDER))
		return;
	holder_leave_unguarded(c);
	if (!IN_STATE(x, FSM_HOLDER))
		return;
	consider_going_on(c);
	if (x->wanted != FSM_NOBODY && c->now > x->wanted_until)
	{
		x->wanted = FSM_NOBODY;
		fsm_alarm(c, "the switchover is given up: the node was not in sync in time");
	}
	if (x->retermed && c->now > x->reterm_deadline)
		x->retermed = false;
	if (c->now - x->last_store >= c->cfg->timing.heartbeat)
		holder_store(c);
}
