/*
 * wire.h
 *		Heartbeats as bytes: versioned, authenticated (HMAC-SHA256 of OpenSSL), replay-proof.
 *
 * A datagram is header, payload and MAC.  The header has magic, version, cluster (hash of its
 * name), sender, receiver, the sender's boot, its instance (start of tandemd) and a number that
 * grows with every datagram of that instance; the receiver keeps a window of the last 64 numbers
 * per sender and instance, and takes no instance that is not newer than one it has seen.
 * A sender whose instance is new to the receiver is asked to prove that it is alive: its first
 * datagram counts only if it echoes a nonce of ours (replay across restarts of the receiver).
 * Little-endian; one encoder, one decoder; nothing is read before the MAC is right.
 */
#ifndef TANDEM_WIRE_H
#define TANDEM_WIRE_H

#include "config.h"

#define WIRE_MAX 512

/* What a heartbeat says besides the decision core's messages, for status only. */
typedef struct WireStatus
{
	uint8_t state;    /* FsmState */
	uint8_t pg_state; /* FsmPgState */
	uint64_t term;
	uint64_t lsn;      /* what it holds durably */
	uint64_t replayed; /* what it has replayed */
	uint32_t timeline;
	uint8_t flags; /* WIRE_* */
} WireStatus;

#define WIRE_PAUSED   1
#define WIRE_OPEN     2
#define WIRE_ELIGIBLE 4 /* fsm_why_not() == NULL */

#endif /* TANDEM_WIRE_H */
