/*
 * pg_unit.c
 *		See pg_unit.h.
 *
 * All calls are asynchronous.  A lost bus (dbus-daemon restarted) is opened again at the next use.
 */
#include "pg_unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#define SYSTEMD        "org.freedesktop.systemd1"
#define MANAGER_PATH   "/org/freedesktop/systemd1"
#define MANAGER        SYSTEMD ".Manager"
#define ANSWER_TIMEOUT 10000000 /* us */

struct PgUnit
{
	char unit[1024];
	char *path; /* object path of the unit */
	sd_event *event;
	PgUnitStarted started;
	void *user;
	sd_bus *bus;
	sd_bus_slot *removed; /* match of JobRemoved */
	sd_bus_slot *call;    /* StartUnit, under way */
	sd_bus_slot *ask;     /* ControlGroup, under way */
	sd_bus_slot *look;    /* ActiveState, under way */
	bool stopped;         /* what it said last */
	bool active;
	char job[256]; /* object path; empty: none */
	char cgroup[1200];
};

static void
tell(PgUnit *u, const char *error)
{
	u->job[0] = '\0';
	u->started(u->user, error);
}

static int
on_job_removed(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	PgUnit *u = arg;
	const char *job;
	const char *unit;
	const char *result;
	char text[128];
	uint32_t id;

	(void) error;
	if (sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) < 0 || u->job[0] == '\0' ||
		strcmp(job, u->job) != 0)
		return 0;
	snprintf(text, sizeof(text), "systemd: the start job ended with \"%s\"", result);
	tell(u, strcmp(result, "done") == 0 ? NULL : text);
	return 0;
}

/* ---------- the bus ---------- */

static int
on_nothing(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	(void) m;
	(void) arg;
	(void) error;
	return 0;
}

static void
drop_bus(PgUnit *u)
{
	u->removed = sd_bus_slot_unref(u->removed);
	u->call = sd_bus_slot_unref(u->call);
	u->ask = sd_bus_slot_unref(u->ask);
	u->look = sd_bus_slot_unref(u->look);
	if (u->bus != NULL)
		sd_bus_detach_event(u->bus);
	u->bus = sd_bus_close_unref(u->bus);
}

static int
open_bus(PgUnit *u)
{
	int r;

	if (u->bus != NULL && sd_bus_is_open(u->bus) > 0)
		return 0;
	drop_bus(u);
	r = sd_bus_open_system(&u->bus);
	if (r >= 0)
		r = sd_bus_attach_event(u->bus, u->event, SD_EVENT_PRIORITY_NORMAL);
	if (r >= 0)
		r = sd_bus_match_signal_async(u->bus, &u->removed, SYSTEMD, MANAGER_PATH, MANAGER,
									  "JobRemoved", on_job_removed, NULL, u);
	if (r >= 0) /* systemd sends signals only to those who subscribed */
		r = sd_bus_call_method_async(u->bus, NULL, SYSTEMD, MANAGER_PATH, MANAGER, "Subscribe",
									 on_nothing, NULL, NULL);
	if (r < 0)
		drop_bus(u);
	return r;
}

/* ---------- is it stopped? ---------- */

/*
 * One that is being stopped is stopped: a start waits for the end of that.  One that is being started is
 * not: systemd has not noticed yet that nothing comes of it, and a start would join that one's job.
 */
static int
on_state(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	PgUnit *u = arg;
	const char *state = "unknown";

	(void) error;
	u->look = sd_bus_slot_unref(u->look);
	if (sd_bus_message_get_error(m) == NULL && sd_bus_message_enter_container(m, 'v', "s") >= 0)
		(void) sd_bus_message_read(m, "s", &state);
	u->active = strcmp(state, "active") == 0 || strcmp(state, "reloading") == 0;
	u->stopped = !u->active && strcmp(state, "activating") != 0;
	return 0;
}

void
pg_unit_look_again(PgUnit *u)
{
	u->look = sd_bus_slot_unref(u->look); /* an answer about the time before */
	u->stopped = u->active = false;
}

