/*-------------------------------------------------------------------------
 *
 * test_auth.c
 *	  Tests of authentication: both kinds, good peers, honest mistakes, and a
 *	  network that cuts and changes.
 *
 *-------------------------------------------------------------------------
 */
#include "pair.h"

#include <poll.h>

static void
test_auth_good(void **state)
{
	(void) state;
	for (int wire = WIRE_UNIX; wire <= WIRE_RELAY; wire++)
	{
		for (int tls = 0; tls < 2; tls++)
		{
			Session s;

			if (wire == WIRE_TCP6 && !have_ipv6())
				continue;
			session_authenticated(&s, wire, tls);
			assert_int_equal(s.store.lookups, 1);
			for (int i = 0; i < 2; i++)
			{
				assert_int_equal(s.conn[i]->transport->encrypted, tls);
				assert_int_equal(s.conn[i]->auth.tls, tls);
				assert_int_equal(s.conn[i]->auth.state, LINK_AUTH_DONE);
				assert_true(s.conn[i]->auth.id == OFFER_ID);
				/* asked again, the answer is the same */
				assert_int_equal(link_auth_step(s.conn[i]), 1);
			}
			session_close(&s);
		}
	}
}

static void
test_auth_refused(void **state)
{
	static const struct
	{
		bool tls;
		bool offer_tls;
		bool wrong_key;
		bool wrong_id;
		bool used;
		const char *server_says; /* NULL: depends on the TLS library */
		const char *client_says;
	} cases[] = {
		/* the client finds out first that the server has another key */
		{false, false, true, false, false, "the peer closed the connection",
		 "the peer did not prove the one-time key"},
		{true, true, true, false, false, NULL, NULL},
		{false, false, false, true, false, "unknown or used one-time key", NULL},
		{true, true, false, true, false, NULL, NULL},
		{false, false, false, false, true, "unknown or used one-time key", NULL},
		{true, true, false, false, true, NULL, NULL},
		{false, true, false, false, false, "unknown or used one-time key", NULL},
		{true, false, false, false, false, NULL, NULL},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Session s;

		session_open(&s, WIRE_TCP);
		session_prepare(&s, cases[i].tls);
		s.store.tls = cases[i].offer_tls;
		s.store.used = cases[i].used;
		if (cases[i].wrong_key)
			s.store.key[31] ^= 1;
		if (cases[i].wrong_id)
			s.store.id ^= UINT64_C(1) << 63;
		session_auth(&s);
		if (s.result[SERVER] >= 0)
			fail_msg("case %zu: the server accepted", i);
		/* with TLS 1.3 the client may be done before the server refuses */
		if (s.result[CLIENT] >= 0)
			fail_msg("case %zu: the client accepted", i);
		assert_true(s.error[SERVER][0] != '\0' && s.error[CLIENT][0] != '\0');
		if (cases[i].server_says != NULL)
			assert_error(&s, SERVER, cases[i].server_says);
		if (cases[i].client_says != NULL)
			assert_error(&s, CLIENT, cases[i].client_says);
		assert_int_equal(s.store.lookups, 1);
		session_close(&s);
	}
}

/* The first frame of the stream may come in one piece with the last proof. */
static void
test_frame_behind_proof(void **state)
{
	(void) state;
	for (int tls = 0; tls < 2; tls++)
	{
		Session s;
		LinkHeader header = {.type = LINK_BOUND, .lsn = 77};
		const uint8_t *payload;
		int64_t deadline = now_ms() + DEADLINE_MS;

		session_open(&s, WIRE_UNIX);
		session_prepare(&s, tls);
		/* the server does not look until the client has sent it all */
		while ((s.result[CLIENT] = link_auth_step(s.conn[CLIENT])) == LINK_IO_AGAIN)
		{
			assert_int_equal(link_auth_step(s.conn[SERVER]), LINK_IO_AGAIN);
			assert_true(now_ms() < deadline);
		}
		assert_int_equal(s.result[CLIENT], 1);
		assert_true(link_frame_put(s.conn[CLIENT], &header, NULL, 0));
		assert_int_equal(link_flush(s.conn[CLIENT]), 1);
		assert_int_equal(link_auth_step(s.conn[SERVER]), 1);
		header.lsn = 0;
		if (link_next(s.conn[SERVER], &header, &payload) == LINK_DECODE_MORE)
		{
			/* then it must still be on the wire, or nobody would come back */
			await(s.conn[SERVER]->fd, POLLIN);
			assert_true(link_fill(s.conn[SERVER]) > 0);
			assert_int_equal(link_next(s.conn[SERVER], &header, &payload), LINK_DECODE_OK);
		}
		assert_int_equal(header.lsn, 77);
		session_close(&s);
	}
}

