/*-------------------------------------------------------------------------
 *
 * decode.c
 *	  In-process fuzzing of everything in link/ that reads bytes of others.
 *
 * Every iteration makes its input from (seed, number of the iteration) alone,
 * so that a failure can be run again by itself: decode -s SEED -i ITERATION.
 * Besides not crashing under the sanitizers, each category has a rule that
 * every input must obey; the rules are at the functions below.
 *
 * The categories count how often their input was accepted and refused.  One
 * that has never seen both does not test anything, and fails.
 *
 * With LINK_LIBFUZZER defined there is no main() but the entry for libFuzzer.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conn.h"
#include "fuzz.h"

/* ---------------------------------------------------------------- outcome */

/* Why an iteration failed: the first reason counts. */
static const char *broken;

#define RULE(condition)                     \
	do                                      \
	{                                       \
		if (!(condition) && broken == NULL) \
			broken = #condition;            \
	} while (0)

static long accepted;
static long refused;

static void
count(bool good)
{
	if (good)
		accepted++;
	else
		refused++;
}

/* --------------------------------------------------------------- payloads */

/*
 * Rule: what a decoder takes, the encoder of that message makes again, byte by
 * byte.  (The one exception is on purpose: an unknown reason is "other".)
 */
static bool
check_payload(LinkFrameType type, const uint8_t *payload, size_t length)
{
	static uint8_t again[LINK_HELLO_MAX + LINK_NOTICE_MAX];
	static union
	{
		LinkHello hello;
		LinkWelcome welcome;
		LinkNotice notice;
		LinkAck ack;
		LinkFeedback feedback;
		LinkAuthClient client;
		LinkAuthServer server;
		LinkAuthProof proof;
		LinkRingEnd ring_end;
		LinkRingMark ring_mark;
		LinkRingStop ring_stop;
	} msg;
	size_t skip = 0;
	size_t n;

	switch (type)
	{
#define CASE(TYPE, name)                                       \
	case TYPE:                                                 \
		if (!link_##name##_decode(payload, length, &msg.name)) \
			return false;                                      \
		n = link_##name##_encode(&msg.name, again);            \
		break
#define link_client_decode link_auth_client_decode
#define link_client_encode link_auth_client_encode
#define link_server_decode link_auth_server_decode
#define link_server_encode link_auth_server_encode
#define link_proof_decode  link_auth_proof_decode
#define link_proof_encode  link_auth_proof_encode
		CASE(LINK_AUTH_CLIENT, client);
		CASE(LINK_AUTH_SERVER, server);
		CASE(LINK_AUTH_PROOF, proof);
		CASE(LINK_HELLO, hello);
		CASE(LINK_WELCOME, welcome);
		CASE(LINK_ACK, ack);
		CASE(LINK_FEEDBACK, feedback);
		case LINK_RING_OFFER:
			CASE(LINK_RING_ACCEPT, ring_end);
		case LINK_RING_START:
			CASE(LINK_RING_CREDIT, ring_mark);
			CASE(LINK_RING_STOP, ring_stop);
		case LINK_REFUSE:
			CASE(LINK_NOTICE, notice);
#undef CASE
		default:
			return true;
	}
	if ((type == LINK_REFUSE || type == LINK_NOTICE) && msg.notice.reason == LINK_REASON_OTHER)
		skip = 4;
	RULE(n == length);
	RULE(n < skip || memcmp(again + skip, payload + skip, n - skip) == 0);
	return true;
}

/* ------------------------------------------------------------- decoding */

/* Decode a copy of exactly this length: reading on is seen by the sanitizer. */
static LinkDecode
decode_exactly(const uint8_t *bytes, size_t length, LinkHeader *header)
{
	uint8_t *copy = malloc(length > 0 ? length : 1);
	LinkDecode result;

	memcpy(copy, bytes, length);
	result = link_frame_decode(copy, length, header);
	if (result == LINK_DECODE_OK)
	{
		RULE(header->version == LINK_VERSION);
		RULE(header->type > 0 && header->type < LINK_TYPE_COUNT);
		RULE((header->flags & ~LINK_FLAGS_KNOWN) == 0);
		RULE(header->length <= length - LINK_HEADER_SIZE);
		(void) check_payload((LinkFrameType) header->type, copy + LINK_HEADER_SIZE, header->length);
	}
	free(copy);
	return result;
}

/* Rule: no frame is found in noise, whatever it starts with. */
static void
fuzz_random(Rng *rng)
{
	uint8_t buf[512];
	size_t length = below(rng, sizeof(buf));
	LinkHeader header;
	LinkDecode result;

	random_bytes(rng, buf, length);
	if (length >= 5 && one_in(rng, 2))
	{
		memcpy(buf, "TNDM", 4);
		buf[4] = LINK_VERSION;
		result = decode_exactly(buf, length, &header);
		RULE(result == (length < LINK_HEADER_SIZE ? LINK_DECODE_MORE : LINK_DECODE_BAD_CRC));
	}
	else
	{
		result = decode_exactly(buf, length, &header);
		RULE(result == LINK_DECODE_BAD_MAGIC || result == LINK_DECODE_MORE);
	}
	/* "accepted": so far, that is */
	count(result == LINK_DECODE_MORE);
}

/* Rule: a frame without its end is incomplete, neither good nor bad. */
static void
fuzz_truncated(Rng *rng)
{
	static uint8_t buf[MAX_FRAME];
	LinkHeader header;
	size_t length = random_frame(rng, buf);
	size_t cut = below(rng, length + 1);
	LinkDecode result = decode_exactly(buf, cut, &header);

	RULE(result == (cut == length ? LINK_DECODE_OK : LINK_DECODE_MORE));
	count(result == LINK_DECODE_OK);
}

/* Rule: a frame that was changed is refused, one that was not is taken. */
static void
fuzz_mutated(Rng *rng)
{
	static uint8_t buf[MAX_FRAME];
	static uint8_t original[MAX_FRAME];
	LinkHeader header;
	size_t length = random_frame(rng, buf);
	LinkDecode result;

	memcpy(original, buf, length);
	mutate(rng, buf, length);
	result = decode_exactly(buf, length, &header);
	if (memcmp(original, buf, length) == 0)
		RULE(result == LINK_DECODE_OK);
	else
		RULE(result != LINK_DECODE_OK && result != LINK_DECODE_MORE);
	count(result == LINK_DECODE_OK);
}

/*
 * Frames of a sender that knows the checksums and nothing else.  Rules: those
 * of decode_exactly(); and type, flags and length decide about the frame.
 */
static void
fuzz_sealed(Rng *rng)
{
	static uint8_t buf[MAX_FRAME + 64];
	LinkHeader header;
	size_t length = random_frame(rng, buf);
	LinkDecode result;
	bool good;

	/* more or fewer bytes */
	if (one_in(rng, 2))
	{
		if (one_in(rng, 2))
			length -= below(rng, length - LINK_HEADER_SIZE + 1);
		else
		{
			uint32_t more = below(rng, 64);

			random_bytes(rng, buf + length, more);
			length += more;
		}
	}
	if (one_in(rng, 4))
		buf[AT_TYPE] = below(rng, LINK_TYPE_COUNT + 3);
	if (one_in(rng, 2))
		mutate(rng, buf, length);
	seal(buf, length);
	if (one_in(rng, 8))
	{
		/* the checksum of the header covers any length it gives */
		poke32(buf + AT_LENGTH, edgy(rng));
		poke32(buf + AT_HEADER_CRC, crc32c(buf, AT_HEADER_CRC));
	}
	result = decode_exactly(buf, length, &header);
	RULE(result != LINK_DECODE_BAD_MAGIC && result != LINK_DECODE_BAD_VERSION);
	RULE(result != LINK_DECODE_BAD_CRC);
	good = result == LINK_DECODE_OK;
	if (result == LINK_DECODE_MORE)
		RULE(header.length <= LINK_MAX_PAYLOAD && header.length > length - LINK_HEADER_SIZE);
	if (buf[AT_TYPE] == 0 || buf[AT_TYPE] >= LINK_TYPE_COUNT)
		RULE(result == LINK_DECODE_BAD_TYPE);
	count(good);
}

/* Payloads without a frame around them, in the hands of every decoder. */
static void
fuzz_payload(Rng *rng)
{
	static uint8_t buf[MAX_FRAME];
	LinkFrameType made = (LinkFrameType) (1 + below(rng, LINK_TYPE_COUNT - 1));
	size_t length = random_payload(rng, made, buf);
	uint8_t *copy;

	if (one_in(rng, 4))
		length = below(rng, length + 1);
	if (one_in(rng, 4))
	{
		uint32_t more = below(rng, 32);

		random_bytes(rng, buf + length, more);
		length += more;
	}
	if (!one_in(rng, 4))
		mutate(rng, buf, length);
	copy = malloc(length > 0 ? length : 1);
	memcpy(copy, buf, length);
	for (int type = 1; type < LINK_TYPE_COUNT; type++)
	{
		bool good = check_payload((LinkFrameType) type, copy, length);

		if (type == (int) made)
			count(good);
	}
	free(copy);
}

/* ------------------------------------------------------------ compression */

/*
 * A few compressed frames, one of them changed, or noise in place of one.
 * Rules: what comes out is what went in or nothing at all; a claimed length
 * beyond the limit is never believed; and (under the sanitizers) nothing else
 * is touched.
 */
static void
fuzz_compressed(Rng *rng)
{
	static uint8_t wal[LINK_COMPRESS_MAX];
	static uint8_t packed[LINK_MAX_PAYLOAD];
	LinkCompression kind = one_in(rng, 2) ? LINK_COMPRESSION_LZ4 : LINK_COMPRESSION_ZSTD;
	LinkCodec *out = link_codec_create(kind, true, 1 + below(rng, 3));
	LinkCodec *in = link_codec_create(kind, false, 0);
	uint32_t frames = 1 + below(rng, 4);
	uint32_t damaged = below(rng, frames + 1); /* perhaps none */
	uint64_t lsn = below(rng, 1 << 20);

	for (uint32_t i = 0; i < frames; i++)
	{
		size_t length = 1 + below(rng, one_in(rng, 8) ? LINK_COMPRESS_MAX : 4000);
		const uint8_t *raw;
		size_t raw_length;
		uint8_t *copy;
		size_t n;
		bool good;

		random_bytes(rng, wal, length < 256 ? length : 256);
		for (size_t at = 256; at < length; at++)
			wal[at] = wal[at - (1 + at % 256)];
		memcpy(link_codec_room(out), wal, length);
		n = link_codec_compress(out, lsn, length, packed);
		RULE(n > LINK_COMPRESS_HEADER && n <= LINK_MAX_PAYLOAD);
		if (i == damaged)
		{
			switch (below(rng, 4))
			{
				case 0:
					mutate(rng, packed, n);
					break;
				case 1:
					n = below(rng, n);
					break;
				case 2:
					random_bytes(rng, packed + 4, n - 4);
					break;
				case 3:
					poke32(packed, edgy(rng));
					break;
			}
		}
		copy = malloc(n > 0 ? n : 1);
		memcpy(copy, packed, n);
		good = link_codec_decompress(in, lsn, copy, n, &raw, &raw_length);
		free(copy);
		if (good)
		{
			RULE(raw_length <= LINK_COMPRESS_MAX);
			RULE(raw_length == length && memcmp(raw, wal, length) == 0);
		}
		else
			RULE(i == damaged);
		count(good);
		if (!good)
			break; /* the stream is of no use any more */
	}
	link_codec_destroy(out);
	link_codec_destroy(in);
}

/* ---------------------------------------------------------------- streams */

/* A transport that hands out what lies in memory, in pieces of any size. */
static struct
{
	const uint8_t *at;
	size_t left;
	Rng *rng;
} memory;

static ssize_t
memory_recv(LinkConn *conn, void *data, size_t length)
{
	size_t n = 1 + below(memory.rng, one_in(memory.rng, 2) ? 100 : 100000);

	(void) conn;
	if (memory.left == 0)
		return LINK_IO_CLOSED;
	if (n > memory.left)
		n = memory.left;
	if (n > length)
		n = length;
	memcpy(data, memory.at, n);
	memory.at += n;
	memory.left -= n;
	return n;
}

static ssize_t
memory_send(LinkConn *conn, const void *data, size_t length)
{
	(void) conn;
	(void) data;
	return length;
}

static void
memory_close(LinkConn *conn)
{
	(void) conn;
}

static const LinkTransport memory_transport = {
	.name = "memory", .send = memory_send, .recv = memory_recv, .close = memory_close};

/*
 * Frames in a row, perhaps with one change.  Rule: exactly those before the
 * change come out, unchanged, and then an error that stays.
 */
static void
fuzz_stream(Rng *rng)
{
	enum
	{
		MAX_FRAMES = 8
	};
	static uint8_t original[MAX_FRAMES * MAX_FRAME];
	static uint8_t stream[MAX_FRAMES * MAX_FRAME];
	static LinkConn *conn;
	size_t ends[MAX_FRAMES];
	int frames = 1 + below(rng, MAX_FRAMES);
	int taken = 0;
	size_t total = 0;
	size_t good = 0; /* bytes before the first change */
	LinkDecode result = LINK_DECODE_MORE;

	for (int i = 0; i < frames; i++)
	{
		total += random_frame(rng, original + total);
		ends[i] = total;
	}
	memcpy(stream, original, total);
	if (one_in(rng, 2))
		mutate(rng, stream, total);
	while (good < total && stream[good] == original[good])
		good++;

	if (conn == NULL)
		conn = link_conn_create(-1);
	conn->transport = &memory_transport;
	conn->in.start = conn->in.end = 0;
	memory.at = stream;
	memory.left = total;
	memory.rng = rng;
	while (result == LINK_DECODE_MORE && link_fill(conn) != LINK_IO_CLOSED)
	{
		LinkHeader header;
		const uint8_t *payload;

		while ((result = link_next(conn, &header, &payload)) == LINK_DECODE_OK)
		{
			size_t start = taken > 0 ? ends[taken - 1] : 0;

			RULE(taken < frames);
			if (taken >= frames)
				return;
			RULE(ends[taken] <= good);
			RULE(header.length == ends[taken] - start - LINK_HEADER_SIZE);
			RULE(memcmp(payload, original + start + LINK_HEADER_SIZE, header.length) == 0);
			taken++;
		}
		if (result != LINK_DECODE_MORE)
			RULE(link_next(conn, &header, &payload) == result);
	}
	if (good == total)
		RULE(taken == frames && result == LINK_DECODE_MORE);
	else
	{
		RULE(result != LINK_DECODE_MORE);
		RULE(taken == frames || ends[taken] > good);
	}
	count(good == total);
}

/* --------------------------------------------------------------- sessions */

enum
{
	CLIENT,
	SERVER
};

typedef struct Offer
{
	uint64_t id;
	uint8_t key[LINK_KEY_SIZE];
	bool tls;
	int lookups;
	bool used;
} Offer;

static bool
find_key(void *arg, uint64_t id, bool tls, uint8_t *key)
{
	Offer *offer = arg;

	offer->lookups++;
	if (offer->used || id != offer->id || tls != offer->tls)
		return false;
	offer->used = true;
	memcpy(key, offer->key, LINK_KEY_SIZE);
	return true;
}

/* One direction of the network between both. */
typedef struct Way
{
	int in;
	int out;
	long at;      /* byte from which on it misbehaves, or -1 */
	bool done;    /* it has */
	size_t sent;  /* bytes that went in ... */
	size_t given; /* ... and came out */
	uint8_t sent_bytes[512];
	uint8_t given_bytes[512];
} Way;

static void
give(Way *way, const uint8_t *data, size_t length)
{
	size_t room = sizeof(way->given_bytes);

	for (size_t i = 0; i < length && way->given + i < room; i++)
		way->given_bytes[way->given + i] = data[i];
	way->given += length;
	if (send(way->out, data, length, MSG_NOSIGNAL) < 0)
		shutdown(way->in, SHUT_RDWR);
}

/* Carry on what there is, damaged at its time; true if there was anything. */
static bool
carry(Rng *rng, Way *way)
{
	uint8_t buf[8192];
	ssize_t n = recv(way->in, buf, 4096, MSG_DONTWAIT);
	size_t room = sizeof(way->sent_bytes);
	size_t at;

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0)
	{
		shutdown(way->out, SHUT_WR);
		return false;
	}
	for (ssize_t i = 0; i < n && way->sent + i < room; i++)
		way->sent_bytes[way->sent + i] = buf[i];
	way->sent += n;
	if (way->done || way->at < 0 || way->sent <= (size_t) way->at)
	{
		give(way, buf, n);
		return true;
	}

	way->done = true;
	at = way->at - (way->sent - n);
	switch (below(rng, 7))
	{
		case 0: /* change */
			mutate(rng, buf + at, n - at);
			give(way, buf, n);
			break;
		case 1: /* cut */
			give(way, buf, at);
			shutdown(way->out, SHUT_WR);
			break;
		case 2: /* lose */
			give(way, buf, at);
			break;
		case 3: /* twice */
			give(way, buf, n);
			give(way, buf, n);
			break;
		case 4: /* noise in between */
			give(way, buf, at);
			random_bytes(rng, buf + 4096, 64);
			give(way, buf + 4096, 1 + below(rng, 64));
			give(way, buf + at, n - at);
			break;
		case 5: /* a sound frame in between */
			give(way, buf, at);
			{
				static uint8_t frame[MAX_FRAME];

				give(way, frame, random_frame(rng, frame));
			}
			give(way, buf + at, n - at);
			break;
		case 6: /* a change that the checksum does not show */
			if ((size_t) n > LINK_HEADER_SIZE)
			{
				mutate(rng, buf + LINK_HEADER_SIZE, n - LINK_HEADER_SIZE);
				seal(buf, n);
			}
			give(way, buf, n);
			break;
	}
	return true;
}

