/*-------------------------------------------------------------------------
 *
 * fuzz.c
 *	  Repeatable random numbers and messages.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "fuzz.h"

/* ---------------------------------------------------------------- numbers */

/* splitmix64: any state is a good one */
uint64_t
rnd(Rng *rng)
{
	uint64_t z = (rng->state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* 0 .. n - 1; 0 for n = 0 */
uint32_t
below(Rng *rng, uint32_t n)
{
	return n == 0 ? 0 : (uint32_t) (rnd(rng) % n);
}

bool
one_in(Rng *rng, uint32_t n)
{
	return below(rng, n) == 0;
}

void
random_bytes(Rng *rng, uint8_t *to, size_t length)
{
	for (size_t i = 0; i < length; i += 8)
	{
		uint64_t r = rnd(rng);

		memcpy(to + i, &r, length - i < 8 ? length - i : 8);
	}
}

/* A number of any magnitude, often one at an edge. */
uint64_t
edgy(Rng *rng)
{
	uint64_t r = rnd(rng) >> below(rng, 64);

	switch (below(rng, 8))
	{
		case 0:
			return 0;
		case 1:
			return UINT64_MAX - below(rng, 3);
		case 2:
			return UINT32_MAX + (uint64_t) below(rng, 3) - 1;
		case 3:
			return (uint64_t) INT64_MAX + below(rng, 3) - 1;
		default:
			return r;
	}
}

/* --------------------------------------------------------------- messages */

static void
random_string(Rng *rng, char *to, size_t size)
{
	size_t length = one_in(rng, 3) ? size - 1 : below(rng, size < 20 ? size : 20);

	for (size_t i = 0; i < length; i++)
		to[i] = (char) (1 + below(rng, 255));
	to[length] = '\0';
}

/* A payload that some sender could send; returns its length. */
size_t
random_payload(Rng *rng, LinkFrameType type, uint8_t *to)
{
	static LinkHello hello;
	static LinkNotice notice;

	switch (type)
	{
		case LINK_HELLO:
			hello.system_identifier = edgy(rng);
			hello.timeline = edgy(rng);
			hello.timeline_crc = edgy(rng);
			hello.start = edgy(rng);
			hello.check_from = edgy(rng);
			hello.check_to = edgy(rng);
			if (hello.check_to < hello.check_from)
				hello.check_to = hello.check_from;
			hello.check_crc = edgy(rng);
			hello.instance = edgy(rng);
			hello.copy = edgy(rng);
			hello.floor = edgy(rng);
			random_string(rng, hello.node_name, sizeof(hello.node_name));
			random_string(rng, hello.slot_name, sizeof(hello.slot_name));
			hello.history.count = one_in(rng, 20) ? LINK_MAX_HISTORY : below(rng, 4);
			for (int i = 0; i < hello.history.count; i++)
				hello.history.entry[i] =
					(LinkIncarnation){edgy(rng), edgy(rng), edgy(rng), edgy(rng), edgy(rng)};
			return link_hello_encode(&hello, to);
		case LINK_WELCOME:
		{
			LinkWelcome msg = {.incarnation = edgy(rng)};

			random_string(rng, msg.node_name, sizeof(msg.node_name));
			return link_welcome_encode(&msg, to);
		}
		case LINK_REFUSE:
		case LINK_NOTICE:
			notice.reason = (LinkReason) below(rng, LINK_REASON_COUNT);
			random_string(rng, notice.message, sizeof(notice.message));
			random_string(rng, notice.hint, sizeof(notice.hint));
			return link_notice_encode(&notice, to);
		case LINK_ACK:
		{
			LinkAck msg = {edgy(rng), edgy(rng), edgy(rng), (int64_t) edgy(rng)};

			if (msg.flush > msg.write)
				msg.flush = msg.write;
			return link_ack_encode(&msg, to);
		}
		case LINK_FEEDBACK:
		{
			LinkFeedback msg = {edgy(rng), edgy(rng), edgy(rng), edgy(rng)};

			return link_feedback_encode(&msg, to);
		}
		case LINK_WAL:
		{
			size_t length = 1 + below(rng, one_in(rng, 500) ? LINK_MAX_PAYLOAD : 300);

			random_bytes(rng, to, length);
			return length;
		}
		case LINK_RING_OFFER:
		case LINK_RING_ACCEPT:
		{
			LinkRingEnd msg = {.generation = 1 + below(rng, UINT32_MAX),
							   .queue_pair = below(rng, 1 << 24),
							   .sequence = below(rng, 1 << 24),
							   .lid = edgy(rng),
							   .mtu = 1 + below(rng, 5),
							   .layer = 1 + below(rng, 2),
							   .key = edgy(rng),
							   .slots = LINK_RING_MIN_SLOTS +
										below(rng, LINK_RING_MAX_SLOTS - LINK_RING_MIN_SLOTS + 1),
							   .address = edgy(rng) / 2,
							   .size = LINK_RING_MIN_SIZE * (1 + (uint64_t) below(rng, 512))};

			random_bytes(rng, msg.gid, sizeof(msg.gid));
			return link_ring_end_encode(&msg, to);
		}
		case LINK_RING_START:
		case LINK_RING_CREDIT:
		{
			LinkRingMark msg = {edgy(rng), edgy(rng)};

			return link_ring_mark_encode(&msg, to);
		}
		case LINK_RING_STOP:
		{
			static LinkRingStop stop;

			stop.generation = edgy(rng);
			stop.started = one_in(rng, 2);
			random_string(rng, stop.reason, sizeof(stop.reason));
			return link_ring_stop_encode(&stop, to);
		}
		case LINK_AUTH_CLIENT:
			random_bytes(rng, to, 8 + LINK_NONCE_SIZE);
			return 8 + LINK_NONCE_SIZE;
		case LINK_AUTH_SERVER:
			random_bytes(rng, to, LINK_NONCE_SIZE + LINK_MAC_SIZE);
			return LINK_NONCE_SIZE + LINK_MAC_SIZE;
		case LINK_AUTH_PROOF:
			random_bytes(rng, to, LINK_MAC_SIZE);
			return LINK_MAC_SIZE;
		default:
			return 0;
	}
}

/* A sound frame of any type; returns its length. */
size_t
random_frame(Rng *rng, uint8_t *to)
{
	LinkHeader header = {.type = 1 + below(rng, LINK_TYPE_COUNT - 1),
						 .flags = below(rng, LINK_FLAGS_KNOWN + 1) & ~LINK_FLAG_COMPRESSED,
						 .term = edgy(rng),
						 .lsn = edgy(rng),
						 .bound = edgy(rng),
						 .time = (int64_t) edgy(rng)};

	header.length = random_payload(rng, (LinkFrameType) header.type, to + LINK_HEADER_SIZE);
	link_header_encode(&header, to + LINK_HEADER_SIZE, to);
	return LINK_HEADER_SIZE + header.length;
}

/* CRC-32C again: what the fuzzer seals must not be by the code under test. */
uint32_t
crc32c(const uint8_t *data, size_t length)
{
	static uint32_t table[256];
	uint32_t crc = UINT32_MAX;

	if (table[1] == 0)
	{
		for (uint32_t i = 0; i < 256; i++)
		{
			uint32_t c = i;

			for (int bit = 0; bit < 8; bit++)
				c = (c >> 1) ^ ((c & 1) ? 0x82F63B78 : 0);
			table[i] = c;
		}
	}
	for (size_t i = 0; i < length; i++)
		crc = (crc >> 8) ^ table[(crc ^ data[i]) & 0xFF];
	return ~crc;
}

void
poke32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t) (value >> (8 * i));
}

