/*
 * fsm.c
 *		The decision core of tandemd: the step, the states, durability and timers.
 *
 * A step takes one input, lets the room that knows about it act (voter.c, candidate.c, holder.c,
 * postgres_rule.c, fence_rule.c), then runs what time alone brings about, delivers the node's messages to
 * itself, and ends by asking for durability and for the next timer.  Time-driven work runs in
 * every step, not only on FSM_I_TIMER: a late timer is then never worse than a late message.
 *
 * States and edges are data: edges[] below is what fsm_move() obeys.  An event for which a state
 * has no edge is a defect of the program; it is reported as an alarm and the simulator fails on
 * it.
 *
 * Everything that may only happen after durable state is durable goes through fsm_act_durable().
 * Since a node's messages to itself take the same way, its own vote counts only once it is on
 * disk.
 */
#include "fsm_internal.h"

#include <string.h>

#define SEC INT64_C(1000000)

static const FsmEdge edges[] = {
	{FSM_BIT(FSM_STANDBY), FSM_E_SUSPECT, FSM_PREVOTE,
	 "no STORE of a primary for two and a half heartbeats, or a hand-over (rule 1)"},
	{FSM_BIT(FSM_PREVOTE), FSM_E_MAJORITY, FSM_CANDIDATE,
	 "a majority would vote and the newest record read names this copy (rule 1)"},
	{FSM_BIT(FSM_CANDIDATE), FSM_E_MAJORITY, FSM_CLAIM,
	 "a majority voted and the newest record read names this copy (rule 2)"},
	{FSM_SEEKING, FSM_E_REFUSED, FSM_STANDBY,
	 "no majority in time, or the newest record names other copies (rules 1 and 2)"},
	{FSM_SEEKING, FSM_E_PRIMARY_HEARD, FSM_STANDBY,
	 "there is a primary of this term or a later one (rule 4)"},
	{FSM_BIT(FSM_CLAIM), FSM_E_CHOSEN, FSM_PROMOTE,
	 "the claim is chosen and the lease is valid (rule 3)"},
	{FSM_BIT(FSM_CLAIM), FSM_E_LEASE_LOST, FSM_STANDBY,
	 "the claim was not chosen in time; PostgreSQL was not touched (rule 5)"},
	{FSM_BIT(FSM_CLAIM), FSM_E_SUPERSEDED, FSM_STANDBY,
	 "a higher term has a primary; PostgreSQL was not touched (rule 4)"},
	{FSM_BIT(FSM_CLAIM), FSM_E_NOT_DURABLE, FSM_STANDBY, "the node cannot write what it promises"},
	{FSM_BIT(FSM_PROMOTE) | FSM_BIT(FSM_RESTART), FSM_E_PG_PRIMARY, FSM_SETTLE,
	 "PostgreSQL runs as primary, its gate closed (rules 3 and 12)"},
	{FSM_RUNNING, FSM_E_PG_NOT_PRIMARY, FSM_PROMOTE,
	 "PostgreSQL came up but is not primary: promote it again (rule 12)"},
	{FSM_BIT(FSM_SETTLE), FSM_E_CHOSEN_WITH_PEER, FSM_IN_SYNC,
	 "the record is chosen and names the standby (rule 3)"},
	{FSM_BIT(FSM_SETTLE), FSM_E_CHOSEN_ALONE, FSM_ALONE,
	 "the record is chosen and names no standby (rule 7)"},
	{FSM_BIT(FSM_SETTLE) | FSM_BIT(FSM_IN_SYNC) | FSM_JOINING, FSM_E_PEER_GONE, FSM_LEAVING,
	 "the standby does not answer, or an operator wants it out: a record without it is needed "
	 "(rules 7 and 8)"},
	{FSM_BIT(FSM_LEAVING), FSM_E_CHOSEN_ALONE, FSM_ALONE,
	 "the record without the standby is chosen: the gate may be told (rule 7)"},
	{FSM_BIT(FSM_ALONE), FSM_E_PEER_NEAR, FSM_JOIN_GATE,
	 "a standby's stream is near the end: the gate shall wait for it (rule 8 a)"},
	{FSM_BIT(FSM_JOIN_GATE), FSM_E_GATE_WAITS, FSM_JOIN_FLUSH,
	 "the gate waits and said how far it has released (rule 8 b)"},
	{FSM_BIT(FSM_JOIN_FLUSH), FSM_E_PEER_HOLDS, FSM_JOIN_NAME,
	 "the standby holds durably all that was released (rule 8 c)"},
	{FSM_BIT(FSM_JOIN_NAME), FSM_E_CHOSEN_WITH_PEER, FSM_IN_SYNC,
	 "the record that names the standby is chosen (rule 8 d)"},
	{FSM_RUNNING, FSM_E_RETERM, FSM_SETTLE,
	 "a voter had promised this term or a higher one: a new term, PostgreSQL untouched (rule 6)"},
	{FSM_BIT(FSM_PROMOTE), FSM_E_RETERM, FSM_PROMOTE,
	 "the same while PostgreSQL is being promoted: it is asked again under the new term (rules 6 "
	 "and 12)"},
	{FSM_BIT(FSM_RESTART), FSM_E_RETERM, FSM_RESTART,
	 "the same while PostgreSQL restarts: it is asked again under the new term (rules 6 and 12)"},
	{FSM_RUNNING, FSM_E_PG_DEAD, FSM_RESTART,
	 "PostgreSQL died under a valid lease: restart it here first (rule 12)"},
	{FSM_IN_TERM, FSM_E_HAND_OVER, FSM_HANDOVER,
	 "an operator asked for it, or this node is not fit to be primary (rule 14)"},
	{FSM_IN_TERM, FSM_E_LEASE_LOST, FSM_STOPPING, "the lease ran out (rules 5 and 11)"},
	{FSM_IN_TERM, FSM_E_SUPERSEDED, FSM_STOPPING,
	 "another node is primary of a higher term (rules 4 and 6)"},
	{FSM_IN_TERM, FSM_E_NOT_DURABLE, FSM_STOPPING,
	 "the node cannot write what it promises: it must not be primary"},
	{FSM_BIT(FSM_HANDOVER), FSM_E_LEASE_LOST, FSM_STOPPING,
	 "PostgreSQL's death was not confirmed in time: let the lease run out, release nothing (rule "
	 "14)"},
	{FSM_BIT(FSM_HANDOVER), FSM_E_NOT_DURABLE, FSM_STOPPING,
	 "stepping down cannot be made durable: release nothing (rule 14)"},
	{FSM_BIT(FSM_HANDOVER), FSM_E_PG_DEAD, FSM_STANDBY,
	 "every process of PostgreSQL is dead: the lease can be released (rule 14)"},
	{FSM_BIT(FSM_STANDBY), FSM_E_RESUME, FSM_SETTLE,
	 "tandemd restarted over a running primary whose term was never given up (rule 13)"},
	{FSM_BIT(FSM_STANDBY) | FSM_SEEKING | FSM_BIT(FSM_CLAIM) | FSM_BIT(FSM_REBUILD),
	 FSM_E_STRAY_PRIMARY, FSM_STOPPING,
	 "PostgreSQL runs as primary without the right to (rule 13)"},
	{FSM_BIT(FSM_STOPPING), FSM_E_PG_DEAD, FSM_STANDBY,
	 "PostgreSQL is no primary any more (rule 11)"},
	{FSM_BIT(FSM_STANDBY) | FSM_SEEKING, FSM_E_DIVERGED, FSM_REBUILD,
	 "the link refused, or an operator asked: this copy is rewound or seeded, as a new one (rules "
	 "15 "
	 "and 16)"},
	{FSM_BIT(FSM_REBUILD), FSM_E_REBUILT, FSM_STANDBY, "the rewind or seed is complete (rule 16)"},
};

