/*-------------------------------------------------------------------------
 *
 * uplink.c
 *	  The standby's way to its primary: get an offer, open the link, reopen it.
 *
 * The link is opened again without ending the walreceiver: if that ended,
 * recovery would read pg_wal to its physical end, beyond the bound.  So this
 * is a state machine that never waits: receiver.c calls uplink_step() when
 * the descriptor is ready or the time has come.
 *
 *	RETRY	wait; then RESET if the PostgreSQL connection is lost, else ASK
 *	RESET	libpq connects again				-> IDENTIFY
 *	IDENTIFY	IDENTIFY_SYSTEM, as core does	-> ASK
 *	ASK		SHOW tandem.link_offer				-> CONNECT
 *	CONNECT	TCP to one address after the other	-> AUTH
 *	AUTH	prove the key						-> GREET
 *	GREET	HELLO sent, wait for WELCOME		-> OPEN
 *	OPEN	the link carries the stream			-> RETRY when it is lost
 *
 * Before anything is received the histories of incarnations are compared, and
 * what the primary has lost is discarded: durably, and before anything of the
 * new incarnation is acknowledged (rcvtail.c).
 *
 * What core's streaming would end with an error for is an error here, too.
 * While there is WAL beyond the bound it ends the attempt only: rcvtail.c.
 *
 *-------------------------------------------------------------------------
 */
#include "receiver.h"

#include <netdb.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "common/ip.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define OFFER_QUERY    "SHOW tandem.link_offer"
#define AUTH_TRIES     3
#define AUTH_MS        2000        /* to prove the key to each other */
#define FIRST_DELAY_MS 50          /* after the first, immediate attempt */
#define CHECK_BYTES    (64 * 1024) /* of WAL compared before the resume point */

typedef enum Phase
{
	PHASE_RETRY,
	PHASE_RESET,
	PHASE_IDENTIFY,
	PHASE_ASK,
	PHASE_CONNECT,
	PHASE_AUTH,
	PHASE_GREET,
	PHASE_OPEN
} Phase;

LinkConn *uplink_conn = NULL;
uint64 uplink_term;
TimeLineID uplink_timeline;

static Phase phase = PHASE_RETRY;
static PGconn *pq;
static char slot_name[NAMEDATALEN];
static RcvOffer offer;
static CopyFile copy;         /* which copy of the database we are (SAFETY.md rule 16) */
static TimestampTz deadline;  /* of the present phase */
static short reset_awaits;    /* PHASE_RESET: POLLIN or POLLOUT on libpq's socket */
static int delay_ms;          /* before the next attempt */
static int auth_failures;     /* one after the other */
static TimestampTz opened_at; /* when the link was opened last */
static bool disk_was_full;
static int epoll_fd = -1;
static struct addrinfo *address_list; /* of the address being tried */
static struct addrinfo *address_next;
static int address_index; /* in offer.addresses */
static char address_text[80];
static int connecting_fd = -1;
static char no_link_reason[256];
static char connect_error[256]; /* of the address tried last */
static uint64 instance_number;

/* ------------------------------------------------------------- descriptors */

int
uplink_fd(void)
{
	return epoll_fd;
}

/* A descriptor in the epoll set, and what it waits for. */
typedef struct Watch
{
	int fd; /* -1: none */
	uint32 events;
} Watch;

static Watch watched_pq = {.fd = -1};
static Watch watched_link = {.fd = -1};

/* To be called before the descriptor is closed: its number may come again. */
static void
unwatch(Watch *watch)
{
	if (watch->fd >= 0)
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->fd = -1;
}

