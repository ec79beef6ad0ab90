/*-------------------------------------------------------------------------
 *
 * test_conn.c
 *	  Tests of one connection of a link: sockets, buffers, both transports.
 *
 *-------------------------------------------------------------------------
 */
#include "pair.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -------------------------------------------------------------------- TCP */

static void
test_tcp_sockets(void **state)
{
	struct sockaddr_storage address;
	socklen_t length = loopback(false, 0, &address);
	int listener = link_tcp_listen((struct sockaddr *) &address, length);
	int port;
	int fds[2];
	int value;
	socklen_t size = sizeof(value);

	(void) state;
	assert_true(listener >= 0);
	assert_true((fcntl(listener, F_GETFL) & O_NONBLOCK) != 0);
	assert_true((fcntl(listener, F_GETFD) & FD_CLOEXEC) != 0);
	port = bound_port(listener);

	/* taken */
	length = loopback(false, port, &address);
	assert_int_equal(link_tcp_listen((struct sockaddr *) &address, length), -1);
	assert_int_equal(errno, EADDRINUSE);
	close(listener);

	/* nobody there: at once or later, but in the end refused */
	fds[0] = link_tcp_connect((struct sockaddr *) &address, length);
	if (fds[0] >= 0)
	{
		assert_true((fcntl(fds[0], F_GETFL) & O_NONBLOCK) != 0);
		assert_true((fcntl(fds[0], F_GETFD) & FD_CLOEXEC) != 0);
		await(fds[0], POLLOUT);
		assert_int_equal(link_tcp_connect_finished(fds[0]), LINK_IO_ERROR);
		close(fds[0]);
	}
	assert_int_equal(errno, ECONNREFUSED);

	make_tcp_pair(fds, false);
	assert_int_equal(getsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &value, &size), 0);
	assert_int_equal(value, 1);
	assert_int_equal(getsockopt(fds[0], IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &size), 0);
	assert_int_equal(value, 5000);
	close(fds[0]);
	close(fds[1]);

	/* IPv4 and IPv6 can listen on the same port, each on its own socket */
	if (have_ipv6())
	{
		int v4;
		int v6;

		length = loopback(false, 0, &address);
		((struct sockaddr_in *) &address)->sin_addr.s_addr = htonl(INADDR_ANY);
		v4 = link_tcp_listen((struct sockaddr *) &address, length);
		assert_true(v4 >= 0);
		length = loopback(true, bound_port(v4), &address);
		((struct sockaddr_in6 *) &address)->sin6_addr = in6addr_any;
		v6 = link_tcp_listen((struct sockaddr *) &address, length);
		assert_true(v6 >= 0);
		close(v4);
		close(v6);
	}
}

/* Connecting, and not yet connected: a listener whose queue is full. */
static void
test_tcp_connecting(void **state)
{
	enum
	{
		COUNT = 8
	};
	struct sockaddr_storage address;
	socklen_t length = loopback(false, 0, &address);
	int listener = link_tcp_listen((struct sockaddr *) &address, length);
	int fds[COUNT];
	int waiting = -1;

	(void) state;
	assert_true(listener >= 0);
	assert_int_equal(listen(listener, 0), 0);
	length = loopback(false, bound_port(listener), &address);
	for (int i = 0; i < COUNT; i++)
	{
		fds[i] = link_tcp_connect((struct sockaddr *) &address, length);
		assert_true(fds[i] >= 0);
		if (link_tcp_connect_finished(fds[i]) == LINK_IO_AGAIN && waiting < 0)
			waiting = i;
	}
	assert_true(waiting > 0);
	assert_int_equal(link_tcp_connect_finished(fds[0]), 1);

	/* the listener goes away: then it is an error, if it is over at all */
	close(listener);
	assert_true(link_tcp_connect_finished(fds[waiting]) != 1);
	for (int i = 0; i < COUNT; i++)
		close(fds[i]);
}

/* ---------------------------------------------------------------- buffers */

static void
test_life(void **state)
{
	int fds[2];
	LinkConn *conn;

	(void) state;
	link_conn_destroy(NULL);
	make_unix_pair(fds);
	conn = link_conn_create(fds[0]);
	assert_non_null(conn);
	assert_string_equal(link_conn_error(conn), "");
	assert_false(link_conn_wants_write(conn));
	assert_false(conn->transport->encrypted);
	assert_string_equal(conn->transport->name, "tcp");
	link_conn_destroy(conn);
	/* the descriptor was the connection's */
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
	assert_int_equal(fcntl(fds[1], F_GETFD) >= 0, 1);
	close(fds[1]);
}

