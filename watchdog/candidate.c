/*
 * candidate.c
 *		From standby to claim (SAFETY rules 1 to 3, 18, 21, 22).
 *
 * A node that hears no primary asks first whether a vote would succeed (PREVOTE changes nothing),
 * then for votes, and takes the newest record of a majority.  Only a copy that this record names
 * may claim: it holds every acknowledged commit.  An operator's override (rule 21 a) sets exactly
 * this aside.
 *
 * When it is refused it waits for the time the voters said, not for a random one.
 */
#include "fsm_internal.h"

#include <string.h>

#define FORCED_JUMP 1000 /* rule 21 b */

static void
ask_voters(Ctx *c, FsmMsgType type)
{
	Fsm *x = c->x;
	FsmMsg m;

	memset(&m, 0, sizeof(m));
	m.type = (uint8_t) type;
	m.term = x->cand_term;
	m.fenced = FSM_NOBODY;
	if (x->fenced)
	{
		m.fenced = (int8_t) x->fence_node;
		m.fenced_boot = x->fence_boot;
	}
	x->yes = x->answered = 0;
	x->best = x->d.rec;
	x->deadline = c->now + c->cfg->timing.heartbeat * 3 / 2;
	memset(x->waits, 0, sizeof(x->waits));
	if (type == FSM_M_PREVOTE)
		fsm_fence_vote_asked(c);
	for (int n = 0; n < c->cfg->nnodes; n++)
	{
		if (((c->cfg->voters | (1u << c->cfg->self)) & (1u << n)) == 0)
			continue;
		m.to = (int8_t) n;
		fsm_send(c, &m);
	}
}

static bool
eligible(const Ctx *c)
{
	const Fsm *x = c->x;
	const FsmRec *r = MUT(own_record_only) ? &x->d.rec : &x->best;

	if (x->d.rebuilding)
		return false;
	return x->lossy || fsm_rec_names(r, c->cfg->self, x->d.copy_id);
}

static void
become_candidate(Ctx *c)
{
	fsm_move(c, FSM_E_MAJORITY);
	ask_voters(c, FSM_M_VOTE);
}

/* Ask whether a vote would succeed (rule 1). */
void
candidate_start(Ctx *c)
{
	Fsm *x = c->x;
	uint64_t top = x->d.prom > x->max_prom ? x->d.prom : x->max_prom;

	if (x->d.rec.term > top)
		top = x->d.rec.term;
	x->cand_term = top + 1;
	if (x->forced != 0 && !MUT(override_no_jump))
		x->cand_term = top + FORCED_JUMP;
	x->ineligible = false;
	fsm_move(c, FSM_E_SUSPECT);
	if (MUT(no_prevote))
	{
		x->best = x->d.rec;
		if (eligible(c))
			become_candidate(c);
		else
			candidate_give_up(c);
		return;
	}
	ask_voters(c, FSM_M_PREVOTE);
}

/*
 * When could enough voters say yes?  Those who said how long another's grant still runs are taken
 * at their word; those who did not answer may do so at any time, so they are asked again after a
 * heartbeat.
 */
static FsmTime
majority_at(const Ctx *c)
{
	const Fsm *x = c->x;
	FsmTime at[FSM_MAX_NODES];
	int n = 0;

	for (int v = 0; v < c->cfg->nnodes; v++)
	{
		FsmTime t = x->waits[v];
		int k = n;

		if ((c->cfg->voters & (1u << v)) == 0)
			continue;
		if ((x->answered & (1u << v)) == 0)
			t = c->now + c->cfg->timing.heartbeat;
		for (; k > 0 && at[k - 1] > t; k--)
			at[k] = at[k - 1];
		at[k] = t;
		n++;
	}
	return n > 0 && at[n / 2] > c->now ? at[n / 2] : c->now;
}

/* Back to standby; when to try again follows from the answers (rule 1). */
void
candidate_give_up(Ctx *c)
{
	Fsm *x = c->x;
	FsmTime h = c->cfg->timing.heartbeat;

	x->retry_at = (x->ineligible ? c->now + 2 * h : majority_at(c)) + h / 32 + fsm_random(c, h / 4);
	fsm_move(c, FSM_E_REFUSED);
}

