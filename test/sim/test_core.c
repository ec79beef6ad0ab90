/*
 * test_core.c
 *		Direct tests of the decision core and of the gate's rule: what a caller may rely on.
 *
 * The simulator shows that the rules hold together; this shows single promises of the interface,
 * above all that no answer leaves before what it depends on is durable.  Built without mutations.
 * Ends with "N passed, N failed".
 */
#include "fsm.h"
#include "link_rule.h"

#include <stdio.h>
#include <string.h>

#define MS  INT64_C(1000)
#define SEC INT64_C(1000000)

static int passed;
static int failed;

static void
check(bool ok, const char *what)
{
	if (ok)
		passed++;
	else
	{
		failed++;
		printf("FAILED: %s\n", what);
	}
}

/* ---------- one node under test ---------- */

typedef struct Node
{
	FsmConfig cfg;
	Fsm x;
	FsmTime now;
	FsmActions out;
	uint64_t writing; /* image that the core waits for */
	bool by_hand;     /* the test completes writes itself */
} Node;

/*
 * Find an action; a message type for FSM_A_SEND (-1 = any).  NULL if it is not in the last step's
 * list.
 */
static const FsmAction *
find(const Node *n, FsmActionType type, int msg)
{
	for (int k = 0; k < n->out.n; k++)
		if (n->out.a[k].type == type && (msg < 0 || n->out.a[k].u.msg.type == msg))
			return &n->out.a[k];
	return NULL;
}

/*
 * One step; unless the test does it by hand, writes succeed at once.  n->out has all their
 * actions.
 */
static void
step(Node *n, const FsmInput *in)
{
	FsmInput next = *in;
	FsmActions all;
	const FsmAction *p;

	all.n = 0;
	for (;;)
	{
		fsm_step(&n->cfg, &n->x, &next, n->now, &n->out);
		p = find(n, FSM_A_PERSIST, -1);
		if (p != NULL)
			n->writing = p->seq;
		for (int k = 0; k < n->out.n && all.n < FSM_MAX_ACTIONS; k++)
			all.a[all.n++] = n->out.a[k];
		if (p == NULL || n->by_hand)
			break;
		memset(&next, 0, sizeof(next));
		next.type = FSM_I_PERSISTED;
		next.seq = n->writing;
		next.ok = true;
	}
	n->out = all;
}

static void
written(Node *n, bool ok)
{
	FsmInput in = {.type = FSM_I_PERSISTED};

	in.seq = n->writing;
	in.ok = ok;
	step(n, &in);
}

static void
timer(Node *n, FsmTime later)
{
	FsmInput in;

	n->now += later;
	memset(&in, 0, sizeof(in));
	in.type = FSM_I_TIMER;
	step(n, &in);
}

static void
message(Node *n, const FsmMsg *m)
{
	FsmInput in = {.type = FSM_I_MSG};

	in.msg = *m;
	in.msg.to = (int8_t) n->cfg.self;
	step(n, &in);
}

static FsmMsg
msg(FsmMsgType type, int from, uint64_t term)
{
	FsmMsg m;

	memset(&m, 0, sizeof(m));
	m.type = (uint8_t) type;
	m.from = (int8_t) from;
	m.fenced = FSM_NOBODY;
	m.term = term;
	m.boot = (uint64_t) from + 100;
	return m;
}

static void
pg_report(Node *n, FsmPgState state)
{
	FsmInput in = {.type = FSM_I_PG};

	in.pg.state = state;
	in.pg.peer = FSM_NOBODY;
	in.pg.term = n->x.term;
	in.pg.require = true;
	in.pg.cell_term = n->x.term;
	in.pg.cell_deadline = n->x.lease_until;
	step(n, &in);
}

static FsmDurable
first_state(void)
{
	FsmDurable d;

	memset(&d, 0, sizeof(d));
	d.prom_to = FSM_NOBODY;
	d.rec = (FsmRec){.seq = 1, .primary = 0, .primary_copy = 1, .peer = 1, .peer_copy = 2};
	d.admitted = true;
	d.copy_id = 1;
	return d;
}

static void
start(Node *n, int self, const FsmDurable *d)
{
	memset(n, 0, sizeof(*n));
	n->now = 10 * SEC;
	n->cfg.self = self;
	n->cfg.nnodes = 3;
	n->cfg.voters = 7;
	n->cfg.data = 3;
	n->cfg.timing =
		(FsmTiming){.lease = 1500 * MS, .margin = 50 * MS, .stop = 400 * MS, .heartbeat = 300 * MS};
	n->cfg.timing.validity = fsm_timing_v(&n->cfg.timing);
	n->cfg.peer_timeout = 600 * MS;
	n->cfg.probe_timeout = 4 * SEC;
	n->cfg.pg_retry = SEC;
	n->cfg.restart_attempts = 3;
	n->cfg.restart_window = 10 * SEC;
	fsm_init(&n->cfg, &n->x, d, 7, 1, 1, n->now, &n->out);
}

