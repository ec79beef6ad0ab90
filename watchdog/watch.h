/*
 * watch.h
 *		tandemd's end of the socket to the extension (report.h).
 *
 * One connection at a time: a newer one replaces the older.  Only the owner of the data directory
 * is taken (SO_PEERCRED).  What is not a whole report of this version ends the connection.
 */
#ifndef TANDEM_WATCH_H
#define TANDEM_WATCH_H

#include <systemd/sd-event.h>

#include "config.h"
#include "report.h"

typedef struct Watch Watch;

typedef struct WatchCallbacks
{
	void (*reported)(void *user, const WatchReport *report);
	void (*lost)(void *user); /* there is no connection any more */
	void (*refused)(void *user, const char *text);
} WatchCallbacks;

/* Listens at <run_directory>/<node>.socket, which is made anew.  Negative errno. */
extern int
watch_new(Watch **w, const Config *c, sd_event *event, const WatchCallbacks *cb, void *user);
extern void watch_free(Watch *w);
/* False if there is no connection, or it does not take the command now: it is asked for again. */
extern bool watch_command(Watch *w, const WatchCommand *command);

#endif /* TANDEM_WATCH_H */
