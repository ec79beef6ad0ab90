/*
 * program.h
 *		A program run as a child, in a process group of its own, with a time limit.
 *
 * Unless it is detached it dies with tandemd.  Its output (both streams) comes line by line through
 * the event loop, its end by pidfd.  Nothing waits for what it may leave running with its output
 * still open.
 */
#ifndef TANDEM_PROGRAM_H
#define TANDEM_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define PROGRAM_MAX_ARGS        48
#define PROGRAM_MAX_ENVIRONMENT 64
#define PROGRAM_MAX_INPUT       4096

typedef struct Program Program;

typedef struct ProgramSpec
{
	const char *argv[PROGRAM_MAX_ARGS]; /* argv[0] is the path; ends with NULL */
	const char *os_user;                /* run as this user if tandemd is root */
	int64_t limit;                      /* us; then it is killed. 0: none */
	/* append the output to this file instead, with the rights of the database's user (a server) */
	const char *log_file; /* may be NULL */
	bool detached;        /* a session of its own, and not killed with the Program (a server) */
	int lock; /* if above 0: a descriptor that it and its children hold, as number 3; the lock on it
			   * ends with the last of them */

	const char *input; /* what it reads from standard input, up to 4 kB; NULL: nothing */
	const char *const
		*environment; /* NAME=VALUE, beside what all get; ends with NULL; may be NULL */
	mode_t umask;     /* 0: 077 */

	/* Each line, without its end; may be NULL. */
	void (*line)(void *user, const char *line);
	/* It has ended; the Program is freed by then.  status is as waitpid() gives it, or negative
	 * errno (-ETIME: killed after its limit).  output: the last 2 kB. */
	void (*done)(void *user, int status, const char *output);
	void *user;
} ProgramSpec;

/* Negative errno if it cannot be started; strings of the spec are not needed afterwards. */
extern int program_run(Program **program, sd_event *event, const ProgramSpec *spec);
extern pid_t program_pid(const Program *program);
/* SIGKILL to its process group; done is called when it has ended. */
extern void program_stop(const Program *program);
/* The same, and it is freed: done is not called.  NULL is fine.  Not from its own line(). */
extern void program_kill(Program *program);

/* For messages: "exit status 1", "signal 9", ...; in a static buffer. */
extern const char *program_status_text(int status);
/* uid and gid of a user; false if there is none. */
extern bool program_user(const char *name, uid_t *uid, gid_t *gid);

#endif /* TANDEM_PROGRAM_H */
