/*
 * test_pg_unit.c
 *		PostgreSQL's unit over D-Bus, with a bus of the test's own and a process on it that answers as
 *		systemd does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "pg_unit.h"

#define UNIT "postgresql@15-main.service"
#define PATH "/org/freedesktop/systemd1/unit/postgresql_4015_2dmain_2eservice"
#define JOB  "/org/freedesktop/systemd1/job/42"

static char top[] = "/tmp/tandem-unit-XXXXXX";
static pid_t bus = 0;
static pid_t manager = 0;
static sd_event *event;
static PgUnit *unit;
static int ends;
static char last_error[500];

/* ---------- the one that answers as systemd does ---------- */

static const char *result; /* of jobs; "refuse": StartUnit is an error */
static bool forgot;        /* ResetFailedUnit was called before */
static int late;           /* it is seen in this state so many times more */
static const char *late_state = "active";

static int
on_nothing(sd_bus_message *m, void *user, sd_bus_error *error)
{
	(void) user;
	(void) error;
	return sd_bus_reply_method_return(m, "");
}

static int
on_reset(sd_bus_message *m, void *user, sd_bus_error *error)
{
	const char *name;

	(void) user;
	(void) error;
	forgot = sd_bus_message_read(m, "s", &name) >= 0 && strcmp(name, UNIT) == 0;
	return sd_bus_reply_method_return(m, "");
}

static int
on_start(sd_bus_message *m, void *user, sd_bus_error *error)
{
	const char *name;
	const char *mode;

	(void) user;
	if (sd_bus_message_read(m, "ss", &name, &mode) < 0 || strcmp(name, UNIT) != 0 ||
		strcmp(mode, "replace") != 0 || !forgot)
		return sd_bus_error_set(error, "org.test.Wrong", "wrong arguments");
	if ((late > 0 && strcmp(late_state, "active") == 0) !=
		(strcmp(sd_bus_message_get_member(m), "RestartUnit") == 0))
		return sd_bus_error_set(error, "org.test.Wrong", "nothing would come of it");
	if (strcmp(result, "refuse") == 0)
		return sd_bus_error_set(error, "org.freedesktop.systemd1.NoSuchUnit", "Unit not found.");
	forgot = false;
	if (sd_bus_reply_method_return(m, "o", JOB) < 0)
		return -EIO;
	if (strcmp(result, "silent") == 0)
		return 1;
	/* another unit's job ends first */
	(void) sd_bus_emit_signal(sd_bus_message_get_bus(m), "/org/freedesktop/systemd1",
							  "org.freedesktop.systemd1.Manager", "JobRemoved", "uoss", 41,
							  "/org/freedesktop/systemd1/job/41", "other.service", "failed");
	return sd_bus_emit_signal(sd_bus_message_get_bus(m), "/org/freedesktop/systemd1",
							  "org.freedesktop.systemd1.Manager", "JobRemoved", "uoss", 42, JOB,
							  UNIT, result);
}

static int
get_property(sd_bus *b, const char *path, const char *interface, const char *property,
			 sd_bus_message *reply, void *user, sd_bus_error *error)
{
	const char *value = "/"; /* ControlGroup */

	(void) b;
	(void) path;
	(void) interface;
	(void) user;
	(void) error;
	if (strcmp(property, "ActiveState") == 0)
		value = late > 0 && late-- > 0 ? late_state : "failed";
	return sd_bus_message_append(reply, "s", value);
}

