/*-------------------------------------------------------------------------
 *
 * strip.c
 *	  What a standby can work out by itself is left out before compression;
 *	  see strip.h.
 *
 * The layout of WAL is that of access/xlogrecord.h and access/xlog_internal.h
 * (XLogRecord, XLogPageHeaderData), the same since PostgreSQL 9.5.  A frame
 * begins at a page or where a record may begin; see frame_length() in sender.c.
 * Should it not, no field would be what is expected, and nothing is left out.
 *
 *-------------------------------------------------------------------------
 */
#include "c.h"

#include <string.h>

#include "access/xlogrecord.h"
#include "port/pg_crc32c.h"

#include "strip.h"

/* XLogPageHeaderData */
#define PAGE_INFO        2  /* offset of xlp_info */
#define PAGE_REMAINING   16 /* and of xlp_rem_len */
#define PAGE_HEADER      24
#define PAGE_LONG_HEADER 40
#define PAGE_CONTINUES   0x0001 /* XLP_FIRST_IS_CONTRECORD */
#define PAGE_IS_LONG     0x0002 /* XLP_LONG_HEADER */

/* Goes through the records of one frame. */
typedef struct Walk
{
	const uint8_t *wal;
	size_t length;
	uint64_t lsn;
	size_t at;
	bool lost; /* the next record is the first that begins on the next page */
} Walk;

typedef struct Record
{
	size_t at;
	uint32_t length; /* xl_tot_len */
	bool whole;      /* all of it is in this frame, and its header on one page */
} Record;

