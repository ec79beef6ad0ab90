/*-------------------------------------------------------------------------
 *
 * test_switch.c
 *	  Tests of the way from TCP to the ring and back (link/switch.c).
 *
 * A stream of bytes, each of which follows from its position, goes from one
 * end of a connection to the other, while rings come and go beside it.  The
 * standby here is as strict as the real one: a frame that does not begin
 * where the last one ended fails the test.
 *
 * The connection may be compressed.  The ring never is: so one context has to
 * carry the stream before the ring and after it.
 *
 *-------------------------------------------------------------------------
 */
#include "pair.h"

#include <stdlib.h>
#include <string.h>

#include "memrdma.h"
#include "switch.h"

#define TERM UINT64_C(7)

typedef struct Stream
{
	LinkConn *primary;
	LinkConn *standby;
	LinkMemFabric *fabric;
	uint64_t sent;
	uint64_t written; /* by the standby */
	int64_t now;      /* the primary's clock, us */
	bool refuse;      /* the standby has no RDMA */
	int started[2];
	int ended[2];
	int refused[2];
	size_t ring_size;
	uint32_t slots;
} Stream;

static uint8_t
stream_byte(uint64_t lsn)
{
	return (uint8_t) (lsn ^ (lsn >> 8) * 7 ^ (lsn >> 16) * 13);
}

static LinkHeader
stamp(const Stream *s, bool primary)
{
	LinkHeader header = {.term = TERM, .lsn = primary ? s->sent : s->written, .time = s->now};

	return header;
}

static void
stream_open_compressed(Stream *s, uint64_t seed, LinkCompression kind)
{
	int fds[2];

	memset(s, 0, sizeof(*s));
	make_unix_pair(fds);
	s->primary = link_conn_create(fds[0]);
	s->standby = link_conn_create(fds[1]);
	s->fabric = link_memrdma_create(seed);
	s->ring_size = LINK_RING_MIN_SIZE;
	s->slots = 64;
	assert_true(link_conn_compress(s->primary, kind, true, LINK_ZSTD_MIN_LEVEL));
	assert_true(link_conn_compress(s->standby, kind, false, 0));
}

static void
stream_open(Stream *s, uint64_t seed)
{
	stream_open_compressed(s, seed, LINK_COMPRESSION_NONE);
}

static void
stream_close(Stream *s)
{
	assert_int_equal(link_memrdma_violations(s->fabric), 0);
	link_conn_destroy(s->primary);
	link_conn_destroy(s->standby);
	link_memrdma_destroy(s->fabric);
}

static void
note(Stream *s, bool standby, LinkSwitch result)
{
	assert_int_not_equal(result, LINK_SWITCH_VIOLATION);
	s->started[standby] += result == LINK_SWITCH_STARTED;
	s->ended[standby] += result == LINK_SWITCH_ENDED;
	s->refused[standby] += result == LINK_SWITCH_REFUSED;
	if (!standby && result == LINK_SWITCH_ENDED)
	{
		/* exactly what the standby has, never more than was sent */
		assert_true(s->primary->ring->resume <= s->sent);
		s->sent = s->primary->ring->resume;
	}
}

/* ------------------------------------------------------------ the primary */

static void
primary_offer(Stream *s)
{
	LinkHeader mine = stamp(s, true);
	LinkVerbs *verbs;
	char why[256];

	if (s->primary->ring != NULL && s->primary->ring->state != LINK_RING_OFF)
		return;
	verbs = link_memrdma_open(s->fabric, false, s->ring_size, s->slots, why, sizeof(why));
	assert_non_null(verbs);
	note(s, false, link_switch_offer(s->primary, verbs, &mine));
}

static void
primary_stop(Stream *s)
{
	LinkHeader mine = stamp(s, true);

	note(s, false, link_switch_stop(s->primary, "the primary wants it", &mine));
}

/* Send one piece of the stream, if it can be. */
static bool
primary_send(Stream *s, size_t length)
{
	LinkHeader header = stamp(s, true);
	size_t max = link_stream_max(s->primary);
	uint8_t *to;

	if (!link_switch_is_on(s->primary) && link_flush(s->primary) != 1)
		return false;
	if (length == 0)
	{
		header.type = LINK_BOUND;
		return link_stream_put(s->primary, &header);
	}
	length = length < max ? length : max;
	to = link_stream_begin(s->primary, length);
	if (to == NULL)
		return false;
	for (size_t i = 0; i < length; i++)
		to[i] = stream_byte(s->sent + i);
	header.type = LINK_WAL;
	assert_true(link_stream_end(s->primary, &header, length));
	s->sent += length;
	return true;
}

