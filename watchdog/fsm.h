/*
 * fsm.h
 *		The decision core of tandemd: (state, input, now) -> (state, actions).
 *
 * fsm_step() is the whole of it.  It does no I/O, reads no clock, allocates nothing and has no
 * globals: what tandemd learns comes in as an FsmInput, what it has to do comes out as a list of
 * FsmActions, in the order in which they are to be carried out.  The rules it executes are those
 * of SAFETY; they are cited by number in the code.  test/sim runs this very code for several
 * nodes.
 *
 * Durability.  What must survive is in FsmDurable.  Whenever it changes, an action FSM_A_PERSIST
 * carries the new image; every action that must not happen before that image is durable (all
 * messages, starting PostgreSQL as primary, a rewind or seed) is *kept inside the Fsm* until the
 * caller has given FSM_I_PERSISTED for it. A caller can therefore not answer too early: it does
 * not have the answer.  One image is in flight at a time.  If writing fails (ok = false) what was
 * kept is dropped, the node steps down and votes for nobody until a later write succeeds.
 *
 * Units: times are microseconds of this host's CLOCK_BOOTTIME (FsmTime), LSNs are bytes.
 * Ownership: the caller owns Fsm, FsmConfig and FsmActions; nothing points into anything else.
 */
#ifndef TANDEM_FSM_H
#define TANDEM_FSM_H

#include <stdbool.h>
#include <stdint.h>

#include "gate_rule.h"

#define FSM_MAX_NODES   8
#define FSM_MAX_ACTIONS 160
#define FSM_MAX_HELD    96
#define FSM_MAX_ROUNDS  16
#define FSM_NOBODY      (-1)

typedef int64_t FsmTime;

/* ---------- configuration ---------- */

/*
 * G, M, S, H and V of SAFETY's "Timing", in microseconds; fsm_timing_v() computes the V that
 * belongs to the others.
 */
typedef struct FsmTiming
{
	FsmTime lease;     /* G: counted on the voter's clock from receipt */
	FsmTime margin;    /* M: scheduling margin */
	FsmTime stop;      /* S: time to stop PostgreSQL */
	FsmTime heartbeat; /* H: a STORE every H */
	FsmTime validity;  /* V: counted on the holder's clock from sending */
} FsmTiming;

typedef enum FsmTimingFault
{
	FSM_TIMING_OK,
	FSM_TIMING_POSITIVE, /* a value is not positive, or no V is left */
	FSM_TIMING_LEASE,    /* (V + S) * 1.01 + M <= G does not hold */
	FSM_TIMING_HEARTBEAT /* H <= V / 3 does not hold */
} FsmTimingFault;

typedef struct FsmConfig
{
	int self;
	int nnodes;
	uint32_t voters; /* mask of nodes that grant leases */
	uint32_t data;   /* mask of nodes with a database; the others are witnesses */
	FsmTiming timing;
	FsmTime peer_timeout;    /* no answer of the standby for so long: drop it (rule 7) */
	FsmTime probe_timeout;   /* PostgreSQL's probe unanswered for so long: hung */
	FsmTime pg_retry;        /* ask again for a start or promotion after this */
	int restart_attempts;    /* local restarts ... */
	FsmTime restart_window;  /* ... within this time, then hand-over */
	bool fence;              /* a fence agent is configured */
	bool isolation_continue; /* on_isolation = continue (rule 20); only without witness and fence */
	bool dr;                 /* profile dr: failover to this node needs confirmation (rule 22) */
	bool any_dr;             /* ... or failover to another voter does */
	bool confirm_failover;   /* confirm_default = failover (else wait) */
	bool confirm_proceed;    /* confirm_without_majority = proceed */
	FsmTime confirm_timeout;
} FsmConfig;

/* ---------- what is durable ---------- */

/* Records are ordered by (term, seq).  They name copies of the database, not hosts (rule 16). */
typedef struct FsmRec
{
	uint64_t term;
	uint64_t seq;
	uint64_t primary_copy;
	uint64_t peer_copy;
	int8_t primary;
	int8_t peer; /* the standby in sync, or FSM_NOBODY */
	bool lossy;  /* an operator's override made it (rule 21) */
} FsmRec;

