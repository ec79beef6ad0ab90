/*-------------------------------------------------------------------------
 *
 * linkpair.c
 *	  Both sides of a link without a database: its transports measured, and
 *	  opened and closed many times.
 *
 *	linkpair serve ADDRESS PORT						a standby, until it is killed
 *	linkpair TRANSPORT ADDRESS PORT trip COUNT SIZE	a primary: round trips
 *	linkpair TRANSPORT ADDRESS PORT send SECONDS SIZE	and bandwidth
 *	linkpair connects ADDRESS COUNT					both sides in one process
 *
 * TRANSPORT is tcp or rdma. RDMA_DEVICE and RDMA_GID_INDEX in the environment
 * are as the settings of these names. A round trip is as long as a commit's
 * would be with disks that take no time: WAL one way, by the transport, and
 * the answer back by TCP. There is no authentication: this is not for a
 * network with strangers.
 *
 * "connects" ends the connection in every state that it can have, prints how
 * many descriptors it had at the beginning and has at the end, and fails if
 * these are not the same number.
 *
 *-------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "rdma.h"
#include "switch.h"

#define TIMEOUT_MS 5000
#define RING_SIZE  (16 * 1024 * 1024)

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fprintf(stderr, "linkpair: ");
	vfprintf(stderr, fmt, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static double
cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		   (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static struct addrinfo *
resolve(const char *address, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
							 .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found;
	int error = getaddrinfo(address, port, &hints, &found);

	if (error != 0)
		die("%s port %s: %s", address, port, gai_strerror(error));
	return found;
}

static LinkVerbs *
open_end(int fd, bool standby, size_t size, char *why, size_t why_size)
{
	const char *device = getenv("RDMA_DEVICE");
	const char *gid_index = getenv("RDMA_GID_INDEX");
	LinkRdmaOptions options = {.device = device != NULL ? device : "",
							   .gid_index = gid_index != NULL ? atoi(gid_index) : -1,
							   .fd = fd,
							   .standby = standby,
							   .size = size,
							   .timeout_ms = TIMEOUT_MS};

	return link_rdma_open(&options, why, why_size);
}

/* ----------------------------------------------------------------- standby */

typedef struct Standby
{
	LinkConn *conn;
	uint64_t written;
	uint64_t frames;
	const char *how;
} Standby;

static LinkHeader
standby_stamp(const Standby *s)
{
	LinkHeader stamp = {.term = 1, .lsn = s->written};

	return stamp;
}

static LinkVerbs *
open_standby(void *arg, const LinkRingEnd *peer, char *why, size_t why_size)
{
	const Standby *s = arg;
	LinkVerbs *verbs = open_end(s->conn->fd, true, peer->size, why, why_size);

	if (verbs != NULL && verbs->local.slots > peer->slots)
		verbs->local.slots = peer->slots;
	return verbs;
}

/* A frame from either; false when the peer is not to be trusted. */
static bool
standby_take(Standby *s, const LinkHeader *header, const uint8_t *payload)
{
	LinkHeader stamp = standby_stamp(s);
	LinkHeader answer = stamp;
	LinkAck ack;
	uint8_t buf[32];

	if (link_switch_is_frame(header))
		return link_switch_standby_frame(s->conn, header, payload, &stamp, open_standby, s) !=
			   LINK_SWITCH_VIOLATION;
	if (header->type == LINK_WAL && header->lsn != s->written)
		return false;
	s->written += header->length;
	s->frames++;
	if (!(header->flags & LINK_FLAG_REPLY))
		return true;
	answer.type = LINK_ACK;
	answer.lsn = s->written;
	ack = (LinkAck){s->written, s->written, 0, header->time};
	return link_frame_put(s->conn, &answer, buf, link_ack_encode(&ack, buf));
}

