/*-------------------------------------------------------------------------
 *
 * frame.h
 *	  What travels on a link: one fixed header, a bounded payload.
 *
 * Every frame is a header of LINK_HEADER_SIZE bytes, little-endian, followed
 * by header.length bytes of payload.  Two CRC-32C values protect it: one over
 * the header (so that the length can be trusted before the payload is read)
 * and one over the payload.
 *
 *	offset	size	field
 *	0		4		magic "TNDM"
 *	4		1		protocol version
 *	5		1		type (LinkFrameType)
 *	6		2		flags
 *	8		8		term of the sender
 *	16		8		LSN (its meaning depends on the type)
 *	24		8		bound: the primary's own durable LSN
 *	32		8		time of sending, microseconds since 2000-01-01 UTC
 *	40		4		payload length, bytes
 *	44		4		CRC-32C of the payload
 *	48		4		reserved, zero
 *	52		4		CRC-32C of bytes 0..51
 *
 * magic and version will be at the same place in every future version, so
 * that a node can always name the version it refuses.
 *
 * Nothing in link/ depends on a PostgreSQL backend: the extension, the tests
 * and the fuzzers share it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_FRAME_H
#define TANDEM_LINK_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_MAGIC       0x4D444E54U /* "TNDM" as a little-endian number */
#define LINK_VERSION     1
#define LINK_HEADER_SIZE 56
#define LINK_MAX_PAYLOAD (256 * 1024)

#define LINK_NAME_SIZE   64   /* NAMEDATALEN: names are at most 63 bytes */
#define LINK_TEXT_SIZE   1024 /* a message for people, with its final zero */
#define LINK_MAX_HISTORY 512  /* incarnations kept and exchanged */
#define LINK_NONCE_SIZE  32
#define LINK_MAC_SIZE    32 /* HMAC-SHA-256 */
#define LINK_KEY_SIZE    32

typedef enum LinkFrameType
{
	/* authentication, only where the link is not encrypted (link/auth.c) */
	LINK_AUTH_CLIENT = 1, /* standby: id of the offer, nonce */
	LINK_AUTH_SERVER,     /* primary: nonce, proof */
	LINK_AUTH_PROOF,      /* standby: proof */

	/* handshake */
	LINK_HELLO,   /* standby: who I am, what I hold, where to resume */
	LINK_WELCOME, /* primary: the stream starts; lsn = its first byte */
	LINK_REFUSE,  /* either side: why not, and what to do (LinkNotice) */

	/* primary to standby */
	LINK_WAL,      /* lsn = first byte of the payload */
	LINK_BOUND,    /* the bound without WAL, and keepalive; lsn = sent up to */
	LINK_HANDOVER, /* go back to PostgreSQL's own streaming; lsn = sent up to */

	/* standby to primary */
	LINK_ACK,      /* what is written, flushed and replayed (LinkAck) */
	LINK_FEEDBACK, /* hot_standby_feedback (LinkFeedback) */
	LINK_NOTICE,   /* the standby closes the link for this reason (LinkNotice) */

	/* RDMA: from TCP to the ring and back (link/switch.c) */
	LINK_RING_OFFER,  /* primary: my end of a connection (LinkRingEnd) */
	LINK_RING_ACCEPT, /* standby: my end of it, and the ring (LinkRingEnd) */
	LINK_RING_START,  /* primary: what follows is in the ring (LinkRingMark) */
	LINK_RING_STOP,   /* either side: it is over (LinkRingStop); from the standby,
					   * lsn = written, where TCP goes on */
	LINK_RING_CREDIT, /* standby: the ring is free up to here (LinkRingMark) */

	LINK_TYPE_COUNT
} LinkFrameType;

/* flags of LINK_WAL and LINK_BOUND */
#define LINK_FLAG_REPLY 0x0001 /* answer at once and echo the frame's time */
#define LINK_FLAG_WRITES \
	0x0002 /* sessions wait for remote_write: acknowledge what is written
								 * before flushing it */
#define LINK_FLAG_APPLIES \
	0x0004 /* sessions wait for remote_apply: acknowledge what is replayed at
								  * once, and not with the next answer */
#define LINK_FLAG_COMPRESSED 0x0008 /* LINK_WAL only: the payload is compressed (compress.h) */

/* flags of LINK_HELLO: what the standby can take; of LINK_WELCOME: what WAL comes in */
#define LINK_FLAG_LZ4        0x0010
#define LINK_FLAG_ZSTD       0x0020
#define LINK_FLAGS_KNOWN     0x003F

typedef struct LinkHeader
{
	uint8_t version;
	uint8_t type;
	uint16_t flags;
	uint64_t term;
	uint64_t lsn;
	uint64_t bound;
	int64_t time;
	uint32_t length;
	uint32_t payload_crc;
} LinkHeader;

