/*-------------------------------------------------------------------------
 *
 * linkpeer.c
 *	  A standby's side of the link handshake that can be made to lie.
 *
 * Gets an offer from a primary on a replication connection, as a standby's
 * walreceiver does, connects to the link's port, authenticates, greets, and
 * prints in one line what the primary answered:
 *
 *	welcome: node "alpha", term 1, incarnation 1, from 0/3000060
 *	refused (diverged): MESSAGE (hint: HINT)
 *	closed: what this side saw of it
 *
 * Everything it says is true unless an option falsifies it.  It exits with 0
 * when there was an answer, whatever it was, and with 2 when it could not ask.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "c.h"
#include "conn.h"
#include "port/pg_crc32c.h"

#define PATIENCE_MS 20000

typedef struct Offer
{
	uint64_t id;
	uint8_t key[LINK_KEY_SIZE];
	bool tls;
	char host[256];
	char port[16];
	LinkHello truth; /* what an honest standby without WAL of its own says */
} Offer;

/* What is to be falsified; strings are NULL and numbers negative if not. */
typedef struct Lies
{
	const char *id;
	bool wrong_key;
	bool use_key_twice;
	long version;
	long raw; /* random bytes instead of anything else */
	long truncate;
	bool wrong_frame; /* an answer instead of the greeting */
	const char *system;
	const char *timeline;
	bool wrong_timeline_history;
	const char *start;
	long wrong_tail; /* bytes */
	const char *name;
	const char *slot;
	const char *history;
	const char *acknowledge;
} Lies;

static void trouble(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

static void
trouble(const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "linkpeer: ");
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(2);
}

/* ------------------------------------------------------------- the offer */

static uint64_t
parse_lsn(const char *text)
{
	unsigned int hi;
	unsigned int lo;

	if (sscanf(text, "%X/%X", &hi, &lo) != 2)
		trouble("\"%s\" is not an LSN", text);
	return ((uint64_t) hi) << 32 | lo;
}

/* "term.incarnation.timeline.start.nonce,..." */
static void
parse_history(const char *text, LinkHistory *history)
{
	char *copy = strdup(text);
	char *save;

	history->count = 0;
	for (char *word = strtok_r(copy, ",", &save); word != NULL; word = strtok_r(NULL, ",", &save))
	{
		LinkIncarnation *entry = &history->entry[history->count++];

		if (sscanf(word, "%" SCNu64 ".%" SCNu32 ".%" SCNu32 ".%" SCNx64 ".%" SCNx64, &entry->term,
				   &entry->incarnation, &entry->timeline, &entry->start, &entry->nonce) != 5)
			trouble("\"%s\" is not an incarnation", word);
	}
	free(copy);
}

/* Timeline 1 has no history file; its history is one entry without a begin. */
static uint32_t
crc_of_timeline_one(void)
{
	uint32_t tli = 1;
	uint64_t begin = 0;
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, &tli, sizeof(tli));
	COMP_CRC32C(crc, &begin, sizeof(begin));
	FIN_CRC32C(crc);
	return crc;
}