/* Take all there is.  False when the connection is of no more use. */
static bool
standby_step(Standby *s)
{
	LinkHeader header;
	const uint8_t *payload;
	LinkHeader stamp;
	LinkSwitch result;
	LinkDecode decode;
	bool more;

	do
	{
		ssize_t n = link_fill(s->conn);

		if (n < 0 && n != LINK_IO_AGAIN)
			return false;
		while ((decode = link_next(s->conn, &header, &payload)) == LINK_DECODE_OK)
			if (!standby_take(s, &header, payload))
				return false;
		if (decode != LINK_DECODE_MORE)
			return false;
		for (int i = 0; i < 64; i++)
		{
			stamp = standby_stamp(s);
			if (!link_switch_next(s->conn, &header, &payload, &stamp, &result))
				break;
			if (!standby_take(s, &header, payload))
				return false;
		}
		stamp = standby_stamp(s);
		more = link_switch_idle(s->conn, true, &stamp, &result);
		if (result == LINK_SWITCH_VIOLATION || link_flush(s->conn) == LINK_IO_ERROR)
			return false;
		more |= n > 0;
	} while (more);
	return true;
}

static void
wait_for(const LinkConn *conn, int timeout_ms)
{
	bool ring = conn->ring != NULL && conn->ring->verbs != NULL;
	struct pollfd fds[2] = {
		{.fd = conn->fd, .events = POLLIN | (link_out_pending(conn) > 0 ? POLLOUT : 0)},
		{.fd = ring ? conn->ring->verbs->fd : -1, .events = POLLIN}};

	(void) poll(fds, 2, timeout_ms);
}

static void
serve(const char *address, const char *port)
{
	struct addrinfo *at = resolve(address, port);
	int listener = link_tcp_listen(at->ai_addr, at->ai_addrlen);

	if (listener < 0)
		die("could not listen on %s port %s: %s", address, port, strerror(errno));
	freeaddrinfo(at);
	for (;;)
	{
		struct pollfd fds = {.fd = listener, .events = POLLIN};
		Standby s = {0};
		double cpu;
		int fd;

		(void) poll(&fds, 1, -1);
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		cpu = cpu_seconds();
		link_tcp_set_options(fd, TIMEOUT_MS);
		s.conn = link_conn_create(fd);
		while (standby_step(&s))
			wait_for(s.conn, 1000);
		printf("frames %" PRIu64 " bytes %" PRIu64 " cpu %.3f\n", s.frames, s.written,
			   cpu_seconds() - cpu);
		fflush(stdout);
		link_conn_destroy(s.conn);
	}
}

/* ----------------------------------------------------------------- primary */

typedef struct Primary
{
	LinkConn *conn;
	uint64_t sent;
	uint64_t acked;
	int64_t echo;
	bool on;
} Primary;

static LinkHeader
primary_stamp(const Primary *p)
{
	LinkHeader stamp = {.term = 1, .lsn = p->sent, .time = now_us()};

	return stamp;
}

static void
primary_take(Primary *p, const LinkHeader *header, const uint8_t *payload)
{
	LinkHeader stamp = primary_stamp(p);
	LinkAck ack;

	if (link_switch_is_frame(header))
	{
		LinkSwitch result = link_switch_primary_frame(p->conn, header, payload, &stamp);

		if (result == LINK_SWITCH_STARTED)
			p->on = true;
		else if (result != LINK_SWITCH_NOTHING)
			die("RDMA is over: %s", p->conn->ring != NULL ? p->conn->ring->reason : "violation");
		return;
	}
	if (header->type != LINK_ACK || !link_ack_decode(payload, header->length, &ack))
		die("something else than an answer has come");
	p->acked = ack.flush;
	p->echo = ack.echo;
}

static void
primary_step(Primary *p)
{
	LinkHeader stamp = primary_stamp(p);
	LinkHeader header;
	const uint8_t *payload;
	ssize_t n = link_fill(p->conn);

	if (n < 0 && n != LINK_IO_AGAIN)
		die("%s", link_conn_error(p->conn));
	while (link_next(p->conn, &header, &payload) == LINK_DECODE_OK)
		primary_take(p, &header, payload);
	if (link_switch_primary_look(p->conn, &stamp) == LINK_SWITCH_VIOLATION ||
		(p->on && !link_switch_is_on(p->conn)))
		die("RDMA is over: %s", p->conn->ring->reason);
	if (link_flush(p->conn) == LINK_IO_ERROR)
		die("%s", link_conn_error(p->conn));
}

