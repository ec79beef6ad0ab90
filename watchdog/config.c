/*
 * config.c
 *		tandem.conf: the keys there are, their defaults, and what must hold between them.
 *		tandemd and tandemctl link it.
 *
 * The file is first read as a whole (ini_lines.c), so that the order of its sections does not
 * matter; then the table below says for each line where its value goes.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_values.h"
#include "ini_lines.h"
#include "units.h"

#ifndef CONFIG_BIN_DIRECTORY /* the Makefile's: of the PostgreSQL this was built for */
#define CONFIG_BIN_DIRECTORY "/usr/lib/postgresql/15/bin"
#endif

#define MS  INT64_C(1000)
#define SEC INT64_C(1000000)
#define MIN (60 * SEC)

typedef enum KeyType
{
	KEY_NAME,   /* char[CONFIG_NAME_SIZE] */
	KEY_PATH,   /* char[CONFIG_PATH_SIZE], absolute */
	KEY_TIME,   /* int64_t */
	KEY_SIZE,   /* int64_t */
	KEY_INT,    /* int */
	KEY_CHOICE, /* bool, or an enum */
	KEY_CUSTOM
} KeyType;

typedef struct Key
{
	const char *section;
	const char *key;
	const char *def; /* NULL: empty, or 0 */
	KeyType type;
	size_t offset; /* in Config, ConfigNode (section node) or ConfigResource (resource) */
	size_t size;
	int64_t min;
	int64_t max;
	const char *choices; /* "first|second": 0, 1, ... */
	ConfigReader read;
} Key;

#define IN(type, member) offsetof(type, member), sizeof(((type *) NULL)->member)

#define NAME(section, key, def, type, member)                           \
	{                                                                   \
		section, key, def, KEY_NAME, IN(type, member), 0, 0, NULL, NULL \
	}
#define PATH(section, key, def, type, member)                           \
	{                                                                   \
		section, key, def, KEY_PATH, IN(type, member), 0, 0, NULL, NULL \
	}
#define TIME(section, key, def, type, member, min, max)                     \
	{                                                                       \
		section, key, def, KEY_TIME, IN(type, member), min, max, NULL, NULL \
	}
#define SIZE(section, key, def, type, member)                                   \
	{                                                                           \
		section, key, def, KEY_SIZE, IN(type, member), 0, INT64_MAX, NULL, NULL \
	}
#define INT(section, key, def, type, member, min, max)                     \
	{                                                                      \
		section, key, def, KEY_INT, IN(type, member), min, max, NULL, NULL \
	}
#define CHOICE(section, key, def, type, member, choices)                     \
	{                                                                        \
		section, key, def, KEY_CHOICE, IN(type, member), 0, 0, choices, NULL \
	}
#define CUSTOM(section, key, type, member, read)                                    \
	{                                                                               \
		section, key, NULL, KEY_CUSTOM, offsetof(type, member), 0, 0, 0, NULL, read \
	}
#define WHOLE(section, key, read)                              \
	{                                                          \
		section, key, NULL, KEY_CUSTOM, 0, 0, 0, 0, NULL, read \
	}

