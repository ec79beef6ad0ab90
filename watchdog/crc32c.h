/*
 * crc32c.h
 *		CRC-32C of a short text, for files that nothing but this package reads.
 */
#ifndef TANDEM_CRC32C_H
#define TANDEM_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C bit by bit: some lines of text need no table. */
static inline uint32_t
text_crc32c(const char *text, size_t length)
{
	uint32_t crc = UINT32_MAX;

	while (length-- > 0)
	{
		crc ^= (unsigned char) *text++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ ((crc & 1) != 0 ? UINT32_C(0x82F63B78) : 0);
	}
	return ~crc;
}

#endif /* TANDEM_CRC32C_H */
