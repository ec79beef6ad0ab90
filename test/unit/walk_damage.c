/*-------------------------------------------------------------------------
 *
 * walk_damage.c
 *	  Tests of the record walk: damaged, torn, cut and half-written WAL.  See
 *	  test_walk.c.
 *
 *-------------------------------------------------------------------------
 */
#include "walk_bed.h"

/* Is a change of this bit something that nothing can tell? */
static bool
is_free_bit(XLogRecPtr lsn, uint8 mask)
{
	return lsn % XLOG_BLCKSZ == offsetof(XLogPageHeaderData, xlp_info) && mask == XLP_BKP_REMOVABLE;
}

/* Every bit of a page, one after the other; returns how many there were. */
static size_t
flip_every_bit(const Wal *wal, XLogRecPtr page)
{
	size_t from = record_at(wal, page - 1);
	XLogRecPtr limit = page_after(wal->records[record_at(wal, page + XLOG_BLCKSZ - 1) + 1].bound);
	XLogRecPtr x;
	bool padding = page % wal->segsize != 0 && ((XLogPageHeader) at(wal, page))->xlp_magic == 0;
	WalkStop stop;

	check_boundary(wal, walk_once(wal, from, limit, &stop), expected_boundary(wal, wal->to, limit),
				   "no flip", page);
	for (x = page; x < page + XLOG_BLCKSZ; x++)
	{
		uint32 mask;

		for (mask = 1; mask < 256; mask <<= 1)
		{
			bool is_free = !padding && is_free_bit(x, mask);
			XLogRecPtr got;

			*at(wal, x) ^= mask;
			got = walk_once(wal, from, limit, &stop);
			*at(wal, x) ^= mask;
			check_boundary(wal, got, expected_boundary(wal, is_free ? wal->to : x, limit), "flip",
						   x);
		}
	}
	return XLOG_BLCKSZ * 8;
}

void
test_flips(void **arg)
{
	size_t flips = 0;
	size_t i;
	int kind;

	(void) arg;
	for (kind = 0; kind < PAGE_KINDS; kind++)
	{
		bool depends_on_segments = kind == PAGE_FIRST || kind == PAGE_SWITCH ||
								   kind == PAGE_PADDING;
		bool found = false;

		/* from each WAL, or one, in turn, that has such a page */
		for (i = 0; i < lengthof(all_wal) && (!found || depends_on_segments); i++)
		{
			const Wal *wal = all_wal[(i + kind) % lengthof(all_wal)];
			XLogRecPtr page = find_page(wal, kind, 0);

			if (page == InvalidXLogRecPtr)
				continue;
			found = true;
			flips += flip_every_bit(wal, page);
		}
		assert_true(found);
	}
	print_message("%zu flipped bits\n", flips);
}

/*
 * The page is the last one, and from its k-th byte on holds zeros, or the page
 * of the segment before, as in a recycled segment: for every k.
 */
static void
tear_everywhere(const Wal *wal, XLogRecPtr page)
{
	char saved[XLOG_BLCKSZ];
	char other[XLOG_BLCKSZ];
	size_t from = record_at(wal, page - 1);
	XLogRecPtr limit = page + XLOG_BLCKSZ;
	int garbage;
	int k;
	int x;

	memcpy(saved, at(wal, page), XLOG_BLCKSZ);
	for (garbage = 0; garbage < 2; garbage++)
	{
		memset(other, 0, XLOG_BLCKSZ);
		if (garbage == 1)
			memcpy(other,
				   at(wal, page >= wal->from + wal->segsize ? page - wal->segsize : wal->from),
				   XLOG_BLCKSZ);
		x = XLOG_BLCKSZ;
		for (k = XLOG_BLCKSZ - 1; k >= 0; k--)
		{
			WalkStop stop;

			at(wal, page)[k] = other[k];
			/* the flag alone does not count; with the address it is gone anyway */
			if (other[k] != saved[k] && !is_free_bit(page + k, other[k] ^ saved[k]))
				x = k;
			check_boundary(wal, walk_once(wal, from, limit, &stop),
						   expected_boundary(wal, page + x, limit), "tear", page + k);
		}
		memcpy(at(wal, page), saved, XLOG_BLCKSZ);
	}
}