/* Frames that arrive in pieces of every size. */
static void
test_pieces(void **state)
{
	enum
	{
		COUNT = 5
	};
	static const size_t lengths[COUNT] = {1, 200, 40, 300, 7};
	uint8_t stream[1024];
	size_t total = 0;
	int other;
	LinkConn *conn = raw_pair(&other);

	(void) state;
	for (uint32_t i = 0; i < COUNT; i++)
	{
		LinkHeader header = {
			.type = LINK_WAL, .term = 1, .lsn = i, .bound = ~(uint64_t) i, .length = lengths[i]};

		stream_payload(i, stream + total + LINK_HEADER_SIZE, lengths[i]);
		link_header_encode(&header, stream + total + LINK_HEADER_SIZE, stream + total);
		total += LINK_HEADER_SIZE + lengths[i];
	}
	for (size_t piece = 1; piece <= total; piece++)
	{
		uint32_t taken = 0;

		for (size_t at = 0; at < total; at += piece)
		{
			size_t n = total - at < piece ? total - at : piece;
			LinkHeader header;
			const uint8_t *payload;
			LinkDecode result;

			raw_write(other, stream + at, n);
			assert_int_equal(link_fill(conn), n);
			while ((result = link_next(conn, &header, &payload)) == LINK_DECODE_OK)
			{
				assert_true(taken < COUNT);
				stream_check(&header, payload, taken, lengths[taken]);
				taken++;
			}
			assert_int_equal(result, LINK_DECODE_MORE);
		}
		assert_int_equal(taken, COUNT);
	}
	assert_true(conn->bytes_in == total * total);
	link_conn_destroy(conn);
	close(other);
}

/* Nothing there, the end, and a broken connection are told apart. */
static void
test_fill_results(void **state)
{
	int other;
	int fds[2];
	LinkConn *conn = raw_pair(&other);
	LinkHeader header;
	const uint8_t *payload;
	uint8_t frame[LINK_HEADER_SIZE];
	struct linger linger = {1, 0};

	(void) state;
	assert_int_equal(link_fill(conn), LINK_IO_AGAIN);
	assert_int_equal(link_next(conn, &header, &payload), LINK_DECODE_MORE);

	/* what came before the end is still handed out */
	raw_write(other, frame, make_frame(frame, LINK_BOUND, NULL, 0));
	close(other);
	assert_int_equal(link_fill(conn), LINK_HEADER_SIZE);
	assert_int_equal(link_fill(conn), LINK_IO_CLOSED);
	assert_int_equal(link_next(conn, &header, &payload), LINK_DECODE_OK);
	assert_int_equal(link_fill(conn), LINK_IO_CLOSED);
	assert_string_equal(link_conn_error(conn), "the peer closed the connection");

	/* sending to nobody fails, without a signal */
	assert_true(link_frame_put(conn, &header, NULL, 0));
	assert_int_equal(link_flush(conn), LINK_IO_ERROR);
	assert_non_null(strstr(link_conn_error(conn), "could not send to the peer"));
	link_conn_destroy(conn);

	make_tcp_pair(fds, false);
	conn = link_conn_create(fds[0]);
	assert_int_equal(link_fill(conn), LINK_IO_AGAIN);
	setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fds[1]);
	await(fds[0], POLLIN);
	assert_int_equal(link_fill(conn), LINK_IO_ERROR);
	assert_non_null(strstr(link_conn_error(conn), "could not receive from the peer"));
	link_conn_destroy(conn);
}

/*
 * The buffer for sending: room for one largest frame and some small ones,
 * then none; room again as soon as something has gone out; nothing lost.
 */
