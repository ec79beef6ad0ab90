/*-------------------------------------------------------------------------
 *
 * rcvanswer.c
 *	  What the standby tells its primary over the link: how far it has come,
 *	  hot_standby_feedback, and that its disk does not take the WAL.
 *
 * Without an open link nothing is said; receiver.c decides when.
 *
 *-------------------------------------------------------------------------
 */
#include "receiver.h"

#include "access/transam.h"
#include "access/xlogrecovery.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#define LAZY_APPLY_MS 10 /* what was replayed may be told so late */

static TimestampTz last_status;
static TimestampTz last_feedback;
static bool primary_has_xmin = true; /* so that the first feedback is sent */
static XLogRecPtr applied_told;

static void
put_frame(LinkFrameType type, const uint8_t *payload, size_t length)
{
	LinkHeader header = {.type = type};

	if (uplink_conn == NULL)
		return;
	header.term = uplink_term;
	header.lsn = rcvwal.durable;
	header.time = GetCurrentTimestamp();

	/*
	 * If there is no room the primary does not read, and will be given up
	 * for its silence; the next answer says more than this one.
	 */
	if (link_frame_put(uplink_conn, &header, payload, length))
		(void) link_flush(uplink_conn);
}

/*
 * What is written, durable and replayed, now.  'echo' is the time that the
 * primary's frame said, if that wanted an answer, or 0.
 */
void
rcvanswer_ack(int64 echo)
{
	LinkAck ack = {.write = rcvwal.written, .flush = rcvwal.durable, .echo = echo};
	uint8_t payload[sizeof(ack)];

	ack.apply = applied_told = GetXLogReplayRecPtr(NULL);
	last_status = GetCurrentTimestamp();
	put_frame(LINK_ACK, payload, link_ack_encode(&ack, payload));
}

/*
 * hot_standby_feedback, on our own timer: core's starves while we are busy.
 * As XLogWalRcvSendHSFeedback() in walreceiver.c.
 */
static void
send_feedback(void)
{
	LinkFeedback feedback = {0};
	uint8_t payload[sizeof(feedback)];
	TimestampTz now = GetCurrentTimestamp();
	FullTransactionId next;
	bool wanted = wal_receiver_status_interval > 0 && hot_standby_feedback;

	if ((!wanted && !primary_has_xmin) || !HotStandbyActive())
		return;
	if (last_feedback != 0 && !TimestampDifferenceExceeds(
								  last_feedback, now, Max(wal_receiver_status_interval, 1) * 1000))
		return;
	last_feedback = now;
	if (wanted)
		GetReplicationHorizons(&feedback.xmin, &feedback.catalog_xmin);
	next = ReadNextFullTransactionId();
	feedback.xmin_epoch = feedback.catalog_xmin_epoch = EpochFromFullTransactionId(next);
	if (XidFromFullTransactionId(next) < feedback.xmin)
		feedback.xmin_epoch--;
	if (XidFromFullTransactionId(next) < feedback.catalog_xmin)
		feedback.catalog_xmin_epoch--;
	put_frame(LINK_FEEDBACK, payload, link_feedback_encode(&feedback, payload));
	primary_has_xmin = TransactionIdIsValid(feedback.xmin) ||
					   TransactionIdIsValid(feedback.catalog_xmin);
}

/* Has more been replayed than the primary was told? */
bool
rcvanswer_replayed(void)
{
	return GetXLogReplayRecPtr(NULL) != applied_told;
}

/* When the primary was last told what we hold. */
TimestampTz
rcvanswer_last(void)
{
	return last_status;
}

/*
 * What replay has done and the clock asks for, between frames.  Unless
 * sessions wait for replay ('tell_applied'), what was replayed is told with
 * the next answer, or after LAZY_APPLY_MS: an answer of its own for each
 * commit would cost both sides a wake-up.  Returns when to look again, in ms.
 */
long
rcvanswer_status(bool tell_applied)
{
	TimestampTz now = GetCurrentTimestamp();
	bool replayed = rcvanswer_replayed();
	long waited = TimestampDifferenceMilliseconds(last_status, now);

	send_feedback();
	if ((replayed && (tell_applied || waited >= LAZY_APPLY_MS)) ||
		(wal_receiver_status_interval > 0 && waited >= wal_receiver_status_interval * 1000L))
	{
		rcvanswer_ack(0);
		return RECEIVER_IDLE_MS;
	}
	return replayed ? LAZY_APPLY_MS - waited : RECEIVER_IDLE_MS;
}

/* Feedback without waiting for its time: core wants it said now. */
void
rcvanswer_feedback(void)
{
	last_feedback = 0;
	send_feedback();
}

/* The link has just been opened: say where we are. */
void
rcvanswer_begin(void)
{
	primary_has_xmin = true;
	rcvanswer_ack(0);
	rcvanswer_feedback();
}

/* Our disk does not take the WAL, for 'why': the link ends. */
void
rcvanswer_disk(const char *why)
{
	LinkNotice notice = {.reason = LINK_REASON_DISK};
	uint8_t payload[LINK_NOTICE_MAX];

	strlcpy(notice.message, why, sizeof(notice.message));
	put_frame(LINK_NOTICE, payload, link_notice_encode(&notice, payload));
}
