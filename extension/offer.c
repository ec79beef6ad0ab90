/*-------------------------------------------------------------------------
 *
 * offer.c
 *	  How a standby learns where the link is, and gets its one-time key.
 *
 * A standby that has been admitted by PostgreSQL itself (pg_hba.conf, SCRAM,
 * TLS, the REPLICATION attribute) asks on that connection: SHOW
 * tandem.link_offer.  The show hook answers in a walsender on a primary only,
 * with space-separated key=value pairs:
 *
 *	proto	version of the link's protocol
 *	id, key	name of the offer and its one-time key, hexadecimal
 *	tls		1: the link is encrypted
 *	full	all links are in use, this many (tandem.max_links); else absent
 *	addr	where to connect, comma-separated host:port; may be absent: no link
 *	tli		the primary's timeline
 *	sys		its system identifier
 *	hist	its incarnations, oldest first: term.incarnation.timeline.start.nonce,...
 *
 * or the word "standby" (not a primary: stream from it as core does) or
 * "wait" (a primary that is not ready yet).
 *
 * The walsender then idles while the link carries the stream.  It must not be
 * ended for that, and must notice when its standby's host is gone.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <netdb.h>

#include "access/xlog.h"
#include "common/ip.h"
#include "common/string.h"
#include "lib/stringinfo.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#define SILENT_MS 2500

/*
 * Keep this walsender alive while it has nothing to do, and no longer than
 * its peer is there: kernel keepalives instead of idle_session_timeout.
 */
static void
prepare_idle_walsender(void)
{
	static bool done = false;
	char seconds[16];

	if (done)
		return;
	done = true;
	snprintf(seconds, sizeof(seconds), "%d", Max(tandem_link_timeout / 1000, 1));
	SetConfigOption("idle_session_timeout", "0", PGC_USERSET, PGC_S_SESSION);
	if (MyProcPort != NULL && MyProcPort->laddr.addr.ss_family != AF_UNIX)
	{
		SetConfigOption("tcp_keepalives_idle", seconds, PGC_USERSET, PGC_S_SESSION);
		SetConfigOption("tcp_keepalives_interval", "1", PGC_USERSET, PGC_S_SESSION);
		SetConfigOption("tcp_keepalives_count", seconds, PGC_USERSET, PGC_S_SESSION);
	}
}

static void
append_address(StringInfo text, const char *host, int port)
{
	if (strchr(host, ':') != NULL)
		appendStringInfo(text, "[%s]:%d", host, port);
	else
		appendStringInfo(text, "%s:%d", host, port);
}

/* tandem.link_addresses, each with a port. */
static void
append_told_addresses(StringInfo text)
{
	char *copy = pstrdup(tandem_link_addresses);
	List *list;
	ListCell *cell;
	const char *comma = "";

	if (SplitGUCList(copy, ',', &list))
	{
		foreach (cell, list)
		{
			char *host;
			int port;

			if (!tandem_parse_address(lfirst(cell), tandem_port, &host, &port))
				continue;
			appendStringInfoString(text, comma);
			append_address(text, host, port);
			comma = ",";
		}
		list_free(list);
	}
	pfree(copy);
}

/*
 * The address that the standby's own connection reached.  Over a Unix socket
 * it is on this host, where a socket of ours that is bound to every address
 * answers on the loopback one.
 */
static void
append_reached_address(StringInfo text)
{
	SockAddr address = {.salen = sizeof(address.addr)};
	char host[NI_MAXHOST];

	if (MyProcPort != NULL && MyProcPort->laddr.addr.ss_family != AF_UNIX)
		address = MyProcPort->laddr;
	else if (getsockname(tandem_listen_fds[0], (struct sockaddr *) &address.addr, &address.salen) !=
			 0)
		return;
	if (pg_getnameinfo_all(&address.addr, address.salen, host, sizeof(host), NULL, 0,
						   NI_NUMERICHOST) != 0)
		return;
	if (strcmp(host, "0.0.0.0") == 0)
		strlcpy(host, "127.0.0.1", sizeof(host));
	else if (strcmp(host, "::") == 0)
		strlcpy(host, "::1", sizeof(host));
	append_address(text, host, tandem_port);
}

