/*-------------------------------------------------------------------------
 *
 * pair.c
 *	  Two ends of a link in one process, see pair.h.
 *
 *-------------------------------------------------------------------------
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pair.h"

/* -------------------------------------------------------------------- time */

int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ----------------------------------------------------------------- sockets */

void
make_unix_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

void
await(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
}

socklen_t
loopback(bool v6, int port, struct sockaddr_storage *address)
{
	memset(address, 0, sizeof(*address));
	if (v6)
	{
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) address;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		in6->sin6_addr = in6addr_loopback;
		return sizeof(*in6);
	}
	else
	{
		struct sockaddr_in *in = (struct sockaddr_in *) address;

		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return sizeof(*in);
	}
}

int
bound_port(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &length), 0);
	return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &address)->sin6_port
											   : ((struct sockaddr_in *) &address)->sin_port);
}

void
make_tcp_pair(int fds[2], bool v6)
{
	struct sockaddr_storage address;
	socklen_t length = loopback(v6, 0, &address);
	int listener = link_tcp_listen((struct sockaddr *) &address, length);
	int connected;

	assert_true(listener >= 0);
	length = loopback(v6, bound_port(listener), &address);
	fds[CLIENT] = link_tcp_connect((struct sockaddr *) &address, length);
	assert_true(fds[CLIENT] >= 0);
	await(listener, POLLIN);
	fds[SERVER] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fds[SERVER] >= 0);
	await(fds[CLIENT], POLLOUT);
	connected = link_tcp_connect_finished(fds[CLIENT]);
	assert_int_equal(connected, 1);
	link_tcp_set_options(fds[CLIENT], 5000);
	link_tcp_set_options(fds[SERVER], 5000);
	close(listener);
}

