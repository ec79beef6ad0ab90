/*-------------------------------------------------------------------------
 *
 * compress.c
 *	  Compression of WAL on a link, by liblz4 and libzstd; see compress.h.
 *
 * zstd: one frame of zstd's that never ends, flushed for every frame of ours.
 * The window is limited on both sides, which bounds the memory of both.  Its
 * size and the matcher for long distances are for the rows that WAL brings
 * again and again, in new versions and in full-page images: of the WAL of
 * bench/tpcc a window of 1 MB made 2.16:1, one of 32 MB 2.65:1, 2.89:1 with the
 * matcher set for matches as short as a row, and 2.93:1 with two tables for
 * short distances as well, at three times the CPU time (zstd:1).
 *
 * lz4: every frame of ours is one block of lz4's, which may refer to the last
 * 64 kB before it.  Both sides keep these right before the room for the next
 * one: lz4 forgets what lies elsewhere when a block is short.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "port/pg_crc32c.h"

#include "compress.h"
#include "strip.h"

#define LZ4_DICTIONARY (64 * 1024) /* what a block may refer to */

/*
 * zstd's parameters beside the level: a window of 32 MB and, for distances of
 * all that, a table of 16 MB with a place for every 16th position.
 */
static const struct
{
	ZSTD_cParameter parameter;
	int value;
} zstd_parameters[] = {
	{ZSTD_c_windowLog, LINK_ZSTD_WINDOW_LOG},
	{ZSTD_c_enableLongDistanceMatching, 1},
	{ZSTD_c_ldmMinMatch, 24},
	{ZSTD_c_ldmHashLog, 21},
	{ZSTD_c_ldmHashRateLog, 4},
};

struct LinkCodec
{
	LinkCompression kind;
	ZSTD_CCtx *zstd_out;
	ZSTD_DCtx *zstd_in;
	LZ4_stream_t *lz4_out;
	uint8_t *buffer; /* LZ4_DICTIONARY bytes, then the room */
	uint8_t *raw;    /* room for LINK_COMPRESS_MAX bytes of WAL */
	size_t kept;     /* lz4: bytes before 'raw' that are the end of the WAL so far */
	LinkStrip strip;
	uint64_t cpu; /* ns */
	uint64_t raw_bytes;
	uint64_t packed_bytes;
};

uint16_t
link_compression_flag(LinkCompression kind)
{
	switch (kind)
	{
		case LINK_COMPRESSION_LZ4:
			return LINK_FLAG_LZ4;
		case LINK_COMPRESSION_ZSTD:
			return LINK_FLAG_ZSTD;
		default:
			return 0;
	}
}

/* The best one of them. */
LinkCompression
link_compression_of_flags(uint16_t flags)
{
	if (flags & LINK_FLAG_ZSTD)
		return LINK_COMPRESSION_ZSTD;
	if (flags & LINK_FLAG_LZ4)
		return LINK_COMPRESSION_LZ4;
	return LINK_COMPRESSION_NONE;
}

const char *
link_compression_name(LinkCompression kind)
{
	switch (kind)
	{
		case LINK_COMPRESSION_LZ4:
			return "lz4";
		case LINK_COMPRESSION_ZSTD:
			return "zstd";
		case LINK_COMPRESSION_AUTO:
			return "auto";
		default:
			return "none";
	}
}

static bool
create_zstd_in(LinkCodec *codec)
{
	codec->zstd_in = ZSTD_createDCtx();
	return codec->zstd_in != NULL &&
		   !ZSTD_isError(
			   ZSTD_DCtx_setParameter(codec->zstd_in, ZSTD_d_windowLogMax, LINK_ZSTD_WINDOW_LOG));
}

static bool
create_zstd_out(LinkCodec *codec, int level)
{
	codec->zstd_out = ZSTD_createCCtx();
	if (codec->zstd_out == NULL ||
		ZSTD_isError(ZSTD_CCtx_setParameter(codec->zstd_out, ZSTD_c_compressionLevel, level)))
		return false;
	if (level < 3 && /* from 3 on it has at least that */
		ZSTD_isError(ZSTD_CCtx_setParameter(codec->zstd_out, ZSTD_c_strategy, ZSTD_dfast)))
		return false;
	for (size_t i = 0; i < lengthof(zstd_parameters); i++)
	{
		if (ZSTD_isError(ZSTD_CCtx_setParameter(codec->zstd_out, zstd_parameters[i].parameter,
												zstd_parameters[i].value)))
			return false;
	}
	return true;
}