/*
 * Put a new offer into shared memory.  This walsender's earlier offers are
 * dropped; when the table is full the oldest goes.
 */
static void
make_offer(TandemOffer *offer)
{
	int victim = 0;

	if (!pg_strong_random(&offer->id, sizeof(offer->id)) ||
		!pg_strong_random(offer->key, sizeof(offer->key)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes")));
	offer->id |= 1; /* never 0 */
	offer->usable = true;
	offer->lent = false;
	offer->tls = tandem_tls;
	offer->walsnd = MyWalSnd - WalSndCtl->walsnds;
	offer->pid = MyProcPid;
	offer->made = GetCurrentTimestamp();

	SpinLockAcquire(&tandem->offer_mutex);
	for (int i = 0; i < TANDEM_MAX_OFFERS; i++)
	{
		TandemOffer *slot = &tandem->offers[i];

		if (slot->id != 0 && (slot->pid == MyProcPid || slot->walsnd == offer->walsnd))
			slot->id = 0;
		if (tandem->offers[victim].id != 0 &&
			(slot->id == 0 || slot->made < tandem->offers[victim].made))
			victim = i;
	}
	tandem->offers[victim] = *offer;
	SpinLockRelease(&tandem->offer_mutex);
}

/*
 * Does every link worker serve a standby?  One that has not been heard for
 * two keepalives does not count: it may be the asking one's old link.
 */
static bool
all_links_in_use(void)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < tandem_max_links; i++)
	{
		TandemLink *link = &tandem->links[i];
		bool busy;

		SpinLockAcquire(&link->mutex);
		busy = link->pid != 0 && !TimestampDifferenceExceeds(link->last_reply, now, SILENT_MS);
		SpinLockRelease(&link->mutex);
		if (!busy)
			return false;
	}
	return true;
}

/* Show hook of tandem.link_offer. */
const char *
offer_show(void)
{
	static char *answer = NULL;
	StringInfoData text;
	LinkHistory *history;
	TandemOffer offer;
	TimeLineID tli;

	if (tandem == NULL || !am_walsender || MyWalSnd == NULL || MyDatabaseId != InvalidOid)
		return "";
	/* on the way to a new timeline (hostcrash.c) this is no standby to follow */
	if (RecoveryInProgress())
		return tandem->new_timeline ? "wait" : "standby";
	if (!incarnation_ready())
		return "wait";

	prepare_idle_walsender();
	make_offer(&offer);

	initStringInfo(&text);
	(void) GetFlushRecPtr(&tli);
	appendStringInfo(&text, "proto=%d id=%016" INT64_MODIFIER "x key=", LINK_VERSION, offer.id);
	for (int i = 0; i < LINK_KEY_SIZE; i++)
		appendStringInfo(&text, "%02x", offer.key[i]);
	appendStringInfo(&text, " tls=%d tli=%u sys=" UINT64_FORMAT, offer.tls, tli,
					 GetSystemIdentifier());
	if (tandem_listen_count > 0)
	{
		appendStringInfoString(&text, " addr=");
		if (tandem_link_addresses[0] != '\0')
			append_told_addresses(&text);
		else
			append_reached_address(&text);
	}

	if (all_links_in_use())
	{
		appendStringInfo(&text, " full=%d", tandem_max_links);
		(void) tandem_event_repeated("link", application_name,
									 "refused a link: all %d links are in use", tandem_max_links);
	}

	history = palloc(sizeof(LinkHistory));
	incarnation_copy(history);
	for (int i = 0; i < history->count; i++)
		appendStringInfo(&text,
						 "%s" UINT64_FORMAT ".%u.%u."
						 "%" INT64_MODIFIER "x.%" INT64_MODIFIER "x",
						 i == 0 ? " hist=" : ",", history->entry[i].term,
						 history->entry[i].incarnation, history->entry[i].timeline,
						 history->entry[i].start, history->entry[i].nonce);
	pfree(history);
	explicit_bzero(&offer, sizeof(offer));

	if (answer != NULL)
		pfree(answer);
	answer = MemoryContextStrdup(TopMemoryContext, text.data);
	pfree(text.data);
	return answer;
}

