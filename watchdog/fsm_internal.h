/*
 * fsm_internal.h
 *		What the rooms of the decision core share: fsm.c (step, states, durability), voter.c
 *		(rules 1, 2, 4, 14, 17, 18), candidate.c (rules 1 to 3, 21, 22), holder.c (rules 3 to
 *		8, 11 to 14) and fence_rule.c (rules 18 to 21: whose vote is replaced).
 */
#ifndef TANDEM_FSM_INTERNAL_H
#define TANDEM_FSM_INTERNAL_H

#include "fsm.h"
#include "mutation.h"

#define FSM_MAX_SELF 16

/* One call of fsm_step(). */
typedef struct Ctx
{
	const FsmConfig *cfg;
	Fsm *x;
	FsmTime now;
	FsmActions *out;
	bool dirty; /* durable state changed in this step */
	int nself;  /* messages to itself, delivered before the step ends */
	FsmMsg self[FSM_MAX_SELF];
} Ctx;

/* Sets of states. */
#define FSM_RUNNING                                                                           \
	(FSM_BIT(FSM_SETTLE) | FSM_BIT(FSM_IN_SYNC) | FSM_BIT(FSM_LEAVING) | FSM_BIT(FSM_ALONE) | \
	 FSM_BIT(FSM_JOIN_GATE) | FSM_BIT(FSM_JOIN_FLUSH) | FSM_BIT(FSM_JOIN_NAME))
#define FSM_JOINING       (FSM_BIT(FSM_JOIN_GATE) | FSM_BIT(FSM_JOIN_FLUSH) | FSM_BIT(FSM_JOIN_NAME))
#define FSM_IN_TERM       (FSM_BIT(FSM_PROMOTE) | FSM_BIT(FSM_RESTART) | FSM_RUNNING)
#define FSM_HOLDER        (FSM_BIT(FSM_CLAIM) | FSM_IN_TERM)
#define FSM_SEEKING       (FSM_BIT(FSM_PREVOTE) | FSM_BIT(FSM_CANDIDATE))

#define IN_STATE(x, mask) ((FSM_BIT((x)->state) & (mask)) != 0)

/* The number of nodes in a mask. */
static inline int
fsm_count_bits(uint32_t mask)
{
	int n = 0;

	for (; mask != 0; mask &= mask - 1)
		n++;
	return n;
}

/* fsm.c */
extern void fsm_move(Ctx *c, FsmEvent event);
extern void fsm_dirty(Ctx *c);
extern FsmAction *fsm_act(Ctx *c, FsmActionType type);
extern void fsm_act_durable(Ctx *c, const FsmAction *a);
extern void fsm_forget(Ctx *c, FsmActionType type);
extern void fsm_send(Ctx *c, const FsmMsg *m);
extern void fsm_alarm(Ctx *c, const char *text);
extern void fsm_reply(Ctx *c, bool ok, const char *text);
extern FsmTime fsm_random(Ctx *c, FsmTime below);
extern FsmTime fsm_suspicion(const FsmConfig *cfg);

/* voter.c */
extern void voter_message(Ctx *c, const FsmMsg *m);
extern void voter_promise(Ctx *c, uint64_t term, int to);
extern void voter_readmit(Ctx *c);
extern void voter_read_reply(Ctx *c, const FsmMsg *m);

/* candidate.c */
extern void candidate_tick(Ctx *c);
extern void candidate_start(Ctx *c);
extern void candidate_give_up(Ctx *c);
extern void candidate_prevote_reply(Ctx *c, const FsmMsg *m);
extern void candidate_vote_reply(Ctx *c, const FsmMsg *m);
extern void candidate_fenced(Ctx *c);
extern void candidate_hint(Ctx *c, const FsmMsg *m);
extern void candidate_operator(Ctx *c, const FsmInput *in);

/* holder.c */
extern void holder_claim(Ctx *c, const FsmRec *best);
extern void holder_store(Ctx *c);
extern void holder_store_reply(Ctx *c, const FsmMsg *m);
extern void holder_reterm_vote(Ctx *c, const FsmMsg *m);
extern void holder_step_down(Ctx *c, FsmEvent why);
extern void holder_hand_over(Ctx *c, bool planned);
extern void holder_switchover(Ctx *c, int node);
extern void holder_drop_peer(Ctx *c);
extern void holder_expire(Ctx *c);
extern void holder_tick(Ctx *c);
extern void holder_supervise(Ctx *c);
extern void holder_settle(Ctx *c);
extern void holder_stopped(Ctx *c);
extern bool holder_resume(Ctx *c);
extern void holder_leave_unguarded(Ctx *c);
extern bool holder_peer_alive(const Ctx *c, int node, uint64_t copy);

/* postgres_rule.c */
extern void fsm_pg_status(Ctx *c, const FsmPg *pg);
extern void fsm_pg_tick(Ctx *c);
extern void fsm_pg_run_primary(Ctx *c);
extern void fsm_pg_diverged(Ctx *c, uint64_t fresh);
extern void fsm_pg_rebuilt(Ctx *c, bool ok);
extern void fsm_pg_lease(Ctx *c);
extern void fsm_pg_gate(Ctx *c);
extern void fsm_pg_gate_require(Ctx *c, int peer, uint64_t copy);

/* fence_rule.c */
extern bool fsm_fence_quorum(const Ctx *c, uint32_t yes);
extern bool fsm_fence_two_voters(const FsmConfig *cfg);
extern void fsm_fence_heard(Ctx *c, const FsmMsg *m);
extern void fsm_fence_contact(Ctx *c, int with);
extern void fsm_fence_contacted(Ctx *c, const FsmMsg *m);
extern void fsm_fence_want(Ctx *c, int node);
extern void fsm_fence_result(Ctx *c, const FsmInput *in);
extern void fsm_fence_vote_asked(Ctx *c);
extern void fsm_fence_tick(Ctx *c);

#endif /* TANDEM_FSM_INTERNAL_H */