void
test_torn_pages(void **arg)
{
	size_t pages = 0;
	size_t w;
	int kind;

	(void) arg;
	for (w = 0; w < lengthof(all_wal); w++)
	{
		/* half of the kinds from each, so that each comes from two or three */
		for (kind = w % 2; kind < PAGE_KINDS; kind += 2)
		{
			XLogRecPtr page = find_page(all_wal[w], kind, 1);

			if (page == InvalidXLogRecPtr)
				page = find_page(all_wal[w], kind, 0);
			if (page == InvalidXLogRecPtr)
				continue;
			tear_everywhere(all_wal[w], page);
			pages++;
		}
	}
	assert_true(pages >= PAGE_KINDS);
	print_message("%zu pages torn at each byte\n", pages);
}

/*
 * A cut off record itself: its bytes are not covered by anything, so damage is
 * either seen, and it stays out, or not; nothing in between.
 */
void
test_cut_records(void **arg)
{
	size_t w;
	size_t i;

	(void) arg;
	for (w = 0; w < lengthof(all_wal); w++)
	{
		const Wal *wal = all_wal[w];

		for (i = 1; i < wal->nrecords; i++)
		{
			const TruthRecord *record = &wal->records[i];
			XLogRecPtr limit = page_after(record->start);
			XLogRecPtr x;
			WalkStop stop;

			if (!record->is_overwrite)
				continue;
			/* the page over it is not there yet; then it is */
			check_boundary(wal, walk_once(wal, i - 1, page_of(record->start), &stop), record->bound,
						   "cut, before", record->start);
			assert_true(stop == WALK_NEED_MORE);
			check_boundary(wal, walk_once(wal, i - 1, limit, &stop),
						   expected_boundary(wal, wal->to, limit), "cut, after", record->start);
			for (x = record->bound; x < record->bound + 60; x++)
			{
				XLogRecPtr got;

				*at(wal, x) ^= 4;
				got = walk_once(wal, i - 1, limit, &stop);
				*at(wal, x) ^= 4;
				if (got != expected_boundary(wal, wal->to, limit))
					check_boundary(wal, got, record->bound, "cut, flip", x);
			}
			/* a record over it that is about another one */
			{
				XLogRecord *over = (XLogRecord *) at(wal, record->start);

				((char *) over)[SizeOfXLogRecord + 2] ^= 8;
				set_crc(over);
				check_boundary(wal, walk_once(wal, i - 1, limit, &stop), record->bound,
							   "cut, other", record->start);
				assert_true(stop == WALK_BAD_PREV);
				((char *) over)[SizeOfXLogRecord + 2] ^= 8;
				set_crc(over);
			}
		}
	}
}

/* ---------------- the tests: pages that grow ---------------- */

/*
 * Records i and up of a page arrive out of order.  First all before record i
 * are there, of record i a part, of later ones all or nothing; then the page is
 * written again and has them all.  A byte that has not arrived is zero.
 */
static void
grow_page(const Wal *wal, XLogRecPtr page, size_t i)
{
	char whole[XLOG_BLCKSZ];
	XLogRecPtr limit = page + XLOG_BLCKSZ;
	size_t from = record_at(wal, page - 1);
	uint32 start = wal->records[i].start - page;
	uint32 end = Min(wal->records[i + 1].bound, limit) - page;
	int way;

	memcpy(whole, at(wal, page), XLOG_BLCKSZ);
	for (way = 0; way < 12; way++)
	{
		char *now = at(wal, page);
		Source source = {.wal = wal};
		WalkState state = walk_from(wal, from);
		uint32 middle = start + next_random() % (end - start);
		uint32 k;

		for (k = start; k < end; k++)
		{
			bool arrived = way == 0   ? k < start + SizeOfXLogRecord  /* header only */
						   : way == 1 ? k >= start + SizeOfXLogRecord /* data only */
						   : way == 2 ? k < start + sizeof(uint32)    /* length only */
						   : way == 3 ? k >= start + sizeof(uint32)   /* all but that */
						   : way < 6  ? k < middle
						   : way < 8  ? k >= middle
						   : way < 10 ? next_random() % 2
									  : k != middle;

			if (!arrived)
				now[k] = 0;
		}
		if (way % 2)
			memset(now + end, 0, XLOG_BLCKSZ - end);
		for (k = start; k < XLOG_BLCKSZ && now[k] == whole[k]; k++)
			;
		advance(&state, &source, limit);
		check_boundary(wal, state.boundary, expected_boundary(wal, page + k, limit), "partly there",
					   page + start);
		memcpy(now, whole, XLOG_BLCKSZ);
		assert_true(advance(&state, &source, limit) != WALK_CHANGED);
		check_boundary(wal, state.boundary, expected_boundary(wal, wal->to, limit), "all there",
					   page + start);
	}
}

