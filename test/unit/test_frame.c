/*-------------------------------------------------------------------------
 *
 * test_frame.c
 *	  Tests of frames: header, lengths, checksums (link/frame.c).
 *
 *-------------------------------------------------------------------------
 */
#include "sample.h"

#include <stdlib.h>
#include <string.h>

/* What the protocol allows, by type. */
static const struct
{
	LinkFrameType type;
	uint32_t min;
	uint32_t max;
} limits[] = {
	{LINK_AUTH_CLIENT, 40, 40}, {LINK_AUTH_SERVER, 64, 64},
	{LINK_AUTH_PROOF, 32, 32},  {LINK_HELLO, 74, LINK_HELLO_MAX},
	{LINK_WELCOME, 6, 70},      {LINK_REFUSE, 8, LINK_NOTICE_MAX},
	{LINK_WAL, 1, 262144},      {LINK_BOUND, 0, 0},
	{LINK_HANDOVER, 0, 0},      {LINK_ACK, 32, 32},
	{LINK_FEEDBACK, 16, 16},    {LINK_NOTICE, 8, LINK_NOTICE_MAX},
	{LINK_RING_OFFER, 56, 56},  {LINK_RING_ACCEPT, 56, 56},
	{LINK_RING_START, 12, 12},  {LINK_RING_STOP, 7, LINK_RING_STOP_MAX},
	{LINK_RING_CREDIT, 12, 12},
};

static void
assert_same_header(const LinkHeader *a, const LinkHeader *b)
{
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->flags, b->flags);
	assert_true(a->term == b->term);
	assert_true(a->lsn == b->lsn);
	assert_true(a->bound == b->bound);
	assert_true(a->time == b->time);
	assert_int_equal(a->length, b->length);
}

static void
test_header_layout(void **state)
{
	LinkHeader header = {.version = 99, /* the encoder writes its own */
						 .type = LINK_WAL,
						 .flags = LINK_FLAG_REPLY | LINK_FLAG_WRITES | LINK_FLAG_APPLIES,
						 .term = UINT64_C(0x0102030405060708),
						 .lsn = UINT64_C(0x1112131415161718),
						 .bound = UINT64_C(0x2122232425262728),
						 .time = -2,
						 .length = 9,
						 .payload_crc = 1}; /* likewise */
	uint8_t buf[LINK_HEADER_SIZE + 9];
	LinkHeader out;

	(void) state;
	memcpy(buf + LINK_HEADER_SIZE, "123456789", 9);
	link_header_encode(&header, buf + LINK_HEADER_SIZE, buf);

	assert_int_equal(LINK_HEADER_SIZE, 56);
	assert_memory_equal(buf + AT_MAGIC, "TNDM", 4);
	assert_int_equal(buf[AT_VERSION], LINK_VERSION);
	assert_int_equal(buf[AT_TYPE], LINK_WAL);
	assert_int_equal(peek(buf + AT_FLAGS, 2), 7);
	assert_true(peek(buf + AT_TERM, 8) == header.term);
	assert_true(peek(buf + AT_LSN, 8) == header.lsn);
	assert_true(peek(buf + AT_BOUND, 8) == header.bound);
	assert_true(peek(buf + AT_TIME, 8) == UINT64_MAX - 1);
	assert_int_equal(peek(buf + AT_LENGTH, 4), 9);
	/* the check value every description of CRC-32C gives */
	assert_int_equal(peek(buf + AT_PAYLOAD_CRC, 4), 0xE3069283);
	assert_int_equal(peek(buf + AT_RESERVED, 4), 0);
	assert_int_equal(peek(buf + AT_HEADER_CRC, 4), slow_crc(buf, 52));

	assert_int_equal(decode(buf, sizeof(buf), &out), LINK_DECODE_OK);
	assert_int_equal(out.version, LINK_VERSION);
	assert_int_equal(out.payload_crc, 0xE3069283);
	assert_same_header(&header, &out);
}

/* The numbers of the types are part of the protocol. */
static void
test_type_numbers(void **state)
{
	(void) state;
	for (int i = 0; i < (int) (sizeof(limits) / sizeof(limits[0])); i++)
		assert_int_equal(limits[i].type, i + 1);
	assert_int_equal(LINK_TYPE_COUNT, 18);
	assert_int_equal(LINK_FLAG_REPLY, 1);
	assert_int_equal(LINK_FLAG_WRITES, 2);
	assert_int_equal(LINK_FLAG_APPLIES, 4);
	assert_int_equal(LINK_REASON_COUNT, 15);
}

