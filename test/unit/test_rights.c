/*
 * test_rights.c
 *		tandemd is root, and the database's user puts links in place of what is in his directories.
 *
 * Whatever tandemd then does by a name there, it does nothing that the user could not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "follow.h"
#include "pg_file.h"
#include "pg_process.h"
#include "program.h"
#include "rebuild_files.h"
#include "report.h"
#include "rights.h"
#include "shell.h"

#define USER "nobody"

static char top[] = "/tmp/tandem-rights-XXXXXX";
static Config config;

#define shell(...) shell_in(top, __VA_ARGS__)

static const char *
in_top(const char *name)
{
	static char path[4][PG_FILE_PATH];
	static int i = 0;

	i = (i + 1) % 4;
	assert_true(pg_file_join(path[i], top, name));
	return path[i];
}

/* A data directory of the user's, and a directory of root's that he cannot even read. */
static int
make(void **state)
{
	(void) state;
	shell("rm -rf data root state; mkdir data data/pg_tandem root state; chmod 700 root; "
		  "echo secret >root/file; touch -d 2001-01-01 root/file; echo 15 >data/PG_VERSION; "
		  "chown -R " USER " data");
	return 0;
}

/* root's directory is as it was. */
static void
check_untouched(void)
{
	shell("test \"$(ls root)\" = file && grep -qx secret root/file && "
		  "test $(stat -c %%u:%%a:%%Y root/file) = 0:644:$(date -d 2001-01-01 +%%s)");
}

static void
test_what_is_made_is_the_users(void **state)
{
	Follow follow = {.conninfo = "host=beta", .slot = "alpha", .node_name = "alpha"};
	CopyFile copy = {.id = 1};

	(void) state;
	shell("rmdir data/pg_tandem");
	assert_true(copy_file_write(config.data_directory, &copy));
	assert_int_equal(follow_write(&follow, config.data_directory), 1);
	assert_int_equal(follow_signal(config.data_directory), 0);
	shell("test $(stat -c %%U data/pg_tandem data/pg_tandem/copy data/postgresql.auto.conf "
		  "data/standby.signal | uniq) = " USER);
	/* root again */
	assert_int_equal(pg_file_write(in_top("state/note"), "x", 0600), 0);
	shell("test $(stat -c %%u state/note) = 0");
}

static void
test_directory_is_a_link(void **state)
{
	CopyFile copy = {.id = 1};

	(void) state;
	shell("rmdir data/pg_tandem; ln -s ../root data/pg_tandem");
	assert_false(copy_file_write(config.data_directory, &copy));
	assert_int_equal(errno, EACCES);
	check_untouched();
}

/* Nothing of root's is shown to the user, who could read what is written. */
static void
test_secret_is_not_copied(void **state)
{
	Follow follow = {.conninfo = "host=beta", .slot = "alpha", .node_name = "alpha"};

	(void) state;
	shell("chmod 600 root/file; ln -s ../root/file data/postgresql.auto.conf");
	assert_int_equal(follow_write(&follow, config.data_directory), -EACCES);
	shell("chmod 644 root/file");
	check_untouched();
	shell("ln -s ../root data/pg_wal");
	assert_int_equal(pg_file_copy_out(in_top("data/pg_wal/file"), in_top("state/file")), -EACCES);
	assert_false(pg_file_exists(in_top("state/file")));
}

static void
test_saved_file_is_not_put_elsewhere(void **state)
{
	(void) state;
	shell("echo mine >state/file; ln -s ../root data/seed");
	assert_int_equal(pg_file_copy_in(in_top("state/file"), in_top("data/seed/file")), -EACCES);
	check_untouched();
	assert_int_equal(pg_file_copy_in(in_top("state/file"), in_top("data/file")), 0);
	shell("test $(stat -c %%U data/file) = " USER);
}

