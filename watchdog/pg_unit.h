/*
 * pg_unit.h
 *		PostgreSQL's systemd unit, over sd-bus: start it, and where its processes are.
 *
 * Stopping and killing go to the processes themselves (pidfd): that is quicker, and systemd notices.
 */
#ifndef TANDEM_PG_UNIT_H
#define TANDEM_PG_UNIT_H

#include <stdbool.h>
#include <systemd/sd-event.h>

typedef struct PgUnit PgUnit;

/*
 * A start that was asked for has ended: error is NULL, or says what systemd said.  A unit whose
 * ExecStart ignores failures, as Debian's does, fails by its PIDFile= only: without one it succeeds even
 * if PostgreSQL did not start.
 */
typedef void (*PgUnitStarted)(void *user, const char *error);

extern int
pg_unit_new(PgUnit **u, const char *unit, sd_event *event, PgUnitStarted started, void *user);
extern void pg_unit_free(PgUnit *u);
/*
 * Does systemd know that the unit's PostgreSQL is dead?  Until it does, a start would do nothing and
 * count as done, or come to the end that one under way comes to.  Asked until it is so: call again,
 * soon; pg_unit_look_again() begins anew after another death.  True, too, if systemd cannot be asked.
 */
extern void pg_unit_look_again(PgUnit *u);
extern bool pg_unit_is_stopped(PgUnit *u);
/* Forget earlier failures of the unit and start it; restart it if it was seen active last.  Negative
 * errno if systemd cannot be asked. */
extern int pg_unit_start(PgUnit *u);
/* The path of its cgroup.procs, or NULL while it is not known. */
extern const char *pg_unit_cgroup(PgUnit *u);

#endif /* TANDEM_PG_UNIT_H */
