/*-------------------------------------------------------------------------
 *
 * test_auth_attack.c
 *	  Tests of authentication: peers that know the protocol, and use it badly.
 *
 *-------------------------------------------------------------------------
 */
#include "pair.h"

#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The proofs by a second implementation: the format is the protocol. */
static void
proof_of(const char *who, const uint8_t *key, uint64_t id, const uint8_t *a, const uint8_t *b,
		 uint8_t *proof)
{
	uint8_t text[80] = {0};
	unsigned int length;

	memcpy(text, who, strlen(who));
	for (int i = 0; i < 8; i++)
		text[8 + i] = (uint8_t) (id >> (8 * i));
	memcpy(text + 16, a, 32);
	memcpy(text + 48, b, 32);
	assert_non_null(HMAC(EVP_sha256(), key, 32, text, sizeof(text), proof, &length));
	assert_int_equal(length, 32);
}

static void
send_frame(int fd, LinkFrameType type, const void *payload, size_t length)
{
	uint8_t buf[LINK_HEADER_SIZE + 4096];

	assert_true(length <= 4096);
	raw_write(fd, buf, make_frame(buf, type, payload, length));
}

/* Send the first message as a client with this nonce; get the answer. */
static void
raw_hello(int fd, uint64_t id, uint8_t nonce_byte, uint8_t *nonce)
{
	LinkAuthClient msg = {.id = id};
	uint8_t payload[sizeof(msg)];

	memset(msg.nonce, nonce_byte, sizeof(msg.nonce));
	memcpy(nonce, msg.nonce, sizeof(msg.nonce));
	send_frame(fd, LINK_AUTH_CLIENT, payload, link_auth_client_encode(&msg, payload));
}

static void
raw_answer(int fd, LinkAuthServer *answer)
{
	uint8_t buf[LINK_HEADER_SIZE + 64];
	LinkHeader header;

	assert_int_equal(recv(fd, buf, sizeof(buf), 0), sizeof(buf));
	assert_int_equal(link_frame_decode(buf, sizeof(buf), &header), LINK_DECODE_OK);
	assert_int_equal(header.type, LINK_AUTH_SERVER);
	assert_true(link_auth_server_decode(buf + LINK_HEADER_SIZE, 64, answer));
}

static void
test_proof_format(void **state)
{
	Store store;
	int other;
	LinkConn *conn = attacked_server(&other, &store);
	LinkAuthServer answer;
	uint8_t nonce[LINK_NONCE_SIZE];
	uint8_t proof[LINK_MAC_SIZE];
	uint8_t buf[LINK_HEADER_SIZE + 40];
	LinkHeader header;
	LinkAuthClient hello;
	LinkAuthServer reply;

	(void) state;
	/* against our server */
	raw_hello(other, OFFER_ID, 1, nonce);
	assert_int_equal(drive(conn), LINK_IO_AGAIN);
	raw_answer(other, &answer);
	proof_of("primary", store.key, OFFER_ID, nonce, answer.nonce, proof);
	assert_memory_equal(answer.proof, proof, LINK_MAC_SIZE);
	proof_of("standby", store.key, OFFER_ID, nonce, answer.nonce, proof);
	send_frame(other, LINK_AUTH_PROOF, proof, LINK_MAC_SIZE);
	assert_int_equal(drive(conn), 1);
	link_conn_destroy(conn);
	close(other);

	/* against our client */
	conn = raw_pair(&other);
	link_auth_client(conn, OFFER_ID, store.key, false);
	assert_int_equal(drive(conn), LINK_IO_AGAIN);
	assert_int_equal(recv(other, buf, sizeof(buf), 0), sizeof(buf));
	assert_int_equal(link_frame_decode(buf, sizeof(buf), &header), LINK_DECODE_OK);
	assert_true(link_auth_client_decode(buf + LINK_HEADER_SIZE, 40, &hello));
	assert_true(hello.id == OFFER_ID);
	memset(reply.nonce, 9, LINK_NONCE_SIZE);
	proof_of("primary", store.key, OFFER_ID, hello.nonce, reply.nonce, reply.proof);
	send_frame(other, LINK_AUTH_SERVER, &reply, sizeof(reply));
	assert_int_equal(drive(conn), 1);
	proof_of("standby", store.key, OFFER_ID, hello.nonce, reply.nonce, proof);
	assert_int_equal(recv(other, buf, sizeof(buf), 0), LINK_HEADER_SIZE + LINK_MAC_SIZE);
	assert_memory_equal(buf + LINK_HEADER_SIZE, proof, LINK_MAC_SIZE);
	link_conn_destroy(conn);
	close(other);
}

