/*
 * ledger.c
 *		Keeps, outside the database, a list of the commits that were acknowledged,
 *		and later counts which of them are still there.
 *
 * Each client of "ledger run" is a thread with a connection of its own.  It inserts
 * rows (client, seq), one row per transaction, and appends "client seq" to the list
 * when, and only when, the server has acknowledged the commit:
 *
 * - The insert is sent with the simple protocol.  There the server commits, and waits
 *	 for its standby, before it sends the success.  (With the extended protocol the
 *	 success of the statement comes first and the commit after it.)
 * - A success with a WARNING is no acknowledgement: a cancelled wait for the standby
 *	 ends like that, committed here and nobody knows where else.
 * - When the connection is lost before the answer, the commit's fate is unknown.  The row
 *	 is never sent again; the client goes on with the next seq.
 *
 * So every line in the list was promised to a client, and whatever becomes of the
 * servers, it has to be there afterwards.  Rows that are there but not in the list
 * prove nothing, and are not counted.
 *
 * The list outlives several runs: seq starts at the clock's microseconds, so that no
 * two runs write the same row.  (Two runs at the same time need clients with other numbers:
 * --first.)
 *
 * With --timeout a client does not wait for a server that may be dead: whatever is not answered
 * in time is given up, an insert with its fate unknown, and the client connects anew.  So the time
 * without acknowledged commits is not longer by much than the time in which none was possible.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define NSEC_PER_SEC  INT64_C(1000000000)
#define NSEC_PER_MSEC INT64_C(1000000)

/* Exit codes: what was asked for does not hold; it could not be found out. */
#define EXIT_LOST     1
#define EXIT_TROUBLE  2

/* After a failure a client waits this long, and twice as long after each further one; with
 * --timeout always the shorter time. */
#define BACKOFF_MIN   (20 * NSEC_PER_MSEC)
#define BACKOFF_MAX   (500 * NSEC_PER_MSEC)

/* How long "run" lets the inserts under way finish when it is told to end. */
#define FINISH_TIME   NSEC_PER_SEC

/* How many lost commits "check" names. */
#define LOST_NAMED    10

typedef struct Options
{
	const char *conninfo;
	const char *file;
	const char *sync_commit; /* NULL: as the server says */
	const char *times;       /* file; NULL: none */
	int clients;
	int first;      /* number of the first client */
	int timeout;    /* ms, for each connection and each insert; 0: none */
	double seconds; /* 0: until a signal */
	double rate;    /* inserts a second, all clients together; 0: as fast as they go */
} Options;

/* What the clients of a run share; everything is guarded by the lock. */
typedef struct Run
{
	const Options *options;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* stop was set, or a client ended */
	bool stop;
	int active; /* clients that have not ended */
	int fd;     /* the list */
	FILE *times;

	int64_t in_flight; /* inserts sent and not answered */
	int64_t acknowledged;
	int64_t unknown; /* may have been committed, or not */
	int64_t errors;  /* refused by the server, and connections that failed */
	int64_t last_ack;
	int64_t longest_gap; /* ns between two acknowledgements, of any clients */
} Run;

typedef struct Client
{
	Run *run;
	int number;
	PGconn *conn;
	bool warned; /* the server sent a WARNING since this was cleared */
} Client;

typedef struct Row
{
	int32_t client;
	int64_t seq;
} Row;