static void
watch_fd(Watch *watch, int fd, uint32 events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	if (watch->fd == fd && watch->events == events)
		return;
	if (watch->fd != fd)
		unwatch(watch);
	if (fd < 0)
		return;
	if (epoll_ctl(epoll_fd, watch->fd == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0)
		ereport(ERROR, (errcode_for_socket_access(), errmsg("%s() failed: %m", "epoll_ctl")));
	watch->fd = fd;
	watch->events = events;
}

/* Watch what the present phase waits for. */
void
uplink_watch(void)
{
	uint32 link_events = EPOLLIN;
	int link_fd = -1;

	if (uplink_conn != NULL)
	{
		link_fd = uplink_conn->fd;
		if (link_conn_wants_write(uplink_conn))
			link_events |= EPOLLOUT;
	}
	else if (connecting_fd >= 0)
	{
		link_fd = connecting_fd;
		link_events = EPOLLOUT;
	}
	watch_fd(&watched_link, link_fd, link_events);
	if (phase != PHASE_RESET)
		watch_fd(&watched_pq,
				 phase != PHASE_RETRY && PQstatus(pq) == CONNECTION_OK ? PQsocket(pq) : -1,
				 EPOLLIN);
}

/* Milliseconds until uplink_step() wants to be called in any case. */
long
uplink_timeout(void)
{
	if (phase == PHASE_OPEN)
		return 1000;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
}

bool
uplink_is_open(void)
{
	return phase == PHASE_OPEN;
}

/* Why UPLINK_NO_LINK or UPLINK_NEW_TIMELINE. */
const char *
uplink_why_no_link(void)
{
	return no_link_reason;
}

/* ------------------------------------------------------------ going through */

static void
enter(Phase next, int timeout_ms)
{
	phase = next;
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
}

static bool
too_late(void)
{
	return GetCurrentTimestamp() >= deadline;
}

static void
drop_link(void)
{
	if (address_list != NULL)
		pg_freeaddrinfo_all(AF_UNSPEC, address_list);
	address_list = address_next = NULL;
	unwatch(&watched_link);
	if (connecting_fd >= 0)
		close(connecting_fd);
	connecting_fd = -1;
	rcvwal_settle(); /* what the next link is told is durable then */
	link_conn_destroy(uplink_conn);
	uplink_conn = NULL;
}

/*
 * The attempt, or the open link, is lost: try again, the first time at once,
 * then after growing delays up to tandem.reconnect_interval.
 */
static UplinkResult
retry(const char *why)
{
	drop_link();
	receiver_show(TANDEM_RCV_CONNECTING, why);
	enter(PHASE_RETRY, delay_ms);
	delay_ms = Min(Max(delay_ms * 2, FIRST_DELAY_MS), tandem_reconnect_interval);
	return UPLINK_WAIT;
}

/* As retry(), and the PostgreSQL connection is not to be trusted either. */
static UplinkResult
retry_all(const char *why)
{
	unwatch(&watched_pq);
	if (PQstatus(pq) == CONNECTION_OK)
		(void) PQresetStart(pq); /* closes it; the retry starts anew */
	return retry(why);
}

static UplinkResult
no_link(const char *why)
{
	if (!tandem_fallback && tandem_link)
		return retry(why);
	drop_link();
	strlcpy(no_link_reason, why, sizeof(no_link_reason));
	return UPLINK_NO_LINK;
}

/* There is no link, and nothing is known of the server's incarnations. */
static UplinkResult
no_offer(const char *why)
{
	UplinkResult result = no_link(why);

	if (result == UPLINK_NO_LINK)
		rcvwal_forget_tail();
	return result;
}

/*
 * Begin.  'connection' is core's libpq connection to the primary, idle.
 */
void
uplink_start(PGconn *connection, const char *slot)
{
	if (epoll_fd < 0)
	{
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (epoll_fd < 0)
			ereport(ERROR,
					(errcode_for_socket_access(), errmsg("%s() failed: %m", "epoll_create1")));
	}
	instance_number = tandem->instance;
	drop_link();
	SpinLockAcquire(&tandem->receiver.mutex);
	tandem->receiver.diverged = false; /* from whom this one streams is to be seen yet */
	SpinLockRelease(&tandem->receiver.mutex);
	pq = connection;
	strlcpy(slot_name, slot != NULL ? slot : "", sizeof(slot_name));
	disk_was_full = false;
	delay_ms = 0;
	receiver_show(TANDEM_RCV_CONNECTING, "");
	enter(PHASE_RETRY, 0);
}

/* The open link is lost. */
void
uplink_down(UplinkLoss loss, const char *why)
{
	char *reason = pstrdup(why); /* it may point into the connection */

	tandem_event("link", tandem_node_name, "down: %s", reason);
	disk_was_full = loss == UPLINK_LOST_DISK;
	if (disk_was_full)
		delay_ms = tandem_reconnect_interval;
	else if (TimestampDifferenceExceeds(opened_at, GetCurrentTimestamp(),
										tandem_reconnect_interval))
		delay_ms = 0; /* it was good: try again at once */
	if (loss == UPLINK_LOST_SILENT)
		(void) retry_all(reason); /* the same path carries the other connection */
	else
		(void) retry(reason);
	pfree(reason);
}

/* Begin again in a moment, because core could not stream either. */
void
uplink_again(PGconn *connection, const char *slot, const char *why)
{
	uplink_start(connection, slot);
	delay_ms = FIRST_DELAY_MS;
	(void) retry(why);
}

/*
 * Begin again after an error, with a new PostgreSQL connection: the address
 * may lead to another server by then.
 */
void
uplink_hold(const char *why)
{
	delay_ms = tandem_reconnect_interval;
	(void) retry_all(why);
}

/* Leave the link for good, or until uplink_start(). */
void
uplink_stop(void)
{
	drop_link();
	unwatch(&watched_pq);
	phase = PHASE_RETRY;
}

/* --------------------------------------------- RETRY, RESET, IDENTIFY, ASK */

static UplinkResult
ask(Phase answer, const char *query)
{
	if (PQsendQuery(pq, query) != 1)
		return retry_all(PQerrorMessage(pq));
	enter(answer, tandem_link_timeout);
	return UPLINK_STREAM; /* go on */
}

static UplinkResult
step_retry(void)
{
	char error[256];

	if (!too_late())
		return UPLINK_WAIT;
	if (disk_was_full && !rcvwal_has_room(error, sizeof(error)))
	{
		delay_ms = tandem_reconnect_interval;
		return retry(error);
	}
	disk_was_full = false;
	if (PQstatus(pq) == CONNECTION_OK)
		return ask(PHASE_ASK, OFFER_QUERY);
	unwatch(&watched_pq);
	if (PQresetStart(pq) != 1)
		return retry_all(PQerrorMessage(pq));
	reset_awaits = POLLOUT;
	watch_fd(&watched_pq, PQsocket(pq), EPOLLOUT);
	enter(PHASE_RESET, tandem_link_timeout);
	return UPLINK_STREAM;
}

/*
 * libpq must not be asked to go on before its socket is ready: it would take
 * a connection that is still being made for one that has been made, and wait
 * in a send() to it, for minutes if the primary's host is gone.
 */
static UplinkResult
step_reset(void)
{
	struct pollfd socket = {.fd = PQsocket(pq), .events = reset_awaits};

	if (socket.fd >= 0 && poll(&socket, 1, 0) == 0)
		return too_late() ? retry_all("the primary did not answer in time") : UPLINK_WAIT;
	unwatch(&watched_pq); /* libpq may replace the socket by one of the same number */
	switch (PQresetPoll(pq))
	{
		case PGRES_POLLING_OK:
			watch_fd(&watched_pq, PQsocket(pq), EPOLLIN);
			return ask(PHASE_IDENTIFY, "IDENTIFY_SYSTEM");
		case PGRES_POLLING_READING:
			reset_awaits = POLLIN;
			break;
		case PGRES_POLLING_WRITING:
			reset_awaits = POLLOUT;
			break;
		default:
			return retry_all(PQerrorMessage(pq));
	}
	if (too_late())
		return retry_all("the primary did not answer in time");
	watch_fd(&watched_pq, PQsocket(pq), reset_awaits == POLLIN ? EPOLLIN : EPOLLOUT);
	return UPLINK_WAIT;
}

/* ERROR if it is another database system. */
static void
check_system(uint64 identifier)
{
	if (identifier == GetSystemIdentifier())
		return;
	rcvtail_refused("the server belongs to another database system", false);
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("database system identifier differs between the primary and standby"),
					errdetail("The primary's identifier is " UINT64_FORMAT
							  ", the standby's identifier is " UINT64_FORMAT ".",
							  identifier, GetSystemIdentifier()),
					errhint("Check primary_conninfo, and where the address in it leads.")));
}