static const char *const state_names[FSM_NSTATES] = {
	"witness",        "standby",         "rebuild", "pre-vote",  "candidate", "claim",
	"promote",        "settle",          "in sync", "leaving",   "alone",     "joining: gate",
	"joining: flush", "joining: record", "restart", "hand-over", "stopping"};

static const char *const event_names[FSM_NEVENTS] = {"suspect",
													 "majority",
													 "refused",
													 "primary heard",
													 "chosen",
													 "chosen with peer",
													 "chosen alone",
													 "PostgreSQL is primary",
													 "PostgreSQL is no primary",
													 "PostgreSQL is dead",
													 "peer gone",
													 "peer near",
													 "gate waits",
													 "peer holds X",
													 "re-term",
													 "superseded",
													 "lease lost",
													 "hand over",
													 "resume",
													 "stray primary",
													 "diverged",
													 "rebuilt",
													 "not durable"};

static const char *const msg_names[FSM_M_NTYPES] = {
	"PREVOTE", "PREVOTE-REPLY", "VOTE", "VOTE-REPLY", "STORE",     "STORE-REPLY",
	"CONTACT", "RELEASE",       "HINT", "READ",       "READ-REPLY"};

/* All edges, for documents and status; *n is set to their number. */
const FsmEdge *
fsm_edges(int *n)
{
	*n = (int) (sizeof(edges) / sizeof(edges[0]));
	return edges;
}

