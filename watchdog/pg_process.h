/*
 * pg_process.h
 *		The processes of one data directory: who they are, and their end.
 *
 * A process belongs to a data directory if that is its current directory and it runs the program
 * "postgres", or if it descends from such a process (archive_command, COPY ... TO PROGRAM), or if
 * it is in the unit's cgroup.  A shell of the DBA that stands in the directory does not.  Zombies
 * are dead.
 */
#ifndef TANDEM_PG_PROCESS_H
#define TANDEM_PG_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A data directory as the processes know it: it may be gone, or another one may be in its place. */
typedef struct PgPlace
{
	const char *path;
	dev_t dev; /* of the directory as it was last seen; ino 0: never */
	ino_t ino;
} PgPlace;

typedef struct PgProcess
{
	pid_t pid;
	uint64_t started; /* clock ticks since the boot of the host */
} PgProcess;

typedef struct PgProcesses
{
	int n;
	int size;
	PgProcess *p; /* freed by pg_processes_free */
} PgProcesses;

/* Note where the directory is now.  False if there is none. */
extern bool pg_place_look(PgPlace *place);

/*
 * Find them all; cgroup is the path of the unit's cgroup.procs, or NULL.  Negative errno.
 * It looks at every process of the host: 1-2 ms for a few hundred.
 */
extern int pg_processes_find(PgProcesses *found, const PgPlace *place, const char *cgroup);
extern void pg_processes_free(PgProcesses *found);
/* SIGKILL to those that were started not later than this (UINT64_MAX: all); how many there were. */
extern int pg_processes_kill(const PgProcesses *found, const PgPlace *place, uint64_t not_after);
/* Now, in the unit of "started". */
extern uint64_t pg_process_clock(void);
/* Processor time (clock ticks) and bytes read and written by all of them so far. */
extern uint64_t pg_processes_work(const PgProcesses *found);

/* The pid in postmaster.pid if that process lives in this directory, else 0.  A single-user server
 * (negative in the file) gives 0 and *single. */
extern pid_t pg_postmaster_find(const PgPlace *place, pid_t *single);
/* By its postmaster.pid, has it accepted connections? */
extern bool pg_postmaster_was_ready(const PgPlace *place);
/* A postmaster.pid whose pid belongs to somebody else now; PostgreSQL would refuse to start. */
extern bool pg_postmaster_file_is_stale(const PgPlace *place);
/* Its pidfd if it lives in this directory; negative errno (ESRCH). */
extern int pg_process_open(pid_t pid, const PgPlace *place);
extern int pg_process_signal(int pidfd, int signal);

#endif /* TANDEM_PG_PROCESS_H */
