/*-------------------------------------------------------------------------
 *
 * sample.h
 *	  A second codec, and a sample of every frame.
 *
 * The layout and the checksum are written down here a second time and by
 * other means, so that encoder and decoder cannot agree on a mistake.
 * Whatever is decoded lies at the end of an allocation of exactly its length:
 * a read beyond it is seen by the address sanitizer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_TEST_SAMPLE_H
#define TANDEM_TEST_SAMPLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "frame.h"

/* offsets in the header */
#define AT_MAGIC       0
#define AT_VERSION     4
#define AT_TYPE        5
#define AT_FLAGS       6
#define AT_TERM        8
#define AT_LSN         16
#define AT_BOUND       24
#define AT_TIME        32
#define AT_LENGTH      40
#define AT_PAYLOAD_CRC 44
#define AT_RESERVED    48
#define AT_HEADER_CRC  52

#define SAMPLE_MAX     (LINK_HEADER_SIZE + 1024)

extern void poke(uint8_t *at, uint64_t value, int bytes);
extern uint64_t peek(const uint8_t *at, int bytes);
extern uint32_t slow_crc(const uint8_t *data, size_t length);
extern void seal(uint8_t *frame);
extern LinkDecode decode(const uint8_t *bytes, size_t available, LinkHeader *header);
extern uint8_t *exact_copy(const uint8_t *bytes, size_t length);
extern void fill_bytes(uint8_t *at, size_t length, uint8_t seed);
extern void sample_history(LinkHistory *history, int count);
extern void sample_hello(LinkHello *msg, int history);
extern size_t sample_payload(LinkFrameType type, uint8_t *payload);
extern size_t sample_frame(LinkFrameType type, uint8_t *frame);

#endif /* TANDEM_TEST_SAMPLE_H */
