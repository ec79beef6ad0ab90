/*-------------------------------------------------------------------------
 *
 * walk.c
 *	  The record walk.  What it is for and what it proves: walk.h.
 *
 * One call reads one record after the other, page by page through a window
 * in the caller's buffer, and computes the CRC fragment by fragment, as they
 * come: XLogInsert() computes it over what follows the header first, and over
 * the header last (XLogRecordAssemble, XLogInsertRecord), so that only the
 * record's first bytes have to be kept.
 *
 * Nothing read from a page that may still grow outlives a call, except
 * tail_hash.  Within a call each page is read once; a copy that has become
 * old meanwhile only shows less.
 *
 *-------------------------------------------------------------------------
 */
#ifndef FRONTEND
#include "postgres.h"
#else
#include "postgres_fe.h"
#endif

#include "access/rmgr.h"
#include "catalog/pg_control.h"
#include "port/pg_crc32c.h"

#include "walk.h"

/*
 * The longest record believed.  A longer one cannot be assembled by
 * xlogreader.c, whose buffer is palloc'd (MaxAllocSize); newer versions of
 * PostgreSQL refuse to insert records a bit shorter than that.
 */
#define MAX_RECORD_LENGTH ((uint32) 0x3fffffff)

/* all headers a record can begin with: see xlogrecord.h, "overall layout" */
#define MAX_HEADERS_LENGTH                                                                        \
	(SizeOfXLogRecord + (XLR_MAX_BLOCK_ID + 1) * MaxSizeOfXLogRecordBlockHeader + sizeof(uint8) + \
	 sizeof(RepOriginId) + sizeof(uint8) + sizeof(TransactionId) + SizeOfXLogRecordDataHeaderLong)

/* where XLOG_OVERWRITE_CONTRECORD keeps its data, and how far it is needed */
#define OVERWRITTEN_LSN_OFFSET (SizeOfXLogRecord + SizeOfXLogRecordDataHeaderShort)
#define MIN_KEPT_LENGTH        (OVERWRITTEN_LSN_OFFSET + sizeof(XLogRecPtr))

/* WAL bytes in a page and in a segment, without headers, as in xlog.c */
#define LONG_HEADER_EXTRA      ((uint64) (SizeOfXLogLongPHD - SizeOfXLogShortPHD))
#define USABLE_IN_PAGE         ((uint64) (XLOG_BLCKSZ - SizeOfXLogShortPHD))
#define USABLE_IN_SEGMENT(state) \
	((state)->segsize / XLOG_BLCKSZ * USABLE_IN_PAGE - LONG_HEADER_EXTRA)

/* the first read of a call; each further one is four times as large */
#define FIRST_READ_SIZE (4 * XLOG_BLCKSZ)

/* one call of WalkAdvance() */
typedef struct Walk
{
	WalkState *state;
	const WalkReader *reader;
	XLogRecPtr limit;  /* page-aligned */
	XLogRecPtr window; /* LSN of the first byte in reader->buf */
	size_t window_len; /* whole pages */
	size_t read_size;  /* of the next read */
} Walk;

/* the record being read */
typedef struct Record
{
	XLogRecPtr start;     /* behind the page header */
	XLogRecPtr end;       /* MAXALIGNed; of the segment, after XLOG_SWITCH */
	XLogRecPtr cut;       /* page that overwrote its rest, or invalid */
	XLogRecPtr aborted;   /* start of a record so cut before this one */
	bool opens_overwrite; /* first on a page with the overwrite flag */
	bool zero_padded;     /* up to the alignment */
	uint32 got;           /* bytes read */
	uint32 keep;          /* how many of them to keep in head */
	pg_crc32c crc;        /* of the bytes behind the header, not finished */
	union
	{
		XLogRecord header;
		char bytes[MAX_HEADERS_LENGTH];
	} head;
} Record;

/* reads a record's headers one field at a time */
typedef struct HeaderCursor
{
	const char *next;
	size_t kept;      /* bytes that can be read at next */
	size_t remaining; /* bytes of the record from next on */
} HeaderCursor;