/* A data node that has just sent its votes. */
static void
start_candidate(Node *n)
{
	FsmDurable d = first_state();
	FsmMsg yes;

	start(n, 0, &d);
	pg_report(n, FSM_PG_STANDBY);
	timer(n, 2 * SEC);
	yes = msg(FSM_M_PREVOTE_REPLY, 2, n->x.cand_term);
	yes.ok = true;
	yes.rec = d.rec;
	n->by_hand = true;
	message(n, &yes);
}

static FsmMsg
vote_of_witness(const Node *n)
{
	FsmMsg m = msg(FSM_M_VOTE_REPLY, 2, n->x.cand_term);

	m.ok = true;
	m.rec = first_state().rec;
	m.prom = m.term;
	return m;
}

static void
start_claim(Node *n)
{
	FsmMsg yes;

	start_candidate(n);
	n->by_hand = false;
	written(n, true);
	yes = vote_of_witness(n);
	message(n, &yes);
}

/* The witness accepts the node's last STORE. */
static void
store_accepted(Node *n)
{
	FsmMsg m = msg(FSM_M_STORE_REPLY, 2, n->x.term);

	m.ok = true;
	m.rec = n->x.cur;
	m.sent = n->x.last_store;
	m.prom = m.term;
	m.echo = 7;
	message(n, &m);
}

static void
start_primary(Node *n)
{
	start_claim(n);
	store_accepted(n);
	pg_report(n, FSM_PG_PRIMARY);
}

/* ---------- tests ---------- */

static void
test_timing(void)
{
	FsmTiming t = {.lease = 5 * SEC, .margin = 100 * MS, .stop = SEC, .heartbeat = 500 * MS};

	t.validity = fsm_timing_v(&t);
	check(t.validity / 1000 == 3851, "lease 5: V is 3.85 s");
	check(fsm_check_timing(&t) == FSM_TIMING_OK, "the defaults for a LAN are safe");
	t.validity += 10 * MS;
	check(fsm_check_timing(&t) == FSM_TIMING_LEASE, "a longer V is refused");
	t = (FsmTiming){.lease = 1500 * MS, .margin = 50 * MS, .stop = 400 * MS, .heartbeat = 500 * MS};
	t.validity = fsm_timing_v(&t);
	check(t.validity / 1000 == 1035, "lease 1.5: V is 1.036 s");
	check(fsm_check_timing(&t) == FSM_TIMING_HEARTBEAT, "heartbeat 0.5 is refused with lease 1.5");
	t.heartbeat = 345 * MS;
	check(fsm_check_timing(&t) == FSM_TIMING_OK, "heartbeat 0.345 is allowed with it");
	t.margin = 0;
	check(fsm_check_timing(&t) == FSM_TIMING_POSITIVE, "no margin is refused");
}

static void
test_config(void)
{
	Node n;
	FsmDurable d = first_state();

	start(&n, 0, &d);
	check(fsm_check_config(&n.cfg) == NULL, "two nodes and a witness are a configuration");
	n.cfg.isolation_continue = true;
	check(fsm_check_config(&n.cfg) != NULL, "rule 20: continue is refused with a witness");
	n.cfg.voters = 3;
	check(fsm_check_config(&n.cfg) == NULL, "rule 20: continue is allowed without");
	n.cfg.peer_timeout = 800 * MS;
	check(fsm_check_config(&n.cfg) != NULL,
		  "rule 20: continue is refused where the lease would end before the peer is dropped");
	n.cfg.peer_timeout = 600 * MS;
	n.cfg.fence = true;
	check(fsm_check_config(&n.cfg) != NULL, "rule 20: continue is refused with a fence agent");
	n.cfg.isolation_continue = false;
	n.cfg.voters = 1;
	check(fsm_check_config(&n.cfg) != NULL, "one voter is refused");

	start(&n, 0, &d);
	n.cfg.voters = 3;
	check(fsm_config_warning(&n.cfg) == NULL, "profile ha: no warning of path cuts");
	n.cfg.any_dr = true;
	check(fsm_config_warning(&n.cfg) != NULL, "profile dr: two voters stop at a path cut");
	n.cfg.fence = true;
	check(fsm_config_warning(&n.cfg) != NULL, "profile dr: or fence");
	n.cfg.fence = false;
	n.cfg.isolation_continue = true;
	check(fsm_config_warning(&n.cfg) == NULL, "profile dr: but with on_isolation = continue");
	n.cfg.isolation_continue = false;
	n.cfg.voters = 7;
	check(fsm_config_warning(&n.cfg) == NULL, "profile dr: and with a witness");
}