/* The bounds are those of sense; what is safe is decided by fsm_check_config(). */
static const Key keys[] = {
	NAME("tandemd", "cluster", NULL, Config, cluster),
	WHOLE("tandemd", "node", NULL), /* needed before all others: choose_node() */
	PATH("tandemd", "state_directory", "/var/lib/tandemd", Config, state_directory),
	PATH("tandemd", "run_directory", "/run/pg_tandem", Config, run_directory),
	PATH("tandemd", "key_file", "/etc/tandem.key", Config, key_file),
	PATH("tandemd", "event_hook", NULL, Config, event_hook),

	CHOICE("failover", "profile", "ha", Config, fsm.dr, "ha|dr"),
	TIME("failover", "lease", "5s", Config, fsm.timing.lease, 1500 * MS, 10 * MIN),
	TIME("failover", "heartbeat", "500ms", Config, fsm.timing.heartbeat, 10 * MS, 5 * MIN),
	TIME("failover", "margin", "100ms", Config, fsm.timing.margin, 1 * MS, 5 * MIN),
	TIME("failover", "stop_budget", "1s", Config, fsm.timing.stop, 100 * MS, 5 * MIN),
	TIME("failover", "peer_timeout", "2s", Config, fsm.peer_timeout, 100 * MS, 60 * MIN),
	TIME("failover", "probe_timeout", "10s", Config, fsm.probe_timeout, 500 * MS, 60 * MIN),
	TIME("failover", "retry_interval", "1s", Config, fsm.pg_retry, 100 * MS, 5 * MIN),
	INT("failover", "restart_attempts", "3", Config, fsm.restart_attempts, 0, 1000),
	TIME("failover", "restart_window", "30min", Config, fsm.restart_window, SEC,
		 30 * 24 * 60 * MIN),
	CHOICE("failover", "on_isolation", "stall", Config, fsm.isolation_continue, "stall|continue"),
	TIME("failover", "confirm_timeout", "600s", Config, fsm.confirm_timeout, SEC,
		 30 * 24 * 60 * MIN),
	CHOICE("failover", "confirm_default", "wait", Config, fsm.confirm_failover, "wait|failover"),
	CHOICE("failover", "confirm_without_majority", "refuse", Config, fsm.confirm_proceed,
		   "refuse|proceed"),
	SIZE("failover", "max_loss", "0", Config, max_loss_bytes),
	TIME("failover", "max_loss_time", "0", Config, max_loss_us, 0, 30 * 24 * 60 * MIN),

	NAME("postgres", "unit", NULL, Config, unit),
	PATH("postgres", "bin_directory", CONFIG_BIN_DIRECTORY, Config, bin_directory),
	PATH("postgres", "data_directory", NULL, Config, data_directory),
	PATH("postgres", "config_file", NULL, Config, config_file),
	PATH("postgres", "socket_directory", "/var/run/postgresql", Config, socket_directory),
	INT("postgres", "port", "5432", Config, port, 1, 65535),
	NAME("postgres", "os_user", "postgres", Config, os_user),
	NAME("postgres", "probe_user", "postgres", Config, probe_user),
	NAME("postgres", "probe_database", "postgres", Config, probe_database),
	NAME("postgres", "replication_user", "postgres", Config, replication_user),
	NAME("postgres", "slot", NULL, Config, slot),
	PATH("postgres", "log_file", "/var/log/postgresql/tandemd.log", Config, log_file),
	TIME("postgres", "start_timeout", "5min", Config, start_timeout, SEC, 30 * 24 * 60 * MIN),
	TIME("postgres", "probe_interval", "1s", Config, probe_interval, 100 * MS, 5 * MIN),

	WHOLE("vip", "address", config_read_vips),

	CHOICE("watchdog", "device", "off", Config, device, "off|auto|required"),
	PATH("watchdog", "path", "/dev/watchdog", Config, device_path),

	CHOICE("node", "role", "data", ConfigNode, witness, "data|witness"),
	CHOICE("node", "site", "local", ConfigNode, dr, "local|remote"),
	CHOICE("node", "voter", NULL, ConfigNode, voter, "off|on"), /* the default depends */
	WHOLE("node", "address", config_read_addresses),
	WHOLE("node", "conninfo", config_read_conninfo),
	PATH("node", "fence", NULL, ConfigNode, fence),
	CUSTOM("node", "fence_options", ConfigNode, fence_options, config_read_options),

	WHOLE("resource", "agent", config_read_agent),
	CUSTOM("resource", "options", ConfigResource, options, config_read_options),
	TIME("resource", "start_timeout", "30s", ConfigResource, start_timeout, 100 * MS, 60 * MIN),
	TIME("resource", "stop_timeout", "30s", ConfigResource, stop_timeout, 100 * MS, 60 * MIN),
	TIME("resource", "monitor_interval", "10s", ConfigResource, monitor_interval, 0, 24 * 60 * MIN),
	INT("resource", "restart_attempts", "3", ConfigResource, restart_attempts, 0, 1000),
	CHOICE("resource", "on_failure", "ignore", ConfigResource, failover, "ignore|failover"),
};
#define NKEYS ((int) (sizeof(keys) / sizeof(keys[0])))

/* Everything that reading needs. */
typedef struct Reading
{
	Config *c;
	const char *path;
	IniLines lines;
	char *error;
	size_t error_size;
} Reading;

static bool wrong(Reading *r, const IniLine *where, const char *section, const char *name,
				  const char *key, const char *format, ...) __attribute__((format(printf, 6, 7)));