const char *
fsm_state_name(FsmState s)
{
	return (unsigned) s < FSM_NSTATES ? state_names[s] : "?";
}

const char *
fsm_event_name(FsmEvent e)
{
	return (unsigned) e < FSM_NEVENTS ? event_names[e] : "?";
}

const char *
fsm_msg_name(int type)
{
	return (unsigned) type < FSM_M_NTYPES ? msg_names[type] : "?";
}

/* ---------- timing ---------- */

/* V = (G - M) / k - S with k = 1.01, in microseconds, rounded down; may be negative. */
FsmTime
fsm_timing_v(const FsmTiming *t)
{
	return (t->lease - t->margin) * 100 / 101 - t->stop;
}

/*
 * Do these values keep two leases apart?  (SAFETY, Timing.)  Anything but FSM_TIMING_OK must be
 * refused at start.
 */
FsmTimingFault
fsm_check_timing(const FsmTiming *t)
{
	if (t->lease <= 0 || t->margin <= 0 || t->stop <= 0 || t->heartbeat <= 0 || t->validity <= 0)
		return FSM_TIMING_POSITIVE;
	if ((t->validity + t->stop) * 101 > (t->lease - t->margin) * 100)
		return FSM_TIMING_LEASE;
	if (t->heartbeat * 3 > t->validity)
		return FSM_TIMING_HEARTBEAT;
	return FSM_TIMING_OK;
}

/* The inequality that fails, for people. */
const char *
fsm_timing_text(FsmTimingFault fault)
{
	switch (fault)
	{
		case FSM_TIMING_OK:
			return "ok";
		case FSM_TIMING_POSITIVE:
			return "lease, margin, stop budget, heartbeat and V = (lease - margin) / 1.01 - stop "
				   "budget must be greater than 0";
		case FSM_TIMING_LEASE:
			return "(V + stop budget) * 1.01 + margin <= lease does not hold";
		case FSM_TIMING_HEARTBEAT:
			return "heartbeat <= V / 3 does not hold";
	}
	return "?";
}

/*
 * NULL if the configuration is safe, else what is wrong with it.  To be called before fsm_init().
 */
const char *
fsm_check_config(const FsmConfig *cfg)
{
	FsmTimingFault fault = fsm_check_timing(&cfg->timing);
	uint32_t all;

	if (fault != FSM_TIMING_OK)
		return fsm_timing_text(fault);
	if (cfg->nnodes < 1 || cfg->nnodes > FSM_MAX_NODES || cfg->self < 0 || cfg->self >= cfg->nnodes)
		return "number of nodes or own number out of range";
	all = (1u << cfg->nnodes) - 1;
	if ((cfg->voters & ~all) != 0 || (cfg->data & ~all) != 0 || cfg->data == 0)
		return "voters and data nodes must be nodes";
	if (fsm_count_bits(cfg->voters) < 2)
		return "at least two voters are needed";
	if (cfg->isolation_continue && (cfg->fence || fsm_count_bits(cfg->voters) > 2))
		return "on_isolation = continue is refused with a witness or a fence agent"; /* rule 20 */
	if (cfg->isolation_continue &&
		cfg->peer_timeout + cfg->timing.heartbeat >= cfg->timing.validity)
		return "with on_isolation = continue a silent peer must be dropped while the lease lasts: "
			   "peer_timeout + heartbeat < V = (lease - margin) / 1.01 - stop_budget does not hold";
	if (cfg->peer_timeout <= 0 || cfg->probe_timeout <= 0 || cfg->pg_retry <= 0)
		return "time-outs must be greater than 0";
	return NULL;
}