static void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void
die(const char *format, ...)
{
	char message[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	/* libpq's messages end their lines themselves */
	fprintf(stderr, "ledger: %s%s", message, message[strlen(message) - 1] == '\n' ? "" : "\n");
	exit(EXIT_TROUBLE);
}

static int64_t
now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* Waits, with the lock held, until something changed or the (monotonic) time has come. */
static void
wait_changed(Run *run, int64_t until)
{
	struct timespec ts = {.tv_sec = until / NSEC_PER_SEC, .tv_nsec = until % NSEC_PER_SEC};

	pthread_cond_timedwait(&run->changed, &run->lock, &ts);
}

/* Sleeps until the time has come; false if the run ends. */
static bool
sleep_until(Run *run, int64_t until)
{
	bool stop;

	pthread_mutex_lock(&run->lock);
	while (!run->stop && now(CLOCK_MONOTONIC) < until)
		wait_changed(run, until);
	stop = run->stop;
	pthread_mutex_unlock(&run->lock);
	return !stop;
}

/* Waits for the connection's socket; false if the (monotonic) time has come first. */
static bool
wait_socket(PGconn *conn, short events, int64_t until)
{
	struct pollfd fd = {.fd = PQsocket(conn), .events = events};
	int64_t left;

	while ((left = until - now(CLOCK_MONOTONIC)) > 0)
	{
		int n = poll(&fd, 1, (int) (left / NSEC_PER_MSEC) + 1);

		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
	}
	return false;
}

/*
 * Connects; the result may be a connection that failed, or (with --timeout) one that is not
 * complete: only CONNECTION_OK is good.  The defaults make a client notice within seconds that a server has vanished
 * without a word; the connection string may say otherwise.
 */
static PGconn *
connect_to(const Options *options)
{
	char command_line[64] = "";
	const char *keywords[] = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
							  "keepalives_count", "tcp_user_timeout", "fallback_application_name",
							  "dbname",           "options",          NULL};
	const char *values[] = {"2", "2", "1", "3", "5000", "ledger", options->conninfo, NULL, NULL};
	char user_timeout[16];
	PGconn *conn;
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	int64_t until = now(CLOCK_MONOTONIC) + options->timeout * NSEC_PER_MSEC;

	if (options->sync_commit != NULL)
	{
		snprintf(command_line, sizeof(command_line), "-c synchronous_commit=%s",
				 options->sync_commit);
		values[7] = command_line;
	}
	if (options->timeout == 0)
		return PQconnectdbParams(keywords, values, 1);

	snprintf(user_timeout, sizeof(user_timeout), "%d", options->timeout);
	values[4] = user_timeout;
	conn = PQconnectStartParams(keywords, values, 1);
	while (PQstatus(conn) != CONNECTION_BAD && status != PGRES_POLLING_OK &&
		   status != PGRES_POLLING_FAILED)
	{
		if (!wait_socket(conn, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, until))
			break;
		status = PQconnectPoll(conn);
	}
	return conn;
}

static void
receive_notice(void *arg, const PGresult *result)
{
	Client *client = arg;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	if (severity != NULL && strcmp(severity, "WARNING") == 0)
		client->warned = true;
}

/* Appends a line to the list, in one write: lines of several runs do not mix. */
static void
record(Run *run, int client, int64_t seq, int64_t sent)
{
	char line[64];
	int length = snprintf(line, sizeof(line), "%d %" PRId64 "\n", client, seq);
	int64_t at = now(CLOCK_MONOTONIC);

	if (write(run->fd, line, length) != length)
		die("could not append to \"%s\": %s", run->options->file, strerror(errno));
	if (run->times != NULL && fprintf(run->times, "%d %" PRId64 " %" PRId64 " %" PRId64 "\n",
									  client, seq, sent / 1000, at / 1000) < 0)
		die("could not write to \"%s\": %s", run->options->times, strerror(errno));
	if (run->acknowledged++ > 0 && at - run->last_ack > run->longest_gap)
		run->longest_gap = at - run->last_ack;
	run->last_ack = at;
}

/* Sends a command and waits for its result; NULL if it is not there in time. */
static PGresult *
execute(const Client *client, const char *command)
{
	PGconn *conn = client->conn;
	int64_t until = now(CLOCK_MONOTONIC) + client->run->options->timeout * NSEC_PER_MSEC;
	PGresult *result;

	if (client->run->options->timeout == 0)
		return PQexec(conn, command);
	if (!PQsendQuery(conn, command))
		return NULL;
	while (PQisBusy(conn))
		if (!wait_socket(conn, POLLIN, until) || !PQconsumeInput(conn))
			return NULL;
	result = PQgetResult(conn);
	/* What follows the only result comes in the same message, or with the end of the connection. */
	PQclear(PQgetResult(conn));
	return result;
}

/* Inserts one row and enters what became of it; false if the client should back off. */
static bool
insert(Client *client, int64_t seq)
{
	Run *run = client->run;
	char command[96];
	PGresult *result;
	int64_t sent = now(CLOCK_MONOTONIC);
	bool done;

	snprintf(command, sizeof(command), "INSERT INTO ledger VALUES (%d, %" PRId64 ")",
			 client->number, seq);
	client->warned = false;

	pthread_mutex_lock(&run->lock);
	run->in_flight++;
	pthread_mutex_unlock(&run->lock);

	result = execute(client, command);
	done = PQresultStatus(result) == PGRES_COMMAND_OK;

	pthread_mutex_lock(&run->lock);
	run->in_flight--;
	if (done && !client->warned)
		record(run, client->number, seq, sent);
	else if (done || result == NULL || PQstatus(client->conn) != CONNECTION_OK)
		run->unknown++;
	else
		run->errors++; /* answered with an error: not committed, for certain */
	pthread_mutex_unlock(&run->lock);

	PQclear(result);
	return done;
}