static uint16_t
get16(const uint8_t *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

static uint32_t
get32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

static uint64_t
get64(const uint8_t *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return value;
}

/* How much of the page is left; all of it at its begin. */
static size_t
rest_of_page(const Walk *walk)
{
	return XLOG_BLCKSZ - (walk->lsn + walk->at) % XLOG_BLCKSZ;
}

/* At the begin of a page: go behind its header.  False at the end of the frame. */
static bool
skip_header(Walk *walk)
{
	const uint8_t *page = walk->wal + walk->at;
	size_t size;

	if (walk->length - walk->at < PAGE_HEADER)
		return false;
	size = (get16(page + PAGE_INFO) & PAGE_IS_LONG) != 0 ? PAGE_LONG_HEADER : PAGE_HEADER;
	if (walk->length - walk->at < size)
		return false;
	walk->at += size;
	return true;
}

/*
 * Go 'length' bytes of a record on, beyond the headers of pages that are in the
 * way; add them to a CRC if it is not NULL.  False at the end of the frame.
 */
static bool
skip_data(Walk *walk, uint32_t length, pg_crc32c *crc)
{
	while (length > 0)
	{
		size_t n;

		if (rest_of_page(walk) == XLOG_BLCKSZ && !skip_header(walk))
			return false;
		n = Min(rest_of_page(walk), length);
		if (walk->length - walk->at < n)
			return false;
		if (crc != NULL)
			COMP_CRC32C(*crc, walk->wal + walk->at, n);
		walk->at += n;
		length -= n;
	}
	return true;
}

/* Go to the first record that begins on the next page.  False: not in this frame. */
static bool
find_record(Walk *walk)
{
	uint32_t remaining = 0;

	walk->lost = false;
	walk->at += rest_of_page(walk) % XLOG_BLCKSZ;
	if (walk->at > walk->length || walk->length - walk->at < PAGE_HEADER)
		return false;
	if ((get16(walk->wal + walk->at + PAGE_INFO) & PAGE_CONTINUES) != 0)
		remaining = get32(walk->wal + walk->at + PAGE_REMAINING);
	return skip_header(walk) && skip_data(walk, remaining, NULL);
}

static void
walk_begin(Walk *walk, uint64_t lsn, const uint8_t *wal, size_t length)
{
	walk->wal = wal;
	walk->length = length;
	walk->lsn = lsn;
	walk->at = 0;
	walk->lost = lsn % XLOG_BLCKSZ == 0;
}

/* The next record of which the length is in this frame; false if there is none. */
static bool
walk_next(Walk *walk, Record *record)
{
	for (;;)
	{
		if (walk->lost && !find_record(walk))
			return false;
		walk->at += -(walk->lsn + walk->at) % MAXIMUM_ALIGNOF;
		if (walk->at >= walk->length)
			return false;
		if (rest_of_page(walk) == XLOG_BLCKSZ && !skip_header(walk))
			return false;
		if (walk->length - walk->at < sizeof(uint32_t))
			return false;
		record->at = walk->at;
		record->length = get32(walk->wal + walk->at);
		if (record->length >= SizeOfXLogRecord)
			break;
		walk->lost = true; /* the rest of a segment after a switch, or not WAL at all */
		walk->at += sizeof(uint32_t);
	}
	record->whole = rest_of_page(walk) >= SizeOfXLogRecord;
	if (!skip_data(walk, record->length, NULL))
	{
		record->whole = false;
		walk->at = walk->length;
	}
	return true;
}

/* xl_crc as it must be; the record is whole. */
static pg_crc32c
crc_of(const Walk *walk, const Record *record)
{
	Walk data = *walk;
	pg_crc32c crc;

	INIT_CRC32C(crc);
	data.at = record->at + SizeOfXLogRecord;
	(void) skip_data(&data, record->length - SizeOfXLogRecord, &crc);
	COMP_CRC32C(crc, walk->wal + record->at, offsetof(XLogRecord, xl_crc));
	FIN_CRC32C(crc);
	return crc;
}

static bool
is_stripped(const uint8_t *record)
{
	return get64(record + offsetof(XLogRecord, xl_prev)) == 0 &&
		   get32(record + offsetof(XLogRecord, xl_crc)) == 0;
}

/*
 * Go through the records of a frame; 'each' gets every one that is whole, and
 * where the one before it begins.  False if it returns false for one.
 */
typedef bool (*Visit)(const Walk *walk, const Record *record, uint64_t before, uint8_t *wal);

static bool
visit(LinkStrip *strip, uint64_t lsn, uint8_t *wal, size_t length, Visit each)
{
	uint64_t before = strip->next == lsn ? strip->record : 0;
	Walk walk;
	Record record;

	walk_begin(&walk, lsn, wal, length);
	while (walk_next(&walk, &record))
	{
		if (each != NULL && record.whole && before != 0 && !each(&walk, &record, before, wal))
			return false;
		before = lsn + record.at;
	}
	strip->next = lsn + length;
	strip->record = before;
	return true;
}

/* Would the other side take it for what strip_record() makes? */
static bool
is_plain(pg_attribute_unused() const Walk *walk, const Record *record,
		 pg_attribute_unused() uint64_t before, uint8_t *wal)
{
	return !is_stripped(wal + record->at);
}

static bool
strip_record(const Walk *walk, const Record *record, uint64_t before, uint8_t *wal)
{
	uint8_t *header = wal + record->at;

	if (get64(header + offsetof(XLogRecord, xl_prev)) == before &&
		get32(header + offsetof(XLogRecord, xl_crc)) == crc_of(walk, record))
	{
		memset(header + offsetof(XLogRecord, xl_prev), 0, sizeof(XLogRecPtr));
		memset(header + offsetof(XLogRecord, xl_crc), 0, sizeof(pg_crc32c));
	}
	return true;
}

static bool
restore_record(const Walk *walk, const Record *record, uint64_t before, uint8_t *wal)
{
	uint8_t *header = wal + record->at;
	pg_crc32c crc;

	if (is_stripped(header))
	{
		memcpy(header + offsetof(XLogRecord, xl_prev), &before, sizeof(before));
		crc = crc_of(walk, record);
		memcpy(header + offsetof(XLogRecord, xl_crc), &crc, sizeof(crc));
	}
	return true;
}

bool
link_strip(LinkStrip *strip, uint64_t lsn, uint8_t *wal, size_t length)
{
	LinkStrip trial = *strip;

	if (!visit(&trial, lsn, wal, length, is_plain))
	{
		link_strip_skip(strip, lsn, wal, length);
		return false;
	}
	return visit(strip, lsn, wal, length, strip_record);
}

void
link_restore(LinkStrip *strip, uint64_t lsn, uint8_t *wal, size_t length)
{
	(void) visit(strip, lsn, wal, length, restore_record);
}

void
link_strip_skip(LinkStrip *strip, uint64_t lsn, const uint8_t *wal, size_t length)
{
	(void) visit(strip, lsn, (uint8_t *) wal, length, NULL);
}
