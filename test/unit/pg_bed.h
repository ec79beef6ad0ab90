/*
 * pg_bed.h
 *		Real clusters for the tests of the watchdog's PostgreSQL room: node "alpha" is ours, "beta" is
 *		the other one.
 *
 * A process stands for the extension's worker: it connects to tandemd's socket and reports the role
 * that pg_is_in_recovery() says.  Only root can start a server as somebody else.
 */
#ifndef PG_BED_H
#define PG_BED_H

#include <stdbool.h>
#include <stdint.h>

#include "lease_file.h"
#include "postgres.h"

typedef struct Bed
{
	char top[64]; /* directory of everything */
	char conf[128];
	char data[128];  /* alpha's */
	char other[128]; /* beta's */
	int port;
	int other_port;
	Config *config;
	sd_event *event;
	Postgres *postgres;
	LeaseFile *lease;
	pid_t worker;
	int changes;
	int rebuilt; /* 0: not yet, 1: ok, -1: failed */
	char error[1000];
	char log[65536]; /* what was told */
} Bed;

/*
 * main() of a program of tests with real servers, in a mount namespace of its own.  ONLY in the
 * environment chooses tests.  Where servers cannot be started one skipped test says why.
 */
struct CMUnitTest;
extern int bed_run_tests(const char *name, const struct CMUnitTest *tests, size_t n);
extern const char *bed_bin(void);

extern void bed_open(Bed *b);
extern void bed_close(Bed *b);
/* initdb of alpha; beta as its standby by pg_basebackup, both stopped. */
extern void bed_make_alpha(Bed *b);
extern void bed_make_beta(Bed *b);
extern void bed_start(Bed *b, const char *data); /* by pg_ctl */
extern void bed_promote_beta(Bed *b);
/* A line more in a cluster's postgresql.conf. */
extern void bed_set(const char *data, const char *line);
/* The room, as tandemd has it; and without it, PostgreSQL as it is. */
extern void bed_manage(Bed *b);
extern void bed_leave(Bed *b);
extern void bed_lease(Bed *b, uint64_t term, int64_t left);
/* Run the loop until it is so; fails the test after that many seconds. */
#define BED_UNTIL(b, seconds, condition)                                  \
	do                                                                    \
	{                                                                     \
		int64_t bed_end = lease_file_now() + (seconds) *INT64_C(1000000); \
		while (!(condition))                                              \
		{                                                                 \
			if (lease_file_now() > bed_end)                               \
				bed_fail((b), __FILE__, __LINE__, #condition);            \
			bed_run((b), 20000);                                          \
		}                                                                 \
	} while (0)
extern void bed_run(Bed *b, int64_t us);
extern void bed_fail(Bed *b, const char *file, int line, const char *what);
#define BED_STATE(b) (postgres_look((b)->postgres)->state)
/* Was this told? */
extern bool bed_told(const Bed *b, const char *text);
extern void bed_forget(Bed *b);

/* The worker: role -1 as PostgreSQL says, else what it claims. */
extern void bed_worker_start(Bed *b, int role);
extern void bed_worker_stop(Bed *b);

/* Run a shell command; fails the test if it fails. */
extern void bed_shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern bool bed_try(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* One value by psql, in a static buffer; empty if it cannot be asked. */
extern const char *bed_ask(const Bed *b, int port, const char *query);
extern int bed_processes(const char *data);

#endif /* PG_BED_H */
