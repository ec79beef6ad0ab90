/*
 * flushorder.c
 *	  The order in which flushes of WAL end, to be preloaded into a server
 *	  (LD_PRELOAD).
 *
 * A flush of a WAL segment takes 2 ms more.  While there is a file "hold" in the
 * directory named in the environment variable FLUSHORDER, each such flush takes
 * the next number: it makes the file NUMBER there, flushes, and returns when that
 * has been removed - with EIO if there is then a file NUMBER.fails.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "walpath.h"

static bool
exists(const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", getenv("FLUSHORDER"), name);
	return access(path, F_OK) == 0;
}

/* Threads and processes take numbers at the same time: the file decides. */
static void
take_number(char *name, size_t size)
{
	for (int i = 1;; i++)
	{
		char path[4096];
		int fd;

		snprintf(name, size, "%d", i);
		snprintf(path, sizeof(path), "%s/%d.taken", getenv("FLUSHORDER"), i);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
		if (fd < 0 && errno != EEXIST)
			abort();
		if (fd < 0)
			continue;
		close(fd);
		snprintf(path, sizeof(path), "%s/%d", getenv("FLUSHORDER"), i);
		fd = open(path, O_WRONLY | O_CREAT, 0600);
		if (fd < 0)
			abort();
		close(fd);
		return;
	}
}

static int
in_order(int (*flush)(int), int fd)
{
	struct timespec pause = {0, 2000000};
	char segment[WALPATH_NAME];
	char name[32];
	char fails[48];
	bool held;
	int result;

	if (getenv("FLUSHORDER") == NULL || !is_segment(fd, segment))
		return flush(fd);
	held = exists("hold");
	if (held)
		take_number(name, sizeof(name));
	result = flush(fd);
	nanosleep(&pause, NULL);
	if (!held)
		return result;
	while (exists(name))
		nanosleep(&pause, NULL);
	snprintf(fails, sizeof(fails), "%s.fails", name);
	if (!exists(fails))
		return result;
	errno = EIO;
	return -1;
}

int
fdatasync(int fd)
{
	return in_order((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"), fd);
}

int
fsync(int fd)
{
	return in_order((int (*)(int)) dlsym(RTLD_NEXT, "fsync"), fd);
}