/*
 * NULL, or what a safe configuration does that its owner may not expect.
 *
 * With profile dr the primary is to go on whatever happens to the other site; but one of two voters
 * has no majority when the path is cut, and stops.
 */
const char *
fsm_config_warning(const FsmConfig *cfg)
{
	if (!cfg->any_dr || fsm_count_bits(cfg->voters) != 2 || cfg->isolation_continue)
		return NULL;
	if (cfg->fence)
		return "with two voters and a fence agent a primary that does not hear the other site "
			   "powers off the node there, and stops where it cannot.  "
			   "HINT: have a witness at the primary's site";
	return "with two voters a primary that does not hear the other site stops.  "
		   "HINT: have a witness at the primary's site, or set on_isolation = continue";
}

/* A STORE is expected every H; after two and a half of them the primary is suspected. */
FsmTime
fsm_suspicion(const FsmConfig *cfg)
{
	return cfg->timing.heartbeat * 5 / 2;
}

/* ---------- records ---------- */

/* Order of records: (term, seq). */
bool
fsm_rec_less(const FsmRec *a, const FsmRec *b)
{
	return a->term < b->term || (a->term == b->term && a->seq < b->seq);
}

/* eligible(rec, n) of SAFETY: does the record name this copy as primary or as standby in sync? */
bool
fsm_rec_names(const FsmRec *r, int node, uint64_t copy)
{
	return (r->primary == node && r->primary_copy == copy) ||
		   (r->peer == node && r->peer_copy == copy);
}

/* Does the node hold a term (it need not be chosen yet)? */
bool
fsm_is_holder(const Fsm *x)
{
	return IN_STATE(x, FSM_HOLDER);
}

/* ---------- actions ---------- */

/*
 * A new action of this type, zeroed, to be carried out at once.  The list is larger than any step
 * can fill; a full one is a defect, and its last entry is overwritten rather than memory behind
 * it.
 */
FsmAction *
fsm_act(Ctx *c, FsmActionType type)
{
	FsmActions *out = c->out;
	FsmAction *a = &out->a[out->n < FSM_MAX_ACTIONS ? out->n++ : FSM_MAX_ACTIONS - 1];

	memset(a, 0, sizeof(*a));
	a->type = type;
	return a;
}

static void
act_now(Ctx *c, const FsmAction *a)
{
	if (a->type == FSM_A_SEND && a->u.msg.to == c->cfg->self)
	{
		if (c->nself < FSM_MAX_SELF)
			c->self[c->nself++] = a->u.msg;
		return;
	}
	*fsm_act(c, a->type) = *a;
}

/*
 * An action that must not happen before all durable state of this moment is durable.  When the
 * queue is nearly full messages are dropped, as any datagram may be; other actions have room
 * left.
 */
void
fsm_act_durable(Ctx *c, const FsmAction *a)
{
	Fsm *x = c->x;

	if (x->mute && a->type == FSM_A_SEND)
		return;
	if (x->durable == x->image || MUT(reply_before_persist))
	{
		act_now(c, a);
		return;
	}
	if (x->nheld >= (a->type == FSM_A_SEND ? FSM_MAX_HELD - 16 : FSM_MAX_HELD))
	{
		if (a->type != FSM_A_SEND)
			fsm_alarm(c, "defect: too many actions wait for durable state");
		return;
	}
	x->held[x->nheld++] = (FsmHeld){.need = x->image, .action = *a};
}