static void *
client_main(void *arg)
{
	Client *client = arg;
	Run *run = client->run;
	const Options *options = run->options;
	int64_t interval = options->rate > 0 ? options->clients * NSEC_PER_SEC / options->rate : 0;
	int64_t seq = now(CLOCK_REALTIME) / 1000;
	int64_t due = now(CLOCK_MONOTONIC) +
				  interval * (client->number - options->first) / options->clients;
	int64_t backoff_max = options->timeout > 0 ? BACKOFF_MIN : BACKOFF_MAX;
	int64_t backoff = BACKOFF_MIN;

	while (sleep_until(run, due))
	{
		int64_t start = now(CLOCK_MONOTONIC);
		bool good;

		if (client->conn == NULL)
		{
			client->conn = connect_to(options);
			PQsetNoticeReceiver(client->conn, receive_notice, client);
			good = PQstatus(client->conn) == CONNECTION_OK;
			if (!good)
			{
				pthread_mutex_lock(&run->lock);
				run->errors++;
				pthread_mutex_unlock(&run->lock);
			}
		}
		else
		{
			good = insert(client, seq++);
			if (good)
			{
				backoff = BACKOFF_MIN;
				due += interval;
			}
		}

		/* After any failure start over: another server may be the one to write to now. */
		if (!good)
		{
			PQfinish(client->conn);
			client->conn = NULL;
			due = now(CLOCK_MONOTONIC) + backoff;
			backoff = backoff * 2 < backoff_max ? backoff * 2 : backoff_max;
		}
		/* What was not sent while the server kept us waiting is not made up for. */
		if (due < start)
			due = start;
	}
	PQfinish(client->conn);

	pthread_mutex_lock(&run->lock);
	run->active--;
	pthread_cond_broadcast(&run->changed);
	pthread_mutex_unlock(&run->lock);
	return NULL;
}

/*
 * SIGINT and SIGTERM are only ever taken by sigtimedwait.  They must not be ignored for
 * that, which is what a shell does to SIGINT in the commands it runs in the background.
 */
static void
block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	pthread_sigmask(SIG_BLOCK, set, NULL);
}

/* Returns when a signal tells to end, or the time given is over. */
static void
wait_for_end(const sigset_t *signals, double seconds)
{
	int64_t end = now(CLOCK_MONOTONIC) + (int64_t) (seconds * NSEC_PER_SEC);

	for (;;)
	{
		int64_t left = seconds > 0 ? end - now(CLOCK_MONOTONIC) : 3600 * NSEC_PER_SEC;
		struct timespec ts = {.tv_sec = left / NSEC_PER_SEC, .tv_nsec = left % NSEC_PER_SEC};

		if (left <= 0 || sigtimedwait(signals, NULL, &ts) > 0)
			return;
	}
}

