/*-------------------------------------------------------------------------
 *
 * tls.c
 *	  TLS 1.3 with an external pre-shared key, by OpenSSL.
 *
 * The key comes from the offer that the standby got on its authenticated
 * PostgreSQL connection, so there are no certificates: the handshake proves
 * to each side that the other one has the key.  The key exchange is
 * psk_dhe_ke, OpenSSL's default, which keeps recorded traffic secret even
 * from who learns the key later.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

#include "conn.h"

/* external keys are bound to one hash; this is the suite RFC 8446 demands */
static const unsigned char cipher_id[2] = {0x13, 0x01};
#define CIPHER_NAME "TLS_AES_128_GCM_SHA256"

static SSL_CTX *client_context;
static SSL_CTX *server_context;

/* A TLS session that exists only to carry the key into the handshake. */
static SSL_SESSION *
key_session(SSL *ssl, const uint8_t *key)
{
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, cipher_id);
	SSL_SESSION *session = SSL_SESSION_new();

	if (session != NULL && cipher != NULL &&
		SSL_SESSION_set1_master_key(session, key, LINK_KEY_SIZE) == 1 &&
		SSL_SESSION_set_cipher(session, cipher) == 1 &&
		SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

static int
client_key(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_length,
		   SSL_SESSION **session)
{
	LinkConn *conn = SSL_get_app_data(ssl);

	*session = NULL;
	if (md != NULL && EVP_MD_get_type(md) != NID_sha256)
		return 1; /* another suite was chosen: no key for it */
	*session = key_session(ssl, conn->auth.key);
	*id = (const unsigned char *) &conn->auth.id;
	*id_length = sizeof(conn->auth.id);
	return *session != NULL;
}

static int
server_key(SSL *ssl, const unsigned char *id, size_t id_length, SSL_SESSION **session)
{
	LinkConn *conn = SSL_get_app_data(ssl);
	LinkAuth *auth = &conn->auth;
	uint64_t named;

	*session = NULL;
	if (id_length != sizeof(named))
		return 1; /* unknown: the handshake fails for want of a
								 * certificate */
	memcpy(&named, id, sizeof(named));

	/*
	 * The handshake may need a second ClientHello, when the peers prefer
	 * different groups.  It names the same offer, which can be taken only
	 * once.
	 */
	if (!auth->found)
	{
		auth->id = named;
		auth->found = auth->lookup(auth->lookup_arg, named, true, auth->key);
	}
	if (!auth->found || auth->id != named)
		return 1;
	*session = key_session(ssl, auth->key);
	return *session != NULL;
}

static SSL_CTX *
make_context(bool server)
{
	SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

	if (context == NULL)
		return NULL;
	if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
		SSL_CTX_set_ciphersuites(context, CIPHER_NAME) != 1 ||
		SSL_CTX_set_num_tickets(context, 0) != 1)
	{
		SSL_CTX_free(context);
		return NULL;
	}
	SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	/* see tls_close(): a connection that ends is closed, not broken */
	SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
	if (server)
		SSL_CTX_set_psk_find_session_callback(context, server_key);
	else
		SSL_CTX_set_psk_use_session_callback(context, client_key);
	return context;
}

static ssize_t
tls_result(LinkConn *conn, int result, const char *what)
{
	SSL *ssl = conn->tls;
	int save_errno = errno;
	const char *reason;

	switch (SSL_get_error(ssl, result))
	{
		case SSL_ERROR_WANT_READ:
			return LINK_IO_AGAIN;
		case SSL_ERROR_WANT_WRITE:
			conn->tls_wants_write = true;
			return LINK_IO_AGAIN;
		case SSL_ERROR_ZERO_RETURN:
			snprintf(conn->error, sizeof(conn->error), "the peer closed the connection");
			return LINK_IO_CLOSED;
		case SSL_ERROR_SYSCALL:
			snprintf(conn->error, sizeof(conn->error), "could not %s: %s", what,
					 save_errno != 0 ? strerror(save_errno) : "connection lost");
			return LINK_IO_ERROR;
		default:
			reason = ERR_reason_error_string(ERR_get_error());
			snprintf(conn->error, sizeof(conn->error), "could not %s: %s", what,
					 reason != NULL ? reason : "TLS failure");
			return LINK_IO_ERROR;
	}
}

static ssize_t
tls_send(LinkConn *conn, const void *data, size_t length)
{
	size_t done;
	int result;

	ERR_clear_error();
	errno = 0;
	conn->tls_wants_write = false;
	result = SSL_write_ex(conn->tls, data, length, &done);
	return result == 1 ? (ssize_t) done : tls_result(conn, result, "send to the peer");
}

/*
 * OpenSSL hands out one record (16 kB) at a time; gather what has come, so
 * that the standby flushes once for all of it.  A record is taken whole or
 * left in the socket: what OpenSSL kept of it would not make the descriptor
 * readable, and the owner would sleep on it.
 */
static ssize_t
tls_recv(LinkConn *conn, void *data, size_t length)
{
	size_t total = 0;

	while (length - total >= SSL3_RT_MAX_PLAIN_LENGTH)
	{
		size_t done;
		int result;

		ERR_clear_error();
		errno = 0;
		conn->tls_wants_write = false;
		result = SSL_read_ex(conn->tls, (uint8_t *) data + total, length - total, &done);
		if (result != 1)
			return total > 0 ? (ssize_t) total : tls_result(conn, result, "receive from the peer");
		total += done;
	}
	return total;
}

static void
tls_close(LinkConn *conn)
{
	/* No close_notify: the frames say themselves when a stream ends. */
	SSL_free(conn->tls);
	conn->tls = NULL;
}

const LinkTransport link_tls_transport = {
	.name = "tcp",
	.encrypted = true,
	.send = tls_send,
	.recv = tls_recv,
	.close = tls_close,
};

bool
link_tls_start(LinkConn *conn)
{
	bool server = conn->auth.server;
	SSL_CTX **context = server ? &server_context : &client_context;

	if (*context == NULL)
		*context = make_context(server);
	if (*context != NULL)
		conn->tls = SSL_new(*context);
	if (conn->tls == NULL || SSL_set_fd(conn->tls, conn->fd) != 1 ||
		SSL_set_app_data(conn->tls, conn) != 1)
	{
		snprintf(conn->error, sizeof(conn->error), "could not initialize TLS");
		return false;
	}
	if (server)
		SSL_set_accept_state(conn->tls);
	else
		SSL_set_connect_state(conn->tls);
	conn->transport = &link_tls_transport;
	return true;
}

int
link_tls_handshake(LinkConn *conn)
{
	int result;

	ERR_clear_error();
	errno = 0;
	conn->tls_wants_write = false;
	result = SSL_do_handshake(conn->tls);
	if (result != 1)
	{
		result = (int) tls_result(conn, result, "agree on TLS with the peer");
		if (result == LINK_IO_ERROR && conn->auth.server && conn->auth.id != 0 && !conn->auth.found)
			snprintf(conn->error, sizeof(conn->error), "unknown or used one-time key");
		return result;
	}

	/* Without our key there is no other way to get here, but make sure. */
	if (!SSL_session_reused(conn->tls))
	{
		snprintf(conn->error, sizeof(conn->error), "TLS was agreed without the one-time key");
		return LINK_IO_ERROR;
	}
	return 1;
}
