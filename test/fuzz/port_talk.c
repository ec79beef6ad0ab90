/*-------------------------------------------------------------------------
 *
 * port_talk.c
 *	  What strangers and standbys say to the server, and shall not.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port.h"

static uint8_t client_hello[2048]; /* a TLS client's first message */
static size_t client_hello_length;

/* ----------------------------------------------------- what strangers say */

static void
say(Job *job, const void *data, size_t length)
{
	if (job->out_length + length > MAX_OUT)
		length = MAX_OUT - job->out_length;
	memcpy(job->out + job->out_length, data, length);
	job->out_length += length;
}

static void
say_noise(Job *job, size_t length)
{
	uint8_t noise[4096];

	while (length > 0)
	{
		size_t n = length < sizeof(noise) ? length : sizeof(noise);

		random_bytes(&job->rng, noise, n);
		say(job, noise, n);
		length -= n;
	}
}

static size_t
first_frame(Rng *rng, uint8_t *frame)
{
	LinkHeader header = {.type = LINK_AUTH_CLIENT};

	header.length = random_payload(rng, LINK_AUTH_CLIENT, frame + LINK_HEADER_SIZE);
	link_header_encode(&header, frame + LINK_HEADER_SIZE, frame);
	return LINK_HEADER_SIZE + header.length;
}

/* Either kind of a good beginning. */
static size_t
beginning(Job *job, uint8_t *to)
{
	if (one_in(&job->rng, 2))
		return first_frame(&job->rng, to);
	memcpy(to, client_hello, client_hello_length);
	return client_hello_length;
}

static Ending
some_ending(Job *job)
{
	/* waiting for the server to lose patience takes long: seldom */
	if (one_in(&job->rng, 400))
		return END_WAIT;
	return (Ending) below(&job->rng, END_HALF + 1);
}

static void
prepare_nothing(Job *job)
{
	job->ending = some_ending(job);
}

static void
prepare_noise(Job *job)
{
	static const uint8_t firsts[] = {'T', 0x16, 0, 0x80};

	if (one_in(&job->rng, 4))
		say(job, &firsts[below(&job->rng, sizeof(firsts))], 1);
	say_noise(job, below(&job->rng, one_in(&job->rng, 50) ? MAX_FRAME : 1000));
	job->ending = some_ending(job);
}

static void
prepare_prefix(Job *job)
{
	uint8_t buf[sizeof(client_hello) + LINK_HEADER_SIZE];
	size_t length = beginning(job, buf);

	if (one_in(&job->rng, 2))
		length = 1 + below(&job->rng, length);
	say(job, buf, length);
	say_noise(job, 1 + below(&job->rng, one_in(&job->rng, 50) ? MAX_FRAME : 300));
	job->ending = some_ending(job);
}

/* Every length in turn. */
static void
prepare_truncated(Job *job)
{
	uint8_t buf[sizeof(client_hello) + LINK_HEADER_SIZE];
	size_t length = beginning(job, buf);

	say(job, buf, job->category->runs / 2 % (length + 1));
	job->ending = some_ending(job);
}

static void
prepare_mutated(Job *job)
{
	uint8_t buf[sizeof(client_hello) + LINK_HEADER_SIZE];
	size_t length = beginning(job, buf);

	for (uint32_t i = 1 + below(&job->rng, 3); i > 0; i--)
		mutate(&job->rng, buf, length);
	if (buf[0] == 'T' && one_in(&job->rng, 2))
		seal(buf, length);
	say(job, buf, length);
	job->ending = some_ending(job);
}

/* Sound frames of any type, of which only the first may be the right one. */
static void
prepare_frames(Job *job)
{
	static uint8_t frame[MAX_FRAME];

	for (uint32_t i = 1 + below(&job->rng, 3); i > 0; i--)
		say(job, frame, random_frame(&job->rng, frame));
	job->ending = some_ending(job);
}

static void
prepare_version(Job *job)
{
	uint8_t buf[LINK_HEADER_SIZE + 40];
	size_t length = first_frame(&job->rng, buf);

	buf[4] = below(&job->rng, 256);
	say(job, buf, one_in(&job->rng, 2) ? length : 5 + below(&job->rng, length - 5));
	job->ending = some_ending(job);
}

/* ------------------------------------------------------ what standbys say */

static void
put(Job *job, LinkFrameType type, uint64_t term, const void *payload, size_t length)
{
	LinkHeader header = {.type = type, .term = term, .lsn = job->sent, .bound = job->sent};

	(void) link_frame_put(job->conn, &header, payload, length);
}

/* CRC-32C of the history of timeline 1: itself, from the beginning. */
static uint32_t
first_timeline_crc(void)
{
	static const uint8_t bytes[12] = {1};

	return crc32c(bytes, sizeof(bytes));
}

