/*-------------------------------------------------------------------------
 *
 * test_auth_tls.c
 *	  Tests of authentication by TLS: what a TLS peer of our own making gets.
 *
 *-------------------------------------------------------------------------
 */
#include "pair.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <string.h>
#include <unistd.h>

/*
 * The key exchange's group may need a second ClientHello.  The offer is then
 * looked at twice, and must not be called used the second time.
 */
static void
test_tls_second_hello(void **state)
{
	Session s;
	int side;

	(void) state;
	session_open(&s, WIRE_UNIX);
	session_prepare(&s, true);
	s.conn[SERVER]->auth.tls = true;
	for (side = 0; side < 2; side++)
	{
		assert_true(link_tls_start(s.conn[side]));
		s.conn[side]->auth.state = LINK_AUTH_TLS;
		assert_int_equal(
			SSL_set1_groups_list(s.conn[side]->tls, side == CLIENT ? "X25519:P-256" : "P-256"), 1);
	}
	session_auth(&s);
	if (s.result[CLIENT] != 1 || s.result[SERVER] != 1)
		fail_msg("client: %s; server: %s", s.error[CLIENT], s.error[SERVER]);
	assert_int_equal(s.store.lookups, 1);
	exchange(&s, 100000, 1000);
	session_close(&s);
}

/* A TLS peer of our own making, for what ours would never do. */
static SSL *
rogue_start(SSL_CTX *context, int fd, bool server)
{
	SSL *ssl = SSL_new(context);

	assert_non_null(ssl);
	assert_int_equal(SSL_set_fd(ssl, fd), 1);
	if (server)
		SSL_set_accept_state(ssl);
	else
		SSL_set_connect_state(ssl);
	return ssl;
}

static void
give_certificate(SSL_CTX *context)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	assert_non_null(key);
	assert_non_null(cert);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	assert_int_equal(X509_set_pubkey(cert, key), 1);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(context, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
	X509_free(cert);
	EVP_PKEY_free(key);
}

/*
 * A server with a certificate and no key is as far as TLS goes a good one.
 * One that speaks an older version never gets so far.
 */
static void
test_tls_server_without_key(void **state)
{
	(void) state;
	for (int old = 0; old < 2; old++)
	{
		SSL_CTX *context = SSL_CTX_new(TLS_server_method());
		uint8_t key[LINK_KEY_SIZE] = {3};
		int other;
		LinkConn *client = raw_pair(&other);
		SSL *ssl;
		int result = LINK_IO_AGAIN;

		give_certificate(context);
		if (old)
			SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
		ssl = rogue_start(context, other, true);
		link_auth_client(client, OFFER_ID, key, true);
		for (int i = 0; i < 20 && result == LINK_IO_AGAIN; i++)
		{
			result = link_auth_step(client);
			SSL_do_handshake(ssl);
		}
		assert_int_equal(result, LINK_IO_ERROR);
		assert_non_null(
			strstr(link_conn_error(client), old ? "could not agree on TLS with the peer"
												: "TLS was agreed without the one-time key"));
		ERR_clear_error();
		SSL_free(ssl);
		link_conn_destroy(client);
		close(other);
		SSL_CTX_free(context);
	}
}

static SSL_SESSION *
rogue_session(SSL *ssl, const uint8_t *key)
{
	static const unsigned char cipher[2] = {0x13, 0x01};
	SSL_SESSION *session = SSL_SESSION_new();

	assert_non_null(session);
	SSL_SESSION_set1_master_key(session, key, LINK_KEY_SIZE);
	SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, cipher));
	SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION);
	return session;
}

static unsigned char rogue_id[16];
static size_t rogue_id_length;
static uint8_t rogue_key[LINK_KEY_SIZE];

static int
rogue_use_session(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *length,
				  SSL_SESSION **session)
{
	(void) md;
	*session = rogue_session(ssl, rogue_key);
	*id = rogue_id;
	*length = rogue_id_length;
	return 1;
}

/* Clients without the key, with none at all, of old protocols. */
static void
test_tls_rogue_clients(void **state)
{
	(void) state;
	for (int kind = 0; kind < 8; kind++)
	{
		SSL_CTX *context = SSL_CTX_new(TLS_client_method());
		uint64_t id = OFFER_ID;
		Store store;
		int other;
		LinkConn *server = attacked_server(&other, &store);
		SSL *ssl;
		int result = LINK_IO_AGAIN;
		int connected = 0;
		bool good = false;

		store.tls = true;
		memcpy(rogue_key, store.key, LINK_KEY_SIZE);
		memcpy(rogue_id, &id, sizeof(id));
		rogue_id_length = sizeof(id);
		SSL_CTX_set_psk_use_session_callback(context, rogue_use_session);
		switch (kind)
		{
			case 0: /* to see that this client could get in */
				good = true;
				break;
			case 1:
				SSL_CTX_set_psk_use_session_callback(context, NULL);
				break;
			case 2:
				SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
				break;
			case 3:
				rogue_key[0] ^= 1;
				break;
			case 4:
				rogue_id_length = 7;
				break;
			case 5:
				rogue_id_length = 9;
				break;
			case 6:
				rogue_id[0] ^= 1;
				break;
			case 7: /* what is in the key before one is found */
				rogue_id[0] ^= 1;
				memset(rogue_key, 0, sizeof(rogue_key));
				break;
		}
		ssl = rogue_start(context, other, false);
		for (int i = 0; i < 20 && result == LINK_IO_AGAIN; i++)
		{
			if (connected != 1)
				connected = SSL_do_handshake(ssl);
			result = drive(server);
		}
		ERR_clear_error();
		if (good)
			assert_int_equal(result, 1);
		else
		{
			if (result != LINK_IO_ERROR)
				fail_msg("kind %d: %d %s", kind, result, link_conn_error(server));
			assert_int_equal(server->auth.state, LINK_AUTH_TLS);
		}
		SSL_free(ssl);
		link_conn_destroy(server);
		close(other);
		SSL_CTX_free(context);
	}
}

/* Only what the table above leaves: TLS 1.3, one suite, forward secrecy. */
static void
test_tls_parameters(void **state)
{
	Session s;

	(void) state;
	session_authenticated(&s, WIRE_UNIX, true);
	for (int i = 0; i < 2; i++)
	{
		SSL *ssl = s.conn[i]->tls;

		assert_string_equal(SSL_get_version(ssl), "TLSv1.3");
		assert_string_equal(SSL_get_cipher_name(ssl), "TLS_AES_128_GCM_SHA256");
		assert_int_equal(SSL_session_reused(ssl), 1);
		/* an ephemeral key was exchanged, too */
		assert_true(SSL_get_negotiated_group(ssl) != NID_undef);
	}
	session_close(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		tls_test(test_tls_second_hello),           tls_test(test_tls_server_without_key),
		tls_test(test_tls_rogue_clients),          tls_test(test_tls_parameters),
		cmocka_unit_test(test_no_descriptor_left),
	};

	return cmocka_run_group_tests_name("auth_tls", tests, before_all, NULL);
}
