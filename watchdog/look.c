/*
 * look.c
 *		What the decision core is told of PostgreSQL.
 *
 * postgres.c knows processes, probes and the extension's last report, with nodes by name.  The
 * decision core wants one statement, with nodes by number, that was true just now, or silence.
 */
#include "manager.h"

#include <string.h>

#define PROBE_SLACK INT64_C(500000) /* us: how late an answer to the probe may be */

/*
 * Has the primary shown that it works?  The extension's report alone does not: its worker may well
 * live while no session gets anything done.
 */
static bool
primary_works(const Config *c, const PostgresLook *look, int64_t now)
{
	return look->reported && look->report.role == WATCH_PRIMARY && look->answered &&
		   now - look->answered_at <= 2 * c->probe_interval + PROBE_SLACK;
}

/*
 * Rule 22: commits do not wait for a standby at the remote site, nor at a remote site for any, nor
 * where the extension was told that the link is asynchronous.
 */
static void
look_at_peers(const Config *c, const WatchReport *r, FsmPg *pg)
{
	int n = r->npeers < WATCH_MAX_PEERS ? r->npeers : WATCH_MAX_PEERS;

	for (int i = 0; i < c->nnodes; i++)
		pg->peers[i].async = c->fsm.dr || c->node[i].dr;
	for (int i = 0; i < n; i++)
	{
		const WatchPeer *w = &r->peers[i];
		int node = config_node(c, w->name);
		FsmPgPeer *p;

		if (node < 0 || node == c->self || c->node[node].witness)
			continue;
		p = &pg->peers[node];
		if (p->session != 0 && p->age <= w->age)
			continue; /* an older connection of the same standby */
		p->session = w->session;
		p->copy = w->copy;
		p->flush = w->flush;
		p->age = w->age;
		p->near_end = w->near_end;
		p->async = p->async || w->async;
	}
}

static void
look_at_primary(const Config *c, const WatchReport *r, FsmPg *pg)
{
	pg->term = r->term;
	pg->inc = r->inc;
	pg->instance = r->instance;
	pg->cmd = r->cmd;
	pg->require = r->require;
	pg->peer = r->peer[0] != '\0' ? config_node(c, r->peer) : FSM_NOBODY;
	pg->peer_copy = r->peer_copy;
	pg->waits_from = r->waits_from;
	pg->open = r->open;
	look_at_peers(c, r, pg);
}

bool
manager_look(const Config *c, const PostgresLook *look, const GateCell *cell, int64_t now,
			 FsmPg *pg)
{
	memset(pg, 0, sizeof(*pg));
	pg->state = look->state;
	pg->hung = look->hung;
	pg->peer = FSM_NOBODY;
	pg->cell_term = cell->term;
	pg->cell_deadline = cell->deadline;
	if (look->state != FSM_PG_PRIMARY)
		return true;
	if (!primary_works(c, look, now))
		return false;
	look_at_primary(c, &look->report, pg);
	return true;
}