static void
test_header_round_trip(void **state)
{
	static const uint64_t values[] = {0,          1,
									  0x7F,       0x80,
									  0xFF,       0x100,
									  0xFFFFFFFF, UINT64_C(0x100000000),
									  INT64_MAX,  (uint64_t) INT64_MAX + 1,
									  UINT64_MAX};
	const int count = sizeof(values) / sizeof(values[0]);

	(void) state;
	for (int field = 0; field < 4; field++)
	{
		for (int i = 0; i < count; i++)
		{
			LinkHeader header = {.type = LINK_BOUND};
			LinkHeader out;
			uint8_t buf[LINK_HEADER_SIZE];

			if (field == 0)
				header.term = values[i];
			else if (field == 1)
				header.lsn = values[i];
			else if (field == 2)
				header.bound = values[i];
			else
				header.time = (int64_t) values[i];
			link_header_encode(&header, NULL, buf);
			assert_int_equal(decode(buf, sizeof(buf), &out), LINK_DECODE_OK);
			assert_same_header(&header, &out);
		}
	}
}

static void
test_every_type(void **state)
{
	(void) state;
	for (int type = 0; type < 256; type++)
	{
		LinkHeader header;
		uint8_t buf[SAMPLE_MAX];
		bool known = type >= 1 && type < LINK_TYPE_COUNT;
		size_t length = sample_frame(known ? (LinkFrameType) type : LINK_BOUND, buf);

		buf[AT_TYPE] = type;
		seal(buf);
		assert_int_equal(decode(buf, length, &header),
						 known ? LINK_DECODE_OK : LINK_DECODE_BAD_TYPE);
		if (known)
			assert_int_equal(header.type, type);
	}
}

static void
test_every_flag(void **state)
{
	uint8_t buf[SAMPLE_MAX];
	size_t length = sample_frame(LINK_WAL, buf);

	(void) state;
	for (int flags = 0; flags <= 0xFFFF; flags++)
	{
		LinkHeader header;

		poke(buf + AT_FLAGS, flags, 2);
		seal(buf);
		assert_int_equal(link_frame_decode(buf, length, &header),
						 flags <= LINK_FLAGS_KNOWN ? LINK_DECODE_OK : LINK_DECODE_BAD_FLAGS);
		if (flags <= LINK_FLAGS_KNOWN)
			assert_int_equal(header.flags, flags);
	}
}

static void
test_reserved_bits(void **state)
{
	(void) state;
	for (int bit = 0; bit < 32; bit++)
	{
		LinkHeader header;
		uint8_t buf[SAMPLE_MAX];
		size_t length = sample_frame(LINK_ACK, buf);

		poke(buf + AT_RESERVED, UINT32_C(1) << bit, 4);
		seal(buf);
		assert_int_equal(decode(buf, length, &header), LINK_DECODE_BAD_FLAGS);
	}
}

/*
 * Another version is named from the fifth byte on, whatever the rest looks
 * like in it, and nothing else is believed.
 */
static void
test_every_version(void **state)
{
	(void) state;
	for (int version = 0; version < 256; version++)
	{
		for (size_t available = 5; available <= LINK_HEADER_SIZE; available++)
		{
			LinkHeader header;
			LinkHeader untouched;
			uint8_t buf[SAMPLE_MAX];

			sample_frame(LINK_BOUND, buf);
			buf[AT_VERSION] = version;
			if (version == LINK_VERSION)
			{
				assert_int_equal(decode(buf, available, &header),
								 available < LINK_HEADER_SIZE ? LINK_DECODE_MORE : LINK_DECODE_OK);
				continue;
			}
			assert_int_equal(decode(buf, available, &header), LINK_DECODE_BAD_VERSION);
			assert_int_equal(header.version, version);
			memset(&untouched, 0xA5, sizeof(untouched));
			untouched.version = version;
			assert_memory_equal(&header, &untouched, sizeof(header));

			/* nor does a good checksum make it ours */
			seal(buf);
			assert_int_equal(decode(buf, available, &header), LINK_DECODE_BAD_VERSION);
		}
	}
}

/* The first wrong byte is enough to know. */
static void
test_magic(void **state)
{
	(void) state;
	for (int byte = 0; byte < 4; byte++)
	{
		for (int bit = 0; bit < 8; bit++)
		{
			uint8_t buf[SAMPLE_MAX];
			size_t length = sample_frame(LINK_WAL, buf);

			buf[byte] ^= 1 << bit;
			seal(buf);
			for (size_t available = 0; available <= length; available++)
			{
				LinkHeader header;

				assert_int_equal(decode(buf, available, &header), available > (size_t) byte
																	  ? LINK_DECODE_BAD_MAGIC
																	  : LINK_DECODE_MORE);
			}
		}
	}
}