/* Actions of this type that still wait for durable state are not wanted any more. */
void
fsm_forget(Ctx *c, FsmActionType type)
{
	Fsm *x = c->x;
	int n = 0;

	for (int i = 0; i < x->nheld; i++)
		if (x->held[i].action.type != type)
			x->held[n++] = x->held[i];
	x->nheld = n;
}

/* The message m from this node; m->to may be the node itself. */
void
fsm_send(Ctx *c, const FsmMsg *m)
{
	FsmAction a;

	memset(&a, 0, sizeof(a));
	a.type = FSM_A_SEND;
	a.u.msg = *m;
	a.u.msg.from = (int8_t) c->cfg->self;
	a.u.msg.boot = c->x->boot;
	fsm_act_durable(c, &a);
}

void
fsm_alarm(Ctx *c, const char *text)
{
	fsm_act(c, FSM_A_ALARM)->u.text = text;
}

void
fsm_reply(Ctx *c, bool ok, const char *text)
{
	FsmAction *a = fsm_act(c, FSM_A_REPLY);

	a->ok = ok;
	a->u.text = text;
}

/* Pseudo-random time in [0, below): spreads candidacies.  The seed comes from the caller. */
FsmTime
fsm_random(Ctx *c, FsmTime below)
{
	uint32_t r = c->x->rng;

	r ^= r << 13;
	r ^= r >> 17;
	r ^= r << 5;
	c->x->rng = r;
	return below > 0 ? (FsmTime) (r % (uint64_t) below) : 0;
}

/* Take the edge of this event, as the table says. */
void
fsm_move(Ctx *c, FsmEvent event)
{
	Fsm *x = c->x;

	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
	{
		if (edges[i].event == event && (edges[i].from & FSM_BIT(x->state)) != 0)
		{
			x->state = edges[i].to;
			fsm_act(c, FSM_A_EDGE)->u.edge = &edges[i];
			return;
		}
	}
	fsm_alarm(c, "defect: no edge for this event in this state");
}

/* ---------- durability ---------- */

/* Durable state is being changed in this step; what follows waits for it. */
void
fsm_dirty(Ctx *c)
{
	if (!c->dirty)
	{
		c->dirty = true;
		c->x->image++;
	}
}

static void
ask_for_durability(Ctx *c, bool retry)
{
	Fsm *x = c->x;
	FsmAction *a;

	if (x->writing != 0 || x->durable == x->image || (x->mute && !retry))
		return;
	x->writing = x->image;
	a = fsm_act(c, FSM_A_PERSIST);
	a->seq = x->image;
	a->u.image = x->d;
}

static void
persisted(Ctx *c, uint64_t seq, bool ok)
{
	Fsm *x = c->x;
	int n = 0;

	if (seq != x->writing)
		return;
	x->writing = 0;
	if (!ok)
	{
		x->nheld = 0;
		if (!x->mute)
			fsm_alarm(c, "cannot write the voter's state: not voting, and no primary");
		x->mute = true;
		if (IN_STATE(x, FSM_HOLDER | FSM_BIT(FSM_HANDOVER)))
			holder_step_down(c, FSM_E_NOT_DURABLE);
		return;
	}
	x->durable = seq;
	x->mute = x->mute && x->durable != x->image;
	while (n < x->nheld && x->held[n].need <= seq)
		act_now(c, &x->held[n++].action);
	x->nheld -= n;
	memmove(x->held, x->held + n, sizeof(x->held[0]) * (size_t) x->nheld);
}

/* ---------- the step ---------- */