/* Act on the primary's answer. */
static UplinkResult
take_offer(const char *text)
{
	if (strcmp(text, "wait") == 0)
		return retry("the primary is not ready yet");
	if (strcmp(text, "standby") == 0)
	{
		/*
		 * Core's streaming knows nothing of incarnations: with WAL beyond the
		 * bound wait for a primary that can say what became of it.
		 */
		if (rcvtail_is_there())
			return retry_all("the server is a standby");
		return no_link("the server is a standby itself");
	}
	if (text[0] == '\0')
		return no_offer("the server gives no offer on this connection");
	if (!rcvoffer_parse(text, &offer))
		return no_offer("the primary's offer is not understood");
	check_system(offer.system_identifier);
	if (offer.history.entry[offer.history.count - 1].term < lease_floor())
		return retry_all("the primary's term is over");
	if (!copy_file_read(DataDir, &copy))
		return retry(psprintf("could not read which copy of the database this is: %m"));
	if (copy.rebuilding)
		return retry("this copy of the database is being rebuilt");
	rcvtail_follow(&offer.history);
	uplink_timeline = offer.timeline;
	if (offer.timeline != rcvwal.timeline)
	{
		/* core ends the old timeline and begins the new one, whatever is set */
		drop_link();
		snprintf(no_link_reason, sizeof(no_link_reason),
				 "the primary is on timeline %u, this standby still on %u", offer.timeline,
				 rcvwal.timeline);
		return UPLINK_NEW_TIMELINE;
	}
	if (!tandem_link)
		return no_link("tandem.link is off");
	if (offer.proto != LINK_VERSION)
		return no_link(psprintf("the primary speaks link protocol version %u, this node speaks %d",
								offer.proto, LINK_VERSION));
	if (offer.addresses[0] == '\0')
		return no_link("the primary does not listen for links");
	address_index = 0;
	if (offer.full)
		return no_link(psprintf("all %d links are in use", offer.full));
	enter(PHASE_CONNECT, tandem_link_timeout);
	return UPLINK_STREAM;
}