static void
test_answers_wait_for_the_disk(void)
{
	Node n;
	FsmDurable d = first_state();
	FsmMsg vote = msg(FSM_M_VOTE, 0, 5);
	FsmMsg pre = msg(FSM_M_PREVOTE, 0, 6);

	start(&n, 2, &d);
	n.by_hand = true;
	n.now += 2 * SEC;
	message(&n, &vote);
	check(find(&n, FSM_A_PERSIST, -1) != NULL, "a vote is to be written");
	check(find(&n, FSM_A_SEND, -1) == NULL, "no answer before it is written");
	message(&n, &pre);
	check(find(&n, FSM_A_SEND, -1) == NULL, "nor one that could show it");
	written(&n, true);
	check(find(&n, FSM_A_SEND, FSM_M_VOTE_REPLY) != NULL, "the answer follows the write");
	check(find(&n, FSM_A_SEND, FSM_M_PREVOTE_REPLY) != NULL, "and the later one too");
	vote.term = 7;
	message(&n, &vote);
	vote.term = 8;
	message(&n, &vote);
	check(find(&n, FSM_A_PERSIST, -1) == NULL, "one image is in flight at a time");
	written(&n, true);
	check(find(&n, FSM_A_SEND, FSM_M_VOTE_REPLY)->u.msg.term == 7,
		  "term 7 is durable and answered");
	check(find(&n, FSM_A_PERSIST, -1)->u.image.prom == 8, "then term 8 is written");
}

static void
test_failed_write(void)
{
	Node n;
	FsmDurable d = first_state();
	FsmMsg vote = msg(FSM_M_VOTE, 0, 5);

	start(&n, 2, &d);
	n.by_hand = true;
	n.now += 2 * SEC;
	message(&n, &vote);
	written(&n, false);
	check(find(&n, FSM_A_SEND, -1) == NULL, "no answer after a failed write");
	check(find(&n, FSM_A_ALARM, -1) != NULL, "but an alarm");
	vote.term = 6;
	message(&n, &vote);
	check(find(&n, FSM_A_SEND, -1) == NULL && find(&n, FSM_A_PERSIST, -1) == NULL,
		  "a voter that cannot write is silent");
	timer(&n, SEC);
	check(find(&n, FSM_A_PERSIST, -1) != NULL, "it tries to write again with the next timer");
	written(&n, true);
	vote.term = 7;
	message(&n, &vote);
	written(&n, true);
	check(find(&n, FSM_A_SEND, FSM_M_VOTE_REPLY) != NULL, "and votes again once it can");
}

static void
test_own_vote_counts_when_durable(void)
{
	Node n;
	FsmMsg yes;

	start_candidate(&n);
	check(n.x.state == FSM_CANDIDATE, "a majority would vote: candidate");
	check(find(&n, FSM_A_SEND, FSM_M_VOTE) != NULL, "it asks for votes");
	yes = vote_of_witness(&n);
	message(&n, &yes);
	check(n.x.state == FSM_CANDIDATE, "the own vote is not on disk: no majority yet");
	written(&n, true);
	check(n.x.state == FSM_CLAIM, "with it there is one");
	check(find(&n, FSM_A_SEND, FSM_M_STORE) == NULL, "the claim is stored here first");
	written(&n, true);
	check(find(&n, FSM_A_SEND, FSM_M_STORE) != NULL, "then sent");
	check(find(&n, FSM_A_SEND, FSM_M_STORE)->u.msg.rec.peer == 1, "rule 3: nobody is dropped");
}

static void
test_voter_restart(void)
{
	Node n;
	FsmDurable d = first_state();
	FsmMsg pre = msg(FSM_M_PREVOTE, 1, 4);
	const FsmAction *a;

	d.prom = 3;
	d.prom_to = 0;
	start(&n, 2, &d);
	message(&n, &pre);
	a = find(&n, FSM_A_SEND, FSM_M_PREVOTE_REPLY);
	check(a != NULL && !a->u.msg.ok && a->u.msg.wait == 1500 * MS, "rule 17: another waits for G");
	pre.from = 0;
	message(&n, &pre);
	a = find(&n, FSM_A_SEND, FSM_M_PREVOTE_REPLY);
	check(a != NULL && a->u.msg.ok, "rule 17: the promised one is served at once");
	pre.from = 1;
	n.now += 1500 * MS;
	message(&n, &pre);
	a = find(&n, FSM_A_SEND, FSM_M_PREVOTE_REPLY);
	check(a != NULL && a->u.msg.ok, "rule 17: after G anyone is");
}