bool
pg_unit_is_stopped(PgUnit *u)
{
	int r = u->stopped || u->look != NULL ? 0 : open_bus(u);

	if (r >= 0 && !u->stopped && u->look == NULL)
		r = sd_bus_call_method_async(u->bus, &u->look, SYSTEMD, u->path,
									 "org.freedesktop.DBus.Properties", "Get", on_state, u, "ss",
									 SYSTEMD ".Unit", "ActiveState");
	return u->stopped || r < 0;
}

/* ---------- starting ---------- */

static int
on_start(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	PgUnit *u = arg;
	const sd_bus_error *e = sd_bus_message_get_error(m);
	const char *job;
	char text[2048];

	(void) error;
	u->call = sd_bus_slot_unref(u->call);
	if (e != NULL)
	{
		snprintf(text, sizeof(text), "systemd refused to start %s: %s", u->unit,
				 e->message != NULL ? e->message : e->name);
		tell(u, text);
		return 0;
	}
	if (sd_bus_message_read(m, "o", &job) < 0 || strlen(job) >= sizeof(u->job))
		tell(u, "systemd's answer is not understood");
	else
		strcpy(u->job, job);
	return 0;
}

int
pg_unit_start(PgUnit *u)
{
	int r = open_bus(u);
	sd_bus_message *m = NULL;

	if (r < 0 || u->call != NULL)
		return r;
	/* also resets the count of starts, which systemd limits */
	r = sd_bus_call_method_async(u->bus, NULL, SYSTEMD, MANAGER_PATH, MANAGER, "ResetFailedUnit",
								 on_nothing, NULL, "s", u->unit);
	if (r >= 0)
		r = sd_bus_message_new_method_call(u->bus, &m, SYSTEMD, MANAGER_PATH, MANAGER,
										   u->active ? "RestartUnit" : "StartUnit");
	if (r >= 0)
		r = sd_bus_message_append(m, "ss", u->unit, "replace");
	if (r >= 0)
		r = sd_bus_call_async(u->bus, &u->call, m, on_start, u, ANSWER_TIMEOUT);
	sd_bus_message_unref(m);
	if (r < 0)
		drop_bus(u);
	return r < 0 ? r : 0;
}

/* ---------- the cgroup ---------- */

static int
on_cgroup(sd_bus_message *m, void *arg, sd_bus_error *error)
{
	PgUnit *u = arg;
	const char *group = NULL;
	static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/systemd",
										"/sys/fs/cgroup/unified"};

	(void) error;
	u->ask = sd_bus_slot_unref(u->ask);
	u->cgroup[0] = '\0';
	if (sd_bus_message_get_error(m) != NULL || sd_bus_message_enter_container(m, 'v', "s") < 0 ||
		sd_bus_message_read(m, "s", &group) < 0 || group[0] == '\0' || strcmp(group, "/") == 0)
		return 0;
	for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++)
	{
		snprintf(u->cgroup, sizeof(u->cgroup), "%s%s/cgroup.procs", roots[i], group);
		if (access(u->cgroup, R_OK) == 0)
			return 0;
	}
	u->cgroup[0] = '\0';
	return 0;
}

/*
 * Asked for once; the answer serves the next call.  systemd gives a unit that is not running no
 * cgroup.
 */
const char *
pg_unit_cgroup(PgUnit *u)
{
	if (u->cgroup[0] != '\0')
		return u->cgroup;
	if (u->ask == NULL && open_bus(u) >= 0 && u->path != NULL)
		(void) sd_bus_call_method_async(u->bus, &u->ask, SYSTEMD, u->path,
										"org.freedesktop.DBus.Properties", "Get", on_cgroup, u,
										"ss", SYSTEMD ".Service", "ControlGroup");
	return NULL;
}

int
pg_unit_new(PgUnit **u, const char *unit, sd_event *event, PgUnitStarted started, void *user)
{
	PgUnit *n = calloc(1, sizeof(PgUnit));

	if (n == NULL)
		return -ENOMEM;
	snprintf(n->unit, sizeof(n->unit), "%s", unit);
	n->event = event;
	n->started = started;
	n->user = user;
	if (sd_bus_path_encode(MANAGER_PATH "/unit", unit, &n->path) < 0)
	{
		free(n);
		return -ENOMEM;
	}
	*u = n;
	return 0;
}

void
pg_unit_free(PgUnit *u)
{
	if (u == NULL)
		return;
	drop_bus(u);
	free(u->path);
	free(u);
}
