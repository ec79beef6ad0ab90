/*
 * fence_rule.c
 *		Whose vote may be replaced, and by what (SAFETY rules 18 to 21).
 *
 * With three voters nothing replaces a vote: a confirmed power-off only ends the wait for a grant
 * (voter.c).  With two voters the peer's vote can be replaced by its confirmed power-off, for a
 * node that knows it cannot have missed a chosen record.  on_isolation = continue and an
 * operator's word replace votes too.
 */
#include "fsm_internal.h"

#define FENCE_PATIENCE INT64_C(30000000) /* us until an unanswered request is asked again */

/* The pair without a witness. */
bool
fsm_fence_two_voters(const FsmConfig *cfg)
{
	return fsm_count_bits(cfg->voters) == 2;
}

/* Is n the other one of two voters? */
static bool
is_other_voter(const FsmConfig *cfg, int n)
{
	uint32_t both = (1u << cfg->self) | (1u << n);

	return fsm_fence_two_voters(cfg) && n != cfg->self && (cfg->voters & both) == both;
}

/*
 * Rule 19: may a power-off stand for the peer's vote?  Only for a voter, and if nothing newer than
 * what is known here can have been chosen: in this boot both confirmed to hold the same newest
 * chosen record, or the own record names nobody else and is durably marked as chosen.
 *
 * The latter says nothing where a node may take over that no record names (rule 22): the peer may
 * have been confirmed while this node was off, and that have stood for its vote.
 */
bool
fsm_fence_counts(const FsmConfig *cfg, const Fsm *x)
{
	const FsmRec *r = &x->d.rec;
	bool sole = r->primary == cfg->self && r->primary_copy == x->d.copy_id && r->peer < 0;
	bool chosen = r->term == x->d.chosen_term && r->seq == x->d.chosen_seq;

	if (MUT(no_wait_for_all))
		return true;
	if (!fsm_fence_two_voters(cfg) || (cfg->voters & (1u << cfg->self)) == 0)
		return false;
	if (sole && (chosen || MUT(sole_without_chosen)) && (!cfg->any_dr || MUT(sole_in_dr)))
		return true;
	return x->contact;
}

/*
 * Is this a majority?  The own voter must be in it; votes of others may be replaced.
 */
bool
fsm_fence_quorum(const Ctx *c, uint32_t yes)
{
	const Fsm *x = c->x;
	uint32_t voters = c->cfg->voters;
	uint32_t self = 1u << c->cfg->self;

	yes &= voters;
	if ((voters & self) != 0 && (yes & self) == 0)
		return false;
	if (x->solo)
		return true;
	yes |= x->forced & voters;
	if (x->fenced &&
		((fsm_fence_two_voters(c->cfg) && fsm_fence_counts(c->cfg, x)) || MUT(fence_is_vote_3)))
		yes |= (1u << x->fence_node) & voters;
	return fsm_count_bits(yes) * 2 > fsm_count_bits(voters);
}

static void
void_fence(Fsm *x)
{
	x->fencing = x->fenced = false;
	x->fence_seq++; /* a late answer is of no use */
}

/*
 * Any message: its sender lives, in this boot.  A boot other than the one that was to be powered
 * off makes the fence void (rule 19), whether its answer has come or not.
 */
void
fsm_fence_heard(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;
	int n = m->from;

	x->heard_of[n] = c->now;
	x->forced &= ~(1u << n);
	if (x->boot_of[n] != m->boot && (c->cfg->voters & (1u << n)) != 0)
		x->contact = false;
	x->boot_of[n] = m->boot;
	if (n == x->fence_node)
		x->fence_failed = false;
	if (n == x->fence_node && (x->fencing || x->fenced) && m->boot != x->fence_boot &&
		!MUT(stale_fence_ok))
		void_fence(x);
	if (x->solo && (c->cfg->voters & (1u << n)) != 0)
		x->solo = false;
}

/*
 * Rule 19: a round trip that shows that the other voter and this one hold the same chosen record.
 * Who does not vote may hold it without the other voter.
 */
