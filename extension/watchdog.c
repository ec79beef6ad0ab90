/*-------------------------------------------------------------------------
 *
 * watchdog.c
 *	  The worker that talks to tandemd, and stops this server after its lease.
 *
 * One per postmaster, with tandem.lease_required, on a primary and on a
 * standby alike.  It tells tandemd what this server is (watchdog/report.h) and
 * carries out what tandemd decides for the gate.  The lease itself does not
 * come this way: it is in the cell (lease.c), so nothing depends on this
 * connection while a lease runs.  A tandemd that is started again finds the
 * worker at its door a moment later.
 *
 * The term in place (SAFETY.md rule 6).  A primary whose tandemd has won a
 * higher term goes on without a restart: the links end and no new one begins,
 * then the new incarnation is made durable, and only then does the gate take
 * the new term.  So every session of a link has one term from its beginning to
 * its end, and a standby has the new history before it gets WAL of it.
 *
 * The end of the lease (rule 11).  When it has been over for almost the stop
 * budget, this server is killed from here, whatever tandemd does: an old
 * primary must not be read while a new one is open.  That is not left to the
 * postmaster, which may itself be what hangs.  It is stopped, so that it starts
 * nobody any more; all its children are killed, and then it.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "watchdog/lease_file.h"

#define REPORT_MS      100 /* at least so often (report.h) */
#define RETERM_MS      5   /* how often to look whether the links have ended */
#define NEAR_END_BYTES (16 * 1024 * 1024)

StaticAssertDecl(NAMEDATALEN <= WATCH_NAME_SIZE, "names fit into a report");

static int connection = -1;
static WatchCommand reterm; /* GATE_TERM, if one is under way */
static bool reterming = false;
static GateCell last_lease; /* what was last seen in the cell */

/* Let the worker look around at once.  Any process, with any lock. */
void
watchdog_wake(void)
{
	Latch *latch = tandem->watchdog.latch;

	if (latch != NULL)
		SetLatch(latch); /* in shared memory, whoever has it */
}

/* ------------------------------------------------------- the end of the lease */

/* The parent of a process, or 0. */
static pid_t
parent_of(const char *pid)
{
	char path[64];
	char text[512];
	const char *at;
	int parent = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[Max(n, 0)] = '\0';
	at = strrchr(text, ')'); /* behind the name, which may contain anything */
	if (at == NULL || sscanf(at, ") %*c %d", &parent) != 1)
		return 0;
	return parent;
}

static void
kill_children(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc != NULL && (entry = readdir(proc)) != NULL)
	{
		pid_t pid = atoi(entry->d_name);

		if (pid > 0 && pid != MyProcPid && parent_of(entry->d_name) == PostmasterPid)
			(void) kill(pid, SIGKILL);
	}
	if (proc != NULL)
		closedir(proc);
}

/* Does not return.  The log, which may hang, comes last. */
static void
kill_server(int64 since)
{
	(void) kill(PostmasterPid, SIGSTOP);
	kill_children();
	(void) kill(PostmasterPid, SIGKILL);
	ereport(LOG, (errmsg("this server was killed because the lease of term " UINT64_FORMAT
						 " ended %d ms ago",
						 last_lease.term, (int) (since / 1000)),
				  errdetail("Another node may be the primary now."),
				  errhint("See the log of tandemd on this host.")));
	_exit(1);
}

/*
 * Kill the server if its time has come; else give the time when it will, ms
 * from now at most 'limit'.  A standby may have been a primary earlier in this
 * boot, and is left alone.
 */
static long
look_at_lease(long limit)
{
	int64 now = lease_file_now();
	int64 budget;
	GateCell cell;
	Gate gate = {0};

	if (lease_read(&cell, now, false))
		last_lease = cell; /* a file that is gone does not prolong what it said */
	if (last_lease.deadline == 0 || RecoveryInProgress())
		return limit;
	gate.cell = last_lease;
	budget = lease_stop_budget() * 9 / 10; /* it is done when the budget is used up */
	if (gate_must_stop(&gate, now, budget))
		kill_server(now - last_lease.deadline);
	return Min(limit, (last_lease.deadline + budget - now) / 1000 + 1);
}

/* ------------------------------------------------------------------ reports */

static WatchRole
role_now(bool begun)
{
	if (!RecoveryInProgress())
		return begun ? WATCH_PRIMARY : WATCH_RECOVERING;
	/* on the way to a new timeline it will promote itself (hostcrash.c) */
	if (GetRecoveryState() != RECOVERY_STATE_ARCHIVE || tandem->new_timeline)
		return WATCH_RECOVERING;
	return !EnableHotStandby || HotStandbyActive() ? WATCH_STANDBY : WATCH_RECOVERING;
}

