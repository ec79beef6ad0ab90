/*
 * resources.c
 *		Other services that run where the primary is: started in order, watched, stopped in the
 *		reverse order.
 *
 * One action at a time.  What is to be done next follows from what is wanted and from the state of
 * each service (next_action()); the end of an action changes the state and asks again.  Nothing is
 * remembered across a restart of tandemd: each service is first asked for its status.
 *
 * A service that fails is stopped and started again, at most restart_attempts times within
 * failover.restart_window; then it is given up until that time is over, and the owner is told.
 * Others are not kept from starting by one that is given up.
 */
#include "helpers.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent.h"
#include "units.h"

#define SEC        INT64_C(1000000)
#define PAUSE      SEC        /* between the failure of a service and its next start */
#define STOP_AGAIN (10 * SEC) /* after a stop that failed */
#define NEVER      INT64_MAX
#define TEXT_SIZE  384

typedef enum State
{
	UNKNOWN, /* not asked yet */
	STOPPED,
	RUNNING,
	UNCLEAN, /* failed: to be stopped before anything else */
	GIVEN_UP
} State;

typedef struct Service
{
	const ConfigResource *config;
	State state;
	int64_t not_before; /* the next start, or the next stop after one that failed */
	int64_t look_at;    /* RUNNING: the next monitor */
	int64_t first;      /* failure in this window; 0: none */
	int attempts;       /* since then */
	char text[TEXT_SIZE];
} Service;

struct Resources
{
	const Config *config;
	sd_event *event;
	ResourcesTold told;
	void *user;
	bool known; /* is anything wanted at all? */
	bool want;
	bool paused;
	Program *program; /* the action that runs, ... */
	Service *on;      /* ... on this service; NULL: none */
	AgentAction action;
	sd_event_source *timer;
	int n;
	Service service[CONFIG_MAX_RESOURCES];
};

static void converge(Resources *r);

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * SEC + t.tv_nsec / 1000;
}

static void say(Resources *r, Service *s, bool hand_over, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Tells the owner what is new: a stop that fails every ten seconds is told once. */
static void
say(Resources *r, Service *s, bool hand_over, const char *format, ...)
{
	char text[TEXT_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (strcmp(text, s->text) == 0 && !hand_over)
		return;
	strcpy(s->text, text);
	r->told(r->user, s->config->name, s->text, hand_over);
}

/* ---------- what has ended ---------- */

/* It does not run although it shall; its text says why. */
static void
failure(Resources *r, Service *s)
{
	const ConfigResource *c = s->config;
	int64_t window = r->config->fsm.restart_window;
	int64_t now = now_us();
	char why[TEXT_SIZE / 2];
	char text[UNITS_TEXT_SIZE];

	if (s->first != 0 && now - s->first > window)
		s->first = 0;
	if (s->first == 0)
	{
		s->first = now;
		s->attempts = 0;
	}
	if (s->attempts++ < c->restart_attempts)
	{
		s->state = UNCLEAN;
		s->not_before = now + PAUSE;
		return;
	}
	s->state = GIVEN_UP;
	s->not_before = s->first + window;
	snprintf(why, sizeof(why), "%.*s", (int) sizeof(why) - 1, s->text);
	say(r, s, c->failover, "given up after %d restarts within %s: %s", c->restart_attempts,
		units_time_text(window, text), why);
}

static void
runs(Service *s)
{
	s->state = RUNNING;
	s->look_at = s->config->monitor_interval > 0 ? now_us() + s->config->monitor_interval : NEVER;
	snprintf(s->text, sizeof(s->text), "running");
}

/* A program's end and the end of what it said, for a message. */
static void
complaint(int status, const char *output, char *text, size_t size)
{
	size_t n = strlen(output);
	size_t used;

	while (n > 0 && output[n - 1] == '\n')
		n--;
	used = (size_t) snprintf(text, size, "%s", program_status_text(status));
	if (n > 0 && used < size)
		snprintf(text + used, size - used, ": %.*s", n > 100 ? 100 : (int) n,
				 output + (n > 100 ? n - 100 : 0));
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char) *p < ' ')
			*p = ' ';
}

static void
status_ended(Resources *r, Service *s, AgentResult result, const char *why)
{
	if (result == AGENT_OK)
	{
		runs(s);
		return;
	}
	if (s->state == UNKNOWN)
	{
		s->state = result == AGENT_NOT_RUNNING ? STOPPED : UNCLEAN;
		snprintf(s->text, sizeof(s->text), "%s", result == AGENT_NOT_RUNNING ? "stopped" : why);
		return;
	}
	if (result == AGENT_NOT_RUNNING)
		say(r, s, false, "does not run any more");
	else
		say(r, s, false, "failed: %s", why);
	if (r->want)
		failure(r, s);
	else
		s->state = UNCLEAN;
}

static void
stop_ended(Resources *r, Service *s, AgentResult result, const char *why)
{
	if (result == AGENT_OK)
	{
		/* of a failure its text goes on telling */
		if (s->state == RUNNING || !r->want)
			say(r, s, false, "stopped");
		s->state = STOPPED;
		return;
	}
	say(r, s, false, "could not be stopped: %s", why);
	if (r->want)
		failure(r, s);
	else
	{
		s->state = UNCLEAN;
		s->not_before = now_us() + STOP_AGAIN;
	}
}

static void
start_ended(Resources *r, Service *s, AgentResult result, const char *why)
{
	if (result == AGENT_OK)
	{
		say(r, s, false, "running");
		runs(s);
		return;
	}
	say(r, s, false, "could not be started: %s", why);
	if (r->want)
		failure(r, s);
	else
		s->state = UNCLEAN;
}

