/*-------------------------------------------------------------------------
 *
 * auth.c
 *	  Both sides of a new connection prove that they have the one-time key.
 *
 * With TLS the handshake is the proof.  Without it:
 *
 *	standby -> primary	LINK_AUTH_CLIENT	id, nonce A
 *	primary -> standby	LINK_AUTH_SERVER	nonce B, HMAC(key, "primary" id A B)
 *	standby -> primary	LINK_AUTH_PROOF		HMAC(key, "standby" id A B)
 *
 * The names in the messages keep one side's proof from being reflected as the
 * other's.  This authenticates the peers at the start of the connection; it
 * does not protect what follows from somebody who can change packets on the
 * way, which is what TLS is for.
 *
 * The primary tells the two kinds of connection apart by the first byte: a
 * TLS record starts with 0x16, a frame with 'T'.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "conn.h"

#define TLS_RECORD_HANDSHAKE 0x16

static int
auth_failed(LinkConn *conn, const char *why)
{
	snprintf(conn->error, sizeof(conn->error), "%s", why);
	return LINK_IO_ERROR;
}

/* The proof of 'who' ("primary" or "standby") for this exchange. */
static bool
make_proof(const LinkConn *conn, const char *who, uint8_t *proof)
{
	const LinkAuth *auth = &conn->auth;
	const uint8_t *client = auth->server ? auth->peer_nonce : auth->nonce;
	const uint8_t *server = auth->server ? auth->nonce : auth->peer_nonce;
	uint8_t text[8 + 8 + 2 * LINK_NONCE_SIZE];
	unsigned int length = LINK_MAC_SIZE;

	memset(text, 0, 8);
	memcpy(text, who, strlen(who));
	for (int i = 0; i < 8; i++)
		text[8 + i] = (uint8_t) (auth->id >> (8 * i));
	memcpy(text + 16, client, LINK_NONCE_SIZE);
	memcpy(text + 16 + LINK_NONCE_SIZE, server, LINK_NONCE_SIZE);
	return HMAC(EVP_sha256(), auth->key, LINK_KEY_SIZE, text, sizeof(text), proof, &length) !=
			   NULL &&
		   length == LINK_MAC_SIZE;
}

static bool
proof_is_good(const LinkConn *conn, const char *who, const uint8_t *proof)
{
	uint8_t expected[LINK_MAC_SIZE];

	return make_proof(conn, who, expected) && CRYPTO_memcmp(proof, expected, LINK_MAC_SIZE) == 0;
}

static bool
send_auth(LinkConn *conn, LinkFrameType type, const uint8_t *payload, size_t length)
{
	LinkHeader header = {.type = type};

	return link_frame_put(conn, &header, payload, length);
}

void
link_auth_client(LinkConn *conn, uint64_t id, const uint8_t *key, bool tls)
{
	conn->auth = (LinkAuth){.state = LINK_AUTH_START, .id = id, .tls = tls};
	memcpy(conn->auth.key, key, LINK_KEY_SIZE);
}

void
link_auth_server(LinkConn *conn, LinkKeyLookup lookup, void *arg)
{
	conn->auth =
		(LinkAuth){.state = LINK_AUTH_START, .server = true, .lookup = lookup, .lookup_arg = arg};
}

/* Begin: choose TLS or frames; the client sends its first message. */
static int
auth_start(LinkConn *conn)
{
	LinkAuth *auth = &conn->auth;

	if (auth->server)
	{
		uint8_t first;
		ssize_t n = recv(conn->fd, &first, 1, MSG_PEEK);

		if (n == 0)
		{
			(void) auth_failed(conn, "the peer closed the connection");
			return LINK_IO_CLOSED;
		}
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? LINK_IO_AGAIN
													 : auth_failed(conn, strerror(errno));
		auth->tls = first == TLS_RECORD_HANDSHAKE;
	}
	if (!auth->tls && RAND_bytes(auth->nonce, LINK_NONCE_SIZE) != 1)
		return auth_failed(conn, "could not get random bytes");
	if (auth->tls)
	{
		if (!link_tls_start(conn))
			return LINK_IO_ERROR;
		auth->state = LINK_AUTH_TLS;
		return 1;
	}
	if (!auth->server)
	{
		LinkAuthClient msg = {.id = auth->id};
		uint8_t payload[sizeof(msg)];

		memcpy(msg.nonce, auth->nonce, LINK_NONCE_SIZE);
		if (!send_auth(conn, LINK_AUTH_CLIENT, payload, link_auth_client_encode(&msg, payload)))
			return auth_failed(conn, "no room to send");
		auth->state = LINK_AUTH_CHALLENGE;
	}
	return 1;
}