static void
test_rare_edges(void)
{
	Node n;
	FsmMsg store;
	bool asked = false;

	start_claim(&n);
	check(n.x.state == FSM_CLAIM, "claim");
	store = msg(FSM_M_STORE, 1, n.x.term + 1);
	store.rec = (FsmRec){.term = store.term, .seq = 1, .primary = 1, .primary_copy = 2, .peer = 0};
	message(&n, &store);
	check(n.x.state == FSM_STANDBY && find(&n, FSM_A_PG_KILL, -1) == NULL,
		  "a claim gives way to a higher term, PostgreSQL untouched");

	start_primary(&n);
	check(n.x.state == FSM_IN_SYNC, "primary, in sync");
	pg_report(&n, FSM_PG_STANDBY);
	check(n.x.state == FSM_PROMOTE, "rule 12: PostgreSQL came up as a standby");
	for (int k = 0; k < 5 && !asked; k++)
	{
		timer(&n, 300 * MS);
		asked = find(&n, FSM_A_PG_RUN_PRIMARY, -1) != NULL;
		store_accepted(&n);
	}
	check(asked, "rule 12: its promotion is tried again");

	start_primary(&n);
	n.x.pg.peers[1] = (FsmPgPeer){.session = 1, .copy = 2, .flush = 1};
	{
		FsmInput in = {.type = FSM_I_OPERATOR};

		in.op = FSM_OP_SWITCHOVER;
		in.node = FSM_NOBODY;
		step(&n, &in);
	}
	check(n.x.state == FSM_HANDOVER && find(&n, FSM_A_VIP_REMOVE, -1) != NULL,
		  "switchover: the VIP goes first");
	n.by_hand = true;
	store = msg(FSM_M_STORE, 1, n.x.term + 1);
	store.rec = (FsmRec){.term = store.term, .seq = 1, .primary = 1, .primary_copy = 2, .peer = 0};
	message(&n, &store);
	written(&n, false);
	check(n.x.state == FSM_STOPPING, "a hand-over that cannot be written is no hand-over");
	pg_report(&n, FSM_PG_DOWN);
	check(find(&n, FSM_A_SEND, FSM_M_RELEASE) == NULL, "rule 14: and releases nothing");
}

static void
test_hung_standby(void)
{
	FsmDurable d = first_state();
	Node n;
	FsmInput in = {.type = FSM_I_PG};

	in.pg.state = FSM_PG_STANDBY;
	in.pg.peer = FSM_NOBODY;
	start(&n, 1, &d);
	step(&n, &in);
	check(find(&n, FSM_A_PG_KILL, -1) == NULL, "a standby that works is left alone");
	in.pg.hung = true;
	n.x.paused = true;
	step(&n, &in);
	check(find(&n, FSM_A_PG_KILL, -1) == NULL, "a hung one, too, while paused");
	n.x.paused = false;
	step(&n, &in);
	check(n.x.state == FSM_STANDBY && find(&n, FSM_A_PG_KILL, -1) != NULL,
		  "a hung standby is killed");
	pg_report(&n, FSM_PG_DOWN);
	timer(&n, 2 * SEC);
	check(find(&n, FSM_A_PG_RUN_STANDBY, -1) != NULL, "and started again");
	start(&n, 1, &d);
	in.pg.state = FSM_PG_UNKNOWN;
	step(&n, &in);
	check(find(&n, FSM_A_PG_KILL, -1) != NULL,
		  "one that was found hung, and does not report, is killed");
}

static void
test_lease_ends_first(void)
{
	Node n;

	start_primary(&n);
	n.now = n.x.lease_until;
	store_accepted(&n);
	check(n.x.state == FSM_STOPPING, "rule 5: a late answer does not revive a lease that ran out");
	check(find(&n, FSM_A_PG_KILL, -1) != NULL, "rule 11: PostgreSQL is killed");
	check(find(&n, FSM_A_CELL_LEASE, -1)->at == n.now,
		  "rule 11: the deadline is kept, not cleared");
}

static void
test_gate(void)
{
	Gate g = {.cell = {.term = 5, .deadline = 1000}};
	GatePeer peer = {.node = 1, .copy = 2, .flush = 80};
	GateCommand c = {
		.order = GATE_REQUIRE, .instance = 1, .cmd = 2, .term = 5, .peer = 1, .peer_copy = 2};

	check(!gate_may_start(&g.cell, 4, 0) && gate_may_start(&g.cell, 5, 0), "start: that very term");
	check(!gate_may_start(&g.cell, 5, 1000), "start: only under a lease");
	gate_init(&g, 5, 1, 70);
	check(!gate_advance(&g, 0, 100, &peer), "a new gate counts nobody's answers");
	check(gate_command(&g, &c) && g.waits_from == 0, "require is obeyed");
	check(!gate_advance(&g, 1000, 100, &peer), "rule 9: not without a lease");
	check(gate_advance(&g, 0, 100, &peer) && g.released == 80, "rule 9: min(local, peer)");
	check(!gate_open(&g, 0, &peer, false), "rule 10: not before core waits");
	check(gate_open(&g, 0, &peer, true) && !gate_open(&g, 0, &peer, true), "rule 10: opens once");
	peer = (GatePeer){.node = 1, .copy = 3, .flush = 100};
	check(!gate_advance(&g, 0, 100, &peer), "rule 16: another copy does not count");
	c.order = GATE_ALONE;
	c.cmd = 1;
	check(!gate_command(&g, &c) && g.require, "an overtaken command is not obeyed");
	c.cmd = 3;
	c.term = 4;
	check(!gate_command(&g, &c) && g.require, "nor one of another term");
	c.term = 5;
	check(gate_command(&g, &c) && gate_advance(&g, 0, 100, &peer), "alone: local flush is enough");
	check(!gate_must_stop(&g, 1399, 400) && gate_must_stop(&g, 1400, 400), "rule 11: deadline + S");
	g.cell.term = 6;
	check(!gate_advance(&g, 0, 120, &peer), "rule 9: the term of the lease must be the gate's");
}