/* Send one frame, as soon as there is room. */
static void
primary_send(Primary *p, size_t length, bool reply)
{
	LinkHeader header = primary_stamp(p);
	uint8_t *to;

	while ((!link_switch_is_on(p->conn) && link_flush(p->conn) != 1) ||
		   (to = link_stream_begin(p->conn, length)) == NULL)
	{
		wait_for(p->conn, link_switch_is_on(p->conn) ? 1 : 1000);
		primary_step(p);
	}
	if (length > 0)
		memset(to, (int) p->sent, length);
	header.type = length > 0 ? LINK_WAL : LINK_BOUND;
	header.flags = reply ? LINK_FLAG_REPLY : 0;
	link_stream_end(p->conn, &header, length);
	p->sent += length;
	(void) link_flush(p->conn);
}

static void
primary_await(Primary *p)
{
	int64_t end = now_us() + 60 * INT64_C(1000000);

	while (p->acked < p->sent)
	{
		primary_step(p);
		if (p->acked >= p->sent)
			break;
		if (now_us() > end)
			die("no answer");
		wait_for(p->conn, 1000);
	}
}

static int
connect_to(const char *address, const char *port)
{
	struct addrinfo *at = resolve(address, port);
	int fd = link_tcp_connect(at->ai_addr, at->ai_addrlen);
	struct pollfd fds = {.fd = fd, .events = POLLOUT};

	freeaddrinfo(at);
	if (fd < 0 || poll(&fds, 1, TIMEOUT_MS) != 1 || link_tcp_connect_finished(fd) != 1)
		die("could not connect to %s port %s: %s", address, port, strerror(errno));
	link_tcp_set_options(fd, TIMEOUT_MS);
	return fd;
}

static Primary
open_primary(bool rdma, const char *address, const char *port)
{
	Primary p = {.conn = link_conn_create(connect_to(address, port))};
	int64_t end = now_us() + 10 * INT64_C(1000000);
	LinkHeader stamp = primary_stamp(&p);
	LinkVerbs *verbs;
	char why[256];

	if (!rdma)
		return p;
	verbs = open_end(p.conn->fd, false, RING_SIZE, why, sizeof(why));
	if (verbs == NULL)
		die("%s", why);
	printf("device %s\n", verbs->description);
	if (link_switch_offer(p.conn, verbs, &stamp) != LINK_SWITCH_NOTHING)
		die("the offer could not be sent");
	while (!p.on)
	{
		if (now_us() > end)
			die("RDMA was not taken in time");
		wait_for(p.conn, 100);
		primary_step(&p);
	}
	return p;
}

static int
compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a;
	int64_t y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

static void
trips(Primary *p, int count, size_t size)
{
	int64_t *times = calloc(count, sizeof(int64_t));

	for (int i = -count / 10; i < count; i++) /* the first ones do not count */
	{
		int64_t begin = now_us();

		primary_send(p, size, true);
		primary_await(p);
		if (i >= 0)
			times[i] = now_us() - begin;
	}
	qsort(times, count, sizeof(int64_t), compare);
	printf("trips %d size %zu median %.1f p99 %.1f us\n", count, size, (double) times[count / 2],
		   (double) times[count * 99 / 100]);
	free(times);
}

static void
stream(Primary *p, double seconds, size_t size)
{
	int64_t begin = now_us();
	double cpu = cpu_seconds();
	double took;

	do
		primary_send(p, size, false);
	while (now_us() - begin < seconds * 1e6);
	primary_send(p, 0, true);
	primary_await(p);
	took = (now_us() - begin) / 1e6;
	printf("sent %.3f GB size %zu in %.3f s, %.1f MB/s, cpu %.3f\n", p->sent / 1e9, size, took,
		   p->sent / 1e6 / took, cpu_seconds() - cpu);
}

