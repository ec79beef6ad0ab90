/*
 * slow_fsync.c
 *	  A slower disk: every fsync() and fdatasync() takes SLOW_US microseconds more.
 *
 *	cc -O2 -shared -fPIC -o slow_fsync.so slow_fsync.c -ldl
 *	SLOW_US=1000 LD_PRELOAD=$PWD/slow_fsync.so pg_ctl start ...
 *
 * The real flush is done as well, so what is durable stays durable.  The time is slept, not
 * burnt.  A signal does not shorten it: it ends at a point in time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static long slow_ns;

__attribute__((constructor)) static void
begin(void)
{
	const char *us = getenv("SLOW_US");

	real_fsync = (int (*)(int)) dlsym(RTLD_NEXT, "fsync");
	real_fdatasync = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
	slow_ns = us != NULL ? atol(us) * 1000 : 0;
}

static int
slowly(int (*flush)(int), int fd)
{
	int result = flush(fd);
	int save_errno = errno;
	struct timespec until;

	if (slow_ns > 0 && clock_gettime(CLOCK_MONOTONIC, &until) == 0)
	{
		until.tv_sec += slow_ns / 1000000000;
		until.tv_nsec += slow_ns % 1000000000;
		if (until.tv_nsec >= 1000000000)
		{
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			;
	}
	errno = save_errno;
	return result;
}

int
fsync(int fd)
{
	return slowly(real_fsync, fd);
}

int
fdatasync(int fd)
{
	return slowly(real_fdatasync, fd);
}
