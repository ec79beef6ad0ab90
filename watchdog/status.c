/*
 * status.c
 *		What tandemctl status shows, as JSON.
 *
 * Every number comes from what this tandemd knows at this moment; what another node said is marked
 * by how long ago it said it.  The two sentences that matter most are made here, so that the JSON
 * has them too: is a failover possible now, if not why; and what would be lost.
 */
#include "manager.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct Outlook
{
	bool possible;
	int to;
	char why[256];
} Outlook;

/* ---------- small things ---------- */

static json_t *
lsn_json(uint64_t lsn)
{
	char text[32];

	if (lsn == 0)
		return json_null();
	snprintf(text, sizeof(text), "%X/%X", (unsigned) (lsn >> 32), (unsigned) lsn);
	return json_string(text);
}

static json_t *
name_json(const Manager *m, int node)
{
	return node >= 0 && node < m->config.nnodes ? json_string(m->config.node[node].name)
												: json_null();
}

static json_t *
age_ms(int64_t then, int64_t now)
{
	return then != 0 ? json_integer((now - then) / 1000) : json_null();
}

static void
set(json_t *o, const char *key, json_t *value)
{
	json_object_set_new(o, key, value);
}

static bool
heard(const Manager *m, int node, int64_t now)
{
	const HeartbeatPeer *p;

	if (node == m->config.self)
		return true;
	p = heartbeat_peer(m->heartbeat, node);
	return p->heard != 0 && now - p->heard < HEARTBEAT_SILENT;
}

/* The states that FSM_IN_TERM has; the room's header is private to the decision core. */
static bool
is_primary_state(int state)
{
	return state == FSM_PROMOTE || state == FSM_RESTART ||
		   (state >= FSM_SETTLE && state <= FSM_JOIN_NAME);
}

static int
state_of(const Manager *m, int node)
{
	if (node == m->config.self)
		return m->fsm.state;
	return heartbeat_peer(m->heartbeat, node)->status.state;
}

static const FsmRec *
record(const Manager *m)
{
	return fsm_is_holder(&m->fsm) ? &m->fsm.cur : &m->fsm.d.rec;
}

/* Who is primary now, as far as is known here; or FSM_NOBODY. */
static int
primary_now(const Manager *m, int64_t now)
{
	int found = FSM_NOBODY;
	uint64_t term = 0;

	for (int n = 0; n < m->config.nnodes; n++)
	{
		uint64_t t = n == m->config.self ? m->fsm.term
										 : heartbeat_peer(m->heartbeat, n)->status.term;

		if (!m->config.node[n].witness && heard(m, n, now) && is_primary_state(state_of(m, n)) &&
			t >= term)
		{
			found = n;
			term = t;
		}
	}
	return found;
}

/* ---------- nodes ---------- */

static const char *
role(const Manager *m, int node, int64_t now)
{
	static const char *const roles[] = {"unknown", "down", "standby", "primary", "broken"};
	int pg;

	if (m->config.node[node].witness)
		return "witness";
	if (!heard(m, node, now))
		return "unknown";
	if (is_primary_state(state_of(m, node)))
		return "primary";
	if (node == m->config.self)
		pg = postgres_look(m->postgres)->state;
	else
		pg = heartbeat_peer(m->heartbeat, node)->status.pg_state;
	/* a primary by PostgreSQL's word alone has no right to be one */
	return pg == FSM_PG_PRIMARY ? "primary without a lease" : roles[pg];
}

static json_t *
paths(const Manager *m, int node, int64_t now)
{
	const HeartbeatPeer *p = heartbeat_peer(m->heartbeat, node);
	const ConfigNode *c = &m->config.node[node];
	json_t *list = json_array();

	for (int i = 0; i < p->npaths; i++)
	{
		const struct sockaddr_storage *a = &c->path[i < c->npaths ? i : c->npaths - 1];
		char text[INET6_ADDRSTRLEN] = "?";
		json_t *o = json_object();

		if (a->ss_family == AF_INET)
			inet_ntop(AF_INET, &((const struct sockaddr_in *) a)->sin_addr, text, sizeof(text));
		else
			inet_ntop(AF_INET6, &((const struct sockaddr_in6 *) a)->sin6_addr, text, sizeof(text));
		set(o, "address", json_string(text));
		set(o, "heard_ms", age_ms(p->path_heard[i], now));
		/* where the other has fewer paths its last one stands in: that need not work */
		set(o, "stands_in", json_boolean(i >= c->npaths));
		set(o, "alive",
			json_boolean(p->path_heard[i] != 0 && now - p->path_heard[i] < HEARTBEAT_SILENT));
		json_array_append_new(list, o);
	}
	return list;
}

