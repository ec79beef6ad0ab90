/*
 * task.h
 *		A function that may block (fsync, a hung disk), run in a thread of its own.
 *
 * Its end comes through the event loop.  A task can be forgotten but not stopped: its thread then
 * ends by itself, whenever that is, and nobody is told.
 */
#ifndef TANDEM_TASK_H
#define TANDEM_TASK_H

#include <systemd/sd-event.h>

typedef struct Task Task;

typedef struct TaskSpec
{
	/* In the thread; may use data only.  Its result goes to done. */
	int (*run)(void *data);
	/* In the event loop, with data still there.  The task is freed by then. */
	void (*done)(void *user, void *data, int result);
	/* Frees data: after done, or when a forgotten thread ends (in that thread).  May be NULL. */
	void (*free_data)(void *data);
	void *data;
	void *user;
} TaskSpec;

/* Negative errno; data is then freed by free_data. */
extern int task_run(Task **task, sd_event *event, const TaskSpec *spec);
/* done is not called any more.  NULL is fine. */
extern void task_forget(Task *task);

#endif /* TANDEM_TASK_H */