/*
 * A whole session: authentication and some frames, over a network that does
 * one bad thing.  Rules: it ends; the key is looked up once at most; whoever
 * ends up authenticated has been given exactly what the other side sent
 * (plain) and both had the same key (always); and frames that come out
 * afterwards are what went in.
 */
static void
session(Rng *rng, bool tls)
{
	static uint8_t frame[MAX_FRAME];
	Offer offer = {.id = rnd(rng), .tls = tls};
	LinkConn *conn[2];
	int result[2] = {0, 0};
	bool live[2] = {true, true};
	Way way[2];
	int a[2];
	int b[2];
	bool wrong_key = one_in(rng, 8);
	/* bytes of a whole authentication, per sender */
	const size_t needed[2] = {2 * LINK_HEADER_SIZE + 8 + LINK_NONCE_SIZE + LINK_MAC_SIZE,
							  LINK_HEADER_SIZE + LINK_NONCE_SIZE + LINK_MAC_SIZE};
	size_t length = 0;
	int rounds = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a) != 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b) != 0)
	{
		perror("socketpair");
		exit(2);
	}
	conn[CLIENT] = link_conn_create(a[0]);
	conn[SERVER] = link_conn_create(b[0]);
	memset(way, 0, sizeof(way));
	way[CLIENT].in = way[SERVER].out = a[1];
	way[SERVER].in = way[CLIENT].out = b[1];
	way[CLIENT].at = way[SERVER].at = -1;
	if (!one_in(rng, 8))
		way[below(rng, 2)].at = below(rng, tls ? 420 : 260);

	random_bytes(rng, offer.key, LINK_KEY_SIZE);
	link_auth_client(conn[CLIENT], offer.id, offer.key, tls);
	link_auth_server(conn[SERVER], find_key, &offer);
	if (wrong_key)
		offer.key[below(rng, LINK_KEY_SIZE)] ^= 1 << below(rng, 8);

	for (bool moved = true; moved;)
	{
		moved = false;
		for (int i = 0; i < 2; i++)
		{
			if (!live[i])
				continue;
			if (result[i] == 0)
				result[i] = link_auth_step(conn[i]);
			if (result[i] < 0)
			{
				RULE(link_conn_error(conn[i])[0] != '\0');
				live[i] = false;
				shutdown(conn[i]->fd, SHUT_RDWR);
			}
			else if (result[i] == 1)
				(void) link_flush(conn[i]);
		}
		moved |= carry(rng, &way[CLIENT]);
		moved |= carry(rng, &way[SERVER]);
		if (++rounds > 1000)
		{
			RULE(rounds <= 1000);
			break;
		}
	}

	/* the network is gone: whoever still waits must give up */
	if (result[CLIENT] != 1 || result[SERVER] != 1)
	{
		shutdown(a[1], SHUT_RDWR);
		shutdown(b[1], SHUT_RDWR);
		for (int i = 0; i < 2; i++)
		{
			for (int j = 0; j < 10 && result[i] == 0; j++)
				result[i] = link_auth_step(conn[i]);
			RULE(result[i] != 0);
		}
	}
	RULE(offer.lookups <= 1);
	if (wrong_key)
		RULE(result[CLIENT] != 1 && result[SERVER] != 1);
	if (!tls && !wrong_key)
	{
		bool same[2];

		for (int i = 0; i < 2; i++)
		{
			size_t n = needed[i];

			same[i] = way[i].sent >= n && way[i].given >= n &&
					  memcmp(way[i].sent_bytes, way[i].given_bytes, n) == 0;
		}
		RULE(result[SERVER] != 1 || (same[CLIENT] && same[SERVER]));
		RULE(result[CLIENT] != 1 || same[SERVER]);
		if (same[CLIENT] && same[SERVER])
			RULE(result[CLIENT] == 1 && result[SERVER] == 1);
	}
	if (tls && result[SERVER] == 1)
		RULE(result[CLIENT] == 1);
	count(result[CLIENT] == 1 && result[SERVER] == 1);

	if (result[CLIENT] == 1 && result[SERVER] == 1)
	{
		LinkHeader header;
		LinkHeader sent;
		const uint8_t *payload;
		bool put;

		/* all of these fit into the socket buffers */
		do
			length = random_frame(rng, frame);
		while (length > 32768);
		RULE(link_frame_decode(frame, length, &header) == LINK_DECODE_OK);
		sent = header;
		put = link_frame_put(conn[CLIENT], &sent, frame + LINK_HEADER_SIZE, header.length);
		RULE(put);
		(void) link_flush(conn[CLIENT]);
		while (carry(rng, &way[CLIENT]))
			(void) link_flush(conn[CLIENT]);
		while (link_fill(conn[SERVER]) > 0)
			;
		/* a frame that was put in on the way may come first, but not on TLS */
		if (link_next(conn[SERVER], &header, &payload) == LINK_DECODE_OK && tls)
		{
			RULE(header.type == sent.type && header.lsn == sent.lsn);
			RULE(header.length == sent.length);
			RULE(memcmp(payload, frame + LINK_HEADER_SIZE, header.length) == 0);
		}
	}
	link_conn_destroy(conn[CLIENT]);
	link_conn_destroy(conn[SERVER]);
	close(a[1]);
	close(b[1]);
}