static const sd_bus_vtable manager_table[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Subscribe", "", "", on_nothing, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ResetFailedUnit", "s", "", on_reset, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("StartUnit", "ss", "o", on_start, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("RestartUnit", "ss", "o", on_start, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL("JobRemoved", "uoss", 0),
	SD_BUS_VTABLE_END};

static const sd_bus_vtable unit_table[] = {SD_BUS_VTABLE_START(0),
										   SD_BUS_PROPERTY("ControlGroup", "s", get_property, 0, 0),
										   SD_BUS_VTABLE_END};

static const sd_bus_vtable state_table[] = {SD_BUS_VTABLE_START(0),
											SD_BUS_PROPERTY("ActiveState", "s", get_property, 0, 0),
											SD_BUS_VTABLE_END};

static _Noreturn void
answer(const char *how, int ready)
{
	sd_bus *b = NULL;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	result = how;
	r = sd_bus_open_system(&b);
	if (r >= 0)
		r = sd_bus_add_object_vtable(b, NULL, "/org/freedesktop/systemd1",
									 "org.freedesktop.systemd1.Manager", manager_table, NULL);
	if (r >= 0)
		r = sd_bus_add_object_vtable(b, NULL, PATH, "org.freedesktop.systemd1.Service", unit_table,
									 NULL);
	if (r >= 0)
		r = sd_bus_add_object_vtable(b, NULL, PATH, "org.freedesktop.systemd1.Unit", state_table,
									 NULL);
	if (r >= 0)
		r = sd_bus_request_name(b, "org.freedesktop.systemd1", 0);
	if (r < 0 || write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
	{
		while (sd_bus_process(b, NULL) > 0)
			;
		if (sd_bus_wait(b, UINT64_MAX) < 0)
			_exit(0);
	}
}

static void
start_manager(const char *how)
{
	int fds[2];
	char x;

	assert_int_equal(pipe(fds), 0);
	manager = fork();
	assert_true(manager >= 0);
	if (manager == 0)
		answer(how, fds[1]);
	close(fds[1]);
	assert_int_equal(read(fds[0], &x, 1), 1);
	close(fds[0]);
}

static void
end_process(pid_t *pid)
{
	if (*pid > 0)
	{
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
	}
	*pid = 0;
}

/* ---------- the bus ---------- */

/* The socket is there a moment before anybody listens. */
static bool
can_connect(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	assert_true(fd >= 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	ok = connect(fd, (struct sockaddr *) &a, sizeof(a)) == 0;
	close(fd);
	return ok;
}

static void
start_bus(void)
{
	char conf[100];
	char address[100];
	FILE *f;

	snprintf(conf, sizeof(conf), "%s/bus.conf", top);
	f = fopen(conf, "w");
	assert_non_null(f);
	fprintf(f,
			"<busconfig><type>session</type><listen>unix:path=%s/bus</listen><policy "
			"context='default'><allow send_destination='*' eavesdrop='true'/><allow "
			"eavesdrop='true'/><allow own='*'/></policy></busconfig>",
			top);
	fclose(f);
	snprintf(address, sizeof(address), "unix:path=%s/bus", top);
	setenv("DBUS_SYSTEM_BUS_ADDRESS", address, 1);
	bus = fork();
	assert_true(bus >= 0);
	if (bus == 0)
	{
		char option[120];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(option, sizeof(option), "--config-file=%s", conf);
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(127);
		execlp("dbus-daemon", "dbus-daemon", "--nofork", option, (char *) NULL);
		_exit(127);
	}
	for (int i = 0; i < 1000 && !can_connect(address + strlen("unix:path=")); i++)
		usleep(5000);
	assert_true(can_connect(address + strlen("unix:path=")));
}

static void
on_started(void *user, const char *error)
{
	(void) user;
	ends++;
	snprintf(last_error, sizeof(last_error), "%s", error != NULL ? error : "");
}

static int
begin(void **state)
{
	(void) state;
	if (mkdtemp(top) == NULL)
		return 1;
	start_bus();
	ends = 0;
	if (sd_event_new(&event) < 0)
		return 1;
	return pg_unit_new(&unit, UNIT, event, on_started, NULL);
}

static int
end(void **state)
{
	char command[100];

	(void) state;
	pg_unit_free(unit);
	sd_event_unref(event);
	end_process(&manager);
	end_process(&bus);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	if (system(command) != 0)
		return 1;
	strcpy(top + strlen(top) - 6, "XXXXXX");
	return 0;
}

static void
run_until_end(int number)
{
	for (int i = 0; i < 500 && ends < number; i++)
		assert_true(sd_event_run(event, 20000) >= 0);
	assert_int_equal(ends, number);
}

/* ---------- tests ---------- */

static void
test_start(void **state)
{
	(void) state;
	start_manager("done");
	for (int i = 1; i <= 3; i++)
	{
		assert_int_equal(pg_unit_start(unit), 0);
		run_until_end(i);
		assert_string_equal(last_error, "");
	}
	/* the root of all cgroups is nobody's: it would mean every process of the host */
	for (int i = 0; i < 20; i++)
	{
		assert_null(pg_unit_cgroup(unit));
		assert_true(sd_event_run(event, 5000) >= 0);
	}
}

static void
test_start_fails(void **state)
{
	(void) state;
	start_manager("failed");
	assert_int_equal(pg_unit_start(unit), 0);
	run_until_end(1);
	assert_string_equal(last_error, "systemd: the start job ended with \"failed\"");
}

/* How often it was asked until systemd had noticed; -1: it had not after so many. */
static int
asked_until_stopped(int limit)
{
	pg_unit_look_again(unit);
	for (int i = 0; i < limit; i++)
	{
		if (pg_unit_is_stopped(unit))
			return i;
		assert_true(sd_event_run(event, 1000000) >= 0);
	}
	return -1;
}

/* The unit never comes to be stopped: a start is asked for all the same, as the second job. */
static void
start_in_spite(void)
{
	late = 1000000;
	start_manager("done");
	assert_int_equal(asked_until_stopped(50), -1);
	assert_int_equal(pg_unit_start(unit), 0);
	run_until_end(2);
	assert_string_equal(last_error, "");
	late = 0;
}

/* PostgreSQL is dead, and systemd has not noticed: it would take a start for one that is done. */
static void
test_noticed_late(void **state)
{
	(void) state;
	late = 5;
	start_manager("done");
	assert_true(asked_until_stopped(1000) >= 5);
	assert_int_equal(pg_unit_start(unit), 0);
	run_until_end(1);
	assert_string_equal(last_error, "");
	/* dead again */
	assert_true(asked_until_stopped(1000) >= 1);
	end_process(&manager);
	/* it never does: so it is told to stop what is there first */
	start_in_spite();
	/* nobody to ask: a start would say why */
	end_process(&manager);
	assert_true(asked_until_stopped(1000) >= 0);
}

/* The start before has failed, and its job has not ended: another start would end as that does. */
static void
test_start_fails_late(void **state)
{
	(void) state;
	late = 5;
	late_state = "activating";
	start_manager("done");
	assert_true(asked_until_stopped(1000) >= 5);
	assert_int_equal(pg_unit_start(unit), 0);
	run_until_end(1);
	assert_string_equal(last_error, "");
	end_process(&manager);
	/* it never does: what is under way is waited for, not stopped */
	start_in_spite();
	late_state = "active";
}

static void
test_no_such_unit(void **state)
{
	(void) state;
	start_manager("refuse");
	assert_int_equal(pg_unit_start(unit), 0);
	run_until_end(1);
	assert_string_equal(last_error,
						"systemd refused to start postgresql@15-main.service: Unit not found.");
}

static void
test_nobody_answers(void **state)
{
	(void) state;
	assert_int_equal(pg_unit_start(unit), 0); /* nobody owns the name */
	run_until_end(1);
	assert_non_null(strstr(last_error, "systemd refused to start"));
}

/* The bus goes away and comes back: the next start uses the new one. */
static void
test_bus_restarts(void **state)
{
	char path[100];

	(void) state;
	start_manager("done");
	assert_int_equal(pg_unit_start(unit), 0);
	run_until_end(1);
	end_process(&manager);
	end_process(&bus);
	for (int i = 0; i < 10; i++)
		assert_true(sd_event_run(event, 5000) >= 0);
	assert_true(pg_unit_start(unit) < 0); /* and nobody is told twice */
	assert_int_equal(ends, 1);
	snprintf(path, sizeof(path), "%s/bus", top);
	unlink(path);
	start_bus();
	start_manager("done");
	assert_int_equal(pg_unit_start(unit), 0);
	run_until_end(2);
	assert_string_equal(last_error, "");
}

static void
no_bus(void **state)
{
	(void) state;
	print_message("skipped: there is no dbus-daemon\n");
	skip();
}

int
main(void)
{
	const struct CMUnitTest instead[] = {cmocka_unit_test(no_bus)};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start, begin, end),
		cmocka_unit_test_setup_teardown(test_start_fails, begin, end),
		cmocka_unit_test_setup_teardown(test_noticed_late, begin, end),
		cmocka_unit_test_setup_teardown(test_start_fails_late, begin, end),
		cmocka_unit_test_setup_teardown(test_no_such_unit, begin, end),
		cmocka_unit_test_setup_teardown(test_nobody_answers, begin, end),
		cmocka_unit_test_setup_teardown(test_bus_restarts, begin, end),
	};

	if (system("command -v dbus-daemon >/dev/null") != 0)
		return cmocka_run_group_tests_name("pg_unit", instead, NULL, NULL);
	return cmocka_run_group_tests_name("pg_unit", tests, NULL, NULL);
}