static void
action_ended(Resources *r, int status, const char *output)
{
	Service *s = r->on;
	AgentResult result = agent_result(s->config, r->action, status);
	char why[TEXT_SIZE / 2];

	r->program = NULL;
	r->on = NULL;
	complaint(status, output, why, sizeof(why));
	switch (r->action)
	{
		case AGENT_STATUS:
			status_ended(r, s, result, why);
			break;
		case AGENT_STOP:
			stop_ended(r, s, result, why);
			break;
		case AGENT_START:
			start_ended(r, s, result, why);
			break;
	}
}

static void
ended(void *user, int status, const char *output)
{
	action_ended(user, status, output);
	converge(user);
}

/* ---------- what is next ---------- */

static void
begin(Resources *r, Service *s, AgentAction action)
{
	int e;

	r->on = s;
	r->action = action;
	e = agent_run(&r->program, r->event, s->config, action, ended, r);
	if (e < 0)
		action_ended(r, e, "");
}

static void
sooner(int64_t *wake, int64_t at)
{
	if (at < *wake)
		*wake = at;
}

/* In the order of the file. A service that waits for its next start holds up those after it. */
static bool
next_start(Resources *r, int64_t now, int64_t *wake)
{
	for (int i = 0; i < r->n; i++)
	{
		Service *s = &r->service[i];

		if (s->state == GIVEN_UP && now >= s->not_before)
			s->state = UNCLEAN;
		if (s->state == UNKNOWN)
		{
			begin(r, s, AGENT_STATUS);
			return true;
		}
		if (s->state == GIVEN_UP)
			sooner(wake, s->not_before);
		if (s->state == RUNNING || s->state == GIVEN_UP || r->paused)
			continue;
		if (now < s->not_before)
		{
			sooner(wake, s->not_before);
			break;
		}
		begin(r, s, s->state == UNCLEAN ? AGENT_STOP : AGENT_START);
		return true;
	}
	return false;
}

static bool
next_look(Resources *r, int64_t now, int64_t *wake)
{
	for (int i = 0; i < r->n; i++)
	{
		Service *s = &r->service[i];

		if (s->state != RUNNING)
			continue;
		if (now >= s->look_at)
		{
			begin(r, s, AGENT_STATUS);
			return true;
		}
		sooner(wake, s->look_at);
	}
	return false;
}

/* In the reverse order.  One that cannot be stopped does not keep the others running. */
static bool
next_stop(Resources *r, int64_t now, int64_t *wake)
{
	for (int i = r->n - 1; i >= 0; i--)
	{
		Service *s = &r->service[i];

		if (s->state == STOPPED)
			continue;
		if (s->state != UNKNOWN && now < s->not_before)
		{
			sooner(wake, s->not_before);
			continue;
		}
		begin(r, s, s->state == UNKNOWN ? AGENT_STATUS : AGENT_STOP);
		return true;
	}
	return false;
}

static int
timer_elapsed(sd_event_source *source, uint64_t usec, void *user)
{
	(void) source;
	(void) usec;
	converge(user);
	return 0;
}

/* Begins actions until one runs or there is nothing to be done now. */
static void
converge(Resources *r)
{
	int64_t wake = NEVER;
	bool begun = r->known;

	while (begun && r->on == NULL)
	{
		int64_t now = now_us();

		wake = NEVER;
		begun = r->want ? next_start(r, now, &wake) || next_look(r, now, &wake)
						: next_stop(r, now, &wake);
	}
	r->timer = sd_event_source_disable_unref(r->timer);
	if (r->on == NULL && wake != NEVER &&
		sd_event_add_time(r->event, &r->timer, CLOCK_BOOTTIME, (uint64_t) wake, 10000,
						  timer_elapsed, r) < 0)
		r->timer = NULL; /* the next change asks again */
}

/* ---------- the interface ---------- */

int
resources_new(Resources **result, const Config *c, sd_event *event, ResourcesTold told, void *user)
{
	Resources *r = calloc(1, sizeof(Resources));

	if (r == NULL)
		return -ENOMEM;
	r->config = c;
	r->event = sd_event_ref(event);
	r->told = told;
	r->user = user;
	r->n = c->nresources;
	for (int i = 0; i < r->n; i++)
	{
		r->service[i].config = &c->resource[i];
		snprintf(r->service[i].text, TEXT_SIZE, "not asked yet");
	}
	*result = r;
	return 0;
}

void
resources_free(Resources *r)
{
	if (r == NULL)
		return;
	program_kill(r->program);
	sd_event_source_disable_unref(r->timer);
	sd_event_unref(r->event);
	free(r);
}

/*
 * Where they are to be stopped now nobody waits for a status, but for a start: half of one would be
 * worse to stop than all of it.
 */
void
resources_want(Resources *r, bool running)
{
	if (r->known && r->want == running)
		return;
	r->known = true;
	r->want = running;
	for (int i = 0; i < r->n; i++)
	{
		Service *s = &r->service[i];

		s->not_before = 0;
		s->first = 0;
		if (s->state == GIVEN_UP)
			s->state = UNCLEAN;
	}
	if (r->on != NULL && r->action == AGENT_STATUS)
	{
		program_kill(r->program);
		r->program = NULL;
		r->on = NULL;
	}
	converge(r);
}

void
resources_pause(Resources *r, bool paused)
{
	if (r->paused == paused)
		return;
	r->paused = paused;
	converge(r);
}

bool
resources_all(const Resources *r, bool running)
{
	for (int i = 0; i < r->n; i++)
		if (r->service[i].state != (running ? RUNNING : STOPPED))
			return false;
	return true;
}

const char *
resources_text(const Resources *r, int index)
{
	return r->service[index].text;
}
