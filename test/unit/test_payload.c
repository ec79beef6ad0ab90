/*-------------------------------------------------------------------------
 *
 * test_payload.c
 *	  Tests of what each type of frame carries (link/frame.c).
 *
 *-------------------------------------------------------------------------
 */
#include "sample.h"

#include <stdlib.h>
#include <string.h>

/*
 * Each payload behind one face: decode into 'msg', encode from it.  So what
 * holds for all of them is written once.
 */
typedef struct Codec
{
	LinkFrameType type;
	size_t size;
	bool (*decode)(const uint8_t *buf, size_t length, void *msg);
	size_t (*encode)(const void *msg, uint8_t *buf);
} Codec;

#define CODEC(name, Type)                                                   \
	static bool name##_decode(const uint8_t *buf, size_t length, void *msg) \
	{                                                                       \
		return link_##name##_decode(buf, length, (Type *) msg);             \
	}                                                                       \
	static size_t name##_encode(const void *msg, uint8_t *buf)              \
	{                                                                       \
		return link_##name##_encode((const Type *) msg, buf);               \
	}

CODEC(auth_client, LinkAuthClient)
CODEC(auth_server, LinkAuthServer)
CODEC(auth_proof, LinkAuthProof)
CODEC(hello, LinkHello)
CODEC(welcome, LinkWelcome)
CODEC(notice, LinkNotice)
CODEC(ack, LinkAck)
CODEC(feedback, LinkFeedback)
CODEC(ring_end, LinkRingEnd)
CODEC(ring_mark, LinkRingMark)
CODEC(ring_stop, LinkRingStop)

static const Codec codecs[] = {
	{LINK_AUTH_CLIENT, sizeof(LinkAuthClient), auth_client_decode, auth_client_encode},
	{LINK_AUTH_SERVER, sizeof(LinkAuthServer), auth_server_decode, auth_server_encode},
	{LINK_AUTH_PROOF, sizeof(LinkAuthProof), auth_proof_decode, auth_proof_encode},
	{LINK_HELLO, sizeof(LinkHello), hello_decode, hello_encode},
	{LINK_WELCOME, sizeof(LinkWelcome), welcome_decode, welcome_encode},
	{LINK_REFUSE, sizeof(LinkNotice), notice_decode, notice_encode},
	{LINK_NOTICE, sizeof(LinkNotice), notice_decode, notice_encode},
	{LINK_ACK, sizeof(LinkAck), ack_decode, ack_encode},
	{LINK_FEEDBACK, sizeof(LinkFeedback), feedback_decode, feedback_encode},
	{LINK_RING_OFFER, sizeof(LinkRingEnd), ring_end_decode, ring_end_encode},
	{LINK_RING_ACCEPT, sizeof(LinkRingEnd), ring_end_decode, ring_end_encode},
	{LINK_RING_START, sizeof(LinkRingMark), ring_mark_decode, ring_mark_encode},
	{LINK_RING_STOP, sizeof(LinkRingStop), ring_stop_decode, ring_stop_encode},
	{LINK_RING_CREDIT, sizeof(LinkRingMark), ring_mark_decode, ring_mark_encode},
};

#define CODEC_COUNT (sizeof(codecs) / sizeof(codecs[0]))

static bool
decode_copy(const Codec *codec, const uint8_t *bytes, size_t length, void *msg)
{
	uint8_t *copy = exact_copy(bytes, length);
	bool good;

	memset(msg, 0xA5, codec->size);
	good = codec->decode(copy, length, msg);
	free(copy);
	return good;
}

/* Decode as the named type; for checks that no helper covers. */
#define DECODE(name, buf, length, msg)                    \
	({                                                    \
		uint8_t *copy_ = exact_copy(buf, length);         \
		bool good_;                                       \
		memset(msg, 0xA5, sizeof(*(msg)));                \
		good_ = link_##name##_decode(copy_, length, msg); \
		free(copy_);                                      \
		good_;                                            \
	})

