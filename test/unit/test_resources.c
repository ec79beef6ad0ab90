/*-------------------------------------------------------------------------
 *
 * test_resources.c
 *	  Tests of other services (watchdog/resources.c, agent.c): an LSB script,
 *	  a systemd unit and an OCF agent, in this order.  All three are one shell
 *	  script that notes what it is asked, in a mount namespace of our own: its
 *	  /etc/init.d, its resource.d and its systemctl.  As root.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "helpers.h"

#define MS  INT64_C(1000)
#define SEC INT64_C(1000000)

static bool possible;
static char top[] = "/tmp/test_resources.XXXXXX";
static sd_event *event;
static Config config;
static Resources *resources;
static struct
{
	int n;
	int hand_overs;
	char log[8192]; /* "NAME: TEXT" in lines */
} told;

/*
 * first (LSB), second (systemd), third (OCF).  A service runs if NAME.runs is there; NAME.broken
 * makes its start fail, NAME.stuck its stop, NAME.slow waits for NAME.go.
 */
static const char *const script =
	"#!/bin/sh\n"
	"cd %s || exit 1\n"
	"kind=${0##*/} action=$1\n"
	"case $kind in\n"
	"	systemctl) name=second not=3; [ \"$1 $3\" = '--no-ask-password --' ] && action=$2\n"
	"		[ \"$4\" = second.service ] || action=$4 ;;\n"
	"	first) name=first not=3 ;;\n"
	"	type) name=third not=7; env | grep ^OCF_ | sort >environment ;;\n"
	"esac\n"
	"case $action in is-active|monitor|status) action=status ;; *) echo $name $action >>log ;; "
	"esac\n"
	"[ ! -e $name.slow ] || [ $action != start ] || while [ ! -e $name.go ]; do sleep 0.05; done\n"
	"case $action in\n"
	"	start) [ ! -e $name.broken ] || { echo 'no way'; exit 1; }; touch $name.runs ;;\n"
	"	stop) [ ! -e $name.stuck ] || { echo 'cannot'; exit 1; }; rm -f $name.runs ;;\n"
	"	status) [ -e $name.runs ] || exit $not ;;\n"
	"	*) exit 5 ;;\n"
	"esac\n";

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * SEC + t.tv_nsec / 1000;
}