/*
 * Rule 18: is a fence the way to end the wait?  Only for a copy that may claim, when what is
 * missing for a majority is grants of the silent primary that the voters have not renewed lately
 * either.
 */
static void
fence_instead_of_wait(Ctx *c)
{
	Fsm *x = c->x;
	FsmTime suspicion = fsm_suspicion(c->cfg);
	uint32_t would = x->yes;
	int p = x->best.primary;

	if (!c->cfg->fence || fsm_fence_two_voters(c->cfg) || p == c->cfg->self || p < 0 ||
		!eligible(c))
		return;
	if (c->now - x->heard_of[p] < suspicion)
		return;
	for (int v = 0; v < c->cfg->nnodes; v++)
		if (x->waits[v] > c->now && x->waits[v] - c->now < c->cfg->timing.lease - suspicion)
			would |= 1u << v;
	if (fsm_fence_quorum(c, would))
		fsm_fence_want(c, p);
}

/*
 * Are these enough?  Where nobody has confirmed and no majority can be had (rule 22), all who are
 * not taken to be off must say yes: a voter that says no has heard the primary.
 */
static bool
enough(const Ctx *c)
{
	const Fsm *x = c->x;

	if (x->by_default && x->forced != 0 && (c->cfg->voters & ~(x->yes | x->forced)) != 0)
		return false;
	return fsm_fence_quorum(c, x->yes);
}

/* Everything that can be known from the answers so far. */
static void
weigh(Ctx *c)
{
	Fsm *x = c->x;

	if (!enough(c))
	{
		FsmTime at = majority_at(c);

		if ((x->answered & c->cfg->voters) == c->cfg->voters)
		{
			fence_instead_of_wait(c);
			candidate_give_up(c);
		}
		else if (at > c->now && at < x->deadline)
			x->deadline = at; /* a voter said when: no need to wait longer for the silent */
		return;
	}
	if (!eligible(c))
	{
		x->ineligible = true;
		candidate_give_up(c);
	}
	else if (x->state == FSM_PREVOTE)
		become_candidate(c);
	else
	{
		FsmRec best = x->best;

		if (MUT(own_record_only))
			best = x->d.rec;
		fsm_move(c, FSM_E_MAJORITY);
		holder_claim(c, &best);
	}
}

static void
answer(Ctx *c, const FsmMsg *m, FsmState state)
{
	Fsm *x = c->x;

	if (m->prom > x->max_prom)
		x->max_prom = m->prom;
	if (x->state != state || x->cand_term != m->term)
		return;
	x->answered |= 1u << m->from;
	if (fsm_rec_less(&x->best, &m->rec))
		x->best = m->rec;
	if (m->ok)
		x->yes |= 1u << m->from;
	x->waits[m->from] = m->wait > 0 ? c->now + m->wait : 0;
	weigh(c);
}

/* A power-off was confirmed: nobody, this node's own voter included, need wait for that grant now. */
void
candidate_fenced(Ctx *c)
{
	if (c->x->state == FSM_PREVOTE)
		ask_voters(c, FSM_M_PREVOTE);
}

void
candidate_prevote_reply(Ctx *c, const FsmMsg *m)
{
	answer(c, m, FSM_PREVOTE);
}

void
candidate_vote_reply(Ctx *c, const FsmMsg *m)
{
	answer(c, m, FSM_CANDIDATE);
}

/*
 * Rule 22: with profile dr the standby is asynchronous, so it is in no record, and its taking
 * over may lose commits.  An operator confirms, or the time for that passes; the latter is for one
 * attempt, as it stands then: an operator may say "wait" afterwards, or a veto come up.
 */
