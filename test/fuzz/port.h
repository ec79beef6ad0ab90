/*-------------------------------------------------------------------------
 *
 * port.h
 *	  What the parts of the port fuzzer share, see port.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_PORT_H
#define TANDEM_PORT_H

#include <libpq-fe.h>

#include "conn.h"
#include "fuzz.h"

#define MAX_JOBS     64
#define MAX_BROKERS  8
#define PATIENCE_MS  12000 /* for the server to close what was ended */
#define AT_ONCE_MS   2500  /* ... because of what was said: less than tandem.link_timeout */
#define MAX_FAILURES 50
#define QUIET_MS     40 /* a damaged session may wait for ever: not longer than this */
#define HEARD_SIZE   4096
#define MAX_OUT      (2 * MAX_FRAME)
/* node name of our standbys */
#define LINK_NODE    "fuzz"

/* ------------------------------------------------------------------ offers */

/* What SHOW tandem.link_offer told. */
typedef struct Told
{
	uint64_t id;
	uint8_t key[LINK_KEY_SIZE];
	bool tls;
	uint32_t timeline;
	uint64_t system_identifier;
	LinkHistory history;
} Told;

/* A replication connection, whose walsender makes one offer at a time. */
typedef struct Broker
{
	PGconn *pg;
	bool busy;
} Broker;

/* -------------------------------------------------------------------- jobs */

typedef struct Job Job;

typedef struct Category
{
	const char *name;
	int weight;                /* among strangers, or among standbys */
	void (*prepare)(Job *job); /* stranger: what to say */
	void (*greet)(Job *job);   /* standby: after authentication */
	void (*play)(Job *job);    /* standby: after the welcome */
	bool damaged;              /* standby: by a bad network */
	long runs;
	long welcomed;
	long refused; /* by a LINK_REFUSE frame */
	long dropped; /* standby: to make room for another */
	long failed;
	char why[200]; /* of the first failure */
} Category;

typedef enum Ending
{
	END_CLOSE,   /* close at once */
	END_RESET,   /* the same, with a reset */
	END_HALF,    /* close our half: the server must close then */
	END_WAIT,    /* the server must close by itself */
	END_WHENEVER /* the server may close; if it is quiet for long, we do */
} Ending;

typedef enum Phase
{
	IDLE,
	CONNECTING,
	TALKING, /* a stranger */
	AUTHENTICATING,
	GREETED,
	PLAYED,
	ENDING
} Phase;

struct Job
{
	Phase phase;
	Category *category;
	long number;
	Rng rng;
	int fd; /* to the server */
	int64_t deadline;
	int64_t quiet_since;
	Ending ending;

	/* a stranger's */
	uint8_t *out;
	size_t out_length;
	size_t out_sent;

	/* a standby's */
	Broker *broker;
	Told told;
	LinkConn *conn;
	uint64_t start; /* where the stream was asked for */
	uint64_t term;
	uint64_t sent; /* end of what the server sent */
	bool final;    /* the proper handshake at the end */
	bool welcome;

	/* between conn and fd, when the network is bad: the other end, or -1 */
	int relay;
	size_t relayed;
	size_t damage_at;
	bool damage_done;

	/* what the server said to a stranger */
	uint8_t heard[HEARD_SIZE];
	size_t heard_length;
};

/* --------------------------------------------------------------- port.c */

extern Job jobs[];
extern int job_count;
extern const char *conninfo;
extern PGconn *control;

extern bool job_start(Job *job, long number, Broker *broker, Category *category);
extern void poll_jobs(int timeout);
extern int active_jobs(void);
extern int64_t now_ms(void);
extern void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
extern void fail(Job *job, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---------------------------------------------------------- port_offer.c */

extern Broker brokers[];
extern int broker_count;

extern bool broker_ask(Broker *broker, Told *told, uint64_t *start);
extern Broker *free_broker(void);

/* ----------------------------------------------------------- port_talk.c */

extern Category strangers[];
extern int stranger_count;
extern Category standbys[];
extern int standby_count;
extern Category closing;

extern void record_client_hello(void);
extern void greet_well(Job *job);
extern void greet_badly(Job *job);

/* ---------------------------------------------------------- port_check.c */

extern int checks_passed;
extern int checks_failed;

extern void check_server(const char *workers);
extern void check_good_standby(void);
extern char *query(const char *sql);

#endif /* TANDEM_PORT_H */
