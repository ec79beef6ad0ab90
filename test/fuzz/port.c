/*-------------------------------------------------------------------------
 *
 * port.c
 *	  Bad traffic, and lots of it, against the link's port of a live primary.
 *
 * Some connections are a stranger's: noise, pieces of our protocol and of
 * TLS, the connection closed at every point.  Others come from a standby that
 * PostgreSQL has admitted and that holds a one-time key, but whose messages
 * are damaged on the way, out of order, or lies.  A few run at a time, none
 * is waited for.
 *
 * What the server may do: close the connection, and say why in a frame or a
 * TLS record.  What it must not: welcome anybody without a key, believe an
 * answer that cannot be true, keep a connection that the client has ended,
 * crash, or let a commit through.  See README.md for how to watch the server.
 *
 *-------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "port.h"

Job jobs[MAX_JOBS];
int job_count = 16;
const char *conninfo = "";
static struct sockaddr_storage address;
static socklen_t address_length;
static uint64_t seed = 1;
static long failures; /* of connections */
PGconn *control;

int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("port: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

void
fail(Job *job, const char *format, ...)
{
	va_list args;
	Category *category = job->category;

	failures++;
	if (category->failed++ > 0)
		return;
	va_start(args, format);
	vsnprintf(category->why, sizeof(category->why), format, args);
	va_end(args);
	printf("%s: connection %ld: %s\n", category->name, job->number, category->why);
}

/* ------------------------------------------------------------- life of jobs */

static void
job_end(Job *job)
{
	if (job->ending == END_RESET && job->fd >= 0)
	{
		struct linger linger = {1, 0};

		setsockopt(job->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	}
	if (job->conn != NULL && job->conn->fd == job->fd)
		job->fd = -1;
	link_conn_destroy(job->conn);
	job->conn = NULL;
	if (job->fd >= 0)
		close(job->fd);
	if (job->relay >= 0)
		close(job->relay);
	job->fd = job->relay = -1;
	if (job->broker != NULL)
		job->broker->busy = false;
	job->broker = NULL;
	job->phase = IDLE;
}

/*
 * Connect.  All clients of 127.0.0.1 come from different addresses there, so
 * that connections waiting for their last segments do not use up the ports.
 */
static int
open_socket(long number)
{
	int fd;

	if (address.ss_family == AF_INET &&
		ntohl(((struct sockaddr_in *) &address)->sin_addr.s_addr) >> 24 == 127)
	{
		struct sockaddr_in from = {.sin_family = AF_INET};

		from.sin_addr.s_addr = htonl(0x7F000001 + number % 200);
		fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#ifdef IP_BIND_ADDRESS_NO_PORT
		{
			int one = 1;

			setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		}
#endif
		if (fd < 0 || bind(fd, (struct sockaddr *) &from, sizeof(from)) != 0 ||
			(connect(fd, (struct sockaddr *) &address, address_length) != 0 &&
			 errno != EINPROGRESS))
		{
			int save_errno = errno;

			if (fd >= 0)
				close(fd);
			errno = save_errno;
			return -1;
		}
		return fd;
	}
	return link_tcp_connect((struct sockaddr *) &address, address_length);
}

static Category *
choose(Rng *rng, Category *from, int count)
{
	int total = 0;
	int ticket;

	for (int i = 0; i < count; i++)
		total += from[i].weight;
	ticket = below(rng, total);
	while (ticket >= from->weight)
		ticket -= (from++)->weight;
	return from;
}

/*
 * Start connection 'number', a standby's if 'broker' is not NULL.  False if it
 * cannot be started just now.
 */
bool
job_start(Job *job, long number, Broker *broker, Category *category)
{
	uint8_t *out = job->out;

	memset(job, 0, sizeof(*job));
	job->out = out;
	job->relay = -1;
	job->number = number;
	job->rng.state = seed * UINT64_C(0xD1342543DE82EF95) + number;
	job->rng.state = rnd(&job->rng);
	job->ending = END_WHENEVER;
	job->fd = -1;
	if (broker != NULL)
	{
		if (!broker_ask(broker, &job->told, &job->start))
			return false;
		job->category = category != NULL ? category : choose(&job->rng, standbys, standby_count);
		job->sent = job->start;
		job->final = category == &closing;
	}
	else
	{
		job->category = choose(&job->rng, strangers, stranger_count);
		job->category->prepare(job);
	}
	job->fd = open_socket(number);
	if (job->fd < 0)
	{
		if (errno == EADDRNOTAVAIL || errno == EAGAIN)
			return false;
		fail(job, "could not connect: %s", strerror(errno));
		return false;
	}
	if (broker != NULL)
		broker->busy = true;
	job->broker = broker;
	job->category->runs++;
	job->phase = CONNECTING;
	job->quiet_since = now_ms();
	job->deadline = job->quiet_since + PATIENCE_MS;
	return true;
}

/* The connection is there: a stranger talks, a standby authenticates. */
static void
job_connected(Job *job)
{
	int fd = job->fd;

	link_tcp_set_options(fd, PATIENCE_MS);
	if (job->broker == NULL)
	{
		job->phase = TALKING;
		return;
	}
	if (job->category->damaged)
	{
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
			die("socketpair: %s", strerror(errno));
		fd = pair[0];
		job->relay = pair[1];
		job->damage_at = below(&job->rng, 1100);
	}
	job->conn = link_conn_create(fd);
	if (job->conn == NULL)
		die("out of memory");
	link_auth_client(job->conn, job->told.id, job->told.key, job->told.tls);
	job->phase = AUTHENTICATING;
}

/* What a stranger may be told: why not.  Nothing else. */
static void
check_heard(Job *job)
{
	size_t at = 0;

	while (at < job->heard_length)
	{
		const uint8_t *bytes = job->heard + at;
		LinkHeader header;
		LinkDecode result;

		/* a record of TLS: a handshake, a change of cipher, an alert */
		if (bytes[0] >= 0x14 && bytes[0] <= 0x17)
			return;
		result = link_frame_decode(bytes, job->heard_length - at, &header);
		if (result == LINK_DECODE_MORE)
			return;
		if (result != LINK_DECODE_OK ||
			(header.type != LINK_REFUSE && header.type != LINK_AUTH_SERVER))
		{
			fail(job, "the server answered with type %u (%s)", header.type,
				 link_decode_text(result));
			return;
		}
		if (header.type == LINK_REFUSE)
			job->category->refused++;
		at += LINK_HEADER_SIZE + header.length;
	}
}

static void
stranger_step(Job *job)
{
	ssize_t n;

	while (job->out_sent < job->out_length)
	{
		n = send(job->fd, job->out + job->out_sent, job->out_length - job->out_sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) /* closed already: as it should be */
			job->out_length = job->out_sent;
		else
			job->out_sent += n;
	}
	for (;;)
	{
		uint8_t buf[4096];

		n = recv(job->fd, buf, sizeof(buf), 0);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0)
		{
			check_heard(job);
			job_end(job);
			return;
		}
		for (ssize_t i = 0; i < n && job->heard_length < HEARD_SIZE; i++)
			job->heard[job->heard_length++] = buf[i];
	}
	if (job->out_sent == job->out_length && job->phase == TALKING)
	{
		if (job->ending == END_CLOSE || job->ending == END_RESET)
		{
			check_heard(job);
			job_end(job);
			return;
		}
		if (job->ending == END_HALF)
			shutdown(job->fd, SHUT_WR);
		job->phase = ENDING;
	}
}

/* Carry bytes between the standby and the server; something goes wrong once. */
static bool
relay_step(Job *job)
{
	uint8_t buf[8192 + 512];
	ssize_t n = recv(job->relay, buf, 8192, 0);

	if (n == 0)
		return false;
	if (n > 0)
	{
		size_t before = job->relayed;
		size_t length = n;
		bool cut = false;

		job->relayed += n;
		if (!job->damage_done && job->damage_at < job->relayed)
		{
			size_t at = job->damage_at - before;

			job->damage_done = true;
			switch (below(&job->rng, 5))
			{
				case 0:
					buf[at] ^= 1 << below(&job->rng, 8);
					break;
				case 1:
					mutate(&job->rng, buf + at, length - at);
					break;
				case 2: /* cut */
					length = at;
					cut = true;
					break;
				case 3: /* a piece is lost */
					length = at;
					break;
				case 4: /* noise in between */
				{
					size_t noise = 1 + below(&job->rng, 500);

					memmove(buf + at + noise, buf + at, length - at < 8192 ? length - at : 0);
					random_bytes(&job->rng, buf + at, noise);
					length += noise;
					break;
				}
			}
		}
		if (length > 0 && send(job->fd, buf, length, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			return false;
		job->quiet_since = now_ms();
		if (cut)
			shutdown(job->fd, one_in(&job->rng, 2) ? SHUT_WR : SHUT_RDWR);
	}
	n = recv(job->fd, buf, 8192, 0);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		return false;
	if (n > 0)
	{
		job->quiet_since = now_ms();
		if (send(job->relay, buf, n, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			return false;
	}
	return true;
}

/* Take the server's frames.  False when it has closed. */
static bool
standby_hears(Job *job)
{
	LinkHeader header;
	const uint8_t *payload;
	LinkDecode result;
	ssize_t n;

	do
	{
		n = link_fill(job->conn);
		while ((result = link_next(job->conn, &header, &payload)) == LINK_DECODE_OK)
		{
			job->quiet_since = now_ms();
			switch (header.type)
			{
				case LINK_WELCOME:
					if (job->welcome || job->phase != GREETED)
						fail(job, "a second welcome");
					job->welcome = true;
					job->category->welcomed++;
					job->term = header.term;
					job->sent = header.lsn;
					break;
				case LINK_WAL:
				case LINK_BOUND:
				case LINK_HANDOVER:
					if (!job->welcome)
						fail(job, "the stream starts without a welcome");
					if (header.type == LINK_WAL && header.lsn == job->sent)
						job->sent += header.length;
					break;
				case LINK_REFUSE:
				{
					LinkNotice notice;

					if (!link_notice_decode(payload, header.length, &notice))
						fail(job, "a refusal that cannot be decoded");
					else if (job->final)
						printf("%s: refused: %s\n", job->category->name, notice.message);
					job->category->refused++;
					break;
				}
				default:
					fail(job, "the server sent type %u", header.type);
					break;
			}
		}
		/* on a bad network this may be damage, but only in the other direction */
		if (result != LINK_DECODE_MORE)
		{
			fail(job, "the server sent a bad frame: %s", link_decode_text(result));
			return false;
		}
	} while (n > 0);
	return n == LINK_IO_AGAIN;
}

static void
standby_step(Job *job)
{
	LinkConn *conn = job->conn;

	if (job->relay >= 0 && !relay_step(job))
	{
		job_end(job);
		return;
	}
	if (job->phase == AUTHENTICATING)
	{
		int result = link_auth_step(conn);

		if (result == LINK_IO_AGAIN)
			return;
		if (result < 0)
		{
			/* a worker that finds its standby closes who else waits there */
			if (result == LINK_IO_CLOSED || strstr(link_conn_error(conn), "reset") != NULL)
				job->category->dropped++;
			else if (!job->category->damaged)
				fail(job, "authentication failed: %s", link_conn_error(conn));
			job_end(job);
			return;
		}
		job->category->greet(job);
		job->phase = GREETED;
	}
	if (link_flush(conn) < 0 || !standby_hears(job) || link_flush(conn) < 0)
	{
		if (job->final && !job->welcome)
			fail(job, "closed without a welcome: %s", link_conn_error(conn));
		job_end(job);
		return;
	}
	if (job->phase == GREETED && job->welcome)
	{
		job->phase = PLAYED;
		job->category->play(job);
		(void) link_flush(conn);
		if (job->ending == END_WAIT)
			job->deadline = now_ms() + AT_ONCE_MS;
		if (job->final)
			job->quiet_since = now_ms();
	}
	if ((job->ending == END_CLOSE || job->ending == END_RESET) &&
		(job->phase == PLAYED || job->category->greet == greet_badly) &&
		link_out_pending(conn) == 0)
		job_end(job);
}

/* What must have happened by now? */
static void
job_check_time(Job *job, int64_t now)
{
	if (job->phase == IDLE)
		return;
	if (now > job->deadline)
	{
		fail(job, "the server does not close the connection (phase %d, ending %d)", job->phase,
			 job->ending);
		job_end(job);
		return;
	}
	if (job->broker == NULL || job->ending == END_WAIT || now - job->quiet_since < QUIET_MS)
		return;
	/* an undamaged standby that greets well is welcome */
	if (!job->category->damaged && job->category->greet == greet_well && !job->welcome &&
		now - job->quiet_since < PATIENCE_MS / 2)
		return;
	if (job->final && !job->welcome)
		fail(job, "no answer");
	job_end(job);
}

/* ----------------------------------------------------------------- the loop */

void
poll_jobs(int timeout)
{
	struct pollfd fds[2 * MAX_JOBS];
	Job *owner[2 * MAX_JOBS];
	int n = 0;
	int64_t now;

	for (int i = 0; i < job_count; i++)
	{
		Job *job = &jobs[i];
		short events = POLLIN;

		if (job->phase == IDLE)
			continue;
		if (job->phase == CONNECTING || job->out_sent < job->out_length ||
			(job->conn != NULL && job->relay < 0 && link_conn_wants_write(job->conn)))
			events |= POLLOUT;
		owner[n] = job;
		fds[n++] = (struct pollfd){.fd = job->fd, .events = events};
		if (job->relay >= 0)
		{
			owner[n] = job;
			fds[n++] = (struct pollfd){.fd = job->relay, .events = POLLIN};
		}
	}
	if (poll(fds, n, timeout) < 0 && errno != EINTR)
		die("poll: %s", strerror(errno));
	for (int i = 0; i < n; i++)
	{
		Job *job = owner[i];

		if (fds[i].revents == 0 || job->phase == IDLE)
			continue;
		if (job->phase == CONNECTING)
		{
			int result = link_tcp_connect_finished(job->fd);

			if (result == LINK_IO_ERROR)
			{
				fail(job, "could not connect: %s", strerror(errno));
				job_end(job);
			}
			if (result != 1)
				continue;
			job_connected(job);
		}
		if (job->broker == NULL)
			stranger_step(job);
		else
		{
			/* the relay has two ends: what came out of one step goes in again */
			standby_step(job);
			if (job->phase != IDLE && job->relay >= 0)
				standby_step(job);
		}
	}
	now = now_ms();
	for (int i = 0; i < job_count; i++)
		job_check_time(&jobs[i], now);
}

int
active_jobs(void)
{
	int n = 0;

	for (int i = 0; i < job_count; i++)
		n += jobs[i].phase != IDLE;
	return n;
}

/* ------------------------------------------------------------------- main */

static void
ignore_notice(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

static long
report(Category *from, int count)
{
	long runs = 0;

	for (int i = 0; i < count; i++)
	{
		Category *c = &from[i];

		printf(
			"%-30s %6ld connections, %5ld welcomed, %5ld refused, %4ld dropped, %ld failed%s%s\n",
			c->name, c->runs, c->welcomed, c->refused, c->dropped, c->failed,
			c->failed > 0 ? ": " : "", c->why);
		/* a category that had no turn, or never got in, has tested nothing */
		if (c->failed > 0 || c->runs == 0 || (c->play != NULL && c->welcomed == 0) ||
			c->dropped > c->runs / 2)
			checks_failed++;
		else
			checks_passed++;
		runs += c->runs;
	}
	return runs;
}

static void
usage(void)
{
	fprintf(stderr, "usage: port --conninfo STR --host H --port P [-n CONNECTIONS] [-s SEED]\n"
					"            [-c AT_A_TIME] [-a PERCENT_WITH_KEY]\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"conninfo", required_argument, NULL, 'C'},
											{"host", required_argument, NULL, 'h'},
											{"port", required_argument, NULL, 'p'},
											{NULL, 0, NULL, 0}};
	const char *host = "127.0.0.1";
	const char *port = NULL;
	long n = 100000;
	long started = 0;
	long with_key = 0;
	int percent = 5;
	int option;
	int error;
	int64_t begin;
	int64_t end;
	long runs;
	char *workers;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found;

	while ((option = getopt_long(argc, argv, "n:s:c:a:", options, NULL)) != -1)
	{
		switch (option)
		{
			case 'C':
				conninfo = optarg;
				break;
			case 'h':
				host = optarg;
				break;
			case 'p':
				port = optarg;
				break;
			case 'n':
				n = atol(optarg);
				break;
			case 's':
				seed = strtoull(optarg, NULL, 10);
				break;
			case 'c':
				job_count = atoi(optarg);
				break;
			case 'a':
				percent = atoi(optarg);
				break;
			default:
				usage();
		}
	}
	if (port == NULL || optind != argc || job_count < 1 || job_count > MAX_JOBS || percent < 0 ||
		percent > 100)
		usage();
	error = getaddrinfo(host, port, &hints, &found);
	if (error != 0)
		die("%s:%s: %s", host, port, gai_strerror(error));
	memcpy(&address, found->ai_addr, found->ai_addrlen);
	address_length = found->ai_addrlen;
	freeaddrinfo(found);

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	record_client_hello();
	for (int i = 0; i < job_count; i++)
	{
		jobs[i].fd = jobs[i].relay = -1;
		jobs[i].out = malloc(MAX_OUT);
		if (jobs[i].out == NULL)
			die("out of memory");
	}
	control = PQconnectdb(conninfo);
	if (PQstatus(control) != CONNECTION_OK)
		die("%s", PQerrorMessage(control));
	PQsetNoticeProcessor(control, ignore_notice, NULL);
	workers = query("SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'tandem'");
	if (workers == NULL || strcmp(workers, "0") == 0)
		die("no workers of pg_tandem: is the library loaded, and this a primary?");
	{
		Told told;
		uint64_t start;

		if (percent > 0 && !broker_ask(&brokers[0], &told, &start))
			die("no offer of a link: %s", PQerrorMessage(brokers[0].pg));
		if (percent > 0 && told.timeline != 1)
			die("the primary is on timeline %u; this needs a new one", told.timeline);
	}

	begin = now_ms();
	while (started < n || active_jobs() > 0)
	{
		/* each may have cost some seconds: enough is known */
		if (failures >= MAX_FAILURES && started < n)
		{
			printf("stopped after %ld of %ld connections\n", started, n);
			n = started;
		}
		for (int i = 0; i < job_count && started < n; i++)
		{
			Broker *broker = NULL;

			if (jobs[i].phase != IDLE)
				continue;
			/* standbys take longer: when they fall behind, strangers wait for them */
			if (with_key * 100 < (started + 1) * percent)
			{
				broker = free_broker();
				if (broker == NULL && with_key * 100 + 2000 < (started + 1) * percent)
					break;
			}
			if (!job_start(&jobs[i], started, broker, NULL))
				break;
			started++;
			with_key += broker != NULL;
		}
		poll_jobs(20);
	}
	end = now_ms();

	check_server(workers);
	check_good_standby();
	runs = report(strangers, stranger_count);
	if (percent > 0)
		runs += report(standbys, standby_count);
	printf("%ld connections in %.1f s\n", runs, (end - begin) / 1000.0);
	printf("%d passed, %d failed\n", checks_passed, checks_failed);

	for (int i = 0; i < job_count; i++)
		free(jobs[i].out);
	for (int i = 0; i < broker_count; i++)
		PQfinish(brokers[i].pg);
	PQfinish(control);
	free(workers);
	return checks_failed > 0 ? 1 : 0;
}
