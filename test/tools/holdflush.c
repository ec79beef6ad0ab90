/*
 * holdflush.c
 *	  Flushes of WAL that do not return, to be preloaded into a server
 *	  (LD_PRELOAD).
 *
 * While the file named in the environment variable HOLDFLUSH_FLAG exists, a
 * flush of a file below pg_wal waits.  What has been written meanwhile is then
 * honestly not durable: a crash of the host may lose it.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void
hold(int fd)
{
	const char *flag = getenv("HOLDFLUSH_FLAG");
	struct timespec pause = {0, 1000000};
	char link[64];
	char path[4096];
	ssize_t length;

	if (flag == NULL)
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length <= 0)
		return;
	path[length] = '\0';
	if (strstr(path, "pg_wal/") == NULL)
		return;
	while (access(flag, F_OK) == 0)
		nanosleep(&pause, NULL);
}

int
fdatasync(int fd)
{
	int (*real)(int) = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");

	hold(fd);
	return real(fd);
}

int
fsync(int fd)
{
	int (*real)(int) = (int (*)(int)) dlsym(RTLD_NEXT, "fsync");

	hold(fd);
	return real(fd);
}