static bool
create_zstd(LinkCodec *codec, bool compress, int level)
{
	return compress ? create_zstd_out(codec, level) : create_zstd_in(codec);
}

static bool
create_lz4(LinkCodec *codec, bool compress)
{
	if (!compress)
		return true;
	codec->lz4_out = LZ4_createStream();
	return codec->lz4_out != NULL;
}

LinkCodec *
link_codec_create(LinkCompression kind, bool compress, int level)
{
	LinkCodec *codec;
	bool good = false;

	if (kind != LINK_COMPRESSION_LZ4 && kind != LINK_COMPRESSION_ZSTD)
		return NULL;
	codec = calloc(1, sizeof(LinkCodec));
	if (codec == NULL)
		return NULL;
	codec->kind = kind;
	codec->buffer = malloc(LZ4_DICTIONARY + LINK_COMPRESS_MAX);
	if (codec->buffer != NULL)
	{
		codec->raw = codec->buffer + LZ4_DICTIONARY;
		good = kind == LINK_COMPRESSION_ZSTD ? create_zstd(codec, compress, level)
											 : create_lz4(codec, compress);
	}
	if (good)
		return codec;
	link_codec_destroy(codec);
	return NULL;
}

void
link_codec_destroy(LinkCodec *codec)
{
	if (codec == NULL)
		return;
	(void) ZSTD_freeCCtx(codec->zstd_out);
	(void) ZSTD_freeDCtx(codec->zstd_in);
	(void) LZ4_freeStream(codec->lz4_out);
	free(codec->buffer);
	free(codec);
}

/* CPU time of this thread, ns. */
static uint64_t
cpu_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t
link_codec_cpu(const LinkCodec *codec)
{
	return codec != NULL ? codec->cpu / 1000 : 0;
}

uint64_t
link_codec_raw_bytes(const LinkCodec *codec)
{
	return codec != NULL ? codec->raw_bytes : 0;
}

uint64_t
link_codec_packed_bytes(const LinkCodec *codec)
{
	return codec != NULL ? codec->packed_bytes : 0;
}

static uint32_t
crc32c(const uint8_t *data, size_t length)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, length);
	FIN_CRC32C(crc);
	return crc;
}

static void
put32(uint8_t *to, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t) (value >> (8 * i));
}

static uint32_t
get32(const uint8_t *from)
{
	return from[0] | (uint32_t) from[1] << 8 | (uint32_t) from[2] << 16 | (uint32_t) from[3] << 24;
}

/* ---------------------------------------------------------------- sending */

uint8_t *
link_codec_room(LinkCodec *codec)
{
	return codec->raw;
}

static size_t
compress_zstd(LinkCodec *codec, size_t length, uint8_t *to, size_t size)
{
	ZSTD_inBuffer in = {codec->raw, length, 0};
	ZSTD_outBuffer out = {to, size, 0};

	/* 0: nothing of it is left inside */
	if (ZSTD_compressStream2(codec->zstd_out, &out, &in, ZSTD_e_flush) != 0 || in.pos != length)
		return 0;
	return out.pos;
}

static size_t
compress_lz4(LinkCodec *codec, size_t length, uint8_t *to, size_t size)
{
	int n = LZ4_compress_fast_continue(codec->lz4_out, (const char *) codec->raw, (char *) to,
									   (int) length, (int) size, 1);

	if (n <= 0)
		return 0;
	codec->kept = Min(codec->kept + length, LZ4_DICTIONARY);
	if (LZ4_saveDict(codec->lz4_out, (char *) codec->raw - codec->kept, (int) codec->kept) !=
		(int) codec->kept)
		return 0;
	return n;
}