static void
primary_receive(Stream *s)
{
	LinkHeader header;
	const uint8_t *payload;
	LinkHeader mine;

	(void) link_fill(s->primary);
	while (link_next(s->primary, &header, &payload) == LINK_DECODE_OK)
	{
		mine = stamp(s, true);
		assert_true(link_switch_is_frame(&header));
		note(s, false, link_switch_primary_frame(s->primary, &header, payload, &mine));
	}
	mine = stamp(s, true);
	note(s, false, link_switch_primary_look(s->primary, &mine));
}

/* ------------------------------------------------------------ the standby */

static LinkVerbs *
open_standby(void *arg, const LinkRingEnd *peer, char *why, size_t why_size)
{
	Stream *s = arg;

	if (s->refuse)
	{
		strcpy(why, "there is no device");
		return NULL;
	}
	return link_memrdma_open(s->fabric, true, peer->size, peer->slots, why, why_size);
}

static void
take(Stream *s, const LinkHeader *header, const uint8_t *payload)
{
	assert_true(header->term == TERM);
	if (header->type == LINK_BOUND)
		return;
	assert_int_equal(header->type, LINK_WAL);
	if (header->lsn != s->written)
		fail_msg("a frame begins at %ld, the last one ended at %ld", (long) header->lsn,
				 (long) s->written);
	for (size_t i = 0; i < header->length; i++)
	{
		if (payload[i] != stream_byte(s->written + i))
			fail_msg("the byte at %ld is another one", (long) (s->written + i));
	}
	s->written += header->length;
}

static void
standby_tcp(Stream *s)
{
	LinkDecode decode;
	LinkHeader header;
	const uint8_t *payload;

	(void) link_fill(s->standby);
	while ((decode = link_next(s->standby, &header, &payload)) == LINK_DECODE_OK)
	{
		LinkHeader mine = stamp(s, false);

		if (link_switch_is_frame(&header))
			note(s, true,
				 link_switch_standby_frame(s->standby, &header, payload, &mine, open_standby, s));
		else
			take(s, &header, payload);
	}
	assert_int_equal(decode, LINK_DECODE_MORE);
	(void) link_flush(s->standby);
}

static void
standby_ring(Stream *s, int frames, bool wait)
{
	LinkHeader mine = stamp(s, false);
	LinkSwitch result;

	for (; frames > 0; frames--)
	{
		LinkHeader header;
		const uint8_t *payload;

		mine = stamp(s, false);
		if (link_switch_next(s->standby, &header, &payload, &mine, &result) == 0)
		{
			note(s, true, result);
			break;
		}
		take(s, &header, payload);
	}
	mine = stamp(s, false);
	(void) link_switch_idle(s->standby, wait, &mine, &result);
	note(s, true, result);
}

static void
standby_stop(Stream *s)
{
	LinkHeader mine = stamp(s, false);

	note(s, true, link_switch_standby_stop(s->standby, "the standby wants it", &mine));
}

/* Everything happens that can happen by itself. */
static void
settle(Stream *s)
{
	for (int i = 0; i < 20; i++)
	{
		primary_receive(s);
		(void) link_flush(s->primary);
		link_memrdma_run(s->fabric, 3000);
		standby_tcp(s);
		standby_ring(s, 1000, true);
	}
}

/* ------------------------------------------------------------------ tests */

