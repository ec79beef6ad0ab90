/*
 * manager.c
 *		See manager.h: inputs to the decision core, and its actions carried out in order.
 *
 * Order at the start: the lock (one tandemd per node), the lease file, the voter's state, and with
 * it the floor of the link; only then is anything else opened, and the decision core started.
 *
 * The end.  tandemd that ends, for whatever reason, leaves PostgreSQL and the virtual address
 * alone: both go on until the lease runs out.  A tandemd that starts again before that resumes the
 * term (rule 13), so that a restart or an upgrade interrupts nothing.  If it does not, the
 * extension stops PostgreSQL and another node takes over.  Only when the whole host goes down a
 * primary in sync first hands over in order: there is no point in letting the lease run out.
 */
#include "manager.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <syslog.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "control.h"
#include "own_dir.h"

#define FULL_RETRY      INT64_C(10000000) /* us: how often a full disk is handed over from */
#define HAND_OVER_LIMIT INT64_C(20000000) /* us: when the host goes down */

static bool
failed(char *error, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Always false. */
static bool
failed(char *error, size_t size, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(error, size, format, ap);
	va_end(ap);
	return false;
}

/* This boot of this host as a number: the first half of its id. */
static uint64_t
boot_number(void)
{
	uint64_t n = 0;
	int digits = 0;

	for (const char *s = lease_file_boot_id(); *s != '\0' && digits < 16; s++)
	{
		int v = *s >= '0' && *s <= '9' ? *s - '0' : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10 : -1;

		if (v < 0)
			continue;
		n = n << 4 | (uint64_t) v;
		digits++;
	}
	return digits == 16 ? n : 0;
}

static uint64_t
random_number(void)
{
	uint64_t n = 0;

	while (n == 0)
		if (getrandom(&n, sizeof(n), 0) != (ssize_t) sizeof(n))
			n = 0;
	return n;
}

/* ---------- actions ---------- */

static void
write_cell(Manager *m)
{
	if (m->lease != NULL)
		lease_file_write(m->lease, &m->cell);
}

/* Nodes by number become nodes by name. */
static void
command_gate(Manager *m, const GateCommand *g)
{
	WatchCommand w;

	memset(&w, 0, sizeof(w));
	w.version = WATCH_VERSION;
	w.size = sizeof(w);
	w.order = g->order;
	w.instance = g->instance;
	w.cmd = g->cmd;
	w.term = g->term;
	w.inc = g->inc;
	if (g->peer >= 0 && g->peer < m->config.nnodes)
		snprintf(w.peer, sizeof(w.peer), "%s", m->config.node[g->peer].name);
	w.peer_copy = g->peer_copy;
	postgres_gate(m->postgres, &w);
}

static void
persist(Manager *m, const FsmAction *a)
{
	int r = store_write(m->store, a->seq, &a->u.image);

	if (r < 0)
	{
		/* one image is in flight at a time: cannot happen, and must not go unanswered */
		FsmInput in = {.type = FSM_I_PERSISTED, .seq = a->seq, .ok = false};

		manager_event(m, "alarm", "defect: could not begin to write the state: %s", strerror(-r));
		manager_input(m, &in);
	}
}

static void
edge_taken(Manager *m, const FsmEdge *e)
{
	const Fsm *x = &m->fsm;
	char peer[CONFIG_NAME_SIZE + 32] = "";

	if (fsm_is_holder(x))
		snprintf(peer, sizeof(peer), ", term %llu, standby %s", (unsigned long long) x->term,
				 x->cur.peer >= 0 ? m->config.node[x->cur.peer].name : "none");
	manager_event(m, "state", "%s%s: %s", fsm_state_name(e->to), peer, e->reason);
}

static void
answer_operator(Manager *m, const FsmAction *a)
{
	if (m->reply.wanted)
	{
		m->reply.wanted = false;
		m->reply.ok = a->ok;
		snprintf(m->reply.text, sizeof(m->reply.text), "%s", a->u.text);
	}
	manager_event(m, "operator", "%s", a->u.text);
}

static void
carry_out(Manager *m, const FsmAction *a)
{
	switch (a->type)
	{
		case FSM_A_PERSIST:
			persist(m, a);
			break;
		case FSM_A_SEND:
			heartbeat_send(m->heartbeat, &a->u.msg);
			break;
		case FSM_A_TIMER:
			sd_event_source_set_time(m->timer, a->at > 0 ? (uint64_t) a->at : 0);
			sd_event_source_set_enabled(m->timer, SD_EVENT_ONESHOT);
			break;
		case FSM_A_CELL_FLOOR:
			if (a->term > m->cell.floor)
				m->cell.floor = a->term;
			write_cell(m);
			break;
		case FSM_A_CELL_LEASE:
			m->cell.term = a->term;
			m->cell.deadline = a->at;
			write_cell(m);
			break;
		case FSM_A_GATE:
			command_gate(m, &a->u.gate);
			break;
		case FSM_A_PG_RUN_PRIMARY:
			postgres_run_primary(m->postgres, a->term, a->inc);
			break;
		case FSM_A_PG_RUN_STANDBY:
			postgres_run_standby(m->postgres, a->node);
			break;
		case FSM_A_PG_KILL:
			postgres_kill(m->postgres);
			break;
		case FSM_A_PG_STOP:
			postgres_stop(m->postgres);
			break;
		case FSM_A_REBUILD:
			postgres_rebuild(m->postgres, a->node, m->fsm.d.copy_id, m->seed);
			break;
		case FSM_A_VIP_HOLD:
			vip_hold(m->vip, a->at);
			break;
		case FSM_A_VIP_REMOVE:
			resources_want(m->resources, false);
			vip_remove(m->vip);
			break;
		case FSM_A_FENCE:
			manager_event(m, "fence", "power-off of node %s is asked for",
						  m->config.node[a->node].name);
			fence_power_off(m->fence, a->node, a->seq);
			break;
		case FSM_A_EDGE:
			edge_taken(m, a->u.edge);
			break;
		case FSM_A_ALARM:
			manager_event(m, "alarm", "%s", a->u.text);
			break;
		case FSM_A_REPLY:
			answer_operator(m, a);
			break;
	}
}

static void
notify(Manager *m)
{
	static char last[256];
	char text[256];

	manager_status_line(m, text, sizeof(text));
	if (strcmp(text, last) == 0)
		return;
	memcpy(last, text, sizeof(last));
	sd_notifyf(0, "STATUS=%s", text);
}

/*
 * Other services run while this node is primary and open.  A primary that is not (yet) ours, as
 * after a restart of tandemd, says nothing about them: FSM_A_VIP_REMOVE does if it is given up.
 */
static void
follow_resources(Manager *m)
{
	FsmPgState pg = postgres_look(m->postgres)->state;

	resources_pause(m->resources, m->fsm.paused);
	if (m->fsm.vip)
		resources_want(m->resources, true);
	else if (pg != FSM_PG_PRIMARY && pg != FSM_PG_UNKNOWN)
		resources_want(m->resources, false);
}

/*
 * The decision core is told before PostgreSQL is started or promoted: that waits for the disk, and
 * so for a later step than the one in which the lease was got and the device was to be armed.
 */
static void
follow_device(Manager *m)
{
	bool guards = device_guards(m->device);
	FsmInput in = {.type = FSM_I_DEVICE, .ok = guards};

	if (m->fsm.unguarded != guards)
		return;
	manager_input(m, &in);
}

/*
 * What follows from the state rather than from an action.  The kernel's watchdog is armed while
 * this node may be primary.
 */
static void
follow_state(Manager *m)
{
	if (m->postgres == NULL)
		return;
	if (fsm_is_holder(&m->fsm) && m->cell.deadline > 0)
		device_hold(m->device, m->cell.deadline);
	else if (postgres_look(m->postgres)->state != FSM_PG_PRIMARY)
		device_hold(m->device, 0);
	follow_resources(m);
	manager_loss_tick(m);
	follow_device(m);
}

static void
step(Manager *m, const FsmInput *in)
{
	fsm_step(&m->config.fsm, &m->fsm, in, lease_file_now(), &m->actions);
	for (int i = 0; i < m->actions.n; i++)
		carry_out(m, &m->actions.a[i]);
}

/*
 * Steps never nest: what comes while one is carried out (a room that answers at once) waits until
 * it is over.
 */
void
manager_input(Manager *m, const FsmInput *in)
{
	if (m->stepping)
	{
		if (m->nqueue < MANAGER_MAX_QUEUE)
			m->queue[m->nqueue++] = *in;
		else
			manager_log(m, LOG_ERR, "defect: too many inputs wait for the decision core");
		return;
	}
	m->stepping = true;
	step(m, in);
	for (int i = 0; i < m->nqueue; i++)
	{
		FsmInput next = m->queue[i];

		step(m, &next);
	}
	m->nqueue = 0;
	m->stepping = false;
	follow_state(m);
	notify(m);
}

/* An operator's command that names no node. */
FsmInput
manager_operator_input(FsmOperator op)
{
	return (FsmInput){.type = FSM_I_OPERATOR, .op = op, .node = FSM_NOBODY, .ok = true};
}

bool
manager_operator(Manager *m, const FsmInput *in, char *text, size_t size)
{
	m->reply.wanted = true;
	m->reply.ok = false;
	snprintf(m->reply.text, sizeof(m->reply.text), "no answer");
	manager_input(m, in);
	m->reply.wanted = false;
	snprintf(text, size, "%s", m->reply.text);
	return m->reply.ok;
}

bool
manager_rebuild(Manager *m, bool seed)
{
	FsmInput in = {.type = FSM_I_DIVERGED, .fresh = random_number()};

	if (m->fsm.state == FSM_REBUILD)
	{
		m->seed = m->seed || seed;
		return true;
	}
	m->seed = seed;
	manager_input(m, &in);
	return m->fsm.state == FSM_REBUILD;
}

/* ---------- inputs ---------- */

static int
timer_elapsed(sd_event_source *source, uint64_t usec, void *user)
{
	FsmInput in = {.type = FSM_I_TIMER};

	(void) source;
	(void) usec;
	manager_input(user, &in);
	return 0;
}

static void
message_came(void *user, const FsmMsg *msg)
{
	FsmInput in = {.type = FSM_I_MSG, .msg = *msg};

	manager_input(user, &in);
}

static void
state_written(void *user, uint64_t seq, bool ok, const char *error)
{
	Manager *m = user;
	FsmInput in = {.type = FSM_I_PERSISTED, .seq = seq, .ok = ok};

	if (!ok && !m->write_failed)
		manager_log(m, LOG_ERR, "%s", error);
	m->write_failed = !ok;
	manager_input(m, &in);
}

static void
fence_answered(void *user, int node, uint64_t seq, bool ok, const char *text)
{
	Manager *m = user;
	FsmInput in = {.type = FSM_I_FENCE, .node = node, .seq = seq, .ok = ok};

	manager_event(m, "fence", "node %s: %s", m->config.node[node].name, text);
	manager_input(m, &in);
}

static const char *
pg_name(FsmPgState s)
{
	static const char *const names[] = {"not known yet", "down", "standby", "primary", "broken"};

	return names[s];
}

static void
tell_pg(Manager *m, const PostgresLook *look)
{
	if (look->state == m->told_pg)
		return;
	m->told_pg = look->state;
	manager_event(m, "postgres", "PostgreSQL is %s%s%s", pg_name(look->state),
				  look->state == FSM_PG_BROKEN ? ": " : "",
				  look->state == FSM_PG_BROKEN ? look->text : "");
}

/*
 * The primary refused this standby: it has diverged.  Nothing is rewound while paused, nor while a
 * primary of whom nobody knows whether it still is one says so.
 */
static void
look_for_refusal(Manager *m, const PostgresLook *look)
{
	if (look->state != FSM_PG_STANDBY || !look->reported || !look->report.diverged ||
		m->fsm.paused || m->fsm.d.rebuilding)
		return;
	if (m->fsm.state != FSM_STANDBY || m->fsm.primary < 0)
		return;
	manager_event(m, "postgres", "the primary refused this copy: %s", look->report.refusal);
	manager_rebuild(m, false);
}

/*
 * No room for WAL is left here.  PostgreSQL may answer its probe for a while yet, and a restart
 * makes no room: the standby in sync takes over.  Tried again, because there may be one later.
 */
static void
leave_full_disk(Manager *m, const PostgresLook *look)
{
	FsmInput in = manager_operator_input(FSM_OP_SWITCHOVER);
	int64_t now = lease_file_now();

	if (!look->full || look->state != FSM_PG_PRIMARY || m->fsm.paused ||
		now - m->left_full_at < FULL_RETRY)
		return;
	m->left_full_at = now;
	if (m->fsm.state != FSM_IN_SYNC || m->config.fsm.dr)
		manager_event(m, "alarm",
					  "no room is left for WAL on this node, and no standby is in sync: make room");
	else
	{
		manager_event(m, "alarm", "no room is left for WAL on this node: handing over");
		manager_input(m, &in);
	}
}

static void
pg_changed(void *user)
{
	Manager *m = user;
	const PostgresLook *look = m->postgres != NULL ? postgres_look(m->postgres) : NULL;
	FsmInput in = {.type = FSM_I_PG};

	if (look == NULL) /* before the start is complete */
		return;
	tell_pg(m, look);
	/*
	 * One that is starting is neither down nor anything else, and must not be started once more.
	 * But a primary of which nothing is known falls silent, so that probe_timeout finds it.
	 */
	if (look->state == FSM_PG_UNKNOWN && m->fsm.state >= FSM_SETTLE &&
		m->fsm.state <= FSM_JOIN_NAME)
		return;
	if (manager_look(&m->config, look, &m->cell, lease_file_now(), &in.pg))
		manager_input(m, &in);
	look_for_refusal(m, look);
	leave_full_disk(m, look);
}

static void
pg_rebuilt(void *user, bool ok, const char *error)
{
	Manager *m = user;
	FsmInput in = {.type = FSM_I_REBUILT, .ok = ok};

	if (ok)
		m->seed = false;
	else
		manager_event(m, "postgres", "rewind or seed failed: %s", error);
	manager_input(m, &in);
}

static void
pg_told(void *user, const char *kind, const char *text)
{
	manager_event(user, "postgres", "%s: %s", kind, text);
}

static void
vip_told(void *user, int index, VipState state, const char *text)
{
	(void) index;
	manager_event(user, state == VIP_TAKEN || state == VIP_FAILED ? "alarm" : "vip", "%s", text);
}

static void
resources_told(void *user, const char *name, const char *text, bool hand_over)
{
	Manager *m = user;
	FsmInput in = manager_operator_input(FSM_OP_SWITCHOVER);

	manager_event(m, "resource", "%s: %s", name, text);
	if (!hand_over)
		return;
	manager_event(m, "resource", "%s cannot be kept running here: handing over", name);
	manager_input(m, &in);
}

static void
device_told(void *user, const char *text)
{
	manager_event(user, "fence", "watchdog device: %s", text);
}

static void
network_told(void *user, const char *text)
{
	manager_event(user, "network", "%s", text);
}

static void
say_status(void *user, WireStatus *s)
{
	Manager *m = user;
	const PostgresLook *look = m->postgres != NULL ? postgres_look(m->postgres) : NULL;

	s->state = (uint8_t) m->fsm.state;
	s->pg_state = FSM_PG_UNKNOWN;
	s->term = fsm_is_holder(&m->fsm) ? m->fsm.term : m->fsm.d.prom;
	s->flags = m->fsm.paused ? WIRE_PAUSED : 0;
	if (manager_why_not(m) == NULL)
		s->flags |= WIRE_ELIGIBLE;
	if (look == NULL)
		return;
	s->pg_state = (uint8_t) look->state;
	if (!look->reported)
		return;
	s->lsn = look->report.flush;
	s->replayed = look->report.role == WATCH_PRIMARY ? look->report.flush : look->report.replayed;
	s->timeline = look->report.timeline;
	if (look->report.role == WATCH_PRIMARY && look->report.open)
		s->flags |= WIRE_OPEN;
}

/* ---------- the end ---------- */

/* Does systemd bring the whole host down (or is it this service only)? */
static bool
host_goes_down(void)
{
	sd_bus *bus = NULL;
	char *state = NULL;
	bool down = false;

	if (sd_booted() <= 0 || sd_bus_open_system(&bus) < 0)
		return false;
	sd_bus_set_method_call_timeout(bus, UINT64_C(1000000));
	if (sd_bus_get_property_string(bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
								   "org.freedesktop.systemd1.Manager", "SystemState", NULL,
								   &state) >= 0)
		down = strcmp(state, "stopping") == 0;
	free(state);
	sd_bus_flush_close_unref(bus);
	return down;
}

static void
end_now(Manager *m, ManagerEnd end)
{
	m->end = end;
	sd_event_exit(m->event, 0);
}

/* Is the hand-over of a host that goes down done, and durable? */
static int
ending(sd_event_source *source, uint64_t usec, void *user)
{
	Manager *m = user;
	int64_t now = lease_file_now();

	(void) usec;
	if ((m->fsm.state == FSM_STANDBY && m->fsm.writing == 0 && m->fsm.nheld == 0) ||
		now >= m->ends_at)
	{
		end_now(m, MANAGER_STOP);
		return 0;
	}
	sd_event_source_set_time(source, (uint64_t) (now + 20000));
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void
stop(Manager *m)
{
	int64_t now = lease_file_now();
	FsmInput in = manager_operator_input(FSM_OP_SWITCHOVER);
	char text[256];

	if (m->ending)
		return;
	if (fsm_is_holder(&m->fsm) && host_goes_down() && manager_operator(m, &in, text, sizeof(text)))
	{
		manager_log(m, LOG_NOTICE, "the host goes down: handing over first");
		m->ending = true;
		m->ends_at = now + HAND_OVER_LIMIT;
		if (sd_event_add_time(m->event, NULL, CLOCK_BOOTTIME, (uint64_t) now, 1000, ending, m) >= 0)
			return;
	}
	if (fsm_is_holder(&m->fsm))
		manager_log(m, LOG_WARNING,
					"tandemd ends, PostgreSQL goes on as primary until its lease ends in %.1f s: "
					"if tandemd does not run again by then PostgreSQL is stopped and another node "
					"takes over.  HINT: to stop for longer, use \"tandemctl switchover\" first.",
					(double) (m->cell.deadline - now) / 1e6);
	else
		manager_log(m, LOG_NOTICE, "tandemd ends; PostgreSQL is left as it is");
	end_now(m, MANAGER_STOP);
}

/* SIGHUP: start again with the new file, if it is good. */
static void
reload(Manager *m)
{
	Config *c = malloc(sizeof(*c));
	char error[512];

	if (c == NULL)
		return;
	if (!config_read(c, m->config.path, m->config.node[m->config.self].name, error, sizeof(error)))
		manager_log(m, LOG_ERR, "%s; going on with the configuration as it was", error);
	else
	{
		sd_notify(0, "RELOADING=1");
		manager_log(m, LOG_NOTICE, "starting again with \"%s\"", m->config.path);
		end_now(m, MANAGER_RELOAD);
	}
	free(c);
}

static int
signalled(sd_event_source *source, const struct signalfd_siginfo *si, void *user)
{
	(void) source;
	if (si->ssi_signo == SIGHUP)
		reload(user);
	else
		stop(user);
	return 0;
}

/* ---------- start ---------- */

static bool
make_directory(const char *setting, const char *path, mode_t mode, char *error, size_t size)
{
	if (mkdir(path, mode) != 0 && errno != EEXIST)
		return failed(error, size, "could not make \"%s\": %s", path, strerror(errno));
	return own_dir_check(setting, path, error, size) == OWN_DIR_SAFE;
}

/* The one of the state may be new: on a voter that is to be re-admitted. */
static bool
make_directories(const Config *c, char *error, size_t size)
{
	return make_directory("run_directory", c->run_directory, 0755, error, size) &&
		   make_directory("state_directory", c->state_directory, 0700, error, size);
}

/* One tandemd per node: two would write one lease file and one state. */
static bool
take_lock(Manager *m, char *error, size_t size)
{
	char path[CONFIG_PATH_SIZE + CONFIG_NAME_SIZE];

	config_run_path(&m->config, ".lock", path, sizeof(path));
	m->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (m->lock < 0)
		return failed(error, size, "could not open \"%s\": %s", path, strerror(errno));
	if (flock(m->lock, LOCK_EX | LOCK_NB) != 0)
		return failed(error, size, "another tandemd runs for node \"%s\" (\"%s\" is locked)",
					  m->config.node[m->config.self].name, path);
	return true;
}

static bool
open_lease(Manager *m, char *error, size_t size)
{
	const Config *c = &m->config;
	char path[CONFIG_PATH_SIZE + CONFIG_NAME_SIZE];

	if (c->node[c->self].witness)
		return true;
	config_run_path(c, ".lease", path, sizeof(path));
	m->lease = lease_file_create(path, c->node[c->self].name);
	if (m->lease == NULL)
		return failed(error, size, "could not map \"%s\": %s", path, strerror(errno));
	if (!lease_file_read(m->lease, c->node[c->self].name, &m->cell))
		return failed(error, size, "could not read \"%s\"", path);
	m->lease->stop_budget = c->fsm.timing.stop;
	m->lease->lease = c->fsm.timing.lease;
	m->lease->tandemd_pid = getpid();
	return true;
}

static int
open_loop(Manager *m)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	int r = sd_event_new(&m->event);

	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
	{
		r = sd_event_add_signal(m->event, NULL, signals[i], signalled, m);
		if (r < 0)
			return r;
	}
	r = sd_event_add_time(m->event, &m->timer, CLOCK_BOOTTIME, UINT64_MAX, 1, timer_elapsed, m);
	if (r < 0)
		return r;
	return sd_event_source_set_priority(m->timer, SD_EVENT_PRIORITY_IMPORTANT);
}

/* The rooms that a node with a database has. */
static int
open_data_rooms(Manager *m)
{
	static const PostgresCallbacks callbacks = {pg_changed, pg_rebuilt, pg_told};
	const Config *c = &m->config;
	int r = vip_new(&m->vip, c, m->event, vip_told, m);

	if (r >= 0)
		r = fence_new(&m->fence, c, m->event, fence_answered, m);
	if (r >= 0)
		r = resources_new(&m->resources, c, m->event, resources_told, m);
	if (r >= 0)
		r = device_new(&m->device, c, m->event, device_told, m);
	if (r >= 0)
		r = postgres_new(&m->postgres, c, m->event, &callbacks, m);
	return r;
}

/* A pause outlives tandemd, but not a boot: a forgotten one must not last for ever. */
static void
resume_pause(Manager *m)
{
	char path[CONFIG_PATH_SIZE + CONFIG_NAME_SIZE];
	FsmInput in = manager_operator_input(FSM_OP_PAUSE);

	config_run_path(&m->config, ".paused", path, sizeof(path));
	if (access(path, F_OK) == 0)
		manager_input(m, &in);
}

static void
start_core(Manager *m, const FsmDurable *d, uint64_t boot, uint64_t instance)
{
	if (!d->admitted)
		manager_event(m, "alarm",
					  "this voter has no state: it votes again when it has read all the others, or "
					  "after \"tandemctl readmit\"; on a new cluster use \"tandemctl init\"");
	m->stepping = true;
	fsm_init(&m->config.fsm, &m->fsm, d, boot, instance, (uint32_t) random_number(),
			 lease_file_now(), &m->actions);
	for (int i = 0; i < m->actions.n; i++)
		carry_out(m, &m->actions.a[i]);
	m->stepping = false;
	resume_pause(m);
	if (m->postgres != NULL)
		pg_changed(m);
}

static bool
open_all(Manager *m, char *error, size_t size)
{
	static const HeartbeatCallbacks callbacks = {message_came, say_status, network_told};
	const Config *c = &m->config;
	uint64_t boot = boot_number();
	uint64_t instance = (uint64_t) lease_file_now();
	FsmDurable d;
	int r;

	if (boot == 0)
		return failed(error, size, "could not read /proc/sys/kernel/random/boot_id");
	if (!make_directories(c, error, size) || !take_lock(m, error, size) ||
		!open_lease(m, error, size) || !store_read(c, &d, error, size))
		return false;
	if (d.prom > m->cell.floor)
		m->cell.floor = d.prom;
	write_cell(m);

	r = open_loop(m);
	if (r < 0)
		return failed(error, size, "could not make the event loop: %s", strerror(-r));
	r = heartbeat_new(&m->heartbeat, c, m->event, boot, instance, &callbacks, m);
	if (r < 0)
		return failed(error, size, "could not open the sockets of the heartbeats: %s",
					  strerror(-r));
	r = store_new(&m->store, c, &d, m->event, state_written, m);
	if (r < 0)
		return failed(error, size, "could not start the writer of the state: %s", strerror(-r));
	r = c->node[c->self].witness ? 0 : open_data_rooms(m);
	if (r < 0)
		return failed(error, size, "could not start: %s", strerror(-r));
	r = control_new(&m->control, m, m->event);
	if (r < 0)
		return failed(error, size, "could not open the socket for tandemctl: %s", strerror(-r));
	start_core(m, &d, boot, instance);
	return true;
}

bool
manager_new(Manager **out, const Config *c, char *error, size_t error_size)
{
	Manager *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return failed(error, error_size, "out of memory");
	m->config = *c;
	m->confirm = c->fsm.confirm_failover;
	m->lock = -1;
	if (!open_all(m, error, error_size))
	{
		manager_free(m);
		return false;
	}
	*out = m;
	return true;
}

ManagerEnd
manager_run(Manager *m)
{
	int r = sd_event_set_watchdog(m->event, true);

	if (r < 0)
		manager_log(m, LOG_WARNING, "no keep-alives for systemd: %s", strerror(-r));
	manager_log(m, LOG_NOTICE, "tandemd %s runs for node %s of cluster %s", MANAGER_VERSION,
				m->config.node[m->config.self].name, m->config.cluster);
	sd_notify(0, "READY=1");
	manager_save_memory(m);
	r = sd_event_loop(m->event);
	if (r < 0)
		manager_log(m, LOG_ERR, "the event loop failed: %s", strerror(-r));
	if (m->end == MANAGER_STOP)
		sd_notify(0, "STOPPING=1");
	return m->end;
}

void
manager_free(Manager *m)
{
	bool holder = fsm_is_holder(&m->fsm);

	control_free(m->control);
	if (m->postgres != NULL)
		postgres_free(m->postgres);
	if (m->resources != NULL)
		resources_free(m->resources);
	if (m->fence != NULL)
		fence_free(m->fence);
	if (m->vip != NULL)
		vip_free(m->vip);
	if (m->device != NULL)
		device_free(m->device, !holder);
	store_free(m->store);
	heartbeat_free(m->heartbeat);
	sd_event_source_disable_unref(m->timer);
	sd_event_unref(m->event);
	if (m->lease != NULL)
	{
		m->lease->tandemd_pid = 0;
		lease_file_close(m->lease);
	}
	if (m->lock >= 0)
		close(m->lock);
	free(m);
}