/*
 * The answer to a query: one row, of which the first value is left in *text.
 * UPLINK_STREAM if there is one; or, with *unknown set, if what was asked for is
 * not known there (unknown NULL: any error is the connection's).
 */
static UplinkResult
take_answer(char **text, bool *unknown)
{
	PGresult *answer;
	const char *state;
	bool good;

	if (PQconsumeInput(pq) != 1)
		return retry_all(PQerrorMessage(pq));
	if (PQisBusy(pq))
		return too_late() ? retry_all("the primary did not answer in time") : UPLINK_WAIT;
	answer = PQgetResult(pq);
	state = PQresultErrorField(answer, PG_DIAG_SQLSTATE);
	good = PQresultStatus(answer) == PGRES_TUPLES_OK && PQntuples(answer) == 1;
	*text = pstrdup(good ? PQgetvalue(answer, 0, 0) : PQerrorMessage(pq));
	if (unknown != NULL)
	{
		*unknown = !good && state != NULL && strcmp(state, "42704") == 0;
		good |= *unknown;
	}
	do
		PQclear(answer);
	while ((answer = PQgetResult(pq)) != NULL);
	return good ? UPLINK_STREAM : retry_all(*text);
}

/*
 * The connection is another one, and may lead to another server.  A server
 * without pg_tandem is asked nothing else before core streams from it.
 */
static UplinkResult
step_identify(void)
{
	char *text;
	UplinkResult result = take_answer(&text, NULL);

	if (result != UPLINK_STREAM)
		return result;
	check_system(strtou64(text, NULL, 10));
	return ask(PHASE_ASK, OFFER_QUERY);
}

static UplinkResult
step_ask(void)
{
	bool unknown;
	char *text;
	UplinkResult result = take_answer(&text, &unknown);

	if (result != UPLINK_STREAM)
		return result;
	if (unknown)
		return no_offer("the primary has no pg_tandem");
	result = take_offer(text);
	explicit_bzero(text, strlen(text));
	pfree(text);
	return result;
}

/* ------------------------------------------------------ CONNECT, AUTH, GREET */

/*
 * The next address to try: the next result for the present name, or the first
 * one for the next name of the offer.
 */