/* The stream goes over, stays, and comes back when the primary stops it. */
static void
test_there_and_back(void **state)
{
	Stream s;

	(void) state;
	stream_open(&s, 1);
	assert_true(primary_send(&s, 1000));
	primary_offer(&s);
	assert_true(primary_send(&s, 1000)); /* TCP goes on meanwhile */
	settle(&s);
	assert_true(link_switch_is_on(s.primary) && link_switch_is_on(s.standby));
	assert_int_equal(s.written, 2000);
	for (int i = 0; i < 100; i++)
	{
		assert_true(primary_send(&s, 100000));
		settle(&s);
	}
	assert_int_equal(s.written, 2000 + 100 * 100000);
	assert_true(s.standby->ring->bytes > 100 * 100000);
	primary_stop(&s);
	assert_false(primary_send(&s, 10)); /* until the standby has answered */
	settle(&s);
	assert_int_equal(s.ended[0], 1);
	assert_int_equal(s.ended[1], 1);
	assert_true(s.sent == s.written);
	assert_string_equal(s.primary->ring->reason, "the primary wants it");
	assert_string_equal(s.standby->ring->reason, "on the primary: the primary wants it");
	assert_true(primary_send(&s, 10));
	settle(&s);
	assert_true(s.sent == s.written);
	stream_close(&s);
}

/* A standby without RDMA says why, and nothing has changed. */
static void
test_refused(void **state)
{
	Stream s;

	(void) state;
	stream_open(&s, 2);
	s.refuse = true;
	for (int i = 0; i < 5; i++)
	{
		primary_offer(&s);
		assert_true(primary_send(&s, 1000));
		settle(&s);
		assert_int_equal(s.refused[0], i + 1);
		assert_string_equal(s.primary->ring->reason, "on the standby: there is no device");
		assert_true(s.sent == s.written);
	}
	s.refuse = false;
	primary_offer(&s);
	settle(&s);
	assert_true(link_switch_is_on(s.primary));
	stream_close(&s);
}

/* What lies in a ring that broke is sent again, no byte twice. */
static void
test_broken(void **state)
{
	(void) state;
	for (int told = 0; told < 3; told++)
	{
		Stream s;

		stream_open(&s, 3);
		primary_offer(&s);
		settle(&s);
		for (int i = 0; i < 10; i++)
			assert_true(primary_send(&s, 5000));
		link_memrdma_run(s.fabric, 60);
		link_memrdma_break(s.fabric, told != 1, told != 0);
		assert_true(s.sent == 50000);
		settle(&s);
		assert_int_equal(s.ended[0], 1);
		assert_int_equal(s.ended[1], 1);
		assert_true(s.sent == s.written && s.sent < 50000);
		assert_true(primary_send(&s, 5000));
		settle(&s);
		assert_true(s.sent == s.written);
		primary_offer(&s);
		settle(&s);
		assert_true(link_switch_is_on(s.primary));
		stream_close(&s);
	}
}

/*
 * With compression the context outlives the ring: what TCP carries after a
 * fallback builds on what it carried before, and the standby can read it.
 */
static void
test_compressed(void **state)
{
	(void) state;
	for (LinkCompression kind = LINK_COMPRESSION_LZ4; kind <= LINK_COMPRESSION_ZSTD; kind++)
	{
		uint64_t raw;
		Stream s;

		stream_open_compressed(&s, 6, kind);
		for (int round = 0; round < 20; round++)
		{
			for (int i = 0; i < 4; i++)
				assert_true(primary_send(&s, 30000 + 1000 * round));
			primary_offer(&s);
			assert_true(primary_send(&s, LINK_MAX_PAYLOAD)); /* the most that TCP takes */
			settle(&s);
			assert_true(link_switch_is_on(s.primary));
			assert_true(s.written == s.sent);

			/* the ring takes WAL as it is, and leaves the context alone */
			raw = link_codec_raw_bytes(s.primary->codec);
			for (int i = 0; i < 10; i++)
				assert_true(primary_send(&s, 50000));
			assert_true(primary_send(&s, LINK_MAX_PAYLOAD));
			assert_true(link_codec_raw_bytes(s.primary->codec) == raw);
			link_memrdma_run(s.fabric, 50 * round);
			standby_ring(&s, round, false);
			if (round % 4 == 0)
				primary_stop(&s);
			else
				link_memrdma_break(s.fabric, round % 2 == 0, round % 4 > 1);
			if (round % 4 == 1)
				standby_stop(&s);
			settle(&s);
			assert_int_equal(s.ended[0], round + 1);
			assert_true(s.written == s.sent);
		}
		assert_true(primary_send(&s, 50000));
		settle(&s);
		assert_true(s.written == s.sent);
		assert_true(link_codec_raw_bytes(s.primary->codec) >
					2 * link_codec_packed_bytes(s.primary->codec));
		stream_close(&s);
	}
}