/* A client that has everything but the key. */
static void
test_client_without_key(void **state)
{
	(void) state;
	for (int kind = 0; kind < 8; kind++)
	{
		Store store;
		int other;
		LinkConn *server = attacked_server(&other, &store);
		LinkAuthServer answer;
		uint8_t nonce[LINK_NONCE_SIZE];
		uint8_t key[LINK_KEY_SIZE] = {0};
		uint8_t proof[LINK_MAC_SIZE];

		raw_hello(other, OFFER_ID, 1, nonce);
		assert_int_equal(drive(server), LINK_IO_AGAIN);
		raw_answer(other, &answer);
		switch (kind)
		{
			case 0: /* the server's own proof, sent back */
				memcpy(proof, answer.proof, LINK_MAC_SIZE);
				break;
			case 1: /* nothing */
				memset(proof, 0, LINK_MAC_SIZE);
				break;
			case 2: /* by an empty key */
				proof_of("standby", key, OFFER_ID, nonce, answer.nonce, proof);
				break;
			case 3: /* right but for the last bit */
				proof_of("standby", store.key, OFFER_ID, nonce, answer.nonce, proof);
				proof[31] ^= 1;
				break;
			case 4: /* right but for the first */
				proof_of("standby", store.key, OFFER_ID, nonce, answer.nonce, proof);
				proof[0] ^= 0x80;
				break;
			case 5: /* for another offer with the same key */
				proof_of("standby", store.key, OFFER_ID + 1, nonce, answer.nonce, proof);
				break;
			case 6: /* the nonces exchanged */
				proof_of("standby", store.key, OFFER_ID, answer.nonce, nonce, proof);
				break;
			case 7: /* the other role's name */
				proof_of("primary", store.key, OFFER_ID, nonce, answer.nonce, proof);
				break;
		}
		send_frame(other, LINK_AUTH_PROOF, proof, LINK_MAC_SIZE);
		if (drive(server) != LINK_IO_ERROR)
			fail_msg("kind %d was accepted", kind);
		assert_string_equal(link_conn_error(server), "the peer did not prove the one-time key");
		link_conn_destroy(server);
		close(other);
	}
}

/* A server that has everything but the key. */
static void
test_server_without_key(void **state)
{
	uint8_t key[LINK_KEY_SIZE];

	(void) state;
	memset(key, 0x77, sizeof(key));
	for (int kind = 0; kind < 5; kind++)
	{
		int other;
		LinkConn *client = raw_pair(&other);
		uint8_t buf[LINK_HEADER_SIZE + 40];
		LinkAuthClient hello;
		LinkAuthServer reply;

		link_auth_client(client, OFFER_ID, key, false);
		assert_int_equal(drive(client), LINK_IO_AGAIN);
		assert_int_equal(recv(other, buf, sizeof(buf), 0), sizeof(buf));
		assert_true(link_auth_client_decode(buf + LINK_HEADER_SIZE, 40, &hello));
		memset(&reply, 0, sizeof(reply));
		switch (kind)
		{
			case 0: /* its own nonce, sent back */
				memcpy(reply.nonce, hello.nonce, LINK_NONCE_SIZE);
				memcpy(reply.proof, hello.nonce, LINK_MAC_SIZE);
				break;
			case 1: /* nothing */
				break;
			case 2: /* the client's role */
				proof_of("standby", key, OFFER_ID, hello.nonce, reply.nonce, reply.proof);
				break;
			case 3: /* one bit off */
				proof_of("primary", key, OFFER_ID, hello.nonce, reply.nonce, reply.proof);
				reply.proof[16] ^= 4;
				break;
			case 4: /* another offer */
				proof_of("primary", key, ~OFFER_ID, hello.nonce, reply.nonce, reply.proof);
				break;
		}
		send_frame(other, LINK_AUTH_SERVER, &reply, sizeof(reply));
		if (drive(client) != LINK_IO_ERROR)
			fail_msg("kind %d was accepted", kind);
		assert_string_equal(link_conn_error(client), "the peer did not prove the one-time key");
		link_conn_destroy(client);

		/* and it gave no proof of its own away */
		assert_int_equal(recv(other, buf, sizeof(buf), 0), 0);
		close(other);
	}
}

