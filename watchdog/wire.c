/*
 * wire.c
 *		See wire.h.
 */
#include "wire.h"

#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#define MAGIC       UINT32_C(0x42485444) /* "DTHB" */
#define HEADER_SIZE (4 + 5 + 8 + 4 * 8)
#define HAS_MSG     1

/* ---------- bytes ---------- */

typedef struct Writer
{
	uint8_t *at;
} Writer;

typedef struct Reader
{
	const uint8_t *at;
	size_t left;
	bool bad;
} Reader;

static void
put8(Writer *w, uint8_t v)
{
	*w->at++ = v;
}

static void
put32(Writer *w, uint32_t v)
{
	v = htole32(v);
	memcpy(w->at, &v, 4);
	w->at += 4;
}

static void
put64(Writer *w, uint64_t v)
{
	v = htole64(v);
	memcpy(w->at, &v, 8);
	w->at += 8;
}

/* Whatever is missing reads as 0, and is noticed at the end. */
static void
get(Reader *r, void *to, size_t n)
{
	memset(to, 0, n);
	if (r->left < n)
	{
		r->bad = true;
		r->left = 0;
		return;
	}
	memcpy(to, r->at, n);
	r->at += n;
	r->left -= n;
}

static uint8_t
get8(Reader *r)
{
	uint8_t v;

	get(r, &v, 1);
	return v;
}

static uint32_t
get32(Reader *r)
{
	uint32_t v;

	get(r, &v, 4);
	return le32toh(v);
}

static uint64_t
get64(Reader *r)
{
	uint64_t v;

	get(r, &v, 8);
	return le64toh(v);
}

static bool
get_bool(Reader *r)
{
	uint8_t v = get8(r);

	if (v > 1)
		r->bad = true;
	return v == 1;
}

/* A node's number, or FSM_NOBODY. */
static int8_t
get_node(Reader *r, int nnodes)
{
	int8_t v = (int8_t) get8(r);

	if (v < FSM_NOBODY || v >= nnodes)
		r->bad = true;
	return v;
}

/* ---------- the decision core's messages ---------- */

static void
put_rec(Writer *w, const FsmRec *rec)
{
	put64(w, rec->term);
	put64(w, rec->seq);
	put64(w, rec->primary_copy);
	put64(w, rec->peer_copy);
	put8(w, (uint8_t) rec->primary);
	put8(w, (uint8_t) rec->peer);
	put8(w, rec->lossy);
}

static void
get_rec(Reader *r, int nnodes, FsmRec *rec)
{
	rec->term = get64(r);
	rec->seq = get64(r);
	rec->primary_copy = get64(r);
	rec->peer_copy = get64(r);
	rec->primary = get_node(r, nnodes);
	rec->peer = get_node(r, nnodes);
	rec->lossy = get_bool(r);
}

static void
put_msg(Writer *w, const FsmMsg *m)
{
	put8(w, m->type);
	put8(w, m->ok);
	put8(w, (uint8_t) m->fenced);
	put64(w, m->fenced_boot);
	put64(w, m->term);
	put64(w, m->prom);
	put64(w, m->echo);
	put_rec(w, &m->rec);
	put64(w, (uint64_t) m->sent);
	put64(w, (uint64_t) m->wait);
}

static void
get_msg(Reader *r, int nnodes, FsmMsg *m)
{
	m->type = get8(r);
	m->ok = get_bool(r);
	m->fenced = get_node(r, nnodes);
	m->fenced_boot = get64(r);
	m->term = get64(r);
	m->prom = get64(r);
	m->echo = get64(r);
	get_rec(r, nnodes, &m->rec);
	m->sent = (FsmTime) get64(r);
	m->wait = (FsmTime) get64(r);
	if (m->type >= FSM_M_NTYPES || m->sent < 0 || m->wait < 0)
		r->bad = true;
}

static void
put_status(Writer *w, const WireStatus *s)
{
	put8(w, s->state);
	put8(w, s->pg_state);
	put64(w, s->term);
	put64(w, s->lsn);
	put64(w, s->replayed);
	put32(w, s->timeline);
	put8(w, s->flags);
}