typedef enum LinkDecode
{
	LINK_DECODE_OK,
	LINK_DECODE_MORE,        /* not all bytes are here yet */
	LINK_DECODE_BAD_MAGIC,   /* not our protocol at all */
	LINK_DECODE_BAD_VERSION, /* our protocol, another version */
	LINK_DECODE_BAD_CRC,
	LINK_DECODE_BAD_TYPE,
	LINK_DECODE_BAD_FLAGS,
	LINK_DECODE_BAD_LENGTH,
	LINK_DECODE_BAD_PAYLOAD
} LinkDecode;

/* One start of a primary, see extension/incarnation.c. */
typedef struct LinkIncarnation
{
	uint64_t term;
	uint32_t incarnation;
	uint32_t timeline;
	uint64_t start; /* LSN where its own WAL begins */
	uint64_t nonce; /* random: two starts of one copy of a primary differ in this only */
} LinkIncarnation;

typedef struct LinkHistory
{
	int count;
	LinkIncarnation entry[LINK_MAX_HISTORY]; /* oldest first */
} LinkHistory;

typedef struct LinkHello
{
	uint64_t system_identifier;
	uint32_t timeline;
	uint32_t timeline_crc; /* CRC-32C of the timeline's history */
	uint64_t start;        /* first byte wanted */
	uint64_t check_from;   /* the standby holds [check_from, check_to) ... */
	uint64_t check_to;
	uint32_t check_crc; /* ... with this CRC-32C */
	uint64_t instance;  /* random number of this postmaster's life */
	uint64_t copy;      /* which copy of the database it is; 0: it has no number */
	uint64_t floor;     /* it takes no WAL of a lower term */
	char node_name[LINK_NAME_SIZE];
	char slot_name[LINK_NAME_SIZE]; /* empty: no slot */
	LinkHistory history;
} LinkHello;

typedef struct LinkWelcome
{
	uint32_t incarnation;
	char node_name[LINK_NAME_SIZE];
} LinkWelcome;

typedef enum LinkReason
{
	LINK_REASON_NONE = 0,
	LINK_REASON_PROTOCOL,    /* malformed or unexpected frame */
	LINK_REASON_VERSION,     /* protocol version not spoken here */
	LINK_REASON_KEY,         /* the one-time key was not proved */
	LINK_REASON_SYSTEM,      /* another database system */
	LINK_REASON_TIMELINE,    /* not on the primary's timeline */
	LINK_REASON_DIVERGED,    /* the standby's WAL is not the primary's */
	LINK_REASON_TERM,        /* the sender's term is old */
	LINK_REASON_NAME,        /* node name in use */
	LINK_REASON_SLOT,        /* replication slot missing or in use */
	LINK_REASON_WAL_REMOVED, /* WAL asked for is gone */
	LINK_REASON_NOT_PRIMARY, /* not (or no longer) a primary */
	LINK_REASON_DISK,        /* the standby cannot write */
	LINK_REASON_SHUTDOWN,    /* the standby leaves in good order */
	LINK_REASON_OTHER,
	LINK_REASON_COUNT
} LinkReason;

typedef struct LinkNotice
{
	LinkReason reason;
	char message[LINK_TEXT_SIZE];
	char hint[LINK_TEXT_SIZE];
} LinkNotice;

typedef struct LinkAck
{
	uint64_t write;
	uint64_t flush;
	uint64_t apply;
	int64_t echo; /* time of the frame that asked for this answer, or 0 */
} LinkAck;

typedef struct LinkFeedback
{
	uint32_t xmin;
	uint32_t xmin_epoch;
	uint32_t catalog_xmin;
	uint32_t catalog_xmin_epoch;
} LinkFeedback;

/* How RDMA's byte stream is found: one end of a connection of two queue pairs. */
typedef struct LinkRingEnd
{
	uint32_t generation; /* of this link's attempts, from 1 on */
	uint32_t queue_pair;
	uint32_t sequence; /* of the first packet, 24 bits */
	uint16_t lid;      /* InfiniBand only */
	uint8_t mtu;       /* 1: 256 bytes ... 5: 4096 bytes */
	uint8_t layer;     /* LINK_LAYER_... */
	uint8_t gid[16];
	uint32_t key;     /* of the ring's memory; 0 in an offer */
	uint32_t slots;   /* most frames in the ring; in an offer, that it can have */
	uint64_t address; /* of the ring's first byte; 0 in an offer */
	uint64_t size;    /* of the ring, bytes; in an offer, the most it can use */
} LinkRingEnd;

#define LINK_LAYER_INFINIBAND 1
#define LINK_LAYER_ETHERNET   2

#define LINK_RING_MIN_SIZE    (2 * 1024 * 1024)
#define LINK_RING_MAX_SIZE    (1024 * 1024 * 1024)
#define LINK_RING_MIN_SLOTS   16
#define LINK_RING_MAX_SLOTS   65536