static void
fuzz_plain_session(Rng *rng)
{
	session(rng, false);
}

static void
fuzz_tls_session(Rng *rng)
{
	session(rng, true);
}

#ifndef LINK_LIBFUZZER

/* ------------------------------------------------------------------- main */

typedef struct Category
{
	const char *name;
	void (*run)(Rng *rng);
	int weight; /* of 10000 iterations */
	long runs;
	long failed;
	long accepted;
	long refused;
} Category;

static Category categories[] = {
	{.name = "random bytes", .run = fuzz_random, .weight = 2500},
	{.name = "truncated frames", .run = fuzz_truncated, .weight = 1500},
	{.name = "mutated frames", .run = fuzz_mutated, .weight = 2000},
	{.name = "mutated frames, right checksums", .run = fuzz_sealed, .weight = 2000},
	{.name = "mutated payloads", .run = fuzz_payload, .weight = 1570},
	{.name = "mutated compressed frames", .run = fuzz_compressed, .weight = 30},
	{.name = "mutated streams", .run = fuzz_stream, .weight = 392},
	{.name = "plain sessions", .run = fuzz_plain_session, .weight = 6},
	{.name = "TLS sessions", .run = fuzz_tls_session, .weight = 2},
};

#define CATEGORIES ((int) (sizeof(categories) / sizeof(categories[0])))