static void
test_payload_round_trip(void **state)
{
	uint8_t bytes[LINK_HELLO_MAX];
	uint8_t again[LINK_HELLO_MAX];

	(void) state;
	for (size_t i = 0; i < CODEC_COUNT; i++)
	{
		size_t length = sample_payload(codecs[i].type, bytes);
		void *msg = malloc(codecs[i].size);

		assert_true(decode_copy(&codecs[i], bytes, length, msg));
		assert_int_equal(codecs[i].encode(msg, again), length);
		assert_memory_equal(bytes, again, length);
		free(msg);
	}
}

/* Neither a byte less nor a byte more. */
static void
test_payload_lengths(void **state)
{
	uint8_t bytes[LINK_HELLO_MAX + 64];

	(void) state;
	for (size_t i = 0; i < CODEC_COUNT; i++)
	{
		size_t length = sample_payload(codecs[i].type, bytes);
		void *msg = malloc(codecs[i].size);

		memset(bytes + length, 0, 64);
		for (size_t n = 0; n < length; n++)
			assert_false(decode_copy(&codecs[i], bytes, n, msg));
		assert_true(decode_copy(&codecs[i], bytes, length, msg));
		for (size_t n = length + 1; n <= length + 64; n++)
			assert_false(decode_copy(&codecs[i], bytes, n, msg));
		free(msg);
	}
}

/*
 * A flip that the checksum would have caught: either it is refused, or it is
 * what some sender could have meant, bit for bit, and not a silent repair.
 */
static void
test_payload_bit_flips(void **state)
{
	uint8_t bytes[LINK_HELLO_MAX];
	uint8_t again[LINK_HELLO_MAX];

	(void) state;
	for (size_t i = 0; i < CODEC_COUNT; i++)
	{
		size_t length = sample_payload(codecs[i].type, bytes);
		void *msg = malloc(codecs[i].size);

		for (size_t bit = 0; bit < length * 8; bit++)
		{
			/* an unknown reason is taken for "other", see test_notice_reason */
			bool reason = (codecs[i].type == LINK_REFUSE || codecs[i].type == LINK_NOTICE) &&
						  bit < 32;

			bytes[bit / 8] ^= 1 << (bit % 8);
			if (decode_copy(&codecs[i], bytes, length, msg) && !reason)
			{
				assert_int_equal(codecs[i].encode(msg, again), length);
				assert_memory_equal(bytes, again, length);
			}
			bytes[bit / 8] ^= 1 << (bit % 8);
		}
		free(msg);
	}
}