bool
have_ipv6(void)
{
	struct sockaddr_storage address;
	socklen_t length = loopback(true, 0, &address);
	int fd = link_tcp_listen((struct sockaddr *) &address, length);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static int
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* Write all of it to the other end, however long it takes. */
void
raw_write(int fd, const void *data, size_t length)
{
	const uint8_t *at = data;

	while (length > 0)
	{
		ssize_t n = send(fd, at, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
		{
			await(fd, POLLOUT);
			continue;
		}
		assert_true(n > 0);
		at += n;
		length -= n;
	}
}

/* ------------------------------------------------------------------- relay */

void
relay_close(Relay *relay)
{
	if (!relay->open)
		return;
	close(relay->end[CLIENT]);
	close(relay->end[SERVER]);
	relay->open = false;
}

/* Carry what there is from one end to the other; true if there was some. */
bool
relay_step(Relay *relay, int from)
{
	uint8_t buf[65536];
	size_t room = relay->limit[from] - relay->passed[from];
	ssize_t n;

	if (!relay->open)
		return false;
	if (room == 0)
	{
		relay_close(relay);
		return true;
	}
	n = recv(relay->end[from], buf, room < sizeof(buf) ? room : sizeof(buf), 0);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0)
	{
		relay_close(relay);
		return true;
	}
	if (relay->flip[from] >= 0)
	{
		size_t byte = relay->flip[from] / 8;

		if (byte >= relay->passed[from] && byte < relay->passed[from] + n)
			buf[byte - relay->passed[from]] ^= 1 << (relay->flip[from] % 8);
	}
	if (relay->seen[from] != NULL && relay->passed[from] + n <= relay->seen_size)
		memcpy(relay->seen[from] + relay->passed[from], buf, n);
	relay->passed[from] += n;
	for (ssize_t done = 0; done < n;)
	{
		ssize_t sent = send(relay->end[1 - from], buf + done, n - done, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN)
		{
			/* the relay's buffer is the socket's: tests keep within it */
			fail_msg("the relay is blocked");
		}
		if (sent <= 0)
		{
			relay_close(relay);
			return true;
		}
		done += sent;
	}
	return true;
}

/* ---------------------------------------------------------------- sessions */

bool
find_key(void *arg, uint64_t id, bool tls, uint8_t *key)
{
	Store *store = arg;

	store->lookups++;
	if (store->used || store->id != id || store->tls != tls)
		return false;
	store->used = true;
	memcpy(key, store->key, LINK_KEY_SIZE);
	return true;
}

void
session_open(Session *s, Wire wire)
{
	int fds[2];

	memset(s, 0, sizeof(*s));
	s->store.id = OFFER_ID;
	for (int i = 0; i < LINK_KEY_SIZE; i++)
		s->store.key[i] = (uint8_t) (0xA0 + 3 * i);
	if (wire == WIRE_RELAY)
	{
		int a[2];
		int b[2];

		make_unix_pair(a);
		make_unix_pair(b);
		fds[CLIENT] = a[0];
		fds[SERVER] = b[0];
		s->relayed = true;
		s->relay = (Relay){
			.end = {a[1], b[1]}, .limit = {SIZE_MAX, SIZE_MAX}, .flip = {-1, -1}, .open = true};
	}
	else if (wire == WIRE_UNIX)
		make_unix_pair(fds);
	else
		make_tcp_pair(fds, wire == WIRE_TCP6);
	for (int i = 0; i < 2; i++)
	{
		s->conn[i] = link_conn_create(fds[i]);
		assert_non_null(s->conn[i]);
	}
}

void
session_close(Session *s)
{
	link_conn_destroy(s->conn[CLIENT]);
	link_conn_destroy(s->conn[SERVER]);
	relay_close(&s->relay);
	free(s->relay.seen[CLIENT]);
	free(s->relay.seen[SERVER]);
	memset(s, 0, sizeof(*s));
}

/* What an owner does with a connection that failed. */
void
session_drop(Session *s, int side)
{
	snprintf(s->error[side], sizeof(s->error[side]), "%s", link_conn_error(s->conn[side]));
	link_conn_destroy(s->conn[side]);
	s->conn[side] = NULL;
}

/* Both ends offer the same, if the caller changed nothing in between. */
void
session_prepare(Session *s, bool tls)
{
	s->store.tls = tls;
	link_auth_client(s->conn[CLIENT], s->store.id, s->store.key, tls);
	link_auth_server(s->conn[SERVER], find_key, &s->store);
}

/*
 * Wait until a descriptor of the session is ready.  False if that takes
 * longer than 'timeout' milliseconds.
 */
static bool
session_wait(Session *s, int timeout)
{
	struct pollfd p[4];
	int n = 0;

	for (int i = 0; i < 2; i++)
	{
		if (s->conn[i] != NULL)
			p[n++] = (struct pollfd){.fd = s->conn[i]->fd,
									 .events = POLLIN |
											   (link_conn_wants_write(s->conn[i]) ? POLLOUT : 0)};
		if (s->relay.open)
			p[n++] = (struct pollfd){.fd = s->relay.end[i], .events = POLLIN};
	}
	return poll(p, n, timeout) > 0;
}

/*
 * Authenticate.  Afterwards each side's result is 1 or negative; the
 * connection of a side that failed is gone, its message kept.  'patience' is
 * how long nothing may happen: then the owners' own timeout would end it.
 */
void
session_auth_patient(Session *s, int patience)
{
	int64_t deadline = now_ms() + DEADLINE_MS;

	while (s->result[CLIENT] == LINK_IO_AGAIN || s->result[SERVER] == LINK_IO_AGAIN)
	{
		bool moved = false;

		for (int i = 0; i < 2; i++)
		{
			if (s->conn[i] == NULL)
				continue;
			if (s->result[i] == LINK_IO_AGAIN)
			{
				s->result[i] = link_auth_step(s->conn[i]);
				moved |= s->result[i] != LINK_IO_AGAIN;
			}
			else if (link_out_pending(s->conn[i]) > 0)
				(void) link_flush(s->conn[i]);
			if (s->result[i] < 0)
				session_drop(s, i);
		}
		if (s->relayed)
		{
			moved |= relay_step(&s->relay, CLIENT);
			moved |= relay_step(&s->relay, SERVER);
		}
		if (moved)
			continue;
		if (now_ms() > deadline)
			fail_msg("authentication does not end");
		if (!session_wait(s, patience))
		{
			if (patience == DEADLINE_MS)
				fail_msg("authentication hangs");
			return;
		}
	}
}

void
session_auth(Session *s)
{
	session_auth_patient(s, DEADLINE_MS);
}

void
assert_error(Session *s, int side, const char *text)
{
	if (strstr(s->error[side], text) == NULL)
		fail_msg("the %s says \"%s\", not \"%s\"", side == CLIENT ? "client" : "server",
				 s->error[side], text);
}

/* An authenticated pair. */
void
session_authenticated(Session *s, Wire wire, bool tls)
{
	session_open(s, wire);
	session_prepare(s, tls);
	session_auth(s);
	if (s->result[CLIENT] != 1 || s->result[SERVER] != 1)
		fail_msg("client: %d %s; server: %d %s", s->result[CLIENT], s->error[CLIENT],
				 s->result[SERVER], s->error[SERVER]);
}

/* ----------------------------------------------------------------- traffic */

static uint32_t
mix(uint32_t x)
{
	x ^= x >> 16;
	x *= 0x7feb352d;
	x ^= x >> 15;
	x *= 0x846ca68b;
	x ^= x >> 16;
	return x;
}

/* Frame number 'n' of a stream has this length and this payload. */
size_t
stream_length(uint32_t n, size_t max)
{
	return 1 + mix(n) % max;
}

void
stream_payload(uint32_t n, uint8_t *to, size_t length)
{
	uint32_t x = mix(n ^ 0x5bd1e995);

	for (size_t i = 0; i < length; i++)
	{
		x = x * 1664525 + 1013904223;
		to[i] = (uint8_t) (x >> 24);
	}
}

bool
stream_put(LinkConn *conn, uint32_t n, size_t length)
{
	LinkHeader header = {.type = LINK_WAL, .term = 1, .lsn = n, .bound = ~(uint64_t) n};
	uint8_t *to = link_frame_begin(conn, length);

	if (to == NULL)
		return false;
	stream_payload(n, to, length);
	link_frame_end(conn, &header, length);
	return true;
}

void
stream_check(const LinkHeader *header, const uint8_t *payload, uint32_t n, size_t length)
{
	uint8_t *expected = malloc(length);

	stream_payload(n, expected, length);
	assert_int_equal(header->type, LINK_WAL);
	assert_true(header->lsn == n && header->bound == ~(uint64_t) n);
	assert_int_equal(header->length, length);
	assert_memory_equal(payload, expected, length);
	free(expected);
}

/*
 * 'bytes' of payload each way at the same time, in frames of up to 'max'.
 * Each side fills once when its descriptor is readable and then takes out all
 * the frames there are.
 */
void
exchange(Session *s, size_t bytes, size_t max)
{
	size_t sent[2] = {0, 0};
	size_t got[2] = {0, 0};
	uint32_t next_out[2] = {0, 0};
	uint32_t next_in[2] = {0, 0};

	while (got[CLIENT] < bytes || got[SERVER] < bytes)
	{
		struct pollfd p[2];

		for (int i = 0; i < 2; i++)
		{
			while (sent[i] < bytes)
			{
				size_t length = stream_length(next_out[i], max);

				if (!stream_put(s->conn[i], next_out[i], length))
					break;
				next_out[i]++;
				sent[i] += length;
			}
			assert_true(link_flush(s->conn[i]) >= 0);
			p[i] = (struct pollfd){.fd = s->conn[i]->fd,
								   .events = POLLIN |
											 (link_conn_wants_write(s->conn[i]) ? POLLOUT : 0)};
		}
		if (poll(p, 2, DEADLINE_MS) <= 0)
			fail_msg("traffic stops after %zu and %zu bytes", got[CLIENT], got[SERVER]);
		for (int i = 0; i < 2; i++)
		{
			LinkHeader header;
			const uint8_t *payload;
			LinkDecode result;
			ssize_t n;

			if ((p[i].revents & POLLIN) == 0)
				continue;
			n = link_fill(s->conn[i]);
			if (n < 0)
				fail_msg("fill: %s", link_conn_error(s->conn[i]));
			while ((result = link_next(s->conn[i], &header, &payload)) == LINK_DECODE_OK)
			{
				stream_check(&header, payload, next_in[i], stream_length(next_in[i], max));
				next_in[i]++;
				got[i] += header.length;
			}
			assert_int_equal(result, LINK_DECODE_MORE);
		}
	}
	for (int i = 0; i < 2; i++)
	{
		assert_int_equal(got[i], sent[1 - i]);
		assert_int_equal(link_out_pending(s->conn[i]), 0);
	}
	assert_true(s->conn[CLIENT]->bytes_in == s->conn[SERVER]->bytes_out);
	assert_true(s->conn[SERVER]->bytes_in == s->conn[CLIENT]->bytes_out);
}

/* A connection that is past authentication, and the other end of its wire. */
LinkConn *
raw_pair(int *other)
{
	int fds[2];
	LinkConn *conn;

	make_unix_pair(fds);
	conn = link_conn_create(fds[0]);
	assert_non_null(conn);
	*other = fds[1];
	return conn;
}

/* Drive our side until it waits or ends. */
int
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
LinkConn *
attacked_server(int *other, Store *store)
{
	LinkConn *server = raw_pair(other);

	memset(store, 0, sizeof(*store));
	store->id = OFFER_ID;
	memset(store->key, 0x5A, LINK_KEY_SIZE);
	link_auth_server(server, find_key, store);
	return server;
}

size_t
make_frame(uint8_t *buf, LinkFrameType type, const void *payload, size_t length)
{
	LinkHeader header = {.type = type, .length = length};

	if (length > 0)
		memcpy(buf + LINK_HEADER_SIZE, payload, length);
	link_header_encode(&header, buf + LINK_HEADER_SIZE, buf);
	return LINK_HEADER_SIZE + length;
}

/* ------------------------------------------------------------ around tests */

static int fds_before;

int
before_all(void **state)
{
	(void) state;
	fds_before = count_fds();
	return 0;
}

/* No descriptor is left open, whatever happened before. */
void
test_no_descriptor_left(void **state)
{
	(void) state;
	assert_int_equal(count_fds(), fds_before);
}

int
ignore_sigpipe(void **state)
{
	(void) state;
	signal(SIGPIPE, SIG_IGN);
	return 0;
}
