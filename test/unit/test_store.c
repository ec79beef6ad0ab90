/*-------------------------------------------------------------------------
 *
 * test_store.c
 *	  Tests of the voter's state on disk (watchdog/store.c).
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "watchdog/report.h"
#include "watchdog/store.h"

static char directory[] = "/tmp/test_store.XXXXXX";
static Config config;
static char error[1024];

static void
sh(const char *format)
{
	char command[256];

	snprintf(command, sizeof(command), "cd %s && %s", directory, format);
	assert_int_equal(system(command), 0);
}

static int
begin(void **state)
{
	(void) state;
	snprintf(directory + strlen(directory) - 6, 7, "XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	memset(&config, 0, sizeof(config));
	config.nnodes = 3;
	config.self = 1;
	snprintf(config.path, sizeof(config.path), "tandem.conf");
	snprintf(config.node[0].name, CONFIG_NAME_SIZE, "east");
	snprintf(config.node[1].name, CONFIG_NAME_SIZE, "west");
	snprintf(config.node[2].name, CONFIG_NAME_SIZE, "third");
	config.node[2].witness = true;
	snprintf(config.state_directory, sizeof(config.state_directory), "%s/state", directory);
	snprintf(config.data_directory, sizeof(config.data_directory), "%s/data", directory);
	sh("mkdir data && echo 15 >data/PG_VERSION");
	return 0;
}

static int
end(void **state)
{
	char command[128];

	(void) state;
	snprintf(command, sizeof(command), "rm -rf %s", directory);
	return system(command);
}

static FsmDurable
sample(void)
{
	return (FsmDurable){.prom = 9,
						.prom_to = 0,
						.rec = {.term = 8,
								.seq = 3,
								.primary = 0,
								.primary_copy = UINT64_C(0xfedcba9876543210),
								.peer = 1,
								.peer_copy = 42,
								.lossy = true},
						.stepped_down = 7,
						.chosen_term = 6,
						.chosen_seq = 5,
						.inc = 4,
						.admitted = true,
						.copy_id = 42};
}

static void
assert_same(const FsmDurable *a, const FsmDurable *b)
{
	assert_int_equal(a->prom, b->prom);
	assert_int_equal(a->prom_to, b->prom_to);
	assert_int_equal(a->rec.term, b->rec.term);
	assert_int_equal(a->rec.seq, b->rec.seq);
	assert_int_equal(a->rec.primary, b->rec.primary);
	assert_int_equal(a->rec.primary_copy, b->rec.primary_copy);
	assert_int_equal(a->rec.peer, b->rec.peer);
	assert_int_equal(a->rec.peer_copy, b->rec.peer_copy);
	assert_int_equal(a->rec.lossy, b->rec.lossy);
	assert_int_equal(a->stepped_down, b->stepped_down);
	assert_int_equal(a->chosen_term, b->chosen_term);
	assert_int_equal(a->chosen_seq, b->chosen_seq);
	assert_int_equal(a->inc, b->inc);
	assert_int_equal(a->admitted, b->admitted);
	assert_int_equal(a->copy_id, b->copy_id);
	assert_int_equal(a->rebuilding, b->rebuilding);
}

static void
what_is_written_is_read(void **state)
{
	FsmDurable d = sample();
	FsmDurable back;

	(void) state;
	assert_false(store_exists(&config));
	assert_true(store_write_now(&config, &d, error, sizeof(error)));
	assert_true(store_exists(&config));
	assert_true(store_read(&config, &back, error, sizeof(error)));
	assert_same(&d, &back);

	d.rec.primary = d.rec.peer = d.prom_to = FSM_NOBODY;
	d.rec.lossy = false;
	d.rebuilding = true;
	d.copy_id = 77;
	assert_true(store_write_now(&config, &d, error, sizeof(error)));
	assert_true(store_read(&config, &back, error, sizeof(error)));
	assert_same(&d, &back);
}

static void
no_state_is_a_voter_that_lost_it(void **state)
{
	FsmDurable back;

	(void) state;
	assert_true(store_read(&config, &back, error, sizeof(error)));
	assert_false(back.admitted);
	assert_int_equal(back.prom_to, FSM_NOBODY);
	assert_int_equal(back.rec.primary, FSM_NOBODY);
	assert_int_equal(back.copy_id, 0);
}

static void
a_damaged_state_is_refused(void **state)
{
	FsmDurable d = sample();
	FsmDurable back;
	char path[sizeof(config.state_directory) + 16];
	char text[2048];
	ssize_t n;
	int fd;

	(void) state;
	assert_true(store_write_now(&config, &d, error, sizeof(error)));
	snprintf(path, sizeof(path), "%s/west.state", config.state_directory);
	fd = open(path, O_RDWR);
	n = read(fd, text, sizeof(text));
	assert_in_range(n, 100, sizeof(text) - 1);
	for (ssize_t i = 0; i < n; i++)
	{
		char bad = text[i] ^ 1;

		assert_int_equal(pwrite(fd, &bad, 1, i), 1);
		assert_false(store_read(&config, &back, error, sizeof(error)));
		assert_int_equal(pwrite(fd, &text[i], 1, i), 1);
	}
	assert_true(store_read(&config, &back, error, sizeof(error)));
	for (ssize_t length = n - 1; length > 0; length--)
	{
		assert_int_equal(ftruncate(fd, length), 0);
		assert_false(store_read(&config, &back, error, sizeof(error)));
		assert_non_null(strstr(error, "west.state"));
	}
	close(fd);
}

static void
the_state_of_another_is_refused(void **state)
{
	FsmDurable d = sample();
	FsmDurable back;

	(void) state;
	assert_true(store_write_now(&config, &d, error, sizeof(error)));
	sh("mv state/west.state state/east.state");
	config.self = 0;
	assert_false(store_read(&config, &back, error, sizeof(error)));
	assert_non_null(strstr(error, "not of \"east\""));
	config.self = 1;
	sh("mv state/east.state state/west.state");
	snprintf(config.node[0].name, CONFIG_NAME_SIZE, "north");
	assert_false(store_read(&config, &back, error, sizeof(error)));
	assert_non_null(strstr(error, "names node \"east\""));
	/* a node that moved in the file is still the one of its name */
	snprintf(config.node[0].name, CONFIG_NAME_SIZE, "west");
	snprintf(config.node[1].name, CONFIG_NAME_SIZE, "east");
	config.self = 0;
	assert_true(store_read(&config, &back, error, sizeof(error)));
	assert_int_equal(back.rec.primary, 1);
	assert_int_equal(back.rec.peer, 0);
}