static int
server_got_client(LinkConn *conn, const uint8_t *payload, size_t length)
{
	LinkAuth *auth = &conn->auth;
	LinkAuthClient msg;
	LinkAuthServer answer;
	uint8_t out[sizeof(answer)];

	if (!link_auth_client_decode(payload, length, &msg))
		return auth_failed(conn, "malformed authentication message");
	auth->id = msg.id;
	memcpy(auth->peer_nonce, msg.nonce, LINK_NONCE_SIZE);
	if (!auth->lookup(auth->lookup_arg, auth->id, false, auth->key))
		return auth_failed(conn, "unknown or used one-time key");
	memcpy(answer.nonce, auth->nonce, LINK_NONCE_SIZE);
	if (!make_proof(conn, "primary", answer.proof))
		return auth_failed(conn, "could not compute a proof");
	if (!send_auth(conn, LINK_AUTH_SERVER, out, link_auth_server_encode(&answer, out)))
		return auth_failed(conn, "no room to send");
	auth->state = LINK_AUTH_CHALLENGE;
	return 1;
}

static int
client_got_server(LinkConn *conn, const uint8_t *payload, size_t length)
{
	LinkAuth *auth = &conn->auth;
	LinkAuthServer msg;
	LinkAuthProof answer;
	uint8_t out[sizeof(answer)];

	if (!link_auth_server_decode(payload, length, &msg))
		return auth_failed(conn, "malformed authentication message");
	memcpy(auth->peer_nonce, msg.nonce, LINK_NONCE_SIZE);
	if (!proof_is_good(conn, "primary", msg.proof))
		return auth_failed(conn, "the peer did not prove the one-time key");
	if (!make_proof(conn, "standby", answer.proof))
		return auth_failed(conn, "could not compute a proof");
	if (!send_auth(conn, LINK_AUTH_PROOF, out, link_auth_proof_encode(&answer, out)))
		return auth_failed(conn, "no room to send");
	auth->state = LINK_AUTH_DONE;
	return 1;
}

static int
server_got_proof(LinkConn *conn, const uint8_t *payload, size_t length)
{
	LinkAuthProof msg;

	if (!link_auth_proof_decode(payload, length, &msg))
		return auth_failed(conn, "malformed authentication message");
	if (!proof_is_good(conn, "standby", msg.proof))
		return auth_failed(conn, "the peer did not prove the one-time key");
	conn->auth.state = LINK_AUTH_DONE;
	return 1;
}

/* Take the next authentication frame, if it is there, and act on it. */
static int
auth_frame(LinkConn *conn)
{
	LinkAuth *auth = &conn->auth;
	LinkHeader header;
	const uint8_t *payload;
	LinkDecode result = link_next(conn, &header, &payload);

	if (result == LINK_DECODE_MORE)
	{
		ssize_t n = link_fill(conn);

		return n > 0 ? 1 : (int) n;
	}
	if (result == LINK_DECODE_BAD_VERSION)
	{
		snprintf(conn->error, sizeof(conn->error),
				 "protocol version %u is not supported; this node speaks version %d",
				 header.version, LINK_VERSION);
		return LINK_IO_ERROR;
	}
	if (result != LINK_DECODE_OK)
		return auth_failed(conn, link_decode_text(result));

	if (header.type == LINK_REFUSE && !auth->server)
	{
		LinkNotice notice;

		return auth_failed(conn, link_notice_decode(payload, header.length, &notice)
									 ? notice.message
									 : "refused by the peer");
	}
	if (auth->server && auth->state == LINK_AUTH_START && header.type == LINK_AUTH_CLIENT)
		return server_got_client(conn, payload, header.length);
	if (auth->server && auth->state == LINK_AUTH_CHALLENGE && header.type == LINK_AUTH_PROOF)
		return server_got_proof(conn, payload, header.length);
	if (!auth->server && auth->state == LINK_AUTH_CHALLENGE && header.type == LINK_AUTH_SERVER)
		return client_got_server(conn, payload, header.length);
	return auth_failed(conn, "unexpected frame during authentication");
}

int
link_auth_step(LinkConn *conn)
{
	LinkAuth *auth = &conn->auth;

	while (auth->state != LINK_AUTH_DONE)
	{
		int result;

		switch (auth->state)
		{
			case LINK_AUTH_START:
				/* a server that has chosen frames waits for the first one here */
				if (auth->server && conn->in.end > conn->in.start)
					result = auth_frame(conn);
				else
				{
					result = auth_start(conn);
					if (result == 1 && auth->server && !auth->tls)
						result = (int) link_fill(conn);
				}
				break;
			case LINK_AUTH_TLS:
				result = link_tls_handshake(conn);
				if (result == 1)
					auth->state = LINK_AUTH_DONE;
				break;
			default:
				result = auth_frame(conn);
				break;
		}
		/* what has been put into the buffer must go out before we wait */
		if (result >= 0 && link_out_pending(conn) > 0)
		{
			int flushed = link_flush(conn);

			if (flushed < 0)
				return flushed;
		}
		if (result <= 0)
			return result;
	}
	return 1;
}