/*
 * The message: at the setting's line, or where there is none at its section's, or at line 1.
 * Returns false.
 */
static bool
wrong(Reading *r, const IniLine *where, const char *section, const char *name, const char *key,
	  const char *format, ...)
{
	va_list args;
	int n;

	if (where == NULL)
		where = ini_lines_find(&r->lines, section, name, key);
	if (where == NULL)
		where = ini_lines_find(&r->lines, section, name, NULL);
	n = snprintf(r->error, r->error_size, "%s:%d: %s%s%s%s%s: ", r->path,
				 where != NULL ? where->line : 1, section, *name != '\0' ? " " : "", name,
				 key != NULL ? "." : "", key != NULL ? key : "");
	if (n >= 0 && (size_t) n < r->error_size)
	{
		va_start(args, format);
		vsnprintf(r->error + n, r->error_size - n, format, args);
		va_end(args);
	}
	return false;
}

/* ---------- one value ---------- */

static const Key *
find_key(const char *section, const char *key)
{
	for (int i = 0; i < NKEYS; i++)
	{
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].key, key) == 0)
			return &keys[i];
	}
	return NULL;
}

static bool
set_choice(const Key *k, void *target, const char *value, char *why)
{
	const char *p = k->choices;
	char part[CONFIG_PATH_SIZE];
	int n = 0;

	while (config_next_part(&p, '|', part))
	{
		if (strcmp(part, value) == 0)
		{
			if (k->size == sizeof(bool))
				*(bool *) target = n != 0;
			else
				memcpy(target, &n, sizeof(n));
			return true;
		}
		n++;
	}
	snprintf(why, WHY_SIZE, "\"%s\" is not one of:", value);
	p = k->choices;
	while (config_next_part(&p, '|', part))
	{
		strncat(why, " ", WHY_SIZE - strlen(why) - 1);
		strncat(why, part, WHY_SIZE - strlen(why) - 1);
	}
	return false;
}

static bool
set_number(const Key *k, void *target, const char *value, char *why)
{
	int64_t n;
	char *end;
	char min[UNITS_TEXT_SIZE];
	char max[UNITS_TEXT_SIZE];

	switch (k->type)
	{
		case KEY_TIME:
			if (!units_parse_time(value, &n))
			{
				snprintf(why, WHY_SIZE,
						 "\"%s\" is not a time with a unit (us, ms, s, min, h, d: \"500ms\")",
						 value);
				return false;
			}
			units_time_text(k->min, min);
			units_time_text(k->max, max);
			break;
		case KEY_SIZE:
			if (!units_parse_size(value, &n))
			{
				snprintf(why, WHY_SIZE,
						 "\"%s\" is not a size with a unit (B, kB, MB, GB, TB: \"16MB\")", value);
				return false;
			}
			units_size_text(k->min, min);
			units_size_text(k->max, max);
			break;
		default:
			errno = 0;
			n = strtoll(value, &end, 10);
			if (errno != 0 || end == value || *end != '\0')
			{
				snprintf(why, WHY_SIZE, "\"%s\" is not a whole number", value);
				return false;
			}
			snprintf(min, sizeof(min), "%lld", (long long) k->min);
			snprintf(max, sizeof(max), "%lld", (long long) k->max);
			break;
	}
	if (n < k->min || n > k->max)
	{
		snprintf(why, WHY_SIZE, "%s is not between %s and %s", value, min, max);
		return false;
	}
	if (k->type == KEY_INT)
		*(int *) target = (int) n;
	else
		*(int64_t *) target = n;
	return true;
}

/* base is the Config, ConfigNode or ConfigResource of the section. */
static bool
set_value(const Key *k, void *base, const char *value, char *why)
{
	void *target = (char *) base + k->offset;

	switch (k->type)
	{
		case KEY_NAME:
			if (strpbrk(value, " \t'\"/") != NULL)
			{
				snprintf(why, WHY_SIZE, "\"%s\" is not a name", value);
				return false;
			}
			/* fall through */
		case KEY_PATH:
			if (k->type == KEY_PATH && value[0] != '/')
			{
				snprintf(why, WHY_SIZE, "\"%s\" is not an absolute path", value);
				return false;
			}
			if (strlen(value) >= k->size)
			{
				snprintf(why, WHY_SIZE, "is longer than %d characters", (int) k->size - 1);
				return false;
			}
			strcpy(target, value);
			return true;
		case KEY_TIME:
		case KEY_SIZE:
		case KEY_INT:
			return set_number(k, target, value, why);
		case KEY_CHOICE:
			return set_choice(k, target, value, why);
		case KEY_CUSTOM:
			break;
	}
	return k->read == NULL || k->read(target, value, why);
}