static void
test_link(void)
{
	LinkIncarnation a[] = {{1, 1, 1, 0, 0}, {2, 2, 1, 100, 0}};
	LinkIncarnation b[] = {{1, 1, 1, 0, 0}, {2, 3, 1, 120, 0}, {3, 4, 1, 90, 0}};
	uint64_t at = 0;

	check(link_divergence(a, 2, a, 2) == LINK_NO_DIVERGENCE, "equal histories do not diverge");
	check(link_divergence(a, 1, b, 3) == 90, "rule 15: the lowest of all starts");
	check(link_divergence(a + 1, 1, a, 2) == LINK_NO_DIVERGENCE &&
			  link_divergence(a, 2, a + 1, 1) == LINK_NO_DIVERGENCE,
		  "a history without its oldest entries is the same");
	check(link_divergence(a + 1, 1, b + 1, 2) == 0, "without a common entry all is suspect");
	check(link_resume(a, 2, b, 3, 95, 80, 200, &at) == LINK_RESUME && at == 90, "resume there");
	check(link_resume(a, 2, b, 3, 95, 91, 200, &at) == LINK_REBUILD, "applied beyond: rebuild");
	check(link_resume(a, 2, a, 2, 150, 80, 140, &at) == LINK_WAIT, "the primary is behind: wait");
}

static void
test_edges(void)
{
	int n;
	const FsmEdge *e = fsm_edges(&n);
	uint32_t to = FSM_BIT(FSM_WITNESS) | FSM_BIT(FSM_STANDBY);
	bool unique = true;
	bool reasons = true;

	for (int i = 0; i < n; i++)
	{
		to |= FSM_BIT(e[i].to);
		reasons = reasons && e[i].reason != NULL && strlen(e[i].reason) > 10;
		for (int k = 0; k < i; k++)
			if (e[k].event == e[i].event && (e[k].from & e[i].from) != 0)
				unique = false;
	}
	check(unique, "no state has two edges for one event");
	check(reasons, "every edge has a reason");
	check(to == FSM_BIT(FSM_NSTATES) - 1, "every state can be reached");
}

static void
switch_to(Node *n, int node)
{
	FsmInput in = {.type = FSM_I_OPERATOR};

	in.op = FSM_OP_SWITCHOVER;
	in.node = node;
	step(n, &in);
}

/* What the extension says of an asynchronous standby that has everything, and of its gate. */
static void
async_report(Node *n, bool require)
{
	FsmInput in = {.type = FSM_I_PG};

	in.pg = n->x.pg;
	in.pg.peers[1] =
		(FsmPgPeer){.session = 1, .copy = 2, .flush = 10, .near_end = true, .async = true};
	in.pg.instance = n->x.instance;
	in.pg.cmd = n->x.cmd;
	in.pg.require = require;
	in.pg.peer = require ? 1 : FSM_NOBODY;
	in.pg.peer_copy = require ? 2 : 0;
	in.pg.waits_from = 10;
	in.pg.cell_deadline = n->x.lease_until;
	step(n, &in);
}

static void
test_async(void)
{
	Node n;

	start_primary(&n);
	async_report(&n, true);
	check(n.x.state == FSM_LEAVING, "rule 22: commits do not wait for an asynchronous standby");
	store_accepted(&n);
	async_report(&n, false);
	check(n.x.state == FSM_ALONE, "rule 22: it is left out of the record");
	async_report(&n, false);
	check(n.x.state == FSM_ALONE, "rule 22: and not joined");
	switch_to(&n, 2);
	check(!find(&n, FSM_A_REPLY, -1)->ok, "no switchover to a node that does not stream");
	switch_to(&n, FSM_NOBODY);
	check(!find(&n, FSM_A_REPLY, -1)->ok, "nor to a standby in sync that is not there");
	switch_to(&n, 1);
	check(find(&n, FSM_A_REPLY, -1)->ok, "a switchover to the asynchronous one is begun");
	async_report(&n, false);
	check(n.x.state == FSM_JOIN_GATE, "for that it is joined as any standby");
	async_report(&n, true);
	check(n.x.state == FSM_JOIN_NAME && n.x.cur.peer == 1, "named when it holds all");
	store_accepted(&n);
	check(n.x.state == FSM_IN_SYNC, "in sync");
	async_report(&n, true);
	check(n.x.state == FSM_HANDOVER && find(&n, FSM_A_PG_STOP, -1) != NULL, "then handed over to");

	start_primary(&n);
	async_report(&n, true);
	store_accepted(&n);
	async_report(&n, false);
	switch_to(&n, 1);
	for (int k = 0; k < 300 && n.x.wanted != FSM_NOBODY; k++)
	{
		timer(&n, 290 * MS);
		store_accepted(&n);
	}
	check(n.x.wanted == FSM_NOBODY && n.x.state == FSM_ALONE,
		  "a switchover whose node never catches up is given up");
}