/*
 * The image a caller writes (write, fsync, rename, fsync directory).  copy_id and rebuilding
 * belong in the data directory, so that they are copied, rewound and lost with it; the rest in
 * tandemd's own file.
 */
typedef struct FsmDurable
{
	uint64_t prom; /* the highest term promised, ... */
	FsmRec rec;
	uint64_t stepped_down; /* the highest own term given up */
	uint64_t chosen_term;  /* the newest own record known to be chosen */
	uint64_t chosen_seq;
	uint64_t inc;   /* incarnations of PostgreSQL started as primary */
	int8_t prom_to; /* ... and to whom */
	bool admitted;  /* the voter's state was not lost (rule 17) */

	uint64_t copy_id;
	bool rebuilding; /* a rewind or seed is not complete (rule 16) */
} FsmDurable;

/* ---------- messages between nodes ---------- */

typedef enum FsmMsgType
{
	FSM_M_PREVOTE,
	FSM_M_PREVOTE_REPLY,
	FSM_M_VOTE,
	FSM_M_VOTE_REPLY,
	FSM_M_STORE,
	FSM_M_STORE_REPLY,
	FSM_M_CONTACT, /* third leg of a round trip: both hold the same record (rule 19) */
	FSM_M_RELEASE, /* rule 14 */
	FSM_M_HINT,    /* hand-over: be a candidate now */
	FSM_M_READ,    /* a voter without its state reads the others (rule 17) */
	FSM_M_READ_REPLY,
	FSM_M_NTYPES
} FsmMsgType;

/* Fields that a type does not need are zero.  Times are only ever handed back to their sender. */
typedef struct FsmMsg
{
	uint8_t type;
	int8_t from;
	int8_t to;
	bool ok;
	int8_t fenced;        /* VOTE, PREVOTE: this node is confirmed off (rule 18) */
	uint64_t fenced_boot; /* ... in this boot */
	uint64_t term;
	uint64_t prom; /* replies: the voter's promise */
	uint64_t boot; /* the sender's boot */
	uint64_t echo; /* STORE_REPLY, CONTACT: the receiver's boot, as the sender knows it */
	FsmRec rec;
	FsmTime sent; /* STORE and its reply: when the round was sent, on the holder's clock */
	FsmTime wait; /* replies: how long another's grant still runs, a duration */
} FsmMsg;

/* ---------- states ---------- */

/* What a node is.  Sets of states are masks of FSM_BIT(state). */
typedef enum FsmState
{
	FSM_WITNESS,    /* a voter with no database */
	FSM_STANDBY,    /* holds no lease; PostgreSQL is a standby or down */
	FSM_REBUILD,    /* rewind or seed under way */
	FSM_PREVOTE,    /* asks whether a vote would succeed */
	FSM_CANDIDATE,  /* asks for votes */
	FSM_CLAIM,      /* has a majority; its first record is not chosen yet */
	FSM_PROMOTE,    /* claim chosen; PostgreSQL is being promoted or started */
	FSM_SETTLE,     /* primary; the record as it now stands is not chosen yet */
	FSM_IN_SYNC,    /* primary; commits wait for the named standby */
	FSM_LEAVING,    /* primary, stalled; the record without the standby is not chosen yet */
	FSM_ALONE,      /* primary; the record without a standby is chosen */
	FSM_JOIN_GATE,  /* rule 8 b: the gate was told to wait for the standby */
	FSM_JOIN_FLUSH, /* rule 8 c: the standby does not hold X yet */
	FSM_JOIN_NAME,  /* rule 8 d: the record that names the standby is not chosen yet */
	FSM_RESTART,    /* PostgreSQL died; it is being restarted in the same term */
	FSM_HANDOVER,   /* PostgreSQL is being stopped; then the lease is released */
	FSM_STOPPING,   /* stepped down; PostgreSQL is being killed */
	FSM_NSTATES
} FsmState;