static void
make_hello(Job *job, LinkHello *hello)
{
	memset(hello, 0, sizeof(*hello));
	hello->system_identifier = job->told.system_identifier;
	hello->timeline = job->told.timeline;
	hello->timeline_crc = first_timeline_crc();
	hello->start = hello->check_from = hello->check_to = job->start;
	hello->instance = rnd(&job->rng);
	hello->copy = rnd(&job->rng);
	/* every standby has its name: those of one run are few */
	snprintf(hello->node_name, sizeof(hello->node_name), LINK_NODE "%d",
			 (int) (job->broker - brokers));
	hello->history = job->told.history;
}

static void
put_hello(Job *job, const LinkHello *hello)
{
	uint8_t payload[LINK_HELLO_MAX];

	put(job, LINK_HELLO, 0, payload, link_hello_encode(hello, payload));
}

void
greet_well(Job *job)
{
	LinkHello hello;

	make_hello(job, &hello);
	put_hello(job, &hello);
}

static void
put_random_frame(Job *job, bool right_term)
{
	static uint8_t frame[MAX_FRAME];
	LinkHeader header;

	random_frame(&job->rng, frame);
	(void) link_frame_decode(frame, sizeof(frame), &header);
	if (right_term)
		header.term = job->term;
	(void) link_frame_put(job->conn, &header, frame + LINK_HEADER_SIZE, header.length);
}

/* A greeting that is wrong in one way or another. */
void
greet_badly(Job *job)
{
	static const char *const names[] = {"", "a\nLOG:  b", "\xff\xfe\xc3(", "%s%n", "\x1b[31m"};
	static uint8_t payload[LINK_HELLO_MAX + 64];
	Rng *rng = &job->rng;
	LinkHello hello;
	size_t length;

	make_hello(job, &hello);
	job->ending = one_in(rng, 4) ? END_CLOSE : END_WHENEVER;
	switch (below(rng, 16))
	{
		case 0:
			hello.system_identifier = edgy(rng);
			break;
		case 1:
			hello.timeline = edgy(rng);
			break;
		case 2:
			hello.timeline_crc = edgy(rng);
			break;
		case 3:
			hello.start = edgy(rng);
			break;
		case 4:
			hello.start += 1 + below(rng, 100000000);
			break;
		case 5:
			hello.check_to = edgy(rng);
			hello.check_from = below(rng, 2) ? 0 : hello.check_to - below(rng, 20000000);
			if (hello.check_from > hello.check_to)
				hello.check_from = hello.check_to;
			hello.check_crc = edgy(rng);
			break;
		case 6: /* WAL that is there, and is another */
			hello.check_from -= below(rng, 20000000);
			if (hello.check_from > hello.check_to)
				hello.check_from = 0;
			hello.check_crc = edgy(rng);
			break;
		case 7:
			snprintf(hello.node_name, sizeof(hello.node_name), "%s", names[below(rng, 5)]);
			break;
		case 8:
			for (size_t i = 0; i < sizeof(hello.node_name) - 1; i++)
				hello.node_name[i] = (char) (1 + below(rng, 255));
			break;
		case 9:
			snprintf(hello.slot_name, sizeof(hello.slot_name), "%s", names[1 + below(rng, 4)]);
			break;
		case 10:
			for (size_t i = 0; i < sizeof(hello.slot_name) - 1; i++)
				hello.slot_name[i] = (char) (1 + below(rng, 255));
			break;
		case 11:
			hello.history.count = below(rng, LINK_MAX_HISTORY + 1);
			for (int i = 0; i < hello.history.count; i++)
				hello.history.entry[i] =
					(LinkIncarnation){edgy(rng), edgy(rng), edgy(rng), edgy(rng), edgy(rng)};
			break;
		case 12: /* a payload that the checksum covers and no encoder makes */
			length = link_hello_encode(&hello, payload);
			mutate(rng, payload, length);
			if (one_in(rng, 2))
				length -= below(rng, 40);
			put(job, LINK_HELLO, edgy(rng), payload, length);
			return;
		case 13: /* anything else instead */
			put_random_frame(job, false);
			return;
		case 14: /* nothing at all */
			return;
		case 15: /* twice */
			put_hello(job, &hello);
			break;
	}
	put_hello(job, &hello);
}

static void
put_ack(Job *job, uint64_t write, uint64_t flush, uint64_t apply)
{
	LinkAck ack = {write, flush, apply, 0};
	uint8_t payload[sizeof(ack)];

	put(job, LINK_ACK, job->term, payload, link_ack_encode(&ack, payload));
}

/* As a standby should: the end of what has come. */
static void
play_well(Job *job)
{
	for (int i = 0; i < 3; i++)
		put_ack(job, job->sent, job->sent, job->sent);
	job->ending = END_WHENEVER;
}

