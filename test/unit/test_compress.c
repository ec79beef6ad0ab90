/*-------------------------------------------------------------------------
 *
 * test_compress.c
 *	  Tests of compression on a link (link/compress.c, link/conn.c).
 *
 *-------------------------------------------------------------------------
 */
#include "pair.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zstd.h>

static const LinkCompression kinds[] = {LINK_COMPRESSION_LZ4, LINK_COMPRESSION_ZSTD};

#define LSN          0x3000028 /* what is in the frames is no WAL; that is in walk_strip.c */

#define EACH_KIND(i) (size_t i = 0; i < 2; i++)

/* Something like WAL: much of it repeats, some of it does not. */
static void
fill(uint8_t *to, size_t length, unsigned int *seed)
{
	for (size_t i = 0; i < length; i++)
	{
		*seed = *seed * 1103515245 + 12345;
		to[i] = (i / 64) % 3 == 0 ? (uint8_t) (*seed >> 16) : (uint8_t) (i % 61);
	}
}

static const size_t lengths[] = {1,   60,  8192, 100, 65536, 65537, LINK_COMPRESS_MAX,
								 300, 300, 1,    7,   131072};

#define STEPS (sizeof(lengths) / sizeof(lengths[0]))

static void
test_round_trip(void **state)
{
	uint8_t *packed = malloc(LINK_MAX_PAYLOAD);
	uint8_t *wal = malloc(LINK_COMPRESS_MAX);

	(void) state;
	for
		EACH_KIND(i)
		{
			LinkCodec *out = link_codec_create(kinds[i], true, 1);
			LinkCodec *in = link_codec_create(kinds[i], false, 0);
			unsigned int seed = 1;

			assert_non_null(out);
			assert_non_null(in);
			for (size_t step = 0; step < 4 * STEPS; step++)
			{
				size_t length = lengths[step % STEPS];
				const uint8_t *raw;
				size_t raw_length;
				size_t n;

				fill(wal, length, &seed);
				memcpy(link_codec_room(out), wal, length);
				n = link_codec_compress(out, LSN, length, packed);
				assert_true(n > LINK_COMPRESS_HEADER && n <= LINK_MAX_PAYLOAD);
				assert_true(link_codec_decompress(in, LSN, packed, n, &raw, &raw_length));
				assert_int_equal(raw_length, length);
				assert_memory_equal(raw, wal, length);
			}
			assert_true(link_codec_raw_bytes(out) == link_codec_raw_bytes(in));
			assert_true(link_codec_packed_bytes(out) == link_codec_packed_bytes(in));
			assert_true(link_codec_packed_bytes(out) < link_codec_raw_bytes(out) * 2 / 3);
			link_codec_destroy(out);
			link_codec_destroy(in);
		}
	free(packed);
	free(wal);
}

/* What was sent before is remembered: short frames that repeat become short. */
static void
test_context_is_kept(void **state)
{
	uint8_t packed[4096];
	uint8_t wal[500];

	(void) state;
	for
		EACH_KIND(i)
		{
			LinkCodec *out = link_codec_create(kinds[i], true, 1);
			unsigned int seed = 7;
			size_t first;
			size_t n = 0;

			for (size_t k = 0; k < sizeof(wal); k++)
			{
				seed = seed * 1103515245 + 12345;
				wal[k] = (uint8_t) (seed >> 16);
			}
			memcpy(link_codec_room(out), wal, sizeof(wal));
			first = link_codec_compress(out, LSN, sizeof(wal), packed);
			assert_true(first >= sizeof(wal)); /* noise */

			/* other short frames lie in between */
			for (int k = 0; k < 50; k++)
			{
				memset(link_codec_room(out), k, 20);
				assert_true(link_codec_compress(out, LSN, 20, packed) > 0);
				memcpy(link_codec_room(out), wal, sizeof(wal));
				n = link_codec_compress(out, LSN, sizeof(wal), packed);
			}
			assert_true(n < first / 8);
			link_codec_destroy(out);
		}
}

/* WAL that cannot be compressed still fits into a frame. */
static void
test_noise_fits(void **state)
{
	uint8_t *packed = malloc(LINK_MAX_PAYLOAD);

	(void) state;
	for
		EACH_KIND(i)
		{
			LinkCodec *out = link_codec_create(kinds[i], true, LINK_ZSTD_MAX_LEVEL);
			LinkCodec *in = link_codec_create(kinds[i], false, 0);
			unsigned int seed = 5;

			for (int step = 0; step < 20; step++)
			{
				uint8_t *room = link_codec_room(out);
				const uint8_t *raw;
				size_t raw_length;
				size_t n;

				for (size_t k = 0; k < LINK_COMPRESS_MAX; k++)
				{
					seed = seed * 1103515245 + 12345;
					room[k] = (uint8_t) (seed >> 16);
				}
				n = link_codec_compress(out, LSN, LINK_COMPRESS_MAX, packed);
				assert_true(n > 0 && n <= LINK_MAX_PAYLOAD);
				assert_true(link_codec_decompress(in, LSN, packed, n, &raw, &raw_length));
				assert_int_equal(raw_length, LINK_COMPRESS_MAX);
			}
			link_codec_destroy(out);
			link_codec_destroy(in);
		}
	free(packed);
}

