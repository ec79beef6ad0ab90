/*-------------------------------------------------------------------------
 *
 * frame.c
 *	  The one encoder and the one decoder of everything on a link.
 *
 * The decoder is the door through which bytes of unknown origin come in, so
 * it is written to be boring: a cursor that can only move forward inside its
 * limits and remembers that it failed, one function per message, and a table
 * of what length each type may have.  It never allocates.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include <string.h>

#include "port/pg_crc32c.h"

#include "frame.h"

/* ---------------------------------------------------------------- cursor */

typedef struct Cursor
{
	const uint8_t *at;
	const uint8_t *end;
	bool bad;
} Cursor;

static uint64_t
get_uint(Cursor *c, int bytes)
{
	uint64_t value = 0;

	if (c->bad || c->end - c->at < bytes)
	{
		c->bad = true;
		return 0;
	}
	for (int i = bytes - 1; i >= 0; i--)
		value = (value << 8) | c->at[i];
	c->at += bytes;
	return value;
}

static void
get_bytes(Cursor *c, uint8_t *to, size_t bytes)
{
	if (c->bad || (size_t) (c->end - c->at) < bytes)
	{
		c->bad = true;
		return;
	}
	memcpy(to, c->at, bytes);
	c->at += bytes;
}

/* A string: its length in two bytes, then its bytes, none of them zero. */
static void
get_string(Cursor *c, char *to, size_t size)
{
	size_t length = get_uint(c, 2);

	if (length >= size)
		c->bad = true;
	if (c->bad)
		return;
	get_bytes(c, (uint8_t *) to, length);
	if (c->bad || memchr(to, '\0', length) != NULL)
	{
		c->bad = true;
		return;
	}
	to[length] = '\0';
}

/* All of the payload must have been used, and nothing beyond. */
static bool
finished(const Cursor *c)
{
	return !c->bad && c->at == c->end;
}

static uint8_t *
put_uint(uint8_t *to, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
	{
		to[i] = (uint8_t) value;
		value >>= 8;
	}
	return to + bytes;
}

static uint8_t *
put_bytes(uint8_t *to, const uint8_t *from, size_t bytes)
{
	memcpy(to, from, bytes);
	return to + bytes;
}

static uint8_t *
put_string(uint8_t *to, const char *from, size_t size)
{
	size_t length = strnlen(from, size - 1);

	to = put_uint(to, length, 2);
	return put_bytes(to, (const uint8_t *) from, length);
}

static uint32_t
crc32c(const uint8_t *data, size_t length)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, length);
	FIN_CRC32C(crc);
	return crc;
}

/* ---------------------------------------------------------------- header */

/* What length each type of frame may have. */
static const struct
{
	uint32_t min;
	uint32_t max;
} payload_limits[LINK_TYPE_COUNT] = {
	[LINK_AUTH_CLIENT] = {8 + LINK_NONCE_SIZE, 8 + LINK_NONCE_SIZE},
	[LINK_AUTH_SERVER] = {LINK_NONCE_SIZE + LINK_MAC_SIZE, LINK_NONCE_SIZE + LINK_MAC_SIZE},
	[LINK_AUTH_PROOF] = {LINK_MAC_SIZE, LINK_MAC_SIZE},
	[LINK_HELLO] = {8 + 4 + 4 + 8 + 8 + 8 + 4 + 8 + 8 + 8 + 2 + 2 + 2, LINK_HELLO_MAX},
	[LINK_WELCOME] = {4 + 2, 4 + 2 + LINK_NAME_SIZE},
	[LINK_REFUSE] = {4 + 2 + 2, LINK_NOTICE_MAX},
	[LINK_WAL] = {1, LINK_MAX_PAYLOAD},
	[LINK_BOUND] = {0, 0},
	[LINK_HANDOVER] = {0, 0},
	[LINK_ACK] = {32, 32},
	[LINK_FEEDBACK] = {16, 16},
	[LINK_NOTICE] = {4 + 2 + 2, LINK_NOTICE_MAX},
	[LINK_RING_OFFER] = {LINK_RING_END_SIZE, LINK_RING_END_SIZE},
	[LINK_RING_ACCEPT] = {LINK_RING_END_SIZE, LINK_RING_END_SIZE},
	[LINK_RING_START] = {12, 12},
	[LINK_RING_STOP] = {4 + 1 + 2, LINK_RING_STOP_MAX},
	[LINK_RING_CREDIT] = {12, 12},
};