/* Make a frame of 'length' bytes out of anything: both checksums are right. */
void
seal(uint8_t *frame, size_t length)
{
	poke32(frame, LINK_MAGIC);
	frame[4] = LINK_VERSION;
	poke32(frame + AT_LENGTH, length - LINK_HEADER_SIZE);
	poke32(frame + AT_LENGTH + 4, crc32c(frame + LINK_HEADER_SIZE, length - LINK_HEADER_SIZE));
	poke32(frame + AT_HEADER_CRC, crc32c(frame, AT_HEADER_CRC));
}

/* Change something; the result is as long as before. */
void
mutate(Rng *rng, uint8_t *data, size_t length)
{
	uint32_t at = below(rng, length);
	uint32_t n = 1 + below(rng, length - at < 16 ? length - at : 16);

	if (length == 0)
		return;
	switch (below(rng, 5))
	{
		case 0:
			data[at] ^= 1 << below(rng, 8);
			break;
		case 1:
			for (uint32_t i = 1 + below(rng, 8); i > 0; i--)
				data[below(rng, length)] ^= 1 << below(rng, 8);
			break;
		case 2:
			random_bytes(rng, data + at, n);
			break;
		case 3:
			memset(data + at, one_in(rng, 2) ? 0 : 0xFF, n);
			break;
		case 4:
			memmove(data + at, data + below(rng, length - n + 1), n);
			break;
	}
}