static void
parse_offer(const char *text, Offer *offer)
{
	char *copy = strdup(text);
	char *save;

	for (char *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
	{
		char *value = strchr(word, '=');

		if (value == NULL)
			trouble("no offer: \"%s\"", text);
		*value++ = '\0';
		if (strcmp(word, "id") == 0)
			offer->id = strtoull(value, NULL, 16);
		else if (strcmp(word, "key") == 0)
		{
			for (int i = 0; i < LINK_KEY_SIZE; i++)
			{
				unsigned int byte;

				if (sscanf(value + 2 * i, "%2x", &byte) != 1)
					trouble("no key: \"%s\"", value);
				offer->key[i] = (uint8_t) byte;
			}
		}
		else if (strcmp(word, "tls") == 0)
			offer->tls = strcmp(value, "1") == 0;
		else if (strcmp(word, "tli") == 0)
			offer->truth.timeline = (uint32_t) strtoul(value, NULL, 10);
		else if (strcmp(word, "sys") == 0)
			offer->truth.system_identifier = strtoull(value, NULL, 10);
		else if (strcmp(word, "hist") == 0)
			parse_history(value, &offer->truth.history);
		else if (strcmp(word, "addr") == 0 &&
				 sscanf(value, "%255[^:]:%15[0-9]", offer->host, offer->port) != 2)
			trouble("no address: \"%s\"", value);
	}
	free(copy);
	if (offer->id == 0 || offer->host[0] == '\0')
		trouble("no offer: \"%s\"", text);
}

static char *
ask(PGconn *pg, const char *query, int column)
{
	PGresult *result = PQexec(pg, query);
	char *answer;

	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
		trouble("%s: %s", query, PQerrorMessage(pg));
	answer = strdup(PQgetvalue(result, 0, column));
	PQclear(result);
	return answer;
}

static void
get_offer(PGconn *pg, Offer *offer)
{
	char *text = ask(pg, "SHOW tandem.link_offer", 0);
	char *end = ask(pg, "IDENTIFY_SYSTEM", 2);

	parse_offer(text, offer);
	offer->truth.start = parse_lsn(end);
	offer->truth.timeline_crc = crc_of_timeline_one();
	offer->truth.instance = (uint64_t) getpid();
	strcpy(offer->truth.node_name, "linkpeer");
	free(text);
	free(end);
}

/* -------------------------------------------------------------- the link */

static LinkConn *
open_link(const Offer *offer)
{
	struct addrinfo hint = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *to;
	LinkConn *conn;
	int fd;
	int connected;

	if (getaddrinfo(offer->host, offer->port, &hint, &to) != 0)
		trouble("there is no host %s", offer->host);
	fd = link_tcp_connect(to->ai_addr, to->ai_addrlen);
	if (fd < 0)
		trouble("could not connect to %s port %s: %s", offer->host, offer->port, strerror(errno));
	freeaddrinfo(to);
	while ((connected = link_tcp_connect_finished(fd)) == LINK_IO_AGAIN)
	{
		struct pollfd wait = {.fd = fd, .events = POLLOUT};

		if (poll(&wait, 1, PATIENCE_MS) == 0)
			trouble("could not connect to %s port %s in time", offer->host, offer->port);
	}
	if (connected != 1)
		trouble("could not connect to %s port %s: %s", offer->host, offer->port, strerror(errno));
	conn = link_conn_create(fd);
	if (conn == NULL)
		trouble("out of memory");
	return conn;
}

static void
wait_for_link(const LinkConn *conn)
{
	struct pollfd wait = {.fd = conn->fd, .events = POLLIN};

	if (link_conn_wants_write(conn))
		wait.events |= POLLOUT;
	if (poll(&wait, 1, PATIENCE_MS) == 0)
		trouble("the primary does not answer");
}

/* Frames that are to go out become those of another version of the protocol. */
static void
falsify_version(LinkConn *conn, long version)
{
	if (version >= 0 && link_out_pending(conn) > 0)
		conn->out.data[conn->out.start + 4] = (uint8_t) version;
}

/* True when both sides have proved the key; else the answer has been printed. */
static bool
authenticate(LinkConn *conn, const Offer *offer, const Lies *lies)
{
	int result;

	link_auth_client(conn, offer->id, offer->key, offer->tls);
	if (lies->version >= 0 && !offer->tls)
	{
		/* by hand, because link_auth_step() would send it at once */
		LinkAuthClient msg = {.id = offer->id};
		LinkHeader header = {.type = LINK_AUTH_CLIENT};
		uint8_t payload[sizeof(msg)];

		(void) link_frame_put(conn, &header, payload, link_auth_client_encode(&msg, payload));
		falsify_version(conn, lies->version);
		(void) link_flush(conn);
		conn->auth.state = LINK_AUTH_CHALLENGE;
	}
	while ((result = link_auth_step(conn)) == LINK_IO_AGAIN)
		wait_for_link(conn);
	if (result != 1)
		printf("closed: %s\n", link_conn_error(conn));
	return result == 1;
}

static void
falsify_hello(LinkHello *hello, const Lies *lies)
{
	if (lies->system != NULL)
		hello->system_identifier = strtoull(lies->system, NULL, 10);
	if (lies->timeline != NULL)
		hello->timeline = (uint32_t) strtoul(lies->timeline, NULL, 10);
	if (lies->wrong_timeline_history)
		hello->timeline_crc ^= 1;
	if (lies->start != NULL)
		hello->start = parse_lsn(lies->start);
	if (lies->wrong_tail > 0)
	{
		hello->check_to = hello->start;
		hello->check_from = hello->start - (uint64_t) lies->wrong_tail;
		hello->check_crc = 0x12345678;
	}
	if (lies->name != NULL)
		snprintf(hello->node_name, sizeof(hello->node_name), "%s", lies->name);
	if (lies->slot != NULL)
		snprintf(hello->slot_name, sizeof(hello->slot_name), "%s", lies->slot);
	if (lies->history != NULL)
		parse_history(lies->history, &hello->history);
}

static void
greet(LinkConn *conn, const Offer *offer, const Lies *lies)
{
	static uint8_t payload[LINK_HELLO_MAX];
	LinkHello hello = offer->truth;
	LinkHeader header = {.type = LINK_HELLO};
	size_t length;

	falsify_hello(&hello, lies);
	header.term = hello.history.entry[hello.history.count - 1].term;
	header.lsn = hello.start;
	length = link_hello_encode(&hello, payload);
	if (lies->truncate > 0)
		length -= (size_t) lies->truncate;
	if (lies->wrong_frame)
	{
		LinkAck ack = {0};

		header.type = LINK_ACK;
		length = link_ack_encode(&ack, payload);
	}
	(void) link_frame_put(conn, &header, payload, length);
	falsify_version(conn, lies->version);
	while (link_flush(conn) == LINK_IO_AGAIN)
		wait_for_link(conn);
}

/* The next frame, or false: the connection has ended and that was printed. */
static bool
next_frame(LinkConn *conn, LinkHeader *header, const uint8_t **payload)
{
	for (;;)
	{
		LinkDecode decode = link_next(conn, header, payload);
		ssize_t n;

		if (decode == LINK_DECODE_OK)
			return true;
		if (decode != LINK_DECODE_MORE)
		{
			printf("closed: %s\n", link_decode_text(decode));
			return false;
		}
		n = link_fill(conn);
		if (n == LINK_IO_AGAIN)
			wait_for_link(conn);
		else if (n < 0)
		{
			printf("closed: %s\n", link_conn_error(conn));
			return false;
		}
	}
}

/* True if we are welcome; prints the answer in any case. */
static bool
print_answer(LinkConn *conn)
{
	LinkHeader header;
	const uint8_t *payload;
	LinkNotice notice;
	LinkWelcome welcome;

	if (!next_frame(conn, &header, &payload))
		return false;
	if (header.type == LINK_REFUSE && link_notice_decode(payload, header.length, &notice))
	{
		printf("refused (%s): %s", link_reason_text(notice.reason), notice.message);
		if (notice.hint[0] != '\0')
			printf(" (hint: %s)", notice.hint);
		printf("\n");
		return false;
	}
	if (header.type == LINK_WELCOME && link_welcome_decode(payload, header.length, &welcome))
	{
		printf("welcome: node \"%s\", term %" PRIu64 ", incarnation %u, from %X/%X\n",
			   welcome.node_name, header.term, welcome.incarnation, (uint32_t) (header.lsn >> 32),
			   (uint32_t) header.lsn);
		return true;
	}
	printf("closed: not an answer: a frame of type %d\n", header.type);
	return false;
}

/* Claim to have flushed WAL up to an LSN, and wait until the link ends. */
static void
acknowledge(LinkConn *conn, const Offer *offer, uint64_t lsn)
{
	const LinkHistory *history = &offer->truth.history;
	LinkAck ack = {.write = lsn, .flush = lsn, .apply = lsn};
	LinkHeader header = {.type = LINK_ACK, .lsn = lsn};
	uint8_t payload[sizeof(ack)];
	const uint8_t *ignored;

	header.term = history->entry[history->count - 1].term;
	(void) link_frame_put(conn, &header, payload, link_ack_encode(&ack, payload));
	while (link_flush(conn) == LINK_IO_AGAIN)
		wait_for_link(conn);
	while (next_frame(conn, &header, &ignored))
		;
}

/* Bytes that mean nothing, the same ones each time. */
static void
send_noise(LinkConn *conn, long count)
{
	uint64_t state = 88172645463325252ULL;

	for (long i = 0; i < count; i++)
	{
		uint8_t byte;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		byte = (uint8_t) state;
		if (send(conn->fd, &byte, 1, MSG_NOSIGNAL) != 1)
			break; /* the primary has had enough */
	}
	(void) print_answer(conn);
}

static void
act(const Offer *offer, const Lies *lies)
{
	LinkConn *conn = open_link(offer);

	if (lies->raw >= 0)
		send_noise(conn, lies->raw);
	else if (authenticate(conn, offer, lies))
	{
		greet(conn, offer, lies);
		if (print_answer(conn) && lies->acknowledge != NULL)
			acknowledge(conn, offer, parse_lsn(lies->acknowledge));
	}
	link_conn_destroy(conn);
}

/* ------------------------------------------------------------------ main */

static void
usage(FILE *to)
{
	fputs("usage: linkpeer [OPTION]... CONNINFO\n"
		  "  --show-offer           print the offer and do no more\n"
		  "  --no-tls-in-offer      ignore that the offer is for an encrypted link\n"
		  "  --id=HEX               another offer's number\n"
		  "  --wrong-key            another key than the offer's\n"
		  "  --use-key-twice        be welcome, leave, and come again with the same key\n"
		  "  --version=N            of the protocol, in the first frame\n"
		  "  --noise=N              N meaningless bytes instead of everything else\n"
		  "  --truncate=N           leave out the last N bytes of the greeting\n"
		  "  --wrong-frame          send an answer instead of the greeting\n"
		  "  --system=N             system identifier\n"
		  "  --timeline=N\n"
		  "  --wrong-timeline-history\n"
		  "  --start=LSN            where to resume\n"
		  "  --wrong-tail=N         hold other WAL in the N bytes before that\n"
		  "  --name=NAME            of the node\n"
		  "  --slot=NAME            replication slot\n"
		  "  --history=TEXT         incarnations: term.incarnation.timeline.start.nonce,...\n"
		  "  --acknowledge=LSN      when welcome, claim to have flushed up to here\n",
		  to);
}

int
main(int argc, char **argv)
{
	enum
	{
		SHOW_OFFER = 1,
		NO_TLS,
		ID,
		WRONG_KEY,
		USE_KEY_TWICE,
		VERSION,
		NOISE,
		TRUNCATE,
		WRONG_FRAME,
		SYSTEM,
		TIMELINE,
		WRONG_TIMELINE_HISTORY,
		START,
		WRONG_TAIL,
		NAME,
		SLOT,
		HISTORY,
		ACKNOWLEDGE
	};
	static const struct option long_options[] = {
		{"show-offer", no_argument, NULL, SHOW_OFFER},
		{"no-tls-in-offer", no_argument, NULL, NO_TLS},
		{"id", required_argument, NULL, ID},
		{"wrong-key", no_argument, NULL, WRONG_KEY},
		{"use-key-twice", no_argument, NULL, USE_KEY_TWICE},
		{"version", required_argument, NULL, VERSION},
		{"noise", required_argument, NULL, NOISE},
		{"truncate", required_argument, NULL, TRUNCATE},
		{"wrong-frame", no_argument, NULL, WRONG_FRAME},
		{"system", required_argument, NULL, SYSTEM},
		{"timeline", required_argument, NULL, TIMELINE},
		{"wrong-timeline-history", no_argument, NULL, WRONG_TIMELINE_HISTORY},
		{"start", required_argument, NULL, START},
		{"wrong-tail", required_argument, NULL, WRONG_TAIL},
		{"name", required_argument, NULL, NAME},
		{"slot", required_argument, NULL, SLOT},
		{"history", required_argument, NULL, HISTORY},
		{"acknowledge", required_argument, NULL, ACKNOWLEDGE},
		{NULL, 0, NULL, 0}};
	static Offer offer;
	Lies lies = {.version = -1, .raw = -1};
	bool show_offer = false;
	bool no_tls = false;
	PGconn *pg;
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
	{
		switch (option)
		{
			case SHOW_OFFER:
				show_offer = true;
				break;
			case NO_TLS:
				no_tls = true;
				break;
			case ID:
				lies.id = optarg;
				break;
			case WRONG_KEY:
				lies.wrong_key = true;
				break;
			case USE_KEY_TWICE:
				lies.use_key_twice = true;
				break;
			case VERSION:
				lies.version = atol(optarg);
				break;
			case NOISE:
				lies.raw = atol(optarg);
				break;
			case TRUNCATE:
				lies.truncate = atol(optarg);
				break;
			case WRONG_FRAME:
				lies.wrong_frame = true;
				break;
			case SYSTEM:
				lies.system = optarg;
				break;
			case TIMELINE:
				lies.timeline = optarg;
				break;
			case WRONG_TIMELINE_HISTORY:
				lies.wrong_timeline_history = true;
				break;
			case START:
				lies.start = optarg;
				break;
			case WRONG_TAIL:
				lies.wrong_tail = atol(optarg);
				break;
			case NAME:
				lies.name = optarg;
				break;
			case SLOT:
				lies.slot = optarg;
				break;
			case HISTORY:
				lies.history = optarg;
				break;
			case ACKNOWLEDGE:
				lies.acknowledge = optarg;
				break;
			default:
				usage(stderr);
				return 2;
		}
	}
	if (optind != argc - 1)
	{
		usage(stderr);
		return 2;
	}

	/* The connection is our admission: it stays open while we use the link. */
	pg = PQconnectdb(argv[optind]);
	if (PQstatus(pg) != CONNECTION_OK)
		trouble("%s", PQerrorMessage(pg));
	if (show_offer)
	{
		printf("offer: %s\n", ask(pg, "SHOW tandem.link_offer", 0));
		return 0;
	}
	get_offer(pg, &offer);
	if (lies.id != NULL)
		offer.id = strtoull(lies.id, NULL, 16);
	if (lies.wrong_key)
		offer.key[0] ^= 1;
	if (no_tls)
		offer.tls = false;
	act(&offer, &lies);
	if (lies.use_key_twice)
		act(&offer, &lies);
	PQfinish(pg);
	return 0;
}