static void
rebuilding_goes_before_what_the_copy_says(void **state)
{
	FsmDurable d = sample();
	FsmDurable back;
	CopyFile copy = {.id = 11};

	(void) state;
	d.rebuilding = true;
	assert_true(store_write_now(&config, &d, error, sizeof(error)));
	/* pg_basebackup has brought the primary's */
	assert_true(copy_file_write(config.data_directory, &copy));
	assert_true(store_read(&config, &back, error, sizeof(error)));
	assert_int_equal(back.copy_id, 42);
	assert_true(back.rebuilding);
	/* there is no data directory at all */
	sh("rm -r data");
	assert_true(store_read(&config, &back, error, sizeof(error)));
	assert_int_equal(back.copy_id, 42);
	assert_true(back.rebuilding);
}

/* ---------- the writer ---------- */

static int ndone;
static uint64_t last_done;
static bool last_ok;

static void
done(void *user, uint64_t seq, bool ok, const char *text)
{
	(void) user;
	(void) text;
	ndone++;
	last_done = seq;
	last_ok = ok;
}

static void
wait_for_writer(sd_event *e)
{
	int before = ndone;

	while (ndone == before)
		assert_true(sd_event_run(e, UINT64_C(10000000)) > 0);
}

static void
the_writer_tells_when_it_is_durable(void **state)
{
	FsmDurable d = sample();
	FsmDurable back;
	sd_event *e;
	Store *s;

	(void) state;
	assert_true(store_write_now(&config, &d, error, sizeof(error)));
	assert_true(sd_event_new(&e) >= 0);
	assert_true(store_new(&s, &config, &d, e, done, NULL) >= 0);
	d.prom = 10;
	assert_int_equal(store_write(s, 1, &d), 0);
	assert_int_equal(store_write(s, 2, &d), -EBUSY);
	wait_for_writer(e);
	assert_int_equal(last_done, 1);
	assert_true(last_ok);
	assert_true(store_read(&config, &back, error, sizeof(error)));
	assert_int_equal(back.prom, 10);
	store_free(s);
	sd_event_unref(e);
}

static void
the_writer_tells_when_it_cannot(void **state)
{
	FsmDurable d = sample();
	sd_event *e;
	Store *s;

	(void) state;
	assert_true(store_write_now(&config, &d, error, sizeof(error)));
	assert_true(sd_event_new(&e) >= 0);
	assert_true(store_new(&s, &config, &d, e, done, NULL) >= 0);
	sh("rm -r state");
	assert_int_equal(store_write(s, 5, &d), 0);
	wait_for_writer(e);
	assert_int_equal(last_done, 5);
	assert_false(last_ok);
	/* and goes on when it can again */
	sh("mkdir state");
	assert_int_equal(store_write(s, 6, &d), 0);
	wait_for_writer(e);
	assert_true(last_ok);
	store_free(s);
	sd_event_unref(e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_written_is_read, begin, end),
		cmocka_unit_test_setup_teardown(no_state_is_a_voter_that_lost_it, begin, end),
		cmocka_unit_test_setup_teardown(a_damaged_state_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(the_state_of_another_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(rebuilding_goes_before_what_the_copy_says, begin, end),
		cmocka_unit_test_setup_teardown(the_writer_tells_when_it_is_durable, begin, end),
		cmocka_unit_test_setup_teardown(the_writer_tells_when_it_cannot, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