size_t
link_codec_compress(LinkCodec *codec, uint64_t lsn, size_t length, uint8_t *to)
{
	const size_t size = LINK_MAX_PAYLOAD - LINK_COMPRESS_HEADER;
	uint64_t begin = cpu_now();
	uint32_t crc;
	bool stripped;
	size_t n;

	if (length == 0 || length > LINK_COMPRESS_MAX)
		return 0;
	crc = crc32c(codec->raw, length);
	stripped = link_strip(&codec->strip, lsn, codec->raw, length);
	put32(to, length | (stripped ? LINK_COMPRESS_STRIPPED : 0));
	put32(to + 4, crc);
	to += LINK_COMPRESS_HEADER;
	n = codec->kind == LINK_COMPRESSION_ZSTD ? compress_zstd(codec, length, to, size)
											 : compress_lz4(codec, length, to, size);
	if (n == 0)
		return 0;
	n += LINK_COMPRESS_HEADER;
	codec->raw_bytes += length;
	codec->packed_bytes += n;
	codec->cpu += cpu_now() - begin;
	return n;
}

/* -------------------------------------------------------------- receiving */

static bool
decompress_zstd(LinkCodec *codec, const uint8_t *from, size_t length, size_t raw_length)
{
	ZSTD_inBuffer in = {from, length, 0};
	ZSTD_outBuffer out = {codec->raw, raw_length, 0};

	while (in.pos < in.size || out.pos < out.size)
	{
		size_t in_before = in.pos;
		size_t out_before = out.pos;
		size_t result = ZSTD_decompressStream(codec->zstd_in, &out, &in);

		/* 0 would be the end of the stream, which never comes */
		if (ZSTD_isError(result) || result == 0)
			return false;
		if (in.pos == in_before && out.pos == out_before)
			return false;
	}
	return true;
}

static bool
decompress_lz4(LinkCodec *codec, const uint8_t *from, size_t length, size_t raw_length)
{
	int n = LZ4_decompress_safe_usingDict((const char *) from, (char *) codec->raw, (int) length,
										  (int) raw_length, (char *) codec->raw - codec->kept,
										  (int) codec->kept);

	return n == (int) raw_length;
}

/* Keep the end of the WAL, as the other side does. */
static void
keep_dictionary(LinkCodec *codec, size_t raw_length)
{
	codec->kept = Min(codec->kept + raw_length, LZ4_DICTIONARY);
	memmove(codec->raw - codec->kept, codec->raw + raw_length - codec->kept, codec->kept);
}

bool
link_codec_decompress(LinkCodec *codec, uint64_t lsn, const uint8_t *from, size_t length,
					  const uint8_t **raw, size_t *raw_length)
{
	uint64_t begin = cpu_now();
	uint32_t crc;
	bool stripped;
	bool good;

	/* a peer that sends what only we do: what there would be no decompressor for */
	if (codec->zstd_out != NULL || codec->lz4_out != NULL)
		return false;
	if (length <= LINK_COMPRESS_HEADER || length > LINK_MAX_PAYLOAD)
		return false;
	stripped = (get32(from) & LINK_COMPRESS_STRIPPED) != 0;
	*raw_length = get32(from) & ~LINK_COMPRESS_STRIPPED;
	crc = get32(from + 4);
	if (*raw_length == 0 || *raw_length > LINK_COMPRESS_MAX)
		return false;
	from += LINK_COMPRESS_HEADER;
	length -= LINK_COMPRESS_HEADER;
	good = codec->kind == LINK_COMPRESSION_ZSTD ? decompress_zstd(codec, from, length, *raw_length)
												: decompress_lz4(codec, from, length, *raw_length);
	if (!good)
		return false;
	if (codec->kind == LINK_COMPRESSION_LZ4)
		keep_dictionary(codec, *raw_length); /* leaves the room as it is */
	if (stripped)
		link_restore(&codec->strip, lsn, codec->raw, *raw_length);
	else
		link_strip_skip(&codec->strip, lsn, codec->raw, *raw_length);
	if (crc32c(codec->raw, *raw_length) != crc)
		return false;
	*raw = codec->raw;
	codec->raw_bytes += *raw_length;
	codec->packed_bytes += length + LINK_COMPRESS_HEADER;
	codec->cpu += cpu_now() - begin;
	return true;
}
