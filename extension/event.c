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

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "utils/timestamp.h"

#define REPEAT_MS 60000

static void
fill_event(TandemEvent *event, const char *kind, const char *name, const char *fmt, va_list args)
{
	char message[1024];

	event->time = GetCurrentTimestamp();
	strlcpy(event->kind, kind, sizeof(event->kind));
	strlcpy(event->name, name, sizeof(event->name));
	vsnprintf(message, sizeof(message), fmt, args);
	tandem_store_text(event->message, sizeof(event->message), message);
}

/*
 * Record and log it, unless the same happened after 'since' (0: in any case).
 * False then.
 */
static bool
add_event(const TandemEvent *event, TimestampTz since)
{
	bool known = false;

	SpinLockAcquire(&tandem->event_mutex);
	for (uint64 i = tandem->event_count;
		 since != 0 && !known && i > 0 && i + TANDEM_MAX_EVENTS > tandem->event_count; i--)
	{
		const TandemEvent *other = &tandem->events[(i - 1) % TANDEM_MAX_EVENTS];

		if (other->time < since)
			break;
		known = strcmp(other->name, event->name) == 0 &&
				strcmp(other->message, event->message) == 0;
	}
	if (!known)
		tandem->events[tandem->event_count++ % TANDEM_MAX_EVENTS] = *event;
	SpinLockRelease(&tandem->event_mutex);

	if (!known)
		ereport(LOG, (errmsg("%s \"%s\": %s", event->kind, event->name, event->message)));
	return !known;
}

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

	va_start(args, fmt);
	fill_event(&event, kind, name, fmt, args);
	va_end(args);
	(void) add_event(&event, 0);
}

/*
 * As tandem_event(), for what a peer can make happen again and again: the same
 * event within a minute is neither recorded nor logged.  False then.
 */
bool
tandem_event_repeated(const char *kind, const char *name, const char *fmt, ...)
{
	TandemEvent event;
	va_list args;

	va_start(args, fmt);
	fill_event(&event, kind, name, fmt, args);
	va_end(args);
	return add_event(&event, TimestampTzPlusMilliseconds(event.time, -REPEAT_MS));
}

/*
 * Copy a message of any length into a view's column of 'size' bytes: one line,
 * cut between two characters.  As UTF-8, because not every process has a
 * database; in another encoding a few bytes less may be kept.
 */
void
tandem_store_text(char *to, size_t size, const char *from)
{
	int length = pg_encoding_mbcliplen(PG_UTF8, from, strlen(from), size - 1);

	memcpy(to, from, length);
	while (length > 0 && isspace((unsigned char) to[length - 1]))
		length--;
	to[length] = '\0';
	for (; *to != '\0'; to++)
	{
		if (*to == '\n' || *to == '\t')
			*to = ' ';
	}
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
