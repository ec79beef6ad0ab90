/*-------------------------------------------------------------------------
 *
 * compress.h
 *	  Compression of WAL on a link: one streaming context for each connection.
 *
 * The context lives as long as the connection, so that what was sent before
 * helps to compress what comes next, and is flushed for every frame, so that
 * the standby can write what has come.  A frame's compressed payload is
 *
 *	size	field
 *	4		length of the WAL, 1 to LINK_COMPRESS_MAX; LINK_COMPRESS_STRIPPED is
 *			added if fields have been left out (strip.h)
 *	4		CRC-32C of the WAL
 *	rest	what the codec made of it
 *
 * The checksum is over the WAL itself: a standby acknowledges nothing that a
 * codec has changed.
 *
 * Decompression is bounded: what a peer sends can cost no more memory than
 * the window (LINK_ZSTD_WINDOW_LOG) and one frame, whatever it says.  The
 * sending side's memory is the window and some 10 MB more; either side touches
 * its window only as far as it has filled it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_COMPRESS_H
#define TANDEM_LINK_COMPRESS_H

#include "frame.h"

typedef enum LinkCompression
{
	LINK_COMPRESSION_NONE,
	LINK_COMPRESSION_LZ4,
	LINK_COMPRESSION_ZSTD,
	LINK_COMPRESSION_AUTO /* in settings only: it depends on the link */
} LinkCompression;

#define LINK_ZSTD_MIN_LEVEL    1
#define LINK_ZSTD_MAX_LEVEL    9
#define LINK_ZSTD_WINDOW_LOG   25 /* 32 MB */

/*
 * WAL for one compressed frame, at most, bytes: so little less than a frame
 * holds that it fits even if it cannot be compressed at all.
 */
#define LINK_COMPRESS_MAX      (LINK_MAX_PAYLOAD - 4096)
#define LINK_COMPRESS_HEADER   8
#define LINK_COMPRESS_STRIPPED 0x80000000

typedef struct LinkCodec LinkCodec;

/*
 * Life.  NULL when out of memory (or for NONE).  'level' is for the sending
 * side and zstd; destroy accepts NULL.
 */
extern LinkCodec *link_codec_create(LinkCompression kind, bool compress, int level);
extern void link_codec_destroy(LinkCodec *codec);

/*
 * The sending side: put up to LINK_COMPRESS_MAX bytes at link_codec_room(),
 * then compress them to 'to', which has room for LINK_MAX_PAYLOAD bytes; they
 * are the WAL at 'lsn', and are changed.  Returns the length of the payload; 0
 * when the codec fails, which leaves the stream of no use.
 */
extern uint8_t *link_codec_room(LinkCodec *codec);
extern size_t link_codec_compress(LinkCodec *codec, uint64_t lsn, size_t length, uint8_t *to);

/*
 * The receiving side: *raw stays valid until the next call.  False: this is
 * not what a compressor of this stream has made, and the stream is of no use.
 * So it is for a codec of the sending side, which nobody sends compressed WAL.
 */
extern bool link_codec_decompress(LinkCodec *codec, uint64_t lsn, const uint8_t *from,
								  size_t length, const uint8_t **raw, size_t *raw_length);

/* What it has cost: CPU time, microseconds; WAL and payload, bytes. */
extern uint64_t link_codec_cpu(const LinkCodec *codec);
extern uint64_t link_codec_raw_bytes(const LinkCodec *codec);
extern uint64_t link_codec_packed_bytes(const LinkCodec *codec);

/* The flags of a frame of HELLO or WELCOME, and back. */
extern uint16_t link_compression_flag(LinkCompression kind);
extern LinkCompression link_compression_of_flags(uint16_t flags);
extern const char *link_compression_name(LinkCompression kind);

#endif /* TANDEM_LINK_COMPRESS_H */