/* Why a node changes its state. */
typedef enum FsmEvent
{
	FSM_E_SUSPECT,
	FSM_E_MAJORITY,
	FSM_E_REFUSED,
	FSM_E_PRIMARY_HEARD,
	FSM_E_CHOSEN,
	FSM_E_CHOSEN_WITH_PEER,
	FSM_E_CHOSEN_ALONE,
	FSM_E_PG_PRIMARY,
	FSM_E_PG_NOT_PRIMARY,
	FSM_E_PG_DEAD,
	FSM_E_PEER_GONE,
	FSM_E_PEER_NEAR,
	FSM_E_GATE_WAITS,
	FSM_E_PEER_HOLDS,
	FSM_E_RETERM,
	FSM_E_SUPERSEDED,
	FSM_E_LEASE_LOST,
	FSM_E_HAND_OVER,
	FSM_E_RESUME,
	FSM_E_STRAY_PRIMARY,
	FSM_E_DIVERGED,
	FSM_E_REBUILT,
	FSM_E_NOT_DURABLE,
	FSM_NEVENTS
} FsmEvent;

#define FSM_BIT(state) (1u << (state))

typedef struct FsmEdge
{
	uint32_t from; /* mask of states */
	FsmEvent event;
	FsmState to;
	const char *reason; /* one sentence */
} FsmEdge;

/* ---------- PostgreSQL as its node's tandemd sees it ---------- */

typedef enum FsmPgState
{
	FSM_PG_UNKNOWN, /* not looked at yet */
	FSM_PG_DOWN,    /* every process is confirmed dead */
	FSM_PG_STANDBY,
	FSM_PG_PRIMARY,
	FSM_PG_BROKEN /* down, and cannot be started here: no data directory, ... */
} FsmPgState;

/* A standby's link, as the primary's extension shows it; answers of the current session only. */
typedef struct FsmPgPeer
{
	uint64_t session; /* 0 = none */
	uint64_t copy;
	uint64_t flush;
	FsmTime age;   /* since its last answer */
	bool near_end; /* its stream is near the primary's end (rule 8 a) */
	bool async;    /* commits never wait for it, but to hand over to it (rule 22) */
} FsmPgPeer;

typedef struct FsmPg
{
	FsmPgState state;
	uint64_t term; /* of a primary */
	uint64_t inc;
	uint64_t cell_term; /* the gate's cell */
	FsmTime cell_deadline;
	uint64_t instance; /* gate: the tandemd whose command it carried out last, ... */
	uint64_t cmd;      /* ... and which */
	bool require;
	int peer;
	uint64_t peer_copy;
	uint64_t waits_from; /* X of rule 8 b */
	bool open;           /* clients are let in */
	bool hung;           /* a standby, or UNKNOWN, that worked and does nothing any more */
	FsmPgPeer peers[FSM_MAX_NODES];
} FsmPg;

/* ---------- inputs ---------- */

typedef enum FsmInputType
{
	FSM_I_TIMER, /* the time of the last FSM_A_TIMER has come (or any other time) */
	FSM_I_MSG,
	FSM_I_PERSISTED, /* seq, ok */
	FSM_I_PG,        /* pg: at every change and at every answered probe */
	FSM_I_DIVERGED,  /* the link refused: rewind or seed; fresh = a copy id never used before */
	FSM_I_REBUILT,   /* ok = false: it failed and is tried again */
	FSM_I_FENCE,     /* node, seq: the agent confirmed power-off (ok), or failed */
	FSM_I_DEVICE,    /* ok = false: the kernel's watchdog is required and cannot be had, until ok */
	FSM_I_OPERATOR
} FsmInputType;

typedef enum FsmOperator
{
	FSM_OP_SWITCHOVER, /* hand over to node, or (FSM_NOBODY) to the standby in sync */
	FSM_OP_DROP_PEER,  /* go alone: in sync -> alone, through a record like every other */
	FSM_OP_PROMOTE,    /* rule 21 a: be a candidate although not in the record */
	FSM_OP_FORCE,      /* rule 21 b: the operator asserts that the nodes in mask are off */
	FSM_OP_CONFIRM,    /* profile dr: fail over now (ok), or not until the primary was heard */
	FSM_OP_READMIT,    /* rule 17: this voter may vote although its state was lost */
	FSM_OP_PAUSE,      /* maintenance: no failover, restart, leaving or joining from here */
	FSM_OP_CONTINUE    /* ends PAUSE */
} FsmOperator;

