/*-------------------------------------------------------------------------
 *
 * sample.c
 *	  A second codec, and a sample of every frame, see sample.h.
 *
 *-------------------------------------------------------------------------
 */
#include "sample.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------ second codec */

void
poke(uint8_t *at, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (uint8_t) (value >> (8 * i));
}

uint64_t
peek(const uint8_t *at, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t) at[i] << (8 * i);
	return value;
}

/* CRC-32C, a bit at a time. */
uint32_t
slow_crc(const uint8_t *data, size_t length)
{
	uint32_t crc = 0xFFFFFFFF;

	for (size_t i = 0; i < length; i++)
	{
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78 : 0);
	}
	return crc ^ 0xFFFFFFFF;
}

/* Make the header's checksum right again after a change. */
void
seal(uint8_t *frame)
{
	poke(frame + AT_HEADER_CRC, slow_crc(frame, AT_HEADER_CRC), 4);
}

/*
 * Decode exactly 'available' bytes.  *header starts as garbage, so that a
 * field that is left out shows.
 */
LinkDecode
decode(const uint8_t *bytes, size_t available, LinkHeader *header)
{
	uint8_t *copy = malloc(available > 0 ? available : 1);
	LinkDecode result;

	memcpy(copy, bytes, available);
	memset(header, 0xA5, sizeof(*header));
	result = link_frame_decode(copy, available, header);
	free(copy);
	return result;
}

uint8_t *
exact_copy(const uint8_t *bytes, size_t length)
{
	uint8_t *copy = malloc(length > 0 ? length : 1);

	memcpy(copy, bytes, length);
	return copy;
}

/* ---------------------------------------------------------------- samples */

void
fill_bytes(uint8_t *at, size_t length, uint8_t seed)
{
	for (size_t i = 0; i < length; i++)
		at[i] = (uint8_t) (seed + 7 * i);
}

void
sample_history(LinkHistory *history, int count)
{
	history->count = count;
	for (int i = 0; i < count; i++)
		history->entry[i] = (LinkIncarnation){.term = 0x1122334455667788 + i,
											  .incarnation = 0x01020304 + i,
											  .timeline = 1 + i,
											  .start = UINT64_C(0x00000003DEADBEE8) + i,
											  .nonce = UINT64_C(0x8070605040302010) + i};
}

void
sample_hello(LinkHello *msg, int history)
{
	*msg = (LinkHello){.system_identifier = UINT64_C(0x6F0E0D0C0B0A0908),
					   .timeline = 3,
					   .timeline_crc = 0xCAFEBABE,
					   .start = UINT64_C(0x0000000512345678),
					   .check_from = UINT64_C(0x0000000512340000),
					   .check_to = UINT64_C(0x0000000512345678),
					   .check_crc = 0x87654321,
					   .instance = UINT64_C(0xFEDCBA9876543210),
					   .copy = UINT64_C(0x1122334455667788),
					   .floor = UINT64_C(0x0011223344556677)};
	strcpy(msg->node_name, "node_b");
	strcpy(msg->slot_name, "slot_b");
	sample_history(&msg->history, history);
}

/* A payload of this type, as short as still has everything in it. */
size_t
sample_payload(LinkFrameType type, uint8_t *payload)
{
	switch (type)
	{
		case LINK_AUTH_CLIENT:
		{
			LinkAuthClient msg = {.id = UINT64_C(0x0123456789ABCDEF)};

			fill_bytes(msg.nonce, sizeof(msg.nonce), 1);
			return link_auth_client_encode(&msg, payload);
		}
		case LINK_AUTH_SERVER:
		{
			LinkAuthServer msg;

			fill_bytes(msg.nonce, sizeof(msg.nonce), 2);
			fill_bytes(msg.proof, sizeof(msg.proof), 3);
			return link_auth_server_encode(&msg, payload);
		}
		case LINK_AUTH_PROOF:
		{
			LinkAuthProof msg;

			fill_bytes(msg.proof, sizeof(msg.proof), 4);
			return link_auth_proof_encode(&msg, payload);
		}
		case LINK_HELLO:
		{
			LinkHello msg;

			sample_hello(&msg, 2);
			return link_hello_encode(&msg, payload);
		}
		case LINK_WELCOME:
		{
			LinkWelcome msg = {.incarnation = 42, .node_name = "node_a"};

			return link_welcome_encode(&msg, payload);
		}
		case LINK_REFUSE:
		case LINK_NOTICE:
		{
			LinkNotice msg = {
				.reason = LINK_REASON_DIVERGED, .message = "diverged", .hint = "rewind it"};

			return link_notice_encode(&msg, payload);
		}
		case LINK_WAL:
			fill_bytes(payload, 200, 5);
			return 200;
		case LINK_BOUND:
		case LINK_HANDOVER:
			return 0;
		case LINK_ACK:
		{
			LinkAck msg = {.write = 30, .flush = 20, .apply = 10, .echo = -5};

			return link_ack_encode(&msg, payload);
		}
		case LINK_FEEDBACK:
		{
			LinkFeedback msg = {740, 1, 741, 2};

			return link_feedback_encode(&msg, payload);
		}
		case LINK_RING_OFFER:
		case LINK_RING_ACCEPT:
		{
			LinkRingEnd msg = {.generation = 0x01020304,
							   .queue_pair = 0x00ABCDEF,
							   .sequence = 0x00123456,
							   .lid = 0x0A0B,
							   .mtu = 3,
							   .layer = LINK_LAYER_ETHERNET,
							   .key = 0xDEADBEE5,
							   .slots = 1024,
							   .address = UINT64_C(0x00007F1122334000),
							   .size = 16 * 1024 * 1024};

			fill_bytes(msg.gid, sizeof(msg.gid), 6);
			return link_ring_end_encode(&msg, payload);
		}
		case LINK_RING_START:
		case LINK_RING_CREDIT:
		{
			LinkRingMark msg = {.generation = 3, .position = UINT64_C(0x1122334455667788)};

			return link_ring_mark_encode(&msg, payload);
		}
		case LINK_RING_STOP:
		{
			LinkRingStop msg = {.generation = 3, .started = true, .reason = "transport retry"};

			return link_ring_stop_encode(&msg, payload);
		}
		case LINK_TYPE_COUNT:
			break;
	}
	fail();
	return 0;
}

/* A whole frame of this type; returns its length. */
size_t
sample_frame(LinkFrameType type, uint8_t *frame)
{
	LinkHeader header = {.type = type,
						 .flags = LINK_FLAG_REPLY,
						 .term = 7,
						 .lsn = UINT64_C(0x0000000512345678),
						 .bound = UINT64_C(0x0000000512340000),
						 .time = 799999999999999};

	header.length = sample_payload(type, frame + LINK_HEADER_SIZE);
	assert_true(LINK_HEADER_SIZE + header.length <= SAMPLE_MAX);
	link_header_encode(&header, frame + LINK_HEADER_SIZE, frame);
	return LINK_HEADER_SIZE + header.length;
}