typedef struct LinkRingMark
{
	uint32_t generation;
	uint64_t position; /* bytes since the ring's beginning, laps included */
} LinkRingMark;

typedef struct LinkRingStop
{
	uint32_t generation;
	bool started; /* the sender has sent, or taken, LINK_RING_START */
	char reason[LINK_TEXT_SIZE];
} LinkRingStop;

typedef struct LinkAuthClient
{
	uint64_t id;
	uint8_t nonce[LINK_NONCE_SIZE];
} LinkAuthClient;

typedef struct LinkAuthServer
{
	uint8_t nonce[LINK_NONCE_SIZE];
	uint8_t proof[LINK_MAC_SIZE];
} LinkAuthServer;

typedef struct LinkAuthProof
{
	uint8_t proof[LINK_MAC_SIZE];
} LinkAuthProof;

/* largest payload each encoder below can produce, bytes */
#define LINK_HELLO_MAX \
	(8 + 4 + 4 + 8 + 8 + 8 + 4 + 8 + 8 + 8 + 2 * (2 + LINK_NAME_SIZE) + 2 + LINK_MAX_HISTORY * 32)
#define LINK_NOTICE_MAX    (4 + 2 + LINK_TEXT_SIZE + 2 + LINK_TEXT_SIZE)
#define LINK_RING_END_SIZE (4 + 4 + 4 + 2 + 1 + 1 + 16 + 4 + 4 + 8 + 8)
#define LINK_RING_STOP_MAX (4 + 1 + 2 + LINK_TEXT_SIZE)

/*
 * Header: encode computes both CRCs; 'payload' may be NULL when length is 0.
 * decode looks at 'available' bytes at 'buf': with LINK_DECODE_OK the whole
 * frame is there and sound and its payload starts at buf + LINK_HEADER_SIZE.
 * On LINK_DECODE_BAD_VERSION header->version is set and nothing else.
 */
extern void link_header_encode(const LinkHeader *header, const uint8_t *payload, uint8_t *buf);
extern LinkDecode link_frame_decode(const uint8_t *buf, size_t available, LinkHeader *header);
extern const char *link_decode_text(LinkDecode result);
extern const char *link_reason_text(LinkReason reason);

/*
 * Payloads: encoders return the number of bytes written to 'buf', which must
 * have room for the maximum above; decoders return false for anything an
 * encoder cannot have produced (wrong length, a string with a zero inside or
 * without an end, a number out of range) and then leave *msg undefined.
 */
extern size_t link_hello_encode(const LinkHello *msg, uint8_t *buf);
extern bool link_hello_decode(const uint8_t *buf, size_t length, LinkHello *msg);
extern size_t link_welcome_encode(const LinkWelcome *msg, uint8_t *buf);
extern bool link_welcome_decode(const uint8_t *buf, size_t length, LinkWelcome *msg);
extern size_t link_notice_encode(const LinkNotice *msg, uint8_t *buf);
extern bool link_notice_decode(const uint8_t *buf, size_t length, LinkNotice *msg);
extern size_t link_ack_encode(const LinkAck *msg, uint8_t *buf);
extern bool link_ack_decode(const uint8_t *buf, size_t length, LinkAck *msg);
extern size_t link_feedback_encode(const LinkFeedback *msg, uint8_t *buf);
extern bool link_feedback_decode(const uint8_t *buf, size_t length, LinkFeedback *msg);
extern size_t link_auth_client_encode(const LinkAuthClient *msg, uint8_t *buf);
extern bool link_auth_client_decode(const uint8_t *buf, size_t length, LinkAuthClient *msg);
extern size_t link_auth_server_encode(const LinkAuthServer *msg, uint8_t *buf);
extern bool link_auth_server_decode(const uint8_t *buf, size_t length, LinkAuthServer *msg);
extern size_t link_auth_proof_encode(const LinkAuthProof *msg, uint8_t *buf);
extern bool link_auth_proof_decode(const uint8_t *buf, size_t length, LinkAuthProof *msg);
extern size_t link_ring_end_encode(const LinkRingEnd *msg, uint8_t *buf);
extern bool link_ring_end_decode(const uint8_t *buf, size_t length, LinkRingEnd *msg);
extern size_t link_ring_mark_encode(const LinkRingMark *msg, uint8_t *buf);
extern bool link_ring_mark_decode(const uint8_t *buf, size_t length, LinkRingMark *msg);
extern size_t link_ring_stop_encode(const LinkRingStop *msg, uint8_t *buf);
extern bool link_ring_stop_decode(const uint8_t *buf, size_t length, LinkRingStop *msg);

#endif /* TANDEM_LINK_FRAME_H */