static const char *const stop_names[WALK_STOPS] = {
	[WALK_NOT_STOPPED] = "not started",
	[WALK_NEED_MORE] = "need more",
	[WALK_ZERO_LENGTH] = "zero length",
	[WALK_BAD_LENGTH] = "bad length",
	[WALK_BAD_RMGR] = "bad resource manager",
	[WALK_BAD_PREV] = "bad prev",
	[WALK_BAD_CRC] = "bad crc",
	[WALK_BAD_PADDING] = "bad padding",
	[WALK_BAD_PAGE] = "bad page header",
	[WALK_BAD_BLOCKS] = "bad block references",
	[WALK_OTHER_TIMELINE] = "other timeline",
	[WALK_CHANGED] = "changed",
	[WALK_READ_FAILED] = "read failed",
};

static XLogRecPtr
page_of(XLogRecPtr lsn)
{
	return lsn - lsn % XLOG_BLCKSZ;
}

/* size of the header of the page at addr, as PostgreSQL writes it */
static uint32
page_header_size(const WalkState *state, XLogRecPtr addr)
{
	return XLogSegmentOffset(addr, state->segsize) == 0 ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
}

static bool
all_zeros(const char *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/*
 * A hash of n bytes, n a multiple of eight as every boundary in a page is.
 * Multiplication carries, so a difference that the CRC cannot see is nothing
 * special to it.
 */
static uint64
hash_bytes(const char *p, size_t n)
{
	uint64 hash = n;
	uint64 word;
	size_t i;

	for (i = 0; i + sizeof(word) <= n; i += sizeof(word))
	{
		memcpy(&word, p + i, sizeof(word));
		hash = (hash ^ word) * UINT64CONST(0x9E3779B97F4A7C15);
		hash ^= hash >> 32;
	}
	return hash;
}

/*
 * Positions in WAL without page headers: XLogRecPtrToBytePos() and
 * XLogBytePosToEndRecPtr() in xlog.c.  lsn is not within a page header.
 */
static uint64
lsn_to_bytepos(const WalkState *state, XLogRecPtr lsn)
{
	uint32 offset = XLogSegmentOffset(lsn, state->segsize);
	uint64 result = lsn / state->segsize * USABLE_IN_SEGMENT(state);

	result += offset / XLOG_BLCKSZ * USABLE_IN_PAGE;
	if (offset >= XLOG_BLCKSZ)
		result -= LONG_HEADER_EXTRA;
	if (offset % XLOG_BLCKSZ != 0)
		result += offset % XLOG_BLCKSZ - page_header_size(state, page_of(lsn));
	return result;
}

static XLogRecPtr
bytepos_to_end_lsn(const WalkState *state, uint64 bytepos)
{
	XLogRecPtr result = bytepos / USABLE_IN_SEGMENT(state) * state->segsize;
	uint64 rest = bytepos % USABLE_IN_SEGMENT(state);

	if (rest == 0)
		return result;
	rest += LONG_HEADER_EXTRA;
	result += rest / USABLE_IN_PAGE * XLOG_BLCKSZ;
	if (rest % USABLE_IN_PAGE != 0)
		result += rest % USABLE_IN_PAGE + SizeOfXLogShortPHD;
	return result;
}

/* MAXALIGNed end of a record of tot_len bytes, as a boundary is given */
static XLogRecPtr
end_of_record(const WalkState *state, XLogRecPtr start, uint32 tot_len)
{
	uint64 len = MAXALIGN64(tot_len);

	if (start % XLOG_BLCKSZ + len <= XLOG_BLCKSZ)
		return start + len;
	return bytepos_to_end_lsn(state, lsn_to_bytepos(state, start) + len);
}

/* The page at addr, in the window: valid until the next page is fetched. */
static WalkStop
fetch_page(Walk *walk, XLogRecPtr addr, const char **page)
{
	uint32 segsize = walk->state->segsize;

	if (addr >= walk->limit)
		return WALK_NEED_MORE;

	if (addr < walk->window || addr >= walk->window + walk->window_len)
	{
		size_t len = Min(walk->read_size, walk->limit - addr);
		ssize_t got;

		len = Min(len, segsize - XLogSegmentOffset(addr, segsize));
		got = walk->reader->read(walk->reader->arg, addr, walk->reader->buf, len);
		walk->window = addr;
		walk->window_len = 0;
		if (got < XLOG_BLCKSZ)
			return WALK_READ_FAILED;
		walk->window_len = got - got % XLOG_BLCKSZ;
		walk->read_size = Min(walk->read_size * 4, walk->reader->bufsize);
		walk->read_size -= walk->read_size % XLOG_BLCKSZ;
	}

	walk->state->seen = addr + XLOG_BLCKSZ;
	*page = walk->reader->buf + (addr - walk->window);
	return WALK_NOT_STOPPED;
}

/* The fields that only the first page of a segment has. */
static bool
long_header_is_valid(const WalkState *state, const char *page)
{
	const XLogLongPageHeaderData *header = (const XLogLongPageHeaderData *) page;

	if (state->sysid != 0 && header->xlp_sysid != state->sysid)
		return false;
	return header->xlp_seg_size == state->segsize && header->xlp_xlog_blcksz == XLOG_BLCKSZ;
}

/*
 * All that can be said of a page header without knowing what comes before the
 * page.  XLogReaderValidatePageHeader() is more lenient: this accepts only
 * what AdvanceXLInsertBuffer(), CopyXLogRecordToWAL() and
 * CreateOverwriteContrecordRecord() can have made.
 *
 * A page that holds the end of one timeline and the beginning of the next
 * keeps its header (StartupXLOG: "Copy the valid part of the last block"), so
 * a walk that begins within a page accepts a parent's timeline there.
 */
static WalkStop
check_page(const WalkState *state, XLogRecPtr addr, const char *page, bool within)
{
	const XLogPageHeaderData *header = (const XLogPageHeaderData *) page;
	size_t fields = offsetof(XLogPageHeaderData, xlp_rem_len) + sizeof(header->xlp_rem_len);
	bool is_first = XLogSegmentOffset(addr, state->segsize) == 0;
	bool contrecord = (header->xlp_info & XLP_FIRST_IS_CONTRECORD) != 0;

	if (header->xlp_magic != XLOG_PAGE_MAGIC || header->xlp_pageaddr != addr ||
		(header->xlp_info & ~XLP_ALL_FLAGS) != 0 ||
		((header->xlp_info & XLP_LONG_HEADER) != 0) != is_first ||
		contrecord != (header->xlp_rem_len != 0) ||
		!all_zeros(page + fields, SizeOfXLogShortPHD - fields) ||
		(is_first && !long_header_is_valid(state, page)))
		return WALK_BAD_PAGE;

	if (header->xlp_tli != state->tli && !(within && header->xlp_tli < state->tli))
		return WALK_OTHER_TIMELINE;
	return WALK_NOT_STOPPED;
}

/*
 * Fetch and check the page where the record at pos begins, and set up *record.
 */
static WalkStop
begin_record(Walk *walk, Record *record, XLogRecPtr pos, const char **page)
{
	XLogRecPtr addr = page_of(pos);
	uint32 offset = pos - addr;
	uint32 header_size = page_header_size(walk->state, addr);
	bool fresh = offset <= header_size;
	const XLogPageHeaderData *header;
	WalkStop stop;

	stop = fetch_page(walk, addr, page);
	if (stop == WALK_NOT_STOPPED)
		stop = check_page(walk->state, addr, *page, !fresh);
	if (stop != WALK_NOT_STOPPED)
		return stop;

	/* a record continued on this page has to end before pos */
	header = (const XLogPageHeaderData *) *page;
	if (header_size + MAXALIGN64(header->xlp_rem_len) > Max(offset, header_size))
		return WALK_BAD_PAGE;

	record->start = fresh ? addr + header_size : pos;
	record->opens_overwrite = fresh && (header->xlp_info & XLP_FIRST_IS_OVERWRITE_CONTRECORD);
	record->cut = InvalidXLogRecPtr;
	record->got = 0;
	record->keep = walk->reader->block != NULL ? MAX_HEADERS_LENGTH : MIN_KEPT_LENGTH;
	INIT_CRC32C(record->crc);
	return WALK_NOT_STOPPED;
}

static void
take_fragment(Record *record, const char *data, uint32 len)
{
	uint32 header_len = 0;

	if (record->got < record->keep)
		memcpy(record->head.bytes + record->got, data, Min(len, record->keep - record->got));
	if (record->got < SizeOfXLogRecord)
		header_len = Min(len, SizeOfXLogRecord - record->got);
	COMP_CRC32C(record->crc, data + header_len, len - header_len);
	record->got += len;
}

/* as ValidXLogRecordHeader() in xlogreader.c; the length was checked before */
static WalkStop
check_record_header(const WalkState *state, const Record *record)
{
	const XLogRecord *header = &record->head.header;

	if (!RmgrIdIsValid(header->xl_rmid))
		return WALK_BAD_RMGR;
	if (XLogRecPtrIsInvalid(state->prev) ? header->xl_prev >= record->start
										 : header->xl_prev != state->prev)
		return WALK_BAD_PREV;
	return WALK_NOT_STOPPED;
}

/*
 * Is *record, which ends beyond the limit, simply not written to its end yet?
 * Then the last page below the limit continues it, with exactly the length
 * that should be left, and there is no need to read what lies between.
 *
 * Otherwise the length is wrong, or a crash cut the record off and another
 * one was written over its rest: reading on will tell.
 */
static bool
is_still_being_written(Walk *walk, const Record *record, uint32 tot_len)
{
	XLogRecPtr last = walk->limit - XLOG_BLCKSZ;
	uint64 written;
	const char *page;

	if (record->end <= walk->limit)
		return false;
	if (last <= record->start)
		return true;
	if (fetch_page(walk, last, &page) != WALK_NOT_STOPPED ||
		check_page(walk->state, last, page, false) != WALK_NOT_STOPPED)
		return false;
	written = lsn_to_bytepos(walk->state, last) - lsn_to_bytepos(walk->state, record->start);
	return ((const XLogPageHeaderData *) page)->xlp_rem_len == tot_len - written;
}

/* Fetch the next page of a record; sets record->cut if it is none. */
static WalkStop
continue_record(Walk *walk, Record *record, XLogRecPtr addr, uint32 rem_len, const char **page)
{
	const XLogPageHeaderData *header;
	WalkStop stop;

	stop = fetch_page(walk, addr, page);
	if (stop == WALK_NOT_STOPPED)
		stop = check_page(walk->state, addr, *page, false);
	if (stop != WALK_NOT_STOPPED)
		return stop;

	header = (const XLogPageHeaderData *) *page;
	if (header->xlp_info & XLP_FIRST_IS_OVERWRITE_CONTRECORD)
		record->cut = addr;
	else if (header->xlp_rem_len != rem_len)
		return WALK_BAD_PAGE;
	return WALK_NOT_STOPPED;
}

/* Read a record from its first page on, to its end or to where it is cut. */
static WalkStop
read_record(Walk *walk, Record *record, const char *page)
{
	XLogRecPtr addr = page_of(record->start);
	uint32 offset = record->start - addr;
	uint32 len;
	uint32 tot_len;
	bool header_checked = false;
	WalkStop stop;

	/* records are MAXALIGNed: this much of one always lies on its first page */
	memcpy(&tot_len, page + offset, sizeof(tot_len));
	if (tot_len == 0)
		return WALK_ZERO_LENGTH;
	if (tot_len < SizeOfXLogRecord || tot_len > MAX_RECORD_LENGTH)
		return WALK_BAD_LENGTH;
	record->end = end_of_record(walk->state, record->start, tot_len);

	for (;;)
	{
		len = Min(tot_len - record->got, XLOG_BLCKSZ - offset);
		take_fragment(record, page + offset, len);
		if (!header_checked && record->got >= SizeOfXLogRecord)
		{
			stop = check_record_header(walk->state, record);
			if (stop != WALK_NOT_STOPPED)
				return stop;
			header_checked = true;
		}
		if (record->got == tot_len)
			break;
		if (addr < record->start && is_still_being_written(walk, record, tot_len))
			return WALK_NEED_MORE;

		addr += XLOG_BLCKSZ;
		stop = continue_record(walk, record, addr, tot_len - record->got, &page);
		if (stop != WALK_NOT_STOPPED || !XLogRecPtrIsInvalid(record->cut))
			return stop;
		offset = page_header_size(walk->state, addr);
	}

	offset += len;
	record->zero_padded = all_zeros(page + offset, MAXALIGN64(offset) - offset);
	return WALK_NOT_STOPPED;
}

/* as ValidXLogRecord() in xlogreader.c */
static WalkStop
check_record_crc(const Record *record)
{
	pg_crc32c crc = record->crc;

	COMP_CRC32C(crc, record->head.bytes, offsetof(XLogRecord, xl_crc));
	FIN_CRC32C(crc);
	return EQ_CRC32C(crc, record->head.header.xl_crc) ? WALK_NOT_STOPPED : WALK_BAD_CRC;
}

/*
 * The page flag XLP_FIRST_IS_OVERWRITE_CONTRECORD and the record
 * XLOG_OVERWRITE_CONTRECORD belong together; the record says which one it
 * replaces (CreateOverwriteContrecordRecord in xlog.c, checked at redo by
 * xlogrecovery_redo).
 */
static WalkStop
check_overwrite(const Record *record)
{
	const XLogRecord *header = &record->head.header;
	XLogRecPtr overwritten;

	if (record->opens_overwrite !=
		(header->xl_rmid == RM_XLOG_ID &&
		 (header->xl_info & ~XLR_INFO_MASK) == XLOG_OVERWRITE_CONTRECORD))
		return WALK_BAD_PAGE;
	if (XLogRecPtrIsInvalid(record->aborted))
		return WALK_NOT_STOPPED;
	if (header->xl_tot_len < MIN_KEPT_LENGTH)
		return WALK_BAD_PREV;
	memcpy(&overwritten, record->head.bytes + OVERWRITTEN_LSN_OFFSET, sizeof(overwritten));
	return overwritten == record->aborted ? WALK_NOT_STOPPED : WALK_BAD_PREV;
}

/*
 * XLOG_SWITCH takes the rest of its segment.  CopyXLogRecordToWAL() zeroes it,
 * page headers included, but what the file holds there before it is written
 * is left from its earlier use: so it is final only when all is written.
 */
static WalkStop
extend_switch(Walk *walk, Record *record)
{
	uint32 segsize = walk->state->segsize;
	XLogRecPtr pos = record->end;
	const char *page;
	WalkStop stop;

	record->end += segsize - 1;
	record->end -= XLogSegmentOffset(record->end, segsize);
	if (record->end > walk->limit)
		return WALK_NEED_MORE;

	for (; pos < record->end; pos = page_of(pos) + XLOG_BLCKSZ)
	{
		stop = fetch_page(walk, page_of(pos), &page);
		if (stop != WALK_NOT_STOPPED)
			return stop;
		if (!all_zeros(page + pos % XLOG_BLCKSZ, XLOG_BLCKSZ - pos % XLOG_BLCKSZ))
			return WALK_BAD_PADDING;
	}
	return WALK_NOT_STOPPED;
}

/*
 * Read and check the record at the boundary.
 *
 * If it was cut off, it and the record that says so are one: neither may be
 * believed without the other.  As in xlogreader.c the latter's xl_prev is the
 * record before the one cut off.
 */
static WalkStop
walk_record(Walk *walk, Record *record)
{
	XLogRecPtr pos = walk->state->boundary;
	const XLogRecord *header = &record->head.header;
	const char *page;
	WalkStop stop;

	record->aborted = InvalidXLogRecPtr;
	for (;;)
	{
		stop = begin_record(walk, record, pos, &page);
		if (stop == WALK_NOT_STOPPED)
			stop = read_record(walk, record, page);
		if (stop != WALK_NOT_STOPPED)
			return stop;
		if (XLogRecPtrIsInvalid(record->cut))
			break;
		record->aborted = record->start;
		pos = record->cut;
	}

	stop = check_record_crc(record);
	if (stop == WALK_NOT_STOPPED && !record->zero_padded)
		stop = WALK_BAD_PADDING;
	if (stop == WALK_NOT_STOPPED)
		stop = check_overwrite(record);
	if (stop == WALK_NOT_STOPPED && header->xl_rmid == RM_XLOG_ID &&
		(header->xl_info & ~XLR_INFO_MASK) == XLOG_SWITCH)
		stop = extend_switch(walk, record);
	return stop;
}

static bool
take_field(HeaderCursor *cursor, void *field, size_t size)
{
	if (size > cursor->kept)
		return false;
	memcpy(field, cursor->next, size);
	cursor->next += size;
	cursor->kept -= size;
	cursor->remaining -= size;
	return true;
}

/*
 * Decode the header of one block reference, behind its id.  *relation is that
 * of the reference before it on entry, if any.  Adds the length of its data to
 * *data_len.
 */
static bool
decode_block(HeaderCursor *cursor, bool have_relation, WalkRelation *relation, ForkNumber *fork,
			 BlockNumber *block, size_t *data_len)
{
	uint8 fork_flags;
	uint16 block_data_len;
	XLogRecordBlockImageHeader image;
	uint16 hole_len;

	if (!take_field(cursor, &fork_flags, sizeof(fork_flags)) ||
		!take_field(cursor, &block_data_len, sizeof(block_data_len)))
		return false;
	if (((fork_flags & BKPBLOCK_HAS_DATA) != 0) != (block_data_len != 0))
		return false;
	*data_len += block_data_len;

	if (fork_flags & BKPBLOCK_HAS_IMAGE)
	{
		if (!take_field(cursor, &image.length, sizeof(image.length)) ||
			!take_field(cursor, &image.hole_offset, sizeof(image.hole_offset)) ||
			!take_field(cursor, &image.bimg_info, sizeof(image.bimg_info)))
			return false;
		if (BKPIMAGE_COMPRESSED(image.bimg_info) && (image.bimg_info & BKPIMAGE_HAS_HOLE) &&
			!take_field(cursor, &hole_len, sizeof(hole_len)))
			return false;
		*data_len += image.length;
	}

	*fork = (ForkNumber) (fork_flags & BKPBLOCK_FORK_MASK);
	if (fork_flags & BKPBLOCK_SAME_REL)
	{
		if (!have_relation)
			return false;
	}
	else if (!take_field(cursor, relation, sizeof(*relation)))
		return false;
	return take_field(cursor, block, sizeof(*block));
}

/*
 * Decode the headers of a valid record, as DecodeXLogRecord() does; report the
 * block references, unless reader is NULL.  Returns false if the headers do
 * not add up to the record.
 */
static bool
decode_headers(const Record *record, const WalkReader *reader)
{
	HeaderCursor cursor;
	WalkRelation relation;
	ForkNumber fork;
	BlockNumber block;
	size_t data_len = 0;
	int last_id = -1;
	uint8 id = 0;

	cursor.next = record->head.bytes + SizeOfXLogRecord;
	cursor.kept = Min(record->got, record->keep) - SizeOfXLogRecord;
	cursor.remaining = record->got - SizeOfXLogRecord;

	/* by convention, the main data is always last */
	while (cursor.remaining > data_len && id != XLR_BLOCK_ID_DATA_SHORT &&
		   id != XLR_BLOCK_ID_DATA_LONG)
	{
		uint8 short_len = 0;
		uint32 long_len = 0;
		char skipped[sizeof(TransactionId)];
		bool ok = take_field(&cursor, &id, sizeof(id));

		if (!ok)
			return false;
		if (id == XLR_BLOCK_ID_DATA_SHORT)
			ok = take_field(&cursor, &short_len, sizeof(short_len));
		else if (id == XLR_BLOCK_ID_DATA_LONG)
			ok = take_field(&cursor, &long_len, sizeof(long_len));
		else if (id == XLR_BLOCK_ID_ORIGIN)
			ok = take_field(&cursor, skipped, sizeof(RepOriginId));
		else if (id == XLR_BLOCK_ID_TOPLEVEL_XID)
			ok = take_field(&cursor, skipped, sizeof(TransactionId));
		else
		{
			ok = id <= XLR_MAX_BLOCK_ID && id > last_id &&
				 decode_block(&cursor, last_id >= 0, &relation, &fork, &block, &data_len);
			last_id = id;
			if (ok && reader != NULL)
				reader->block(reader->arg, relation, fork, block, record->start, record->end);
		}
		if (!ok)
			return false;
		data_len += short_len + (size_t) long_len;
	}
	return cursor.remaining == data_len;
}

/* Is what was reported of the last page still there? */
static WalkStop
check_tail(Walk *walk)
{
	const WalkState *state = walk->state;
	const char *page;
	WalkStop stop;

	if (XLogRecPtrIsInvalid(state->tail_page))
		return WALK_NOT_STOPPED;
	stop = fetch_page(walk, state->tail_page, &page);
	if (stop == WALK_NOT_STOPPED &&
		hash_bytes(page, state->boundary - state->tail_page) != state->tail_hash)
		stop = WALK_CHANGED;
	return stop;
}

/*
 * Remember what was reported of the last page below the limit.  If anything
 * was, it lies in the window as it was checked: nothing is read after the
 * last page.
 */
static void
note_tail(Walk *walk)
{
	WalkState *state = walk->state;
	XLogRecPtr last = walk->limit - XLOG_BLCKSZ;

	state->tail_page = InvalidXLogRecPtr;
	if (state->boundary > last && state->boundary <= walk->limit && last >= walk->window &&
		last < walk->window + walk->window_len)
	{
		state->tail_page = last;
		state->tail_hash =
			hash_bytes(walk->reader->buf + (last - walk->window), state->boundary - last);
	}
}

bool
WalkInit(WalkState *state, XLogRecPtr boundary, XLogRecPtr prev, TimeLineID tli, uint32 segsize,
		 uint64 sysid)
{
	uint32 offset = boundary % XLOG_BLCKSZ;

	memset(state, 0, sizeof(*state));
	if (!IsValidWalSegSize(segsize) || XLogRecPtrIsInvalid(boundary))
		return false;
	state->segsize = segsize;
	if (boundary != MAXALIGN64(boundary) ||
		(offset != 0 && offset < page_header_size(state, page_of(boundary))))
		return false;
	state->boundary = boundary;
	state->prev = prev;
	state->tli = tli;
	state->sysid = sysid;
	return true;
}

WalkStop
WalkAdvance(WalkState *state, const WalkReader *reader, XLogRecPtr limit)
{
	Walk walk = {0};
	Record record;
	WalkStop stop;

	walk.state = state;
	walk.reader = reader;
	walk.limit = page_of(limit);
	walk.read_size = Min(FIRST_READ_SIZE, reader->bufsize - reader->bufsize % XLOG_BLCKSZ);

	stop = check_tail(&walk);
	if (stop == WALK_NOT_STOPPED)
	{
		for (;;)
		{
			stop = walk_record(&walk, &record);
			if (stop == WALK_NOT_STOPPED && reader->block != NULL && !decode_headers(&record, NULL))
				stop = WALK_BAD_BLOCKS;
			if (stop != WALK_NOT_STOPPED)
				break;
			if (reader->block != NULL)
				decode_headers(&record, reader);
			state->prev = record.start;
			state->boundary = record.end;
			state->records++;
		}
		note_tail(&walk);
	}
	state->stop = stop;
	state->stops[stop]++;
	return stop;
}

bool
WalkIsStuck(const WalkState *state, XLogRecPtr flushed)
{
	switch (state->stop)
	{
		case WALK_NOT_STOPPED:
		case WALK_NEED_MORE:
		case WALK_READ_FAILED:
			return false;
		case WALK_CHANGED:
			return true;
		default:
			return state->seen <= flushed;
	}
}

const char *
WalkStopName(WalkStop stop)
{
	return (unsigned int) stop < WALK_STOPS ? stop_names[stop] : "unknown";
}