/* Our own defaults are right: a test reads them all. */
static void
set_defaults(const char *section, void *base)
{
	char why[WHY_SIZE];

	for (int i = 0; i < NKEYS; i++)
	{
		if (keys[i].def == NULL)
			continue;
		if (section != NULL
				? strcmp(keys[i].section, section) == 0
				: strcmp(keys[i].section, "node") != 0 && strcmp(keys[i].section, "resource") != 0)
			set_value(&keys[i], base, keys[i].def, why);
	}
}

/* ---------- sections ---------- */

/* May it have a name?  1 must, 0 may (then of a node), -1 must not. */
static int
named(const char *section)
{
	if (strcmp(section, "node") == 0 || strcmp(section, "resource") == 0)
		return 1;
	return strcmp(section, "failover") == 0 ? -1 : 0;
}

static bool
read_section(Reading *r, const IniLine *l)
{
	Config *c = r->c;
	bool known = false;

	for (int i = 0; i < NKEYS && !known; i++)
		known = strcmp(keys[i].section, l->section) == 0;
	if (!known)
		return wrong(r, l, l->section, l->name, NULL,
					 "there is no such section (tandemd, failover, postgres, vip, watchdog, "
					 "node NAME, resource NAME)");
	if (*l->name == '\0' && named(l->section) == 1)
		return wrong(r, l, l->section, "", NULL, "needs a name: [%s NAME]", l->section);
	if (*l->name != '\0' && named(l->section) == -1)
		return wrong(r, l, l->section, l->name, NULL,
					 "holds for all nodes and cannot have a node's name");
	if (*l->name != '\0' && (!config_is_name(l->name) || strlen(l->name) >= CONFIG_NAME_SIZE))
		return wrong(r, l, l->section, l->name, NULL,
					 "a name is made of letters, digits, \"_\", \"-\", \".\"; at most %d",
					 CONFIG_NAME_SIZE - 1);
	if (strcmp(l->section, "node") == 0)
	{
		if (c->nnodes == FSM_MAX_NODES)
			return wrong(r, l, l->section, l->name, NULL, "more than %d nodes", FSM_MAX_NODES);
		set_defaults("node", &c->node[c->nnodes]);
		strcpy(c->node[c->nnodes++].name, l->name);
	}
	if (strcmp(l->section, "resource") == 0)
	{
		if (c->nresources == CONFIG_MAX_RESOURCES)
			return wrong(r, l, l->section, l->name, NULL, "more than %d resources",
						 CONFIG_MAX_RESOURCES);
		set_defaults("resource", &c->resource[c->nresources]);
		strcpy(c->resource[c->nresources++].name, l->name);
	}
	return true;
}

/* The node that this file is read for. */
static bool
choose_node(Reading *r, const char *node)
{
	Config *c = r->c;
	const IniLine *l = ini_lines_find(&r->lines, "tandemd", "", "node");
	char host[HOST_NAME_MAX + 1] = "";

	c->self = -1;
	if (c->nnodes == 0)
		return wrong(r, NULL, "node", "", NULL, "there is no section [node NAME]");
	if (node != NULL)
	{
		c->self = config_node(c, node);
		if (c->self < 0)
			return wrong(r, NULL, "tandemd", "", "node",
						 "there is no section [node %s] for the node that was asked for", node);
		return true;
	}
	if (l != NULL)
	{
		c->self = config_node(c, l->value);
		if (c->self < 0)
			return wrong(r, l, "tandemd", "", "node", "there is no section [node %s]", l->value);
		return true;
	}
	if (gethostname(host, sizeof(host) - 1) == 0)
	{
		c->self = config_node(c, host);
		if (c->self < 0)
		{
			host[strcspn(host, ".")] = '\0';
			c->self = config_node(c, host);
		}
	}
	if (c->self < 0)
		return wrong(r, NULL, "tandemd", "", "node",
					 "is not set, and no [node NAME] has the name of this host (%s)", host);
	return true;
}

