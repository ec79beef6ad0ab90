/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *	  What both fuzzers need: repeatable random numbers and messages.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_FUZZ_H
#define TANDEM_FUZZ_H

#include "frame.h"

#define AT_TYPE       5
#define AT_LENGTH     40
#define AT_HEADER_CRC 52

#define MAX_FRAME     (LINK_HEADER_SIZE + LINK_MAX_PAYLOAD)

typedef struct Rng
{
	uint64_t state;
} Rng;

/*
 * random_frame writes up to MAX_FRAME bytes.  seal makes a frame of 'length'
 * bytes out of anything, so that only its contents can be wrong; mutate
 * changes something and keeps the length.
 */
extern uint64_t rnd(Rng *rng);
extern uint32_t below(Rng *rng, uint32_t n);
extern bool one_in(Rng *rng, uint32_t n);
extern void random_bytes(Rng *rng, uint8_t *to, size_t length);
extern uint64_t edgy(Rng *rng);
extern size_t random_payload(Rng *rng, LinkFrameType type, uint8_t *to);
extern size_t random_frame(Rng *rng, uint8_t *to);
extern uint32_t crc32c(const uint8_t *data, size_t length);
extern void poke32(uint8_t *at, uint32_t value);
extern void seal(uint8_t *frame, size_t length);
extern void mutate(Rng *rng, uint8_t *data, size_t length);

#endif /* TANDEM_FUZZ_H */
