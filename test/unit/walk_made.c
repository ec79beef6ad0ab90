/*-------------------------------------------------------------------------
 *
 * walk_made.c
 *	  WAL laid out byte by byte, for the corners that real WAL shows once in a
 *	  million records.
 *
 *-------------------------------------------------------------------------
 */
#include "walk_bed.h"

#include "catalog/pg_control.h"

static XLogRecPtr made_end;
static XLogRecPtr made_prev;

static void
begin_page(Wal *wal, XLogRecPtr addr, uint32 rem_len, uint16 flags)
{
	XLogLongPageHeader header = (XLogLongPageHeader) at(wal, addr);

	assert_true(addr + XLOG_BLCKSZ <= wal->to);
	header->std.xlp_magic = XLOG_PAGE_MAGIC;
	header->std.xlp_info = flags | (next_random() % 2 ? XLP_BKP_REMOVABLE : 0);
	header->std.xlp_tli = wal->tli;
	header->std.xlp_pageaddr = addr;
	header->std.xlp_rem_len = rem_len;
	if (rem_len > 0)
		header->std.xlp_info |= XLP_FIRST_IS_CONTRECORD;
	if (addr % wal->segsize == 0)
	{
		header->std.xlp_info |= XLP_LONG_HEADER;
		header->xlp_sysid = wal->sysid;
		header->xlp_seg_size = wal->segsize;
		header->xlp_xlog_blcksz = XLOG_BLCKSZ;
	}
}

void
set_crc(XLogRecord *record)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, (char *) record + SizeOfXLogRecord, record->xl_tot_len - SizeOfXLogRecord);
	COMP_CRC32C(crc, (char *) record, offsetof(XLogRecord, xl_crc));
	FIN_CRC32C(crc);
	record->xl_crc = crc;
}

/* Copy a record to the end of WAL, or its beginning, up to an LSN. */
static XLogRecPtr
copy_record(Wal *wal, const XLogRecord *record, uint16 flags, XLogRecPtr up_to)
{
	const char *p = (const char *) record;
	XLogRecPtr pos = made_end;
	XLogRecPtr start;
	uint32 i;

	if (pos % XLOG_BLCKSZ == 0)
	{
		begin_page(wal, pos, 0, flags);
		pos += header_size(wal, pos);
	}
	start = pos;
	for (i = 0; i < record->xl_tot_len && pos < up_to; i++)
	{
		if (pos % XLOG_BLCKSZ == 0)
		{
			begin_page(wal, pos, record->xl_tot_len - i, 0);
			pos += header_size(wal, pos);
		}
		*at(wal, pos++) = p[i];
	}
	made_end = MAXALIGN64(pos);
	return start;
}

static void
insert_record(Wal *wal, XLogRecord *record, uint16 flags)
{
	XLogRecPtr bound = wal->nrecords > 0 ? end_of(wal) : made_end;
	TruthRecord *truth;

	record->xl_prev = made_prev;
	set_crc(record);
	made_prev = copy_record(wal, record, flags, wal->to);
	truth = add_record(wal, made_prev, bound);
	truth->is_overwrite = flags != 0;
	if (record->xl_rmid == RM_XLOG_ID && (record->xl_info & XLR_RMGR_INFO_MASK) == XLOG_SWITCH)
	{
		truth->is_switch = true;
		while (made_end % wal->segsize != 0)
			made_end += MAXIMUM_ALIGNOF;
	}
	truth[1].bound = made_end;
}

static XLogRecord *
new_record(uint32 tot_len, RmgrId rmid, uint8 info)
{
	XLogRecord *record = calloc(1, tot_len);
	uint32 i;

	record->xl_tot_len = tot_len;
	record->xl_rmid = rmid;
	record->xl_info = info;
	for (i = SizeOfXLogRecord; i < tot_len; i++)
		((char *) record)[i] = next_random();
	return record;
}

static void
insert(Wal *wal, uint32 tot_len)
{
	XLogRecord *record = new_record(tot_len, RM_HEAP_ID, 0);

	insert_record(wal, record, 0);
	free(record);
}

static void
insert_switch(Wal *wal)
{
	/* the flag that wal_consistency_checking sets changes nothing */
	XLogRecord *record =
		new_record(SizeOfXLogRecord, RM_XLOG_ID, XLOG_SWITCH | XLR_CHECK_CONSISTENCY);

	insert_record(wal, record, 0);
	free(record);
}