static void
test_confirm(void)
{
	Node n;
	FsmDurable d = first_state();
	FsmInput in;
	bool sought = false;

	d.rec.peer = FSM_NOBODY;
	d.copy_id = 2;
	start(&n, 1, &d);
	n.cfg.dr = n.cfg.confirm_failover = true;
	n.cfg.confirm_timeout = 5 * SEC;
	pg_report(&n, FSM_PG_STANDBY);
	timer(&n, 2 * SEC);
	check(n.x.asked && find(&n, FSM_A_ALARM, -1) != NULL, "profile dr: an operator is asked");
	memset(&in, 0, sizeof(in));
	in.type = FSM_I_OPERATOR;
	in.op = FSM_OP_CONFIRM;
	step(&n, &in);
	for (int k = 0; k < 40; k++)
	{
		timer(&n, 300 * MS);
		sought = sought || n.x.state != FSM_STANDBY;
	}
	check(!sought, "profile dr: told to wait, it waits beyond confirm_timeout");
	in.ok = true;
	step(&n, &in);
	check(n.x.state == FSM_PREVOTE, "profile dr: confirmed, it asks for votes");

	start(&n, 1, &d);
	n.cfg.dr = n.cfg.confirm_failover = true;
	n.cfg.confirm_timeout = 5 * SEC;
	pg_report(&n, FSM_PG_STANDBY);
	timer(&n, 2 * SEC);
	timer(&n, 4900 * MS);
	check(n.x.state == FSM_STANDBY, "profile dr: nothing before confirm_timeout");
	timer(&n, 200 * MS);
	check(n.x.state == FSM_PREVOTE, "profile dr: after it, it asks for votes by itself");
	timer(&n, SEC);
	check(n.x.state == FSM_STANDBY && n.x.lossy, "profile dr: nobody answers: standby again");
	in.ok = false;
	step(&n, &in);
	sought = false;
	for (int k = 0; k < 20; k++)
	{
		timer(&n, 300 * MS);
		sought = sought || n.x.state != FSM_STANDBY;
	}
	check(!sought, "profile dr: told to wait after confirm_timeout, it waits, too");
	in.ok = true;
	step(&n, &in);
	n.cfg.confirm_failover = false;
	check(n.x.state == FSM_PREVOTE && n.x.lossy, "profile dr: and then an operator confirms");
	timer(&n, SEC);
	for (int k = 0; k < 4 && n.x.state == FSM_STANDBY; k++)
		timer(&n, 300 * MS);
	check(n.x.state == FSM_PREVOTE, "profile dr: ... which stays confirmed");

	/* a veto that comes up after confirm_timeout */
	start(&n, 1, &d);
	n.cfg.dr = n.cfg.confirm_failover = true;
	n.cfg.confirm_timeout = 5 * SEC;
	pg_report(&n, FSM_PG_STANDBY);
	timer(&n, 2 * SEC);
	timer(&n, 5100 * MS);
	timer(&n, SEC);
	n.cfg.confirm_failover = false;
	sought = false;
	for (int k = 0; k < 20; k++)
	{
		timer(&n, 300 * MS);
		sought = sought || n.x.state != FSM_STANDBY;
	}
	check(!sought, "profile dr: a veto after confirm_timeout counts");
}

/* Rule 22: confirm_without_majority = proceed, of three voters 0 is primary and 2 the witness. */
static void
proceed_after(Node *n, const FsmDurable *d, bool witness_answers, bool ok)
{
	FsmMsg m;

	start(n, 1, d);
	n->cfg.dr = n->cfg.confirm_failover = n->cfg.confirm_proceed = true;
	n->cfg.confirm_timeout = 5 * SEC;
	pg_report(n, FSM_PG_STANDBY);
	timer(n, 2 * SEC);
	timer(n, 5100 * MS);
	check(n->x.state == FSM_PREVOTE && n->x.forced == 0,
		  "proceed: a majority is sought in the ordinary way first");
	if (witness_answers)
	{
		memset(&m, 0, sizeof(m));
		m.type = FSM_M_PREVOTE_REPLY;
		m.from = 2;
		m.to = 1;
		m.term = n->x.cand_term;
		m.ok = ok;
		m.wait = ok ? 0 : SEC;
		m.rec = d->rec;
		m.prom = d->prom;
		message(n, &m);
	}
}

