/*
 * test_program.c
 *		Programs that tandemd starts: where their output may go.
 *
 * tandemd is root, and the directory of a log may belong to the database's user.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pg_file.h"
#include "program.h"

static char top[] = "/tmp/tandem-program-XXXXXX";
static sd_event *event;
static bool ended;

static void
on_end(void *user, int status, const char *output)
{
	(void) user;
	(void) output;
	assert_int_equal(status, 0);
	ended = true;
}

static const char *
in_top(const char *name)
{
	static char path[2][128];
	static int i = 0;

	i = 1 - i;
	snprintf(path[i], sizeof(path[i]), "%s/%s", top, name);
	return path[i];
}

static void
put(const char *name, const char *text)
{
	FILE *f = fopen(in_top(name), "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void
assert_content(const char *name, const char *text)
{
	char there[256] = "";
	FILE *f = fopen(in_top(name), "r");

	assert_non_null(f);
	there[fread(there, 1, sizeof(there) - 1, f)] = '\0';
	fclose(f);
	assert_string_equal(there, text);
}

/* "echo hello" with its output there. */
static int
echo_into(const char *log)
{
	ProgramSpec spec = {.argv = {"/bin/echo", "hello", NULL}, .log_file = log, .done = on_end};
	Program *program;
	int r = program_run(&program, event, &spec);

	ended = false;
	while (r == 0 && !ended)
		sd_event_run(event, UINT64_MAX);
	return r;
}

static void
test_log(void **state)
{
	(void) state;
	put("log", "before\n");
	assert_int_equal(echo_into(in_top("log")), 0);
	assert_content("log", "before\nhello\n");
	assert_int_equal(echo_into(in_top("new")), 0);
	assert_content("new", "hello\n");
}

/* Who may write into the directory must not choose another file of root's. */
static void
test_log_is_a_link(void **state)
{
	(void) state;
	put("secret", "root's\n");
	assert_int_equal(symlink(in_top("secret"), in_top("link")), 0);
	assert_int_equal(echo_into(in_top("link")), -ELOOP);
	assert_content("secret", "root's\n");
}

/* Nor may tandemd wait for somebody who reads. */
static void
test_log_is_a_pipe(void **state)
{
	(void) state;
	assert_int_equal(mkfifo(in_top("fifo"), 0600), 0);
	assert_true(echo_into(in_top("fifo")) < 0);
}

static void
test_copy_of_a_link(void **state)
{
	(void) state;
	put("private", "root's\n");
	assert_int_equal(symlink(in_top("private"), in_top("pg_hba.conf")), 0);
	assert_int_equal(pg_file_copy_out(in_top("pg_hba.conf"), in_top("copy")), -ELOOP);
	assert_false(pg_file_exists(in_top("copy")));
}

static int
begin(void **state)
{
	(void) state;
	return mkdtemp(top) == NULL || sd_event_new(&event) < 0;
}

static int
end(void **state)
{
	(void) state;
	sd_event_unref(event);
	return pg_file_remove_tree(top);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_log_is_a_link),
		cmocka_unit_test(test_log_is_a_pipe),
		cmocka_unit_test(test_copy_of_a_link),
	};

	alarm(60);
	return cmocka_run_group_tests_name("program", tests, begin, end);
}