void
link_header_encode(const LinkHeader *header, const uint8_t *payload, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, LINK_MAGIC, 4);
	to = put_uint(to, LINK_VERSION, 1);
	to = put_uint(to, header->type, 1);
	to = put_uint(to, header->flags, 2);
	to = put_uint(to, header->term, 8);
	to = put_uint(to, header->lsn, 8);
	to = put_uint(to, header->bound, 8);
	to = put_uint(to, (uint64_t) header->time, 8);
	to = put_uint(to, header->length, 4);
	to = put_uint(to, header->length > 0 ? crc32c(payload, header->length) : crc32c(buf, 0), 4);
	to = put_uint(to, 0, 4);
	put_uint(to, crc32c(buf, LINK_HEADER_SIZE - 4), 4);
}

LinkDecode
link_frame_decode(const uint8_t *buf, size_t available, LinkHeader *header)
{
	Cursor c = {buf, buf + Min(available, LINK_HEADER_SIZE), false};
	uint32_t reserved;
	uint32_t crc;

	/* Say as early as possible that this is no peer of ours. */
	for (size_t i = 0; i < Min(available, 4); i++)
	{
		if (buf[i] != (uint8_t) (LINK_MAGIC >> (8 * i)))
			return LINK_DECODE_BAD_MAGIC;
	}
	if (available >= 5 && buf[4] != LINK_VERSION)
	{
		header->version = buf[4];
		return LINK_DECODE_BAD_VERSION;
	}
	if (available < LINK_HEADER_SIZE)
		return LINK_DECODE_MORE;

	(void) get_uint(&c, 4);
	header->version = get_uint(&c, 1);
	header->type = get_uint(&c, 1);
	header->flags = get_uint(&c, 2);
	header->term = get_uint(&c, 8);
	header->lsn = get_uint(&c, 8);
	header->bound = get_uint(&c, 8);
	header->time = (int64_t) get_uint(&c, 8);
	header->length = get_uint(&c, 4);
	header->payload_crc = get_uint(&c, 4);
	reserved = get_uint(&c, 4);
	crc = get_uint(&c, 4);

	if (crc != crc32c(buf, LINK_HEADER_SIZE - 4))
		return LINK_DECODE_BAD_CRC;
	if (header->type == 0 || header->type >= LINK_TYPE_COUNT)
		return LINK_DECODE_BAD_TYPE;
	if ((header->flags & ~LINK_FLAGS_KNOWN) != 0 || reserved != 0)
		return LINK_DECODE_BAD_FLAGS;
	if (header->length < payload_limits[header->type].min ||
		header->length > payload_limits[header->type].max)
		return LINK_DECODE_BAD_LENGTH;
	if (available - LINK_HEADER_SIZE < header->length)
		return LINK_DECODE_MORE;
	if (header->payload_crc != crc32c(buf + LINK_HEADER_SIZE, header->length))
		return LINK_DECODE_BAD_PAYLOAD;
	return LINK_DECODE_OK;
}

const char *
link_decode_text(LinkDecode result)
{
	switch (result)
	{
		case LINK_DECODE_OK:
			return "sound";
		case LINK_DECODE_MORE:
			return "incomplete frame";
		case LINK_DECODE_BAD_MAGIC:
			return "not a pg_tandem frame";
		case LINK_DECODE_BAD_VERSION:
			return "unknown protocol version";
		case LINK_DECODE_BAD_CRC:
			return "damaged frame header";
		case LINK_DECODE_BAD_TYPE:
			return "unknown frame type";
		case LINK_DECODE_BAD_FLAGS:
			return "unknown frame flags";
		case LINK_DECODE_BAD_LENGTH:
			return "frame length out of range";
		case LINK_DECODE_BAD_PAYLOAD:
			return "damaged frame payload";
	}
	return "unknown";
}