static void
report_peer(WatchReport *report, const TandemLink *link, XLogRecPtr released)
{
	WatchPeer *peer = &report->peers[report->npeers];
	bool streaming = link->state == TANDEM_LINK_STREAMING;

	if (link->name[0] == '\0' || report->npeers == WATCH_MAX_PEERS)
		return;
	report->npeers++;
	strlcpy(peer->name, link->name, sizeof(peer->name));
	peer->copy = link->copy;
	peer->written = link->written;
	peer->flush = link->flushed;
	peer->replayed = link->replayed;
	peer->age = Max(GetCurrentTimestamp() - link->last_reply, 0);
	peer->async = link->async;
	if (link->pid == 0 || link->flushed == InvalidXLogRecPtr || link->term != report->term ||
		(!streaming && link->state != TANDEM_LINK_CATCHING_UP))
		return;
	peer->session = link->session;
	peer->near_end = streaming && link->flushed + NEAR_END_BYTES >= released;
}

static void
report_primary(WatchReport *report, const TandemGate *gate)
{
	const Gate *rule = &gate->rule;

	report->timeline = 0;
	report->flush = GetFlushRecPtr(&report->timeline);
	report->end = GetXLogWriteRecPtr();
	report->sync_standbys_defined = (WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0;
	report->term = rule->term;
	report->inc = rule->inc;
	report->instance = rule->instance;
	report->cmd = rule->cmd;
	report->require = rule->require;
	report->open = rule->open;
	strlcpy(report->peer, gate->peer_name, sizeof(report->peer));
	report->peer_copy = rule->peer_copy;
	report->waits_from = rule->waits_from;
	report->released = gate->alone ? report->flush : rule->released;
	for (int i = 0; i < tandem_max_links; i++)
	{
		TandemLink *link = &tandem->links[i];
		TandemLink copy;

		SpinLockAcquire(&link->mutex);
		copy = *link;
		SpinLockRelease(&link->mutex);
		report_peer(report, &copy, report->released);
	}
}

static void
report_standby(WatchReport *report)
{
	TandemReceiver receiver;
	pid_t walreceiver;
	XLogRecPtr flushed;
	bool live;

	SpinLockAcquire(&tandem->receiver.mutex);
	receiver = tandem->receiver;
	SpinLockRelease(&tandem->receiver.mutex);
	SpinLockAcquire(&WalRcv->mutex);
	walreceiver = WalRcv->pid;
	flushed = WalRcv->flushedUpto;
	SpinLockRelease(&WalRcv->mutex);

	live = receiver.pid != 0 && receiver.pid == walreceiver;
	report->timeline = 0;
	report->replayed = GetXLogReplayRecPtr(&report->timeline);
	report->flush = Max(flushed, report->replayed);
	if (live && receiver.state != TANDEM_RCV_CORE)
		report->flush = Max(report->flush, receiver.durable);
	report->link_up = live &&
					  (receiver.state == TANDEM_RCV_STREAMING || receiver.state == TANDEM_RCV_CORE);
	strlcpy(report->follows, receiver.primary_name, sizeof(report->follows));
	report->diverged = receiver.diverged;
	if (!report->link_up)
		strlcpy(report->refusal, receiver.last_error, sizeof(report->refusal));
}

static void
hang_up(const char *why)
{
	if (connection < 0)
		return;
	close(connection);
	connection = -1;
	ereport(LOG, (errmsg("lost the connection to tandemd: %s", why)));
}

static void
send_report(void)
{
	static WatchReport report;
	TandemGate gate;

	if (connection < 0)
		return;
	LWLockAcquire(tandem->gate_lock, LW_SHARED);
	gate = tandem->gate;
	LWLockRelease(tandem->gate_lock);

	memset(&report, 0, sizeof(report));
	report.version = WATCH_VERSION;
	report.size = sizeof(report);
	report.postmaster = PostmasterPid;
	report.role = role_now(gate.begun);
	report.system_identifier = GetSystemIdentifier();
	report.lease_required = tandem_lease_required;
	if (report.role == WATCH_PRIMARY)
		report_primary(&report, &gate);
	else
		report_standby(&report);
	/* one that does not go now is too late; the next one says more */
	if (send(connection, &report, sizeof(report), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
		errno != EAGAIN && errno != EINTR)
		hang_up(strerror(errno));
}

/* ------------------------------------------------------- the term in place */

/* No link lives on, and none begins. */
static void
begin_reterm(const WatchCommand *command)
{
	if (!gate_obey(command, true))
		return;
	reterm = *command;
	reterming = true;
	LWLockAcquire(tandem->link_lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&tandem->watchdog.reterm, 1);
	LWLockRelease(tandem->link_lock);
	incarnation_suspend();
}

static void
end_reterm(void)
{
	reterming = false;
	pg_atomic_write_u32(&tandem->watchdog.reterm, 0);
}

/*
 * No walsender may stream the new incarnation to a standby of ours that does
 * not know of it: as soon as it did it would seem to have diverged.  Its
 * standby comes again, and waits for an offer.  True if there is still one.
 */
static bool
end_core_streams(void)
{
	int cursor = 0;
	FallbackStream stream;
	bool any = false;

	while (offer_next_fallback(&cursor, &stream))
	{
		any = true;
		(void) kill(stream.pid, SIGTERM);
	}
	return any;
}

/*
 * Go on with the change of the term, if all links have ended.  ERROR if the new
 * incarnation cannot be stored; then another worker starts, and tandemd asks
 * again.
 */
static void
continue_reterm(void)
{
	bool any = false;

	if (!reterming)
		return;
	for (int i = 0; i < tandem_max_links; i++)
	{
		if (tandem->links[i].pid == 0)
			continue;
		any = true;
		link_wake_worker(&tandem->links[i]);
	}
	any |= end_core_streams();
	if (any)
		return;

	/* what standbys have got is below: they have nothing to discard */
	reterm.inc = incarnation_reterm(reterm.term, reterm.inc, GetXLogInsertRecPtr());
	if (!gate_obey(&reterm, false))
		ereport(LOG, (errmsg("the change to term " UINT64_FORMAT " was overtaken", reterm.term)));
	end_reterm();
}

/* ----------------------------------------------------------------- commands */

static void
take_command(WatchCommand *command)
{
	command->peer[sizeof(command->peer) - 1] = '\0';
	if (command->order == GATE_TERM)
		begin_reterm(command);
	else
		(void) gate_obey(command, false);
}

static void
take_commands(void)
{
	while (connection >= 0)
	{
		WatchCommand command;
		ssize_t n = recv(connection, &command, sizeof(command), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			hang_up(strerror(errno));
		else if (n == 0)
			hang_up("it was closed");
		else if (n != sizeof(command) || command.version != WATCH_VERSION ||
				 command.size != sizeof(command) || command.order > GATE_TERM)
			hang_up("it speaks another version: install the same version of pg_tandem and tandemd");
		else
			take_command(&command);
	}
}

/* --------------------------------------------------------------- connecting */

/* Whose socket is it?  Only root's, or that of our own user, can be tandemd's. */
static bool
is_trusted(int fd)
{
	struct ucred who;
	socklen_t size = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 &&
		(who.uid == 0 || who.uid == geteuid()))
		return true;
	errno = EPERM;
	return false;
}

static void
connect_to_tandemd(void)
{
	static int told = 0;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = -1;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s.socket",
				 tandem_watchdog_directory, tandem_node_name) >= (int) sizeof(address.sun_path))
		errno = ENAMETOOLONG;
	else
		fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0 &&
		is_trusted(fd))
	{
		connection = fd;
		told = 0;
		ereport(LOG, (errmsg("connected to tandemd")));
		return;
	}
	if (errno != told)
	{
		told = errno;
		ereport(LOG, (errcode_for_socket_access(),
					  errmsg("could not connect to tandemd at \"%s/%s.socket\": %m",
							 tandem_watchdog_directory, tandem_node_name)));
	}
	if (fd >= 0)
		close(fd);
}

