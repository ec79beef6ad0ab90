/*
 * event.c
 *		What happened: the ring for "tandemctl events", the journal, the event hook.
 *
 * Under systemd a line goes to the journal with fields (TANDEM_NODE, TANDEM_KIND, TANDEM_STATE,
 * TANDEM_TERM), so that "journalctl TANDEM_KIND=state" shows the changes of state.  Otherwise it
 * goes to standard error with a time stamp.
 *
 * The hook is a program of the DBA's.  It is started for each event with kind and text as its
 * arguments, and not waited for; one that runs too long is killed.
 */
#include "manager.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#define HOOK_LIMIT (60 * UINT64_C(1000000)) /* us */
#define HOOK_MAX   8                        /* at once */

static int nhooks;

/* ---------- lines ---------- */

static int64_t
wall_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Is standard error the journal? (systemd sets the variable.) */
static bool
to_journal(void)
{
	static int known = -1;

	if (known < 0)
		known = getenv("JOURNAL_STREAM") != NULL;
	return known == 1;
}

static void
to_stderr(const Manager *m, const char *kind, const char *text)
{
	int64_t now = wall_clock();
	time_t seconds = (time_t) (now / 1000000);
	struct tm tm;
	char stamp[32];

	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
	fprintf(stderr, "%s.%03d UTC tandemd[%s] %s%s%s\n", stamp, (int) (now / 1000 % 1000),
			m != NULL ? m->config.node[m->config.self].name : "-", kind != NULL ? kind : "",
			kind != NULL ? ": " : "", text);
}

static void
write_line(const Manager *m, int priority, const char *kind, const char *text)
{
	if (!to_journal())
		to_stderr(m, kind, text);
	else if (m == NULL)
		sd_journal_send("PRIORITY=%d", priority, "MESSAGE=%s", text, NULL);
	else
		sd_journal_send("PRIORITY=%d", priority, "MESSAGE=%s%s%s", kind != NULL ? kind : "",
						kind != NULL ? ": " : "", text, "TANDEM_NODE=%s",
						m->config.node[m->config.self].name, "TANDEM_CLUSTER=%s", m->config.cluster,
						"TANDEM_KIND=%s", kind != NULL ? kind : "log", "TANDEM_STATE=%s",
						fsm_state_name(m->fsm.state), "TANDEM_TERM=%" PRIu64,
						m->fsm.term != 0 ? m->fsm.term : m->fsm.d.prom, NULL);
}

/* ---------- the hook ---------- */

static int
hook_too_long(sd_event_source *source, uint64_t usec, void *user)
{
	(void) source;
	(void) usec;
	kill(-(pid_t) (intptr_t) user, SIGKILL);
	return 0;
}

static int
hook_ended(sd_event_source *source, const siginfo_t *si, void *user)
{
	(void) si;
	nhooks--;
	sd_event_source_disable_unref(user); /* its time limit */
	sd_event_source_disable_unref(source);
	return 0;
}

static void
run_hook(Manager *m, const char *kind, const char *text)
{
	char *arguments[] = {m->config.event_hook, (char *) kind, (char *) text, NULL};
	posix_spawnattr_t attributes;
	sigset_t none;
	sd_event_source *child;
	sd_event_source *limit = NULL;
	char node[CONFIG_NAME_SIZE + 16];
	char *environment[] = {node, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", NULL};
	pid_t pid;
	int r;

	if (nhooks >= HOOK_MAX)
	{
		write_line(m, LOG_WARNING, NULL, "event_hook is too slow: not run for this event");
		return;
	}
	snprintf(node, sizeof(node), "TANDEM_NODE=%s", m->config.node[m->config.self].name);
	sigemptyset(&none);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setpgroup(&attributes, 0);
	r = posix_spawn(&pid, m->config.event_hook, NULL, &attributes, arguments, environment);
	posix_spawnattr_destroy(&attributes);
	if (r != 0)
	{
		char line[CONFIG_PATH_SIZE + 128];

		snprintf(line, sizeof(line), "could not run event_hook \"%s\": %s", m->config.event_hook,
				 strerror(r));
		write_line(m, LOG_WARNING, NULL, line);
		return;
	}
	nhooks++;
	sd_event_add_time_relative(m->event, &limit, CLOCK_BOOTTIME, HOOK_LIMIT, 0, hook_too_long,
							   (void *) (intptr_t) pid);
	if (sd_event_add_child(m->event, &child, pid, WEXITED, hook_ended, limit) < 0)
	{
		nhooks--;
		sd_event_source_disable_unref(limit);
	}
}

/* ---------- events ---------- */

static int
priority_of(const char *kind)
{
	if (strcmp(kind, "alarm") == 0)
		return LOG_ALERT;
	if (strcmp(kind, "state") == 0 || strcmp(kind, "fence") == 0)
		return LOG_NOTICE;
	return LOG_INFO;
}

void
manager_event(Manager *m, const char *kind, const char *format, ...)
{
	ManagerEvent *e = &m->events[m->nevents++ % MANAGER_MAX_EVENTS];
	va_list ap;

	e->time = wall_clock();
	snprintf(e->kind, sizeof(e->kind), "%s", kind);
	va_start(ap, format);
	vsnprintf(e->text, sizeof(e->text), format, ap);
	va_end(ap);
	write_line(m, priority_of(kind), kind, e->text);
	if (m->config.event_hook[0] != '\0' && m->event != NULL)
		run_hook(m, e->kind, e->text);
}

void
manager_log(Manager *m, int priority, const char *format, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	write_line(m, priority, NULL, text);
}
