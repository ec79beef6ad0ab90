/*-------------------------------------------------------------------------
 *
 * test_wire.c
 *	  Tests of the heartbeats' bytes (watchdog/wire.c): what is sent comes out
 *	  the same, nothing else is taken, and nothing is taken twice.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "watchdog/wire.h"

static Config config[2];
static WireKey key[2];
static const uint8_t secret[32] = {1, 2, 3};

/* Two of three nodes of one cluster, as each sees it. */
static int
make_keys(void **state)
{
	(void) state;
	for (int i = 0; i < 2; i++)
	{
		Config *c = &config[i];

		memset(c, 0, sizeof(*c));
		snprintf(c->cluster, sizeof(c->cluster), "test");
		c->nnodes = 3;
		c->self = i;
		for (int n = 0; n < 3; n++)
			snprintf(c->node[n].name, sizeof(c->node[n].name), "node%d", n);
		c->node[2].witness = true;
		c->fsm.voters = 7;
		c->fsm.timing.lease = 5000000;
		c->key_length = 32;
		memset(c->key, 0x5a, 32);
		wire_key(&key[i], c);
	}
	return 0;
}

static WireDatagram
beat(uint64_t instance, uint64_t number)
{
	WireDatagram d;

	memset(&d, 0, sizeof(d));
	d.kind = WIRE_BEAT;
	d.from = 0;
	d.to = 1;
	d.path = 1;
	d.boot = 7;
	d.instance = instance;
	d.number = number;
	d.status = (WireStatus){.state = FSM_IN_SYNC,
							.pg_state = FSM_PG_PRIMARY,
							.term = 5,
							.lsn = UINT64_C(0x123456789),
							.replayed = 17,
							.timeline = 3,
							.flags = WIRE_OPEN};
	d.has_msg = true;
	d.msg = (FsmMsg){.type = FSM_M_STORE,
					 .to = 1,
					 .ok = true,
					 .fenced = FSM_NOBODY,
					 .term = 5,
					 .prom = 4,
					 .boot = 7,
					 .echo = 9,
					 .rec = {.term = 5,
							 .seq = 2,
							 .primary_copy = 11,
							 .peer_copy = 12,
							 .primary = 0,
							 .peer = 1,
							 .lossy = true},
					 .sent = 1000,
					 .wait = 20};
	return d;
}

static void
comes_out_the_same(void **state)
{
	WireDatagram d = beat(1, 1);
	WireDatagram back;
	uint8_t bytes[WIRE_MAX];
	size_t n = wire_encode(&key[0], &d, bytes);

	(void) state;
	assert_in_range(n, 1, WIRE_MAX);
	assert_int_equal(wire_decode(&key[1], bytes, n, &back), WIRE_OK);
	assert_int_equal(back.number, 1);
	assert_int_equal(back.path, 1);
	assert_int_equal(back.status.lsn, d.status.lsn);
	assert_int_equal(back.status.state, FSM_IN_SYNC);
	assert_int_equal(back.msg.type, FSM_M_STORE);
	assert_int_equal(back.msg.from, 0);
	assert_int_equal(back.msg.boot, 7);
	assert_int_equal(back.msg.fenced, FSM_NOBODY);
	assert_memory_equal(&back.msg.rec, &d.msg.rec, sizeof(FsmRec));
	assert_int_equal(back.msg.sent, 1000);
	assert_int_equal(back.msg.wait, 20);

	d.kind = WIRE_CHALLENGE;
	d.asked_boot = 1;
	d.asked_instance = 2;
	d.nonce = 3;
	n = wire_encode(&key[0], &d, bytes);
	assert_int_equal(wire_decode(&key[1], bytes, n, &back), WIRE_OK);
	assert_int_equal(back.nonce, 3);
}