/* --------------------------------------------------------------- the worker */

static void
watchdog_exit(pg_attribute_unused() int code, pg_attribute_unused() Datum arg)
{
	TandemReleaseLocks();
	tandem->watchdog.latch = NULL;
	tandem->watchdog.pid = 0;
	if (reterming)
	{
		incarnation_resume();
		end_reterm();
	}
}

static void
wait_for_news(long ms)
{
	int events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

	if (connection >= 0)
		events |= WL_SOCKET_READABLE;
	(void) WaitLatchOrSocket(MyLatch, events, connection >= 0 ? connection : PGINVALID_SOCKET,
							 Max(ms, 0), PG_WAIT_EXTENSION);
}

/* Main function of the watchdog worker, one per server. */
void
tandem_watchdog_main(pg_attribute_unused() Datum arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(watchdog_exit, 0);
	tandem->watchdog.pid = MyProcPid;
	tandem->watchdog.latch = MyLatch;
	context = AllocSetContextCreate(TopMemoryContext, "tandem watchdog", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(context);

	for (;;)
	{
		long wait_ms;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending)
			proc_exit(1); /* 0 would mean: never start it again */
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextReset(context);
		wait_ms = look_at_lease(REPORT_MS);
		if (connection < 0)
			connect_to_tandemd();
		take_commands();
		continue_reterm();
		gate_look();
		send_report();
		wait_for_news(reterming ? Min(wait_ms, RETERM_MS) : wait_ms);
	}
}
