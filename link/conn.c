/*-------------------------------------------------------------------------
 *
 * conn.c
 *	  Buffers and frames above a transport.
 *
 * The buffers have a fixed size: the sender never has more than one frame of
 * WAL and a few small ones under way, the receiver takes what there is, up to
 * a megabyte, writes it all and flushes once.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conn.h"
#include "ring.h"

/* one frame of WAL, and room for small ones in front of and behind it */
#define OUT_SIZE (LINK_HEADER_SIZE + LINK_MAX_PAYLOAD + 64 * 1024)
#define IN_SIZE  (1024 * 1024)

LinkConn *
link_conn_create(int fd)
{
	LinkConn *conn = calloc(1, sizeof(LinkConn));

	if (conn == NULL)
		return NULL;
	conn->in.size = IN_SIZE;
	conn->out.size = OUT_SIZE;
	conn->in.data = malloc(conn->in.size);
	conn->out.data = malloc(conn->out.size);
	if (conn->in.data == NULL || conn->out.data == NULL)
	{
		free(conn->in.data);
		free(conn->out.data);
		free(conn);
		return NULL;
	}
	conn->transport = &link_tcp_transport;
	conn->fd = fd;
	return conn;
}

void
link_conn_destroy(LinkConn *conn)
{
	if (conn == NULL)
		return;
	link_ring_destroy(conn->ring);
	conn->transport->close(conn);
	if (conn->fd >= 0)
		close(conn->fd);
	explicit_bzero(conn->auth.key, sizeof(conn->auth.key));
	link_codec_destroy(conn->codec);
	free(conn->in.data);
	free(conn->out.data);
	free(conn);
}

const char *
link_conn_error(const LinkConn *conn)
{
	return conn->error;
}

bool
link_conn_wants_write(const LinkConn *conn)
{
	return link_out_pending(conn) > 0 || conn->tls_wants_write;
}

/* Move what is in use to the front, so that all free room is at the end. */
static void
compact(LinkBuffer *buffer)
{
	if (buffer->start == 0)
		return;
	memmove(buffer->data, buffer->data + buffer->start, buffer->end - buffer->start);
	buffer->end -= buffer->start;
	buffer->start = 0;
}

uint8_t *
link_frame_begin(LinkConn *conn, size_t length)
{
	LinkBuffer *out = &conn->out;

	if (out->size - out->end < LINK_HEADER_SIZE + length)
		compact(out);
	if (out->size - out->end < LINK_HEADER_SIZE + length)
		return NULL;
	return out->data + out->end + LINK_HEADER_SIZE;
}

void
link_frame_end(LinkConn *conn, LinkHeader *header, size_t length)
{
	LinkBuffer *out = &conn->out;
	uint8_t *frame = out->data + out->end;

	header->length = length;
	link_header_encode(header, frame + LINK_HEADER_SIZE, frame);
	out->end += LINK_HEADER_SIZE + length;
}

bool
link_frame_put(LinkConn *conn, LinkHeader *header, const void *payload, size_t length)
{
	uint8_t *to = link_frame_begin(conn, length);

	if (to == NULL)
		return false;
	if (length > 0)
		memcpy(to, payload, length);
	link_frame_end(conn, header, length);
	return true;
}

size_t
link_out_pending(const LinkConn *conn)
{
	return conn->out.end - conn->out.start;
}

int
link_flush(LinkConn *conn)
{
	LinkBuffer *out = &conn->out;

	while (out->start < out->end)
	{
		ssize_t n = conn->transport->send(conn, out->data + out->start, out->end - out->start);

		if (n <= 0)
			return n;
		out->start += n;
		conn->bytes_out += n;
	}
	out->start = out->end = 0;
	return 1;
}

ssize_t
link_fill(LinkConn *conn)
{
	LinkBuffer *in = &conn->in;
	ssize_t n;

	compact(in);
	if (in->end == in->size)
		return LINK_IO_AGAIN; /* full: frames must be taken out first */
	n = conn->transport->recv(conn, in->data + in->end, in->size - in->end);
	conn->drained = n < (ssize_t) (in->size - in->end);
	if (n > 0)
	{
		in->end += n;
		conn->bytes_in += n;
	}
	return n;
}

LinkDecode
link_next(LinkConn *conn, LinkHeader *header, const uint8_t **payload)
{
	LinkBuffer *in = &conn->in;
	const uint8_t *frame = in->data + in->start;
	LinkDecode result = link_frame_decode(frame, in->end - in->start, header);
	size_t wire_length;
	size_t length;

	if (result != LINK_DECODE_OK)
		return result;
	*payload = frame + LINK_HEADER_SIZE;
	wire_length = header->length;
	if ((header->flags & LINK_FLAG_COMPRESSED) == 0)
	{
		in->start += LINK_HEADER_SIZE + wire_length;
		return LINK_DECODE_OK;
	}

	/* the owner sees WAL as it was before */
	if (header->type != LINK_WAL || conn->codec == NULL)
		return LINK_DECODE_BAD_FLAGS;
	if (!link_codec_decompress(conn->codec, header->lsn, *payload, header->length, payload,
							   &length))
		return LINK_DECODE_BAD_PAYLOAD;
	in->start += LINK_HEADER_SIZE + wire_length;
	header->length = length;
	header->flags &= ~LINK_FLAG_COMPRESSED;
	return LINK_DECODE_OK;
}

/* ------------------------------------------------------------- compression */

bool
link_conn_compress(LinkConn *conn, LinkCompression kind, bool sends, int level)
{
	link_codec_destroy(conn->codec);
	conn->codec = link_codec_create(kind, sends, level);
	return conn->codec != NULL || kind == LINK_COMPRESSION_NONE;
}

size_t
link_wal_max(const LinkConn *conn)
{
	return conn->codec != NULL ? LINK_COMPRESS_MAX : LINK_MAX_PAYLOAD;
}

uint8_t *
link_wal_begin(LinkConn *conn, size_t length)
{
	if (conn->codec == NULL)
		return link_frame_begin(conn, length);
	/* what comes out is not known yet, but fits */
	if (link_frame_begin(conn, LINK_MAX_PAYLOAD) == NULL)
		return NULL;
	return link_codec_room(conn->codec);
}

bool
link_wal_end(LinkConn *conn, LinkHeader *header, size_t length)
{
	if (conn->codec != NULL)
	{
		length = link_codec_compress(conn->codec, header->lsn, length,
									 link_frame_begin(conn, LINK_MAX_PAYLOAD));
		if (length == 0)
		{
			snprintf(conn->error, sizeof(conn->error), "could not compress WAL");
			return false;
		}
		header->flags |= LINK_FLAG_COMPRESSED;
	}
	link_frame_end(conn, header, length);
	return true;
}
