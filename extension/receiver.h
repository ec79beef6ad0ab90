/*-------------------------------------------------------------------------
 *
 * receiver.h
 *	  The standby's side: what receiver.c, uplink.c and rcvwal.c share.  All
 *	  of it lives in the walreceiver process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_RECEIVER_H
#define TANDEM_RECEIVER_H

#include "tandem.h"

#include "libpq-fe.h"

/* --------------------------------------------------------------- rcvwal.c */

/* How far the WAL of this timeline is here. */
typedef struct ReceivedWal
{
	TimeLineID timeline;
	XLogRecPtr written;
	XLogRecPtr begun; /* a flush up to here has begun, or has ended */
	XLogRecPtr durable;
	XLogRecPtr bound; /* the primary's flush: recovery is shown no more */
	XLogRecPtr end;   /* pg_wal may hold WAL up to here */
	uint64 bytes;
	uint64 flushes;
} ReceivedWal;

extern ReceivedWal rcvwal;

extern void rcvwal_begin(TimeLineID timeline, XLogRecPtr start);
extern void rcvwal_continue(XLogRecPtr flushed);
extern void rcvwal_forget_tail(void);
extern bool
rcvwal_write(XLogRecPtr start, const uint8_t *data, size_t length, char *error, size_t error_size);
extern bool rcvwal_has_room(char *error, size_t error_size);
extern void rcvwal_flush(void);
extern bool rcvwal_flush_begin(bool at_once);
extern bool rcvwal_flush_ended(void);
extern void rcvwal_settle(void);
extern void rcvwal_publish(void);
extern void rcvwal_discard(TimeLineID timeline, XLogRecPtr from);
extern void rcvwal_close(void);

/* ------------------------------------------------------------- rcvflush.c */

extern int rcvflush_fd(void);
extern void rcvflush_reset(void);
extern int rcvflush_under_way(void);
extern bool rcvflush_begin(TimeLineID timeline, XLogSegNo segno, XLogRecPtr upto, bool data_only);
extern bool rcvflush_ended(XLogRecPtr *durable, long *took_us);
extern void rcvflush_wait(void);
extern void rcvflush_close(void);

/* -------------------------------------------------------------- rcvtail.c */

extern bool rcvtail_is_there(void);
extern void rcvtail_follow(const LinkHistory *theirs);
extern void rcvtail_refused(const char *why, bool diverged);
extern const char *rcvtail_take_error(void);
extern void rcvtail_install(WalReceiverFunctionsType *core, WalReceiverFunctionsType *ours);
extern void rcvtail_leave(void);
extern XLogRecPtr rcvtail_left(TimeLineID timeline);

/* ------------------------------------------------------------- rcvoffer.c */

/* What the primary answered on SHOW tandem.link_offer. */
typedef struct RcvOffer
{
	unsigned int proto;
	uint64 id;
	uint8 key[LINK_KEY_SIZE];
	bool tls;
	TimeLineID timeline;
	uint64 system_identifier;
	LinkHistory history;
	int full; /* all links of the primary are in use, this many; else 0 */
	char addresses[1024];
} RcvOffer;

extern bool rcvoffer_parse(const char *text, RcvOffer *offer);

/* --------------------------------------------------------------- uplink.c */

typedef enum UplinkResult
{
	UPLINK_WAIT,        /* in progress: wait for uplink_fd() or uplink_timeout() */
	UPLINK_STREAM,      /* the link is open */
	UPLINK_NO_LINK,     /* the primary is there but the link cannot be had:
						 * stream as core does */
	UPLINK_NEW_TIMELINE /* the primary is on another timeline */
} UplinkResult;

/* The open link, for receiver.c; NULL unless UPLINK_STREAM. */
extern LinkConn *uplink_conn;
extern uint64 uplink_term;
extern TimeLineID uplink_timeline; /* the primary's, from its last offer */

/* How the open link was lost. */
typedef enum UplinkLoss
{
	UPLINK_LOST_CLOSED, /* by the primary, or for what it sent */
	UPLINK_LOST_SILENT, /* nothing was heard for too long */
	UPLINK_LOST_DISK    /* our own disk does not take the WAL */
} UplinkLoss;

extern void uplink_start(PGconn *connection, const char *slot);
extern void uplink_again(PGconn *connection, const char *slot, const char *why);
extern UplinkResult uplink_step(void);
extern void uplink_down(UplinkLoss loss, const char *why);
extern UplinkResult uplink_refused(const LinkNotice *notice);
extern void uplink_hold(const char *why);
extern void uplink_stop(void);
extern bool uplink_probe(void);
extern bool uplink_probing(void);
extern bool uplink_is_open(void);
extern int uplink_fd(void);
extern long uplink_timeout(void);
extern const char *uplink_why_no_link(void);
extern void uplink_watch(void);

/* -------------------------------------------------------------- rcvring.c */

extern void rcvring_begin(void);
extern const char *rcvring_frame(const LinkHeader *header, const uint8_t *payload);
extern bool rcvring_next(LinkHeader *header, const uint8_t **payload, const char **lost);
extern bool rcvring_idle(bool wait, const char **lost);
extern bool rcvring_spin(void);

/* ------------------------------------------------------------ rcvanswer.c */

extern void rcvanswer_begin(void);
extern void rcvanswer_ack(int64 echo);
extern bool rcvanswer_replayed(void);
extern TimestampTz rcvanswer_last(void);
extern long rcvanswer_status(bool tell_applied);
extern void rcvanswer_feedback(void);
extern void rcvanswer_disk(const char *why);

/* ------------------------------------------------------------- receiver.c */

#define RECEIVER_IDLE_MS 100 /* how often to look around */

extern void receiver_show(TandemReceiverState state, const char *error);

#endif /* TANDEM_RECEIVER_H */