/* What a heartbeat would say of this node. */
static void
own_status(const Manager *m, WireStatus *s)
{
	const PostgresLook *look = m->postgres != NULL ? postgres_look(m->postgres) : NULL;

	memset(s, 0, sizeof(*s));
	s->term = fsm_is_holder(&m->fsm) ? m->fsm.term : m->fsm.d.prom;
	s->flags = m->fsm.paused ? WIRE_PAUSED : 0;
	if (look == NULL || !look->reported)
		return;
	s->lsn = look->report.flush;
	s->replayed = look->report.role == WATCH_PRIMARY ? look->report.flush : look->report.replayed;
	s->timeline = look->report.timeline;
	if (look->report.role == WATCH_PRIMARY && look->report.open)
		s->flags |= WIRE_OPEN;
}

static json_t *
node_json(Manager *m, int node, int64_t now)
{
	const HeartbeatPeer *p = heartbeat_peer(m->heartbeat, node);
	const ConfigNode *c = &m->config.node[node];
	bool self = node == m->config.self;
	bool alive = heard(m, node, now);
	WireStatus s = p->status;
	json_t *o = json_object();

	if (self)
		own_status(m, &s);
	set(o, "name", json_string(c->name));
	set(o, "self", json_boolean(self));
	set(o, "role", json_string(role(m, node, now)));
	set(o, "heard", json_boolean(alive));
	set(o, "heard_ms", self ? json_integer(0) : age_ms(p->heard, now));
	set(o, "state", alive ? json_string(fsm_state_name(state_of(m, node))) : json_null());
	set(o, "term", alive ? json_integer((json_int_t) s.term) : json_null());
	set(o, "paused", json_boolean(alive && (s.flags & WIRE_PAUSED) != 0));
	if (!c->witness)
	{
		int64_t lag = manager_loss(m, node);

		set(o, "lsn", lsn_json(s.lsn));
		set(o, "replayed", lsn_json(s.replayed));
		set(o, "timeline", s.timeline != 0 ? json_integer(s.timeline) : json_null());
		set(o, "open", json_boolean(alive && (s.flags & WIRE_OPEN) != 0));
		set(o, "lag_bytes", lag >= 0 ? json_integer(lag) : json_null());
		set(o, "remote", json_boolean(c->dr));
	}
	if (!self)
		set(o, "paths", paths(m, node, now));
	return o;
}

/* ---------- the two sentences ---------- */