/* A recorded session is worth nothing, even if the offer were made again. */
static void
test_replay(void **state)
{
	Session s;
	uint8_t *recorded;
	size_t length;
	Store store;
	int other;
	LinkConn *server;

	(void) state;
	session_open(&s, WIRE_RELAY);
	s.relay.seen_size = 4096;
	s.relay.seen[CLIENT] = calloc(1, s.relay.seen_size);
	session_prepare(&s, false);
	session_auth(&s);
	assert_int_equal(s.result[CLIENT], 1);
	assert_int_equal(s.result[SERVER], 1);
	recorded = s.relay.seen[CLIENT];
	length = s.relay.passed[CLIENT];
	assert_int_equal(length, LINK_HEADER_SIZE + 40 + LINK_HEADER_SIZE + 32);

	store = s.store;
	store.used = false;
	server = raw_pair(&other);
	link_auth_server(server, find_key, &store);
	raw_write(other, recorded, length);
	assert_int_equal(drive(server), LINK_IO_ERROR);
	assert_string_equal(link_conn_error(server), "the peer did not prove the one-time key");
	link_conn_destroy(server);
	close(other);
	session_close(&s);
}

static void
test_nonces_differ(void **state)
{
	uint8_t seen[2][8][LINK_NONCE_SIZE];

	(void) state;
	for (int i = 0; i < 8; i++)
	{
		Session s;

		session_authenticated(&s, WIRE_UNIX, false);
		for (int side = 0; side < 2; side++)
		{
			memcpy(seen[side][i], s.conn[side]->auth.nonce, LINK_NONCE_SIZE);
			assert_memory_equal(s.conn[side]->auth.nonce, s.conn[1 - side]->auth.peer_nonce,
								LINK_NONCE_SIZE);
			for (int j = 0; j < i; j++)
				assert_memory_not_equal(seen[side][i], seen[side][j], LINK_NONCE_SIZE);
		}
		assert_memory_not_equal(seen[0][i], seen[1][i], LINK_NONCE_SIZE);
		session_close(&s);
	}
}

/* No key on the wire, in either kind; TLS shows no payload, frames do. */
static void
test_overheard(void **state)
{
	(void) state;
	for (int tls = 0; tls < 2; tls++)
	{
		static const char text[] = "INSERT INTO account VALUES (4711)";
		Session s;
		LinkHeader header = {.type = LINK_WAL};
		bool heard = false;

		session_open(&s, WIRE_RELAY);
		s.relay.seen_size = 65536;
		for (int i = 0; i < 2; i++)
			s.relay.seen[i] = calloc(1, s.relay.seen_size);
		session_prepare(&s, tls);
		session_auth(&s);
		assert_int_equal(s.result[SERVER], 1);
		assert_true(link_frame_put(s.conn[SERVER], &header, text, sizeof(text)));
		assert_int_equal(link_flush(s.conn[SERVER]), 1);
		while (relay_step(&s.relay, SERVER))
			;
		heard = memmem(s.relay.seen[SERVER], s.relay.passed[SERVER], text, sizeof(text)) != NULL;
		assert_int_equal(heard, !tls);
		for (int i = 0; i < 2; i++)
		{
			assert_true(s.relay.passed[i] < s.relay.seen_size);
			assert_null(memmem(s.relay.seen[i], s.relay.passed[i], s.store.key, 8));
		}
		session_close(&s);
	}
}

