/*-------------------------------------------------------------------------
 *
 * accept.c
 *	  A link worker waits here for a standby that has proved its key.
 *
 * Anybody can connect to the link's port, so strangers must cost little and
 * must not keep a standby out: an idle worker takes up to MAX_PENDING
 * connections at a time, none of which it waits for.  One that does not
 * finish authentication in time is closed; when all places are taken the
 * oldest is closed.  The first that proves the key of an offer is served; the
 * others are closed and, if they are standbys, come back at once to another
 * worker.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <netdb.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ip.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define MAX_PENDING  16
#define DEADLINE_MS  2000 /* for authentication */
#define LOG_EVERY_MS 1000 /* at most one line about refused connections */
#define MAX_EVENTS   16

typedef struct Pending
{
	LinkConn *conn; /* NULL: free */
	TimestampTz since;
	char address[80];
} Pending;

static Pending pending[MAX_PENDING];
static int epoll_fd = -1;

/*
 * One line for a connection that was refused before it was anybody's; at most
 * one a second for all workers together, with the number of those not told.
 */
void
accept_log_refused(const char *address, const char *why)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64 unlogged = 0;
	bool log;

	SpinLockAcquire(&tandem->refused_mutex);
	log = TimestampDifferenceExceeds(tandem->refused_logged, now, LOG_EVERY_MS);
	if (log)
	{
		unlogged = tandem->refused_unlogged;
		tandem->refused_logged = now;
		tandem->refused_unlogged = 0;
	}
	else
		tandem->refused_unlogged++;
	SpinLockRelease(&tandem->refused_mutex);
	if (log)
		ereport(LOG, (errmsg("refused a link connection from %s: %s", address, why),
					  unlogged > 0
						  ? errdetail(UINT64_FORMAT " more were refused since the last message.",
									  unlogged)
						  : 0));
}

static void
forget(Pending *p)
{
	link_conn_destroy(p->conn);
	p->conn = NULL;
}

/* Wait for what the connection needs: to read, and to write while it must. */
static void
watch(LinkConn *conn, int operation, void *tag)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};

	if (link_conn_wants_write(conn))
		event.events |= EPOLLOUT;
	if (epoll_ctl(epoll_fd, operation, conn->fd, &event) != 0)
		ereport(ERROR, (errcode_for_socket_access(), errmsg("%s() failed: %m", "epoll_ctl")));
}

static Pending *
free_place(void)
{
	Pending *oldest = &pending[0];

	for (int i = 0; i < MAX_PENDING; i++)
	{
		if (pending[i].conn == NULL)
			return &pending[i];
		if (pending[i].since < oldest->since)
			oldest = &pending[i];
	}
	accept_log_refused(oldest->address, "too many unauthenticated connections");
	forget(oldest);
	return oldest;
}

static void
describe_peer(const SockAddr *addr, char *text, size_t size)
{
	char host[NI_MAXHOST];
	char service[NI_MAXSERV];

	if (pg_getnameinfo_all(&addr->addr, addr->salen, host, sizeof(host), service, sizeof(service),
						   NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		strlcpy(text, "[unknown]", size);
	else
		snprintf(text, size, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, service);
}

/* Take one connection from a listening socket; another worker may be faster. */
static void
take_connection(int listen_fd)
{
	SockAddr addr = {.salen = sizeof(addr.addr)};
	Pending *p;
	int fd;

	fd = accept4(listen_fd, (struct sockaddr *) &addr.addr, &addr.salen,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	p = free_place();
	p->conn = link_conn_create(fd);
	if (p->conn == NULL)
	{
		close(fd);
		return;
	}
	p->since = GetCurrentTimestamp();
	describe_peer(&addr, p->address, sizeof(p->address));
	link_tcp_set_options(fd, tandem_link_timeout);
	link_auth_server(p->conn, offer_lookup, NULL);
	watch(p->conn, EPOLL_CTL_ADD, p);
}

/* Go on with one authentication.  True when it is done. */
static bool
continue_authentication(Pending *p, TandemOffer *offer)
{
	int result = link_auth_step(p->conn);

	if (result == LINK_IO_AGAIN)
	{
		watch(p->conn, EPOLL_CTL_MOD, p);
		return false;
	}
	if (result == 1 && offer_take(p->conn->auth.id, offer))
		return true;

	/* Tell a peer of ours what was wrong; to anybody else it is noise. */
	if (result == LINK_IO_ERROR && !p->conn->auth.tls && p->conn->in.end > 0)
		handshake_refuse(p->conn, LINK_REASON_KEY, link_conn_error(p->conn), "");
	accept_log_refused(p->address,
					   result == 1 ? "its one-time key was used before" : link_conn_error(p->conn));
	forget(p);
	return false;
}

static void
drop_late(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < MAX_PENDING; i++)
	{
		if (pending[i].conn != NULL &&
			TimestampDifferenceExceeds(pending[i].since, now, DEADLINE_MS))
		{
			accept_log_refused(pending[i].address, "authentication took too long");
			forget(&pending[i]);
		}
	}
}

static bool
any_pending(void)
{
	for (int i = 0; i < MAX_PENDING; i++)
	{
		if (pending[i].conn != NULL)
			return true;
	}
	return false;
}

/* Look at everything that has happened; the authenticated connection or NULL. */
static LinkConn *
handle_events(TandemOffer *offer, char *address, size_t address_size)
{
	struct epoll_event events[MAX_EVENTS];
	int n = epoll_wait(epoll_fd, events, MAX_EVENTS, 0);

	for (int i = 0; i < n; i++)
	{
		Pending *p = events[i].data.ptr;

		if (events[i].data.u64 < (uint64) tandem_listen_count)
			take_connection(tandem_listen_fds[events[i].data.u64]);
		else if (p->conn != NULL && continue_authentication(p, offer))
		{
			LinkConn *conn = p->conn;

			p->conn = NULL;
			strlcpy(address, p->address, address_size);
			return conn;
		}
	}
	return NULL;
}

/*
 * Wait for a standby that proves the key of an offer; give its connection,
 * which the caller owns, with the offer and the peer's address.  NULL when
 * the worker is asked to stop.  ERROR only when the kernel refuses epoll.
 */
LinkConn *
accept_standby(TandemOffer *offer, char *address, size_t address_size)
{
	LinkConn *conn = NULL;
	WaitEventSet *set;

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		ereport(ERROR, (errcode_for_socket_access(), errmsg("%s() failed: %m", "epoll_create1")));
	for (int i = 0; i < tandem_listen_count; i++)
	{
		/* EPOLLEXCLUSIVE: one connection wakes one idle worker */
		struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.u64 = i};

		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, tandem_listen_fds[i], &event) != 0)
			ereport(ERROR, (errcode_for_socket_access(), errmsg("%s() failed: %m", "epoll_ctl")));
	}
	set = CreateWaitEventSet(TopMemoryContext, 3);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, epoll_fd, NULL, NULL);

	while (conn == NULL)
	{
		WaitEvent event;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ShutdownRequestPending)
			break;
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		conn = handle_events(offer, address, address_size);
		if (conn != NULL)
			break;
		drop_late();
		(void) WaitEventSetWait(set, any_pending() ? 100 : -1, &event, 1, PG_WAIT_EXTENSION);
	}

	for (int i = 0; i < MAX_PENDING; i++)
		forget(&pending[i]);
	FreeWaitEventSet(set);
	close(epoll_fd);
	epoll_fd = -1;
	return conn;
}
