/*
 * control.c
 *		See control.h: the socket for tandemctl, and its commands.
 *
 * A client gets as many answers as it sends requests; one that does not read is dropped rather
 * than waited for.  Commands are a table; each fills in the answer.
 */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "manager.h"

#define MAX_CLIENTS 16
#define MAX_REQUEST 4096

struct Control
{
	Manager *manager;
	sd_event *event;
	char path[CONFIG_PATH_SIZE + CONFIG_NAME_SIZE];
	uid_t os_user; /* looked up once: a directory service may be slow */
	sd_event_source *listener;
	sd_event_source *client[MAX_CLIENTS];
};

/* ---------- answers ---------- */

static void
answer(json_t *a, bool ok, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void
answer(json_t *a, bool ok, const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	json_object_set_new(a, "ok", json_boolean(ok));
	json_object_set_new(a, "text", json_string(text));
}

static void
operate_on(Manager *m, const FsmInput *in, json_t *a)
{
	char text[256];
	bool ok = manager_operator(m, in, text, sizeof(text));

	answer(a, ok, "%s", text);
}

static void
operate(Manager *m, FsmOperator op, uint32_t mask, json_t *a)
{
	FsmInput in = manager_operator_input(op);

	in.mask = mask;
	operate_on(m, &in, a);
}

/* A command for the primary: another node says whom to ask.  True if this is the primary. */
static bool
on_primary(Manager *m, json_t *a)
{
	int p = m->fsm.primary;

	if (fsm_is_holder(&m->fsm))
		return true;
	if (p >= 0)
		answer(a, false, "node %s is not the primary; run this on node %s",
			   m->config.node[m->config.self].name, m->config.node[p].name);
	else
		answer(a, false, "node %s is not the primary, and knows of none",
			   m->config.node[m->config.self].name);
	return false;
}

static bool
is_heard(Manager *m, int node)
{
	int64_t heard = heartbeat_peer(m->heartbeat, node)->heard;

	return heard != 0 && lease_file_now() - heard < HEARTBEAT_SILENT;
}

static bool
has_database(Manager *m, json_t *a)
{
	if (m->postgres != NULL)
		return true;
	answer(a, false, "node %s is a witness", m->config.node[m->config.self].name);
	return false;
}

/* The node with this name, or -1 and an answer. */
static int
known_node(Manager *m, const char *name, json_t *a)
{
	int n = name != NULL ? config_node(&m->config, name) : -1;

	if (n < 0)
		answer(a, false, "there is no node \"%s\" in \"%s\"", name != NULL ? name : "",
			   m->config.path);
	return n;
}

/* ---------- commands ---------- */

static void
cmd_status(Manager *m, json_t *request, json_t *a)
{
	(void) request;
	answer(a, true, "ok");
	json_object_set_new(a, "status", manager_status(m));
}

static void
cmd_events(Manager *m, json_t *request, json_t *a)
{
	json_int_t since = json_integer_value(json_object_get(request, "since"));
	json_t *list = json_array();
	uint64_t first = m->nevents > MANAGER_MAX_EVENTS ? m->nevents - MANAGER_MAX_EVENTS : 0;

	if (since > 0 && (uint64_t) since > first)
		first = (uint64_t) since;
	for (uint64_t i = first; i < m->nevents; i++)
	{
		const ManagerEvent *e = &m->events[i % MANAGER_MAX_EVENTS];
		json_t *o = json_object();

		json_object_set_new(o, "time_us", json_integer(e->time));
		json_object_set_new(o, "kind", json_string(e->kind));
		json_object_set_new(o, "text", json_string(e->text));
		json_array_append_new(list, o);
	}
	answer(a, true, "ok");
	json_object_set_new(a, "events", list);
	json_object_set_new(a, "next", json_integer((json_int_t) m->nevents));
}

/* "to" may name the node; otherwise it is the standby in sync. */
static void
cmd_switchover(Manager *m, json_t *request, json_t *a)
{
	FsmInput in = manager_operator_input(FSM_OP_SWITCHOVER);
	json_t *to = json_object_get(request, "to");

	if (!has_database(m, a) || !on_primary(m, a))
		return;
	if (to != NULL)
	{
		in.node = known_node(m, json_string_value(to), a);
		if (in.node < 0)
			return;
		if (in.node == m->config.self || m->config.node[in.node].witness)
		{
			answer(a, false, "node %s is %s", m->config.node[in.node].name,
				   in.node == m->config.self ? "the primary already" : "a witness");
			return;
		}
	}
	else if (m->fsm.cur.peer >= 0)
		in.node = m->fsm.cur.peer;
	if (m->fsm.state == FSM_IN_SYNC && in.node == m->fsm.cur.peer &&
		(heartbeat_peer(m->heartbeat, in.node)->status.flags & WIRE_ELIGIBLE) == 0)
	{
		answer(
			a, false,
			"node %s could not take over now: its own status says why (after its start its voter "
			"is not ready before a lease has passed)",
			m->config.node[in.node].name);
		return;
	}
	operate_on(m, &in, a);
	if (in.node >= 0)
		json_object_set_new(a, "to", json_string(m->config.node[in.node].name));
}

static void
cmd_drop(Manager *m, json_t *request, json_t *a)
{
	(void) request;
	if (has_database(m, a) && on_primary(m, a))
		operate(m, FSM_OP_DROP_PEER, 0, a);
}

/*
 * Rule 21 b: "force" names the nodes of which the operator asserts that they are off.  False, with
 * an answer, if one of them cannot be.
 */
static bool
nodes_off(Manager *m, json_t *request, uint32_t *mask, json_t *a)
{
	json_t *force = json_object_get(request, "force");
	size_t i;
	json_t *name;

	*mask = 0;
	json_array_foreach(force, i, name)
	{
		int n = known_node(m, json_string_value(name), a);

		if (n < 0)
			return false;
		if (n == m->config.self)
		{
			answer(a, false, "node %s is this node: name those that are off",
				   m->config.node[n].name);
			return false;
		}
		if (is_heard(m, n))
		{
			answer(a, false, "node %s was heard just now: it is not off", m->config.node[n].name);
			return false;
		}
		*mask |= 1u << n;
	}
	return true;
}

/* Rule 21, two overrides: of eligibility (accept_loss), and of the quorum (force). */
static void
cmd_promote(Manager *m, json_t *request, json_t *a)
{
	uint32_t mask;

	if (!has_database(m, a) || !nodes_off(m, request, &mask, a))
		return;
	if (json_is_true(json_object_get(request, "accept_loss")))
		operate(m, FSM_OP_PROMOTE, 0, a);
	if (mask != 0)
		operate(m, FSM_OP_FORCE, mask, a);
	else if (!json_is_true(json_object_get(request, "accept_loss")))
		answer(a, false, "neither a loss is accepted nor are nodes said to be off: nothing to do");
}

/* Would a majority of the voters answer, those being off that are said to be? */
static bool
majority_is_heard(Manager *m, uint32_t mask)
{
	const FsmConfig *f = &m->config.fsm;
	uint32_t yes = mask & f->voters;

	for (int n = 0; n < m->config.nnodes; n++)
		if (n == m->config.self || is_heard(m, n))
			yes |= f->voters & (1u << n);
	return __builtin_popcount(yes) * 2 > __builtin_popcount(f->voters);
}

/* Profile dr: "decision" is failover or wait. */
static void
cmd_confirm(Manager *m, json_t *request, json_t *a)
{
	const char *decision = json_string_value(json_object_get(request, "decision"));
	FsmInput in = manager_operator_input(FSM_OP_CONFIRM);

	if (!has_database(m, a) || !nodes_off(m, request, &in.mask, a))
		return;
	in.ok = decision == NULL || strcmp(decision, "wait") != 0;
	if (in.ok && m->fsm.asked &&
		!(m->config.fsm.fence && fsm_fence_counts(&m->config.fsm, &m->fsm)) &&
		!majority_is_heard(m, in.mask))
		answer(
			a, false,
			"no majority of voters is heard.  HINT: if the primary is off and stays off, say so: "
			"tandemctl confirm failover --force-quorum=NODE");
	else
		operate_on(m, &in, a);
}

static void
cmd_readmit(Manager *m, json_t *request, json_t *a)
{
	(void) request;
	operate(m, FSM_OP_READMIT, 0, a);
}

/* A pause outlives tandemd (manager.c), so that tandemd too can be serviced in it. */
static void
cmd_pause(Manager *m, json_t *request, json_t *a)
{
	char path[CONFIG_PATH_SIZE + CONFIG_NAME_SIZE];
	int fd;

	(void) request;
	config_run_path(&m->config, ".paused", path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
	{
		answer(a, false, "could not write \"%s\": %s", path, strerror(errno));
		return;
	}
	close(fd);
	operate(m, FSM_OP_PAUSE, 0, a);
}

static void
cmd_resume(Manager *m, json_t *request, json_t *a)
{
	char path[CONFIG_PATH_SIZE + CONFIG_NAME_SIZE];

	(void) request;
	config_run_path(&m->config, ".paused", path, sizeof(path));
	if (unlink(path) != 0 && errno != ENOENT)
		answer(a, false, "could not remove \"%s\": %s", path, strerror(errno));
	else
		operate(m, FSM_OP_CONTINUE, 0, a);
}

static void
cmd_seed(Manager *m, json_t *request, json_t *a)
{
	const FsmRec *r = &m->fsm.d.rec;

	if (!has_database(m, a))
		return;
	if (fsm_is_holder(&m->fsm))
		answer(a, false, "node %s is the primary; run this on the node to be seeded",
			   m->config.node[m->config.self].name);
	else if (r->peer == m->config.self && r->peer_copy == m->fsm.d.copy_id &&
			 !json_is_true(json_object_get(request, "even_in_sync")))
		answer(a, false,
			   "this copy is in sync: seeding it leaves the primary alone meanwhile.  "
			   "HINT: --even-in-sync does it all the same.");
	else if (!manager_rebuild(m, true))
		answer(a, false, "node %s cannot be seeded in state \"%s\"",
			   m->config.node[m->config.self].name, fsm_state_name(m->fsm.state));
	else if (m->fsm.primary < 0)
		answer(a, true, "seeding begins when a primary is heard");
	else
		answer(a, true, "seeding from node %s", m->config.node[m->fsm.primary].name);
}

static const struct
{
	const char *name;
	void (*run)(Manager *m, json_t *request, json_t *a);
	bool changes; /* for the log: who asked */
} commands[] = {
	{"status", cmd_status, false},        {"events", cmd_events, false},
	{"switchover", cmd_switchover, true}, {"drop", cmd_drop, true},
	{"promote", cmd_promote, true},       {"confirm", cmd_confirm, true},
	{"readmit", cmd_readmit, true},       {"pause", cmd_pause, true},
	{"resume", cmd_resume, true},         {"seed", cmd_seed, true},
};

static json_t *
serve(Control *ctl, const char *text, size_t length, uid_t uid)
{
	json_error_t error;
	json_t *request = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
	const char *name = json_string_value(json_object_get(request, "command"));
	json_t *a = json_object();
	bool found = false;

	for (size_t i = 0; name != NULL && i < sizeof(commands) / sizeof(commands[0]); i++)
	{
		if (strcmp(commands[i].name, name) != 0)
			continue;
		found = true;
		if (commands[i].changes)
			manager_event(ctl->manager, "operator", "tandemctl %s, by user id %u", name,
						  (unsigned) uid);
		commands[i].run(ctl->manager, request, a);
	}
	if (!found)
		answer(a, false,
			   name == NULL ? "the request is not JSON with a command"
							: "this tandemd does not know this command");
	json_decref(request);
	return a;
}

/* ---------- the socket ---------- */

static void
drop(Control *ctl, sd_event_source *source)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (ctl->client[i] == source)
			ctl->client[i] = NULL;
	sd_event_source_disable_unref(source); /* closes it */
}

static bool
send_answer(int fd, json_t *a)
{
	char *text = json_dumps(a, JSON_COMPACT);
	bool ok = text != NULL && send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;

	free(text);
	return ok;
}

static int
request_came(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	Control *ctl = user;
	char text[MAX_REQUEST];
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);
	ssize_t n = recv(fd, text, sizeof(text), MSG_DONTWAIT | MSG_TRUNC);
	json_t *a;
	bool ok;

	(void) revents;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0 || (size_t) n > sizeof(text) ||
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
	{
		drop(ctl, source);
		return 0;
	}
	a = serve(ctl, text, (size_t) n, peer.uid);
	ok = send_answer(fd, a);
	json_decref(a);
	if (!ok)
		drop(ctl, source);
	return 0;
}