static void *
base_of(Config *c, const IniLine *l)
{
	if (strcmp(l->section, "node") == 0)
		return &c->node[config_node(c, l->name)];
	for (int i = 0; i < c->nresources && strcmp(l->section, "resource") == 0; i++)
	{
		if (strcmp(c->resource[i].name, l->name) == 0)
			return &c->resource[i];
	}
	return c;
}

/*
 * Settings of sections without a node's name first, then those of this node.  Those of other
 * nodes are judged, too: an error is found on the first node that is configured.
 */
static bool
read_settings(Reading *r)
{
	Config *c = r->c;
	Config *scratch = malloc(sizeof(Config));
	bool ok = scratch != NULL;

	if (!ok)
		return wrong(r, NULL, "tandemd", "", NULL, "out of memory");
	*scratch = *c;
	for (int round = 0; round < 2 && ok; round++)
	{
		for (int i = 0; i < r->lines.n && ok; i++)
		{
			const IniLine *l = &r->lines.line[i];
			bool of_node = *l->name != '\0' && named(l->section) == 0;
			const Key *k;
			char why[WHY_SIZE];
			void *base;

			if (l->key == NULL || of_node != (round == 1))
				continue;
			k = find_key(l->section, l->key);
			if (k == NULL)
			{
				ok = wrong(r, l, l->section, l->name, l->key, "there is no such setting");
				continue;
			}
			if (of_node && config_node(c, l->name) < 0)
			{
				ok = wrong(r, NULL, l->section, l->name, NULL, "there is no section [node %s]",
						   l->name);
				continue;
			}
			if (of_node && strcmp(l->key, "node") == 0)
			{
				ok = wrong(r, l, l->section, l->name, l->key, "stands in [tandemd] only");
				continue;
			}
			base = of_node && config_node(c, l->name) != c->self ? scratch : base_of(c, l);
			if (!set_value(k, base, l->value, why))
				ok = wrong(r, l, l->section, l->name, l->key, "%s", why);
		}
	}
	free(scratch);
	return ok;
}

/* ---------- what must hold between them ---------- */

/* An agent gets these from tandemd, or does not do what tandemd thinks it does. */
static bool
sets_action(const char *options)
{
	const char *p = options[0] != '\0' ? options : NULL;
	char part[CONFIG_PATH_SIZE];

	while (config_next_part(&p, ';', part))
		if (strncmp(part, "action=", 7) == 0 || strncmp(part, "option=", 7) == 0)
			return true;
	return false;
}

static bool
check_nodes(Reading *r)
{
	Config *c = r->c;
	int fenced = 0;
	int data = 0;

	for (int i = 0; i < c->nnodes; i++)
	{
		ConfigNode *n = &c->node[i];

		if (ini_lines_find(&r->lines, "node", n->name, "voter") == NULL)
			n->voter = !n->dr || c->fsm.dr;
		if (n->npaths == 0)
			return wrong(r, NULL, "node", n->name, "address", "must be set");
		if (!n->witness && n->conninfo[0] == '\0')
			return wrong(r, NULL, "node", n->name, "conninfo", "must be set (but for a witness)");
		if (n->witness && (n->conninfo[0] != '\0' || n->dr || n->fence[0] != '\0'))
			return wrong(r, NULL, "node", n->name,
						 n->dr                 ? "site"
						 : n->fence[0] != '\0' ? "fence"
											   : "conninfo",
						 "has no meaning for a witness");
		if (n->witness && !n->voter)
			return wrong(r, NULL, "node", n->name, "voter", "a witness does nothing but vote");
		if (n->fence_options[0] != '\0' && n->fence[0] == '\0')
			return wrong(r, NULL, "node", n->name, "fence_options", "there is no fence agent");
		if (sets_action(n->fence_options))
			return wrong(r, NULL, "node", n->name, "fence_options",
						 "the action is chosen by tandemd");
		if (!n->witness && n->voter)
		{
			data++;
			fenced += n->fence[0] != '\0';
		}
		for (int j = 0; j < i; j++)
		{
			for (int a = 0; a < n->npaths; a++)
			{
				for (int b = 0; b < c->node[j].npaths; b++)
				{
					if (memcmp(&n->path[a], &c->node[j].path[b], sizeof(n->path[a])) == 0)
						return wrong(r, NULL, "node", n->name, "address", "is that of node %s, too",
									 c->node[j].name);
				}
			}
		}
		c->fsm.any_dr = c->fsm.any_dr || c->fsm.dr || (n->dr && n->voter);
		c->fsm.voters |= n->voter ? 1u << i : 0;
		c->fsm.data |= n->witness ? 0 : 1u << i;
	}
	/* either of them may have to power off the other */
	for (int i = 0; i < c->nnodes && fenced > 0 && fenced < data; i++)
	{
		if (!c->node[i].witness && c->node[i].voter && c->node[i].fence[0] == '\0')
			return wrong(r, NULL, "node", c->node[i].name, "fence",
						 "is missing: other nodes have a fence agent");
	}
	c->fsm.fence = fenced > 0;
	c->fsm.dr = c->fsm.dr || c->node[c->self].dr; /* of a node: does its taking over need a word? */
	c->fsm.self = c->self;
	c->fsm.nnodes = c->nnodes;
	return true;
}

