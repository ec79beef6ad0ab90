/*-------------------------------------------------------------------------
 *
 * watchdog.c
 *	  The worker that talks to tandemd, and stops this server after its lease.
 *
 * One per postmaster, with tandem.lease_required, on a primary and on a
 * standby alike.  It tells tandemd what this server is (watchdog/report.h) and
 * carries out what tandemd decides for the gate.  The lease itself does not
 * come this way: it is in the cell (lease.c), so that nothing depends on this
 * connection while a lease runs; a tandemd that is restarted finds the worker
 * at its door again.
 *
 * SAFETY.md rule 11: when the lease has been over for almost the stop budget
 * the server is killed from here, whatever tandemd does: an old primary must
 * not be read when a new one opens.  That is not left to the postmaster, which
 * may itself be what hangs: it is stopped, so that it starts nobody any more,
 * all its children are killed, and then it.
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

static int connection = -1;
static WatchCommand reterm; /* under way if its order is GATE_TERM */
static bool reterming = false;

/* Something that tandemd waits for has changed.  Any process; no lock. */
void
watchdog_wake(void)
{
	Latch *latch = tandem->watchdog.latch;

	if (latch != NULL)
		SetLatch(latch);
}

/* ------------------------------------------------------------ killing it all */

/* The parent of a process, or 0. */
static pid_t
parent_of(pid_t pid)
{
	char path[64];
	char line[512];
	char *end;
	ssize_t n;
	int fd;
	int parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	line[n] = '\0';
	end = strrchr(line, ')'); /* the name may contain anything */
	if (end == NULL || sscanf(end + 1, " %*c %d", &parent) != 1)
		return 0;
	return parent;
}

static void
kill_children(pid_t postmaster)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	if (proc == NULL)
		return; /* they notice that the postmaster is gone */
	while ((entry = readdir(proc)) != NULL)
	{
		pid_t pid = atoi(entry->d_name);

		if (pid > 0 && pid != getpid() && parent_of(pid) == postmaster)
			(void) kill(pid, SIGKILL);
	}
	closedir(proc);
}

/* Does not return. */
static void
kill_server(int64 late)
{
	ereport(LOG,
			(errmsg("stopping this server: its lease ended " INT64_FORMAT " ms ago", late / 1000),
			 errdetail("Without a lease another node may be primary."),
			 errhint("See the log of tandemd for why the lease was not renewed.")));
	(void) kill(PostmasterPid, SIGSTOP);
	kill_children(PostmasterPid);
	(void) kill(PostmasterPid, SIGKILL);
	_exit(2);
}

/* Is the time over?  Only a primary must not outlive its lease. */
static void
check_lease(void)
{
	int64 now = lease_file_now();
	Gate gate = {0};

	(void) lease_read(&gate.cell, now, false);
	if (!RecoveryInProgress() && gate_must_stop(&gate, now, lease_stop_budget() * 9 / 10))
		kill_server(now - gate.cell.deadline);
}

/* ------------------------------------------------------------------- reports */

/* What a link's standby has answered in its present session.  Gate lock held. */
static void
report_peer(const TandemLink *link, WatchReport *report)
{
	const TandemGate *gate = &tandem->gate;
	WatchPeer *peer = &report->peers[report->npeers];
	TandemLinkState state;

	SpinLockAcquire(&unconstify(TandemLink *, link)->mutex);
	if (link->pid == 0 || link->name[0] == '\0' || link->state == TANDEM_LINK_DOWN)
	{
		SpinLockRelease(&unconstify(TandemLink *, link)->mutex);
		return;
	}
	strlcpy(peer->name, link->name, sizeof(peer->name));
	if (link->flushed != InvalidXLogRecPtr && link->term == gate->rule.term)
		peer->session = link->session;
	peer->copy = link->copy;
	peer->written = link->written;
	peer->flush = link->flushed;
	peer->replayed = link->replayed;
	peer->age = GetCurrentTimestamp() - link->last_reply;
	peer->async = link->async;
	state = link->state;
	SpinLockRelease(&unconstify(TandemLink *, link)->mutex);

	peer->near_end = state == TANDEM_LINK_STREAMING && peer->session != 0 &&
					 peer->flush + NEAR_END_BYTES >= gate->rule.released;
	report->npeers++;
}

