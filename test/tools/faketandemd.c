/*
 * faketandemd.c
 *		The extension's other end: a tandemd that does what a test says.
 *
 *	faketandemd DIRECTORY NODE
 *
 * keeps DIRECTORY/NODE.lease and listens at DIRECTORY/NODE.socket.  It takes commands from its
 * standard input, one a line, and answers each with one line:
 *
 *	lease TERM MS FLOOR	a lease that ends MS from now (may be negative)
 *	hold TERM MS FLOOR	the same, and renew it all the time
 *	drop			renew it no more; it runs out
 *	budget MS		the stop budget
 *	tear, mend		leave the cell half written; finish it
 *	version N		of the lease file
 *	node NAME		for whom the lease file is
 *	instance N		of the commands that follow, which are numbered from 1 again
 *	alone TERM, require TERM NAME COPY, term TERM INCARNATION	commands for the gate
 *	raw N			N bytes that are no command
 *	copy DIRECTORY COPY STATE	write the copy's number; STATE is complete or rebuilding
 *	report			what the extension said last: KEY=VALUE ...
 *	hang_up, deaf, listen	end the connection; and take no new one; and take them again
 *
 * COPY is hexadecimal.  Ends with its standard input; the lease file stays.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "watchdog/lease_file.h"
#include "watchdog/report.h"

#define RENEW_MS 20
#define MS       INT64_C(1000)

static LeaseFile *lease;
static GateCell cell;
static int64_t held; /* us; 0: not renewed */
static int listener = -1;
static int connection = -1;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static WatchReport report;
static unsigned long reports;
static uint64_t instance = 1;
static uint64_t cmd;