static void
test_out_buffer(void **state)
{
	int other;
	LinkConn *conn = raw_pair(&other);
	LinkConn *peer = link_conn_create(other);
	LinkHeader header;
	const uint8_t *payload;
	uint32_t put = 0;
	uint32_t taken = 0;
	int small = 0;
	size_t pending;
	int result;

	(void) state;
	assert_non_null(link_frame_begin(conn, LINK_MAX_PAYLOAD));
	/* begun and not ended: nothing to send */
	assert_int_equal(link_out_pending(conn), 0);
	assert_false(link_conn_wants_write(conn));
	assert_int_equal(link_flush(conn), 1);

	assert_true(stream_put(conn, put++, LINK_MAX_PAYLOAD));
	assert_null(link_frame_begin(conn, LINK_MAX_PAYLOAD));
	while (stream_put(conn, put, 1))
	{
		put++;
		small++;
	}
	assert_true(small >= 1000);
	pending = link_out_pending(conn);
	assert_int_equal(pending, LINK_HEADER_SIZE + LINK_MAX_PAYLOAD + small * (LINK_HEADER_SIZE + 1));
	assert_true(link_conn_wants_write(conn));
	assert_null(link_frame_begin(conn, 1));
	header = (LinkHeader){.type = LINK_WAL};
	assert_false(link_frame_put(conn, &header, "x", 1));
	assert_int_equal(link_out_pending(conn), pending);

	/* more than the socket takes: part of it goes */
	result = link_flush(conn);
	assert_int_equal(result, LINK_IO_AGAIN);
	assert_true(link_out_pending(conn) > 0 && link_out_pending(conn) < pending);
	assert_true(link_conn_wants_write(conn));
	while (stream_put(conn, put, 1))
		put++;
	assert_true(put > (uint32_t) small + 1);

	/* all of it arrives, in order */
	while (taken < put)
	{
		LinkDecode decoded;

		result = link_flush(conn);
		assert_true(result >= 0);
		assert_true(link_fill(peer) > 0);
		while ((decoded = link_next(peer, &header, &payload)) == LINK_DECODE_OK)
		{
			stream_check(&header, payload, taken, taken == 0 ? LINK_MAX_PAYLOAD : 1);
			taken++;
		}
		assert_int_equal(decoded, LINK_DECODE_MORE);
	}
	assert_int_equal(result, 1);
	assert_int_equal(link_out_pending(conn), 0);
	assert_false(link_conn_wants_write(conn));
	assert_non_null(link_frame_begin(conn, LINK_MAX_PAYLOAD));
	link_conn_destroy(conn);
	link_conn_destroy(peer);
}

/* The buffer for receiving: full is AGAIN, and taking out makes room. */
static void
test_in_buffer(void **state)
{
	enum
	{
		LENGTH = 5000
	};
	int other;
	LinkConn *conn = raw_pair(&other);
	uint8_t *frame = malloc(LINK_HEADER_SIZE + LENGTH);
	size_t left = 0;
	size_t filled = 0;
	uint32_t put = 0;
	uint32_t taken = 0;
	bool full = false;

	(void) state;
	while (taken < 700)
	{
		LinkHeader header;
		const uint8_t *payload;
		LinkDecode result;
		ssize_t n;

		/* keep the wire full */
		for (;;)
		{
			ssize_t sent;

			if (left == 0)
			{
				LinkHeader out = {.type = LINK_WAL,
								  .term = 1,
								  .lsn = put,
								  .bound = ~(uint64_t) put,
								  .length = LENGTH};

				stream_payload(put++, frame + LINK_HEADER_SIZE, LENGTH);
				link_header_encode(&out, frame + LINK_HEADER_SIZE, frame);
				left = LINK_HEADER_SIZE + LENGTH;
			}
			sent = send(other, frame + LINK_HEADER_SIZE + LENGTH - left, left, MSG_NOSIGNAL);
			if (sent < 0)
				break;
			left -= sent;
		}
		n = link_fill(conn);
		if (n > 0)
		{
			filled += n;
			/* full: there may be more */
			if (conn->in.end == conn->in.size)
				assert_false(conn->drained);
			continue;
		}
		assert_int_equal(n, LINK_IO_AGAIN);
		full = true;
		assert_true(filled >= 1000 * 1000);
		assert_int_equal(link_fill(conn), LINK_IO_AGAIN);
		filled = 0;
		while ((result = link_next(conn, &header, &payload)) == LINK_DECODE_OK)
			stream_check(&header, payload, taken++, LENGTH);
		assert_int_equal(result, LINK_DECODE_MORE);
	}
	assert_true(full);
	free(frame);
	link_conn_destroy(conn);
	close(other);
}

static void
test_many_small_frames(void **state)
{
	enum
	{
		COUNT = 1500
	};
	int other;
	LinkConn *conn = raw_pair(&other);
	uint8_t *stream = malloc(COUNT * LINK_HEADER_SIZE);
	LinkHeader header;
	const uint8_t *payload;

	(void) state;
	for (int i = 0; i < COUNT; i++)
	{
		header = (LinkHeader){.type = LINK_BOUND, .lsn = i, .bound = i / 2};
		link_header_encode(&header, NULL, stream + i * LINK_HEADER_SIZE);
	}
	raw_write(other, stream, COUNT * LINK_HEADER_SIZE);
	assert_int_equal(link_fill(conn), COUNT * LINK_HEADER_SIZE);
	assert_true(conn->drained);
	for (int i = 0; i < COUNT; i++)
	{
		assert_int_equal(link_next(conn, &header, &payload), LINK_DECODE_OK);
		assert_true(header.lsn == (uint64_t) i && header.bound == (uint64_t) i / 2);
	}
	assert_int_equal(link_next(conn, &header, &payload), LINK_DECODE_MORE);
	assert_int_equal(link_fill(conn), LINK_IO_AGAIN);
	free(stream);
	link_conn_destroy(conn);
	close(other);
}