/* Where each field lies: the bytes are the protocol, not the structure. */
static void
test_payload_layout(void **state)
{
	uint8_t buf[LINK_HELLO_MAX];
	LinkHello hello;
	LinkWelcome welcome = {.incarnation = 0x01020304, .node_name = "ab"};
	LinkNotice notice = {.reason = LINK_REASON_DISK, .message = "m", .hint = "hh"};
	LinkAck ack = {1, 2, 3, -1};
	LinkFeedback feedback = {0x11121314, 0x21222324, 0x31323334, 0x41424344};
	LinkAuthClient client = {.id = UINT64_C(0x0102030405060708)};

	(void) state;
	sample_hello(&hello, 2);
	assert_int_equal(link_hello_encode(&hello, buf), 68 + 2 + 6 + 2 + 6 + 2 + 2 * 32);
	assert_true(peek(buf, 8) == hello.system_identifier);
	assert_int_equal(peek(buf + 8, 4), hello.timeline);
	assert_int_equal(peek(buf + 12, 4), hello.timeline_crc);
	assert_true(peek(buf + 16, 8) == hello.start);
	assert_true(peek(buf + 24, 8) == hello.check_from);
	assert_true(peek(buf + 32, 8) == hello.check_to);
	assert_int_equal(peek(buf + 40, 4), hello.check_crc);
	assert_true(peek(buf + 44, 8) == hello.instance);
	assert_true(peek(buf + 52, 8) == hello.copy);
	assert_true(peek(buf + 60, 8) == hello.floor);
	assert_int_equal(peek(buf + 68, 2), 6);
	assert_memory_equal(buf + 70, "node_b", 6);
	assert_int_equal(peek(buf + 76, 2), 6);
	assert_memory_equal(buf + 78, "slot_b", 6);
	assert_int_equal(peek(buf + 84, 2), 2);
	for (int i = 0; i < 2; i++)
	{
		const uint8_t *at = buf + 86 + 32 * i;

		assert_true(peek(at, 8) == hello.history.entry[i].term);
		assert_int_equal(peek(at + 8, 4), hello.history.entry[i].incarnation);
		assert_int_equal(peek(at + 12, 4), hello.history.entry[i].timeline);
		assert_true(peek(at + 16, 8) == hello.history.entry[i].start);
		assert_true(peek(at + 24, 8) == hello.history.entry[i].nonce);
	}

	assert_int_equal(link_welcome_encode(&welcome, buf), 8);
	assert_memory_equal(buf, "\4\3\2\1\2\0ab", 8);

	assert_int_equal(link_notice_encode(&notice, buf), 4 + 2 + 1 + 2 + 2);
	assert_memory_equal(buf, "\14\0\0\0\1\0m\2\0hh", 11);

	assert_int_equal(link_ack_encode(&ack, buf), 32);
	assert_int_equal(peek(buf, 8), 1);
	assert_int_equal(peek(buf + 8, 8), 2);
	assert_int_equal(peek(buf + 16, 8), 3);
	assert_true(peek(buf + 24, 8) == UINT64_MAX);

	assert_int_equal(link_feedback_encode(&feedback, buf), 16);
	assert_int_equal(peek(buf, 4), feedback.xmin);
	assert_int_equal(peek(buf + 4, 4), feedback.xmin_epoch);
	assert_int_equal(peek(buf + 8, 4), feedback.catalog_xmin);
	assert_int_equal(peek(buf + 12, 4), feedback.catalog_xmin_epoch);

	fill_bytes(client.nonce, LINK_NONCE_SIZE, 50);
	assert_int_equal(link_auth_client_encode(&client, buf), 40);
	assert_memory_equal(buf, "\10\7\6\5\4\3\2\1", 8);
	assert_memory_equal(buf + 8, client.nonce, LINK_NONCE_SIZE);
}

/* The numbers in each message at their ends. */
static void
test_field_limits(void **state)
{
	static const uint64_t values[] = {0, 1, INT64_MAX, UINT64_MAX};
	uint8_t buf[LINK_HELLO_MAX];

	(void) state;
	for (int i = 0; i < 4; i++)
	{
		uint64_t v = values[i];
		uint32_t w = (uint32_t) v;
		size_t length;
		LinkHello hello;
		LinkHello hello2;
		LinkWelcome welcome = {.incarnation = w};
		LinkWelcome welcome2;
		LinkAck ack = {v, v, v, (int64_t) v};
		LinkAck ack2;
		LinkFeedback feedback = {w, w, w, w};
		LinkFeedback feedback2;
		LinkAuthClient client = {.id = v};
		LinkAuthClient client2;

		memset(&hello, 0, sizeof(hello));
		hello.system_identifier = v;
		hello.timeline = w;
		hello.timeline_crc = w;
		hello.start = v;
		hello.check_from = v;
		hello.check_to = v;
		hello.check_crc = w;
		hello.instance = v;
		hello.copy = v;
		hello.floor = v;
		hello.history.count = 1;
		hello.history.entry[0] = (LinkIncarnation){v, w, w, v, v};
		length = link_hello_encode(&hello, buf);
		assert_true(DECODE(hello, buf, length, &hello2));
		assert_true(hello2.system_identifier == v && hello2.timeline == w &&
					hello2.timeline_crc == w && hello2.start == v && hello2.check_from == v &&
					hello2.check_to == v && hello2.check_crc == w && hello2.instance == v &&
					hello2.copy == v && hello2.floor == v);
		assert_string_equal(hello2.node_name, "");
		assert_string_equal(hello2.slot_name, "");
		assert_int_equal(hello2.history.count, 1);
		assert_true(hello2.history.entry[0].term == v && hello2.history.entry[0].incarnation == w &&
					hello2.history.entry[0].timeline == w && hello2.history.entry[0].start == v &&
					hello2.history.entry[0].nonce == v);

		length = link_welcome_encode(&welcome, buf);
		assert_true(DECODE(welcome, buf, length, &welcome2));
		assert_int_equal(welcome2.incarnation, w);

		length = link_ack_encode(&ack, buf);
		assert_true(DECODE(ack, buf, length, &ack2));
		assert_true(ack2.write == v && ack2.flush == v && ack2.apply == v &&
					ack2.echo == (int64_t) v);

		length = link_feedback_encode(&feedback, buf);
		assert_true(DECODE(feedback, buf, length, &feedback2));
		assert_memory_equal(&feedback, &feedback2, sizeof(feedback));

		length = link_auth_client_encode(&client, buf);
		assert_true(DECODE(auth_client, buf, length, &client2));
		assert_true(client2.id == v);
	}
}

