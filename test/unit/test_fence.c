/*-------------------------------------------------------------------------
 *
 * test_fence.c
 *	  Tests of fencing (watchdog/fence.c) with agents written here: shell
 *	  scripts that note what they are given on standard input.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "helpers.h"

#define SEC INT64_C(1000000)

static char top[] = "/tmp/test_fence.XXXXXX";
static sd_event *event;
static Config config;
static Fence *fence;
static struct
{
	int n;
	int node;
	uint64_t seq;
	bool ok;
	char text[2048];
} answer;

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * SEC + t.tv_nsec / 1000;
}

/* The agent of node 1: "action" is set to off or status, and "turn" counts its runs. */
static void
agent(const char *body)
{
	FILE *f = fopen(config.node[1].fence, "w");

	assert_non_null(f);
	fprintf(f,
			"#!/bin/sh\ncd %s\necho run >>turns; turn=$(wc -l <turns); cat >input\n"
			"action=$(sed -n 's/^action=//p' input | tail -1)\ncp input input.$action\n"
			"echo $action >>log\n%s\n",
			top, body);
	fclose(f);
	assert_int_equal(chmod(config.node[1].fence, 0700), 0);
}

/* A file that the agent wrote. */
static const char *
file(const char *name)
{
	static char text[2048];
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", top, name);
	f = fopen(path, "r");
	text[0] = '\0';
	if (f != NULL)
	{
		text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
		fclose(f);
	}
	return text;
}

static void
on_done(void *user, int node, uint64_t seq, bool ok, const char *text)
{
	(void) user;
	answer.n++;
	answer.node = node;
	answer.seq = seq;
	answer.ok = ok;
	snprintf(answer.text, sizeof(answer.text), "%s", text);
}

static void
run_until_answers(int n)
{
	int64_t end = now_us() + 20 * SEC;

	while (answer.n < n && now_us() < end)
		sd_event_run(event, 20000);
	assert_int_equal(answer.n, n);
}

/* Until the agent has been run so often. */
static void
run_until_log(const char *text)
{
	int64_t end = now_us() + 10 * SEC;

	while (strcmp(file("log"), text) != 0 && now_us() < end)
		sd_event_run(event, 20000);
	assert_string_equal(file("log"), text);
}

static int
begin(void **state)
{
	(void) state;
	if (mkdtemp(top) == NULL)
		return 1;
	config.nnodes = 2;
	strcpy(config.node[0].name, "alpha");
	strcpy(config.node[1].name, "beta");
	snprintf(config.node[1].fence, CONFIG_PATH_SIZE, "%s/agent", top);
	strcpy(config.node[1].fence_options, "ipaddr=10.0.0.9; login=admin;passwd=a b=c; action=on");
	return sd_event_new(&event) < 0;
}