static void
test_payload_limits(void **state)
{
	uint8_t *buf = calloc(1, LINK_HEADER_SIZE + LINK_MAX_PAYLOAD + 1);

	(void) state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
	{
		uint32_t min = limits[i].min;
		uint32_t max = limits[i].max;
		const struct
		{
			uint32_t length;
			bool good;
		} cases[] = {
			{0, min == 0},       {min - 1, false},    {min, true},
			{max, true},         {max + 1, false},    {max + LINK_HEADER_SIZE, false},
			{0x7FFFFFFF, false}, {0x80000000, false}, {UINT32_MAX - LINK_HEADER_SIZE, false},
			{UINT32_MAX, false},
		};

		for (size_t j = 0; j < sizeof(cases) / sizeof(cases[0]); j++)
		{
			uint32_t length = cases[j].length;
			LinkHeader header = {.type = limits[i].type};
			LinkHeader out;

			link_header_encode(&header, NULL, buf);
			poke(buf + AT_LENGTH, length, 4);
			if (length <= LINK_MAX_PAYLOAD + 1)
				poke(buf + AT_PAYLOAD_CRC, slow_crc(buf + LINK_HEADER_SIZE, length), 4);
			seal(buf);

			/* the header alone tells */
			assert_int_equal(decode(buf, LINK_HEADER_SIZE, &out), !cases[j].good
																	  ? LINK_DECODE_BAD_LENGTH
																  : length > 0 ? LINK_DECODE_MORE
																			   : LINK_DECODE_OK);
			if (length <= LINK_MAX_PAYLOAD + 1)
				assert_int_equal(decode(buf, LINK_HEADER_SIZE + length, &out),
								 cases[j].good ? LINK_DECODE_OK : LINK_DECODE_BAD_LENGTH);
			if (cases[j].good)
				assert_int_equal(out.length, length);
		}
	}
	free(buf);
}

/* Every length short of the whole frame asks for more, and says it early. */
static void
test_truncation(void **state)
{
	(void) state;
	for (int type = 1; type < LINK_TYPE_COUNT; type++)
	{
		LinkHeader header;
		uint8_t buf[SAMPLE_MAX];
		size_t length = sample_frame((LinkFrameType) type, buf);

		for (size_t available = 0; available < length; available++)
			assert_int_equal(decode(buf, available, &header), LINK_DECODE_MORE);
		assert_int_equal(decode(buf, length, &header), LINK_DECODE_OK);
		assert_int_equal(header.length, length - LINK_HEADER_SIZE);
	}
}

/* What follows a frame does not matter to it. */
static void
test_following_bytes(void **state)
{
	(void) state;
	for (int type = 1; type < LINK_TYPE_COUNT; type++)
	{
		LinkHeader header;
		uint8_t buf[SAMPLE_MAX + 64];
		size_t length = sample_frame((LinkFrameType) type, buf);

		memset(buf + length, 0xFF, 64);
		assert_int_equal(decode(buf, length + 64, &header), LINK_DECODE_OK);
		assert_int_equal(header.length, length - LINK_HEADER_SIZE);
	}
}

/*
 * Every single-bit flip of every byte is refused: at once, as soon as the
 * header is there, if it is in the header.
 */
static void
test_bit_flips(void **state)
{
	(void) state;
	for (int type = 1; type < LINK_TYPE_COUNT; type++)
	{
		uint8_t buf[SAMPLE_MAX + 64];
		size_t length = sample_frame((LinkFrameType) type, buf);

		memset(buf + length, 0, 64);
		for (size_t byte = 0; byte < length; byte++)
		{
			for (int bit = 0; bit < 8; bit++)
			{
				LinkHeader header;
				LinkDecode expected = byte < AT_VERSION         ? LINK_DECODE_BAD_MAGIC
									  : byte < AT_TYPE          ? LINK_DECODE_BAD_VERSION
									  : byte < LINK_HEADER_SIZE ? LINK_DECODE_BAD_CRC
																: LINK_DECODE_BAD_PAYLOAD;

				buf[byte] ^= 1 << bit;
				assert_int_equal(decode(buf, length, &header), expected);
				assert_int_equal(decode(buf, length + 64, &header), expected);
				if (byte < LINK_HEADER_SIZE)
					assert_int_equal(decode(buf, LINK_HEADER_SIZE, &header), expected);
				buf[byte] ^= 1 << bit;
			}
		}
	}
}

