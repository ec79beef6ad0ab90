/*
 * enospc.c
 *	  A full disk below pg_wal, to be preloaded into a server (LD_PRELOAD).
 *
 * While the file named in the environment variable ENOSPC_FLAG exists, nothing
 * can be written into a file below pg_wal, and no room reserved for one: that
 * fails with ENOSPC, as on a disk without a free block that allocates even
 * for what is overwritten.  Reading, renaming and removing go on.  If that file
 * is not empty, half of the next write still goes, as on a disk that becomes
 * full in the middle of it; then it is empty.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "walpath.h"

static bool
disk_is_full(void)
{
	const char *flag = getenv("ENOSPC_FLAG");
	int save_errno = errno;
	bool full = flag != NULL && access(flag, F_OK) == 0;

	errno = save_errno;
	return full;
}

/* Is this descriptor a file below pg_wal, on a full disk? */
static bool
has_no_room(int fd)
{
	char name[WALPATH_NAME];

	return disk_is_full() && is_wal(fd, name);
}

/*
 * How much of a write of 'length' bytes to this descriptor goes: all of it, or
 * half, or (-1 with ENOSPC) none.
 */
static ssize_t
room_for(int fd, size_t length)
{
	const char *flag = getenv("ENOSPC_FLAG");
	struct stat state;

	if (!has_no_room(fd))
		return length;
	if (length > 1 && stat(flag, &state) == 0 && state.st_size > 0 && truncate(flag, 0) == 0)
		return length / 2;
	errno = ENOSPC;
	return -1;
}

/* What the call would have returned, or -1 with ENOSPC. */
#define FAIL_WHEN_FULL(fd)   \
	do                       \
	{                        \
		if (has_no_room(fd)) \
		{                    \
			errno = ENOSPC;  \
			return -1;       \
		}                    \
	} while (0)

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

ssize_t
write(int fd, const void *data, size_t length)
{
	FAIL_WHEN_FULL(fd);
	return REAL(write)(fd, data, length);
}

ssize_t
pwrite(int fd, const void *data, size_t length, off_t offset)
{
	ssize_t room = room_for(fd, length);

	return room < 0 ? -1 : REAL(pwrite)(fd, data, room, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	ssize_t room = room_for(fd, length);

	return room < 0 ? -1 : REAL(pwrite64)(fd, data, room, offset);
}

ssize_t
pwritev(int fd, const struct iovec *data, int count, off_t offset)
{
	FAIL_WHEN_FULL(fd);
	return REAL(pwritev)(fd, data, count, offset);
}

ssize_t
pwritev64(int fd, const struct iovec *data, int count, off64_t offset)
{
	FAIL_WHEN_FULL(fd);
	return REAL(pwritev64)(fd, data, count, offset);
}

/* These two return the error. */
int
posix_fallocate(int fd, off_t offset, off_t length)
{
	if (has_no_room(fd))
		return ENOSPC;
	return REAL(posix_fallocate)(fd, offset, length);
}

int
posix_fallocate64(int fd, off64_t offset, off64_t length)
{
	if (has_no_room(fd))
		return ENOSPC;
	return REAL(posix_fallocate64)(fd, offset, length);
}
