/*-------------------------------------------------------------------------
 *
 * conn.h
 *	  One connection of a link: a transport, two buffers, authentication.
 *
 * Nothing here blocks.  The owner waits for the descriptor to become readable
 * (and writable, while link_conn_wants_write()) with whatever event loop it
 * has, and calls in again.  With TLS the process must ignore SIGPIPE: OpenSSL
 * writes without MSG_NOSIGNAL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_CONN_H
#define TANDEM_LINK_CONN_H

#include <sys/socket.h>
#include <sys/types.h>

#include "compress.h"
#include "frame.h"

/* Results of everything that does input or output. */
#define LINK_IO_AGAIN  0  /* nothing could be done now; wait */
#define LINK_IO_CLOSED -1 /* the peer closed the connection */
#define LINK_IO_ERROR  -2 /* it failed: link_conn_error() says why */

typedef struct LinkConn LinkConn;
typedef struct LinkRing LinkRing; /* ring.h */

/*
 * A transport.  send and recv move some bytes and return their number, or one
 * of the LINK_IO_ values.  close releases what the transport holds, not the
 * descriptor.
 */
typedef struct LinkTransport
{
	const char *name;
	bool encrypted;
	ssize_t (*send)(LinkConn *conn, const void *data, size_t length);
	ssize_t (*recv)(LinkConn *conn, void *data, size_t length);
	void (*close)(LinkConn *conn);
} LinkTransport;

typedef struct LinkBuffer
{
	uint8_t *data;
	size_t size;
	size_t start; /* first byte in use */
	size_t end;   /* one past the last byte in use */
} LinkBuffer;

typedef enum LinkAuthState
{
	LINK_AUTH_START,
	LINK_AUTH_TLS,       /* TLS handshake under way */
	LINK_AUTH_CHALLENGE, /* server: waits for LINK_AUTH_PROOF; client: for
						  * LINK_AUTH_SERVER */
	LINK_AUTH_DONE
} LinkAuthState;

/*
 * Looks up the one-time key of offer 'id'; false if there is none, or if it
 * was made for the other kind of connection (encrypted or not).
 */
typedef bool (*LinkKeyLookup)(void *arg, uint64_t id, bool tls, uint8_t *key);

typedef struct LinkAuth
{
	LinkAuthState state;
	bool server;
	bool tls;
	uint64_t id;
	bool found; /* server, TLS: 'key' is that of offer 'id' */
	uint8_t key[LINK_KEY_SIZE];
	uint8_t nonce[LINK_NONCE_SIZE];      /* ours */
	uint8_t peer_nonce[LINK_NONCE_SIZE]; /* theirs */
	LinkKeyLookup lookup;                /* server only */
	void *lookup_arg;
} LinkAuth;

struct LinkConn
{
	const LinkTransport *transport;
	int fd;    /* owned */
	void *tls; /* SSL *, owned, or NULL */
	bool tls_wants_write;
	bool drained; /* the last fill took all there was */
	LinkBuffer in;
	LinkBuffer out;
	LinkAuth auth;
	LinkCodec *codec;  /* owned; NULL: WAL is not compressed */
	LinkRing *ring;    /* of RDMA (switch.h), owned; NULL: never tried */
	uint64_t bytes_in; /* on the wire above TCP, TLS records not counted */
	uint64_t bytes_out;
	char error[256];
};

/*
 * Life.  create takes over a connected (or connecting) non-blocking stream
 * socket; NULL when out of memory, the descriptor is then still the caller's.
 * destroy closes it and accepts NULL.
 */
extern LinkConn *link_conn_create(int fd);
extern void link_conn_destroy(LinkConn *conn);
extern const char *link_conn_error(const LinkConn *conn);
extern bool link_conn_wants_write(const LinkConn *conn);

