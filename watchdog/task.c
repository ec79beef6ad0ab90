/*
 * task.c
 *		See task.h.
 *
 * Loop and thread each hold a reference; the last one to let go frees the task.  The thread says
 * that it has ended through an eventfd.
 */
#include "task.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct Task
{
	TaskSpec spec;
	int result; /* written by the thread before it signals */
	int fd;
	sd_event_source *source;
	atomic_int references;
};

static void
task_release(Task *t)
{
	if (atomic_fetch_sub(&t->references, 1) != 1)
		return;
	if (t->spec.free_data != NULL)
		t->spec.free_data(t->spec.data);
	close(t->fd);
	free(t);
}

static void *
task_thread(void *arg)
{
	Task *t = arg;
	uint64_t one = 1;
	ssize_t n;

	t->result = t->spec.run(t->spec.data);
	n = write(t->fd, &one, sizeof(one));
	(void) n; /* an eventfd takes the first write */
	task_release(t);
	return NULL;
}

static int
task_ended(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	Task *t = arg;

	(void) source;
	(void) fd;
	(void) events;
	t->source = sd_event_source_disable_unref(t->source);
	t->spec.done(t->spec.user, t->spec.data, t->result);
	task_release(t);
	return 0;
}

/* Signals are the loop's; the new thread inherits a full mask. */
static int
start_thread(Task *t)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all;
	sigset_t old;
	int r;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &attr, task_thread, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

int
task_run(Task **task, sd_event *event, const TaskSpec *spec)
{
	Task *t = calloc(1, sizeof(Task));
	int r = -ENOMEM;

	*task = NULL;
	if (t == NULL)
	{
		if (spec->free_data != NULL)
			spec->free_data(spec->data);
		return r;
	}
	t->spec = *spec;
	atomic_init(&t->references, 1);
	t->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = t->fd < 0 ? -errno : sd_event_add_io(event, &t->source, t->fd, EPOLLIN, task_ended, t);
	if (r >= 0)
	{
		atomic_store(&t->references, 2);
		r = start_thread(t);
		if (r < 0)
			atomic_store(&t->references, 1);
	}
	if (r < 0)
	{
		sd_event_source_disable_unref(t->source);
		task_release(t);
		return r;
	}
	*task = t;
	return 0;
}

void
task_forget(Task *task)
{
	if (task == NULL)
		return;
	task->source = sd_event_source_disable_unref(task->source);
	task_release(task);
}