/* ------------------------------------------------- both sides in one process */

static int
count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* One connection, ended in state number 'end'; 8 is in the middle of the stream. */
static void
connect_once(int listener, const char *address, const char *port, int end)
{
	Primary p = {.conn = link_conn_create(connect_to(address, port))};
	Standby s = {0};
	struct pollfd fds = {.fd = listener, .events = POLLIN};
	LinkHeader stamp = primary_stamp(&p);
	LinkVerbs *verbs;
	char why[256];

	(void) poll(&fds, 1, TIMEOUT_MS);
	s.conn = link_conn_create(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
	verbs = open_end(p.conn->fd, false, LINK_RING_MIN_SIZE, why, sizeof(why));
	if (verbs == NULL)
		die("%s", why);
	if (end == 0)
		verbs->ops->destroy(verbs);
	else if (link_switch_offer(p.conn, verbs, &stamp) != LINK_SWITCH_NOTHING)
		die("the offer could not be sent");
	for (int i = 1; i < 1000 && end > 1 && !p.on; i++)
	{
		if (!standby_step(&s))
			die("the standby has given up: %s", s.conn->ring != NULL ? s.conn->ring->reason : "");
		if (end == 2 || (end == 3 && s.conn->ring != NULL && s.conn->ring->verbs != NULL))
			break;
		primary_step(&p);
		if (end == 4 && p.conn->ring->state == LINK_RING_TRYING)
			break;
		if (!p.on)
			(void) usleep(200);
	}
	if (end > 4 && !p.on)
		die("RDMA was not taken: %s %s", p.conn->ring->reason, s.conn->ring->reason);
	for (int i = 0; end > 5 && i < end * 4; i++)
		primary_send(&p, 1 + 997 * i, false);
	if (end == 6)
		(void) standby_step(&s);
	stamp = primary_stamp(&p);
	if (end == 7)
		(void) link_switch_stop(p.conn, "the primary wants it", &stamp);
	if (end % 2 == 0)
		link_conn_destroy(p.conn);
	link_conn_destroy(s.conn);
	if (end % 2 == 1)
		link_conn_destroy(p.conn);
}

static void
connects(const char *address, int count)
{
	struct addrinfo *at = resolve(address, "0");
	int listener = link_tcp_listen(at->ai_addr, at->ai_addrlen);
	struct sockaddr_storage local;
	socklen_t length = sizeof(local);
	char port[16];
	int before;

	if (listener < 0 || getsockname(listener, (struct sockaddr *) &local, &length) != 0)
		die("could not listen on %s: %s", address, strerror(errno));
	freeaddrinfo(at);
	snprintf(port, sizeof(port), "%d", ntohs(((struct sockaddr_in *) &local)->sin_port));
	connect_once(listener, address, port, 8); /* what libraries keep open is open now */
	before = count_descriptors();
	for (int i = 0; i < count; i++)
		connect_once(listener, address, port, i % 9);
	printf("connects %d, descriptors %d before, %d after\n", count, before, count_descriptors());
	if (count_descriptors() != before)
		exit(1);
}

int
main(int argc, char **argv)
{
	bool rdma = argc > 1 && strcmp(argv[1], "rdma") == 0;

	if (argc == 4 && strcmp(argv[1], "serve") == 0)
		serve(argv[2], argv[3]);
	else if (argc == 4 && strcmp(argv[1], "connects") == 0)
		connects(argv[2], atoi(argv[3]));
	else if (argc == 7 && (rdma || strcmp(argv[1], "tcp") == 0))
	{
		Primary p = open_primary(rdma, argv[2], argv[3]);

		if (strcmp(argv[4], "trip") == 0)
			trips(&p, atoi(argv[5]), atoi(argv[6]));
		else if (strcmp(argv[4], "send") == 0)
			stream(&p, atof(argv[5]), atoi(argv[6]));
		else
			die("neither \"trip\" nor \"send\"");
		link_conn_destroy(p.conn);
	}
	else
		die("see the head of linkpair.c");
	return 0;
}