static void
test_future_version(void **state)
{
	static const int versions[] = {0, 2, 3, 77, 255};

	(void) state;
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
	{
		/* all of a frame, and only as much as says the version */
		for (size_t length = 5; length <= LINK_HEADER_SIZE + 40; length += LINK_HEADER_SIZE + 35)
		{
			for (int side = 0; side < 2; side++)
			{
				uint8_t frame[LINK_HEADER_SIZE + 40];
				uint8_t key[LINK_KEY_SIZE] = {1};
				Store store;
				char text[64];
				int other;
				LinkConn *conn = side == SERVER ? attacked_server(&other, &store)
												: raw_pair(&other);

				if (side == CLIENT)
				{
					link_auth_client(conn, OFFER_ID, key, false);
					assert_int_equal(drive(conn), LINK_IO_AGAIN);
				}
				memset(frame, 0xEE, sizeof(frame));
				memcpy(frame, "TNDM", 4);
				frame[4] = versions[i];
				raw_write(other, frame, length);
				assert_int_equal(drive(conn), LINK_IO_ERROR);
				snprintf(text, sizeof(text), "protocol version %d is not supported", versions[i]);
				assert_non_null(strstr(link_conn_error(conn), text));
				snprintf(text, sizeof(text), "speaks version %d", LINK_VERSION);
				assert_non_null(strstr(link_conn_error(conn), text));
				link_conn_destroy(conn);
				close(other);
			}
		}
	}
}

/* What else may knock at the port. */
static void
test_garbage(void **state)
{
	static const struct
	{
		const char *bytes;
		size_t length;
	} cases[] = {
#define BYTES(s) {s, sizeof(s) - 1}
		BYTES("\0"),
		BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
		BYTES("\377\377\377\377"),
		BYTES("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		BYTES("SSH-2.0-OpenSSH_9.2\r\n"),
		BYTES("\0\0\0\10\4\322\26\57"),        /* PostgreSQL: SSLRequest */
		BYTES("\0\0\0\20\0\3\0\0user\0a\0\0"), /* PostgreSQL: startup */
		BYTES("T is not the whole of it"),
		BYTES("TNDX"),
		BYTES("TNDM\1"
			  "0123456789012345678901234567890123456789012345678901234567890123456789"),
		BYTES("\26garbage that is no TLS record at all"),
		BYTES("\26\3\1\0\5hello"), /* a record, but no ClientHello */
		BYTES("\26\3\1\377\377too long a record"),
		BYTES("\26\3\3\0\4\1\0\0\0"),         /* an empty ClientHello */
		BYTES("\26\3\3\0\4\2\0\0\0"),         /* a ServerHello */
		BYTES("\200\56\1\0\2\0\25\0\0\0\20"), /* SSL 2 */
		BYTES("\25\3\3\0\2\2\50"),            /* an alert */
#undef BYTES
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		/* at once, and a byte at a time */
		for (int slowly = 0; slowly < 2; slowly++)
		{
			Store store;
			int other;
			LinkConn *server = attacked_server(&other, &store);
			int result = LINK_IO_AGAIN;

			if (slowly)
			{
				for (size_t at = 0; at < cases[i].length && result == LINK_IO_AGAIN; at++)
				{
					raw_write(other, cases[i].bytes + at, 1);
					result = drive(server);
				}
			}
			else
			{
				raw_write(other, cases[i].bytes, cases[i].length);
				result = drive(server);
			}
			if (result == LINK_IO_AGAIN)
			{
				/* it may wait for the rest, but not for more than that */
				shutdown(other, SHUT_WR);
				result = drive(server);
			}
			if (result >= 0)
				fail_msg("case %zu: %d", i, result);
			assert_true(link_conn_error(server)[0] != '\0');
			assert_int_equal(store.lookups, 0);
			link_conn_destroy(server);
			close(other);
		}
	}
}

/* Sane frames, each where it does not belong. */
static void
test_out_of_order(void **state)
{
	static const struct
	{
		LinkFrameType type;
		size_t length;
	} frames[] = {
		{LINK_AUTH_CLIENT, 40}, {LINK_AUTH_SERVER, 64}, {LINK_AUTH_PROOF, 32}, {LINK_HELLO, 74},
		{LINK_WELCOME, 6},      {LINK_REFUSE, 8},       {LINK_WAL, 100},       {LINK_BOUND, 0},
		{LINK_HANDOVER, 0},     {LINK_ACK, 32},         {LINK_FEEDBACK, 16},   {LINK_NOTICE, 8},
		{LINK_RING_OFFER, 56},  {LINK_RING_ACCEPT, 56}, {LINK_RING_START, 12}, {LINK_RING_STOP, 7},
		{LINK_RING_CREDIT, 12},
	};
	static const uint8_t zeros[128];
	uint8_t key[LINK_KEY_SIZE] = {1};
	Store store;
	uint8_t nonce[LINK_NONCE_SIZE];

	(void) state;
	for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++)
	{
		LinkFrameType type = frames[i].type;
		int other;
		LinkConn *conn = attacked_server(&other, &store);

		/* to the server, first */
		send_frame(other, type, zeros, frames[i].length);
		assert_int_equal(drive(conn), LINK_IO_ERROR);
		assert_string_equal(link_conn_error(conn), type == LINK_AUTH_CLIENT
													   ? "unknown or used one-time key"
													   : "unexpected frame during authentication");
		assert_int_equal(store.lookups, type == LINK_AUTH_CLIENT ? 1 : 0);
		link_conn_destroy(conn);
		close(other);

		/* to the server, second */
		conn = attacked_server(&other, &store);
		raw_hello(other, OFFER_ID, 1, nonce);
		assert_int_equal(drive(conn), LINK_IO_AGAIN);
		send_frame(other, type, zeros, frames[i].length);
		assert_int_equal(drive(conn), LINK_IO_ERROR);
		assert_string_equal(link_conn_error(conn), type == LINK_AUTH_PROOF
													   ? "the peer did not prove the one-time key"
													   : "unexpected frame during authentication");
		assert_int_equal(store.lookups, 1);
		link_conn_destroy(conn);
		close(other);

		/* to the client */
		conn = raw_pair(&other);
		link_auth_client(conn, OFFER_ID, key, false);
		assert_int_equal(drive(conn), LINK_IO_AGAIN);
		send_frame(other, type, zeros, frames[i].length);
		assert_int_equal(drive(conn), LINK_IO_ERROR);
		if (type == LINK_AUTH_SERVER)
			assert_string_equal(link_conn_error(conn), "the peer did not prove the one-time key");
		else if (type != LINK_REFUSE)
			assert_string_equal(link_conn_error(conn), "unexpected frame during authentication");
		link_conn_destroy(conn);
		close(other);
	}
}