/* Nor do two flips anywhere in a header cancel out. */
static void
test_two_bit_flips(void **state)
{
	uint8_t buf[SAMPLE_MAX];
	size_t length = sample_frame(LINK_WELCOME, buf);

	(void) state;
	for (int a = 0; a < LINK_HEADER_SIZE * 8; a++)
	{
		buf[a / 8] ^= 1 << (a % 8);
		for (int b = a + 1; b < LINK_HEADER_SIZE * 8; b++)
		{
			LinkHeader header;
			LinkDecode result;

			buf[b / 8] ^= 1 << (b % 8);
			result = link_frame_decode(buf, length, &header);
			assert_true(result != LINK_DECODE_OK && result != LINK_DECODE_MORE);
			buf[b / 8] ^= 1 << (b % 8);
		}
		buf[a / 8] ^= 1 << (a % 8);
	}
}

static void
test_largest_frame(void **state)
{
	size_t length = LINK_HEADER_SIZE + LINK_MAX_PAYLOAD;
	uint8_t *buf = malloc(length);
	LinkHeader header = {.type = LINK_WAL, .length = LINK_MAX_PAYLOAD};
	LinkHeader out;

	(void) state;
	fill_bytes(buf + LINK_HEADER_SIZE, LINK_MAX_PAYLOAD, 9);
	link_header_encode(&header, buf + LINK_HEADER_SIZE, buf);
	assert_int_equal(peek(buf + AT_PAYLOAD_CRC, 4),
					 slow_crc(buf + LINK_HEADER_SIZE, LINK_MAX_PAYLOAD));
	assert_int_equal(link_frame_decode(buf, length, &out), LINK_DECODE_OK);
	assert_int_equal(link_frame_decode(buf, length - 1, &out), LINK_DECODE_MORE);
	for (size_t byte = LINK_HEADER_SIZE; byte < length; byte += 997)
	{
		buf[byte] ^= 0x10;
		assert_int_equal(link_frame_decode(buf, length, &out), LINK_DECODE_BAD_PAYLOAD);
		buf[byte] ^= 0x10;
	}
	buf[length - 1] ^= 1;
	assert_int_equal(link_frame_decode(buf, length, &out), LINK_DECODE_BAD_PAYLOAD);
	free(buf);
}

/* No payload is a payload too: its checksum is checked. */
static void
test_empty_payload_crc(void **state)
{
	LinkHeader header;
	uint8_t buf[SAMPLE_MAX];
	size_t length = sample_frame(LINK_BOUND, buf);

	(void) state;
	assert_int_equal(peek(buf + AT_PAYLOAD_CRC, 4), slow_crc(buf, 0));
	poke(buf + AT_PAYLOAD_CRC, 0x12345678, 4);
	seal(buf);
	assert_int_equal(decode(buf, length, &header), LINK_DECODE_BAD_PAYLOAD);
}

static void
test_texts(void **state)
{
	(void) state;
	for (int i = LINK_DECODE_OK; i <= LINK_DECODE_BAD_PAYLOAD; i++)
	{
		assert_non_null(link_decode_text((LinkDecode) i));
		assert_string_not_equal(link_decode_text((LinkDecode) i), "unknown");
		for (int j = LINK_DECODE_OK; j < i; j++)
			assert_string_not_equal(link_decode_text((LinkDecode) i),
									link_decode_text((LinkDecode) j));
	}
	for (int i = LINK_REASON_NONE; i < LINK_REASON_COUNT; i++)
	{
		assert_non_null(link_reason_text((LinkReason) i));
		for (int j = LINK_REASON_NONE; j < i; j++)
			assert_string_not_equal(link_reason_text((LinkReason) i),
									link_reason_text((LinkReason) j));
	}
	assert_string_equal(link_decode_text((LinkDecode) 100), "unknown");
	assert_string_equal(link_reason_text(LINK_REASON_COUNT), "unknown");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_layout),     cmocka_unit_test(test_type_numbers),
		cmocka_unit_test(test_header_round_trip), cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_every_flag),        cmocka_unit_test(test_reserved_bits),
		cmocka_unit_test(test_every_version),     cmocka_unit_test(test_magic),
		cmocka_unit_test(test_payload_limits),    cmocka_unit_test(test_truncation),
		cmocka_unit_test(test_following_bytes),   cmocka_unit_test(test_bit_flips),
		cmocka_unit_test(test_two_bit_flips),     cmocka_unit_test(test_largest_frame),
		cmocka_unit_test(test_empty_payload_crc), cmocka_unit_test(test_texts),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