static bool
allowed(const Control *ctl, int fd)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
		   (peer.uid == 0 || peer.uid == geteuid() || peer.uid == ctl->os_user);
}

static int
client_came(sd_event_source *source, int listener, uint32_t revents, void *user)
{
	Control *ctl = user;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int size = CONTROL_MAX_ANSWER;

	(void) source;
	(void) revents;
	if (fd < 0)
		return 0;
	if (!allowed(ctl, fd))
	{
		json_t *a = json_object();

		answer(a, false, "only root and \"%s\" may use tandemctl", ctl->manager->config.os_user);
		(void) send_answer(fd, a);
		json_decref(a);
		close(fd);
		return 0;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	for (int i = 0; i < MAX_CLIENTS; i++)
	{
		if (ctl->client[i] != NULL)
			continue;
		if (sd_event_add_io(ctl->event, &ctl->client[i], fd, EPOLLIN, request_came, ctl) < 0)
			break;
		sd_event_source_set_io_fd_own(ctl->client[i], true);
		sd_event_source_set_priority(ctl->client[i], SD_EVENT_PRIORITY_IDLE);
		return 0;
	}
	close(fd);
	return 0;
}

static int
listen_at(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	(void) unlink(path); /* an earlier tandemd's; the lock says that none runs */
	if (bind(fd, (struct sockaddr *) &a, sizeof(a)) < 0 || chmod(path, 0666) < 0 ||
		listen(fd, MAX_CLIENTS) < 0)
	{
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* The socket may be opened by anyone; who is served is decided by who it is (allowed()). */
int
control_new(Control **out, Manager *m, sd_event *event)
{
	Control *ctl = calloc(1, sizeof(*ctl));
	struct passwd *user;
	int fd;
	int r;

	if (ctl == NULL)
		return -ENOMEM;
	ctl->manager = m;
	ctl->event = event;
	user = m->config.os_user[0] != '\0' ? getpwnam(m->config.os_user) : NULL;
	ctl->os_user = user != NULL ? user->pw_uid : 0;
	config_run_path(&m->config, ".control", ctl->path, sizeof(ctl->path));
	fd = listen_at(ctl->path);
	r = fd < 0 ? fd : sd_event_add_io(event, &ctl->listener, fd, EPOLLIN, client_came, ctl);
	if (r < 0)
	{
		if (fd >= 0)
			close(fd);
		free(ctl);
		return r;
	}
	sd_event_source_set_io_fd_own(ctl->listener, true);
	sd_event_source_set_priority(ctl->listener, SD_EVENT_PRIORITY_IDLE);
	*out = ctl;
	return 0;
}

void
control_free(Control *ctl)
{
	if (ctl == NULL)
		return;
	for (int i = 0; i < MAX_CLIENTS; i++)
		sd_event_source_disable_unref(ctl->client[i]);
	sd_event_source_disable_unref(ctl->listener);
	(void) unlink(ctl->path);
	free(ctl);
}