/* Numbers that contradict each other. */
static void
test_contradictions(void **state)
{
	uint8_t buf[LINK_HELLO_MAX];
	size_t length;
	LinkHello hello;
	LinkHello hello2;
	LinkAck ack2;
	static const struct
	{
		LinkAck ack;
		bool good;
	} acks[] = {
		{{10, 10, 10, 0}, true},         {{10, 9, 0, 0}, true},
		{{10, 11, 0, 0}, false},         {{0, 1, 0, 0}, false},
		{{UINT64_MAX, 0, 0, 0}, true},   {{0, UINT64_MAX, 0, 0}, false},
		{{INT64_MAX, 1, 0, 0}, true},    {{1, (uint64_t) INT64_MAX + 1, 0, 0}, false},
		{{10, 10, 99, INT64_MIN}, true}, /* replayed what did not come from us */
	};

	(void) state;
	for (size_t i = 0; i < sizeof(acks) / sizeof(acks[0]); i++)
	{
		length = link_ack_encode(&acks[i].ack, buf);
		assert_int_equal(DECODE(ack, buf, length, &ack2), acks[i].good);
	}

	sample_hello(&hello, 0);
	hello.check_from = hello.check_to;
	length = link_hello_encode(&hello, buf);
	assert_true(DECODE(hello, buf, length, &hello2));
	hello.check_from = hello.check_to + 1;
	length = link_hello_encode(&hello, buf);
	assert_false(DECODE(hello, buf, length, &hello2));
	hello.check_from = UINT64_MAX;
	hello.check_to = 0;
	length = link_hello_encode(&hello, buf);
	assert_false(DECODE(hello, buf, length, &hello2));
}

/* What an end of a ring may say: each field at its limits. */
static void
test_ring_end_ranges(void **state)
{
	static const struct
	{
		int at;
		int bytes;
		uint64_t value;
		bool good;
	} cases[] = {
		{0, 4, 0, false},       {0, 4, 1, true},
		{4, 4, 1 << 24, false}, {4, 4, (1 << 24) - 1, true},
		{8, 4, 1 << 24, false}, {8, 4, (1 << 24) - 1, true},
		{14, 1, 0, false},      {14, 1, 1, true},
		{14, 1, 5, true},       {14, 1, 6, false},
		{15, 1, 0, false},      {15, 1, 1, true},
		{15, 1, 3, false},      {36, 4, 15, false},
		{36, 4, 16, true},      {36, 4, 65536, true},
		{36, 4, 65537, false},  {40, 8, UINT64_MAX, false},
		{40, 8, 0, true},       {48, 8, 0, false},
		{48, 8, 2097152, true}, {48, 8, 2097152 + 64, false},
		{48, 8, 1 << 30, true}, {48, 8, (1 << 30) + 2097152, false},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		uint8_t buf[LINK_RING_END_SIZE];
		LinkRingEnd out;
		size_t length = sample_payload(LINK_RING_ACCEPT, buf);

		poke(buf + cases[i].at, cases[i].value, cases[i].bytes);
		if (DECODE(ring_end, buf, length, &out) != cases[i].good)
			fail_msg("case %zu", i);
	}
}

