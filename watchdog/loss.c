/*
 * loss.c
 *		What would be lost if a node took over now: for status, and for profile dr's limits.
 *
 * A standby that the newest record names lacks no acknowledged commit, whatever the numbers here
 * say.  For any other it is an estimate from the last heartbeats and from the link: what the
 * primary has written after them nobody knows.
 */
#include "manager.h"

/* What this node holds durably; 0 if it is not known. */
static uint64_t
lsn_of(const Manager *m, int node)
{
	if (node < 0 || m->config.node[node].witness)
		return 0;
	if (node == m->config.self)
	{
		const PostgresLook *look = postgres_look(m->postgres);

		return look->reported ? look->report.flush : 0;
	}
	return heartbeat_peer(m->heartbeat, node)->status.lsn;
}

/* The primary knows from its links, sooner than from heartbeats. */
static uint64_t
lsn_on_link(const Manager *m, int node)
{
	const PostgresLook *look = m->postgres != NULL ? postgres_look(m->postgres) : NULL;
	uint64_t lsn = 0;

	if (look == NULL || !look->reported || look->report.role != WATCH_PRIMARY)
		return 0;
	for (int i = 0; i < look->report.npeers && i < WATCH_MAX_PEERS; i++)
	{
		const WatchPeer *p = &look->report.peers[i];

		if (p->session != 0 && config_node(&m->config, p->name) == node && p->flush > lsn)
			lsn = p->flush;
	}
	return lsn;
}

int64_t
manager_loss(const Manager *m, int node)
{
	int primary = fsm_is_holder(&m->fsm) ? m->config.self : m->fsm.d.rec.primary;
	uint64_t there = lsn_of(m, primary);
	uint64_t here = lsn_of(m, node);
	uint64_t link = lsn_on_link(m, node);

	if (link > here)
		here = link;
	if (there == 0 || here == 0)
		return -1;
	return there > here ? (int64_t) (there - here) : 0;
}

/*
 * Since when does this standby lack anything?  It has had all up to the time of the newest heartbeat
 * whose LSN it has reached; under load it never has that of the very last one.
 */
static void
note_progress(Manager *m, int primary)
{
	const HeartbeatPeer *peer = heartbeat_peer(m->heartbeat, primary);
	uint64_t here = lsn_of(m, m->config.self);

	if (here == 0 || peer->status.lsn == 0)
		return;
	if (here >= m->mark_lsn)
		m->caught_up_at = m->mark_at;
	if (here < m->mark_lsn && peer->status.lsn >= m->mark_lsn)
		return;
	m->mark_lsn = peer->status.lsn;
	m->mark_at = peer->heard;
	if (here >= m->mark_lsn)
		m->caught_up_at = m->mark_at;
}

/* Would more be lost than the DBA allowed?  The primary's end is that of its last heartbeat. */
static bool
over_max_loss(Manager *m, int primary)
{
	const Config *c = &m->config;
	int64_t heard = heartbeat_peer(m->heartbeat, primary)->heard;
	int64_t loss = manager_loss(m, c->self);

	note_progress(m, primary);
	if (c->max_loss_bytes == 0 && c->max_loss_us == 0)
		return false;
	return loss < 0 || (c->max_loss_bytes > 0 && loss > c->max_loss_bytes) ||
		   (c->max_loss_us > 0 && heard - m->caught_up_at > c->max_loss_us);
}

/*
 * Profile dr: what forbids a failover that nobody confirms.  A primary whose host answers comes back
 * by itself, or an operator sees to it.
 */
void
manager_loss_tick(Manager *m)
{
	const Config *c = &m->config;
	int primary = m->fsm.d.rec.primary;
	const char *veto = NULL;
	int64_t heard;

	if (!c->fsm.dr || m->postgres == NULL || fsm_is_holder(&m->fsm) || primary < 0 ||
		primary == c->self)
	{
		m->veto = NULL;
		m->config.fsm.confirm_failover = m->confirm;
		return;
	}
	heard = heartbeat_peer(m->heartbeat, primary)->heard;
	if (over_max_loss(m, primary))
		veto = "more than max_loss would be lost";
	else if (heard != 0 && lease_file_now() - heard < HEARTBEAT_SILENT)
		veto = "the primary's host answers";
	if (m->confirm && m->fsm.asked && veto != m->veto)
		manager_event(m, "state", "%s%s",
					  veto != NULL ? "no failover without an operator: "
								   : "nothing is in the way of a failover after confirm_timeout",
					  veto != NULL ? veto : "");
	m->veto = veto;
	m->config.fsm.confirm_failover = m->confirm && veto == NULL;
}
