/*
 * voter.c
 *		Whoever grants leases: the two nodes and the witness (SAFETY rules 1, 2, 4, 14, 17,
 *		18).
 *
 * A voter promises {term, candidate} and stores records, both durably before it answers
 * (fsm_send() sees to that), and grants a lease for G counted on its own clock from receipt.  It
 * never takes a grant back before that, except from a holder that says itself that it is done
 * (RELEASE), or one that is confirmed powered off (rule 18).
 */
#include "fsm_internal.h"

#include <string.h>

static void
reply(Ctx *c, const FsmMsg *m, FsmMsgType type, bool ok, FsmTime wait)
{
	FsmMsg r;

	memset(&r, 0, sizeof(r));
	r.type = (uint8_t) type;
	r.to = m->from;
	r.ok = ok;
	r.fenced = FSM_NOBODY;
	r.term = m->term;
	r.prom = c->x->d.prom;
	r.rec = c->x->d.rec;
	r.sent = m->sent;
	r.wait = wait;
	r.echo = m->boot;
	fsm_send(c, &r);
}

/* Promise a term.  The floor of the link rises with it, before any answer leaves (rule 15). */
void
voter_promise(Ctx *c, uint64_t term, int to)
{
	Fsm *x = c->x;

	if (term == x->d.prom && to == x->d.prom_to)
		return;
	fsm_dirty(c);
	x->d.prom = term;
	x->d.prom_to = (int8_t) to;
	if (x->state != FSM_WITNESS)
		fsm_act(c, FSM_A_CELL_FLOOR)->term = term;
}

/*
 * Rule 18: is the one who holds the grant confirmed off, in the very boot that the grant was
 * given to?
 */
static bool
holder_is_off(const Fsm *x, const FsmMsg *m)
{
	if (m->fenced < 0 || m->fenced != x->grant_to)
		return false;
	return m->fenced_boot == x->grant_boot || MUT(fence_any_boot);
}

/*
 * The test of rules 1 and 2.  *wait is set to the time another's grant (or this voter's restart)
 * still stands in the way.
 */
static bool
may_vote(const Ctx *c, const FsmMsg *m, FsmTime *wait)
{
	const Fsm *x = c->x;

	*wait = 0;
	if (!MUT(no_restart_wait) && x->hold_until > c->now && x->d.prom_to != m->from)
		*wait = x->hold_until - c->now;
	if (!MUT(no_grant_wait) && x->grant_to != m->from && x->grant_until > c->now &&
		!holder_is_off(x, m) && x->grant_until - c->now > *wait)
		*wait = x->grant_until - c->now;
	if (m->term < x->d.prom || (m->term == x->d.prom && x->d.prom_to != m->from))
		return false;
	return *wait == 0;
}

static void
grant(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;
	const FsmTiming *t = &c->cfg->timing;

	x->grant_to = m->from;
	x->grant_until = c->now + (MUT(short_grant) ? t->validity : t->lease);
	x->grant_boot = m->boot;
}

static void
vote(Ctx *c, const FsmMsg *m)
{
	FsmTime wait;
	bool ok = may_vote(c, m, &wait);

	if (ok)
	{
		voter_promise(c, m->term, m->from);
		grant(c, m);
	}
	reply(c, m, FSM_M_VOTE_REPLY, ok, wait);
}

/* An accepted STORE of another node: there is a primary (rule 4). */
static void
primary_heard(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;

	x->heard = c->now;
	x->primary = m->from;
	x->handed = false;
	x->lossy = false;
	x->asked = false;
	x->told_to_wait = false;
	x->by_default = false;
	x->proceed_told = false;
	x->suspect_since = 0;
	x->forced = 0;
	if (IN_STATE(x, FSM_HOLDER))
	{
		if (m->term > x->term)
			holder_step_down(c, FSM_E_SUPERSEDED);
	}
	else if (IN_STATE(x, FSM_SEEKING) && m->term >= x->cand_term)
		fsm_move(c, FSM_E_PRIMARY_HEARD);
}

/*
 * Rule 4.  A node that does not vote keeps terms and records all the same: it needs them for its
 * link, and to know whom to follow.
 */