static struct addrinfo *
next_address(void)
{
	struct addrinfo hint = {.ai_socktype = SOCK_STREAM};

	while (address_next == NULL)
	{
		char copy[sizeof(offer.addresses)];
		char service[16];
		char *word;
		char *save;
		char *host;
		int port;

		if (address_list != NULL)
			pg_freeaddrinfo_all(AF_UNSPEC, address_list);
		address_list = NULL;
		strlcpy(copy, offer.addresses, sizeof(copy));
		word = strtok_r(copy, ",", &save);
		for (int i = 0; i < address_index && word != NULL; i++)
			word = strtok_r(NULL, ",", &save);
		if (word == NULL)
			return NULL;
		address_index++;
		strlcpy(address_text, word, sizeof(address_text));
		if (!tandem_parse_address(word, tandem_port, &host, &port))
			continue;
		snprintf(service, sizeof(service), "%d", port);
		if (pg_getaddrinfo_all(host, service, &hint, &address_list) != 0)
			address_list = NULL;
		address_next = address_list;
	}
	return address_next;
}

static UplinkResult
step_connect(void)
{
	for (;;)
	{
		struct addrinfo *to;
		int result;

		if (connecting_fd >= 0)
		{
			result = link_tcp_connect_finished(connecting_fd);
			if (result == LINK_IO_AGAIN && !too_late())
				return UPLINK_WAIT;
			if (result == 1)
				break;
			snprintf(connect_error, sizeof(connect_error), "could not connect to %s: %s",
					 address_text, result == LINK_IO_AGAIN ? "no answer in time" : strerror(errno));
			unwatch(&watched_link);
			close(connecting_fd);
			connecting_fd = -1;
			enter(PHASE_CONNECT, tandem_link_timeout);
		}
		to = next_address();
		if (to == NULL)
			return no_link(connect_error);
		address_next = to->ai_next;
		connecting_fd = link_tcp_connect(to->ai_addr, to->ai_addrlen);
		if (connecting_fd < 0)
			snprintf(connect_error, sizeof(connect_error), "could not connect to %s: %s",
					 address_text, strerror(errno));
	}
	link_tcp_set_options(connecting_fd, tandem_link_timeout);
	uplink_conn = link_conn_create(connecting_fd);
	if (uplink_conn == NULL)
		return no_link("out of memory");
	connecting_fd = -1;
	link_auth_client(uplink_conn, offer.id, offer.key, offer.tls);
	enter(PHASE_AUTH, Min(tandem_link_timeout, AUTH_MS));
	return UPLINK_STREAM;
}

static bool
send_hello(void)
{
	LinkHello *hello = palloc0(sizeof(LinkHello));
	LinkHeader header = {.type = LINK_HELLO, .flags = LINK_FLAG_LZ4 | LINK_FLAG_ZSTD};
	uint8_t *payload = palloc(LINK_HELLO_MAX);
	TimeLineID replay_timeline;
	XLogRecPtr replayed = GetXLogReplayRecPtr(&replay_timeline);
	bool sent;

	hello->system_identifier = GetSystemIdentifier();
	hello->timeline = rcvwal.timeline;
	hello->timeline_crc = incarnation_timeline_crc(rcvwal.timeline);
	hello->start = rcvwal.durable;
	hello->instance = instance_number;
	hello->copy = copy.id;
	hello->floor = lease_floor();
	strlcpy(hello->node_name, tandem_node_name, sizeof(hello->node_name));
	strlcpy(hello->slot_name, slot_name, sizeof(hello->slot_name));
	hello->history = offer.history;

	/* the end of what we hold, if it is on this timeline and in pg_wal */
	hello->check_to = rcvwal.durable;
	if (replay_timeline == rcvwal.timeline)
		hello->check_to = Max(hello->check_to, replayed);
	if (hello->check_to > 0)
	{
		XLogRecPtr last = hello->check_to - 1;
		XLogRecPtr segment = last - XLogSegmentOffset(last, wal_segment_size);

		hello->check_from = Max(segment, hello->check_to - Min(hello->check_to, CHECK_BYTES));
	}
	if (!walfile_crc(rcvwal.timeline, hello->check_from, hello->check_to, &hello->check_crc))
		hello->check_from = hello->check_to = 0;

	header.term = offer.history.entry[offer.history.count - 1].term;
	header.lsn = hello->start;
	header.time = GetCurrentTimestamp();
	sent = link_frame_put(uplink_conn, &header, payload, link_hello_encode(hello, payload));
	pfree(payload);
	pfree(hello);
	return sent;
}

