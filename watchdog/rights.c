/*
 * rights.c
 *		See rights.h.  tandemd and tandemctl link it.
 *
 * The system calls themselves where glibc's functions would change every thread.
 */
#include "rights.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define NSETS _LINUX_CAPABILITY_U32S_3

static struct
{
	bool set;
	uid_t uid;
	gid_t gid;
	struct __user_cap_data_struct own[NSETS]; /* what tandemd has */
} database;

/* The effective capabilities of this thread become those of "own" that are in the mask. */
static bool
keep_capabilities(uint64_t mask)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct some[NSETS];

	memcpy(some, database.own, sizeof(some));
	for (int i = 0; i < NSETS; i++)
		some[i].effective &= (uint32_t) (mask >> (32 * i));
	return syscall(SYS_capset, &header, some) == 0;
}

static bool
become(uid_t uid, gid_t gid)
{
	(void) setfsgid(gid);
	(void) setfsuid(uid);
	return (gid_t) setfsgid((gid_t) -1) == gid && (uid_t) setfsuid((uid_t) -1) == uid;
}

int
rights_set(const char *os_user)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct passwd *pw;

	database.set = false;
	if (geteuid() != 0 || os_user == NULL || os_user[0] == '\0')
		return 0;
	pw = getpwnam(os_user);
	if (pw == NULL)
		return -ENOENT;
	if (pw->pw_uid == 0)
		return 0;
	database.uid = pw->pw_uid;
	database.gid = pw->pw_gid;
	if (initgroups(pw->pw_name, pw->pw_gid) != 0 || syscall(SYS_capget, &header, database.own) != 0)
		return -errno;
	if (!become(database.uid, database.gid) || !become(0, getegid()))
		return -EPERM;
	database.set = true;
	return 0;
}

Rights
rights_of_database(void)
{
	Rights before = {.changed = database.set && (uid_t) setfsuid((uid_t) -1) != database.uid};

	/* cannot fail: it could when the user was set */
	if (before.changed && (!become(database.uid, database.gid) ||
						   !keep_capabilities(UINT64_C(1) << CAP_SYS_RESOURCE)))
		abort();
	return before;
}

void
rights_restore(const Rights *before)
{
	if (before->changed && (!keep_capabilities(UINT64_MAX) || !become(0, getegid())))
		abort();
}

void
rights_without_reserve(void)
{
	if (database.set && !keep_capabilities(0))
		abort();
}