void
fsm_fence_contact(Ctx *c, int with)
{
	if (is_other_voter(c->cfg, with) || MUT(contact_of_any))
		c->x->contact = true;
}

/* The other end of that round trip. */
void
fsm_fence_contacted(Ctx *c, const FsmMsg *m)
{
	Fsm *x = c->x;

	if (m->echo != x->boot)
		return;
	if ((x->d.rec.term == m->term && x->d.rec.seq == m->rec.seq) || MUT(contact_without_record))
		fsm_fence_contact(c, m->from);
}

/* Have this node powered off, unless that is under way, done, or (two voters) of no use. */
void
fsm_fence_want(Ctx *c, int node)
{
	Fsm *x = c->x;
	FsmAction *a;

	if (!c->cfg->fence || (x->fence_node == node && (x->fencing || x->fenced)))
		return;
	if (fsm_fence_two_voters(c->cfg) && !fsm_fence_counts(c->cfg, x))
		return;
	x->fence_node = node;
	x->fence_boot = x->boot_of[node];
	x->fence_seq++;
	x->fencing = true;
	x->fenced = false;
	x->fence_asked = c->now;
	a = fsm_act(c, FSM_A_FENCE);
	a->node = node;
	a->seq = x->fence_seq;
}

/*
 * The agent's answer.
 *
 * Confirmed, it may be the vote that is missing.  Whoever waits for one goes on in this very step: a
 * primary may not have until its next heartbeat, because with two voters its lease has not been
 * renewed since the peer fell silent, most of it went by until the agent was asked, and the agent
 * took its time.
 */
void
fsm_fence_result(Ctx *c, const FsmInput *in)
{
	Fsm *x = c->x;

	if (in->node != x->fence_node)
		return;
	if (MUT(stale_fence_ok) ? !in->ok : (in->seq != x->fence_seq || !x->fencing))
		return;
	x->fencing = false;
	x->fenced = in->ok;
	x->fence_failed = !in->ok;
	if (!in->ok)
		return;
	x->retry_at = c->now;
	if (!fsm_fence_two_voters(c->cfg))
		return;
	if (IN_STATE(x, FSM_HOLDER))
		holder_store(c);
	candidate_fenced(c);
}

/* The peer, for one of two voters; else FSM_NOBODY. */
static int
other_voter(const FsmConfig *cfg)
{
	for (int n = 0; n < cfg->nnodes; n++)
		if (is_other_voter(cfg, n))
			return n;
	return FSM_NOBODY;
}

/* PREVOTE goes out: from when on has the peer been asked in vain? */
void
fsm_fence_vote_asked(Ctx *c)
{
	int peer = other_voter(c->cfg);

	if (peer >= 0 && c->x->vote_asked <= c->x->heard_of[peer])
		c->x->vote_asked = c->now;
}

/*
 * With two voters: is the peer's silence in the way?  Of a copy that may claim, as far as is known:
 * one that is in the record, or whose taking over was confirmed, by an operator or by
 * confirm_timeout (rule 22).
 *
 * Silence alone says little of a peer that has had nothing to say, as when both have just started:
 * it is powered off only after it has not answered for a heartbeat.  A primary asks with every STORE.
 */
void
fsm_fence_tick(Ctx *c)
{
	Fsm *x = c->x;
	int peer = other_voter(c->cfg);

	if (!c->cfg->fence || peer < 0 || x->paused)
		return;
	if (x->fencing && c->now - x->fence_asked > FENCE_PATIENCE)
	{
		void_fence(x);
		x->fence_failed = true;
	}
	if (c->now - x->heard_of[peer] < fsm_suspicion(c->cfg))
		return;
	/* a primary that is alone needs that vote as well, before its lease ends */
	if (x->state == FSM_ALONE && c->now - x->heard_of[peer] >= c->cfg->peer_timeout)
		fsm_fence_want(c, peer);
	if (x->state == FSM_LEAVING ||
		(x->state == FSM_PREVOTE && c->now - x->vote_asked >= c->cfg->timing.heartbeat &&
		 (x->lossy || fsm_rec_names(&x->best, c->cfg->self, x->d.copy_id))))
		fsm_fence_want(c, peer);
}