static void
get_status(Reader *r, WireStatus *s)
{
	s->state = get8(r);
	s->pg_state = get8(r);
	s->term = get64(r);
	s->lsn = get64(r);
	s->replayed = get64(r);
	s->timeline = get32(r);
	s->flags = get8(r);
	if (s->state >= FSM_NSTATES || s->pg_state > FSM_PG_BROKEN)
		r->bad = true;
}

/* ---------- datagrams ---------- */

static bool
mac(const uint8_t *key, size_t key_length, const void *data, size_t n, uint8_t out[WIRE_MAC_SIZE])
{
	unsigned length = 0;

	return HMAC(EVP_sha256(), key, (int) key_length, data, n, out, &length) != NULL &&
		   length == WIRE_MAC_SIZE;
}

/*
 * What both sides must agree on before anything else.  Text, so that no padding and no byte order
 * comes into it.
 */
static uint64_t
cluster_hash(const Config *c)
{
	char text[CONFIG_NAME_SIZE * (FSM_MAX_NODES + 2) + 64];
	size_t n = 0;
	uint8_t digest[EVP_MAX_MD_SIZE] = {0};
	uint64_t hash;

	n += (size_t) snprintf(text, sizeof(text), "%s\n%lld\n", c->cluster,
						   (long long) c->fsm.timing.lease);
	for (int i = 0; i < c->nnodes && n < sizeof(text); i++)
		n += (size_t) snprintf(text + n, sizeof(text) - n, "%s %c%c\n", c->node[i].name,
							   c->node[i].witness ? 'w' : 'd',
							   (c->fsm.voters & (1u << i)) != 0 ? 'v' : '-');
	if (n > sizeof(text))
		n = sizeof(text);
	EVP_Digest(text, n, digest, NULL, EVP_sha256(), NULL);
	memcpy(&hash, digest, sizeof(hash));
	return le64toh(hash);
}

void
wire_key(WireKey *k, const Config *c)
{
	memset(k, 0, sizeof(*k));
	k->length = c->key_length < sizeof(k->key) ? c->key_length : sizeof(k->key);
	memcpy(k->key, c->key, k->length);
	k->cluster = cluster_hash(c);
	k->self = c->self;
	k->nnodes = c->nnodes;
}

size_t
wire_encode(const WireKey *k, const WireDatagram *d, uint8_t *out)
{
	Writer w = {out};
	size_t n;

	put32(&w, MAGIC);
	put8(&w, WIRE_VERSION);
	put8(&w, d->kind);
	put8(&w, (uint8_t) d->from);
	put8(&w, (uint8_t) d->to);
	put8(&w, d->path);
	put64(&w, k->cluster);
	put64(&w, d->boot);
	put64(&w, d->instance);
	put64(&w, d->number);
	put64(&w, d->proof);
	if (d->kind == WIRE_CHALLENGE)
	{
		put64(&w, d->asked_boot);
		put64(&w, d->asked_instance);
		put64(&w, d->nonce);
	}
	else
	{
		put_status(&w, &d->status);
		put8(&w, d->has_msg ? HAS_MSG : 0);
		if (d->has_msg)
			put_msg(&w, &d->msg);
	}
	n = (size_t) (w.at - out);
	return mac(k->key, k->length, out, n, w.at) ? n + WIRE_MAC_SIZE : 0;
}

static void
get_payload(Reader *r, int nnodes, WireDatagram *d)
{
	if (d->kind == WIRE_CHALLENGE)
	{
		d->asked_boot = get64(r);
		d->asked_instance = get64(r);
		d->nonce = get64(r);
		return;
	}
	if (d->kind != WIRE_BEAT)
	{
		r->bad = true;
		return;
	}
	get_status(r, &d->status);
	d->has_msg = get_bool(r);
	if (!d->has_msg)
		return;
	get_msg(r, nnodes, &d->msg);
	d->msg.from = d->from;
	d->msg.to = d->to;
	d->msg.boot = d->boot;
}