static void
sh(const char *format, ...)
{
	char command[512];
	va_list args;
	int n;

	n = snprintf(command, sizeof(command), "cd %s && ", top);
	va_start(args, format);
	vsnprintf(command + n, sizeof(command) - (size_t) n, format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

static const char *
file(const char *name)
{
	static char text[4096];
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
on_told(void *user, const char *name, const char *text, bool hand_over)
{
	size_t n = strlen(told.log);

	(void) user;
	told.n++;
	told.hand_overs += hand_over;
	snprintf(told.log + n, sizeof(told.log) - n, "%s: %s\n", name, text);
}

static bool
was_told(const char *text)
{
	return strstr(told.log, text) != NULL;
}

#define UNTIL(condition)                                                                      \
	do                                                                                        \
	{                                                                                         \
		int64_t until_end = now_us() + 15 * SEC;                                              \
		while (!(condition))                                                                  \
		{                                                                                     \
			if (now_us() > until_end)                                                         \
				fail_msg("not so: %s\nlog:\n%stold:\n%s", #condition, file("log"), told.log); \
			sd_event_run(event, 20000);                                                       \
		}                                                                                     \
	} while (0)

static void
run_for(int64_t us)
{
	int64_t until = now_us() + us;

	while (now_us() < until)
		sd_event_run(event, 10000);
}

/* ---------- the bed ---------- */

static void
write_script(const char *path)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fprintf(f, script, top);
	fclose(f);
	assert_int_equal(chmod(path, 0755), 0);
}

static int
begin(void **state)
{
	static const ConfigResource model = {.start_timeout = 5 * SEC,
										 .stop_timeout = 5 * SEC,
										 .monitor_interval = 200 * MS,
										 .restart_attempts = 2};
	char path[256];

	(void) state;
	possible = geteuid() == 0 && access("/bin/systemctl", X_OK) == 0;
	if (!possible)
		return 0;
	if (mkdtemp(top) == NULL || unshare(CLONE_NEWNS) != 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		mount("none", "/etc/init.d", "tmpfs", 0, NULL) != 0)
		return 1;
	write_script("/etc/init.d/first");
	snprintf(path, sizeof(path), "%s/systemctl", top);
	write_script(path);
	if (mount(path, "/bin/systemctl", NULL, MS_BIND, NULL) != 0)
		return 1;
	sh("mkdir -p ocf/resource.d/provider");
	snprintf(path, sizeof(path), "%s/ocf/resource.d/provider/type", top);
	write_script(path);
	snprintf(path, sizeof(path), "%s/ocf", top);
	setenv("OCF_ROOT", path, 1);

	config.fsm.restart_window = 6 * SEC;
	config.nresources = 3;
	for (int i = 0; i < 3; i++)
		config.resource[i] = model;
	strcpy(config.resource[0].name, "first");
	config.resource[0].kind = RESOURCE_LSB;
	strcpy(config.resource[0].agent, "first");
	strcpy(config.resource[1].name, "second");
	config.resource[1].kind = RESOURCE_SYSTEMD;
	strcpy(config.resource[1].agent, "second.service");
	strcpy(config.resource[2].name, "third");
	config.resource[2].kind = RESOURCE_OCF;
	strcpy(config.resource[2].agent, "provider:type");
	strcpy(config.resource[2].options, "ip=10.0.0.1; nic=eth0");
	return sd_event_new(&event) < 0;
}

static int
end(void **state)
{
	char command[128];

	(void) state;
	if (!possible)
		return 0;
	sd_event_unref(event);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

static int
each(void **state)
{
	(void) state;
	if (!possible)
		return 0;
	memset(&told, 0, sizeof(told));
	sh("rm -f log *.runs *.broken *.stuck *.slow *.go");
	for (int i = 0; i < 3; i++)
		config.resource[i].failover = false;
	return resources_new(&resources, &config, event, on_told, NULL);
}

static int
after_each(void **state)
{
	(void) state;
	if (possible)
		resources_free(resources);
	return 0;
}

static void
need_bed(void)
{
	if (!possible)
	{
		print_message("skipped: needs root, and systemd's programs\n");
		skip();
	}
}

#define START "first start\nsecond start\nthird start\n"
#define STOP  "third stop\nsecond stop\nfirst stop\n"

static void
start_all(void)
{
	resources_want(resources, true);
	UNTIL(resources_all(resources, true));
}

/* ---------- tests ---------- */

static void
test_order(void **state)
{
	(void) state;
	need_bed();
	run_for(100 * MS);
	assert_string_equal(resources_text(resources, 0), "not asked yet");
	start_all();
	assert_string_equal(file("log"), START);
	assert_string_equal(resources_text(resources, 2), "running");
	resources_want(resources, false);
	assert_false(resources_all(resources, false));
	UNTIL(resources_all(resources, false));
	assert_string_equal(file("log"), START STOP);
	assert_string_equal(told.log, "first: running\nsecond: running\nthird: running\n"
								  "third: stopped\nsecond: stopped\nfirst: stopped\n");
	/* and again, as at a second switchover */
	start_all();
	assert_string_equal(file("log"), START STOP START);
}

/* What runs already, as after a restart of tandemd, is not started again. */
static void
test_adopted(void **state)
{
	(void) state;
	need_bed();
	sh("touch first.runs second.runs third.runs");
	start_all();
	assert_string_equal(file("log"), "");
	assert_int_equal(told.n, 0);
	/* nor is it stopped by the end of tandemd */
	resources_free(resources);
	assert_int_equal(resources_new(&resources, &config, event, on_told, NULL), 0);
	assert_string_equal(file("log"), "");
	/* on a standby it has no business */
	resources_want(resources, false);
	UNTIL(resources_all(resources, false));
	assert_string_equal(file("log"), STOP);
}

/* Nothing runs, nothing is to run: nothing is done. */
static void
test_standby(void **state)
{
	(void) state;
	need_bed();
	resources_want(resources, false);
	UNTIL(resources_all(resources, false));
	assert_string_equal(file("log"), "");
	assert_int_equal(told.n, 0);
}

static void
test_ocf_environment(void **state)
{
	char line[256];

	(void) state;
	need_bed();
	start_all();
	assert_non_null(strstr(file("environment"), "OCF_RESKEY_ip=10.0.0.1\n"));
	assert_non_null(strstr(file("environment"), "OCF_RESKEY_nic=eth0\n"));
	assert_non_null(strstr(file("environment"), "OCF_RESOURCE_INSTANCE=third\n"));
	assert_non_null(strstr(file("environment"), "OCF_RESOURCE_PROVIDER=provider\n"));
	assert_non_null(strstr(file("environment"), "OCF_RESOURCE_TYPE=type\n"));
	assert_non_null(strstr(file("environment"), "OCF_RA_VERSION_MAJOR=1\n"));
	snprintf(line, sizeof(line), "OCF_ROOT=%s/ocf\n", top);
	assert_non_null(strstr(file("environment"), line));
}

/* A service that dies is seen by its monitor, stopped for certain, and started again. */
static void
test_restart(void **state)
{
	(void) state;
	need_bed();
	start_all();
	sh("rm second.runs");
	UNTIL(was_told("second: does not run any more"));
	UNTIL(resources_all(resources, true));
	assert_string_equal(file("log"), START "second stop\nsecond start\n");
	assert_int_equal(told.hand_overs, 0);
}

/* Given up after restart_attempts; the others go on; tried again when the window is over. */
static void
test_given_up(void **state)
{
	(void) state;
	need_bed();
	sh("touch second.broken");
	resources_want(resources, true);
	UNTIL(was_told("second: given up after 2 restarts within 6s: could not be started: exit "
				   "status 1: no way"));
	UNTIL(strcmp(resources_text(resources, 2), "running") == 0);
	assert_string_equal(file("log"), "first start\nsecond start\nsecond stop\nsecond start\n"
									 "second stop\nsecond start\nthird start\n");
	assert_int_equal(told.hand_overs, 0);
	assert_false(resources_all(resources, true));
	assert_non_null(strstr(resources_text(resources, 1), "given up"));
	sh("rm second.broken");
	UNTIL(resources_all(resources, true));
}

/* on_failure = failover: told once, and if nobody takes over, tried again later. */
static void
test_hand_over(void **state)
{
	(void) state;
	need_bed();
	config.resource[2].failover = true;
	start_all();
	sh("touch third.broken && rm third.runs");
	UNTIL(told.hand_overs == 1);
	run_for(1500 * MS);
	assert_int_equal(told.hand_overs, 1);
	resources_want(resources, false);
	UNTIL(resources_all(resources, false));
	/* on the next turn its attempts are new */
	sh("rm third.broken");
	start_all();
	assert_int_equal(told.hand_overs, 1);
}

/* One that cannot be stopped is told once, tried again, and does not keep the others running. */
static void
test_stuck(void **state)
{
	(void) state;
	need_bed();
	start_all();
	sh("touch second.stuck");
	resources_want(resources, false);
	UNTIL(was_told("first: stopped"));
	assert_true(was_told("second: could not be stopped: exit status 1: cannot"));
	assert_false(resources_all(resources, false));
	sh("rm second.stuck");
	UNTIL(resources_all(resources, false));
	assert_true(was_told("second: stopped"));
}

/* The end of the role comes while a service is being started: it is let finish, then stopped. */
static void
test_stop_while_starting(void **state)
{
	(void) state;
	need_bed();
	resources_want(resources, true);
	UNTIL(strcmp(resources_text(resources, 0), "running") == 0);
	sh("touch second.slow");
	UNTIL(strstr(file("log"), "second start") != NULL || strstr(told.log, "second: running"));
	resources_want(resources, false);
	run_for(300 * MS);
	sh("touch second.go");
	UNTIL(resources_all(resources, false));
	assert_null(strstr(file("log"), "third start"));
	assert_non_null(strstr(file("log"), "second start\nsecond stop\nfirst stop\n"));
}

/* A start that takes too long is killed and counts as failed. */
static void
test_time_limit(void **state)
{
	(void) state;
	need_bed();
	config.resource[0].start_timeout = 300 * MS;
	sh("touch first.runs && rm first.runs");
	resources_want(resources, false);
	UNTIL(resources_all(resources, false));
	sh("touch first.slow");
	resources_want(resources, true);
	UNTIL(was_told("first: could not be started: killed: it took too long"));
	sh("touch first.go");
	UNTIL(resources_all(resources, true));
	config.resource[0].start_timeout = 5 * SEC;
}

/* Maintenance: nothing is started again, but what must not run here is stopped. */
static void
test_pause(void **state)
{
	(void) state;
	need_bed();
	start_all();
	resources_pause(resources, true);
	sh("rm second.runs");
	UNTIL(was_told("second: does not run any more"));
	run_for(1500 * MS);
	assert_string_equal(file("log"), START);
	resources_pause(resources, false);
	UNTIL(resources_all(resources, true));
	assert_string_equal(file("log"), START "second stop\nsecond start\n");
	resources_pause(resources, true);
	resources_want(resources, false);
	UNTIL(resources_all(resources, false));
	assert_string_equal(file("log"), START "second stop\nsecond start\n" STOP);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_order, each, after_each),
		cmocka_unit_test_setup_teardown(test_adopted, each, after_each),
		cmocka_unit_test_setup_teardown(test_standby, each, after_each),
		cmocka_unit_test_setup_teardown(test_ocf_environment, each, after_each),
		cmocka_unit_test_setup_teardown(test_restart, each, after_each),
		cmocka_unit_test_setup_teardown(test_given_up, each, after_each),
		cmocka_unit_test_setup_teardown(test_hand_over, each, after_each),
		cmocka_unit_test_setup_teardown(test_stuck, each, after_each),
		cmocka_unit_test_setup_teardown(test_stop_while_starting, each, after_each),
		cmocka_unit_test_setup_teardown(test_time_limit, each, after_each),
		cmocka_unit_test_setup_teardown(test_pause, each, after_each),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("resources", tests, begin, end);
}