static void
message(Ctx *c, const FsmMsg *m)
{
	if (m->from < 0 || m->from >= c->cfg->nnodes || m->to != c->cfg->self)
		return;
	if (m->from != c->cfg->self)
		fsm_fence_heard(c, m);
	switch ((FsmMsgType) m->type)
	{
		case FSM_M_PREVOTE:
		case FSM_M_VOTE:
		case FSM_M_STORE:
		case FSM_M_RELEASE:
		case FSM_M_READ:
			voter_message(c, m);
			break;
		case FSM_M_READ_REPLY:
			voter_read_reply(c, m);
			break;
		case FSM_M_PREVOTE_REPLY:
			candidate_prevote_reply(c, m);
			break;
		case FSM_M_VOTE_REPLY:
			if (c->x->retermed && m->term == c->x->reterm_term)
				holder_reterm_vote(c, m);
			else
				candidate_vote_reply(c, m);
			break;
		case FSM_M_STORE_REPLY:
			holder_store_reply(c, m);
			break;
		case FSM_M_CONTACT:
			fsm_fence_contacted(c, m);
			break;
		case FSM_M_HINT:
			candidate_hint(c, m);
			break;
		case FSM_M_NTYPES:
			break;
	}
}

static void
operator_command(Ctx *c, const FsmInput *in)
{
	Fsm *x = c->x;

	switch (in->op)
	{
		case FSM_OP_SWITCHOVER:
			holder_switchover(c, in->node);
			break;
		case FSM_OP_DROP_PEER:
			if (x->state != FSM_IN_SYNC)
				fsm_reply(c, false, "refused: this node is not a primary in sync");
			else
			{
				fsm_reply(c, true, "the standby will be left out once the voters agree");
				holder_drop_peer(c);
			}
			break;
		case FSM_OP_READMIT:
			if (!x->d.admitted)
			{
				fsm_dirty(c);
				x->d.admitted = true;
			}
			fsm_reply(c, true, "this voter votes again");
			break;
		case FSM_OP_PAUSE:
			x->paused = true;
			fsm_reply(c, true,
					  "paused: nothing is failed over, restarted, left or joined from here");
			break;
		case FSM_OP_CONTINUE:
			x->paused = false;
			fsm_reply(c, true, "resumed");
			break;
		case FSM_OP_PROMOTE:
		case FSM_OP_FORCE:
		case FSM_OP_CONFIRM:
			candidate_operator(c, in);
			break;
	}
}

/*
 * Whether this node has the kernel's watchdog that is required.  Without it the node asks for no
 * votes, and starts no primary, not even one of a lease that is over; a primary leaves in
 * holder_tick().
 */
static void
device(Ctx *c, bool ok)
{
	c->x->unguarded = !ok;
	if (ok)
		return;
	fsm_forget(c, FSM_A_PG_RUN_PRIMARY);
	if (IN_STATE(c->x, FSM_SEEKING))
		candidate_give_up(c);
}

static void
next_timer(Ctx *c)
{
	Fsm *x = c->x;
	const FsmTiming *t = &c->cfg->timing;
	FsmTime at = c->now + (x->state == FSM_WITNESS ? 4 : 1) * t->heartbeat / 2;
	FsmTime wanted[] = {x->last_store + t->heartbeat,     x->lease_until, x->deadline, x->retry_at,
						x->heard + fsm_suspicion(c->cfg), x->stop_at,     x->admit_at};

	if (x->state != FSM_WITNESS)
	{
		for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
			if (wanted[i] > c->now && wanted[i] < at)
				at = wanted[i];
	}
	if (x->timer > c->now && x->timer <= at)
		return;
	x->timer = at;
	fsm_act(c, FSM_A_TIMER)->at = at;
}

static void
begin(Ctx *c, const FsmConfig *cfg, Fsm *x, FsmTime now, FsmActions *out)
{
	out->n = 0;
	c->cfg = cfg;
	c->x = x;
	c->now = now;
	c->out = out;
	c->dirty = false;
	c->nself = 0;
}

static void
finish(Ctx *c, bool retry)
{
	voter_readmit(c);
	if (c->x->state != FSM_WITNESS)
	{
		fsm_fence_tick(c);
		holder_tick(c);
		candidate_tick(c);
		fsm_pg_tick(c);
	}
	for (int i = 0; i < c->nself; i++)
		message(c, &c->self[i]);
	ask_for_durability(c, retry);
	next_timer(c);
}