static UplinkResult
step_auth(void)
{
	int result = link_auth_step(uplink_conn);

	if (result == LINK_IO_AGAIN && !too_late())
		return UPLINK_WAIT;
	if (result == LINK_IO_AGAIN)
	{
		/* something is there but does not speak; another address may */
		unwatch(&watched_link);
		link_conn_destroy(uplink_conn);
		uplink_conn = NULL;
		snprintf(connect_error, sizeof(connect_error), "no answer from %s", address_text);
		enter(PHASE_CONNECT, tandem_link_timeout);
		return UPLINK_STREAM;
	}
	if (result != 1)
	{
		/*
		 * The primary may have been about to serve another standby.  But when
		 * it happens again and again, somebody else is there.
		 */
		char *why = pstrdup(link_conn_error(uplink_conn));

		tandem_clean_text(why);
		if (++auth_failures < AUTH_TRIES)
			return retry(why);
		auth_failures = 0;
		return no_link(why);
	}
	explicit_bzero(offer.key, sizeof(offer.key));
	if (!send_hello() || link_flush(uplink_conn) < 0)
		return retry("could not greet the primary");
	enter(PHASE_GREET, tandem_link_timeout);
	return UPLINK_STREAM;
}

static bool
has_archive(void)
{
	return recoveryRestoreCommand != NULL && recoveryRestoreCommand[0] != '\0';
}

/*
 * The primary refuses us.  Some reasons pass by themselves; the others end
 * streaming with an error, as core's streaming would.
 */
UplinkResult
uplink_refused(const LinkNotice *notice)
{
	switch (notice->reason)
	{
		case LINK_REASON_SYSTEM:
		case LINK_REASON_TIMELINE:
		case LINK_REASON_DIVERGED:
		case LINK_REASON_WAL_REMOVED:
			/*
			 * What was removed is behind all that we hold, so the primary has
			 * flushed that: nothing is beyond the bound.  It may still be in
			 * an archive.
			 */
			if (notice->reason == LINK_REASON_WAL_REMOVED)
				rcvwal.bound = Max(rcvwal.bound, rcvwal.durable);
			rcvtail_refused(notice->message,
							notice->reason == LINK_REASON_TIMELINE ||
								notice->reason == LINK_REASON_DIVERGED ||
								(notice->reason == LINK_REASON_WAL_REMOVED && !has_archive()));
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
							errmsg("the primary refused the link: %s", notice->message),
							notice->hint[0] != '\0' ? errhint("%s", notice->hint) : 0));
			break;
		case LINK_REASON_VERSION:
			return no_link(notice->message);
		default:
			break;
	}
	(void) tandem_event_repeated("link", tandem_node_name, "refused by the primary: %s%s%s",
								 notice->message, notice->hint[0] != '\0' ? "; hint: " : "",
								 notice->hint);
	return retry(psprintf("the primary refused the link: %s", notice->message));
}

static UplinkResult
opened(const LinkHeader *header, const LinkWelcome *welcome)
{
	const LinkIncarnation *last = &offer.history.entry[offer.history.count - 1];
	TandemReceiver *show = &tandem->receiver;

	if (header->term != last->term || welcome->incarnation != last->incarnation ||
		header->lsn != rcvwal.durable)
		return retry("the primary's answer does not fit its offer");
	if (!link_conn_compress(uplink_conn, link_compression_of_flags(header->flags), false, 0))
		return retry("out of memory");
	uplink_term = header->term;
	rcvwal.written = rcvwal.begun = rcvwal.durable; /* what was not durable comes again */
	opened_at = GetCurrentTimestamp();
	auth_failures = 0;
	SpinLockAcquire(&show->mutex);
	strlcpy(show->primary_name, welcome->node_name, sizeof(show->primary_name));
	strlcpy(show->address, address_text, sizeof(show->address));
	show->encrypted = uplink_conn->transport->encrypted;
	show->connects++;
	SpinLockRelease(&show->mutex);
	receiver_show(TANDEM_RCV_STREAMING, "");
	tandem_event("link", tandem_node_name, "up: %s%s to \"%s\" at %s, from %X/%X",
				 uplink_conn->transport->name, uplink_conn->transport->encrypted ? " with TLS" : "",
				 welcome->node_name, address_text, LSN_FORMAT_ARGS(rcvwal.durable));
	enter(PHASE_OPEN, 0);
	return UPLINK_STREAM;
}