static int
ledger_run(const Options *options)
{
	Run run = {.options = options, .active = options->clients};
	Client *clients = calloc(options->clients, sizeof(Client));
	pthread_condattr_t monotonic;
	sigset_t signals;
	int64_t give_up;

	if (clients == NULL)
		die("out of memory");
	run.fd = open(options->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (run.fd < 0)
		die("could not open \"%s\": %s", options->file, strerror(errno));
	if (options->times != NULL)
	{
		run.times = fopen(options->times, "ae");
		if (run.times == NULL)
			die("could not open \"%s\": %s", options->times, strerror(errno));
		setlinebuf(run.times);
	}
	block_signals(&signals);
	pthread_mutex_init(&run.lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&run.changed, &monotonic);

	for (int i = 0; i < options->clients; i++)
	{
		pthread_t thread;

		clients[i].run = &run;
		clients[i].number = options->first + i;
		errno = pthread_create(&thread, NULL, client_main, &clients[i]);
		if (errno != 0)
			die("could not start a thread: %s", strerror(errno));
		pthread_detach(thread);
	}

	wait_for_end(&signals, options->seconds);

	/*
	 * Some clients may wait for an answer that does not come.  They are left where they are
	 * when the process exits, and the lock is kept so that nothing changes after the report.
	 */
	pthread_mutex_lock(&run.lock);
	run.stop = true;
	pthread_cond_broadcast(&run.changed);
	give_up = now(CLOCK_MONOTONIC) + FINISH_TIME;
	while (run.active > 0 && now(CLOCK_MONOTONIC) < give_up)
		wait_changed(&run, give_up);

	printf("acknowledged %" PRId64 ", unknown %" PRId64 ", errors %" PRId64
		   ", longest gap between acknowledgements %" PRId64 " ms\n",
		   run.acknowledged, run.unknown + run.in_flight, run.errors,
		   run.longest_gap / NSEC_PER_MSEC);
	fflush(stdout);
	_exit(0);
}

static int
ledger_init(const Options *options)
{
	PGconn *conn = connect_to(options);
	PGresult *result;

	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	result =
		PQexec(conn, "CREATE TABLE ledger (client int, seq bigint, PRIMARY KEY (client, seq))");
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("%s", PQerrorMessage(conn));
	PQclear(result);
	PQfinish(conn);
	return 0;
}

static int
compare_rows(const void *a, const void *b)
{
	const Row *left = a;
	const Row *right = b;

	if (left->client != right->client)
		return left->client < right->client ? -1 : 1;
	return (left->seq > right->seq) - (left->seq < right->seq);
}

/* Reads the list, sorted.  A line that is none says that the list cannot be trusted. */
static Row *
read_list(const char *name, size_t *count)
{
	FILE *file = fopen(name, "r");
	Row *rows = NULL;
	size_t room = 0;
	char line[64];

	if (file == NULL)
		die("could not open \"%s\": %s", name, strerror(errno));
	*count = 0;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		char newline;
		Row row;

		if (sscanf(line, "%" SCNd32 " %" SCNd64 "%c", &row.client, &row.seq, &newline) != 3 ||
			newline != '\n')
			die("line %zu of \"%s\" is not an entry", *count + 1, name);
		if (*count == room)
		{
			room = room ? room * 2 : 1024;
			rows = realloc(rows, room * sizeof(Row));
			if (rows == NULL)
				die("out of memory");
		}
		rows[(*count)++] = row;
	}
	if (ferror(file))
		die("could not read \"%s\": %s", name, strerror(errno));
	fclose(file);
	if (*count > 0)
		qsort(rows, *count, sizeof(Row), compare_rows);
	return rows;
}

/* Fetches the next row of the table, in the order of the list; false at its end. */
static bool
next_present(PGconn *conn, Row *row)
{
	char *line;
	int length = PQgetCopyData(conn, &line, 0);

	if (length == -1)
	{
		PGresult *result = PQgetResult(conn);

		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			die("%s", PQerrorMessage(conn));
		PQclear(result);
		return false;
	}
	if (length < 0)
		die("%s", PQerrorMessage(conn));
	if (sscanf(line, "%" SCNd32 "\t%" SCNd64, &row->client, &row->seq) != 2)
		die("unexpected row in table ledger: %s", line);
	PQfreemem(line);
	return true;
}

/*
 * Compares the list with the table.  It only reads, so it can be asked of a standby too.
 */
static int
ledger_check(const Options *options)
{
	size_t count;
	size_t present = 0;
	Row *list = read_list(options->file, &count);
	Row row;
	PGconn *conn = connect_to(options);
	PGresult *result;
	bool more;

	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	result = PQexec(conn, "COPY (SELECT client, seq FROM ledger ORDER BY client, seq) TO STDOUT");
	if (PQresultStatus(result) != PGRES_COPY_OUT)
		die("%s", PQerrorMessage(conn));
	PQclear(result);

	more = next_present(conn, &row);
	for (size_t i = 0; i < count; i++)
	{
		while (more && compare_rows(&row, &list[i]) < 0)
			more = next_present(conn, &row);
		if (more && compare_rows(&row, &list[i]) == 0)
			present++;
		else if (i - present < LOST_NAMED)
			fprintf(stderr, "lost: client %" PRId32 ", seq %" PRId64 "\n", list[i].client,
					list[i].seq);
	}
	while (more)
		more = next_present(conn, &row);
	PQfinish(conn);
	free(list);

	printf("%zu commits acknowledged, %zu present, %zu lost\n", count, present, count - present);
	return count == 0 || present < count ? EXIT_LOST : 0;
}