/* A flag in a byte is 0 or 1. */
static void
test_ring_stop_flag(void **state)
{
	uint8_t buf[LINK_RING_STOP_MAX];
	LinkRingStop out;
	size_t length = sample_payload(LINK_RING_STOP, buf);

	(void) state;
	for (int value = 0; value < 256; value++)
	{
		poke(buf + 4, value, 1);
		assert_int_equal(DECODE(ring_stop, buf, length, &out), value <= 1);
		if (value <= 1)
			assert_int_equal(out.started, value);
	}
}

static void
test_notice_reason(void **state)
{
	(void) state;
	for (uint64_t reason = 0; reason <= UINT32_MAX; reason += reason < 300 ? 1 : 0xFFFFFFFF - 300)
	{
		LinkNotice notice = {.message = "m", .hint = "h"};
		LinkNotice out;
		uint8_t buf[LINK_NOTICE_MAX];
		size_t length = link_notice_encode(&notice, buf);

		poke(buf, reason, 4);
		assert_true(DECODE(notice, buf, length, &out));
		assert_int_equal(out.reason,
						 reason < LINK_REASON_COUNT ? (LinkReason) reason : LINK_REASON_OTHER);
		assert_string_equal(out.message, "m");
		assert_string_equal(out.hint, "h");
	}
}

/*
 * A message with one string at its end: the way to try what strings may be.
 * 'head' bytes precede the length of the string, 'tail' bytes follow it.
 */
typedef struct StringCase
{
	const char *what;
	LinkFrameType type;
	size_t head;
	size_t tail;
	size_t max; /* longest string */
	size_t at;  /* where in the structure it is put */
} StringCase;

static const StringCase strings[] = {
	{"hello node", LINK_HELLO, 68, 2 + 2, 63, offsetof(LinkHello, node_name)},
	{"hello slot", LINK_HELLO, 68 + 2, 2, 63, offsetof(LinkHello, slot_name)},
	{"welcome node", LINK_WELCOME, 4, 0, 63, offsetof(LinkWelcome, node_name)},
	{"refuse message", LINK_REFUSE, 4, 2, 1023, offsetof(LinkNotice, message)},
	{"refuse hint", LINK_REFUSE, 4 + 2, 0, 1023, offsetof(LinkNotice, hint)},
	{"notice message", LINK_NOTICE, 4, 2, 1023, offsetof(LinkNotice, message)},
	{"notice hint", LINK_NOTICE, 4 + 2, 0, 1023, offsetof(LinkNotice, hint)},
	{"stop reason", LINK_RING_STOP, 4 + 1, 0, 1023, offsetof(LinkRingStop, reason)},
};

static const Codec *
find_codec(LinkFrameType type)
{
	for (size_t i = 0; i < CODEC_COUNT; i++)
	{
		if (codecs[i].type == type)
			return &codecs[i];
	}
	fail();
	return NULL;
}

