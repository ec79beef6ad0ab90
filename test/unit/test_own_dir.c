/*
 * test_own_dir.c
 *		Which directories are tandemd's own, and which could another user change under it?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "own_dir.h"
#include "shell.h"

#define USER "nobody"

static char top[] = "/tmp/tandem-own-XXXXXX";

#define shell(...) shell_in(top, __VA_ARGS__)

static char said[OWN_DIR_ERROR];

static OwnDir
check(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", top, name);
	said[0] = '\0';
	return own_dir_check("state_directory", path, said, sizeof(said));
}

/* The directory is refused, and the message has this. */
static void
refused(const char *name, const char *why)
{
	assert_int_equal(check(name), OWN_DIR_UNSAFE);
	if (strstr(said, why) == NULL || strstr(said, "  HINT: ") == NULL)
		fail_msg("%s", said);
}

static void
good(const char *name)
{
	if (check(name) != OWN_DIR_SAFE)
		fail_msg("%s", said);
}

static int
make(void **state)
{
	(void) state;
	shell("rm -rf *; chmod 755 .; mkdir -p above/own; chmod 755 above above/own");
	return 0;
}

static void
test_own(void **state)
{
	(void) state;
	good("above/own");
	good("above/own/");
	good("above/./own/../own/.");
	shell("chmod 700 above/own");
	good("above/own");
	assert_string_equal(said, "");
}

static void
test_message(void **state)
{
	char expected[512];

	(void) state;
	shell("chown " USER " above/own");
	refused("above/own", "");
	snprintf(
		expected, sizeof(expected),
		"state_directory \"%s/above/own\" is not safe from others.  DETAIL: Directory "
		"\"%s/above/own\" belongs to user %u.  HINT: It and all directories above it must belong "
		"to root, and nobody else may write there.",
		top, top, (unsigned) getpwnam(USER)->pw_uid);
	assert_string_equal(said, expected);
}

static void
test_others_may_write(void **state)
{
	(void) state;
	shell("chmod 775 above/own");
	refused("above/own", "Others may write in directory");
	refused("above/own/.", "(mode 0775)");
	shell("chmod 757 above/own");
	refused("above/own", "(mode 0757)");
	/* in the directory itself the sticky bit is not enough: names there are known before */
	shell("chmod 1777 above/own");
	refused("above/own", "(mode 1777)");
}

static void
test_above(void **state)
{
	(void) state;
	shell("chmod 777 above");
	refused("above/own", "above\" (mode 0777)");
	shell("chmod 1777 above"); /* as /tmp: what is root's there only root can rename */
	good("above/own");
	shell("chmod 755 above; chown " USER " above");
	refused("above/own", "above\" belongs to user");
}

static void
test_links(void **state)
{
	(void) state;
	shell(
		"ln -s above/own link; ln -s $PWD/above whole; ln -s ../above/own/../../whole above/back");
	good("link");
	good("link/");
	good("whole/own");
	good("above/back/own");
	/* where the link is, and where it leads */
	shell("chmod 775 above/own");
	refused("link", "above/own\" (mode 0775)");
	shell("chmod 755 above/own; mkdir theirs; ln -s ../above/own theirs/link; chmod 777 theirs");
	refused("theirs/link", "theirs\" (mode 0777)");
	/* where others may make links, this one is not theirs */
	shell("chmod 1777 theirs");
	good("theirs/link");
	shell("chown -h " USER " theirs/link");
	refused("theirs/link", "Symbolic link");
	shell("ln -s /tmp shared; ln -s one two; ln -s two one");
	refused("shared", "\"/tmp\" (mode 1777)");
	refused("one", "one symbolic link too many");
}

static void
test_missing(void **state)
{
	(void) state;
	assert_int_equal(check("none"), OWN_DIR_MISSING);
	assert_int_equal(check("none/own"), OWN_DIR_MISSING);
	shell("ln -s none link; touch file");
	assert_int_equal(check("link"), OWN_DIR_MISSING);
	assert_non_null(strstr(said, "is not there.  DETAIL: Could not look at"));
	refused("file", "is not a directory");
	refused("file/own", "is not a directory");
}

/* What belongs to the user of this process is its own, too. */
static void
test_own_user(void **state)
{
	uid_t user = getpwnam(USER)->pw_uid;
	OwnDir result;

	(void) state;
	shell("chown " USER " above/own");
	assert_int_equal(seteuid(user), 0);
	result = check("above/own");
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(result, OWN_DIR_SAFE);
}

static int
begin(void **state)
{
	(void) state;
	return mkdtemp(top) == NULL ? -1 : 0;
}

static int
end(void **state)
{
	(void) state;
	shell("rm -rf \"$PWD\"");
	return 0;
}

static void
not_possible(void **state)
{
	(void) state;
	print_message("skipped: giving a directory to another user needs root\n");
	skip();
}

int
main(void)
{
	const struct CMUnitTest instead[] = {cmocka_unit_test(not_possible)};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_own, make),
		cmocka_unit_test_setup(test_message, make),
		cmocka_unit_test_setup(test_others_may_write, make),
		cmocka_unit_test_setup(test_above, make),
		cmocka_unit_test_setup(test_links, make),
		cmocka_unit_test_setup(test_missing, make),
		cmocka_unit_test_setup(test_own_user, make),
	};

	alarm(60);
	if (geteuid() != 0 || getpwnam(USER) == NULL)
		return cmocka_run_group_tests_name("own directory", instead, NULL, NULL);
	return cmocka_run_group_tests_name("own directory", tests, begin, end);
}