static bool outlook_no(Outlook *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
outlook_no(Outlook *o, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(o->why, sizeof(o->why), format, ap);
	va_end(ap);
	o->possible = false;
	return false;
}

/* Rule 17 is a matter of time alone, and so of no interest to fsm_why_not(). */
const char *
manager_why_not(const Manager *m)
{
	if (m->fsm.hold_until > lease_file_now() && m->fsm.d.prom_to != m->config.self)
		return "this voter was started less than a lease ago";
	return fsm_why_not(&m->config.fsm, &m->fsm, INT64_MAX);
}

static bool
eligible_now(const Manager *m, int node)
{
	if (node == m->config.self)
		return manager_why_not(m) == NULL;
	return (heartbeat_peer(m->heartbeat, node)->status.flags & WIRE_ELIGIBLE) != 0;
}

/* Is a majority of the voters heard, this node included? */
static bool
majority_is_heard(const Manager *m, int64_t now)
{
	uint32_t voters = m->config.fsm.voters;
	int answer = 0;

	for (int n = 0; n < m->config.nnodes; n++)
		if ((voters & (1u << n)) != 0 && heard(m, n, now))
			answer++;
	return answer * 2 > __builtin_popcount(voters);
}

/* Would enough voters answer if "without" were gone? */
static bool
enough_voters(const Manager *m, int without, int64_t now, Outlook *o)
{
	const FsmConfig *f = &m->config.fsm;
	int all = __builtin_popcount(f->voters);
	int answer = 0;

	for (int n = 0; n < m->config.nnodes; n++)
		if ((f->voters & (1u << n)) != 0 && n != without && heard(m, n, now))
			answer++;
	if (answer * 2 > all)
		return true;
	if (all == 2 && f->fence)
	{
		if (o->to != m->config.self || fsm_fence_counts(f, &m->fsm))
			return true; /* by a confirmed power-off (rule 19) */
		return outlook_no(o, "the other voter is silent, and may have been primary since this one "
							 "last heard of it: then a power-off does not stand for its vote");
	}
	if (all == 2)
		return outlook_no(o, "there is neither a witness nor a fence agent: only a primary that "
							 "can still hand over is replaced without an operator");
	return outlook_no(o, "%d of %d voters would be left, and %d are needed", answer, all,
					  all / 2 + 1);
}

/* No record names another copy: an asynchronous standby takes over after a confirmation only. */
static bool
no_standby(const Manager *m, int primary, int64_t now, Outlook *o)
{
	const Config *c = &m->config;

	for (int n = 0; n < c->nnodes; n++)
	{
		if (n == primary || c->node[n].witness || !(c->fsm.dr || c->node[n].dr))
			continue;
		if (!heard(m, n, now))
			continue;
		return outlook_no(o,
						  "no standby is in sync: node %s takes over when an operator confirms%s",
						  c->node[n].name,
						  m->confirm ? ", or confirm_timeout after the primary fell silent" : "");
	}
	return outlook_no(o, "no standby is in sync");
}

/* Could another data node take over if the primary failed now? */
static bool
outlook(const Manager *m, int64_t now, Outlook *o)
{
	const FsmRec *r = record(m);
	int primary = primary_now(m, now);
	int to;

	memset(o, 0, sizeof(*o));
	o->to = FSM_NOBODY;
	if (r->term == 0)
		return outlook_no(o, "no primary has been known yet (tandemctl init)");
	to = primary < 0 || primary != r->primary ? r->primary : r->peer;
	if (primary < 0 && r->peer >= 0 && (!heard(m, to, now) || !eligible_now(m, to)))
		to = r->peer;
	if (primary >= 0 && to == primary)
		to = r->peer;
	if (to < 0)
		return no_standby(m, r->primary, now, o);
	o->to = to;
	if (!heard(m, to, now))
		return outlook_no(o, "node %s is silent", m->config.node[to].name);
	if (!eligible_now(m, to))
	{
		const char *why = to == m->config.self ? manager_why_not(m) : NULL;

		return outlook_no(o, "node %s cannot become primary%s%s", m->config.node[to].name,
						  why != NULL ? ": " : " (its own status says why)",
						  why != NULL ? why : "");
	}
	if (!enough_voters(m, primary, now, o))
		return false;
	o->possible = true;
	return true;
}

/* Of a primary that is silent nobody knows what it has written since; "" for one that is not. */
static void
say_silent(const Manager *m, int primary, int64_t now, char *text, size_t size)
{
	text[0] = '\0';
	if (primary >= 0 && primary != m->config.self && !heard(m, primary, now))
		snprintf(text, size, ", and all that node %s has written since it fell silent",
				 m->config.node[primary].name);
}

static json_t *
loss_json(const Manager *m, const Outlook *look, int64_t now)
{
	const FsmRec *r = record(m);
	json_t *o = json_object();
	int64_t bytes = -1;
	int worst = FSM_NOBODY;
	char silent[CONFIG_NAME_SIZE + 64];
	char text[512];

	if (look->to >= 0 && r->peer >= 0 && !r->lossy)
	{
		set(o, "bytes", json_integer(0));
		set(o, "text", json_string("nothing: every acknowledged commit is on both nodes"));
		return o;
	}
	for (int n = 0; n < m->config.nnodes; n++)
	{
		int64_t l;

		if (m->config.node[n].witness || n == r->primary)
			continue;
		l = manager_loss(m, n);
		if (worst < 0 || (l >= 0 && (bytes < 0 || l < bytes)))
		{
			worst = n;
			bytes = l;
		}
	}
	say_silent(m, r->primary, now, silent, sizeof(silent));
	if (worst < 0)
		snprintf(text, sizeof(text), "everything: there is no other copy");
	else if (bytes < 0)
		snprintf(text, sizeof(text), "not known: node %s does not say what it holds",
				 m->config.node[worst].name);
	else if (bytes == 0)
		snprintf(
			text, sizeof(text), "what was committed in the last moments: node %s had all WAL %s%s",
			m->config.node[worst].name, silent[0] != '\0' ? "until then" : "a moment ago", silent);
	else
		snprintf(text, sizeof(text), "about %" PRId64 " bytes of WAL that node %s does not hold%s",
				 bytes, m->config.node[worst].name, silent);
	set(o, "bytes", bytes >= 0 ? json_integer(bytes) : json_null());
	set(o, "text", json_string(text));
	return o;
}

static json_t *
failover_json(const Manager *m, const Outlook *look)
{
	json_t *o = json_object();

	set(o, "possible", json_boolean(look->possible));
	set(o, "to", name_json(m, look->to));
	set(o, "why", look->possible ? json_null() : json_string(look->why));
	return o;
}

/* ---------- the rest ---------- */

static json_t *
record_json(const Manager *m)
{
	const FsmRec *r = record(m);
	json_t *o = json_object();

	set(o, "term", json_integer((json_int_t) r->term));
	set(o, "sequence", json_integer((json_int_t) r->seq));
	set(o, "primary", name_json(m, r->primary));
	set(o, "standby", name_json(m, r->peer));
	set(o, "lossy", json_boolean(r->lossy));
	return o;
}

static json_t *
lease_json(const Manager *m, int64_t now)
{
	json_t *o = json_object();
	bool holder = fsm_is_holder(&m->fsm);
	int to = holder ? m->config.self : m->fsm.grant_to;
	FsmTime until = holder ? m->fsm.lease_until : m->fsm.grant_until;

	set(o, "holder", until > now ? name_json(m, to) : json_null());
	set(o, "left_ms", until > now ? json_integer((until - now) / 1000) : json_null());
	set(o, "admitted", json_boolean(m->fsm.d.admitted));
	set(o, "length_ms", json_integer(m->config.fsm.timing.lease / 1000));
	return o;
}

static json_t *
busy_json(const PostgresLook *look)
{
	json_t *o;

	if (look->busy == NULL)
		return json_null();
	o = json_object();
	set(o, "what", json_string(look->busy));
	set(o, "percent", look->percent >= 0 ? json_integer(look->percent) : json_null());
	set(o, "bytes", json_integer((json_int_t) look->bytes));
	set(o, "bytes_per_s", json_integer(look->rate));
	set(o, "left_s", look->left >= 0 ? json_integer(look->left / 1000000) : json_null());
	return o;
}

static json_t *
postgres_json(const Manager *m, int64_t now)
{
	static const char *const states[] = {"unknown", "down", "standby", "primary", "broken"};
	const PostgresLook *look = postgres_look(m->postgres);
	const WatchReport *r = &look->report;
	json_t *o = json_object();

	set(o, "state", json_string(states[look->state]));
	set(o, "text", json_string(look->text));
	set(o, "postmaster", json_integer(look->postmaster));
	set(o, "extension", json_boolean(look->reported));
	set(o, "probe_ms", look->answered ? age_ms(look->answered_at, now) : json_null());
	set(o, "busy", busy_json(look));
	if (!look->reported)
		return o;
	set(o, "open", json_boolean(r->open));
	set(o, "require", json_boolean(r->require));
	set(o, "released", lsn_json(r->released));
	set(o, "flush", lsn_json(r->flush));
	set(o, "replayed", lsn_json(r->replayed));
	set(o, "link_up", json_boolean(r->link_up));
	set(o, "refusal", r->refusal[0] != '\0' ? json_string(r->refusal) : json_null());
	return o;
}

static json_t *
vip_json(const Manager *m)
{
	static const char *const states[] = {"off", "probing", "on", "taken", "failed"};
	json_t *list = json_array();

	for (int i = 0; i < m->config.nvips; i++)
	{
		const ConfigVip *v = &m->config.vip[i];
		const char *text = "";
		VipState state = vip_state(m->vip, i, &text);
		char address[INET6_ADDRSTRLEN] = "?";
		json_t *o = json_object();

		inet_ntop(v->family, v->address, address, sizeof(address));
		set(o, "address", json_string(address));
		set(o, "device", json_string(v->device));
		set(o, "state", json_string(states[state]));
		set(o, "text", json_string(text != NULL ? text : ""));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *
resources_json(const Manager *m)
{
	json_t *list = json_array();

	for (int i = 0; i < m->config.nresources; i++)
	{
		json_t *o = json_object();

		set(o, "name", json_string(m->config.resource[i].name));
		set(o, "text", json_string(resources_text(m->resources, i)));
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *
confirm_json(const Manager *m, int64_t now)
{
	const FsmConfig *f = &m->config.fsm;
	json_t *o;
	int64_t left = m->fsm.suspect_since + f->confirm_timeout - now;

	if (!f->dr || !m->fsm.asked || fsm_is_holder(&m->fsm))
		return json_null();
	o = json_object();
	set(o, "fails_over", json_boolean(f->confirm_failover && !m->fsm.told_to_wait));
	set(o, "left_s",
		f->confirm_failover && !m->fsm.told_to_wait ? json_integer(left > 0 ? left / 1000000 : 0)
													: json_null());
	set(o, "told_to_wait", json_boolean(m->fsm.told_to_wait));
	set(o, "veto", m->confirm && m->veto != NULL ? json_string(m->veto) : json_null());
	set(o, "majority", json_boolean(majority_is_heard(m, now)));
	set(o, "fence", json_boolean(f->fence && fsm_fence_counts(f, &m->fsm)));
	set(o, "without_majority", json_string(f->confirm_proceed ? "proceed" : "refuse"));
	return o;
}

/* Rules 21 b and 22: the voters in whose place this primary has put itself. */
static json_t *
taken_to_be_off_json(const Manager *m)
{
	json_t *list = json_array();

	for (int n = 0; n < m->config.nnodes && fsm_is_holder(&m->fsm); n++)
		if ((m->fsm.forced & (1u << n)) != 0)
			json_array_append_new(list, json_string(m->config.node[n].name));
	return list;
}

json_t *
manager_status(Manager *m)
{
	int64_t now = lease_file_now();
	json_t *o = json_object();
	json_t *nodes = json_array();
	Outlook look;

	outlook(m, now, &look);
	set(o, "cluster", json_string(m->config.cluster));
	set(o, "node", json_string(m->config.node[m->config.self].name));
	set(o, "version", json_string(MANAGER_VERSION));
	set(o, "profile", json_string(m->config.fsm.dr ? "dr" : "ha"));
	set(o, "paused", json_boolean(m->fsm.paused));
	set(o, "state", json_string(fsm_state_name(m->fsm.state)));
	set(o, "primary", name_json(m, primary_now(m, now)));
	for (int n = 0; n < m->config.nnodes; n++)
		json_array_append_new(nodes, node_json(m, n, now));
	set(o, "nodes", nodes);
	set(o, "record", record_json(m));
	set(o, "lease", lease_json(m, now));
	set(o, "failover", failover_json(m, &look));
	set(o, "loss", loss_json(m, &look, now));
	set(o, "confirm", confirm_json(m, now));
	set(o, "taken_to_be_off", taken_to_be_off_json(m));
	if (m->postgres == NULL)
		return o;
	set(o, "postgres", postgres_json(m, now));
	set(o, "vip", vip_json(m));
	set(o, "resources", resources_json(m));
	set(o, "watchdog_device", json_string(device_text(m->device)));
	return o;
}

void
manager_status_line(const Manager *m, char *text, size_t size)
{
	const Fsm *x = &m->fsm;
	const char *paused = x->paused ? ", paused" : "";

	if (fsm_is_holder(x))
		snprintf(text, size, "primary of term %" PRIu64 ", %s%s%s%s%s", x->term,
				 fsm_state_name(x->state), x->cur.peer >= 0 ? " with " : "",
				 x->cur.peer >= 0 ? m->config.node[x->cur.peer].name : "",
				 x->vip ? "" : ", not open yet", paused);
	else
		snprintf(text, size, "%s%s%s%s", fsm_state_name(x->state),
				 x->primary >= 0 ? ", the primary is " : "",
				 x->primary >= 0 ? m->config.node[x->primary].name : "", paused);
}