void
test_growing_pages(void **arg)
{
	size_t w;
	int kind;
	int which;
	size_t i;

	(void) arg;
	for (w = 0; w < lengthof(all_wal); w++)
	{
		for (kind = 0; kind < PAGE_KINDS; kind++)
		{
			for (which = 0; which < 10; which++)
			{
				const Wal *wal = all_wal[w];
				XLogRecPtr page = find_page(wal, kind, which);

				if (page == InvalidXLogRecPtr)
					break;
				for (i = record_at(wal, page); wal->records[i].bound < page + XLOG_BLCKSZ; i++)
				{
					if (wal->records[i].start >= page && i < wal->nrecords)
						grow_page(wal, page, i);
				}
			}
		}
	}
}

/*
 * A half-copied record can match its CRC by chance.  Chance is helped here:
 * the difference is the CRC's own polynomial, which it cannot see.
 */
void
test_crc_collision(void **arg)
{
	const Wal *wal = &wal_1mb;
	const uint64 polynomial = UINT64CONST(0x11EDC6F41);
	XLogRecPtr page = find_page(wal, PAGE_RECORDS, 5);
	size_t i = record_at(wal, page);
	char *data = at(wal, wal->records[i].start + SizeOfXLogRecord + 2);
	Source source = {.wal = wal};
	WalkState state = walk_from(wal, i);
	XLogRecPtr limit = page + XLOG_BLCKSZ;
	char saved[8];
	XLogRecPtr before;
	int bit;

	(void) arg;
	memcpy(saved, data, sizeof(saved));
	for (bit = 0; bit <= 32; bit++)
	{
		if (polynomial >> (32 - bit) & 1)
			data[bit / 8] ^= 1 << bit % 8;
	}
	advance(&state, &source, limit);
	before = state.boundary;
	check_boundary(wal, before, expected_boundary(wal, wal->to, limit), "collision", page);
	assert_true(before > wal->records[i].start);
	assert_true(advance(&state, &source, limit) != WALK_CHANGED);

	/* now the rest arrives; the next page too, or not */
	memcpy(data, saved, sizeof(saved));
	assert_true(advance(&state, &source, limit) == WALK_CHANGED);
	assert_true(advance(&state, &source, limit + XLOG_BLCKSZ) == WALK_CHANGED);
	assert_true(state.boundary == before && state.stops[WALK_CHANGED] == 2);
	assert_true(WalkIsStuck(&state, 0));
}

/* Any byte reported of the last page, however the page is left. */
void
test_changed(void **arg)
{
	int kind;

	(void) arg;
	for (kind = 0; kind < PAGE_KINDS; kind++)
	{
		const Wal *wal = &wal_made; /* has all kinds */
		XLogRecPtr page = find_page(wal, kind, 0);
		XLogRecPtr limit = page + XLOG_BLCKSZ;
		XLogRecPtr more;
		int k;

		assert_true(page != InvalidXLogRecPtr);
		for (more = limit; more <= limit + XLOG_BLCKSZ; more += XLOG_BLCKSZ)
		{
			for (k = 0; k < XLOG_BLCKSZ; k++)
			{
				Source source = {.wal = wal};
				WalkState state = walk_from(wal, record_at(wal, page - 1));
				bool reported;

				advance(&state, &source, limit);
				reported = state.boundary > page + k;
				*at(wal, page + k) ^= 0x10;
				assert_true((advance(&state, &source, more) == WALK_CHANGED) == reported);
				*at(wal, page + k) ^= 0x10;
			}
		}
	}
}

/* ---------------- the tests: reasons and costs ---------------- */

static void
change_bytes(Wal *wal, XLogRecPtr lsn, const void *bytes, size_t n, WalkStop expected)
{
	char saved[8];
	size_t i = record_at(wal, lsn);
	WalkStop stop;
	XLogRecPtr got;

	memcpy(saved, at(wal, lsn), n);
	memcpy(at(wal, lsn), bytes, n);
	got = walk_once(wal, i - 1, wal->to, &stop);
	memcpy(at(wal, lsn), saved, n);
	if (stop != expected)
		fail_msg("at %X/%X: %s, expected %s", LSN_FORMAT_ARGS(lsn), WalkStopName(stop),
				 WalkStopName(expected));
	check_boundary(wal, got, wal->records[i].bound, WalkStopName(stop), lsn);
}