/* The inequalities of leases; the message has the figures, and what would do. */
static bool
check_timing(Reading *r)
{
	static const char *const blame[] = {"heartbeat", "lease", "stop_budget", "margin"};
	FsmTiming *t = &r->c->fsm.timing;
	FsmTimingFault fault;
	char lease[UNITS_TEXT_SIZE];
	char margin[UNITS_TEXT_SIZE];
	char stop[UNITS_TEXT_SIZE];
	char heartbeat[UNITS_TEXT_SIZE];
	char v[UNITS_TEXT_SIZE];
	char max[UNITS_TEXT_SIZE];
	const char *key = "lease";

	t->validity = fsm_timing_v(t);
	fault = fsm_check_timing(t);
	if (fault == FSM_TIMING_OK)
		return true;
	/* the first of them that was set: the defaults go together */
	for (int i = 0; i < 4; i++)
	{
		if (ini_lines_find(&r->lines, "failover", "", blame[i]) != NULL)
		{
			key = blame[i];
			break;
		}
	}
	units_time_text(t->lease, lease);
	units_time_text(t->margin, margin);
	units_time_text(t->stop, stop);
	units_time_text(t->heartbeat, heartbeat);
	units_time_text(t->validity / MS * MS, v);
	units_time_text(t->validity / 3 / MS * MS, max);
	if (fault == FSM_TIMING_HEARTBEAT)
		return wrong(
			r, NULL, "failover", "", key,
			"%s: V = (lease - margin) / 1.01 - stop_budget is %s with lease %s, margin %s, "
			"stop_budget %s; so heartbeat, now %s, may be %s at most",
			fsm_timing_text(fault), v, lease, margin, stop, heartbeat, max);
	return wrong(r, NULL, "failover", "", key,
				 "%s: V is %s with lease %s, margin %s, stop_budget %s", fsm_timing_text(fault), v,
				 lease, margin, stop);
}

static bool
check_whole(Reading *r)
{
	Config *c = r->c;
	const ConfigNode *self;
	const char *fault;

	if (!check_nodes(r) || !check_timing(r))
		return false;
	self = &c->node[c->self];
	if (c->cluster[0] == '\0')
		return wrong(r, NULL, "tandemd", "", "cluster", "must be set");
	if (!self->witness && c->data_directory[0] == '\0')
		return wrong(r, NULL, "postgres", "", "data_directory", "must be set on a node with data");
	if (c->probe_interval >= c->fsm.probe_timeout)
		return wrong(r, NULL, "postgres", "", "probe_interval",
					 "must be shorter than failover.probe_timeout");
	for (int i = 0; i < c->nresources; i++)
	{
		const ConfigResource *res = &c->resource[i];

		if (res->agent[0] == '\0')
			return wrong(r, NULL, "resource", res->name, "agent", "must be set");
		if (res->options[0] != '\0' && res->kind != RESOURCE_OCF)
			return wrong(r, NULL, "resource", res->name, "options",
						 "only an ocf: agent takes options");
	}
	if (c->slot[0] == '\0')
		config_default_slot(self->name, c->slot);
	else if (c->slot[strspn(c->slot, "abcdefghijklmnopqrstuvwxyz0123456789_")] != '\0')
		return wrong(r, NULL, "postgres", "", "slot",
					 "\"%s\" is not the name of a replication slot (a-z, 0-9, _)", c->slot);
	fault = fsm_check_config(&c->fsm);
	if (fault != NULL)
		return wrong(r, NULL, "failover", "", c->fsm.isolation_continue ? "on_isolation" : NULL,
					 "%s", fault);
	return true;
}

