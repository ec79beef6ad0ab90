/*-------------------------------------------------------------------------
 *
 * test_ring.c
 *	  Tests of the ring (link/ring.c), over the fabric in memory.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "memrdma.h"
#include "ring.h"

#define SIZE LINK_RING_MIN_SIZE

typedef struct Rings
{
	LinkMemFabric *fabric;
	LinkRing *primary;
	LinkRing *standby;
} Rings;

static void
open_rings(Rings *r, uint64_t seed, size_t size, uint32_t slots)
{
	LinkVerbs *verbs;
	LinkRingEnd primary_end;
	char why[256];

	r->fabric = link_memrdma_create(seed);
	r->primary = link_ring_create();
	r->standby = link_ring_create();
	verbs = link_memrdma_open(r->fabric, false, size, slots, why, sizeof(why));
	assert_non_null(verbs);
	primary_end = verbs->local;
	link_ring_reset(r->primary, verbs, 1);
	verbs = link_memrdma_open(r->fabric, true, size, slots, why, sizeof(why));
	assert_non_null(verbs);
	link_ring_reset(r->standby, verbs, 1);
	assert_true(verbs->ops->connect(verbs, &primary_end));
	assert_true(r->primary->verbs->ops->connect(r->primary->verbs, &verbs->local));
	assert_true(link_ring_dimension(r->primary, size, slots));
	assert_true(link_ring_dimension(r->standby, size, slots));
}

static void
close_rings(Rings *r)
{
	assert_int_equal(link_memrdma_violations(r->fabric), 0);
	link_ring_destroy(r->primary);
	link_ring_destroy(r->standby);
	link_memrdma_destroy(r->fabric);
}

/* Frame n carries its number and bytes that follow from it. */
static bool
write_frame(LinkRing *ring, uint32_t n, size_t length)
{
	LinkHeader header = {.type = length > 0 ? LINK_WAL : LINK_BOUND, .lsn = n};
	uint8_t *to = link_ring_begin(ring, length);

	if (to == NULL)
		return false;
	memset(to, (uint8_t) (n * 31 + 7), length);
	assert_true(link_ring_end(ring, &header, length));
	return true;
}

static void
check_frame(const LinkHeader *header, const uint8_t *payload, uint32_t n, size_t length)
{
	assert_true(header->lsn == n);
	assert_int_equal(header->length, length);
	for (size_t i = 0; i < length; i++)
	{
		if (payload[i] != (uint8_t) (n * 31 + 7))
			fail_msg("byte %zu of frame %u", i, n);
	}
}

/* Take what is there, which are frames of this length; their number. */
static uint32_t
take_all(Rings *r, uint32_t n, size_t length)
{
	uint32_t taken = 0;
	const uint8_t *payload;
	LinkHeader header;
	int found;

	link_memrdma_run(r->fabric, 100000);
	while ((found = link_ring_next(r->standby, &header, &payload)) == 1)
		check_frame(&header, payload, n + taken++, length);
	assert_int_equal(found, 0);
	return taken;
}

static void
give_back(Rings *r)
{
	uint64_t position;

	if (link_ring_credit_due(r->standby, true, &position))
		assert_true(link_ring_credit(r->primary, position));
}

/* Frames of every length there can be near the limits go through. */
static void
test_lengths(void **state)
{
	static const size_t lengths[] = {0,
									 1,
									 7,
									 8,
									 9,
									 63,
									 64,
									 65,
									 71,
									 72,
									 73,
									 200,
									 8191,
									 8192,
									 8193,
									 65536,
									 LINK_MAX_PAYLOAD - 1,
									 LINK_MAX_PAYLOAD};
	Rings r;

	(void) state;
	open_rings(&r, 1, SIZE, 64);
	for (uint32_t n = 0; n < sizeof(lengths) / sizeof(lengths[0]); n++)
	{
		assert_true(write_frame(r.primary, n, lengths[n]));
		assert_int_equal(take_all(&r, n, lengths[n]), 1);
		give_back(&r);
	}
	close_rings(&r);
}

/* A full ring takes nothing until something was given back, and then it does. */
static void
test_full_by_bytes(void **state)
{
	Rings r;
	uint32_t n = 0;
	uint32_t taken = 0;

	(void) state;
	open_rings(&r, 2, SIZE, 1024);
	for (int lap = 0; lap < 50; lap++)
	{
		uint64_t waits = r.primary->waits;

		while (write_frame(r.primary, n, 100000))
			n++;
		assert_false(write_frame(r.primary, n, 100000));
		assert_true(r.primary->waits == waits + 1); /* it waits once */
		taken += take_all(&r, taken, 100000);
		assert_int_equal(taken, n);
		assert_true(r.primary->head - r.primary->freed <= SIZE);
		give_back(&r);
	}
	assert_true(n > 50 * 10);
	close_rings(&r);
}

/* The same by the number of frames: there is a receive entry for each. */
static void
test_full_by_slots(void **state)
{
	Rings r;
	uint32_t n = 0;

	(void) state;
	open_rings(&r, 3, SIZE, 16);
	for (int lap = 0; lap < 50; lap++)
	{
		uint32_t before = n;

		while (write_frame(r.primary, n, 1))
			n++;
		assert_int_equal(n - before, 16);
		assert_int_equal(take_all(&r, before, 1), 16);
		give_back(&r);
	}
	close_rings(&r);
}

