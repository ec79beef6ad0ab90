/*-------------------------------------------------------------------------
 *
 * switch.h
 *	  From TCP to the ring, and back, without losing or repeating a byte.
 *
 * Every link begins with TCP, and TCP stays its control channel.  The primary
 * may at any time try to have the stream (LINK_WAL, LINK_BOUND) go through a
 * ring:
 *
 *	primary								standby
 *	OFFER (its queue pair)			->	makes queue pair and ring, connects
 *	connects						<-	ACCEPT (its queue pair, the ring)
 *	one trial frame into the ring	=>	takes it
 *	START, the last on TCP			<-	CREDIT for it
 *	the stream, into the ring		=>	takes nothing before START has come
 *									<-	CREDIT, now and then
 *	STOP							->	closes the ring
 *	TCP goes on at that LSN			<-	STOP: lsn = what is written here
 *
 * Until START the stream goes on over TCP: an attempt that fails costs nothing.
 * START is behind all WAL on TCP, and the standby looks at the ring only after
 * it has come, so the order is kept.  Either side stops when anything about
 * the ring fails; the standby's STOP, sent after its end is closed and nothing
 * more can be taken from the ring, says where TCP has to go on.  Only a STOP
 * that the standby sends after START has come (started) says so: before, WAL
 * may still be under way on TCP.  If it had stopped before, it answers START
 * with another STOP.
 *
 * Attempts are numbered; what belongs to an older one is ignored or, where it
 * cannot happen, a protocol violation.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_SWITCH_H
#define TANDEM_LINK_SWITCH_H

#include "conn.h"
#include "ring.h"

/* What came of a frame, or of a look at the ring. */
typedef enum LinkSwitch
{
	LINK_SWITCH_NOTHING,
	LINK_SWITCH_STARTED,  /* the ring carries the stream from here on */
	LINK_SWITCH_REFUSED,  /* the attempt came to nothing: ring->reason; the
						  * stream was never in the ring */
	LINK_SWITCH_ENDED,    /* TCP carries the stream again: ring->reason.  The
						  * primary goes on at ring->resume. */
	LINK_SWITCH_VIOLATION /* the peer is not to be trusted, or TCP is stuck: end
						   * the link */
} LinkSwitch;

/* True for the types of frame that belong here. */
extern bool link_switch_is_frame(const LinkHeader *header);

/* Does the ring carry the stream? */
extern bool link_switch_is_on(const LinkConn *conn);

/*
 * In all of these 'stamp' is the header that a frame of ours is to have now:
 * term, lsn and time filled in; its type is set here.  The standby's lsn is
 * what it has written.
 */

/*
 * Primary.  offer begins an attempt and takes over 'verbs', whatever comes of
 * it.  primary_frame takes a frame of the standby's.  primary_look looks
 * after the ring, to be called whenever the worker is awake.  stop ends an
 * attempt or the ring's use; the standby's answer makes it final.
 */
extern LinkSwitch link_switch_offer(LinkConn *conn, LinkVerbs *verbs, const LinkHeader *stamp);
extern LinkSwitch link_switch_primary_frame(LinkConn *conn, const LinkHeader *header,
											const uint8_t *payload, const LinkHeader *stamp);
extern LinkSwitch link_switch_primary_look(LinkConn *conn, const LinkHeader *stamp);
extern LinkSwitch link_switch_stop(LinkConn *conn, const char *reason, const LinkHeader *stamp);

/*
 * Primary: have writes been under way for 'patience' without that any of them
 * was completed?  The device is to notice that by itself, but what it makes of
 * its timeouts is its own affair.  Times in us, 'now' of the clock of stamp.time;
 * to be called whenever the worker is awake.  An attempt has its deadline: the
 * time before the ring carries the stream does not count.
 */
extern bool link_switch_is_stuck(LinkRing *ring, int64_t now, int64_t patience);

/*
 * Primary: a frame of the stream, in the ring or on TCP, whichever carries it.
 * begin, end and max as link_wal_begin(), link_wal_end() and link_wal_max(): WAL
 * is compressed on TCP only.  While not ready there is no
 * room for the largest frame; TCP is as ready as its buffer, which is the
 * owner's to know.  put sends a frame without payload, by TCP if the ring has
 * no room.  bytes counts what was given to either.
 */
extern bool link_stream_ready(LinkConn *conn);
extern size_t link_stream_max(const LinkConn *conn);
extern uint8_t *link_stream_begin(LinkConn *conn, size_t length);
extern bool link_stream_end(LinkConn *conn, LinkHeader *header, size_t length);
extern bool link_stream_put(LinkConn *conn, LinkHeader *header);
extern uint64_t link_stream_bytes(const LinkConn *conn);

/*
 * Standby.  'open' makes our end: NULL with a reason if there can be none.
 */
typedef LinkVerbs *(*LinkSwitchOpen)(void *arg, const LinkRingEnd *peer, char *why,
									 size_t why_size);

extern LinkSwitch
link_switch_standby_frame(LinkConn *conn, const LinkHeader *header, const uint8_t *payload,
						  const LinkHeader *stamp, LinkSwitchOpen open, void *arg);

/*
 * The next frame of the stream from the ring: 1, or 0 when there is none now;
 * *result tells whether that ended the ring's use.  idle is to be called when
 * there is nothing more to do with what was taken: it gives back room, and
 * before waiting (wait) arms the descriptor.  True: there is more.
 */
extern int link_switch_next(LinkConn *conn, LinkHeader *header, const uint8_t **payload,
							const LinkHeader *stamp, LinkSwitch *result);
extern bool
link_switch_idle(LinkConn *conn, bool wait, const LinkHeader *stamp, LinkSwitch *result);
extern LinkSwitch
link_switch_standby_stop(LinkConn *conn, const char *reason, const LinkHeader *stamp);

#endif /* TANDEM_LINK_SWITCH_H */
