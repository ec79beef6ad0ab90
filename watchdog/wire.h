/*
 * wire.h
 *		Heartbeats as bytes: versioned, authenticated (HMAC-SHA256 of OpenSSL), replay-proof.
 *
 * A datagram is header, payload and MAC.  The header has magic, version, cluster, sender,
 * receiver, path, the sender's boot, its instance (start of tandemd) and a number that grows with
 * every message of that instance; the receiver keeps a window of the last 64 numbers per sender
 * and instance, and takes no instance that is not newer than one it has seen.
 *
 * "Cluster" is a hash of the cluster's name, of names and roles of its nodes in their order, and
 * of the lease: nodes whose configurations differ in one of these do not talk to each other. (The
 * numbers of nodes are their places in the file, and a voter must grant for at least as long as a
 * holder believes.)
 *
 * A sender whose instance is new to the receiver is asked to prove that it is alive: nothing of it
 * counts before a datagram echoes a nonce of ours.  The nonce is a MAC, with a secret of this
 * start of tandemd, over the sender's boot and instance and over how many instances of it were
 * taken before: so what was recorded before a restart of either side is of no use after it, and
 * somebody who replays old datagrams cannot make the nonce change either.
 *
 * Little-endian; one encoder, one decoder; nothing is read before the MAC is right.  Pure: no I/O
 * and no clock.
 */
#ifndef TANDEM_WIRE_H
#define TANDEM_WIRE_H

#include "config.h"

#define WIRE_MAX      512
#define WIRE_VERSION  1
#define WIRE_MAC_SIZE 32

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

typedef enum WireKind
{
	WIRE_BEAT = 1, /* status, and one message of the decision core if there is one */
	WIRE_CHALLENGE /* "echo this nonce": an unknown instance was heard */
} WireKind;

typedef struct WireDatagram
{
	uint8_t kind;
	int8_t from;
	int8_t to;
	uint8_t path;
	uint64_t boot;
	uint64_t instance;
	uint64_t number; /* the same on all paths */
	uint64_t proof;  /* the receiver's nonce for this instance; 0: it has not asked */

	/* WIRE_BEAT */
	WireStatus status;
	bool has_msg;
	FsmMsg msg; /* its from, to and boot are those of the header */

	/* WIRE_CHALLENGE: who is asked, and the nonce */
	uint64_t asked_boot;
	uint64_t asked_instance;
	uint64_t nonce;
} WireDatagram;

/* Key and cluster; copied from a Config. */
typedef struct WireKey
{
	uint8_t key[64];
	size_t length;
	uint64_t cluster;
	int self;
	int nnodes;
} WireKey;

typedef enum WireFault
{
	WIRE_OK,
	WIRE_SHORT,
	WIRE_MAC,     /* another key, or not from a node at all */
	WIRE_FORMAT,  /* magic, length or a field that cannot be */
	WIRE_OTHER,   /* another version of the format */
	WIRE_CLUSTER, /* another cluster, or a configuration that differs */
	WIRE_ADDRESS  /* sender or receiver is not who they should be */
} WireFault;

/* What is remembered of one sender. Starts zeroed. */
typedef struct WirePeer
{
	bool known;
	uint64_t boot;
	uint64_t instance;
	uint64_t epoch; /* instances taken so far */
	uint64_t top;   /* highest number taken, and which of the 64 before it */
	uint64_t window;
	uint64_t path_top[CONFIG_MAX_PATHS];
	uint64_t path_window[CONFIG_MAX_PATHS];
} WirePeer;

typedef enum WireVerdict
{
	WIRE_TAKE,
	WIRE_AGAIN,   /* was taken already: another path, a double, a replay */
	WIRE_STALE,   /* of an instance before the one known */
	WIRE_UNPROVEN /* challenge it */
} WireVerdict;

extern void wire_key(WireKey *k, const Config *c);
/* Into out[WIRE_MAX]; returns the length, or 0 if OpenSSL fails. */
extern size_t wire_encode(const WireKey *k, const WireDatagram *d, uint8_t *out);
extern WireFault wire_decode(const WireKey *k, const uint8_t *in, size_t length, WireDatagram *d);
extern const char *wire_fault_text(WireFault f);

/*
 * May this datagram be taken?  "secret" is random, made at the start of tandemd.  *first_on_path
 * (for signs of life per path) is true if its number has not come on this path yet.
 */
extern WireVerdict
wire_admit(WirePeer *p, const uint8_t secret[32], const WireDatagram *d, bool *first_on_path);
/* The nonce with which that sender's instance proves that it is alive; never 0. */
extern uint64_t wire_nonce(const WirePeer *p, const uint8_t secret[32], const WireDatagram *d);

#endif /* TANDEM_WIRE_H */