static UplinkResult
step_greet(void)
{
	LinkHeader header;
	const uint8_t *payload;
	LinkDecode decode;
	int flushed = link_flush(uplink_conn);
	ssize_t n = 1;

	if (flushed < 0)
		return retry(pstrdup(link_conn_error(uplink_conn)));
	while ((decode = link_next(uplink_conn, &header, &payload)) == LINK_DECODE_MORE && n > 0)
		n = link_fill(uplink_conn);
	if (decode == LINK_DECODE_OK && header.type == LINK_REFUSE)
	{
		LinkNotice *notice = palloc(sizeof(LinkNotice));

		if (link_notice_decode(payload, header.length, notice))
		{
			tandem_clean_text(notice->message);
			tandem_clean_text(notice->hint);
			return uplink_refused(notice);
		}
	}
	if (decode == LINK_DECODE_OK && header.type == LINK_WELCOME)
	{
		LinkWelcome welcome;

		if (link_welcome_decode(payload, header.length, &welcome))
			return opened(&header, &welcome);
	}
	if (decode != LINK_DECODE_MORE)
		return retry("the primary's greeting is not understood");
	if (n < 0)
		return retry(pstrdup(link_conn_error(uplink_conn)));
	if (too_late())
		return no_link("the primary did not greet in time");
	return UPLINK_WAIT;
}

/* ------------------------------------------------------------------- steps */

/*
 * The PostgreSQL connection stands for our authentication; when it is lost,
 * the primary ends the link, and so do we.
 */
static UplinkResult
step_open(void)
{
	if (PQconsumeInput(pq) != 1 || PQstatus(pq) != CONNECTION_OK)
	{
		tandem_event("link", tandem_node_name, "down: the PostgreSQL connection is lost");
		return retry_all("the PostgreSQL connection to the primary is lost");
	}
	return UPLINK_STREAM;
}

/*
 * Go on as far as possible without waiting.  ERROR where core's streaming
 * would end with one.
 */
UplinkResult
uplink_step(void)
{
	for (;;)
	{
		Phase before = phase;
		UplinkResult result = UPLINK_WAIT;

		switch (phase)
		{
			case PHASE_RETRY:
				result = step_retry();
				break;
			case PHASE_RESET:
				result = step_reset();
				break;
			case PHASE_IDENTIFY:
				result = step_identify();
				break;
			case PHASE_ASK:
				result = step_ask();
				break;
			case PHASE_CONNECT:
				result = step_connect();
				break;
			case PHASE_AUTH:
				result = step_auth();
				break;
			case PHASE_GREET:
				result = step_greet();
				break;
			case PHASE_OPEN:
				result = step_open();
				break;
		}
		if (result == UPLINK_STREAM && before != PHASE_OPEN)
			continue;
		if (result == UPLINK_WAIT && phase == PHASE_RETRY && before != PHASE_RETRY && too_late())
			continue;
		uplink_watch();
		return result;
	}
}

/*
 * While core streams because the link could not be had: does the link's port
 * answer now?  Starts a connection attempt, or looks at the one under way;
 * true when it has succeeded (it is closed again).
 */
bool
uplink_probe(void)
{
	int result;

	if (connecting_fd < 0)
	{
		struct addrinfo *to;

		address_index = 0;
		to = next_address();
		if (to == NULL)
			return false;
		connecting_fd = link_tcp_connect(to->ai_addr, to->ai_addrlen);
		address_next = NULL;
		if (connecting_fd < 0)
			return false;
	}
	result = link_tcp_connect_finished(connecting_fd);
	if (result == LINK_IO_AGAIN)
		return false;
	close(connecting_fd);
	connecting_fd = -1;
	return result == 1;
}

/* Is an attempt of uplink_probe() under way? */
bool
uplink_probing(void)
{
	return connecting_fd >= 0;
}