/* *d is undefined unless WIRE_OK is returned. */
WireFault
wire_decode(const WireKey *k, const uint8_t *in, size_t length, WireDatagram *d)
{
	Reader r = {in, length - WIRE_MAC_SIZE, false};
	uint8_t expected[WIRE_MAC_SIZE];

	if (length < HEADER_SIZE + WIRE_MAC_SIZE || length > WIRE_MAX)
		return WIRE_SHORT;
	if (!mac(k->key, k->length, in, r.left, expected) ||
		CRYPTO_memcmp(expected, in + r.left, WIRE_MAC_SIZE) != 0)
		return WIRE_MAC;

	memset(d, 0, sizeof(*d));
	if (get32(&r) != MAGIC)
		return WIRE_FORMAT;
	if (get8(&r) != WIRE_VERSION)
		return WIRE_OTHER;
	d->kind = get8(&r);
	d->from = (int8_t) get8(&r);
	d->to = (int8_t) get8(&r);
	d->path = get8(&r);
	if (get64(&r) != k->cluster)
		return WIRE_CLUSTER;
	if (d->from < 0 || d->from >= k->nnodes || d->from == k->self || d->to != k->self ||
		d->path >= CONFIG_MAX_PATHS)
		return WIRE_ADDRESS;
	d->boot = get64(&r);
	d->instance = get64(&r);
	d->number = get64(&r);
	d->proof = get64(&r);
	get_payload(&r, k->nnodes, d);
	return r.bad || r.left != 0 || d->number == 0 ? WIRE_FORMAT : WIRE_OK;
}

const char *
wire_fault_text(WireFault f)
{
	switch (f)
	{
		case WIRE_OK:
			return "ok";
		case WIRE_SHORT:
			return "it is too short or too long";
		case WIRE_MAC:
			return "it is not signed with the key in key_file";
		case WIRE_FORMAT:
			return "its format is wrong";
		case WIRE_OTHER:
			return "it has the format of another version";
		case WIRE_CLUSTER:
			return "cluster, nodes (names, roles, order) or lease differ in the configuration "
				   "there";
		case WIRE_ADDRESS:
			return "it is not from another node to this one: does another host use this node's "
				   "name?";
	}
	return "?";
}

/* ---------- replays ---------- */

/* Mark number n; true if it had not come before.  What is 64 or more below the top counts as come. */
static bool
mark(uint64_t *top, uint64_t *window, uint64_t n)
{
	uint64_t bit;

	if (n > *top)
	{
		uint64_t shift = n - *top;

		*window = shift < 64 ? (*window << shift) | 1 : 1;
		*top = n;
		return true;
	}
	if (*top - n >= 64)
		return false;
	bit = UINT64_C(1) << (*top - n);
	if ((*window & bit) != 0)
		return false;
	*window |= bit;
	return true;
}

uint64_t
wire_nonce(const WirePeer *p, const uint8_t secret[32], const WireDatagram *d)
{
	uint8_t bytes[1 + 3 * 8];
	uint8_t out[WIRE_MAC_SIZE] = {0};
	Writer w = {bytes};
	uint64_t nonce;

	put8(&w, (uint8_t) d->from);
	put64(&w, d->boot);
	put64(&w, d->instance);
	put64(&w, p->epoch);
	mac(secret, 32, bytes, sizeof(bytes), out);
	memcpy(&nonce, out, sizeof(nonce));
	return nonce != 0 ? nonce : 1;
}

WireVerdict
wire_admit(WirePeer *p, const uint8_t secret[32], const WireDatagram *d, bool *first_on_path)
{
	*first_on_path = false;
	if (!p->known || d->boot != p->boot || d->instance != p->instance)
	{
		if (p->known && d->boot == p->boot && d->instance < p->instance)
			return WIRE_STALE;
		if (d->proof == 0 || d->proof != wire_nonce(p, secret, d))
			return WIRE_UNPROVEN;
		p->known = true;
		p->boot = d->boot;
		p->instance = d->instance;
		p->epoch++;
		/* What this instance sent before may have been recorded, and taken by a tandemd before us. */
		p->top = d->number - 1;
		p->window = UINT64_MAX;
		for (int i = 0; i < CONFIG_MAX_PATHS; i++)
		{
			p->path_top[i] = d->number - 1;
			p->path_window[i] = UINT64_MAX;
		}
	}
	*first_on_path = mark(&p->path_top[d->path], &p->path_window[d->path], d->number);
	return mark(&p->top, &p->window, d->number) ? WIRE_TAKE : WIRE_AGAIN;
}
