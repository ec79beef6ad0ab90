/*-------------------------------------------------------------------------
 *
 * handshake.c
 *	  The primary's side of the handshake: may this standby have the stream?
 *
 * The standby has proved its key.  Its HELLO says which database system it
 * is, where it stands, and what it holds; every check that fails is answered
 * with LINK_REFUSE, which says what is wrong and what to do.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define SEED_HINT "Seed the standby again with pg_basebackup, or use pg_rewind."

/*
 * Tell the peer why it is refused, as far as that can be done without
 * waiting: the connection is closed next.
 */
void
handshake_refuse(LinkConn *conn, LinkReason reason, const char *message, const char *hint)
{
	LinkNotice notice = {.reason = reason};
	LinkHeader header = {.type = LINK_REFUSE};
	uint8_t payload[LINK_NOTICE_MAX];

	strlcpy(notice.message, message, sizeof(notice.message));
	strlcpy(notice.hint, hint, sizeof(notice.hint));
	if (link_frame_put(conn, &header, payload, link_notice_encode(&notice, payload)))
		(void) link_flush(conn);
}

/* Wait for the HELLO frame, at most the link's timeout.  False: none came. */
static bool
receive_hello(LinkConn *conn, LinkHello *hello, LinkHeader *header, const char **why)
{
	TimestampTz start = GetCurrentTimestamp();

	for (;;)
	{
		const uint8_t *payload;
		LinkDecode decode = link_next(conn, header, &payload);
		ssize_t n;
		int rc;

		if (decode == LINK_DECODE_OK)
		{
			*why = "unexpected frame instead of a greeting";
			if (header->type != LINK_HELLO)
				return false;
			*why = "malformed greeting";
			return link_hello_decode(payload, header->length, hello);
		}
		*why = link_decode_text(decode);
		if (decode == LINK_DECODE_BAD_VERSION)
			*why = psprintf("protocol version %u is not supported; this node speaks version %d",
							header->version, LINK_VERSION);
		if (decode != LINK_DECODE_MORE)
			return false;
		n = link_fill(conn);
		if (n > 0)
			continue;
		*why = link_conn_error(conn);
		if (n < 0)
			return false;
		*why = "the greeting took too long";
		if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), tandem_link_timeout))
			return false;
		rc = WaitLatchOrSocket(MyLatch,
							   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH |
								   WL_SOCKET_READABLE |
								   (link_conn_wants_write(conn) ? WL_SOCKET_WRITEABLE : 0),
							   conn->fd, 100, PG_WAIT_EXTENSION);
		if (rc & WL_LATCH_SET)
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		*why = "this server is shutting down";
		if (ShutdownRequestPending)
			return false;
	}
}

/*
 * The entry for a standby's name: its own from before, an unused one, or the
 * one that has been down for longest.  NULL if it cannot be had now (*in_use):
 * the name is in use by another live link, or the term is about to change; or
 * if all entries are in use.  On success it is ours (pid).
 */
static TandemLink *
claim_link(const LinkHello *hello, bool *in_use)
{
	TandemLink *found = NULL;

	*in_use = false;
	LWLockAcquire(tandem->link_lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&tandem->watchdog.reterm) != 0)
	{
		LWLockRelease(tandem->link_lock);
		*in_use = true;
		return NULL;
	}
	for (int i = 0; i < tandem_max_links; i++)
	{
		TandemLink *link = &tandem->links[i];

		if (strcmp(link->name, hello->node_name) == 0)
		{
			found = link;
			break;
		}
		if (link->pid != 0)
			continue;
		if (found == NULL ||
			(found->name[0] != '\0' && (link->name[0] == '\0' || link->since < found->since)))
			found = link;
	}
	if (found != NULL && found->pid != 0)
	{
		/*
		 * The same standby again: what was cut is not known to be so here yet.
		 * Let its old worker end; the standby comes back in a moment.
		 */
		if (found->instance == hello->instance)
		{
			found->superseded = true;
			link_wake_worker(found);
		}
		*in_use = true;
		found = NULL;
	}
	if (found != NULL)
	{
		bool same = strcmp(found->name, hello->node_name) == 0;

		SpinLockAcquire(&found->mutex);
		if (!same)
		{
			/* all but the mutex, which is held */
			memset((char *) found + offsetof(TandemLink, name), 0,
				   sizeof(*found) - offsetof(TandemLink, name));
			strlcpy(found->name, hello->node_name, sizeof(found->name));
		}
		found->pid = MyProcPid;
		found->instance = hello->instance;
		found->copy = hello->copy;
		found->session = ++tandem->sessions;
		found->superseded = false;
		SpinLockRelease(&found->mutex);
	}
	LWLockRelease(tandem->link_lock);
	return found;
}

