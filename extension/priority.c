/*-------------------------------------------------------------------------
 *
 * priority.c
 *	  The processes that a commit waits for run before others.
 *
 * A commit that waits for a standby waits for two processes: the link worker
 * and, on the standby, the walreceiver.  Each is woken, works for some 10 us,
 * and sleeps again; but the scheduler puts it behind whatever runs on its CPU.
 * With a better nice value it runs at once, and nobody has to wait longer than
 * those 10 us for it.  (Oracle does the same for its log writer.)
 *
 * An unprivileged process may do so only as far as its RLIMIT_NICE goes
 * (LimitNICE= of its systemd unit), which by default is not at all.  Then, too,
 * everything works, so this is no error; the views show the nice value in force.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/resource.h>

/* The best nice value that RLIMIT_NICE permits (getrlimit(2)). */
static int
best_permitted(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NICE, &limit) != 0)
		return 0;
	return 20 - (int) Min(limit.rlim_cur, 40);
}

/*
 * Set the nice value of all threads of this process: in Linux each has its own
 * (setpriority(2)).  False if that is not permitted.
 */
static bool
renice(int nice)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	bool done = tasks != NULL;

	while (done && (task = readdir(tasks)) != NULL)
	{
		id_t tid = (id_t) strtoul(task->d_name, NULL, 10); /* 0: "." and ".." */

		done = tid == 0 || setpriority(PRIO_PROCESS, tid, nice) == 0;
	}
	if (tasks != NULL)
		(void) closedir(tasks);
	return done;
}

/*
 * Give this process the nice value tandem.nice, or as near to it as is
 * permitted; or, if it is not 'raised', the one it was started with.  To be
 * called whenever that or the setting may have changed: it does nothing as long
 * as they have not.  Not to be called in the postmaster.
 */
void
priority_set(bool raised)
{
	static bool begun = false;
	static int own;   /* the server's */
	static int asked; /* last */
	int nice;

	if (!begun)
	{
		begun = true;
		own = asked = getpriority(PRIO_PROCESS, 0);
	}
	nice = raised ? Min(tandem_nice, own) : own;
	if (nice == asked)
		return;
	asked = nice;
	if (!renice(nice))
		(void) renice(Min(Max(nice, best_permitted()), own));
}

/* The nice value of a process of this server; 0 if it is gone. */
int
priority_of(pid_t pid)
{
	int nice;

	errno = 0; /* -1 is a nice value, too */
	nice = getpriority(PRIO_PROCESS, (id_t) pid);
	return errno == 0 ? nice : 0;
}
