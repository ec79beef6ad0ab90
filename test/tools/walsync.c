/*
 * walsync.c
 *	  What a process writes into WAL segments and flushes, to be preloaded into
 *	  a server (LD_PRELOAD).
 *
 * Every write into a segment file below pg_wal, and every flush of one, is a
 * line in the file named in the environment variable WALSYNC_LOG: the process,
 * "write" or "flush", and the segment's name.
 *
 * If the file named in WALSYNC_TERM exists, the process that makes such a write
 * removes it and is told to end (SIGTERM) when the write is done.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "walpath.h"

static void
note(int fd, const char *what, bool may_end)
{
	const char *log = getenv("WALSYNC_LOG");
	const char *term = getenv("WALSYNC_TERM");
	int save_errno = errno;
	char name[WALPATH_NAME];
	char line[80];
	int length;
	int out;

	if (log != NULL && is_segment(fd, name))
	{
		length = snprintf(line, sizeof(line), "%d %s %s\n", (int) getpid(), what, name);
		out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
		if (out < 0 || write(out, line, length) != length)
			abort();
		close(out);
		if (may_end && term != NULL && unlink(term) == 0)
			raise(SIGTERM);
	}
	errno = save_errno;
}

#define REAL(name) ((__typeof__(&name)) dlsym(RTLD_NEXT, #name))

ssize_t
pwrite(int fd, const void *data, size_t length, off_t offset)
{
	ssize_t done = REAL(pwrite)(fd, data, length, offset);

	note(fd, "write", true);
	return done;
}

ssize_t
pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	ssize_t done = REAL(pwrite64)(fd, data, length, offset);

	note(fd, "write", true);
	return done;
}

int
fdatasync(int fd)
{
	int result = REAL(fdatasync)(fd);

	note(fd, "flush", false);
	return result;
}

int
fsync(int fd)
{
	int result = REAL(fsync)(fd);

	note(fd, "flush", false);
	return result;
}