/* What was given back, but whose own write is not completed, is still in use. */
static void
test_own_completion(void **state)
{
	Rings r;
	const uint8_t *payload;
	LinkHeader header;
	uint32_t n = 0;

	(void) state;
	open_rings(&r, 4, SIZE, 16);
	while (write_frame(r.primary, n, 1))
		n++;
	while (link_ring_next(r.standby, &header, &payload) == 0)
		link_memrdma_run(r.fabric, 1);
	give_back(&r);
	assert_true(r.primary->released > 0 && r.primary->written == 0);
	while (!write_frame(r.primary, n, 1))
		link_memrdma_run(r.fabric, 1);
	assert_true(r.primary->written > 0);
	close_rings(&r);
}

/* Only what was given can be given back. */
static void
test_wrong_credit(void **state)
{
	static const uint64_t wrong[] = {1, 63, 64, 65, 129, 192, 1 << 20, UINT64_MAX};

	(void) state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		Rings r;

		open_rings(&r, 5, SIZE, 16);
		assert_true(write_frame(r.primary, 0, 20)); /* 128 bytes */
		assert_false(link_ring_credit(r.primary, wrong[i]));
		assert_string_equal(r.primary->reason, "the standby gave back what it was not given");
		close_rings(&r);
	}
}

/* What comes with a write that no primary of ours would make is refused. */
static void
test_damage(void **state)
{
	(void) state;
	for (int kind = 0; kind < 8; kind++)
	{
		Rings r;
		const uint8_t *payload;
		LinkHeader header = {.type = LINK_WAL, .lsn = 1};
		LinkVerbs *verbs;
		uint8_t *to;

		open_rings(&r, 6, SIZE, 16);
		verbs = r.primary->verbs;
		to = link_ring_begin(r.primary, 20);
		memset(to, 0, 20);
		header.length = 20;
		if (kind == 5)
			header.type = LINK_HANDOVER;
		if (kind == 5)
			header.length = 0;
		if (kind == 7)
			header.flags = LINK_FLAG_COMPRESSED;
		link_header_encode(&header, to, to - LINK_HEADER_SIZE);
		if (kind == 4)
			to[3] ^= 1;
		if (kind == 6)
			to[-LINK_HEADER_SIZE] ^= 1;
		assert_true(verbs->ops->write(verbs, 0, LINK_HEADER_SIZE + 20,
									  kind == 0   ? 0 /* nothing */
									  : kind == 1 ? 1 /* shorter than it is */
									  : kind == 2 ? 3 /* longer than it is */
									  : kind == 3 ? SIZE / LINK_RING_ALIGN + 1 /* beyond */
												  : 2));
		link_memrdma_run(r.fabric, 1000);
		assert_int_equal(link_ring_next(r.standby, &header, &payload), -1);
		assert_true(r.standby->reason[0] != '\0');
		close_rings(&r);
	}
}

/* An error of the connection is an error of the ring, on the side it is told. */
static void
test_broken(void **state)
{
	Rings r;
	const uint8_t *payload;
	LinkHeader header;

	(void) state;
	open_rings(&r, 7, SIZE, 16);
	assert_true(write_frame(r.primary, 0, 20));
	link_memrdma_run(r.fabric, 1000);
	assert_true(write_frame(r.primary, 1, 20));
	link_memrdma_break(r.fabric, true, true);
	assert_false(link_ring_reap(r.primary));
	assert_string_equal(r.primary->reason, "the fabric broke");
	/* what had arrived is still taken */
	assert_int_equal(link_ring_next(r.standby, &header, &payload), 1);
	check_frame(&header, payload, 0, 20);
	assert_int_equal(link_ring_next(r.standby, &header, &payload), -1);
	assert_string_equal(r.standby->reason, "the fabric broke");
	close_rings(&r);
}

/*
 * Any lengths, any order of events: every frame comes once, whole, in order;
 * no place is overrun and no write is without a receive entry.
 */
static void
test_random(void **state)
{
	(void) state;
	for (uint64_t seed = 1; seed <= 60; seed++)
	{
		static size_t lengths[4096];
		Rings r;
		uint32_t slots = 16 << seed % 7;
		size_t max = seed % 3 == 0 ? LINK_MAX_PAYLOAD : seed % 3 == 1 ? 20000 : 300;
		uint32_t total = 4000000 / max < 4000 ? 4000000 / max + 40 : 4000;
		uint32_t sent = 0;
		uint32_t taken = 0;
		int idle = 0;

		open_rings(&r, seed, SIZE, slots);
		srand(seed);
		for (uint32_t i = 0; i < total; i++)
			lengths[i] = rand() % 8 == 0 ? 0 : rand() % (max + 1);
		while (taken < total)
		{
			const uint8_t *payload;
			LinkHeader header;
			uint64_t position;

			if (idle++ > 1000000)
				fail_msg("seed %d: nothing goes on", (int) seed);
			for (int i = rand() % 40; i > 0 && sent < total; i--)
			{
				if (!write_frame(r.primary, sent, lengths[sent]))
					break;
				sent++;
			}
			link_memrdma_run(r.fabric, rand() % 60);
			for (int i = rand() % 20; i > 0; i--)
			{
				int found = link_ring_next(r.standby, &header, &payload);

				assert_true(found >= 0);
				if (found == 0)
					break;
				check_frame(&header, payload, taken, lengths[taken]);
				taken++;
				idle = 0;
			}
			if (link_ring_credit_due(r.standby, false, &position))
				assert_true(link_ring_credit(r.primary, position));
		}
		assert_true(r.standby->completions == total);
		assert_true(r.standby->bytes == r.primary->bytes);
		close_rings(&r);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),       cmocka_unit_test(test_full_by_bytes),
		cmocka_unit_test(test_full_by_slots), cmocka_unit_test(test_own_completion),
		cmocka_unit_test(test_wrong_credit),  cmocka_unit_test(test_damage),
		cmocka_unit_test(test_broken),        cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