static void
report_primary(WatchReport *report)
{
	const TandemGate *gate = &tandem->gate;
	const Gate *rule = &gate->rule;

	report->flush = GetFlushRecPtr(NULL);
	report->end = GetXLogWriteRecPtr();
	report->sync_standbys_defined = (WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0;
	LWLockAcquire(tandem->gate_lock, LW_SHARED);
	if (gate->begun)
		report->role = WATCH_PRIMARY;
	report->term = rule->term;
	report->inc = rule->inc;
	report->instance = rule->instance;
	report->cmd = rule->cmd;
	report->require = rule->require;
	report->open = rule->open;
	strlcpy(report->peer, gate->peer_name, sizeof(report->peer));
	report->peer_copy = rule->peer_copy;
	report->waits_from = rule->waits_from;
	report->released = rule->released;
	for (int i = 0; i < tandem_max_links && report->npeers < WATCH_MAX_PEERS; i++)
		report_peer(&tandem->links[i], report);
	LWLockRelease(tandem->gate_lock);
}

static void
report_standby(WatchReport *report)
{
	TandemReceiver *receiver = &tandem->receiver;

	if (HotStandbyActive())
		report->role = WATCH_STANDBY;
	report->replayed = GetXLogReplayRecPtr(&report->timeline);
	report->flush = Max(GetWalRcvFlushRecPtr(NULL, NULL), report->replayed);
	SpinLockAcquire(&receiver->mutex);
	if (receiver->pid != 0 && receiver->state == TANDEM_RCV_STREAMING)
	{
		report->link_up = true;
		report->flush = Max(report->flush, receiver->durable);
	}
	strlcpy(report->follows, receiver->primary_name, sizeof(report->follows));
	report->diverged = receiver->diverged;
	if (receiver->diverged)
		strlcpy(report->refusal, receiver->last_error, sizeof(report->refusal));
	SpinLockRelease(&receiver->mutex);
}

static void
hang_up(void)
{
	if (connection >= 0)
		close(connection);
	connection = -1;
	tandem->watchdog.connected = false;
}

static void
send_report(void)
{
	WatchReport report = {.version = WATCH_VERSION, .size = sizeof(report)};

	report.postmaster = PostmasterPid;
	report.role = WATCH_RECOVERING;
	report.system_identifier = GetSystemIdentifier();
	report.lease_required = tandem_lease_required;
	if (RecoveryInProgress())
		report_standby(&report);
	else
	{
		(void) GetFlushRecPtr(&report.timeline);
		report_primary(&report);
	}
	/* a tandemd that does not read misses this one; the next says more */
	if (send(connection, &report, sizeof(report), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
		errno != EAGAIN && errno != EINTR)
		hang_up();
}

/* ---------------------------------------------------------------- connecting */

/* Connect to tandemd, if it is there. */
static void
call(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	static bool told = false;

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s.socket",
				 tandem_watchdog_directory, tandem_node_name) >= (int) sizeof(address.sun_path))
	{
		if (!told)
			ereport(LOG, (errmsg("the path of tandemd's socket is too long: \"%s/%s.socket\"",
								 tandem_watchdog_directory, tandem_node_name),
						  errhint("Set tandem.watchdog_directory to a shorter one.")));
		told = true;
		return;
	}
	connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connection < 0)
		return;
	if (connect(connection, (struct sockaddr *) &address, sizeof(address)) != 0)
	{
		if (!told)
			ereport(LOG, (errmsg("could not connect to tandemd at \"%s\": %m", address.sun_path),
						  errdetail("Commits are acknowledged only while it gives a lease; the "
									"attempt is repeated.")));
		told = true;
		hang_up();
		return;
	}
	told = false;
	tandem->watchdog.connected = true;
	ereport(LOG, (errmsg("connected to tandemd at \"%s\"", address.sun_path)));
}