const char *
link_reason_text(LinkReason reason)
{
	static const char *const text[LINK_REASON_COUNT] = {
		[LINK_REASON_NONE] = "none",
		[LINK_REASON_PROTOCOL] = "protocol violation",
		[LINK_REASON_VERSION] = "protocol version",
		[LINK_REASON_KEY] = "wrong key",
		[LINK_REASON_SYSTEM] = "another database system",
		[LINK_REASON_TIMELINE] = "another timeline",
		[LINK_REASON_DIVERGED] = "diverged",
		[LINK_REASON_TERM] = "old term",
		[LINK_REASON_NAME] = "node name in use",
		[LINK_REASON_SLOT] = "replication slot",
		[LINK_REASON_WAL_REMOVED] = "WAL removed",
		[LINK_REASON_NOT_PRIMARY] = "not a primary",
		[LINK_REASON_DISK] = "cannot write",
		[LINK_REASON_SHUTDOWN] = "shutdown",
		[LINK_REASON_OTHER] = "other",
	};

	return reason < LINK_REASON_COUNT ? text[reason] : "unknown";
}

/* -------------------------------------------------------------- payloads */

static uint8_t *
put_history(uint8_t *to, const LinkHistory *history)
{
	to = put_uint(to, history->count, 2);
	for (int i = 0; i < history->count; i++)
	{
		to = put_uint(to, history->entry[i].term, 8);
		to = put_uint(to, history->entry[i].incarnation, 4);
		to = put_uint(to, history->entry[i].timeline, 4);
		to = put_uint(to, history->entry[i].start, 8);
		to = put_uint(to, history->entry[i].nonce, 8);
	}
	return to;
}

static void
get_history(Cursor *c, LinkHistory *history)
{
	history->count = get_uint(c, 2);
	if (history->count > LINK_MAX_HISTORY)
		c->bad = true;
	for (int i = 0; !c->bad && i < history->count; i++)
	{
		history->entry[i].term = get_uint(c, 8);
		history->entry[i].incarnation = get_uint(c, 4);
		history->entry[i].timeline = get_uint(c, 4);
		history->entry[i].start = get_uint(c, 8);
		history->entry[i].nonce = get_uint(c, 8);
	}
}

size_t
link_hello_encode(const LinkHello *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, msg->system_identifier, 8);
	to = put_uint(to, msg->timeline, 4);
	to = put_uint(to, msg->timeline_crc, 4);
	to = put_uint(to, msg->start, 8);
	to = put_uint(to, msg->check_from, 8);
	to = put_uint(to, msg->check_to, 8);
	to = put_uint(to, msg->check_crc, 4);
	to = put_uint(to, msg->instance, 8);
	to = put_uint(to, msg->copy, 8);
	to = put_uint(to, msg->floor, 8);
	to = put_string(to, msg->node_name, LINK_NAME_SIZE);
	to = put_string(to, msg->slot_name, LINK_NAME_SIZE);
	to = put_history(to, &msg->history);
	return to - buf;
}

bool
link_hello_decode(const uint8_t *buf, size_t length, LinkHello *msg)
{
	Cursor c = {buf, buf + length, false};

	msg->system_identifier = get_uint(&c, 8);
	msg->timeline = get_uint(&c, 4);
	msg->timeline_crc = get_uint(&c, 4);
	msg->start = get_uint(&c, 8);
	msg->check_from = get_uint(&c, 8);
	msg->check_to = get_uint(&c, 8);
	msg->check_crc = get_uint(&c, 4);
	msg->instance = get_uint(&c, 8);
	msg->copy = get_uint(&c, 8);
	msg->floor = get_uint(&c, 8);
	get_string(&c, msg->node_name, LINK_NAME_SIZE);
	get_string(&c, msg->slot_name, LINK_NAME_SIZE);
	get_history(&c, &msg->history);
	return finished(&c) && msg->check_from <= msg->check_to;
}