static void
store(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;
	bool ok = m->term > x->d.prom || (m->term == x->d.prom && x->d.prom_to == m->from);

	if (MUT(store_ignores_promise))
		ok = true;
	if (ok)
	{
		if (m->term > x->d.prom)
			voter_promise(c, m->term, m->from);
		if (fsm_rec_less(&x->d.rec, &m->rec) && !(MUT(continue_unpersisted) && x->solo))
		{
			fsm_dirty(c);
			x->d.rec = m->rec;
		}
		grant(c, m);
		if (m->from != c->cfg->self && x->state != FSM_WITNESS)
			primary_heard(c, m);
	}
	{
		FsmMsg r;

		memset(&r, 0, sizeof(r));
		r.type = FSM_M_STORE_REPLY;
		r.to = m->from;
		r.ok = ok;
		r.fenced = FSM_NOBODY;
		r.term = m->term;
		r.prom = x->d.prom;
		r.rec = m->rec;
		r.sent = m->sent;
		r.echo = m->boot;
		fsm_send(c, &r);
	}
}

/* Rule 14.  A later term of the same holder is not touched by a late RELEASE. */
static void
release(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;

	if (x->grant_to == m->from && (x->d.prom <= m->term || MUT(release_any_term)))
		x->grant_until = 0;
}

/* Requests to this voter.  One that was not admitted says nothing but what it holds (rule 17). */
void
voter_message(Ctx *c, const FsmMsg *m)
{
	FsmTime wait;
	bool ok;

	if (m->type == FSM_M_READ)
	{
		if (c->x->d.admitted)
			reply(c, m, FSM_M_READ_REPLY, true, 0);
		return;
	}
	if (!c->x->d.admitted || c->x->mute)
		return;
	switch (m->type)
	{
		case FSM_M_PREVOTE:
			ok = may_vote(c, m, &wait);
			reply(c, m, FSM_M_PREVOTE_REPLY, ok, wait);
			break;
		case FSM_M_VOTE:
			vote(c, m);
			break;
		case FSM_M_STORE:
			store(c, m);
			break;
		case FSM_M_RELEASE:
			release(c, m);
			break;
		default:
			break;
	}
}

/*
 * May a voter that lost its state come back without an operator?  What it had accepted together
 * with another voter, that one still knows.  But where a fence or on_isolation = continue may
 * have stood for the other's vote in a pair (rules 19 and 20), it may have been the only one to
 * know that it was alone: then nobody else can tell.
 */
static bool
others_know(const FsmConfig *cfg)
{
	if (MUT(readmit_pair))
		return true;
	return !fsm_fence_two_voters(cfg) || !(cfg->fence || cfg->isolation_continue);
}

/*
 * Rule 17: a voter that lost its state reads all others, waits G, and votes again; what it had
 * granted has run out by then.
 */
void
voter_readmit(Ctx *c)
{
	Fsm *x = c->x;
	uint32_t others = c->cfg->voters & ~(1u << c->cfg->self);

	if (x->d.admitted)
		return;
	if (!others_know(c->cfg))
	{
		if (x->read_sent == 0)
			fsm_alarm(c, "the voter's state is lost: it votes again when an operator re-admits it");
		x->read_sent = c->now;
		return;
	}
	if (MUT(amnesia))
	{
		x->d.admitted = true;
		x->hold_until = 0;
		return;
	}
	if ((x->read_from & others) != others)
	{
		if (x->read_sent != 0 && c->now - x->read_sent < c->cfg->timing.heartbeat)
			return;
		x->read_sent = c->now;
		for (int n = 0; n < c->cfg->nnodes; n++)
		{
			FsmMsg m = {.type = FSM_M_READ, .to = (int8_t) n, .fenced = FSM_NOBODY};

			if ((others & (1u << n)) != 0)
				fsm_send(c, &m);
		}
		return;
	}
	if (c->now >= x->admit_at)
	{
		fsm_dirty(c);
		x->d.admitted = true;
	}
}

/* An answer to such a READ. */
void
voter_read_reply(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;

	if (x->d.admitted || m->echo != x->boot)
		return;
	x->read_from |= 1u << m->from;
	x->admit_at = c->now + c->cfg->timing.lease;
	if (m->prom > x->d.prom)
		voter_promise(c, m->prom, FSM_NOBODY);
	if (fsm_rec_less(&x->d.rec, &m->rec))
	{
		fsm_dirty(c);
		x->d.rec = m->rec;
	}
}