/* A refusal during authentication is passed on to the owner. */
static void
test_refused_by_peer(void **state)
{
	LinkNotice notice = {.reason = LINK_REASON_NOT_PRIMARY, .message = "not a primary any more"};
	uint8_t payload[LINK_NOTICE_MAX];
	uint8_t key[LINK_KEY_SIZE] = {1};
	int other;
	LinkConn *client = raw_pair(&other);

	(void) state;
	link_auth_client(client, OFFER_ID, key, false);
	assert_int_equal(drive(client), LINK_IO_AGAIN);
	send_frame(other, LINK_REFUSE, payload, link_notice_encode(&notice, payload));
	assert_int_equal(drive(client), LINK_IO_ERROR);
	assert_string_equal(link_conn_error(client), "not a primary any more");
	link_conn_destroy(client);
	close(other);

	/* malformed, and longer than fits */
	client = raw_pair(&other);
	link_auth_client(client, OFFER_ID, key, false);
	assert_int_equal(drive(client), LINK_IO_AGAIN);
	send_frame(other, LINK_REFUSE, "\1\0\0\0\377\377\0\0", 8);
	assert_int_equal(drive(client), LINK_IO_ERROR);
	assert_string_equal(link_conn_error(client), "refused by the peer");
	link_conn_destroy(client);
	close(other);
	client = raw_pair(&other);
	link_auth_client(client, OFFER_ID, key, false);
	assert_int_equal(drive(client), LINK_IO_AGAIN);
	memset(notice.message, 'm', LINK_TEXT_SIZE - 1);
	send_frame(other, LINK_REFUSE, payload, link_notice_encode(&notice, payload));
	assert_int_equal(drive(client), LINK_IO_ERROR);
	assert_int_equal(strlen(link_conn_error(client)), 255);
	link_conn_destroy(client);
	close(other);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proof_format),
		cmocka_unit_test(test_client_without_key),
		cmocka_unit_test(test_server_without_key),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_nonces_differ),
		cmocka_unit_test(test_future_version),
		cmocka_unit_test(test_out_of_order),
		cmocka_unit_test(test_refused_by_peer),
		tls_test(test_overheard),
		tls_test(test_garbage),
		cmocka_unit_test(test_no_descriptor_left),
	};

	return cmocka_run_group_tests_name("auth_attack", tests, before_all, NULL);
}