static void
every_bit_counts(void **state)
{
	WireDatagram d = beat(1, 1);
	WireDatagram back;
	uint8_t bytes[WIRE_MAX + 1];
	size_t n = wire_encode(&key[0], &d, bytes);

	(void) state;
	for (size_t bit = 0; bit < n * 8; bit++)
	{
		bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
		assert_int_equal(wire_decode(&key[1], bytes, n, &back), WIRE_MAC);
		bytes[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	for (size_t length = 0; length < n; length++)
		assert_int_not_equal(wire_decode(&key[1], bytes, length, &back), WIRE_OK);
	assert_int_not_equal(wire_decode(&key[1], bytes, WIRE_MAX + 1, &back), WIRE_OK);
	assert_int_equal(wire_decode(&key[1], bytes, n, &back), WIRE_OK);
}

/* Encode with a configuration that differs; what does node 1 say to it? */
static WireFault
refusal(const Config *other, WireDatagram d)
{
	WireKey k;
	WireDatagram back;
	uint8_t bytes[WIRE_MAX];

	wire_key(&k, other);
	return wire_decode(&key[1], bytes, wire_encode(&k, &d, bytes), &back);
}

static void
others_are_refused(void **state)
{
	Config other = config[0];
	WireDatagram d = beat(1, 1);

	(void) state;
	other.key[31] ^= 1;
	assert_int_equal(refusal(&other, d), WIRE_MAC);
	other = config[0];
	other.fsm.timing.lease++;
	assert_int_equal(refusal(&other, d), WIRE_CLUSTER);
	other = config[0];
	other.fsm.voters = 3;
	assert_int_equal(refusal(&other, d), WIRE_CLUSTER);
	other = config[0];
	memcpy(other.node[0].name, "node1", 6);
	assert_int_equal(refusal(&other, d), WIRE_CLUSTER);

	d.to = 2;
	assert_int_equal(refusal(&config[0], d), WIRE_ADDRESS);
	d = beat(1, 1);
	d.from = 1;
	assert_int_equal(refusal(&config[0], d), WIRE_ADDRESS);
	d = beat(1, 1);
	d.path = CONFIG_MAX_PATHS;
	assert_int_equal(refusal(&config[0], d), WIRE_ADDRESS);
}

static void
fields_that_cannot_be_are_refused(void **state)
{
	WireDatagram d = beat(1, 1);

	(void) state;
	d.msg.type = FSM_M_NTYPES;
	assert_int_equal(refusal(&config[0], d), WIRE_FORMAT);
	d = beat(1, 1);
	d.msg.rec.primary = 3;
	assert_int_equal(refusal(&config[0], d), WIRE_FORMAT);
	d = beat(1, 1);
	d.msg.wait = -1;
	assert_int_equal(refusal(&config[0], d), WIRE_FORMAT);
	d = beat(1, 1);
	d.status.state = FSM_NSTATES;
	assert_int_equal(refusal(&config[0], d), WIRE_FORMAT);
	d = beat(1, 0);
	assert_int_equal(refusal(&config[0], d), WIRE_FORMAT);
	d = beat(1, 1);
	d.kind = 9;
	assert_int_equal(refusal(&config[0], d), WIRE_FORMAT);
}

static WireVerdict
admit(WirePeer *p, const WireDatagram *d)
{
	bool first;

	return wire_admit(p, secret, d, &first);
}

/* A datagram of this instance, with the proof that it is asked for now. */
static WireDatagram
proven(const WirePeer *p, uint64_t instance, uint64_t number)
{
	WireDatagram d = beat(instance, number);

	d.proof = wire_nonce(p, secret, &d);
	return d;
}

static void
nothing_is_taken_twice(void **state)
{
	WirePeer p = {.known = false};
	WireDatagram d = beat(1, 100);
	bool first;

	(void) state;
	assert_int_equal(admit(&p, &d), WIRE_UNPROVEN);
	d = proven(&p, 1, 100);
	assert_int_equal(admit(&p, &d), WIRE_TAKE);
	assert_int_equal(admit(&p, &d), WIRE_AGAIN);
	d = proven(&p, 1, 99);
	assert_int_equal(admit(&p, &d), WIRE_AGAIN); /* from before it was proven */
	d.number = 105;
	assert_int_equal(admit(&p, &d), WIRE_TAKE);
	d.number = 103;
	assert_int_equal(admit(&p, &d), WIRE_TAKE); /* overtaken on the way */
	assert_int_equal(admit(&p, &d), WIRE_AGAIN);
	d.path = 0;
	assert_int_equal(wire_admit(&p, secret, &d, &first), WIRE_AGAIN);
	assert_true(first); /* but it shows that this path works */
	d.number = 1000;
	assert_int_equal(admit(&p, &d), WIRE_TAKE);
	d.number = 936;
	assert_int_equal(admit(&p, &d), WIRE_AGAIN); /* too old to know */
	d.number = 937;
	assert_int_equal(admit(&p, &d), WIRE_TAKE);
}

static void
what_was_recorded_is_of_no_use(void **state)
{
	WirePeer p = {.known = false};
	WirePeer after_restart = {.known = false};
	static const uint8_t other_secret[32] = {9};
	WireDatagram old = proven(&p, 1, 10);
	WireDatagram d;
	bool first;

	(void) state;
	assert_int_equal(admit(&p, &old), WIRE_TAKE);
	/* the sender starts again; its earlier instance is over */
	d = beat(2, 1);
	assert_int_equal(admit(&p, &d), WIRE_UNPROVEN);
	d = proven(&p, 2, 1);
	assert_int_equal(admit(&p, &d), WIRE_TAKE);
	old.number = 50;
	assert_int_equal(admit(&p, &old), WIRE_STALE);
	/* the sender's host starts again: the old boot's proof does not count a second time */
	d.boot = 8;
	d.instance = 1;
	d.proof = wire_nonce(&p, secret, &d);
	assert_int_equal(admit(&p, &d), WIRE_TAKE);
	old.number = 60;
	assert_int_equal(admit(&p, &old), WIRE_UNPROVEN);
	/* the receiver starts again: nothing it had taken before counts */
	assert_int_equal(wire_admit(&after_restart, other_secret, &d, &first), WIRE_UNPROVEN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comes_out_the_same),
		cmocka_unit_test(every_bit_counts),
		cmocka_unit_test(others_are_refused),
		cmocka_unit_test(fields_that_cannot_be_are_refused),
		cmocka_unit_test(nothing_is_taken_twice),
		cmocka_unit_test(what_was_recorded_is_of_no_use),
	};

	return cmocka_run_group_tests(tests, make_keys, NULL);
}