/* A check failed: which one, and the two texts. */
typedef struct Refusal
{
	LinkReason reason;
	const char *message;
	const char *hint;
} Refusal;

static bool
refuse(Refusal *refusal, LinkReason reason, const char *message, const char *hint)
{
	refusal->reason = reason;
	refusal->message = message;
	refusal->hint = hint;
	return false;
}

/* Is it the same database, on the same timeline, of this incarnation? */
static bool
check_identity(const LinkHello *hello, Refusal *refusal)
{
	LinkHistory *history;
	TimeLineID tli;
	uint64 term;
	bool equal;

	(void) GetFlushRecPtr(&tli);
	if (hello->system_identifier != GetSystemIdentifier())
		return refuse(refusal, LINK_REASON_SYSTEM,
					  psprintf("database system identifier differs: the primary's is " UINT64_FORMAT
							   ", the standby's is " UINT64_FORMAT,
							   GetSystemIdentifier(), hello->system_identifier),
					  "Seed the standby from this primary with pg_basebackup.");
	if (hello->timeline != tli)
		return refuse(refusal, LINK_REASON_NOT_PRIMARY,
					  psprintf("timeline differs: the primary's is %u, the standby's is %u", tli,
							   hello->timeline),
					  "");
	if (hello->timeline_crc != incarnation_timeline_crc(tli))
		return refuse(refusal, LINK_REASON_TIMELINE,
					  psprintf("timeline %u has another history on the standby", tli), SEED_HINT);

	if (!incarnation_ready())
		return refuse(refusal, LINK_REASON_NOT_PRIMARY, "the primary's term is about to change",
					  "");
	history = palloc(sizeof(LinkHistory));
	incarnation_copy(history);
	equal = incarnation_equal(history, &hello->history);
	term = history->entry[history->count - 1].term;
	pfree(history);
	if (term < hello->floor)
		return refuse(refusal, LINK_REASON_TERM,
					  psprintf("the primary's term " UINT64_FORMAT
							   " is over: the standby takes WAL from term " UINT64_FORMAT " on",
							   term, hello->floor),
					  "");
	if (!equal)
		return refuse(refusal, LINK_REASON_NOT_PRIMARY,
					  "the standby's incarnation history is not this primary's", "");
	return true;
}

/* Is what it holds what we hold, as far as that can be seen? */
static bool
check_wal(const LinkHello *hello, Refusal *refusal)
{
	XLogRecPtr held = Max(hello->start, hello->check_to);
	XLogRecPtr end;
	XLogRecPtr flushed;
	uint32 crc;

	capture_begin_session();
	(void) capture_sendable(&end, &flushed);
	if (held > end && held <= GetXLogInsertRecPtr())
		/* sent at the write, by a walk that has ended: it can be compared when it is flushed */
		return refuse(
			refusal, LINK_REASON_OTHER,
			psprintf("the standby holds WAL up to %X/%X, of which the primary has flushed "
					 "no more than %X/%X yet",
					 LSN_FORMAT_ARGS(held), LSN_FORMAT_ARGS(flushed)),
			"");
	if (held > end)
		return refuse(refusal, LINK_REASON_DIVERGED,
					  psprintf("the standby holds WAL up to %X/%X, which is beyond the primary's "
							   "end at %X/%X",
							   LSN_FORMAT_ARGS(held), LSN_FORMAT_ARGS(end)),
					  SEED_HINT);
	if (hello->check_to - hello->check_from > (uint64) wal_segment_size)
		return refuse(refusal, LINK_REASON_PROTOCOL, "malformed greeting", "");
	if (hello->check_to > hello->check_from &&
		walfile_crc(hello->timeline, hello->check_from, hello->check_to, &crc) &&
		crc != hello->check_crc)
		return refuse(refusal, LINK_REASON_DIVERGED,
					  psprintf("the standby's WAL between %X/%X and %X/%X differs from the "
							   "primary's",
							   LSN_FORMAT_ARGS(hello->check_from),
							   LSN_FORMAT_ARGS(hello->check_to)),
					  SEED_HINT);
	return true;
}