static void
test_strings(void **state)
{
	uint8_t buf[4096];
	uint8_t again[LINK_HELLO_MAX];

	(void) state;
	for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
	{
		const StringCase *s = &strings[i];
		const Codec *codec = find_codec(s->type);
		char *msg = malloc(codec->size);

		for (size_t length = 0; length <= s->max + 2; length++)
		{
			size_t total = s->head + 2 + length + s->tail;

			memset(buf, 0, sizeof(buf));
			poke(buf + s->head, length, 2);
			memset(buf + s->head + 2, 'x', length);
			if (decode_copy(codec, buf, total, msg) != (length <= s->max))
				fail_msg("%s of %zu bytes", s->what, length);
			if (length <= s->max)
			{
				assert_int_equal(strlen(msg + s->at), length);
				assert_int_equal(codec->encode(msg, again), total);
				assert_memory_equal(again, buf, total);
			}
			if (length == 0 || length > s->max)
				continue;

			/* a zero byte: first, in the middle, last */
			for (int where = 0; where < 3; where++)
			{
				size_t at = s->head + 2 + (where == 0 ? 0 : where == 1 ? length / 2 : length - 1);

				buf[at] = 0;
				if (decode_copy(codec, buf, total, msg))
					fail_msg("%s of %zu bytes with a zero", s->what, length);
				buf[at] = 'x';
			}
		}

		/* says that it is longer than what is there */
		memset(buf, 0, sizeof(buf));
		for (size_t claimed = s->tail + 1; claimed <= 0xFFFF; claimed++)
		{
			poke(buf + s->head, claimed, 2);
			if (decode_copy(codec, buf, s->head + 2 + s->tail, msg))
				fail_msg("%s of %zu bytes that are not there", s->what, claimed);
		}

		/* any other byte is allowed: the owner makes it fit to print */
		memset(buf, 0, sizeof(buf));
		poke(buf + s->head, 1, 2);
		for (int c = 1; c < 256; c++)
		{
			buf[s->head + 2] = c;
			assert_true(decode_copy(codec, buf, s->head + 2 + 1 + s->tail, msg));
			assert_int_equal((uint8_t) msg[s->at], c);
			assert_int_equal(msg[s->at + 1], 0);
		}
		free(msg);
	}
}

/* The encoder stops at the size of the field, zero or no zero. */
static void
test_unterminated_strings(void **state)
{
	uint8_t buf[LINK_HELLO_MAX];
	LinkWelcome *welcome = malloc(sizeof(LinkWelcome));
	LinkNotice *notice = malloc(sizeof(LinkNotice));
	LinkWelcome welcome2;
	LinkNotice notice2;
	size_t length;

	(void) state;
	memset(welcome, 'y', sizeof(*welcome));
	length = link_welcome_encode(welcome, buf);
	assert_true(DECODE(welcome, buf, length, &welcome2));
	assert_int_equal(strlen(welcome2.node_name), 63);
	memset(notice, 'y', sizeof(*notice));
	notice->reason = LINK_REASON_OTHER;
	length = link_notice_encode(notice, buf);
	assert_true(length <= LINK_NOTICE_MAX);
	assert_true(DECODE(notice, buf, length, &notice2));
	assert_int_equal(strlen(notice2.message), 1023);
	assert_int_equal(strlen(notice2.hint), 1023);
	free(welcome);
	free(notice);
}

static void
test_history_counts(void **state)
{
	static const int counts[] = {0, 1, 2, LINK_MAX_HISTORY - 1, LINK_MAX_HISTORY};
	const size_t head = 68 + 2 + 2;
	const size_t room = head + 2 + 65535 * 32;
	uint8_t *buf = calloc(1, room);
	LinkHello *hello = malloc(sizeof(*hello));
	LinkHello *out = malloc(sizeof(*out));

	(void) state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
	{
		int count = counts[i];
		size_t length;

		sample_hello(hello, count);
		length = link_hello_encode(hello, buf);
		assert_true(DECODE(hello, buf, length, out));
		assert_int_equal(out->history.count, count);
		assert_memory_equal(out->history.entry, hello->history.entry,
							count * sizeof(LinkIncarnation));

		/* one entry less and one more than it says */
		assert_false(DECODE(hello, buf, length + 32, out));
		if (count > 0)
			assert_false(DECODE(hello, buf, length - 32, out));
	}

	/* too many, all of them there */
	memset(buf, 0, room);
	for (int count = LINK_MAX_HISTORY + 1; count <= 65535;
		 count += count < LINK_MAX_HISTORY + 20 ? 1 : 5000)
	{
		poke(buf + head, count, 2);
		assert_false(DECODE(hello, buf, head + 2 + (size_t) count * 32, out));
		assert_false(DECODE(hello, buf, head + 2 + (size_t) LINK_MAX_HISTORY * 32, out));
		assert_false(DECODE(hello, buf, head + 2, out));
	}
	free(buf);
	free(hello);
	free(out);
}