static void
whole_session(bool tls, size_t passed[2])
{
	Session s;

	session_open(&s, WIRE_RELAY);
	session_prepare(&s, tls);
	session_auth(&s);
	assert_int_equal(s.result[CLIENT], 1);
	assert_int_equal(s.result[SERVER], 1);
	passed[CLIENT] = s.relay.passed[CLIENT];
	passed[SERVER] = s.relay.passed[SERVER];
	session_close(&s);
}

/* The connection is lost after every number of bytes either way. */
static void
test_cut_everywhere(void **state)
{
	(void) state;
	for (int tls = 0; tls < 2; tls++)
	{
		size_t total[2];

		whole_session(tls, total);
		for (int from = 0; from < 2; from++)
		{
			for (size_t limit = 0; limit < total[from]; limit++)
			{
				Session s;
				int to = 1 - from;

				session_open(&s, WIRE_RELAY);
				s.relay.limit[from] = limit;
				session_prepare(&s, tls);
				session_auth(&s);
				if (s.result[to] >= 0)
					fail_msg("accepted after %zu of %zu bytes", limit, total[from]);
				assert_true(s.error[to][0] != '\0');
				if (from == SERVER && s.result[from] >= 0)
					fail_msg("the server was done after sending %zu of %zu bytes", limit,
							 total[from]);
				session_close(&s);
			}
		}
	}
}

/*
 * Any bit changed on the way ends the plain handshake.  (Some in each byte:
 * that the decoder notices every single one is seen in test_frame.c.)
 */
static void
test_flips_plain(void **state)
{
	size_t total[2];

	(void) state;
	whole_session(false, total);
	for (int from = 0; from < 2; from++)
	{
		for (size_t bit = 0; bit < total[from] * 8; bit += 3)
		{
			Session s;

			session_open(&s, WIRE_RELAY);
			s.relay.flip[from] = bit;
			session_prepare(&s, false);
			session_auth(&s);
			if (s.result[1 - from] >= 0)
				fail_msg("bit %zu changed unnoticed", bit);
			session_close(&s);
		}
	}
}

/*
 * With TLS a few bits on the wire mean nothing (the version in a record's
 * header).  Then all must be well; in all other cases neither side may think
 * that it is connected and stay so.
 */
static void
test_flips_tls(void **state)
{
	size_t total[2];
	int harmless = 0;

	(void) state;
	whole_session(true, total);
	for (int from = 0; from < 2; from++)
	{
		for (size_t byte = 0; byte < total[from]; byte++)
		{
			Session s;

			session_open(&s, WIRE_RELAY);
			s.relay.flip[from] = byte * 8 + byte % 8;
			session_prepare(&s, true);
			session_auth_patient(&s, 10);
			if (s.result[CLIENT] == 1 && s.result[SERVER] == 1)
			{
				LinkHeader header = {.type = LINK_BOUND, .lsn = 5};
				const uint8_t *payload;

				harmless++;
				assert_true(link_frame_put(s.conn[SERVER], &header, NULL, 0));
				assert_int_equal(link_flush(s.conn[SERVER]), 1);
				while (relay_step(&s.relay, SERVER))
					;
				assert_true(link_fill(s.conn[CLIENT]) > 0);
				assert_int_equal(link_next(s.conn[CLIENT], &header, &payload), LINK_DECODE_OK);
			}
			else
				assert_true(s.result[SERVER] != 1);
			session_close(&s);
		}
	}
	assert_true(harmless < 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flips_plain),
		tls_test(test_auth_good),
		tls_test(test_auth_refused),
		tls_test(test_frame_behind_proof),
		tls_test(test_cut_everywhere),
		tls_test(test_flips_tls),
		cmocka_unit_test(test_no_descriptor_left),
	};

	return cmocka_run_group_tests_name("auth", tests, before_all, NULL);
}
