/*
 * agent.c
 *		See agent.h.
 */
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "config_values.h"

#define SYSTEMCTL       "/bin/systemctl"
#define INIT_SCRIPTS    "/etc/init.d"
#define OCF_ROOT        "/usr/lib/ocf"
#define STATUS_LIMIT    INT64_C(20000000) /* us */
#define UMASK           022               /* as init has it: services make files for others */

/* Exit statuses: OCF's, and those that LSB defines for "status". */
#define OCF_NOT_RUNNING 7
#define OCF_PROMOTED    8
#define LSB_NOT_RUNNING 3

const char *
agent_action_name(AgentAction action)
{
	static const char *const names[] = {"start", "stop", "status"};

	return names[action];
}

static int64_t
limit(const ConfigResource *resource, AgentAction action)
{
	switch (action)
	{
		case AGENT_START:
			return resource->start_timeout;
		case AGENT_STOP:
			return resource->stop_timeout;
		case AGENT_STATUS:
			break;
	}
	return STATUS_LIMIT;
}

/* ---------- OCF ---------- */

typedef struct OcfEnvironment
{
	int n;
	const char *item[PROGRAM_MAX_ENVIRONMENT + 1];
	size_t used;
	char text[4 * CONFIG_PATH_SIZE + 16 * PROGRAM_MAX_ENVIRONMENT];
} OcfEnvironment;

static bool
ocf_add(OcfEnvironment *e, const char *prefix, const char *text)
{
	int n = snprintf(e->text + e->used, sizeof(e->text) - e->used, "%s%s", prefix, text);

	if (e->n == PROGRAM_MAX_ENVIRONMENT || n < 0 || (size_t) n >= sizeof(e->text) - e->used)
		return false;
	e->item[e->n++] = e->text + e->used;
	e->item[e->n] = NULL;
	e->used += (size_t) n + 1;
	return true;
}

/* Where agents are, which the environment may say, as with other users of theirs. */
static const char *
ocf_root(void)
{
	const char *root = getenv("OCF_ROOT");

	return root != NULL && root[0] == '/' && strlen(root) < CONFIG_PATH_SIZE ? root : OCF_ROOT;
}

/* provider:type */
static int
ocf_prepare(const ConfigResource *r, AgentAction action, OcfEnvironment *e, char *path, size_t size)
{
	const char *type = strchr(r->agent, ':') + 1;
	const char *p = r->options[0] != '\0' ? r->options : NULL;
	char text[CONFIG_PATH_SIZE];
	bool ok;

	e->n = 0;
	e->used = 0;
	snprintf(text, sizeof(text), "%.*s", (int) (type - 1 - r->agent), r->agent);
	snprintf(path, size, "%s/resource.d/%s/%s", ocf_root(), text, type);
	ok = ocf_add(e, "OCF_ROOT=", ocf_root()) && ocf_add(e, "OCF_RA_VERSION_MAJOR=", "1") &&
		 ocf_add(e, "OCF_RA_VERSION_MINOR=", "0") &&
		 ocf_add(e, "OCF_RESOURCE_INSTANCE=", r->name) &&
		 ocf_add(e, "OCF_RESOURCE_PROVIDER=", text) && ocf_add(e, "OCF_RESOURCE_TYPE=", type);
	snprintf(text, sizeof(text), "%lld", (long long) (limit(r, action) / 1000));
	ok = ok && ocf_add(e, "OCF_RESKEY_CRM_meta_timeout=", text);
	while (ok && config_next_part(&p, ';', text))
		ok = ocf_add(e, "OCF_RESKEY_", text);
	return ok ? 0 : -E2BIG;
}

/* ---------- all ---------- */

int
agent_run(Program **program, sd_event *event, const ConfigResource *r, AgentAction action,
		  void (*done)(void *, int, const char *), void *user)
{
	ProgramSpec spec = {.limit = limit(r, action), .done = done, .user = user, .umask = UMASK};
	char path[2 * CONFIG_PATH_SIZE];
	OcfEnvironment environment;
	int n = 0;
	int e;

	*program = NULL;
	switch (r->kind)
	{
		case RESOURCE_SYSTEMD:
			spec.argv[n++] = SYSTEMCTL;
			spec.argv[n++] = "--no-ask-password";
			spec.argv[n++] = action == AGENT_STATUS ? "is-active" : agent_action_name(action);
			spec.argv[n++] = "--";
			spec.argv[n++] = r->agent;
			break;
		case RESOURCE_OCF:
			e = ocf_prepare(r, action, &environment, path, sizeof(path));
			if (e < 0)
				return e;
			spec.environment = environment.item;
			spec.argv[n++] = path;
			spec.argv[n++] = action == AGENT_STATUS ? "monitor" : agent_action_name(action);
			break;
		case RESOURCE_LSB:
			snprintf(path, sizeof(path), "%s/%s", INIT_SCRIPTS, r->agent);
			spec.argv[n++] = path;
			spec.argv[n++] = agent_action_name(action);
			break;
	}
	return program_run(program, event, &spec);
}

/*
 * systemctl is-active: 0, or 3 with anything else, also a unit that systemd is about to start again
 * by itself; starting it is right then, too.
 */
AgentResult
agent_result(const ConfigResource *r, AgentAction action, int status)
{
	int code = status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	if (code == 0)
		return AGENT_OK;
	if (action != AGENT_STATUS)
		return AGENT_FAILED;
	if (r->kind == RESOURCE_OCF)
		return code == OCF_PROMOTED      ? AGENT_OK
			   : code == OCF_NOT_RUNNING ? AGENT_NOT_RUNNING
										 : AGENT_FAILED;
	return code == LSB_NOT_RUNNING ? AGENT_NOT_RUNNING : AGENT_FAILED;
}