size_t
link_welcome_encode(const LinkWelcome *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, msg->incarnation, 4);
	to = put_string(to, msg->node_name, LINK_NAME_SIZE);
	return to - buf;
}

bool
link_welcome_decode(const uint8_t *buf, size_t length, LinkWelcome *msg)
{
	Cursor c = {buf, buf + length, false};

	msg->incarnation = get_uint(&c, 4);
	get_string(&c, msg->node_name, LINK_NAME_SIZE);
	return finished(&c);
}

size_t
link_notice_encode(const LinkNotice *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, msg->reason, 4);
	to = put_string(to, msg->message, LINK_TEXT_SIZE);
	to = put_string(to, msg->hint, LINK_TEXT_SIZE);
	return to - buf;
}

bool
link_notice_decode(const uint8_t *buf, size_t length, LinkNotice *msg)
{
	Cursor c = {buf, buf + length, false};
	uint32_t reason;

	reason = get_uint(&c, 4);
	get_string(&c, msg->message, LINK_TEXT_SIZE);
	get_string(&c, msg->hint, LINK_TEXT_SIZE);
	msg->reason = reason < LINK_REASON_COUNT ? (LinkReason) reason : LINK_REASON_OTHER;
	return finished(&c);
}

size_t
link_ack_encode(const LinkAck *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, msg->write, 8);
	to = put_uint(to, msg->flush, 8);
	to = put_uint(to, msg->apply, 8);
	to = put_uint(to, (uint64_t) msg->echo, 8);
	return to - buf;
}

bool
link_ack_decode(const uint8_t *buf, size_t length, LinkAck *msg)
{
	Cursor c = {buf, buf + length, false};

	msg->write = get_uint(&c, 8);
	msg->flush = get_uint(&c, 8);
	msg->apply = get_uint(&c, 8);
	msg->echo = (int64_t) get_uint(&c, 8);

	/* What is flushed has been written; what is replayed need not be ours. */
	return finished(&c) && msg->flush <= msg->write;
}

size_t
link_feedback_encode(const LinkFeedback *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, msg->xmin, 4);
	to = put_uint(to, msg->xmin_epoch, 4);
	to = put_uint(to, msg->catalog_xmin, 4);
	to = put_uint(to, msg->catalog_xmin_epoch, 4);
	return to - buf;
}

bool
link_feedback_decode(const uint8_t *buf, size_t length, LinkFeedback *msg)
{
	Cursor c = {buf, buf + length, false};

	msg->xmin = get_uint(&c, 4);
	msg->xmin_epoch = get_uint(&c, 4);
	msg->catalog_xmin = get_uint(&c, 4);
	msg->catalog_xmin_epoch = get_uint(&c, 4);
	return finished(&c);
}

size_t
link_auth_client_encode(const LinkAuthClient *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, msg->id, 8);
	to = put_bytes(to, msg->nonce, LINK_NONCE_SIZE);
	return to - buf;
}

bool
link_auth_client_decode(const uint8_t *buf, size_t length, LinkAuthClient *msg)
{
	Cursor c = {buf, buf + length, false};

	msg->id = get_uint(&c, 8);
	get_bytes(&c, msg->nonce, LINK_NONCE_SIZE);
	return finished(&c);
}

size_t
link_auth_server_encode(const LinkAuthServer *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_bytes(to, msg->nonce, LINK_NONCE_SIZE);
	to = put_bytes(to, msg->proof, LINK_MAC_SIZE);
	return to - buf;
}

