/*
 * ctl.h
 *		What the rooms of tandemctl share: tandemctl.c (options, commands), ctl_status.c (status for
 *		people), ctl_init.c (the first state of a voter), ctl_check.c.
 *
 * Exit statuses: 0 done; 1 refused or failed; 2 wrong usage; 3 tandemd does not run here.
 */
#ifndef TANDEM_CTL_H
#define TANDEM_CTL_H

#include <jansson.h>

#include "config.h"

#define CTL_DONE   0
#define CTL_FAILED 1
#define CTL_USAGE  2
#define CTL_NOBODY 3

/* Ask the tandemd of this node; NULL (with a message, unless quiet) if it does not run or answer. */
extern json_t *ctl_ask(const Config *c, json_t *request, bool quiet);
/* {"command": name} */
extern json_t *ctl_request(const char *name);
extern void ctl_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

extern void ctl_show_status(const json_t *status);
/* "43 %, 1.2 GB, 85 MB/s, 2 min left" of status.postgres.busy; empty if nothing runs. */
extern void ctl_progress(const json_t *status, char *text, size_t size);

extern int ctl_init(const Config *c, bool primary);
extern int ctl_check(const Config *c);

#endif /* TANDEM_CTL_H */
