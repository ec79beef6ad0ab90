/*-------------------------------------------------------------------------
 *
 * pair.h
 *	  Two ends of a link in one process, for the tests of connections.
 *
 * Both ends are driven as their owners drive them: wait for the descriptor,
 * call in, wait again.  Nothing waits longer than DEADLINE_MS for something
 * to happen.  A relay between the ends stands for the network when it has to
 * be cut, changed or overheard.  All of it fails the running test when
 * something is not as it should be.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_TEST_PAIR_H
#define TANDEM_TEST_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/socket.h>

#include <cmocka.h>

#include "conn.h"

#define DEADLINE_MS 20000
#define OFFER_ID    UINT64_C(0x1122334455667788)

enum
{
	CLIENT,
	SERVER
};

typedef enum Wire
{
	WIRE_UNIX,
	WIRE_TCP,
	WIRE_TCP6,
	WIRE_RELAY
} Wire;

/* The primary's offers: one. */
typedef struct Store
{
	uint64_t id;
	bool tls;
	uint8_t key[LINK_KEY_SIZE];
	bool used;
	int lookups;
} Store;

/* A network that can be told to misbehave. */
typedef struct Relay
{
	int end[2];       /* CLIENT: towards the client */
	size_t passed[2]; /* bytes that came from this end */
	size_t limit[2];  /* after which all is closed */
	ssize_t flip[2];  /* bit to change, or -1 */
	uint8_t *seen[2]; /* what passed, if it is to be kept */
	size_t seen_size;
	bool open;
} Relay;

typedef struct Session
{
	LinkConn *conn[2];
	int result[2]; /* of authentication */
	char error[2][256];
	Store store;
	Relay relay;
	bool relayed;
} Session;

extern int64_t now_ms(void);

/* sockets; await fails the test when nothing comes */
extern void make_unix_pair(int fds[2]);
extern void await(int fd, short events);
extern socklen_t loopback(bool v6, int port, struct sockaddr_storage *address);
extern int bound_port(int fd);
extern void make_tcp_pair(int fds[2], bool v6);
extern bool have_ipv6(void);
extern void raw_write(int fd, const void *data, size_t length);

/* step carries what came from one end to the other; true if there was any */
extern bool relay_step(Relay *relay, int from);
extern void relay_close(Relay *relay);

/*
 * Sessions: open makes both ends, prepare gives both the same offer, auth runs
 * until each side's result is 1 or negative (a side that failed is dropped and
 * its message kept).  With patience, auth returns when nothing has happened
 * for so many milliseconds.
 */
extern bool find_key(void *arg, uint64_t id, bool tls, uint8_t *key);
extern void session_open(Session *s, Wire wire);
extern void session_close(Session *s);
extern void session_drop(Session *s, int side);
extern void session_prepare(Session *s, bool tls);
extern void session_auth_patient(Session *s, int patience);
extern void session_auth(Session *s);
extern void assert_error(Session *s, int side, const char *text);
extern void session_authenticated(Session *s, Wire wire, bool tls);

/*
 * Traffic: frame n of a stream has a length and a payload that follow from n.
 * exchange sends 'bytes' each way at once, in frames of up to 'max'.
 */
extern size_t stream_length(uint32_t n, size_t max);
extern void stream_payload(uint32_t n, uint8_t *to, size_t length);
extern bool stream_put(LinkConn *conn, uint32_t n, size_t length);
extern void
stream_check(const LinkHeader *header, const uint8_t *payload, uint32_t n, size_t length);
extern void exchange(Session *s, size_t bytes, size_t max);

/* A connection, and a descriptor in place of its peer. */
extern LinkConn *raw_pair(int *other);
/* its authentication, until it waits (LINK_IO_AGAIN) or ends */
extern int drive(LinkConn *conn);
/* a server under attack; *other is the attacker's end */
extern LinkConn *attacked_server(int *other, Store *store);
extern size_t make_frame(uint8_t *buf, LinkFrameType type, const void *payload, size_t length);

/* For main(): the last test of a group checks what the others left open. */
extern int before_all(void **state);
extern void test_no_descriptor_left(void **state);
extern int ignore_sigpipe(void **state);

/*
 * OpenSSL writes without MSG_NOSIGNAL, so the owner of a TLS link ignores
 * SIGPIPE, as every PostgreSQL process does.  The tests without TLS come
 * first and run with the signal armed: nothing else needs that.
 */
#define tls_test(f) cmocka_unit_test_setup(f, ignore_sigpipe)

#endif /* TANDEM_TEST_PAIR_H */
