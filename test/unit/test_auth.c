/*-------------------------------------------------------------------------
 *
 * test_auth.c
 *	  Tests of authentication: both kinds, good peers, bad peers, bad networks.
 *
 *-------------------------------------------------------------------------
 */
#include "pair.h"

#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ------------------------------------------ good peers and honest mistakes */

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

/* -------------------------- peers that know the protocol, and use it badly */

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

/* Drive our side until it waits or ends. */
static int
drive(LinkConn *conn)
{
	int result;

	for (int i = 0; i < 100; i++)
	{
		struct pollfd p = {.fd = conn->fd, .events = POLLIN};

		result = link_auth_step(conn);
		if (result != LINK_IO_AGAIN)
			return result;
		if (poll(&p, 1, 0) == 0)
			return result;
	}
	fail_msg("it neither waits nor ends");
	return 0;
}

/* A server under attack; returns the attacker's end. */
static LinkConn *
attacked_server(int *other, Store *store)
{
	LinkConn *server = raw_pair(other);

	memset(store, 0, sizeof(*store));
	store->id = OFFER_ID;
	memset(store->key, 0x5A, LINK_KEY_SIZE);
	link_auth_server(server, find_key, store);
	return server;
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

/* ------------------------------------------------------------- the network */

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

/* --------------------------------------------------------------------- TLS */

/*
 * The key exchange's group may need a second ClientHello.  The offer is then
 * looked at twice, and must not be called used the second time.
 */
static void
test_tls_second_hello(void **state)
{
	Session s;
	int side;

	(void) state;
	session_open(&s, WIRE_UNIX);
	session_prepare(&s, true);
	s.conn[SERVER]->auth.tls = true;
	for (side = 0; side < 2; side++)
	{
		assert_true(link_tls_start(s.conn[side]));
		s.conn[side]->auth.state = LINK_AUTH_TLS;
		assert_int_equal(
			SSL_set1_groups_list(s.conn[side]->tls, side == CLIENT ? "X25519:P-256" : "P-256"), 1);
	}
	session_auth(&s);
	if (s.result[CLIENT] != 1 || s.result[SERVER] != 1)
		fail_msg("client: %s; server: %s", s.error[CLIENT], s.error[SERVER]);
	assert_int_equal(s.store.lookups, 1);
	exchange(&s, 100000, 1000);
	session_close(&s);
}

/* A TLS peer of our own making, for what ours would never do. */
static SSL *
rogue_start(SSL_CTX *context, int fd, bool server)
{
	SSL *ssl = SSL_new(context);

	assert_non_null(ssl);
	assert_int_equal(SSL_set_fd(ssl, fd), 1);
	if (server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

static void
give_certificate(SSL_CTX *context)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	assert_non_null(key);
	assert_non_null(cert);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	assert_int_equal(X509_set_pubkey(cert, key), 1);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(context, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
	X509_free(cert);
	EVP_PKEY_free(key);
}

/*
 * A server with a certificate and no key is as far as TLS goes a good one.
 * One that speaks an older version never gets so far.
 */
static void
test_tls_server_without_key(void **state)
{
	(void) state;
	for (int old = 0; old < 2; old++)
	{
		SSL_CTX *context = SSL_CTX_new(TLS_server_method());
		uint8_t key[LINK_KEY_SIZE] = {3};
		int other;
		LinkConn *client = raw_pair(&other);
		SSL *ssl;
		int result = LINK_IO_AGAIN;

		give_certificate(context);
		if (old)
			SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
		ssl = rogue_start(context, other, true);
		link_auth_client(client, OFFER_ID, key, true);
		for (int i = 0; i < 20 && result == LINK_IO_AGAIN; i++)
		{
			result = link_auth_step(client);
			SSL_do_handshake(ssl);
		}
		assert_int_equal(result, LINK_IO_ERROR);
		assert_non_null(
			strstr(link_conn_error(client), old ? "could not agree on TLS with the peer"
												: "TLS was agreed without the one-time key"));
		ERR_clear_error();
		SSL_free(ssl);
		link_conn_destroy(client);
		close(other);
		SSL_CTX_free(context);
	}
}

static SSL_SESSION *
rogue_session(SSL *ssl, const uint8_t *key)
{
	static const unsigned char cipher[2] = {0x13, 0x01};
	SSL_SESSION *session = SSL_SESSION_new();

	assert_non_null(session);
	SSL_SESSION_set1_master_key(session, key, LINK_KEY_SIZE);
	SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, cipher));
	SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION);
	return session;
}