/* The standby stops before START has reached it, with WAL on TCP under way. */
static void
test_crossing(void **state)
{
	Stream s;

	(void) state;
	stream_open(&s, 4);
	primary_offer(&s);
	standby_tcp(&s);
	primary_receive(&s);
	link_memrdma_run(s.fabric, 1000);
	standby_ring(&s, 1, false);
	assert_int_equal(s.standby->ring->state, LINK_RING_TRIED);
	assert_true(primary_send(&s, 3000)); /* on TCP */
	primary_receive(&s);                 /* the credit: START goes */
	assert_true(link_switch_is_on(s.primary));
	assert_true(primary_send(&s, 3000)); /* in the ring */
	standby_stop(&s);
	primary_receive(&s);
	assert_int_equal(s.primary->ring->state, LINK_RING_STOPPING);
	assert_int_equal(s.ended[0], 0); /* that was not the last word */
	settle(&s);
	assert_int_equal(s.ended[0], 1);
	assert_true(s.written == 3000 && s.sent == 3000);
	stream_close(&s);
}

/* Writes that the device does not complete, and does not call failed either. */
static void
test_stuck(void **state)
{
	const int64_t patience = 1000;
	LinkRing *ring;
	Stream s;

	(void) state;
	stream_open(&s, 7);
	s.now = 5000; /* much later than the epoch */
	primary_offer(&s);
	ring = s.primary->ring;
	s.now += 2 * patience;
	settle(&s);
	assert_true(link_switch_is_on(s.primary));
	assert_false(link_switch_is_stuck(ring, s.now, patience)); /* the attempt does not count */

	/* nothing is under way, for however long */
	s.now += 5 * patience;
	assert_false(link_switch_is_stuck(ring, s.now, patience));

	/* two writes; none is completed */
	assert_true(primary_send(&s, 1000));
	assert_true(primary_send(&s, 1000));
	assert_false(link_switch_is_stuck(ring, s.now + patience - 1, patience));
	assert_true(link_switch_is_stuck(ring, s.now + patience, patience));
	assert_true(link_switch_is_stuck(ring, s.now + 2 * patience, patience));
	assert_false(link_switch_is_stuck(ring, s.now - 1, patience)); /* a clock that is set back */

	/* one is: the other one has its time from there */
	while (ring->posted - ring->written == 2)
	{
		link_memrdma_run(s.fabric, 1);
		assert_true(link_ring_reap(ring));
	}
	assert_int_equal(ring->posted - ring->written, 1);
	s.now += 3 * patience;
	assert_false(link_switch_is_stuck(ring, s.now, patience));
	assert_false(link_switch_is_stuck(ring, s.now + patience - 1, patience));
	assert_true(link_switch_is_stuck(ring, s.now + patience, patience));

	/* all are */
	settle(&s);
	s.now += 9 * patience;
	assert_false(link_switch_is_stuck(ring, s.now, patience));

	/* the ring is given up with a write under way: the next one begins anew */
	assert_true(primary_send(&s, 1000));
	primary_stop(&s);
	settle(&s);
	assert_int_equal(s.ended[0], 1);
	assert_false(link_switch_is_stuck(ring, s.now + 9 * patience, patience));
	s.now += 20 * patience;
	primary_offer(&s);
	settle(&s);
	assert_true(link_switch_is_on(s.primary));
	assert_true(primary_send(&s, 1000));
	assert_false(link_switch_is_stuck(ring, s.now + patience - 1, patience));
	stream_close(&s);
}

/* Frames that no peer of ours would send, or not now. */
static void
test_violations(void **state)
{
	static const uint8_t nothing[LINK_RING_STOP_MAX] = {1};
	static const struct
	{
		LinkFrameType type;
		size_t length;
	} frames[] = {{LINK_RING_OFFER, 56},
				  {LINK_RING_ACCEPT, 56},
				  {LINK_RING_START, 12},
				  {LINK_RING_STOP, 7},
				  {LINK_RING_CREDIT, 12}};

	(void) state;
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++)
	{
		for (int on = 0; on < 2; on++)
		{
			LinkHeader header = {.type = frames[i].type, .length = frames[i].length};
			LinkHeader mine = {.term = TERM};
			Stream s;

			stream_open(&s, 5);
			if (on)
			{
				primary_offer(&s);
				settle(&s);
				assert_true(link_switch_is_on(s.primary));
			}
			if (!on || frames[i].type != LINK_RING_STOP)
			{
				LinkSwitch primary = link_switch_primary_frame(s.primary, &header, nothing, &mine);
				LinkSwitch standby =
					link_switch_standby_frame(s.standby, &header, nothing, &mine, open_standby, &s);

				/* a credit for nothing is none */
				if (!on || frames[i].type != LINK_RING_CREDIT)
					assert_int_equal(primary, LINK_SWITCH_VIOLATION);
				assert_int_equal(standby, LINK_SWITCH_VIOLATION);
			}
			stream_close(&s);
		}
	}
}

