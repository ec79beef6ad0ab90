/*
 * fence.c
 *		Powering a node off by its fence agent.
 *
 * The fence_* programs' interface: settings are lines NAME=VALUE on standard input.  First "off",
 * which must succeed, then "status", which must say off (exit status 2; 0 is on): an agent's word
 * that something was done is not enough, because whoever asked goes on to take that node's place.
 *
 * A request that comes while an earlier one for the same node is carried out waits for it and is
 * then carried out itself: the earlier answer may be of the node's earlier boot (rule 19), and an
 * agent that is slower than its owner's patience must come to an end nevertheless.  After a failure
 * the next attempt waits for a second.
 */
#include "helpers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <time.h>

#include "config_values.h"
#include "program.h"

#define SEC            INT64_C(1000000)
#define ACTION_LIMIT   (120 * SEC)
#define PAUSE          SEC /* after a failure, and between two looks at the status */
#define STATUS_TRIES   10
#define STATUS_ON      0
#define STATUS_OFF     2
#define FENCE_MAX_TEXT 512

typedef struct Target
{
	Fence *fence;
	int node;
	bool wanted; /* a request that is not begun */
	uint64_t wanted_seq;
	uint64_t seq; /* being carried out */
	bool busy;
	bool status; /* "off" is done */
	int tries;   /* of "status" */
	int64_t not_before;
	Program *program;
	sd_event_source *timer;
} Target;

struct Fence
{
	const Config *config;
	sd_event *event;
	FenceDone done;
	void *user;
	Target target[FSM_MAX_NODES];
};

static void begin(Target *t);
static void run(Target *t);

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * SEC + t.tv_nsec / 1000;
}

static void
answer(Target *t, bool ok, const char *text)
{
	uint64_t seq = t->seq;

	t->busy = false;
	t->not_before = ok ? 0 : now_us() + PAUSE;
	t->fence->done(t->fence->user, t->node, seq, ok, text);
	if (t->wanted && !t->busy)
		begin(t);
}

static int
later(sd_event_source *source, uint64_t usec, void *user)
{
	Target *t = user;

	(void) source;
	(void) usec;
	t->timer = sd_event_source_disable_unref(t->timer);
	if (t->busy)
		run(t);
	else if (t->wanted)
		begin(t);
	return 0;
}

static void
wait_until(Target *t, int64_t at)
{
	t->timer = sd_event_source_disable_unref(t->timer);
	if (sd_event_add_time(t->fence->event, &t->timer, CLOCK_BOOTTIME, (uint64_t) at, 1000, later,
						  t) >= 0)
		return;
	t->timer = NULL;
	if (t->busy)
		answer(t, false, "out of memory");
}

/* The last line that is not empty, without what cannot be shown. */
static void
last_line(const char *output, char *line, size_t size)
{
	size_t end = strlen(output);
	size_t begin;
	size_t n = 0;

	while (end > 0 && (output[end - 1] == '\n' || output[end - 1] == '\r'))
		end--;
	for (begin = end; begin > 0 && output[begin - 1] != '\n'; begin--)
		;
	for (; begin < end && n < size - 1; begin++)
		line[n++] = (unsigned char) output[begin] < ' ' ? ' ' : output[begin];
	line[n] = '\0';
}

static void
fail(Target *t, const char *action, int status, const char *output)
{
	char line[200];
	char text[FENCE_MAX_TEXT + CONFIG_PATH_SIZE];

	last_line(output, line, sizeof(line));
	snprintf(text, sizeof(text), "not confirmed off: %s of %s: %s%s%s", action,
			 t->fence->config->node[t->node].fence, program_status_text(status),
			 line[0] != '\0' ? ": " : "", line);
	answer(t, false, text);
}

static void
ended(void *user, int status, const char *output)
{
	Target *t = user;
	int code = status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;

	t->program = NULL;
	if (!t->status)
	{
		if (code != 0)
		{
			fail(t, "\"off\"", status, output);
			return;
		}
		t->status = true;
		t->tries = 0;
		run(t);
	}
	else if (code == STATUS_OFF)
		answer(t, true, "powered off, and its fence agent says that it is off");
	else if (++t->tries < STATUS_TRIES)
		wait_until(t, now_us() + PAUSE); /* power goes slowly, or the device is busy */
	else if (code == STATUS_ON)
		answer(t, false, "not confirmed off: its fence agent still says that it is on");
	else
		fail(t, "\"status\"", status, output);
}

/* What the DBA has set, and then, so that nothing there can change it, what is to be done. */
static void
make_input(const Target *t, char *input, size_t size)
{
	const ConfigNode *n = &t->fence->config->node[t->node];
	const char *p = n->fence_options[0] != '\0' ? n->fence_options : NULL;
	char part[CONFIG_PATH_SIZE];
	size_t used = 0;

	while (config_next_part(&p, ';', part))
		used += (size_t) snprintf(input + used, size - used, "%s\n", part);
	snprintf(input + used, size - used, "nodename=%s\naction=%s\n", n->name,
			 t->status ? "status" : "off");
}

static void
run(Target *t)
{
	/* the options and a line break for each, the node's name and the action */
	char input[2 * CONFIG_PATH_SIZE + CONFIG_NAME_SIZE + 64];
	char text[FENCE_MAX_TEXT + CONFIG_PATH_SIZE];
	ProgramSpec spec = {.limit = ACTION_LIMIT, .done = ended, .user = t};
	int r;

	_Static_assert(sizeof(input) <= PROGRAM_MAX_INPUT, "what a program can be given");
	make_input(t, input, sizeof(input));
	spec.argv[0] = t->fence->config->node[t->node].fence;
	spec.input = input;
	r = program_run(&t->program, t->fence->event, &spec);
	if (r >= 0)
		return;
	snprintf(text, sizeof(text), "not confirmed off: could not run %s: %s", spec.argv[0],
			 strerror(-r));
	answer(t, false, text);
}

static void
begin(Target *t)
{
	if (now_us() < t->not_before)
	{
		wait_until(t, t->not_before);
		return;
	}
	t->timer = sd_event_source_disable_unref(t->timer);
	t->wanted = false;
	t->seq = t->wanted_seq;
	t->busy = true;
	t->status = false;
	run(t);
}

int
fence_new(Fence **result, const Config *c, sd_event *event, FenceDone done, void *user)
{
	Fence *f = calloc(1, sizeof(Fence));

	if (f == NULL)
		return -ENOMEM;
	f->config = c;
	f->event = sd_event_ref(event);
	f->done = done;
	f->user = user;
	for (int i = 0; i < FSM_MAX_NODES; i++)
	{
		f->target[i].fence = f;
		f->target[i].node = i;
	}
	*result = f;
	return 0;
}

void
fence_free(Fence *f)
{
	if (f == NULL)
		return;
	for (int i = 0; i < FSM_MAX_NODES; i++)
	{
		program_kill(f->target[i].program);
		sd_event_source_disable_unref(f->target[i].timer);
	}
	sd_event_unref(f->event);
	free(f);
}

void
fence_power_off(Fence *f, int node, uint64_t seq)
{
	Target *t = &f->target[node];

	t->wanted = true;
	t->wanted_seq = seq;
	if (!t->busy)
		begin(t);
}