/*
 * TCP.  listen and connect return a non-blocking, close-on-exec descriptor or
 * -1 with errno; connect_finished returns LINK_IO_AGAIN while it is under
 * way, 1 when connected, or LINK_IO_ERROR with errno.  set_options turns off
 * Nagle and has the kernel give up on unanswered data after 'timeout_ms'.
 */
extern int link_tcp_listen(const struct sockaddr *address, socklen_t length);
extern int link_tcp_connect(const struct sockaddr *address, socklen_t length);
extern int link_tcp_connect_finished(int fd);
extern void link_tcp_set_options(int fd, int timeout_ms);
extern const LinkTransport link_tcp_transport;

/*
 * What TCP can be told about one link (tune.c): its congestion control by the
 * kernel's name; how fast it may send, bytes a second (0: as fast as it goes);
 * its send buffer, bytes; and how much may lie in that unsent before the
 * descriptor is no longer writable.  The set functions return 0, or -1 with
 * errno.
 */
extern int link_tcp_set_congestion(int fd, const char *name);
extern bool link_tcp_congestion(int fd, char *name, size_t size);
extern int link_tcp_set_rate(int fd, uint64_t rate);
extern int link_tcp_set_send_buffer(int fd, uint64_t bytes);
extern int link_tcp_set_unsent(int fd, uint64_t bytes);

/*
 * TLS 1.3 with the one-time key as external pre-shared key (RFC 8446, 4.2.11).
 * handshake returns 1 when done, else a LINK_IO_ value.
 */
extern bool link_tls_start(LinkConn *conn);
extern int link_tls_handshake(LinkConn *conn);
extern const LinkTransport link_tls_transport;

/*
 * Authentication.  step returns 1 when both sides have proved the key, else a
 * LINK_IO_ value.  Until then no other frame may be sent or taken.
 */
extern void link_auth_client(LinkConn *conn, uint64_t id, const uint8_t *key, bool tls);
extern void link_auth_server(LinkConn *conn, LinkKeyLookup lookup, void *arg);
extern int link_auth_step(LinkConn *conn);

/*
 * Frames out.  begin returns where to put 'length' bytes of payload, or NULL
 * while the buffer has no room for them; end completes the frame (header
 * length and CRCs are filled in).  put does both for a ready payload and
 * returns false when there is no room.  flush sends what is buffered: 1 when
 * all of it has gone, else a LINK_IO_ value.
 */
extern uint8_t *link_frame_begin(LinkConn *conn, size_t length);
extern void link_frame_end(LinkConn *conn, LinkHeader *header, size_t length);
extern bool link_frame_put(LinkConn *conn, LinkHeader *header, const void *payload, size_t length);
extern size_t link_out_pending(const LinkConn *conn);
extern int link_flush(LinkConn *conn);

/*
 * Compression, agreed on in the handshake: the sending side says what it does
 * with WAL, the other one what it gets.  False when out of memory.
 *
 * WAL out: begin and end are those of frames, with the WAL compressed between
 * the two if that was agreed on.  Then a frame takes less: link_wal_max() is
 * how much.  end returns false, with an error, when the codec fails.
 */
extern bool link_conn_compress(LinkConn *conn, LinkCompression kind, bool sends, int level);
extern size_t link_wal_max(const LinkConn *conn);
extern uint8_t *link_wal_begin(LinkConn *conn, size_t length);
extern bool link_wal_end(LinkConn *conn, LinkHeader *header, size_t length);

/*
 * Frames in.  fill reads once and returns the number of bytes, or a LINK_IO_
 * value; it sets 'drained' when there was no more than that.  next takes one frame out of the buffer, and
 * decompresses it; its payload stays valid until the following call of fill or
 * next.  Anything but OK and MORE means
 * that the connection is of no more use.
 */
extern ssize_t link_fill(LinkConn *conn);
extern LinkDecode link_next(LinkConn *conn, LinkHeader *header, const uint8_t **payload);

#endif /* TANDEM_LINK_CONN_H */