/*
 * The key of offer 'id', for link_auth_server(); called while a stranger is
 * being authenticated.
 */
bool
offer_lookup(pg_attribute_unused() void *arg, uint64 id, bool tls, uint8_t *key)
{
	bool found = false;

	if (id == 0)
		return false;
	SpinLockAcquire(&tandem->offer_mutex);
	for (int i = 0; i < TANDEM_MAX_OFFERS && !found; i++)
	{
		const TandemOffer *slot = &tandem->offers[i];

		if (slot->id == id && slot->usable && slot->tls == tls)
		{
			memcpy(key, slot->key, LINK_KEY_SIZE);
			found = true;
		}
	}
	SpinLockRelease(&tandem->offer_mutex);
	return found;
}

/*
 * Use up offer 'id', whose key has just been proved.  False if another
 * connection was faster.
 */
bool
offer_take(uint64 id, TandemOffer *offer)
{
	bool taken = false;

	SpinLockAcquire(&tandem->offer_mutex);
	for (int i = 0; i < TANDEM_MAX_OFFERS && !taken; i++)
	{
		TandemOffer *slot = &tandem->offers[i];

		if (id != 0 && slot->id == id && slot->usable)
		{
			slot->usable = false;
			slot->lent = true;
			memset(slot->key, 0, sizeof(slot->key));
			*offer = *slot;
			taken = true;
		}
	}
	SpinLockRelease(&tandem->offer_mutex);
	return taken;
}

/* The link that took offer 'id' has ended; its walsender may stream by core. */
void
offer_return(uint64 id)
{
	SpinLockAcquire(&tandem->offer_mutex);
	for (int i = 0; i < TANDEM_MAX_OFFERS; i++)
	{
		if (tandem->offers[i].id == id)
			tandem->offers[i].lent = false;
	}
	SpinLockRelease(&tandem->offer_mutex);
}

/* Next walsender that is a tandem standby's and not lent to a link, or -1. */
static int
next_unlent(int *cursor, pid_t *pid)
{
	int walsnd = -1;

	SpinLockAcquire(&tandem->offer_mutex);
	while (walsnd < 0 && *cursor < TANDEM_MAX_OFFERS)
	{
		const TandemOffer *slot = &tandem->offers[(*cursor)++];

		if (slot->id != 0 && !slot->lent)
		{
			walsnd = slot->walsnd;
			*pid = slot->pid;
		}
	}
	SpinLockRelease(&tandem->offer_mutex);
	return walsnd;
}

/*
 * Next walsender that streams by core to a standby of ours: to one that asked
 * for an offer, and whose walsender is not lent to a link.  Start with *cursor =
 * 0.  False when there are no more.
 */
bool
offer_next_fallback(int *cursor, FallbackStream *stream)
{
	int index;

	while ((index = next_unlent(cursor, &stream->pid)) >= 0)
	{
		WalSnd *walsnd = &WalSndCtl->walsnds[index];
		bool streams;

		SpinLockAcquire(&walsnd->mutex);
		streams = walsnd->pid == stream->pid &&
				  (walsnd->state == WALSNDSTATE_STREAMING || walsnd->state == WALSNDSTATE_CATCHUP);
		stream->caught_up = walsnd->state == WALSNDSTATE_STREAMING;
		stream->write = walsnd->write;
		stream->flush = walsnd->flush;
		stream->apply = walsnd->apply;
		SpinLockRelease(&walsnd->mutex);
		if (streams)
			return true;
	}
	return false;
}