static int
end(void **state)
{
	char command[128];

	(void) state;
	sd_event_unref(event);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

static int
each(void **state)
{
	char command[128];

	(void) state;
	memset(&answer, 0, sizeof(answer));
	snprintf(command, sizeof(command), "rm -rf %s/*", top);
	if (system(command) != 0)
		return 1;
	return fence_new(&fence, &config, event, on_done, NULL);
}

static int
after_each(void **state)
{
	(void) state;
	fence_free(fence);
	return 0;
}

/* ---------- tests ---------- */

static void
test_off(void **state)
{
	(void) state;
	agent("[ $action = off ] && exit 0; exit 2");
	fence_power_off(fence, 1, 7);
	assert_int_equal(answer.n, 0);
	run_until_answers(1);
	assert_true(answer.ok);
	assert_int_equal(answer.node, 1);
	assert_int_equal(answer.seq, 7);
	assert_string_equal(file("log"), "off\nstatus\n");
	assert_string_equal(file("input.off"),
						"ipaddr=10.0.0.9\nlogin=admin\npasswd=a b=c\naction=on\nnodename=beta\n"
						"action=off\n");
	assert_non_null(strstr(file("input.status"), "\naction=status\n"));
}

static void
test_off_fails(void **state)
{
	(void) state;
	agent("echo 'Failed: Unable to obtain correct plug status' >&2; echo; exit 1");
	fence_power_off(fence, 1, 1);
	run_until_answers(1);
	assert_false(answer.ok);
	assert_non_null(strstr(answer.text, "not confirmed off"));
	assert_non_null(strstr(answer.text, "\"off\""));
	assert_non_null(strstr(answer.text, "exit status 1"));
	assert_non_null(strstr(answer.text, "Unable to obtain correct plug status"));
	assert_string_equal(file("log"), "off\n");
}

/* "off" was said to be done, and it takes a while until it is. */
static void
test_slow_power(void **state)
{
	(void) state;
	agent("[ $action = off ] && exit 0; [ $turn -lt 4 ] && exit 0; exit 2");
	fence_power_off(fence, 1, 1);
	run_until_answers(1);
	assert_true(answer.ok);
	assert_string_equal(file("log"), "off\nstatus\nstatus\nstatus\n");
}

/* An agent that says done and still on, or knows no status, is not believed. */
static void
test_still_on(void **state)
{
	(void) state;
	agent("exit 0");
	fence_power_off(fence, 1, 1);
	run_until_answers(1);
	assert_false(answer.ok);
	assert_non_null(strstr(answer.text, "still says that it is on"));
}

static void
test_no_status(void **state)
{
	(void) state;
	agent("[ $action = off ] && exit 0; exit 1");
	fence_power_off(fence, 1, 1);
	run_until_answers(1);
	assert_false(answer.ok);
	assert_non_null(strstr(answer.text, "\"status\""));
}

static void
test_killed_agent(void **state)
{
	(void) state;
	agent("[ $action = off ] && exit 0; kill -9 $$");
	fence_power_off(fence, 1, 1);
	run_until_answers(1);
	assert_false(answer.ok);
	assert_non_null(strstr(answer.text, "signal 9"));
}

static void
test_no_agent(void **state)
{
	(void) state;
	fence_power_off(fence, 1, 3);
	run_until_answers(1);
	assert_false(answer.ok);
	assert_int_equal(answer.seq, 3);
	assert_non_null(strstr(answer.text, "not confirmed off"));
}

/*
 * A request that comes while one is carried out is carried out itself, from the beginning: the
 * first answer is of what was asked first.
 */
static void
test_two_requests(void **state)
{
	(void) state;
	agent("[ $action = status ] && exit 2; while [ ! -e go ]; do sleep 0.05; done; exit 0");
	fence_power_off(fence, 1, 1);
	run_until_log("off\n");
	fence_power_off(fence, 1, 2);
	fence_power_off(fence, 1, 3);
	fclose(fopen(strcat(strcpy((char[128]){0}, top), "/go"), "w"));
	run_until_answers(1);
	assert_int_equal(answer.seq, 1);
	run_until_answers(2);
	assert_int_equal(answer.seq, 3);
	assert_true(answer.ok);
	assert_string_equal(file("log"), "off\nstatus\noff\nstatus\n");
}

/* An owner that asks again at each refusal does not run the agent in a busy loop. */
static void
test_pause(void **state)
{
	int64_t first;

	(void) state;
	agent("exit 1");
	fence_power_off(fence, 1, 1);
	run_until_answers(1);
	first = now_us();
	fence_power_off(fence, 1, 2);
	run_until_answers(2);
	assert_int_equal(answer.seq, 2);
	assert_true(now_us() - first > SEC - 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_off, each, after_each),
		cmocka_unit_test_setup_teardown(test_off_fails, each, after_each),
		cmocka_unit_test_setup_teardown(test_slow_power, each, after_each),
		cmocka_unit_test_setup_teardown(test_still_on, each, after_each),
		cmocka_unit_test_setup_teardown(test_no_status, each, after_each),
		cmocka_unit_test_setup_teardown(test_killed_agent, each, after_each),
		cmocka_unit_test_setup_teardown(test_no_agent, each, after_each),
		cmocka_unit_test_setup_teardown(test_two_requests, each, after_each),
		cmocka_unit_test_setup_teardown(test_pause, each, after_each),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("fence", tests, begin, end);
}