static bool
confirmed(Ctx *c)
{
	Fsm *x = c->x;

	if (x->by_default)
	{
		x->by_default = x->lossy = false;
		x->forced = 0;
	}
	if (!c->cfg->dr || x->lossy || fsm_rec_names(&x->d.rec, c->cfg->self, x->d.copy_id))
		return true;
	if (!x->asked)
	{
		x->asked = true;
		x->suspect_since = c->now;
		fsm_alarm(c, "the primary is silent: confirm the failover, or wait for it");
	}
	if (!c->cfg->confirm_failover || x->told_to_wait ||
		c->now - x->suspect_since < c->cfg->confirm_timeout)
		return false;
	x->lossy = x->by_default = true;
	return true;
}

/*
 * Rule 22, confirm_without_majority = proceed: those who did not answer are taken to be off, as in
 * rule 21 b, once neither a majority nor a confirmed fence could be had.  Not if somebody said no.
 */
static bool
proceed(Ctx *c)
{
	Fsm *x = c->x;
	uint32_t others = c->cfg->voters & ~(1u << c->cfg->self);

	if (!c->cfg->confirm_proceed || !x->by_default || x->forced != 0 || x->state != FSM_PREVOTE ||
		(c->cfg->voters & x->answered & ~x->yes) != 0 || (others & ~x->answered) == 0)
		return false;
	if (x->fencing && !x->fence_failed)
		return false; /* the fence agent has not answered yet */
	if (!x->proceed_told)
		fsm_alarm(c, "failing over without a majority: if the primary lives there are two now");
	x->proceed_told = true;
	x->forced = others & ~x->answered;
	fsm_move(c, FSM_E_REFUSED);
	candidate_start(c);
	return true;
}

/* What time alone brings about before a claim. */
void
candidate_tick(Ctx *c)
{
	Fsm *x = c->x;

	if (IN_STATE(x, FSM_SEEKING))
	{
		if (c->now < x->deadline)
			return;
		fence_instead_of_wait(c);
		if (IN_STATE(x, FSM_SEEKING) && !proceed(c))
			candidate_give_up(c);
		return;
	}
	if (x->state != FSM_STANDBY || x->d.rebuilding || x->paused || x->mute || !x->d.admitted ||
		x->unguarded)
		return;
	if (x->pg.state != FSM_PG_STANDBY && x->pg.state != FSM_PG_DOWN)
		return;
	if (x->forced == 0 && c->now - x->heard < fsm_suspicion(c->cfg))
		return;
	if (c->now < x->retry_at || !confirmed(c))
		return;
	candidate_start(c);
}

/* Rule 14: the primary has stepped down and released its lease; be a candidate at once. */
void
candidate_hint(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;

	if (x->state != FSM_STANDBY || x->primary != m->from || m->term < x->d.rec.term)
		return;
	x->heard = c->now - fsm_suspicion(c->cfg);
	x->retry_at = c->now;
	x->handed = m->ok;
}

/* Rules 21 and 22: what an operator may say to a node that is not primary. */
void
candidate_operator(Ctx *c, const FsmInput *in)
{
	Fsm *x = c->x;

	if (x->state != FSM_STANDBY && !IN_STATE(x, FSM_SEEKING))
	{
		fsm_reply(c, false, "refused: this node is primary, rebuilding or stopping");
		return;
	}
	if (in->op == FSM_OP_CONFIRM && !x->asked)
	{
		fsm_reply(c, false, "refused: there is nothing to confirm");
		return;
	}
	if (in->op == FSM_OP_CONFIRM && !in->ok)
	{
		x->told_to_wait = true;
		x->lossy = x->by_default = false;
		x->forced = 0;
		if (IN_STATE(x, FSM_SEEKING) && !eligible(c))
			candidate_give_up(c);
		fsm_reply(c, true, "no failover: waiting for the primary, or for another confirmation");
		return;
	}
	if (in->op == FSM_OP_FORCE || (in->op == FSM_OP_CONFIRM && in->mask != 0))
		x->forced = in->mask & c->cfg->voters & ~(1u << c->cfg->self);
	if (in->op != FSM_OP_FORCE)
		x->lossy = true;
	x->by_default = false;
	x->retry_at = c->now;
	fsm_reply(c, true, "this node will try to become primary");
}