bool
link_auth_server_decode(const uint8_t *buf, size_t length, LinkAuthServer *msg)
{
	Cursor c = {buf, buf + length, false};

	get_bytes(&c, msg->nonce, LINK_NONCE_SIZE);
	get_bytes(&c, msg->proof, LINK_MAC_SIZE);
	return finished(&c);
}

size_t
link_auth_proof_encode(const LinkAuthProof *msg, uint8_t *buf)
{
	return put_bytes(buf, msg->proof, LINK_MAC_SIZE) - buf;
}

bool
link_auth_proof_decode(const uint8_t *buf, size_t length, LinkAuthProof *msg)
{
	Cursor c = {buf, buf + length, false};

	get_bytes(&c, msg->proof, LINK_MAC_SIZE);
	return finished(&c);
}

size_t
link_ring_end_encode(const LinkRingEnd *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, msg->generation, 4);
	to = put_uint(to, msg->queue_pair, 4);
	to = put_uint(to, msg->sequence, 4);
	to = put_uint(to, msg->lid, 2);
	to = put_uint(to, msg->mtu, 1);
	to = put_uint(to, msg->layer, 1);
	to = put_bytes(to, msg->gid, sizeof(msg->gid));
	to = put_uint(to, msg->key, 4);
	to = put_uint(to, msg->slots, 4);
	to = put_uint(to, msg->address, 8);
	to = put_uint(to, msg->size, 8);
	return to - buf;
}

/* Numbers that are out of range here would be found by no verb in time. */
bool
link_ring_end_decode(const uint8_t *buf, size_t length, LinkRingEnd *msg)
{
	Cursor c = {buf, buf + length, false};

	msg->generation = get_uint(&c, 4);
	msg->queue_pair = get_uint(&c, 4);
	msg->sequence = get_uint(&c, 4);
	msg->lid = get_uint(&c, 2);
	msg->mtu = get_uint(&c, 1);
	msg->layer = get_uint(&c, 1);
	get_bytes(&c, msg->gid, sizeof(msg->gid));
	msg->key = get_uint(&c, 4);
	msg->slots = get_uint(&c, 4);
	msg->address = get_uint(&c, 8);
	msg->size = get_uint(&c, 8);
	return finished(&c) && msg->generation > 0 && msg->queue_pair < (1 << 24) &&
		   msg->sequence < (1 << 24) && msg->mtu >= 1 && msg->mtu <= 5 &&
		   (msg->layer == LINK_LAYER_INFINIBAND || msg->layer == LINK_LAYER_ETHERNET) &&
		   msg->slots >= LINK_RING_MIN_SLOTS && msg->slots <= LINK_RING_MAX_SLOTS &&
		   msg->size >= LINK_RING_MIN_SIZE && msg->size <= LINK_RING_MAX_SIZE &&
		   msg->size % LINK_RING_MIN_SIZE == 0 && msg->address <= UINT64_MAX - msg->size;
}

size_t
link_ring_mark_encode(const LinkRingMark *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, msg->generation, 4);
	to = put_uint(to, msg->position, 8);
	return to - buf;
}

bool
link_ring_mark_decode(const uint8_t *buf, size_t length, LinkRingMark *msg)
{
	Cursor c = {buf, buf + length, false};

	msg->generation = get_uint(&c, 4);
	msg->position = get_uint(&c, 8);
	return finished(&c);
}

size_t
link_ring_stop_encode(const LinkRingStop *msg, uint8_t *buf)
{
	uint8_t *to = buf;

	to = put_uint(to, msg->generation, 4);
	to = put_uint(to, msg->started, 1);
	to = put_string(to, msg->reason, LINK_TEXT_SIZE);
	return to - buf;
}

bool
link_ring_stop_decode(const uint8_t *buf, size_t length, LinkRingStop *msg)
{
	Cursor c = {buf, buf + length, false};
	uint64_t started;

	msg->generation = get_uint(&c, 4);
	started = get_uint(&c, 1);
	msg->started = started == 1;
	get_string(&c, msg->reason, LINK_TEXT_SIZE);
	return finished(&c) && started <= 1;
}