/* One wrong bit anywhere is noticed, by the codec or by the checksum. */
static void
test_damage_is_noticed(void **state)
{
	uint8_t packed[8192];
	uint8_t wal[600];
	unsigned int seed = 3;

	(void) state;
	fill(wal, sizeof(wal), &seed);
	for
		EACH_KIND(i)
		{
			LinkCodec *out = link_codec_create(kinds[i], true, 1);
			size_t n;

			memcpy(link_codec_room(out), wal, sizeof(wal));
			n = link_codec_compress(out, LSN, sizeof(wal), packed);
			link_codec_destroy(out);
			for (size_t bit = 0; bit < 8 * n; bit++)
			{
				LinkCodec *in = link_codec_create(kinds[i], false, 0);
				const uint8_t *raw;
				size_t raw_length;

				packed[bit / 8] ^= 1 << (bit % 8);
				/* a bit of the codec's own that means nothing may be wrong */
				if (link_codec_decompress(in, LSN, packed, n, &raw, &raw_length))
				{
					assert_int_equal(raw_length, sizeof(wal));
					assert_memory_equal(raw, wal, sizeof(wal));
				}
				packed[bit / 8] ^= 1 << (bit % 8);
				link_codec_destroy(in);
			}
			for (size_t cut = 0; cut < n; cut++)
			{
				LinkCodec *in = link_codec_create(kinds[i], false, 0);
				const uint8_t *raw;
				size_t raw_length;

				assert_false(link_codec_decompress(in, LSN, packed, cut, &raw, &raw_length));
				link_codec_destroy(in);
			}
		}
}

/* zstd: rows come again after 24 MB, in another order, and are found; and a full window is none too few. */
static void
test_long_distance(void **state)
{
	const size_t row = 250;
	const unsigned int rows = 24 * 1000 * 1000 / 250;
	static const unsigned int steps[] = {7, 11,
										 13}; /* no divisor in common with the number of rows */
	uint8_t *packed = malloc(LINK_MAX_PAYLOAD);
	LinkCodec *out = link_codec_create(LINK_COMPRESSION_ZSTD, true, 1);
	LinkCodec *in = link_codec_create(LINK_COMPRESSION_ZSTD, false, 0);
	uint64_t first = 0;

	(void) state;
	for (int pass = 0; pass < 3; pass++)
	{
		uint64_t before = link_codec_packed_bytes(out);

		for (unsigned int begin = 0; begin < rows; begin += 1000)
		{
			const uint8_t *raw;
			size_t raw_length;
			size_t n;

			for (unsigned int i = 0; i < 1000; i++)
			{
				unsigned int seed = (unsigned int) ((uint64_t) (begin + i) * steps[pass] % rows);
				uint8_t *to = link_codec_room(out) + i * row;

				for (size_t k = 0; k < row; k++)
				{
					seed = seed * 1103515245 + 12345;
					to[k] = (uint8_t) (seed >> 16);
				}
			}
			n = link_codec_compress(out, LSN, 1000 * row, packed);
			assert_true(n > 0);
			assert_true(link_codec_decompress(in, LSN, packed, n, &raw, &raw_length));
			assert_int_equal(raw_length, 1000 * row);
			assert_memory_equal(raw, link_codec_room(out), raw_length);
		}
		if (pass == 0)
			first = link_codec_packed_bytes(out);
		else
			assert_true((link_codec_packed_bytes(out) - before) < first / 2);
	}
	link_codec_destroy(out);
	link_codec_destroy(in);
	free(packed);
}

static long
memory_kb(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

/* A few bytes that ask for much are refused, and do not cost much. */
static void
test_bombs(void **state)
{
	static uint8_t zeroes[1024 * 1024];
	ZSTD_CCtx *context = ZSTD_createCCtx();
	uint8_t packed[LINK_COMPRESS_HEADER + 4096] = {0};
	ZSTD_outBuffer out = {packed + LINK_COMPRESS_HEADER, 4096, 0};
	LinkCodec *in = link_codec_create(LINK_COMPRESSION_ZSTD, false, 0);
	const uint8_t *raw;
	size_t raw_length;
	long before;

	(void) state;

	/* 64 MB of zeroes, with a window as large as zstd has */
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, 27)));
	for (int i = 0; i < 64; i++)
	{
		ZSTD_inBuffer zero = {zeroes, sizeof(zeroes), 0};

		(void) ZSTD_compressStream2(context, &out, &zero, i == 63 ? ZSTD_e_flush : ZSTD_e_continue);
	}
	before = memory_kb();
	for (uint32_t claim = 1; claim != 0; claim <<= 1)
	{
		link_codec_destroy(in);
		in = link_codec_create(LINK_COMPRESSION_ZSTD, false, 0);
		for (int i = 0; i < 4; i++)
			packed[i] = (uint8_t) (claim >> (8 * i));
		assert_false(link_codec_decompress(in, LSN, packed, LINK_COMPRESS_HEADER + out.pos, &raw,
										   &raw_length));
	}