static void
play_out_of_order(Job *job)
{
	for (uint32_t i = 1 + below(&job->rng, 5); i > 0; i--)
	{
		if (link_out_pending(job->conn) > MAX_FRAME / 2)
			break;
		put_random_frame(job, !one_in(&job->rng, 4));
	}
	job->ending = one_in(&job->rng, 4) ? END_RESET : END_WHENEVER;
}

/* One of these must end the link, whatever comes before it. */
static void
play_impossible(Job *job)
{
	/* more than the server can send while this travels */
	uint64_t beyond = job->sent + (UINT64_C(1) << 40);

	switch (below(&job->rng, 6))
	{
		case 0:
			put_ack(job, beyond, beyond, beyond);
			break;
		case 1:
			put_ack(job, UINT64_MAX, UINT64_MAX, UINT64_MAX);
			break;
		case 2:
			put_ack(job, beyond, job->sent, job->sent);
			break;
		case 3: /* flushed and not written */
			put_ack(job, job->sent, beyond, job->sent);
			break;
		case 4: /* no longer flushed */
			put_ack(job, job->sent, job->sent, job->sent);
			put_ack(job, job->sent, job->sent - 1 - below(&job->rng, 1000), job->sent);
			break;
		case 5: /* of another term */
			job->term += 1 + rnd(&job->rng) / 2;
			put_ack(job, job->sent, job->sent, job->sent);
			break;
	}
	job->ending = END_WAIT;
}

/* Strange, but what a standby may say. */
static void
play_strange(Job *job)
{
	Rng *rng = &job->rng;

	for (uint32_t i = 1 + below(rng, 6); i > 0; i--)
	{
		switch (below(rng, 4))
		{
			case 0:
				put_ack(job, job->sent, job->sent, UINT64_MAX);
				break;
			case 1:
				put_ack(job, job->sent, 0, 0);
				break;
			case 2:
			{
				LinkFeedback feedback = {edgy(rng), edgy(rng), edgy(rng), edgy(rng)};
				uint8_t payload[sizeof(feedback)];

				if (one_in(rng, 2))
					feedback = (LinkFeedback){3 + below(rng, 1000), 0, 3 + below(rng, 1000), 0};
				put(job, LINK_FEEDBACK, job->term, payload,
					link_feedback_encode(&feedback, payload));
				break;
			}
			case 3:
			{
				static uint8_t payload[LINK_NOTICE_MAX];

				if (one_in(rng, 4))
					put(job, LINK_NOTICE, job->term, payload,
						random_payload(rng, LINK_NOTICE, payload));
				break;
			}
		}
	}
	job->ending = one_in(rng, 2) ? END_WHENEVER : END_CLOSE;
}

Category strangers[] = {
	{.name = "closed at once", .weight = 15, .prepare = prepare_nothing},
	{.name = "random bytes", .weight = 20, .prepare = prepare_noise},
	{.name = "good beginning, then noise", .weight = 15, .prepare = prepare_prefix},
	{.name = "truncated at each length", .weight = 20, .prepare = prepare_truncated},
	{.name = "mutated beginning", .weight = 20, .prepare = prepare_mutated},
	{.name = "sound frames without a key", .weight = 5, .prepare = prepare_frames},
	{.name = "other protocol versions", .weight = 5, .prepare = prepare_version},
};

Category standbys[] = {
	{.name = "with key: damaged on the way",
	 .weight = 40,
	 .greet = greet_well,
	 .play = play_well,
	 .damaged = true},
	{.name = "with key: wrong greeting", .weight = 25, .greet = greet_badly, .play = play_well},
	{.name = "with key: frames out of order",
	 .weight = 15,
	 .greet = greet_well,
	 .play = play_out_of_order},
	{.name = "with key: impossible answers",
	 .weight = 10,
	 .greet = greet_well,
	 .play = play_impossible},
	{.name = "with key: strange answers", .weight = 10, .greet = greet_well, .play = play_strange},
};

Category closing = {.name = "a good standby afterwards", .greet = greet_well, .play = play_well};

int stranger_count = sizeof(strangers) / sizeof(strangers[0]);
int standby_count = sizeof(standbys) / sizeof(standbys[0]);

/* ------------------------------------------------------------------- before */

/* A TLS client's first message, to be cut and changed. */
void
record_client_hello(void)
{
	uint8_t key[LINK_KEY_SIZE] = {1};
	int fds[2];
	LinkConn *conn;
	ssize_t n;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
		die("socketpair: %s", strerror(errno));
	conn = link_conn_create(fds[0]);
	link_auth_client(conn, 1, key, true);
	(void) link_auth_step(conn);
	n = recv(fds[1], client_hello, sizeof(client_hello), 0);
	if (n <= 0)
		die("no ClientHello");
	client_hello_length = n;
	link_conn_destroy(conn);
	close(fds[1]);
}