static unsigned char rogue_id[16];
static size_t rogue_id_length;
static uint8_t rogue_key[LINK_KEY_SIZE];

static int
rogue_use_session(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *length,
				  SSL_SESSION **session)
{
	(void) md;
	*session = rogue_session(ssl, rogue_key);
	*id = rogue_id;
	*length = rogue_id_length;
	return 1;
}

/* Clients without the key, with none at all, of old protocols. */
static void
test_tls_rogue_clients(void **state)
{
	(void) state;
	for (int kind = 0; kind < 8; kind++)
	{
		SSL_CTX *context = SSL_CTX_new(TLS_client_method());
		uint64_t id = OFFER_ID;
		Store store;
		int other;
		LinkConn *server = attacked_server(&other, &store);
		SSL *ssl;
		int result = LINK_IO_AGAIN;
		int connected = 0;
		bool good = false;

		store.tls = true;
		memcpy(rogue_key, store.key, LINK_KEY_SIZE);
		memcpy(rogue_id, &id, sizeof(id));
		rogue_id_length = sizeof(id);
		SSL_CTX_set_psk_use_session_callback(context, rogue_use_session);
		switch (kind)
		{
			case 0: /* to see that this client could get in */
				good = true;
				break;
			case 1:
				SSL_CTX_set_psk_use_session_callback(context, NULL);
				break;
			case 2:
				SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
				break;
			case 3:
				rogue_key[0] ^= 1;
				break;
			case 4:
				rogue_id_length = 7;
				break;
			case 5:
				rogue_id_length = 9;
				break;
			case 6:
				rogue_id[0] ^= 1;
				break;
			case 7: /* what is in the key before one is found */
				rogue_id[0] ^= 1;
				memset(rogue_key, 0, sizeof(rogue_key));
				break;
		}
		ssl = rogue_start(context, other, false);
		for (int i = 0; i < 20 && result == LINK_IO_AGAIN; i++)
		{
			if (connected != 1)
				connected = SSL_do_handshake(ssl);
			result = drive(server);
		}
		ERR_clear_error();
		if (good)
			assert_int_equal(result, 1);
		else
		{
			if (result != LINK_IO_ERROR)
				fail_msg("kind %d: %d %s", kind, result, link_conn_error(server));
			assert_int_equal(server->auth.state, LINK_AUTH_TLS);
		}
		SSL_free(ssl);
		link_conn_destroy(server);
		close(other);
		SSL_CTX_free(context);
	}
}

/* Only what the table above leaves: TLS 1.3, one suite, forward secrecy. */
static void
test_tls_parameters(void **state)
{
	Session s;

	(void) state;
	session_authenticated(&s, WIRE_UNIX, true);
	for (int i = 0; i < 2; i++)
	{
		SSL *ssl = s.conn[i]->tls;

		assert_string_equal(SSL_get_version(ssl), "TLSv1.3");
		assert_string_equal(SSL_get_cipher_name(ssl), "TLS_AES_128_GCM_SHA256");
		assert_int_equal(SSL_session_reused(ssl), 1);
		/* an ephemeral key was exchanged, too */
		assert_true(SSL_get_negotiated_group(ssl) != NID_undef);
	}
	session_close(&s);
}

/* ------------------------------------------------------------------- main */

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
		cmocka_unit_test(test_flips_plain),
		tls_test(test_auth_good),
		tls_test(test_auth_refused),
		tls_test(test_frame_behind_proof),
		tls_test(test_overheard),
		tls_test(test_garbage),
		tls_test(test_cut_everywhere),
		tls_test(test_flips_tls),
		tls_test(test_tls_second_hello),
		tls_test(test_tls_server_without_key),
		tls_test(test_tls_rogue_clients),
		tls_test(test_tls_parameters),
		cmocka_unit_test(test_no_descriptor_left),
	};

	return cmocka_run_group_tests_name("auth", tests, before_all, NULL);
}