typedef struct FsmInput
{
	FsmInputType type;
	FsmMsg msg;
	uint64_t seq;
	uint64_t fresh;
	FsmPg pg;
	FsmOperator op;
	uint32_t mask;
	int node;
	bool ok;
} FsmInput;

/* ---------- actions ---------- */

typedef enum FsmActionType
{
	FSM_A_PERSIST,        /* write image, then give FSM_I_PERSISTED with seq */
	FSM_A_SEND,           /* msg; datagrams may be lost, doubled, late, reordered */
	FSM_A_TIMER,          /* give FSM_I_TIMER at time at; replaces the earlier timer */
	FSM_A_CELL_FLOOR,     /* gate's cell: floor = term; at once */
	FSM_A_CELL_LEASE,     /* gate's cell: {term, deadline = at}; at once */
	FSM_A_GATE,           /* gate: command, in order */
	FSM_A_PG_RUN_PRIMARY, /* start and/or promote; obey gate_may_start(term); inc */
	FSM_A_PG_RUN_STANDBY, /* start as standby of node (FSM_NOBODY: of nobody yet) */
	FSM_A_PG_KILL,        /* SIGKILL to all of it within S; repeated until FSM_PG_DOWN */
	FSM_A_PG_STOP,        /* planned: fast shutdown */
	FSM_A_REBUILD,        /* rewind or seed from node; then FSM_I_REBUILT */
	FSM_A_VIP_HOLD,       /* add or renew; kernel lifetime ends at time at */
	FSM_A_VIP_REMOVE,
	FSM_A_FENCE, /* power off node; answer with seq */
	FSM_A_EDGE,  /* for the log: edge was taken */
	FSM_A_ALARM, /* for the log and the operator: text */
	FSM_A_REPLY  /* to the operator: ok, text */
} FsmActionType;

typedef struct FsmAction
{
	FsmActionType type;
	union
	{
		FsmDurable image;
		FsmMsg msg;
		GateCommand gate;
		const FsmEdge *edge;
		const char *text;
	} u;
	uint64_t seq;
	uint64_t term;
	uint64_t inc;
	FsmTime at;
	int node;
	bool ok;
} FsmAction;

typedef struct FsmActions
{
	int n;
	FsmAction a[FSM_MAX_ACTIONS];
} FsmActions;

/* ---------- the state of one tandemd ---------- */

typedef struct FsmRound
{
	FsmTime sent;
	uint64_t seq;
	uint32_t yes;
} FsmRound;

typedef struct FsmHeld
{
	uint64_t need; /* the image that must be durable first */
	FsmAction action;
} FsmHeld;