#if !defined(__SANITIZE_ADDRESS__)
	assert_true(memory_kb() - before < (1024 << (LINK_ZSTD_WINDOW_LOG - 20)) + 4 * 1024);
#else
	(void) before;
#endif
	link_codec_destroy(in);
	ZSTD_freeCCtx(context);
}

/* ------------------------------------------------------------- connections */

static void
test_connection(void **state)
{
	(void) state;
	for
		EACH_KIND(i)
		{
			Session s;
			unsigned int seed = 9;
			uint8_t *wal = malloc(LINK_COMPRESS_MAX);

			session_authenticated(&s, WIRE_UNIX, false);
			assert_int_equal(link_wal_max(s.conn[SERVER]), LINK_MAX_PAYLOAD);
			assert_true(link_conn_compress(s.conn[SERVER], kinds[i], true, 1));
			assert_true(link_conn_compress(s.conn[CLIENT], kinds[i], false, 0));
			assert_int_equal(link_wal_max(s.conn[SERVER]), LINK_COMPRESS_MAX);
			for (size_t step = 0; step < 3 * STEPS; step++)
			{
				size_t length = lengths[step % STEPS];
				LinkHeader header = {.type = LINK_WAL, .lsn = step, .flags = LINK_FLAG_REPLY};
				const uint8_t *payload;
				LinkDecode decode;

				fill(wal, length, &seed);
				memcpy(link_wal_begin(s.conn[SERVER], length), wal, length);
				assert_true(link_wal_end(s.conn[SERVER], &header, length));
				while ((decode = link_next(s.conn[CLIENT], &header, &payload)) == LINK_DECODE_MORE)
				{
					(void) link_flush(s.conn[SERVER]);
					await(s.conn[CLIENT]->fd, POLLIN);
					assert_true(link_fill(s.conn[CLIENT]) > 0);
				}
				assert_int_equal(decode, LINK_DECODE_OK);
				assert_int_equal(header.type, LINK_WAL);
				assert_int_equal(header.flags, LINK_FLAG_REPLY); /* the other flag is gone */
				assert_int_equal(header.lsn, step);
				assert_int_equal(header.length, length);
				assert_memory_equal(payload, wal, length);
			}
			free(wal);
			session_close(&s);
		}
}

/* A compressed frame where none was agreed on, or that is not WAL. */
static void
test_not_agreed(void **state)
{
	(void) state;
	for (int agreed = 0; agreed < 2; agreed++)
	{
		Session s;
		LinkHeader header = {.type = agreed ? LINK_NOTICE : LINK_WAL,
							 .flags = LINK_FLAG_COMPRESSED};
		const uint8_t *payload;

		session_authenticated(&s, WIRE_UNIX, false);
		if (agreed)
			assert_true(link_conn_compress(s.conn[CLIENT], LINK_COMPRESSION_ZSTD, false, 0));
		assert_true(link_frame_put(s.conn[SERVER], &header, "0123456789", 10));
		assert_int_equal(link_flush(s.conn[SERVER]), 1);
		await(s.conn[CLIENT]->fd, POLLIN);
		assert_true(link_fill(s.conn[CLIENT]) > 0);
		assert_int_equal(link_next(s.conn[CLIENT], &header, &payload), LINK_DECODE_BAD_FLAGS);
		session_close(&s);
	}
}

/* A compressed frame that goes the wrong way, to the side that compresses. */
static void
test_wrong_way(void **state)
{
	(void) state;
	for
		EACH_KIND(i)
		{
			Session s;
			LinkHeader header = {.type = LINK_WAL};
			const uint8_t *payload;

			session_authenticated(&s, WIRE_UNIX, false);
			assert_true(link_conn_compress(s.conn[SERVER], kinds[i], true, 1));
			assert_true(link_conn_compress(s.conn[CLIENT], kinds[i], true, 1));
			memset(link_wal_begin(s.conn[CLIENT], 100), 'x', 100);
			assert_true(link_wal_end(s.conn[CLIENT], &header, 100));
			assert_int_equal(link_flush(s.conn[CLIENT]), 1);
			await(s.conn[SERVER]->fd, POLLIN);
			assert_true(link_fill(s.conn[SERVER]) > 0);
			assert_int_equal(link_next(s.conn[SERVER], &header, &payload), LINK_DECODE_BAD_PAYLOAD);
			session_close(&s);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_context_is_kept),
		cmocka_unit_test(test_noise_fits),    cmocka_unit_test(test_damage_is_noticed),
		cmocka_unit_test(test_long_distance), cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_connection),    cmocka_unit_test(test_not_agreed),
		cmocka_unit_test(test_wrong_way),     cmocka_unit_test(test_no_descriptor_left),
	};

	return cmocka_run_group_tests_name("compress", tests, before_all, NULL);
}