static void
trouble(const char *what)
{
	fprintf(stderr, "faketandemd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

/* ---------- the socket ---------- */

static void
start_listening(void)
{
	if (listener >= 0)
		return;
	(void) unlink(address.sun_path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(listener, 8) != 0)
		trouble(address.sun_path);
}

static void
hang_up(void)
{
	if (connection >= 0)
		close(connection);
	connection = -1;
	memset(&report, 0, sizeof(report));
}

static void
take_reports(void)
{
	for (;;)
	{
		WatchReport next;
		ssize_t n = recv(connection, &next, sizeof(next), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n != sizeof(next) || next.version != WATCH_VERSION || next.size != sizeof(next))
		{
			hang_up();
			return;
		}
		report = next;
		reports++;
	}
}

static void
command(WatchCommand *c)
{
	c->version = WATCH_VERSION;
	c->size = sizeof(*c);
	c->instance = instance;
	c->cmd = ++cmd;
	if (connection >= 0 && send(connection, c, sizeof(*c), MSG_NOSIGNAL) == sizeof(*c))
		say("sent %" PRIu64, c->cmd);
	else
		say("not connected");
}

static void
show_report(void)
{
	static const char *const roles[] = {"recovering", "standby", "primary"};

	printf("connected=%d reports=%lu", connection >= 0 && report.version != 0, reports);
	printf(" postmaster=%d role=%s timeline=%u lease_required=%d sync_standbys_defined=%d",
		   report.postmaster, roles[report.role], report.timeline, report.lease_required,
		   report.sync_standbys_defined);
	printf(" term=%" PRIu64 " inc=%" PRIu64 " instance=%" PRIu64 " cmd=%" PRIu64, report.term,
		   report.inc, report.instance, report.cmd);
	printf(" require=%d open=%d peer=%s peer_copy=%" PRIx64, report.require, report.open,
		   report.peer, report.peer_copy);
	printf(" waits_from=%" PRIu64 " released=%" PRIu64 " flush=%" PRIu64 " end=%" PRIu64,
		   report.waits_from, report.released, report.flush, report.end);
	printf(" replayed=%" PRIu64 " link_up=%d follows=%s diverged=%d npeers=%d", report.replayed,
		   report.link_up, report.follows, report.diverged, report.npeers);
	for (int i = 0; i < report.npeers; i++)
	{
		const WatchPeer *p = &report.peers[i];

		printf(" %s.session=%" PRIu64 " %s.copy=%" PRIx64 " %s.flush=%" PRIu64
			   " %s.near_end=%d %s.async=%d",
			   p->name, p->session, p->name, p->copy, p->name, p->flush, p->name, p->near_end,
			   p->name, p->async);
	}
	say("");
}

/* ---------- the lease ---------- */

static void
write_lease(int64_t us)
{
	cell.deadline = lease_file_now() + us;
	lease_file_write(lease, &cell);
}

static bool
lease_command(const char *line)
{
	uint64_t number = 0;
	long ms = 0;
	char name[64];

	if (sscanf(line, "lease %" SCNu64 " %ld %" SCNu64, &cell.term, &ms, &cell.floor) == 3)
	{
		held = 0;
		write_lease(ms * MS);
	}
	else if (sscanf(line, "hold %" SCNu64 " %ld %" SCNu64, &cell.term, &ms, &cell.floor) == 3)
	{
		held = ms * MS;
		write_lease(held);
	}
	else if (strcmp(line, "drop") == 0)
		held = 0;
	else if (sscanf(line, "budget %ld", &ms) == 1)
		lease->stop_budget = ms * MS;
	else if (strcmp(line, "tear") == 0 && lease->sequence % 2 == 0)
		__atomic_fetch_add(&lease->sequence, 1, __ATOMIC_ACQ_REL);
	else if (strcmp(line, "mend") == 0 && lease->sequence % 2 != 0)
		__atomic_fetch_add(&lease->sequence, 1, __ATOMIC_ACQ_REL);
	else if (sscanf(line, "version %" SCNu64, &number) == 1)
		lease->version = (uint32_t) number;
	else if (sscanf(line, "node %63s", name) == 1)
		snprintf(lease->node, sizeof(lease->node), "%s", name);
	else
		return false;
	say("ok");
	return true;
}

/* ---------- commands ---------- */

static bool
gate_command_line(const char *line)
{
	WatchCommand c;

	memset(&c, 0, sizeof(c));
	if (sscanf(line, "alone %" SCNu64, &c.term) == 1)
		c.order = GATE_ALONE;
	else if (sscanf(line, "require %" SCNu64 " %63s %" SCNx64, &c.term, c.peer, &c.peer_copy) == 3)
		c.order = GATE_REQUIRE;
	else if (sscanf(line, "term %" SCNu64 " %" SCNu64, &c.term, &c.inc) == 2)
		c.order = GATE_TERM;
	else
		return false;
	command(&c);
	return true;
}

static bool
copy_command(const char *line)
{
	char directory[1024];
	char state[16];
	CopyFile copy;

	if (sscanf(line, "copy %1023s %" SCNx64 " %15s", directory, &copy.id, state) != 3)
		return false;
	copy.rebuilding = strcmp(state, "rebuilding") == 0;
	say("%s", copy_file_write(directory, &copy) ? "ok" : strerror(errno));
	return true;
}

static void
connection_command(const char *line)
{
	static const char bytes[4096];
	unsigned int n;

	if (strcmp(line, "report") == 0)
	{
		show_report();
		return;
	}
	if (sscanf(line, "instance %" SCNu64, &instance) == 1)
		cmd = 0;
	else if (sscanf(line, "raw %u", &n) == 1 && n <= sizeof(bytes))
		(void) send(connection, bytes, n, MSG_NOSIGNAL);
	else if (strcmp(line, "hang_up") == 0)
		hang_up();
	else if (strcmp(line, "deaf") == 0)
	{
		hang_up();
		close(listener);
		listener = -1;
		(void) unlink(address.sun_path);
	}
	else if (strcmp(line, "listen") == 0)
		start_listening();
	else
	{
		say("what is \"%s\"?", line);
		return;
	}
	say("ok");
}

static void
take_line(const char *line)
{
	if (!lease_command(line) && !gate_command_line(line) && !copy_command(line))
		connection_command(line);
}

/* Whole lines of standard input; ends with it. */
static void
take_lines(void)
{
	static char buffer[4096];
	static size_t used;
	ssize_t n = read(STDIN_FILENO, buffer + used, sizeof(buffer) - 1 - used);
	char *end;

	if (n <= 0)
		exit(0);
	used += (size_t) n;
	buffer[used] = '\0';
	while ((end = strchr(buffer, '\n')) != NULL)
	{
		*end = '\0';
		take_line(buffer);
		used -= (size_t) (end + 1 - buffer);
		memmove(buffer, end + 1, used + 1);
	}
}

int
main(int argc, char **argv)
{
	char path[4096];

	if (argc != 3)
	{
		fprintf(stderr, "usage: faketandemd DIRECTORY NODE\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/%s.lease", argv[1], argv[2]);
	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s.socket", argv[1], argv[2]) >=
		(int) sizeof(address.sun_path))
	{
		errno = ENAMETOOLONG;
		trouble(argv[1]);
	}
	lease = lease_file_create(path, argv[2]);
	if (lease == NULL || !lease_file_read(lease, argv[2], &cell))
		trouble(path);
	if (lease->stop_budget == 0)
		lease->stop_budget = 1000 * MS;
	start_listening();
	for (;;)
	{
		struct pollfd fds[3] = {{.fd = STDIN_FILENO, .events = POLLIN},
								{.fd = listener, .events = POLLIN},
								{.fd = connection, .events = POLLIN}};

		if (poll(fds, 3, held != 0 ? RENEW_MS : -1) < 0 && errno != EINTR)
			trouble("poll");
		if (held != 0)
			write_lease(held);
		if (connection >= 0 && fds[2].revents != 0)
			take_reports();
		if (listener >= 0 && fds[1].revents != 0)
		{
			hang_up();
			connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		}
		if (fds[0].revents != 0)
			take_lines();
	}
}