/*
 * Start the life of one tandemd.
 *
 * "durable" is what was read from disk (admitted = false if the voter's state was lost, rule 17).
 * boot identifies the boot of the host and instance grows with every start of tandemd
 * (CLOCK_BOOTTIME will do). seed may be anything.  out receives the first actions.  The
 * configuration must have passed fsm_check_config().
 */
void
fsm_init(const FsmConfig *cfg, Fsm *x, const FsmDurable *durable, uint64_t boot, uint64_t instance,
		 uint32_t seed, FsmTime now, FsmActions *out)
{
	Ctx c;

	memset(x, 0, sizeof(*x));
	begin(&c, cfg, x, now, out);
	x->d = *durable;
	x->boot = boot;
	x->instance = instance;
	x->rng = seed != 0 ? seed : 1;
	x->state = FSM_STANDBY;
	if ((cfg->data & (1u << cfg->self)) == 0)
		x->state = FSM_WITNESS;
	else if (x->d.rebuilding)
		x->state = FSM_REBUILD;
	x->grant_to = FSM_NOBODY;
	x->hold_until = now + cfg->timing.lease; /* rule 17 */
	x->heard = now;
	x->primary = FSM_NOBODY;
	x->wanted = FSM_NOBODY;
	x->pg_follows = FSM_NOBODY;
	x->pg_asked = now - cfg->pg_retry;
	x->pg_seen = now;
	x->fence_node = FSM_NOBODY;
	x->max_prom = x->d.prom;
	x->best.primary = x->best.peer = FSM_NOBODY;
	x->cur = x->reterm_best = x->best;
	if (x->state != FSM_WITNESS)
		fsm_act(&c, FSM_A_CELL_FLOOR)->term = x->d.prom;
	finish(&c, false);
}

/*
 * One step.  now must not go back between calls.  out is overwritten with the actions, to be
 * carried out in order.
 */
void
fsm_step(const FsmConfig *cfg, Fsm *x, const FsmInput *in, FsmTime now, FsmActions *out)
{
	Ctx c;

	begin(&c, cfg, x, now, out);
	holder_expire(&c);
	switch (in->type)
	{
		case FSM_I_TIMER:
			break;
		case FSM_I_MSG:
			if (in->msg.from != cfg->self)
				message(&c, &in->msg);
			break;
		case FSM_I_PERSISTED:
			persisted(&c, in->seq, in->ok);
			break;
		case FSM_I_PG:
			fsm_pg_status(&c, &in->pg);
			break;
		case FSM_I_DIVERGED:
			fsm_pg_diverged(&c, in->fresh);
			break;
		case FSM_I_REBUILT:
			fsm_pg_rebuilt(&c, in->ok);
			break;
		case FSM_I_FENCE:
			fsm_fence_result(&c, in);
			break;
		case FSM_I_DEVICE:
			device(&c, in->ok);
			break;
		case FSM_I_OPERATOR:
			operator_command(&c, in);
			break;
	}
	finish(&c, in->type == FSM_I_TIMER);
}

/*
 * Why this node would not become primary now, for status; NULL if nothing is in the way.
 */
const char *
fsm_why_not(const FsmConfig *cfg, const Fsm *x, FsmTime now)
{
	if ((cfg->data & (1u << cfg->self)) == 0)
		return "a witness has no database";
	if (x->d.rebuilding)
		return "a rewind or seed is not complete";
	if (!x->d.admitted)
		return "this voter lost its state and is not admitted yet";
	if (x->mute)
		return "the voter's state cannot be written";
	if (x->paused)
		return "paused by an operator";
	if (x->unguarded)
		return "the kernel's watchdog is required and cannot be had";
	if (x->pg.state == FSM_PG_UNKNOWN || x->pg.state == FSM_PG_BROKEN)
		return "PostgreSQL cannot be started here";
	if (!fsm_rec_names(&x->d.rec, cfg->self, x->d.copy_id))
		return "the newest record known here does not name this copy: it may lack acknowledged "
			   "commits";
	if (x->grant_to >= 0 && x->grant_to != cfg->self && x->grant_until > now)
		return "the primary's lease has not run out";
	return NULL;
}