/* A damaged frame stops the stream where it stands. */
static void
test_bad_frame(void **state)
{
	static const struct
	{
		int at;
		LinkDecode expected;
	} cases[] = {{0, LINK_DECODE_BAD_MAGIC},
				 {4, LINK_DECODE_BAD_VERSION},
				 {20, LINK_DECODE_BAD_CRC},
				 {LINK_HEADER_SIZE, LINK_DECODE_BAD_PAYLOAD}};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		int other;
		LinkConn *conn = raw_pair(&other);
		uint8_t frame[LINK_HEADER_SIZE + 3];
		size_t length = make_frame(frame, LINK_WAL, "abc", 3);
		LinkHeader header;
		const uint8_t *payload;

		raw_write(other, frame, length);
		raw_write(other, frame, length);
		frame[cases[i].at] ^= 0x20;
		raw_write(other, frame, length);
		frame[cases[i].at] ^= 0x20;
		raw_write(other, frame, length);
		assert_int_equal(link_fill(conn), 4 * length);
		assert_int_equal(link_next(conn, &header, &payload), LINK_DECODE_OK);
		assert_int_equal(link_next(conn, &header, &payload), LINK_DECODE_OK);
		assert_int_equal(link_next(conn, &header, &payload), cases[i].expected);
		assert_int_equal(link_next(conn, &header, &payload), cases[i].expected);
		link_conn_destroy(conn);
		close(other);
	}
}

static void
test_largest_frames(void **state)
{
	static const Wire wires[] = {WIRE_UNIX, WIRE_TCP};

	(void) state;
	for (int w = 0; w < 2; w++)
	{
		for (int tls = 0; tls < 2; tls++)
		{
			Session s;
			uint32_t taken = 0;
			uint32_t put = 0;
			int64_t deadline = now_ms() + DEADLINE_MS;

			session_authenticated(&s, wires[w], tls);
			while (taken < 8)
			{
				LinkHeader header;
				const uint8_t *payload;
				LinkDecode result;

				while (put < 8 && stream_put(s.conn[SERVER], put, LINK_MAX_PAYLOAD))
					put++;
				assert_true(link_flush(s.conn[SERVER]) >= 0);
				assert_true(link_fill(s.conn[CLIENT]) >= 0);
				while ((result = link_next(s.conn[CLIENT], &header, &payload)) == LINK_DECODE_OK)
					stream_check(&header, payload, taken++, LINK_MAX_PAYLOAD);
				assert_int_equal(result, LINK_DECODE_MORE);
				assert_true(now_ms() < deadline);
			}
			session_close(&s);
		}
	}
}

static void
test_exchange(void **state)
{
	(void) state;
	for (int wire = WIRE_UNIX; wire <= WIRE_TCP6; wire++)
	{
		Session s;

		if (wire == WIRE_TCP6 && !have_ipv6())
			continue;
		session_authenticated(&s, wire, false);
		exchange(&s, 5 * 1024 * 1024, LINK_MAX_PAYLOAD);
		session_close(&s);
		session_authenticated(&s, wire, false);
		exchange(&s, 512 * 1024, 100);
		session_close(&s);
	}
}

/* -------------------------------------------------------------------- TLS */

static void
test_tls_exchange(void **state)
{
	static const Wire wires[] = {WIRE_UNIX, WIRE_TCP};

	(void) state;
	for (int w = 0; w < 2; w++)
	{
		Session s;

		session_authenticated(&s, wires[w], true);
		exchange(&s, 10 * 1024 * 1024, LINK_MAX_PAYLOAD);
		session_close(&s);
	}
	{
		Session s;

		session_authenticated(&s, WIRE_TCP, true);
		exchange(&s, 512 * 1024, 100);
		session_close(&s);
	}
}