static void
test_proceed(void)
{
	Node n;
	FsmDurable d = first_state();

	d.rec.peer = FSM_NOBODY;
	d.copy_id = 2;
	proceed_after(&n, &d, false, false);
	timer(&n, SEC);
	check(n.x.state == FSM_PROMOTE && n.x.term >= 1000 && n.x.cur.lossy,
		  "proceed: nobody answers, and it claims a term far above");
	check(find(&n, FSM_A_ALARM, -1) != NULL, "proceed: ... loudly");

	proceed_after(&n, &d, true, true);
	check(n.x.state == FSM_CANDIDATE && n.x.forced == 0 && n.x.cand_term < 1000,
		  "proceed: with the witness' yes there is a majority, and nobody is taken to be off");

	proceed_after(&n, &d, true, false);
	for (int k = 0; k < 10; k++)
	{
		check(n.x.forced == 0 && n.x.state != FSM_CLAIM,
			  "proceed: the witness says no, so the primary lives");
		if (n.x.state == FSM_STANDBY)
			break;
		timer(&n, 300 * MS);
	}
	check(n.x.state == FSM_STANDBY, "proceed: it stays a standby");
}

/* Rules 19 and 22: two voters of profile dr, 0 is primary; contact = 0 confirmed the record. */
static void
start_dr_pair(Node *n, int self, bool contact)
{
	FsmDurable d = first_state();
	FsmMsg m;

	d.rec = (FsmRec){.term = 1, .seq = 1, .primary = 0, .primary_copy = 1, .peer = FSM_NOBODY};
	d.copy_id = (uint64_t) self + 1;
	d.prom = d.chosen_term = d.chosen_seq = 1;
	d.prom_to = 0;
	start(n, self, &d);
	n->cfg.voters = 0x3;
	n->cfg.dr = n->cfg.any_dr = n->cfg.fence = n->cfg.confirm_failover = true;
	n->cfg.confirm_timeout = 5 * SEC;
	memset(&m, 0, sizeof(m));
	m.type = FSM_M_CONTACT;
	m.from = (int8_t) (contact ? 1 - self : 2);
	m.boot = 77;
	m.echo = n->x.boot;
	m.term = 1;
	m.rec = d.rec;
	message(n, &m);
	pg_report(n, FSM_PG_STANDBY);
	timer(n, 2 * SEC);
}

static bool
asks_for_fence(Node *n)
{
	for (int k = 0; k < 8; k++)
	{
		timer(n, 100 * MS);
		if (find(n, FSM_A_FENCE, -1) != NULL)
			return true;
	}
	return false;
}

static void
fence_answers(Node *n, bool ok)
{
	FsmInput in = {.type = FSM_I_FENCE, .node = n->x.fence_node, .seq = n->x.fence_seq, .ok = ok};

	step(n, &in);
}

static void
test_dr_fence(void)
{
	Node n;

	start_dr_pair(&n, 1, true);
	check(n.x.asked && !asks_for_fence(&n), "dr and fence: nobody is powered off unconfirmed");
	timer(&n, 5 * SEC);
	check(asks_for_fence(&n), "dr and fence: after confirm_timeout the primary's host is");
	fence_answers(&n, true);
	check(n.x.state == FSM_PROMOTE && n.x.cur.lossy && n.x.forced == 0,
		  "dr and fence: confirmed off, the node claims at once, and the record says lossy");
	n.x.fenced = false;
	n.x.fencing = true;
	timer(&n, n.x.lease_until - n.now - 2 * MS);
	n.now += MS; /* the next heartbeat comes too late */
	fence_answers(&n, true);
	check(n.x.lease_until == n.now + n.cfg.timing.validity,
		  "rule 19: confirmed off before the lease ends, it is renewed at once");

	start_dr_pair(&n, 1, false);
	timer(&n, 5 * SEC);
	check(!asks_for_fence(&n), "rule 19: contact with a node that does not vote is none");

	start_dr_pair(&n, 0, false);
	check(n.x.state == FSM_PREVOTE && !asks_for_fence(&n),
		  "dr and fence: a primary that was off may not power off who may have taken over");
	start_dr_pair(&n, 0, false);
	n.cfg.any_dr = false;
	timer(&n, 200 * MS);
	check(!find(&n, FSM_A_FENCE, -1), "fence: not before the other had time to answer");
	check(asks_for_fence(&n), "profile ha: alone in the chosen record it may");

	start_dr_pair(&n, 1, true);
	n.cfg.confirm_proceed = true;
	timer(&n, 5 * SEC);
	check(asks_for_fence(&n), "proceed and fence: the fence agent is asked");
	for (int k = 0; k < 20; k++)
		timer(&n, 300 * MS);
	check(n.x.forced == 0 && n.x.term < 1000, "proceed and fence: its answer is waited for");
	fence_answers(&n, false);
	for (int k = 0; k < 8 && n.x.forced == 0; k++)
		timer(&n, 300 * MS);
	check(n.x.forced == 1 && n.x.cand_term >= 1000, "proceed and fence: then it goes without");
}