typedef struct Fsm
{
	FsmDurable d;
	FsmState state;

	/* durability: numbers of images */
	uint64_t image;   /* the newest */
	uint64_t writing; /* in flight; 0 = none */
	uint64_t durable;
	bool mute; /* the last write failed */
	int nheld;
	FsmHeld held[FSM_MAX_HELD];

	/* voter */
	int grant_to;
	FsmTime grant_until;
	uint64_t grant_boot;
	FsmTime hold_until; /* rule 17 */
	uint32_t read_from; /* re-admission: voters read so far */
	FsmTime read_sent;
	FsmTime admit_at;

	/* this life */
	uint64_t boot;
	uint64_t instance;
	uint32_t rng;
	FsmTime timer;
	bool paused;
	bool unguarded; /* required, but the kernel's watchdog cannot be armed or fed */

	/* the others */
	FsmTime heard; /* last STORE accepted from a primary; also moved to delay a candidacy */
	int primary;   /* whom PostgreSQL should follow */
	uint64_t max_prom;
	uint64_t boot_of[FSM_MAX_NODES]; /* 0 = not heard of */
	FsmTime heard_of[FSM_MAX_NODES]; /* any message */

	/* candidate */
	uint64_t cand_term;
	uint32_t yes;
	uint32_t answered;
	FsmRec best;
	FsmTime deadline; /* of this state */
	FsmTime retry_at;
	FsmTime waits[FSM_MAX_NODES]; /* until when another's grant runs, as this voter said */
	bool ineligible;              /* the last attempt ended because the record names others */
	bool lossy;                   /* rule 21 a */
	bool asked;                   /* profile dr: the operator has been asked, ... */
	bool told_to_wait;            /* ... and wants no failover */
	bool by_default;              /* nobody confirmed: lossy and forced are confirm_timeout's */
	bool proceed_told;            /* it was told that there is no majority */
	FsmTime suspect_since;

	/* holder */
	uint64_t term;
	FsmRec cur;
	uint64_t chosen; /* highest seq chosen in this term */
	FsmTime lease_until;
	FsmTime last_store;
	int nrounds;
	FsmRound rounds[FSM_MAX_ROUNDS];
	bool handed;             /* the primacy was handed over as planned, not taken */
	bool fresh;              /* after a failover: remove the old primary at once (rule 3) */
	FsmTime peer_gone_since; /* 0: it answers, or has not been missed yet */
	FsmTime peer_answered;   /* its last answer; 0: none since it is watched */
	bool planned;
	int wanted;           /* to whom an operator wants to hand over, once it is in sync */
	FsmTime wanted_until; /* ... and given up then */
	FsmTime stop_at;      /* HANDOVER: when to kill; STOPPING: when to kill again */

	/* re-term in place (rule 6) */
	bool retermed;
	uint64_t reterm_term;
	uint32_t reterm_yes;
	FsmRec reterm_best;
	FsmTime reterm_deadline;

	/* PostgreSQL and the gate */
	FsmPg pg;
	FsmTime pg_seen;
	FsmTime pg_asked;
	int pg_follows;
	int attempts;
	FsmTime attempts_since;
	uint64_t cmd;
	FsmTime cmd_at;
	uint64_t join_cmd;
	int join_peer;
	uint64_t join_copy;
	uint64_t join_x;
	bool vip;

	/* fence and assertions: whose votes are replaced (rules 18 to 21) */
	bool contact;
	uint64_t fence_seq;
	int fence_node;
	uint64_t fence_boot; /* the boot known when it was asked for */
	bool fencing;
	bool fenced;
	bool fence_failed; /* the agent was asked in vain since the node was heard */
	FsmTime fence_asked;
	FsmTime vote_asked; /* the first PREVOTE since the other of two voters was heard */
	uint32_t forced;    /* rule 21 b */
	bool solo;          /* rule 20 */
} Fsm;

/* ---------- functions ---------- */

extern FsmTime fsm_timing_v(const FsmTiming *t);
extern FsmTimingFault fsm_check_timing(const FsmTiming *t);
extern const char *fsm_timing_text(FsmTimingFault fault);
extern const char *fsm_check_config(const FsmConfig *cfg);
extern const char *fsm_config_warning(const FsmConfig *cfg);

extern void fsm_init(const FsmConfig *cfg, Fsm *x, const FsmDurable *durable, uint64_t boot,
					 uint64_t instance, uint32_t seed, FsmTime now, FsmActions *out);
extern void
fsm_step(const FsmConfig *cfg, Fsm *x, const FsmInput *in, FsmTime now, FsmActions *out);

extern bool fsm_rec_less(const FsmRec *a, const FsmRec *b);
extern bool fsm_rec_names(const FsmRec *r, int node, uint64_t copy);
extern bool fsm_is_holder(const Fsm *x);
extern bool fsm_fence_counts(const FsmConfig *cfg, const Fsm *x);
extern const char *fsm_why_not(const FsmConfig *cfg, const Fsm *x, FsmTime now);

extern const FsmEdge *fsm_edges(int *n);
extern const char *fsm_state_name(FsmState s);
extern const char *fsm_event_name(FsmEvent e);
extern const char *fsm_msg_name(int type);

#endif /* TANDEM_FSM_H */