/* A byte changed after the handshake. */
static void
test_tls_damage(void **state)
{
	(void) state;
	for (int at = 0; at < 90; at++)
	{
		Session s;
		LinkHeader header = {.type = LINK_BOUND, .lsn = 5};
		ssize_t n;

		session_open(&s, WIRE_RELAY);
		session_prepare(&s, true);
		session_auth(&s);
		assert_int_equal(s.result[CLIENT], 1);
		assert_int_equal(s.result[SERVER], 1);
		s.relay.flip[SERVER] = (s.relay.passed[SERVER] + at % 78) * 8 + at % 8;
		assert_true(link_frame_put(s.conn[SERVER], &header, NULL, 0));
		assert_int_equal(link_flush(s.conn[SERVER]), 1);
		while (relay_step(&s.relay, SERVER))
			;
		n = link_fill(s.conn[CLIENT]);
		/* a longer length makes it wait for what does not come */
		if (n == LINK_IO_AGAIN)
		{
			relay_close(&s.relay);
			n = link_fill(s.conn[CLIENT]);
			assert_true(n == LINK_IO_CLOSED || n == LINK_IO_ERROR);
		}
		else
			assert_int_equal(n, LINK_IO_ERROR);
		assert_true(link_conn_error(s.conn[CLIENT])[0] != '\0');
		session_close(&s);
	}
}

/*
 * An owner that takes frames out only when the buffer is full waits for the
 * descriptor afterwards.  Nothing may be left in the TLS layer then: the
 * descriptor would not become readable for it.
 */
static void
test_tls_nothing_left_behind(void **state)
{
	(void) state;
	for (size_t more = 1000; more <= 60000; more += 1973)
	{
		enum
		{
			LENGTH = 3000
		};
		Session s;
		LinkConn *in;
		uint32_t count;
		uint32_t put = 0;
		uint32_t taken = 0;
		bool drained = false;

		session_authenticated(&s, WIRE_UNIX, true);
		in = s.conn[CLIENT];
		count = (in->in.size + more) / (LINK_HEADER_SIZE + LENGTH) + 1;
		while (taken < count)
		{
			struct pollfd p = {.fd = in->fd, .events = POLLIN};
			LinkHeader header;
			const uint8_t *payload;
			LinkDecode result;
			ssize_t n;

			/* each frame is a record of its own, so that one straddles the end */
			while (link_flush(s.conn[SERVER]) == 1 && put < count)
				assert_true(stream_put(s.conn[SERVER], put++, LENGTH));
			/* here the owner sleeps */
			if (drained && link_out_pending(s.conn[SERVER]) == 0 && poll(&p, 1, 0) == 0)
				fail_msg("%u of %u frames taken, and the descriptor is silent", taken, count);
			n = link_fill(in);
			assert_true(n >= 0);
			if (n > 0 && !drained)
				continue;
			drained = true;
			while ((result = link_next(in, &header, &payload)) == LINK_DECODE_OK)
				stream_check(&header, payload, taken++, LENGTH);
			assert_int_equal(result, LINK_DECODE_MORE);
		}
		session_close(&s);
	}
}

/* The peer is gone: that is no error but the end, and said the same way. */
static void
test_closed_is_closed(void **state)
{
	(void) state;
	for (int tls = 0; tls < 2; tls++)
	{
		for (int side = 0; side < 2; side++)
		{
			Session s;

			session_authenticated(&s, WIRE_TCP, tls);
			session_drop(&s, side);
			await(s.conn[1 - side]->fd, POLLIN);
			assert_int_equal(link_fill(s.conn[1 - side]), LINK_IO_CLOSED);
			assert_string_equal(link_conn_error(s.conn[1 - side]),
								"the peer closed the connection");
			session_close(&s);

			/* before it has said a word */
			session_open(&s, WIRE_TCP);
			session_prepare(&s, tls);
			session_drop(&s, side);
			s.result[side] = LINK_IO_CLOSED;
			await(s.conn[1 - side]->fd, POLLIN);
			session_auth(&s);
			if (side == CLIENT)
			{
				assert_int_equal(s.result[SERVER], LINK_IO_CLOSED);
				assert_error(&s, SERVER, "the peer closed the connection");
			}
			else
				assert_true(s.result[CLIENT] < 0);
			session_close(&s);
		}
	}
}

/* ------------------------------------------------------------------- main */

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp_sockets),  cmocka_unit_test(test_tcp_connecting),
		cmocka_unit_test(test_life),         cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_fill_results), cmocka_unit_test(test_out_buffer),
		cmocka_unit_test(test_in_buffer),    cmocka_unit_test(test_many_small_frames),
		cmocka_unit_test(test_bad_frame),    cmocka_unit_test(test_exchange),
		tls_test(test_largest_frames),       tls_test(test_tls_exchange),
		tls_test(test_tls_damage),           tls_test(test_tls_nothing_left_behind),
		tls_test(test_closed_is_closed),     cmocka_unit_test(test_no_descriptor_left),
	};

	return cmocka_run_group_tests_name("conn", tests, before_all, NULL);
}