static void
usage(FILE *to)
{
	fputs(
		"usage:\n"
		"  ledger init  --conninfo STR\n"
		"  ledger run   --conninfo STR --clients N --file F [--seconds S] [--rate R]\n"
		"               [--sync-commit LEVEL] [--timeout MS] [--first N] [--times T]\n"
		"  ledger check --conninfo STR --file F\n"
		"\n"
		"init creates the table ledger. run inserts into it and appends every acknowledged\n"
		"commit to F, until S seconds are over or SIGINT or SIGTERM comes; R is the number of\n"
		"inserts a second, of all clients together. It outlives the servers: name all of them\n"
		"in the connection string, with target_session_attrs=read-write. A client gives up what\n"
		"is not answered within MS milliseconds, and connects anew. Clients have the numbers\n"
		"from N on. T gets a line per acknowledged commit: client, seq, when it was sent and when\n"
		"acknowledged, in microseconds of CLOCK_MONOTONIC. check compares F with the table; it\n"
		"exits with 1 if a commit is lost, or none was acknowledged.\n",
		to);
}

static double
number_argument(const char *name, const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= least && value <= most))
		die("--%s must be a number from %g to %g, not \"%s\"", name, least, most, text);
	return value;
}

/* The level goes into a command line for the server, so it must be a bare word. */
static const char *
word_argument(const char *name, const char *text)
{
	size_t length = strlen(text);

	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char) text[i]) && text[i] != '_')
			length = 0;
	if (length == 0 || length > 20)
		die("--%s must be a level of synchronous_commit, not \"%s\"", name, text);
	return text;
}

int
main(int argc, char **argv)
{
	enum
	{
		CONNINFO,
		CLIENTS,
		FILE_NAME,
		SECONDS,
		RATE,
		SYNC_COMMIT,
		TIMEOUT,
		FIRST,
		TIMES,
		HELP
	};
	static const struct option long_options[] = {
		{"conninfo", required_argument, NULL, CONNINFO},
		{"clients", required_argument, NULL, CLIENTS},
		{"file", required_argument, NULL, FILE_NAME},
		{"seconds", required_argument, NULL, SECONDS},
		{"rate", required_argument, NULL, RATE},
		{"sync-commit", required_argument, NULL, SYNC_COMMIT},
		{"timeout", required_argument, NULL, TIMEOUT},
		{"first", required_argument, NULL, FIRST},
		{"times", required_argument, NULL, TIMES},
		{"help", no_argument, NULL, HELP},
		{NULL, 0, NULL, 0},
	};
	static const struct
	{
		const char *name;
		int (*function)(const Options *);
		bool needs_clients;
		bool needs_file;
	} commands[] = {
		{"init", ledger_init, false, false},
		{"run", ledger_run, true, true},
		{"check", ledger_check, false, true},
	};
	Options options = {0};
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
	{
		switch (option)
		{
			case CONNINFO:
				options.conninfo = optarg;
				break;
			case CLIENTS:
				options.clients = (int) number_argument("clients", optarg, 1, 1000);
				break;
			case FILE_NAME:
				options.file = optarg;
				break;
			case SECONDS:
				options.seconds = number_argument("seconds", optarg, 0, 1e8);
				break;
			case RATE:
				options.rate = number_argument("rate", optarg, 0.001, 1e6);
				break;
			case SYNC_COMMIT:
				options.sync_commit = word_argument("sync-commit", optarg);
				break;
			case TIMEOUT:
				options.timeout = (int) number_argument("timeout", optarg, 0, 1e6);
				break;
			case FIRST:
				options.first = (int) number_argument("first", optarg, 0, 1e9);
				break;
			case TIMES:
				options.times = optarg;
				break;
			case HELP:
				usage(stdout);
				return 0;
			default:
				usage(stderr);
				return EXIT_TROUBLE;
		}
	}

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
	{
		if (optind != argc - 1 || strcmp(argv[optind], commands[i].name) != 0)
			continue;
		if (options.conninfo == NULL || (commands[i].needs_clients && options.clients == 0) ||
			(commands[i].needs_file && options.file == NULL))
			break;
		return commands[i].function(&options);
	}
	usage(stderr);
	return EXIT_TROUBLE;
}
