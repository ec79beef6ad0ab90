/*-------------------------------------------------------------------------
 *
 * rcvflush.c
 *	  Flushes of received WAL that overlap.
 *
 * The primary writes the WAL of its next group of commits as soon as its own
 * flush of the last group has ended.  On the standby that flush began a little
 * later, so the next WAL comes while it is under way; if it had to wait for the
 * end, the standby would be late by most of a flush for group after group.  So
 * another flush is begun while one is under way.
 *
 * Each of them is a thread that does nothing but flush a file descriptor, and
 * tell by an eventfd that it has: no function of PostgreSQL's is called there,
 * and it takes no signal.  There are none before they are of use: where flushes
 * would not overlap, or are so short that it does not matter, the walreceiver
 * flushes by itself, which saves two wake-ups (rcvwal.c).
 *
 * Each flusher opens the segment for itself.  An error of writing back is told
 * once for each open file, to the flush that ends next, whichever pages it was
 * (Linux, lib/errseq.c); with a file shared by two flushes one of them would
 * not hear of it.  And a flush counts only when all that were begun before it
 * have succeeded.
 *
 *-------------------------------------------------------------------------
 */
#include "receiver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "access/xlog_internal.h"
#include "storage/fd.h"

#define FLUSHERS 2 /* more would only split what one flush can do */

typedef struct Flusher
{
	int fd; /* of the segment, opened for it alone; -1: none */
	bool data_only;
	XLogRecPtr upto;
	sem_t begin;
	int result; /* errno of the flush, or 0 */
	long took_us;
	pg_atomic_uint32 busy; /* set by the walreceiver, cleared by the thread */
} Flusher;

static Flusher flushers[FLUSHERS];
static int started;      /* threads that run */
static bool unavailable; /* no thread could be started */
static int event_fd = -1;
static int oldest; /* in use are 'in_use' flushers, from this one on */
static int in_use;

static void *
flusher_main(void *arg)
{
	Flusher *f = arg;
	const uint64 one = 1;
	struct timespec begin;
	struct timespec end;

	for (;;)
	{
		while (sem_wait(&f->begin) != 0)
			;
		(void) clock_gettime(CLOCK_MONOTONIC, &begin);
		f->result = (f->data_only ? fdatasync(f->fd) : fsync(f->fd)) != 0 ? errno : 0;
		(void) clock_gettime(CLOCK_MONOTONIC, &end);
		f->took_us = (end.tv_sec - begin.tv_sec) * 1000000L + (end.tv_nsec - begin.tv_nsec) / 1000;
		pg_write_barrier();
		pg_atomic_write_u32(&f->busy, 0);
		while (write(event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	}
	return NULL;
}

/* Start a thread for each flusher.  False if that cannot be had. */
static bool
start(void)
{
	sigset_t all;
	sigset_t before;
	pthread_t thread;

	if (started == FLUSHERS)
		return true;
	if (unavailable)
		return false;
	if (event_fd < 0 && (event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0)
	{
		unavailable = true;
		return false;
	}
	(void) sigfillset(&all);
	(void) pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by the threads */
	for (; started < FLUSHERS; started++)
	{
		Flusher *f = &flushers[started];

		f->fd = -1;
		pg_atomic_init_u32(&f->busy, 0);
		if (sem_init(&f->begin, 0, 0) != 0 || pthread_create(&thread, NULL, flusher_main, f) != 0)
		{
			unavailable = true;
			break;
		}
		(void) pthread_detach(thread);
	}
	(void) pthread_sigmask(SIG_SETMASK, &before, NULL);
	return !unavailable;
}

/* Readable when a flush has ended; -1 before the first was begun. */
int
rcvflush_fd(void)
{
	return event_fd;
}

/* Reset rcvflush_fd(): before rcvflush_ended(), so that no end is missed. */
void
rcvflush_reset(void)
{
	uint64 count;

	if (event_fd >= 0)
		(void) !read(event_fd, &count, sizeof(count));
}

/* Flushes that were begun and have not been taken notice of by rcvflush_ended(). */
int
rcvflush_under_way(void)
{
	return in_use;
}

/*
 * Begin to flush 'segno', all of which is written up to 'upto', with
 * fdatasync() or fsync().  False if that cannot be had: then what was under way
 * still is, and nothing else.
 */
bool
rcvflush_begin(TimeLineID timeline, XLogSegNo segno, XLogRecPtr upto, bool data_only)
{
	Flusher *f = &flushers[(oldest + in_use) % FLUSHERS];

	if (in_use == FLUSHERS || !start())
		return false;
	if (f->fd < 0)
	{
		char path[MAXPGPATH];

		XLogFilePath(path, timeline, segno, wal_segment_size);
		f->fd = BasicOpenFile(path, O_RDWR | PG_BINARY);
		if (f->fd < 0)
			return false;
	}
	f->data_only = data_only;
	f->upto = upto;
	pg_atomic_write_u32(&f->busy, 1);
	in_use++;
	(void) sem_post(&f->begin);
	return true;
}

/*
 * Take notice of one flush that has ended, in the order they were begun: WAL is
 * durable up to *durable, and it took *took_us.  False if none has.  PANIC if it
 * failed, as everywhere in core.
 */
bool
rcvflush_ended(XLogRecPtr *durable, long *took_us)
{
	Flusher *f = &flushers[oldest];

	if (in_use == 0 || pg_atomic_read_u32(&f->busy) != 0)
		return false;
	pg_read_barrier();
	if (f->result != 0)
	{
		errno = f->result;
		ereport(PANIC, (errcode_for_file_access(), errmsg("could not fsync a WAL segment: %m")));
	}
	*durable = f->upto;
	*took_us = f->took_us;
	oldest = (oldest + 1) % FLUSHERS;
	in_use--;
	return true;
}

/* Wait until the oldest that is under way has ended. */
void
rcvflush_wait(void)
{
	struct pollfd ended = {.fd = event_fd, .events = POLLIN};

	while (in_use > 0 && pg_atomic_read_u32(&flushers[oldest].busy) != 0)
	{
		(void) poll(&ended, 1, -1);
		rcvflush_reset();
	}
}

/* Close what the flushers have open, before another segment.  None is under way. */
void
rcvflush_close(void)
{
	Assert(in_use == 0);
	for (int i = 0; i < started; i++)
	{
		if (flushers[i].fd >= 0)
			(void) close(flushers[i].fd);
		flushers[i].fd = -1;
	}
}