/* The largest of each message has room where the header file says it has. */
static void
test_largest_messages(void **state)
{
	uint8_t *buf = malloc(LINK_HEADER_SIZE + LINK_HELLO_MAX + LINK_NOTICE_MAX);
	LinkHello *hello = malloc(sizeof(*hello));
	LinkHello *hello2 = malloc(sizeof(*hello2));
	LinkNotice notice = {.reason = LINK_REASON_OTHER};
	LinkWelcome welcome = {0};
	LinkHeader header;
	LinkHeader out;

	(void) state;
	sample_hello(hello, LINK_MAX_HISTORY);
	memset(hello->node_name, 'n', LINK_NAME_SIZE - 1);
	memset(hello->slot_name, 's', LINK_NAME_SIZE - 1);
	header = (LinkHeader){.type = LINK_HELLO};
	header.length = link_hello_encode(hello, buf + LINK_HEADER_SIZE);
	assert_true(header.length <= LINK_HELLO_MAX);
	link_header_encode(&header, buf + LINK_HEADER_SIZE, buf);
	assert_int_equal(decode(buf, LINK_HEADER_SIZE + header.length, &out), LINK_DECODE_OK);
	assert_true(DECODE(hello, buf + LINK_HEADER_SIZE, header.length, hello2));
	assert_int_equal(strlen(hello2->node_name), 63);
	assert_int_equal(strlen(hello2->slot_name), 63);
	assert_int_equal(hello2->history.count, LINK_MAX_HISTORY);

	memset(notice.message, 'm', LINK_TEXT_SIZE - 1);
	memset(notice.hint, 'h', LINK_TEXT_SIZE - 1);
	header = (LinkHeader){.type = LINK_REFUSE};
	header.length = link_notice_encode(&notice, buf + LINK_HEADER_SIZE);
	assert_true(header.length <= LINK_NOTICE_MAX);
	link_header_encode(&header, buf + LINK_HEADER_SIZE, buf);
	assert_int_equal(decode(buf, LINK_HEADER_SIZE + header.length, &out), LINK_DECODE_OK);

	memset(welcome.node_name, 'w', LINK_NAME_SIZE - 1);
	header = (LinkHeader){.type = LINK_WELCOME};
	header.length = link_welcome_encode(&welcome, buf + LINK_HEADER_SIZE);
	link_header_encode(&header, buf + LINK_HEADER_SIZE, buf);
	assert_int_equal(decode(buf, LINK_HEADER_SIZE + header.length, &out), LINK_DECODE_OK);
	free(buf);
	free(hello);
	free(hello2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_payload_round_trip),   cmocka_unit_test(test_payload_lengths),
		cmocka_unit_test(test_payload_bit_flips),    cmocka_unit_test(test_payload_layout),
		cmocka_unit_test(test_field_limits),         cmocka_unit_test(test_contradictions),
		cmocka_unit_test(test_notice_reason),        cmocka_unit_test(test_ring_end_ranges),
		cmocka_unit_test(test_ring_stop_flag),       cmocka_unit_test(test_strings),
		cmocka_unit_test(test_unterminated_strings), cmocka_unit_test(test_history_counts),
		cmocka_unit_test(test_largest_messages),
	};

	return cmocka_run_group_tests_name("payload", tests, NULL, NULL);
}
