/*
 * gate_rule.c
 *		See gate_rule.h.  No I/O, no clock, no memory: the caller brings time and the lock.
 */
#include "gate_rule.h"

#include "mutation.h"

/*
 * A new postmaster's gate: closed, commits wait, clients out (State section of SAFETY).  The cell
 * is left as it is: it is tandemd's.  wal_end is the end of the local WAL after recovery.
 */
void
gate_init(Gate *g, uint64_t term, uint64_t inc, uint64_t wal_end)
{
	GateCell cell = g->cell;

	*g = (Gate){
		.cell = cell, .term = term, .inc = inc, .require = true, .peer = -1, .hold = wal_end};
}

/* Rule 9: term and deadline.  A deadline of 0 is no lease. */
bool
gate_lease_valid(const Gate *g, int64_t now)
{
	if (MUT(gate_ignores_lease))
		return true;
	return g->cell.term == g->term && now < g->cell.deadline;
}

/* Does this answer come from the copy that is waited for?  (rules 9 and 16) */
bool
gate_counts(const Gate *g, const GatePeer *peer)
{
	if (MUT(gate_any_copy))
		return peer->node >= 0;
	return peer->node >= 0 && peer->node == g->peer && peer->copy == g->peer_copy;
}

/*
 * Rule 9: the one place where "released" moves.  True if it did; the caller then sets the entry's
 * LSNs to g->released before it lets go of the lock.  "peer" holds answers of the current session
 * and incarnation only (node -1 if there is none).
 */
bool
gate_advance(Gate *g, int64_t now, uint64_t local_flush, const GatePeer *peer)
{
	uint64_t target = local_flush;

	if (!gate_lease_valid(g, now))
		return false;
	if (g->require)
	{
		if (!gate_counts(g, peer))
			return false;
		if (peer->flush < target)
			target = peer->flush;
	}
	if (target <= g->released)
		return false;
	g->released = target;
	return true;
}

/*
 * Rule 10: may clients come in?  All WAL of the start is on the peer or alone is in force, and it
 * has been released; and core waits at all (sync_standbys_defined).  True once, when the gate
 * opens.
 */
bool
gate_open(Gate *g, int64_t now, const GatePeer *peer, bool sync_standbys_defined)
{
	if (g->open || !gate_lease_valid(g, now))
		return false;
	if (!MUT(open_at_once))
	{
		if (!sync_standbys_defined)
			return false;
		if (g->require && (!gate_counts(g, peer) || peer->flush < g->hold))
			return false;
		if (g->released < g->hold)
			return false;
	}
	g->open = true;
	return true;
}

/*
 * Carry out a command of tandemd.  False (and nothing is changed) if it is older than one already
 * carried out, or given under another term: such a command was overtaken while the gate was
 * stopped. Rule 8 b: require and X are taken in the same critical section.
 */
bool
gate_command(Gate *g, const GateCommand *c)
{
	if (c->instance < g->instance || (c->instance == g->instance && c->cmd <= g->cmd))
		return false;
	if (c->order != GATE_TERM && c->term != g->term)
		return false;
	g->instance = c->instance;
	g->cmd = c->cmd;
	switch (c->order)
	{
		case GATE_REQUIRE:
			g->require = true;
			g->peer = c->peer;
			g->peer_copy = c->peer_copy;
			g->waits_from = g->released;
			break;
		case GATE_ALONE:
			g->require = false;
			break;
		case GATE_TERM:
			if (c->term <= g->term)
				return false;
			g->term = c->term;
			g->inc = c->inc;
			break;
	}
	return true;
}

/*
 * Rule 11: the extension stops its own postmaster at deadline + S, whatever tandemd does and
 * without grace after a start.  stop_budget in microseconds; call it with a value a little below
 * S, so that the stop is done by then.
 */
bool
gate_must_stop(const Gate *g, int64_t now, int64_t stop_budget)
{
	return g->cell.deadline != 0 && now >= g->cell.deadline + stop_budget;
}

/*
 * Rules 5 and 12: may PostgreSQL become primary of this term now?  Only under the lease of that
 * very term.  A re-term meanwhile makes it come up as a standby; tandemd then asks again.
 */
bool
gate_may_start(const GateCell *cell, uint64_t term, int64_t now)
{
	return cell->term == term && now < cell->deadline;
}