void
test_reasons(void **arg)
{
	Wal *wal = &wal_made;
	XLogRecPtr records = find_page(wal, PAGE_RECORDS, 9);
	XLogRecPtr within = find_page(wal, PAGE_CONTINUED, 9);
	XLogRecPtr first = find_page(wal, PAGE_FIRST, 0);
	XLogRecPtr padding = find_page(wal, PAGE_PADDING, 0);
	XLogRecPtr record = wal->records[record_at(wal, records + 3000)].start;
	const TruthRecord *odd = &wal->records[record_at(wal, records + 3000)];
	uint64 zero = 0;
	uint64 prev = ((XLogRecord *) at(wal, record))->xl_prev - 8;
	uint32 len;
	uint16 flags;
	uint8 rmid;

	(void) arg;
	/* the record's header, in the order in which it is looked at */
	change_bytes(wal, record, &zero, sizeof(uint32), WALK_ZERO_LENGTH);
	len = SizeOfXLogRecord - 1;
	change_bytes(wal, record, &len, sizeof(len), WALK_BAD_LENGTH);
	len = 0x40000000;
	change_bytes(wal, record, &len, sizeof(len), WALK_BAD_LENGTH);
	len = 0x3fffffff; /* the pages behind it do not continue it */
	change_bytes(wal, record, &len, sizeof(len), WALK_BAD_PAGE);
	rmid = RM_MAX_BUILTIN_ID + 1;
	change_bytes(wal, record + offsetof(XLogRecord, xl_rmid), &rmid, 1, WALK_BAD_RMGR);
	rmid = RM_MIN_CUSTOM_ID; /* all right, but not what the CRC is about */
	change_bytes(wal, record + offsetof(XLogRecord, xl_rmid), &rmid, 1, WALK_BAD_CRC);
	change_bytes(wal, record + offsetof(XLogRecord, xl_prev), &prev, 8, WALK_BAD_PREV);
	change_bytes(wal, record + SizeOfXLogRecord, "\1\2\3", 3, WALK_BAD_CRC);
	while (((XLogRecord *) at(wal, odd->start))->xl_tot_len % MAXIMUM_ALIGNOF == 0 ||
		   odd[1].bound % XLOG_BLCKSZ < odd->bound % XLOG_BLCKSZ)
		odd++;
	change_bytes(wal, odd[1].bound - 1, "x", 1, WALK_BAD_PADDING);
	change_bytes(wal, padding + 77, "x", 1, WALK_BAD_PADDING);

	/* the page's */
	change_bytes(wal, records, &zero, 2, WALK_BAD_PAGE);
	change_bytes(wal, records + offsetof(XLogPageHeaderData, xlp_pageaddr), &zero, 8,
				 WALK_BAD_PAGE);
	flags = XLP_ALL_FLAGS + 1;
	change_bytes(wal, records + offsetof(XLogPageHeaderData, xlp_info), &flags, 2, WALK_BAD_PAGE);
	flags = XLP_FIRST_IS_OVERWRITE_CONTRECORD;
	change_bytes(wal, records + offsetof(XLogPageHeaderData, xlp_info), &flags, 2, WALK_BAD_PAGE);
	len = 100; /* without the flag, and then with it */
	change_bytes(wal, records + offsetof(XLogPageHeaderData, xlp_rem_len), &len, 4, WALK_BAD_PAGE);
	change_bytes(wal, within + offsetof(XLogPageHeaderData, xlp_rem_len), &len, 4, WALK_BAD_PAGE);
	change_bytes(wal, within + offsetof(XLogPageHeaderData, xlp_rem_len), &zero, 4, WALK_BAD_PAGE);
	change_bytes(wal, within + offsetof(XLogPageHeaderData, xlp_info), &zero, 2, WALK_BAD_PAGE);
	len = wal->tli + 1;
	change_bytes(wal, records + offsetof(XLogPageHeaderData, xlp_tli), &len, 4,
				 WALK_OTHER_TIMELINE);
	len = wal->tli - 1;
	change_bytes(wal, within + offsetof(XLogPageHeaderData, xlp_tli), &len, 4, WALK_OTHER_TIMELINE);
	change_bytes(wal, first + offsetof(XLogLongPageHeaderData, xlp_seg_size), &zero, 4,
				 WALK_BAD_PAGE);
	change_bytes(wal, first + offsetof(XLogLongPageHeaderData, xlp_xlog_blcksz), &zero, 4,
				 WALK_BAD_PAGE);
	change_bytes(wal, first + offsetof(XLogLongPageHeaderData, xlp_sysid), &zero, 8, WALK_BAD_PAGE);
}