/* Insert a record that ends at an LSN, which is not too near. */
static void
insert_up_to(Wal *wal, XLogRecPtr end)
{
	XLogRecPtr pos = made_end;
	uint32 len = 0;

	if (pos % XLOG_BLCKSZ == 0)
		pos += header_size(wal, pos);
	while (page_of(pos) + XLOG_BLCKSZ < end)
	{
		XLogRecPtr next = page_of(pos) + XLOG_BLCKSZ;

		len += next - pos;
		pos = next + header_size(wal, next);
	}
	insert(wal, len + (end - pos));
	assert_true(made_end == end);
}

/* Make the next record start left bytes before a segment's end. */
static void
fill_segment(Wal *wal, uint32 left)
{
	XLogRecPtr end = made_end - made_end % wal->segsize + wal->segsize - left;

	insert_up_to(wal, end < made_end + 2 * XLOG_BLCKSZ ? end + wal->segsize : end);
}

/* A record cut off after some pages, and the one written over its rest. */
static void
insert_cut(Wal *wal, uint32 tot_len, uint32 pages)
{
	XLogRecord *lost = new_record(tot_len, RM_HEAP_ID, 0);
	XLogRecord *over = new_record(SizeOfXLogRecord + 2 + sizeof(xl_overwrite_contrecord),
								  RM_XLOG_ID, XLOG_OVERWRITE_CONTRECORD);
	char *data = (char *) over + SizeOfXLogRecord;
	XLogRecPtr start;

	lost->xl_prev = made_prev;
	set_crc(lost);
	start = copy_record(wal, lost, 0, page_of(made_end) + pages * XLOG_BLCKSZ);
	assert_true(made_end % XLOG_BLCKSZ == 0);
	data[0] = (char) XLR_BLOCK_ID_DATA_SHORT;
	data[1] = sizeof(xl_overwrite_contrecord);
	memcpy(data + 2, &start, sizeof(start));
	insert_record(wal, over, XLP_FIRST_IS_OVERWRITE_CONTRECORD);
	free(lost);
	free(over);
}

void
make_wal(Wal *wal)
{
	int i;

	wal->tli = 7;
	wal->segsize = MB;
	wal->sysid = UINT64CONST(7162534455667788990);
	wal->from = UINT64CONST(0x12FFB00000); /* crosses a multiple of 4 GB */
	wal->to = wal->from + 128 * MB;
	wal->data = calloc(1, wal->to - wal->from);
	made_end = wal->from;
	made_prev = 0;

	/* any start and any end within a page */
	for (i = 0; i < 20000; i++)
		insert(wal, SizeOfXLogRecord + 3 + next_random() % 180);
	for (i = 0; i < 100; i++)
		insert(wal, SizeOfXLogRecord + 3 + next_random() % 40000);
	/* headers and ends around a page's and a segment's end */
	insert_up_to(wal, page_after(made_end) + 3 * XLOG_BLCKSZ);
	insert(wal, 100);
	insert_up_to(wal, page_after(made_end) + XLOG_BLCKSZ - 8);
	for (i = 0; i <= 32; i += MAXIMUM_ALIGNOF)
	{
		fill_segment(wal, i);
		insert(wal, SizeOfXLogRecord + 1 + i % 7);
		insert(wal, 300);
		fill_segment(wal, i);
		insert(wal, MB + 12345 + i);
		fill_segment(wal, i);
		insert_switch(wal); /* the one that straddles takes all of the next */
		insert(wal, 400);
	}
	/* a switch in the middle, at a page's end, and behind a segment's header */
	insert(wal, 1400);
	insert_switch(wal);
	insert(wal, XLOG_BLCKSZ - SizeOfXLogLongPHD - SizeOfXLogRecord);
	insert_switch(wal);
	insert(wal, 100);
	insert_switch(wal);
	insert(wal, XLOG_BLCKSZ - SizeOfXLogLongPHD - MAXIMUM_ALIGNOF);
	insert_switch(wal);
	/* records cut off: on their first page, later, at a segment's end, twice */
	insert(wal, 1000);
	insert_cut(wal, 50000, 1);
	insert(wal, 1000);
	insert_cut(wal, 8000, 1);
	insert_cut(wal, 3 * MB, 20);
	fill_segment(wal, 8);
	insert_cut(wal, 3 * MB, 1);
	insert(wal, 1000);
	fill_segment(wal, 2000);
	insert_cut(wal, 3 * MB, 1);
	for (i = 0; i < 100; i++)
		insert(wal, 500);
}