/* A seed is moved, and removed, where the user could do it. */
static void
test_seed(void **state)
{
	RebuildNote note = {.phase = REBUILD_OUT, .copy = 1, .nplaces = 1};

	(void) state;
	strcpy(note.place[0], config.data_directory);
	shell("ln -s ../root data/tandem_seed; ln -s ../root data/tandem_old");
	assert_int_equal(rebuild_swap(&config, &note), -EACCES);
	check_untouched();
	shell("rm -r data/tandem_old data/pg_tandem; ln -s ../root data/pg_tandem; "
		  "cp -p root/file root/incarnations");
	note.phase = REBUILD_OUT;
	assert_int_equal(rebuild_swap(&config, &note), -EACCES);
	shell("rm root/incarnations"); /* it is there */
	check_untouched();
}

static void
test_directory_of_the_log_is_a_link(void **state)
{
	ProgramSpec spec = {.argv = {"/bin/true", NULL}, .os_user = USER};
	Program *program;
	sd_event *event;

	(void) state;
	assert_true(sd_event_new(&event) >= 0);
	shell("ln -s ../root data/log");
	spec.log_file = in_top("data/log/new");
	assert_int_equal(program_run(&program, event, &spec), -EACCES);
	sd_event_unref(event);
	check_untouched();
}

/* A pid that a process of the user's has now, which is no server there: PostgreSQL would not start. */
static void
test_pid_of_another_process(void **state)
{
	const struct passwd *pw = getpwnam(USER);
	PgPlace place = {.path = config.data_directory};
	int ready[2];
	char x;
	pid_t other;

	(void) state;
	assert_int_equal(pipe(ready), 0);
	other = fork();
	assert_true(other >= 0);
	if (other == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &x, 1), 1);
	close(ready[0]);
	shell("echo %d >data/postmaster.pid; chown " USER " data/postmaster.pid", (int) other);
	assert_true(pg_place_look(&place));
	{
		RIGHTS_OF_DATABASE;

		assert_true(pg_postmaster_file_is_stale(&place));
		kill(other, SIGKILL); /* not allowed, and so nothing happens */
		assert_int_equal(errno, EPERM);
	}
	/* dead, and not reaped: as the child of a tandemd that was another program meanwhile */
	kill(other, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t) other, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	{
		RIGHTS_OF_DATABASE;

		assert_true(pg_postmaster_file_is_stale(&place));
	}
	assert_int_equal(waitpid(other, NULL, 0), other);
	assert_false(pg_postmaster_file_is_stale(&place)); /* this PostgreSQL sees by itself */
}

static int
begin(void **state)
{
	(void) state;
	if (mkdtemp(top) == NULL || chmod(top, 0755) != 0)
		return 1;
	config.nnodes = 1;
	strcpy(config.node[0].name, "alpha");
	snprintf(config.data_directory, sizeof(config.data_directory), "%s/data", top);
	snprintf(config.state_directory, sizeof(config.state_directory), "%s/state", top);
	return rights_set(USER);
}

static int
end(void **state)
{
	(void) state;
	return pg_file_remove_tree(top);
}

static void
not_possible(void **state)
{
	(void) state;
	print_message("skipped: acting for a user needs root\n");
	skip();
}

int
main(void)
{
	const struct CMUnitTest instead[] = {cmocka_unit_test(not_possible)};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_what_is_made_is_the_users, make),
		cmocka_unit_test_setup(test_directory_is_a_link, make),
		cmocka_unit_test_setup(test_secret_is_not_copied, make),
		cmocka_unit_test_setup(test_saved_file_is_not_put_elsewhere, make),
		cmocka_unit_test_setup(test_seed, make),
		cmocka_unit_test_setup(test_directory_of_the_log_is_a_link, make),
		cmocka_unit_test_setup(test_pid_of_another_process, make),
	};

	alarm(60);
	if (geteuid() != 0 || getpwnam(USER) == NULL)
		return cmocka_run_group_tests_name("rights", instead, NULL, NULL);
	return cmocka_run_group_tests_name("rights", tests, begin, end);
}