/* ------------------------------------------------------------------ commands */

static bool
links_have_ended(void)
{
	bool ended = true;

	LWLockAcquire(tandem->link_lock, LW_SHARED);
	for (int i = 0; i < tandem_max_links; i++)
	{
		if (tandem->links[i].pid == 0)
			continue;
		ended = false;
		link_wake_worker(&tandem->links[i]);
	}
	LWLockRelease(tandem->link_lock);
	return ended;
}

static void
end_reterm(void)
{
	reterming = false;
	pg_atomic_write_u32(&tandem->watchdog.reterm, 0);
}

/*
 * Re-term in place (SAFETY.md rule 6): no link of the old term is left, then
 * the new incarnation is durable, then the gate takes the new term.  The new
 * incarnation's WAL begins where the WAL ends now: nothing beyond has been sent
 * in the old one.
 */
static void
continue_reterm(void)
{
	if (!links_have_ended())
		return;
	if (gate_obey(&reterm, true))
	{
		reterm.inc = incarnation_reterm(reterm.term, reterm.inc, GetXLogInsertRecPtr());
		(void) gate_obey(&reterm, false);
	}
	else
		incarnation_resume();
	end_reterm();
}

static void
obey(const WatchCommand *command)
{
	if (RecoveryInProgress())
		return;
	if (command->order != GATE_TERM)
	{
		(void) gate_obey(command, false);
		return;
	}
	if (!gate_obey(command, true))
		return;
	reterm = *command;
	if (reterming)
		return;
	reterming = true;
	pg_atomic_write_u32(&tandem->watchdog.reterm, 1);
	incarnation_suspend();
	continue_reterm();
}

static void
read_commands(void)
{
	while (connection >= 0)
	{
		WatchCommand command;
		ssize_t n = recv(connection, &command, sizeof(command), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n != sizeof(command) || command.version != WATCH_VERSION ||
			command.size != sizeof(command) || (int) command.order < GATE_REQUIRE ||
			command.order > GATE_TERM)
		{
			if (n > 0)
				ereport(LOG, (errmsg("tandemd speaks another version than this server"),
							  errhint("Install the same version of pg_tandem and tandemd.")));
			hang_up();
			return;
		}
		command.peer[WATCH_NAME_SIZE - 1] = '\0';
		obey(&command);
	}
}

/* ---------------------------------------------------------------------- main */

static void
worker_exit(pg_attribute_unused() int code, pg_attribute_unused() Datum arg)
{
	tandem->watchdog.latch = NULL;
	tandem->watchdog.pid = 0;
	tandem->watchdog.connected = false;
	if (reterming)
		end_reterm(); /* its successor is told again */
}

void
tandem_watchdog_main(pg_attribute_unused() Datum arg)
{
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(worker_exit, 0);
	tandem->watchdog.pid = MyProcPid;
	tandem->watchdog.latch = MyLatch;
	/* a predecessor may have failed while the term changed */
	if (tandem->gate.begun && !incarnation_ready())
		incarnation_resume();
	context = AllocSetContextCreate(TopMemoryContext, "tandem watchdog", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	while (!ShutdownRequestPending)
	{
		long wait_ms = reterming ? RETERM_MS : REPORT_MS;
		int rc;

		MemoryContextReset(context);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		check_lease();
		if (connection < 0)
			call();
		read_commands();
		if (reterming)
			continue_reterm();
		if (!RecoveryInProgress())
			gate_look();
		if (connection >= 0)
			send_report();
		rc = WaitLatchOrSocket(MyLatch,
							   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH |
								   (connection >= 0 ? WL_SOCKET_READABLE : 0),
							   connection >= 0 ? connection : PGINVALID_SOCKET, wait_ms,
							   PG_WAIT_EXTENSION);
		if (rc & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	proc_exit(1); /* 0 would mean: never start it again */
}