/*
 * A thousand connections, ended in every state there is: nothing is left (the
 * sanitizers see memory, the last test descriptors).
 */
static void
test_thousand(void **state)
{
	(void) state;
	for (int i = 0; i < 1000; i++)
	{
		Stream s;

		stream_open(&s, i);
		primary_offer(&s);
		for (int n = i % 11; n > 0; n--)
		{
			if (n % 2 == 0)
				primary_receive(&s);
			else
				standby_tcp(&s);
			link_memrdma_run(s.fabric, 100);
			standby_ring(&s, 10, true);
			(void) primary_send(&s, 1000);
		}
		if (i % 3 == 0)
			primary_stop(&s);
		if (i % 5 == 0)
			standby_stop(&s);
		if (i % 7 == 0)
			link_memrdma_break(s.fabric, i % 2 == 0, i % 4 == 0);
		stream_close(&s);
	}
}

/*
 * Anything in any order, on connections and rings that make progress at their
 * own pace: not a byte is lost, repeated or changed.
 */
static void
test_random(void **state)
{
	int started = 0;
	int ended = 0;
	int refused = 0;

	(void) state;
	for (uint64_t seed = 1; seed <= 150; seed++)
	{
		Stream s;
		size_t max = seed % 4 == 0 ? LINK_MAX_PAYLOAD : seed % 4 == 1 ? 30000 : 1500;

		stream_open_compressed(&s, seed, seed / 4 % 3);
		s.slots = 16 << seed % 4;
		srand(seed);
		for (int i = 0; i < 1500; i++)
		{
			switch (rand() % 16)
			{
				case 0:
					primary_offer(&s);
					break;
				case 1:
					if (rand() % 20 == 0)
						primary_stop(&s);
					else if (rand() % 20 == 0)
						standby_stop(&s);
					else if (rand() % 20 == 0)
						link_memrdma_break(s.fabric, rand() % 2, rand() % 2);
					s.refuse = rand() % 8 == 0;
					break;
				case 2:
				case 3:
				case 4:
				case 5:
					for (int n = rand() % 8; n > 0; n--)
						(void) primary_send(&s, rand() % 8 == 0 ? 0 : rand() % (max + 1));
					break;
				case 6:
				case 7:
					primary_receive(&s);
					break;
				case 8:
				case 9:
					standby_tcp(&s);
					break;
				case 10:
				case 11:
				case 12:
					standby_ring(&s, rand() % 10, rand() % 2);
					break;
				default:
					link_memrdma_run(s.fabric, rand() % 100);
					break;
			}
		}
		/* a connection that broke in silence is given up by its owner */
		settle(&s);
		primary_stop(&s);
		settle(&s);
		assert_true(primary_send(&s, 1));
		settle(&s);
		if (s.sent != s.written)
			fail_msg("seed %d: sent %ld, written %ld", (int) seed, (long) s.sent, (long) s.written);
		started += s.started[0];
		ended += s.ended[0];
		refused += s.refused[0];
		assert_int_equal(s.started[0], s.ended[0]);
		stream_close(&s);
	}
	/* or it would test nothing */
	assert_true(started > 150 && ended > 150 && refused > 50);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_broken),         cmocka_unit_test(test_compressed),
		cmocka_unit_test(test_crossing),       cmocka_unit_test(test_stuck),
		cmocka_unit_test(test_violations),     cmocka_unit_test(test_thousand),
		cmocka_unit_test(test_random),         cmocka_unit_test(test_no_descriptor_left),
	};

	return cmocka_run_group_tests_name("switch", tests, before_all, NULL);
}