/*
 * Tell the standby that the stream starts at hello->start, with this bound and
 * (in 'flags') this compression.  False if the connection is lost.
 */
bool
handshake_welcome(LinkConn *conn, const LinkHello *hello, XLogRecPtr bound, uint16 flags)
{
	LinkIncarnation current;
	LinkWelcome welcome;
	LinkHeader header = {.type = LINK_WELCOME};
	uint8_t payload[sizeof(welcome)];

	incarnation_current(&current);
	welcome.incarnation = current.incarnation;
	strlcpy(welcome.node_name, tandem_node_name, sizeof(welcome.node_name));
	header.term = current.term;
	header.lsn = hello->start;
	header.bound = bound;
	header.flags = flags;
	header.time = GetCurrentTimestamp();
	return link_frame_put(conn, &header, payload, link_welcome_encode(&welcome, payload)) &&
		   link_flush(conn) >= 0;
}

/*
 * Run the handshake with an authenticated standby.  On success its link entry
 * is the caller's (who gives it back), and *hello and *flags are what it said; NULL means
 * that it was refused and told why.  Waits for at most the link's timeout.
 */
TandemLink *
handshake_primary(LinkConn *conn, const TandemOffer *offer, const char *address, LinkHello *hello,
				  uint16 *flags)
{
	LinkHeader header = {.version = LINK_VERSION};
	Refusal refusal = {0};
	TandemLink *link = NULL;
	const char *why;

	if (!receive_hello(conn, hello, &header, &why))
	{
		handshake_refuse(
			conn, header.version != LINK_VERSION ? LINK_REASON_VERSION : LINK_REASON_PROTOCOL, why,
			"");
		accept_log_refused(address, why);
		return NULL;
	}
	if (hello->node_name[0] != '\0' && !tandem_name_is_good(hello->node_name))
	{
		handshake_refuse(conn, LINK_REASON_PROTOCOL, "malformed node name", "");
		accept_log_refused(address, "malformed node name");
		return NULL;
	}
	if (hello->slot_name[0] != '\0' && !ReplicationSlotValidateName(hello->slot_name, DEBUG2))
		(void) refuse(&refusal, LINK_REASON_SLOT, "malformed replication slot name",
					  "See primary_slot_name on the standby.");
	else if (hello->node_name[0] == '\0')
		(void) refuse(&refusal, LINK_REASON_PROTOCOL, "the standby has no node name", "");
	else if (check_identity(hello, &refusal) && check_wal(hello, &refusal))
	{
		bool in_use;

		link = claim_link(hello, &in_use);
		if (link == NULL && in_use && pg_atomic_read_u32(&tandem->watchdog.reterm) != 0)
			(void) refuse(&refusal, LINK_REASON_NOT_PRIMARY,
						  "the primary's term is about to change", "");
		else if (link == NULL && in_use)
			(void) refuse(&refusal, LINK_REASON_NAME,
						  psprintf("node name \"%s\" is in use by another link", hello->node_name),
						  "Give every node its own tandem.node_name.");
		else if (link == NULL)
			(void) refuse(&refusal, LINK_REASON_NAME,
						  psprintf("all %d links are in use", tandem_max_links),
						  "Raise tandem.max_links on the primary.");
	}
	if (link == NULL)
	{
		const char *port = strrchr(address, ':');

		handshake_refuse(conn, refusal.reason, refusal.message, refusal.hint);
		/* the port is another one each time */
		(void) tandem_event_repeated("link", hello->node_name, "refused %.*s: %s",
									 port != NULL ? (int) (port - address) : -1, address,
									 refusal.message);
		return NULL;
	}

	*flags = header.flags;
	SpinLockAcquire(&link->mutex);
	strlcpy(link->address, address, sizeof(link->address));
	strlcpy(link->slot_name, hello->slot_name, sizeof(link->slot_name));
	link->encrypted = conn->transport->encrypted;
	link->walsnd = offer->walsnd;
	link->walsender_pid = offer->pid;
	link->async = tandem_is_async(hello->node_name);
	link->sent = hello->start;
	link->written = link->flushed = link->replayed = InvalidXLogRecPtr;
	link->write_lag = link->flush_lag = link->replay_lag = link->round_trip = -1;
	link->connects++;
	link->since = link->last_reply = GetCurrentTimestamp();
	link->state = TANDEM_LINK_CATCHING_UP;
	SpinLockRelease(&link->mutex);
	return link;
}
