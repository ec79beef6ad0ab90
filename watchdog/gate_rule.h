/*
 * gate_rule.h
 *		The gate's rule (SAFETY rules 8 to 11): up to which LSN may commits be acknowledged?
 *
 * One small piece of code without I/O, shared by the extension, which calls it with the gate's
 * lock held, and by the simulator.  The lock is the caller's: every function here must run as ONE
 * critical section together with what the caller does with its result (setting the LSNs of the
 * gate's entry).  Checking in one section and moving in another is a lost commit (rule 9).
 *
 * The cell is what tandemd writes: the term it holds, the end of its lease and the lowest term
 * from which frames may be taken.  It outlives the postmaster but not a boot of the host.  The
 * rest belongs to one postmaster: a new postmaster starts from gate_init(), closed, with require
 * = true.
 *
 * Units: LSNs are bytes (0 = none); times are microseconds of the host's CLOCK_BOOTTIME.
 */
#ifndef TANDEM_GATE_RULE_H
#define TANDEM_GATE_RULE_H

#include <stdbool.h>
#include <stdint.h>

/* What tandemd writes and the extension reads, under the gate's lock. */
typedef struct GateCell
{
	uint64_t term;    /* term of the lease; 0 = none in this boot */
	int64_t deadline; /* end of the lease, CLOCK_BOOTTIME us; 0 = there was none in this boot */
	uint64_t floor;   /* refuse frames of lower terms (rule 15) */
} GateCell;

/* A standby as the primary knows it from answers of the current session and incarnation. */
typedef struct GatePeer
{
	int node;       /* -1 = no session */
	uint64_t copy;  /* its copy id (rule 16) */
	uint64_t flush; /* what it holds durably */
} GatePeer;

typedef struct Gate
{
	GateCell cell;
	uint64_t term; /* this postmaster's term ... */
	uint64_t inc;  /* ... and incarnation */
	bool require;  /* commits wait for the peer */
	int peer;      /* whose answers count; -1 = nobody's yet */
	uint64_t peer_copy;
	uint64_t released;   /* the highest LSN ever released by this postmaster */
	uint64_t hold;       /* WAL end at start: clients wait for it (rule 10) */
	bool open;           /* clients are let in */
	uint64_t instance;   /* the tandemd whose commands are obeyed */
	uint64_t cmd;        /* its last command carried out */
	uint64_t waits_from; /* released, when require was last set (rule 8 b: X) */
} Gate;

typedef enum GateOrder
{
	GATE_REQUIRE, /* commits wait for this peer */
	GATE_ALONE,   /* local durability is enough: a record without a peer is chosen */
	GATE_TERM     /* re-term in place (rule 6) */
} GateOrder;

typedef struct GateCommand
{
	GateOrder order;
	uint64_t instance;  /* grows with every start of tandemd */
	uint64_t cmd;       /* grows with every command of one tandemd */
	uint64_t term;      /* the term it is given under */
	int peer;           /* GATE_REQUIRE */
	uint64_t peer_copy; /* GATE_REQUIRE */
	uint64_t inc;       /* GATE_TERM: the new incarnation */
} GateCommand;

extern void gate_init(Gate *g, uint64_t term, uint64_t inc, uint64_t wal_end);
extern bool gate_lease_valid(const Gate *g, int64_t now);
extern bool gate_counts(const Gate *g, const GatePeer *peer);
extern bool gate_advance(Gate *g, int64_t now, uint64_t local_flush, const GatePeer *peer);
extern bool gate_open(Gate *g, int64_t now, const GatePeer *peer, bool sync_standbys_defined);
extern bool gate_command(Gate *g, const GateCommand *c);
extern bool gate_must_stop(const Gate *g, int64_t now, int64_t stop_budget);
extern bool gate_may_start(const GateCell *cell, uint64_t term, int64_t now);

#endif /* TANDEM_GATE_RULE_H */