static void
run_one(uint64_t seed, uint64_t iteration)
{
	Rng rng = {.state = seed * UINT64_C(0xD1342543DE82EF95) + iteration};
	int ticket;
	Category *category = categories;

	rng.state = rnd(&rng);
	ticket = below(&rng, 10000);
	while (ticket >= category->weight)
		ticket -= (category++)->weight;

	broken = NULL;
	accepted = refused = 0;
	category->run(&rng);
	category->runs++;
	category->accepted += accepted;
	category->refused += refused;
	if (broken != NULL)
	{
		if (category->failed++ == 0)
			printf("%s: broken: %s\n  again: decode -s %" PRIu64 " -i %" PRIu64 "\n",
				   category->name, broken, seed, iteration);
	}
}

int
main(int argc, char **argv)
{
	uint64_t seed = 1;
	uint64_t n = 1000000;
	int64_t only = -1;
	int passed = 0;
	int failed = 0;
	int option;

	while ((option = getopt(argc, argv, "n:s:i:")) != -1)
	{
		switch (option)
		{
			case 'n':
				n = strtoull(optarg, NULL, 10);
				break;
			case 's':
				seed = strtoull(optarg, NULL, 10);
				break;
			case 'i':
				only = strtoll(optarg, NULL, 10);
				break;
			default:
				fprintf(stderr, "usage: decode [-n ITERATIONS] [-s SEED] [-i ONE]\n");
				return 2;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);

	if (only >= 0)
		run_one(seed, only);
	else
	{
		for (uint64_t i = 0; i < n; i++)
			run_one(seed, i);
	}

	for (int i = 0; i < CATEGORIES; i++)
	{
		Category *c = &categories[i];
		bool idle = c->runs >= 100 && (c->accepted == 0 || c->refused == 0);

		printf("%-32s %8ld runs, %8ld accepted, %8ld refused, %ld failed%s\n", c->name, c->runs,
			   c->accepted, c->refused, c->failed, idle ? ": tests nothing" : "");
		if (c->failed > 0 || idle)
			failed++;
		else
			passed++;
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0 ? 1 : 0;
}

#else

/* -------------------------------------------------------------- libFuzzer */

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern int LLVMFuzzerInitialize(int *argc, char ***argv);

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void) argc;
	(void) argv;
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

/* These bytes as all that a client says to a server. */
static void
say(const uint8_t *data, size_t size)
{
	Offer offer = {.id = 1};
	int fds[2];
	LinkConn *server;
	int result;

	if (size > 65536 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
		return;
	server = link_conn_create(fds[0]);
	link_auth_server(server, find_key, &offer);
	(void) !write(fds[1], data, size);
	shutdown(fds[1], SHUT_WR);
	do
		result = link_auth_step(server);
	while (result == LINK_IO_AGAIN);
	RULE(result < 0); /* nobody guesses the proof */
	RULE(offer.lookups <= 1);
	link_conn_destroy(server);
	close(fds[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[MAX_FRAME];
	LinkHeader header;

	if (size < 2 || size > sizeof(buf))
		return 0;
	broken = NULL;
	switch (data[0] % 6)
	{
		case 0: /* as they are */
			(void) decode_exactly(data + 1, size - 1, &header);
			break;
		case 1: /* with right checksums */
			if (size <= LINK_HEADER_SIZE)
				return 0;
			memcpy(buf, data + 1, size - 1);
			seal(buf, size - 1);
			(void) decode_exactly(buf, size - 1, &header);
			break;
		case 2: /* as a payload */
			(void) check_payload((LinkFrameType) (data[1] % LINK_TYPE_COUNT), data + 2, size - 2);
			break;
		case 3: /* to a server */
			say(data + 1, size - 1);
			break;
		case 4: /* to a server, as a sound first message and what comes after */
			if (size < 1 + LINK_HEADER_SIZE + 40)
				return 0;
			memcpy(buf, data + 1, size - 1);
			buf[AT_TYPE] = LINK_AUTH_CLIENT;
			memset(buf + 6, 0, AT_HEADER_CRC - 6);
			seal(buf, LINK_HEADER_SIZE + 40);
			if (size > 2 * LINK_HEADER_SIZE + 42)
				seal(buf + LINK_HEADER_SIZE + 40, size - 1 - LINK_HEADER_SIZE - 40);
			say(buf, size - 1);
			break;
		case 5: /* to a decompressor */
		{
			LinkCodec *in = link_codec_create(
				data[1] % 2 ? LINK_COMPRESSION_LZ4 : LINK_COMPRESSION_ZSTD, false, 0);
			const uint8_t *raw;
			size_t length;

			(void) link_codec_decompress(in, 0, data + 2, size - 2, &raw, &length);
			link_codec_destroy(in);
			break;
		}
	}
	if (broken != NULL)
	{
		fprintf(stderr, "broken: %s\n", broken);
		abort();
	}
	return 0;
}

#endif
