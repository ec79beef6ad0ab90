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

/* XLogPageHeaderData, whose own header needs a backend */
typedef struct PageHeader
{
	uint16_t magic;
	uint16_t info;
	uint32_t timeline;
	uint64_t address;
	uint32_t remaining; /* of the record that begins on a page before */
	uint32_t padding;
} PageHeader;

#define PAGE_CONTINUES   0x0001 /* XLP_FIRST_IS_CONTRECORD */
#define PAGE_IS_LONG     0x0002 /* XLP_LONG_HEADER */
#define PAGE_LONG_HEADER 40

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

/* How much of the page is left; all of it at its begin. */
static size_t
rest_of_page(const Walk *walk)
{
	return XLOG_BLCKSZ - (walk->lsn + walk->at) % XLOG_BLCKSZ;
}

/*
 * At the begin of a page: go behind its header, and tell how much of a record
 * goes on there.  False at the end of the frame.
 */
static bool
skip_header(Walk *walk, uint32_t *remaining)
{
	PageHeader page;
	size_t size;

	if (walk->length - walk->at < sizeof(page))
		return false;
	memcpy(&page, walk->wal + walk->at, sizeof(page));
	size = (page.info & PAGE_IS_LONG) != 0 ? PAGE_LONG_HEADER : sizeof(page);
	if (walk->length - walk->at < size)
		return false;
	walk->at += size;
	*remaining = (page.info & PAGE_CONTINUES) != 0 ? page.remaining : 0;
	return true;
}

/*
 * Go 'length' bytes of a record on, beyond the headers of pages that are in the
 * way; add them to a CRC if it is not NULL.  False at the end of the frame.
 */
static bool
skip_data(Walk *walk, uint32_t length, pg_crc32c *crc)
{
	uint32_t remaining;

	while (length > 0)
	{
		size_t n;

		if (rest_of_page(walk) == XLOG_BLCKSZ && !skip_header(walk, &remaining))
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
	uint32_t remaining;

	walk->lost = false;
	walk->at += rest_of_page(walk) % XLOG_BLCKSZ;
	return walk->at <= walk->length && skip_header(walk, &remaining) &&
		   skip_data(walk, remaining, NULL);
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
	uint32_t remaining;

	for (;;)
	{
		if (walk->lost && !find_record(walk))
			return false;
		walk->at += -(walk->lsn + walk->at) % MAXIMUM_ALIGNOF;
		if (walk->at >= walk->length)
			return false;
		if (rest_of_page(walk) == XLOG_BLCKSZ && !skip_header(walk, &remaining))
			return false;
		if (walk->length - walk->at < sizeof(record->length))
			return false;
		record->at = walk->at;
		memcpy(&record->length, walk->wal + walk->at, sizeof(record->length));
		if (record->length >= SizeOfXLogRecord)
			break;
		walk->lost = true; /* the rest of a segment after a switch, or not WAL at all */
		walk->at += sizeof(record->length);
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

static XLogRecord
get_header(const uint8_t *wal, const Record *record)
{
	XLogRecord header;

	memcpy(&header, wal + record->at, SizeOfXLogRecord);
	return header;
}

static void
put_header(uint8_t *wal, const Record *record, const XLogRecord *header)
{
	memcpy(wal + record->at, header, SizeOfXLogRecord);
}

static bool
is_stripped(const XLogRecord *header)
{
	return header->xl_prev == 0 && header->xl_crc == 0;
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
	XLogRecord header = get_header(wal, record);

	return !is_stripped(&header);
}

static bool
strip_record(const Walk *walk, const Record *record, uint64_t before, uint8_t *wal)
{
	XLogRecord header = get_header(wal, record);

	if (header.xl_prev == before && header.xl_crc == crc_of(walk, record))
	{
		header.xl_prev = 0;
		header.xl_crc = 0;
		put_header(wal, record, &header);
	}
	return true;
}

static bool
restore_record(const Walk *walk, const Record *record, uint64_t before, uint8_t *wal)
{
	XLogRecord header = get_header(wal, record);

	if (is_stripped(&header))
	{
		header.xl_prev = before;
		put_header(wal, record, &header);
		header.xl_crc = crc_of(walk, record); /* which is over xl_prev, too */
		put_header(wal, record, &header);
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