/* ---------- the kernel's watchdog, where it is required ---------- */

static void
device(Node *n, bool ok)
{
	FsmInput in = {.type = FSM_I_DEVICE};

	in.ok = ok;
	step(n, &in);
}

static bool
released(const Node *n)
{
	return find(n, FSM_A_SEND, FSM_M_RELEASE) != NULL;
}

static void
test_device_of_standby(void)
{
	Node n;
	FsmDurable d = first_state();
	bool sought = false;

	start(&n, 0, &d);
	pg_report(&n, FSM_PG_STANDBY);
	device(&n, false);
	for (int k = 0; k < 20; k++)
	{
		timer(&n, 300 * MS);
		sought = sought || n.x.state != FSM_STANDBY;
	}
	check(!sought, "device: without it a node asks for no votes");
	check(fsm_why_not(&n.cfg, &n.x, n.now) != NULL, "device: and says why");
	device(&n, true);
	check(n.x.state == FSM_PREVOTE, "device: with it, it does");
	device(&n, false);
	check(n.x.state == FSM_STANDBY, "device: lost meanwhile, it asks no more");

	start_claim(&n);
	device(&n, false);
	check(n.x.state == FSM_CLAIM, "device: lost during a claim");
	store_accepted(&n);
	check(n.x.state == FSM_HANDOVER && !find(&n, FSM_A_PG_RUN_PRIMARY, -1),
		  "device: the claim is chosen, and nothing promoted");
	check(!released(&n), "device: rule 14: nothing released before PostgreSQL is dead");
	pg_report(&n, FSM_PG_DOWN);
	check(n.x.state == FSM_STANDBY && released(&n) && find(&n, FSM_A_SEND, FSM_M_HINT) != NULL,
		  "device: then the lease is released and the other node told");

	start_claim(&n);
	n.by_hand = true;
	store_accepted(&n);
	check(n.x.state == FSM_PROMOTE && !find(&n, FSM_A_PG_RUN_PRIMARY, -1),
		  "device: the lease is got; a promotion waits for the disk");
	device(&n, false);
	written(&n, true);
	check(n.x.state == FSM_HANDOVER && !find(&n, FSM_A_PG_RUN_PRIMARY, -1),
		  "device: it could not be armed then: no promotion follows the write");
}

static void
test_device_of_primary(void)
{
	Node n;

	start_primary(&n);
	device(&n, false);
	check(n.x.state == FSM_HANDOVER && find(&n, FSM_A_PG_STOP, -1) != NULL &&
			  find(&n, FSM_A_VIP_REMOVE, -1) != NULL,
		  "device: a primary in sync hands over in order");
	check(find(&n, FSM_A_ALARM, -1) != NULL, "device: and says so");
	timer(&n, 300 * MS);
	check(find(&n, FSM_A_PG_KILL, -1) != NULL, "device: within the stop budget");
	check(!released(&n), "device: rule 14 again");
	n.now = n.x.lease_until;
	timer(&n, 0);
	check(n.x.state == FSM_STOPPING, "device: not dead in time: the lease runs out");

	start_primary(&n);
	async_report(&n, true);
	store_accepted(&n);
	async_report(&n, false);
	check(n.x.state == FSM_ALONE, "device: alone");
	device(&n, false);
	check(n.x.state == FSM_HANDOVER, "device: it gives up, too");
	pg_report(&n, FSM_PG_DOWN);
	check(n.x.state == FSM_STANDBY && released(&n), "device: and releases its lease");
	for (int k = 0; k < 10; k++)
		timer(&n, 300 * MS);
	check(n.x.state == FSM_STANDBY, "device: it is nobody's turn");
	device(&n, true);
	check(n.x.state == FSM_PREVOTE, "device: until it is back");

	start_primary(&n);
	n.x.paused = true;
	device(&n, false);
	check(n.x.state == FSM_IN_SYNC, "device: a paused primary goes on");
	n.x.paused = false;
	timer(&n, 0);
	check(n.x.state == FSM_HANDOVER, "device: until the pause is over");

	start_primary(&n);
	pg_report(&n, FSM_PG_DOWN);
	check(n.x.state == FSM_RESTART, "device: PostgreSQL died, and is to be started again");
	device(&n, false);
	check(n.x.state == FSM_STANDBY && released(&n), "device: not without it");
}

int
main(void)
{
	test_timing();
	test_config();
	test_answers_wait_for_the_disk();
	test_failed_write();
	test_own_vote_counts_when_durable();
	test_voter_restart();
	test_rare_edges();
	test_hung_standby();
	test_lease_ends_first();
	test_async();
	test_confirm();
	test_proceed();
	test_dr_fence();
	test_gate();
	test_link();
	test_edges();
	test_device_of_standby();
	test_device_of_primary();
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