/* ---------- the key of the heartbeats ---------- */

static bool
read_key(Reading *r)
{
	Config *c = r->c;
	char buf[sizeof(c->key) + 3];
	struct stat st;
	ssize_t n;
	int fd = open(c->key_file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return wrong(r, NULL, "tandemd", "", "key_file", "could not open file \"%s\": %s",
					 c->key_file, strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
	{
		close(fd);
		return wrong(r, NULL, "tandemd", "", "key_file", "\"%s\" is not a file", c->key_file);
	}
	n = read(fd, buf, sizeof(buf));
	close(fd);
	if (n < 0)
		return wrong(r, NULL, "tandemd", "", "key_file", "could not read file \"%s\": %s",
					 c->key_file, strerror(errno));
	if ((st.st_mode & 077) != 0 || (st.st_uid != 0 && st.st_uid != geteuid()))
		return wrong(r, NULL, "tandemd", "", "key_file",
					 "file \"%s\" must belong to root and be closed to all others (mode 0600)",
					 c->key_file);
	/* the end of the line that an editor or openssl rand left */
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	if (n > 0 && buf[n - 1] == '\r')
		n--;
	if (n < 16)
		return wrong(r, NULL, "tandemd", "", "key_file",
					 "file \"%s\" has %d bytes; a key has 16 to %d (openssl rand -hex 32)",
					 c->key_file, (int) n, (int) sizeof(c->key));
	if (n > (ssize_t) sizeof(c->key))
		return wrong(r, NULL, "tandemd", "", "key_file",
					 "file \"%s\" has more than the %d bytes a key may have (openssl rand -hex 32)",
					 c->key_file, (int) sizeof(c->key));
	memcpy(c->key, buf, n);
	c->key_length = n;
	explicit_bzero(buf, sizeof(buf));
	return true;
}

/* ---------- the file ---------- */

static bool
read_all(Config *c, const char *path, const char *node, bool key, char *error, size_t error_size)
{
	Reading r = {.c = c, .path = path, .error = error, .error_size = error_size};
	bool ok;

	memset(c, 0, sizeof(*c));
	if (strlen(path) >= sizeof(c->path))
	{
		snprintf(error, error_size, "the path of the configuration file is too long");
		return false;
	}
	strcpy(c->path, path);
	set_defaults(NULL, c);
	ok = ini_lines_read(&r.lines, path, error, error_size);
	for (int i = 0; i < r.lines.n && ok; i++)
	{
		if (r.lines.line[i].key == NULL)
			ok = read_section(&r, &r.lines.line[i]);
	}
	ok = ok && choose_node(&r, node) && read_settings(&r) && check_whole(&r) &&
		 (!key || read_key(&r));
	ini_lines_free(&r.lines);
	return ok;
}

bool
config_read(Config *c, const char *path, const char *node, char *error, size_t error_size)
{
	return read_all(c, path, node, true, error, error_size);
}

bool
config_read_public(Config *c, const char *path, const char *node, char *error, size_t error_size)
{
	return read_all(c, path, node, false, error, error_size);
}

int
config_node(const Config *c, const char *name)
{
	for (int i = 0; i < c->nnodes; i++)
	{
		if (strcmp(c->node[i].name, name) == 0)
			return i;
	}
	return -1;
}

void
config_run_path(const Config *c, const char *suffix, char *path, size_t size)
{
	snprintf(path, size, "%s/%s%s", c->run_directory, c->node[c->self].name, suffix);
}

void
config_default_slot(const char *node, char *slot)
{
	size_t n = 0;

	for (; node[n] != '\0' && n < CONFIG_NAME_SIZE - 1; n++)
	{
		char ch = node[n];

		if (ch >= 'A' && ch <= 'Z')
			ch += 'a' - 'A';
		else if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9')))
			ch = '_';
		slot[n] = ch;
	}
	slot[n] = '\0';
}

bool
config_key(int i, const char **section, const char **key, const char **def)
{
	if (i < 0 || i >= NKEYS)
		return false;
	*section = keys[i].section;
	*key = keys[i].key;
	*def = keys[i].def != NULL ? keys[i].def : "";
	return true;
}
