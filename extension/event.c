/*-------------------------------------------------------------------------
 *
 * event.c
 *	  The last changes of role, links and gate, with time and reason.
 *
 * A ring in shared memory behind the view tandem.events.  Each event is also
 * a line in the server's log.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "utils/timestamp.h"

/*
 * Record an event.  'kind' is "node", "link" or "gate"; 'name' is whom it is
 * about.  May be called by any process that is allowed to log; takes only a
 * spinlock of its own.
 */
void
tandem_event(const char *kind, const char *name, const char *fmt, ...)
{
	TandemEvent event;
	va_list args;

	event.time = GetCurrentTimestamp();
	strlcpy(event.kind, kind, sizeof(event.kind));
	strlcpy(event.name, name, sizeof(event.name));
	va_start(args, fmt);
	vsnprintf(event.message, sizeof(event.message), fmt, args);
	va_end(args);

	SpinLockAcquire(&tandem->event_mutex);
	tandem->events[tandem->event_count++ % TANDEM_MAX_EVENTS] = event;
	SpinLockRelease(&tandem->event_mutex);

	ereport(LOG, (errmsg("%s \"%s\": %s", event.kind, event.name, event.message)));
}

/*
 * What a peer says goes into the log and the views: make it one line of plain
 * ASCII, in place.
 */
void
tandem_clean_text(char *text)
{
	for (; *text != '\0'; text++)
	{
		if (*text == '\n' || *text == '\t')
			*text = ' ';
		else if (*text < 0x20 || *text > 0x7e)
			*text = '?';
	}
}
