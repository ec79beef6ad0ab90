/*-------------------------------------------------------------------------
 *
 * strip.h
 *	  What a standby can work out by itself is left out before compression.
 *
 * Two fields of a WAL record's header cannot be compressed: its CRC (xl_crc),
 * and where the record before it begins (xl_prev), which is another number in
 * each.  Both follow from the rest.  In a record that lies wholly in its frame,
 * they are zero on the wire, and the standby computes them again.  Of the WAL
 * of bench/tpcc, 155 bytes a record, that makes 3.55:1 out of 2.93:1 (zstd:1).
 *
 * Nothing rests on the WAL being what we think it is.  Both sides find the
 * records by the same rule, from bytes that are never changed; a field is left
 * out only where that rule gives it back; and compress.h has a checksum over
 * the WAL as it was, which is computed before and compared after.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_STRIP_H
#define TANDEM_LINK_STRIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What each side remembers from frame to frame; zeroed at the begin of a connection. */
typedef struct LinkStrip
{
	uint64_t next;   /* where the last frame ended, LSN */
	uint64_t record; /* where the last record before that begins, LSN; 0: not known */
} LinkStrip;

/*
 * Change the 'length' bytes of WAL at 'lsn' for the wire.  False: they are as
 * they were, and not to be given to link_restore(), but to link_strip_skip().
 */
extern bool link_strip(LinkStrip *strip, uint64_t lsn, uint8_t *wal, size_t length);

/* The other side: make them again what they were. */
extern void link_restore(LinkStrip *strip, uint64_t lsn, uint8_t *wal, size_t length);

/* The other side: these came as they were. */
extern void link_strip_skip(LinkStrip *strip, uint64_t lsn, const uint8_t *wal, size_t length);

#endif /* TANDEM_LINK_STRIP_H */
