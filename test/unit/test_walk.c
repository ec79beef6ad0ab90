/*-------------------------------------------------------------------------
 *
 * test_walk.c
 *	  Tests of the record walk (extension/walk.c).
 *
 * Two kinds of WAL are walked: what real clusters wrote (walk_wal.sh), with
 * pg_waldump's output as the truth, and what walk_made.c lays out
 * byte by byte, for the corners that real WAL shows once in a million
 * records.  Both become a Wal: bytes in memory, which the tests damage and
 * restore, and the list of its records.
 *
 * One rule is behind most of the tests.  Let x be the first byte that is not
 * as PostgreSQL will leave it.  Then the walk has to report the last boundary
 * that is not behind x, nor behind the limit: nothing that can change, and
 * all that cannot.  It holds for every byte of WAL, with two exceptions:
 *
 * - the page flag XLP_BKP_REMOVABLE, which may be on or off, and nothing says
 *	 which is right;
 * - what is left of a record that a crash cut off (XLOG_OVERWRITE_CONTRECORD).
 *	 Its CRC cannot be checked, and nobody ever reads those bytes.
 *
 * Environment: WALK_WAL_DIR, a directory that walk_wal.sh has filled (else it
 * is made, and removed); WALK_WAL_SH, where the script is; PG_CONFIG.
 *
 *-------------------------------------------------------------------------
 */
#include "walk_bed.h"

/* ---------------- all of it ---------------- */

/* The WAL has in it what the tests are meant to meet. */
static void
test_wal_is_varied(void **arg)
{
	size_t straddling = 0;
	size_t page_ends = 0;
	size_t w;
	size_t i;

	(void) arg;
	for (w = 0; w < lengthof(all_wal); w++)
	{
		const Wal *wal = all_wal[w];
		size_t switches = 0;
		size_t overwrites = 0;

		for (i = 0; i < wal->nrecords; i++)
		{
			switches += wal->records[i].is_switch;
			overwrites += wal->records[i].is_overwrite;
			straddling += XLOG_BLCKSZ - wal->records[i].start % XLOG_BLCKSZ < SizeOfXLogRecord;
			page_ends += wal->records[i].bound % XLOG_BLCKSZ == 0;
		}
		print_message("%-4s tli %u, segments of %2u MB: %6zu records, %6zu block references, "
					  "%zu switches, %zu cut off\n",
					  wal->name, wal->tli, wal->segsize / MB, wal->nrecords, wal->nblocks, switches,
					  overwrites);
		assert_true(switches > 0);
		assert_true(wal != &wal_1mb || overwrites == 2);
	}
	print_message("%zu headers across pages, %zu records begin a page\n", straddling, page_ends);
	assert_true(straddling > 10 && page_ends > 10);
	assert_true(wal_1mb.nrecords > 20000 && wal_16mb.nrecords > 20000 && wal_64mb.nrecords > 20000);
}

/* One call walks everything; what lies beyond, recycled or zero, is no WAL. */
static void
test_whole(void **arg)
{
	static const size_t sizes[] = {XLOG_BLCKSZ, 5 * XLOG_BLCKSZ + 100, sizeof(buffer)};
	size_t w;
	size_t i;

	(void) arg;
	for (w = 0; w < lengthof(all_wal); w++)
	{
		const Wal *wal = all_wal[w];

		for (i = 0; i < lengthof(sizes); i++)
		{
			Source source = {.wal = wal, .max_read = i == 1 ? 2 * XLOG_BLCKSZ + 7 : 0};
			WalkReader reader = {read_wal, NULL, &source, malloc(sizes[i]), sizes[i]};
			WalkState state = walk_from(wal, 0);
			WalkStop stop = WalkAdvance(&state, &reader, wal->to);

			free(reader.buf);
			assert_true(stop != WALK_NOT_STOPPED && stop != WALK_CHANGED && stop == state.stop);
			check_boundary(wal, state.boundary, end_of(wal), "all", wal->from);
			assert_true(state.records == wal->nrecords);
			assert_true(state.prev == wal->records[wal->nrecords - 1].start);
			assert_true(state.stops[stop] == 1);
		}
	}
}

/* Each record alone: the walk knows each boundary, not only the last. */
static void
test_every_boundary(void **arg)
{
	size_t w;
	size_t i;

	(void) arg;
	for (w = 0; w < lengthof(all_wal); w++)
	{
		const Wal *wal = all_wal[w];

		for (i = 0; i + 1 < wal->nrecords; i++)
		{
			Source source = {.wal = wal};
			WalkState state = walk_from(wal, i);
			XLogRecPtr next = wal->records[i + 1].start;
			XLogRecPtr limit = page_after(wal->records[i + 1].bound + 1);
			uint32 saved;

			if (wal->records[i + 1].is_overwrite)
				limit = page_after(next);
			memcpy(&saved, at(wal, next), sizeof(saved));
			memset(at(wal, next), 0, sizeof(saved));
			assert_true(advance(&state, &source, limit) == WALK_ZERO_LENGTH);
			memcpy(at(wal, next), &saved, sizeof(saved));
			check_boundary(wal, state.boundary, wal->records[i + 1].bound, "record",
						   wal->records[i].start);
			assert_true(state.prev == wal->records[i].start && state.records == 1);
		}
	}
}

/* The limit moves page by page, as in life; the walk never looks back. */
static void
test_every_limit(void **arg)
{
	size_t w;

	(void) arg;
	for (w = 0; w < lengthof(all_wal); w++)
	{
		const Wal *wal = all_wal[w];
		XLogRecPtr last = page_after(end_of(wal));
		Source source = {.wal = wal};
		WalkState state = walk_from(wal, 0);
		XLogRecPtr limit;

		for (limit = page_of(wal->records[0].bound); limit <= last; limit += XLOG_BLCKSZ)
		{
			WalkStop stop = advance(&state, &source, limit + next_random() % XLOG_BLCKSZ);

			check_boundary(wal, state.boundary,
						   Max(expected_boundary(wal, wal->to, limit), wal->records[0].bound),
						   "limit", limit);
			assert_true(stop == WALK_NEED_MORE || limit == last);
		}
		assert_true(state.records == wal->nrecords);
	}
}

static void
compare_block(void *arg, WalkRelation relation, ForkNumber fork, BlockNumber block,
			  XLogRecPtr start, XLogRecPtr end)
{
	Source *source = arg;
	const Wal *wal = source->wal;
	const TruthBlock *truth = &wal->blocks[source->block++];
	size_t record = record_at(wal, start);

	assert_true(source->block <= wal->nblocks);
	assert_true(sizeof(relation) == sizeof(truth->relation));
	assert_memory_equal(&relation, truth->relation, sizeof(relation));
	assert_true(fork == truth->fork && block == truth->block && start == truth->start);
	assert_true(start == wal->records[record].start && end == wal->records[record + 1].bound);
}

static void
test_blocks(void **arg)
{
	size_t w;

	(void) arg;
	for (w = 0; w < 4; w++)
	{
		const Wal *wal = all_wal[w];
		Source source = {.wal = wal};
		WalkReader reader = {read_wal, compare_block, &source, buffer, sizeof(buffer)};
		WalkState state = walk_from(wal, 0);

		WalkAdvance(&state, &reader, wal->to);
		check_boundary(wal, state.boundary, end_of(wal), "blocks", wal->from);
		assert_true(source.block == wal->nblocks && wal->nblocks > 1000);
	}
}

static void
count_block(void *arg, WalkRelation relation, ForkNumber fork, BlockNumber block, XLogRecPtr start,
			XLogRecPtr end)
{
	Source *source = arg;

	(void) fork;
	assert_true(start < end && block == 7);
	assert_memory_equal(&relation, "\1\0\0\0\2\0\0\0\3\0\0", 12);
	source->block++;
}

/* Headers that do not add up are no reason to miss a block: the walk stops. */
static void
test_bad_blocks(void **arg)
{
#define HEADERS(bytes) bytes, sizeof(bytes) - 1
#define REL            "\1\0\0\0\2\0\0\0\3\0\0\0"
#define BLK            "\7\0\0\0"
	static const struct
	{
		const char *headers;
		size_t len;
		int data_len; /* of the blocks */
		int blocks;   /* or -1 */
	} cases[] = {
		{HEADERS(""), 0, 0},
		{HEADERS(""), 1, -1},
		{HEADERS(""), -1, -1},
		{HEADERS("\0\0\0\0" REL BLK), 0, 1},
		{HEADERS("\0\0\0\0" REL BLK), 1, -1},
		{HEADERS("\0\0\0\0" REL BLK "\1\x80\0\0" BLK "\5\0\0\0" REL BLK), 0, 3},
		{HEADERS("\xfd\5\0\xfc\1\2\3\4\0\0\0\0" REL BLK), 0, 1},
		{HEADERS("\0\x20\4\0" REL BLK), 4, 1},
		{HEADERS("\0\x10\0\0\x10\0\x20\0\0" REL BLK), 16, 1},
		{HEADERS("\0\x10\0\0\x10\0\x20\0\4" REL BLK), 16, 1},
		{HEADERS("\0\x10\0\0\x10\0\x20\0\5\x30\0" REL BLK), 16, 1},
		{HEADERS("\1\0\0\0" REL BLK "\0\0\0\0" REL BLK), 0, -1}, /* out of order */
		{HEADERS("\1\0\0\0" REL BLK "\1\0\0\0" REL BLK), 0, -1},
		{HEADERS("\x21\0\0\0" REL BLK), 0, -1}, /* no such id */
		{HEADERS("\0\x80\0\0" BLK), 0, -1},     /* same as which? */
		{HEADERS("\0\x20\0\0" REL BLK), 0, -1}, /* data or not? */
		{HEADERS("\0\0\4\0" REL BLK), 4, -1},
	};
	Wal *wal = &wal_made;
	size_t n = record_at(wal, find_page(wal, PAGE_RECORDS, 0));
	XLogRecord *record;
	char saved[256];
	size_t i;

	(void) arg;
	do
		record = (XLogRecord *) at(wal, wal->records[n++].start);
	while (record->xl_tot_len < 150 || record->xl_tot_len > sizeof(saved));
	n--;
	memcpy(saved, record, record->xl_tot_len);
	for (i = 0; i < 2 * lengthof(cases); i++)
	{
		size_t c = i / 2;
		Source source = {.wal = wal};
		WalkReader reader = {read_wal, count_block, &source, buffer, sizeof(buffer)};
		WalkState state = walk_from(wal, n);
		char *p = (char *) record + SizeOfXLogRecord;
		uint32 len = record->xl_tot_len - SizeOfXLogRecord - cases[c].len - cases[c].data_len;

		/* the main data is what remains, with either of its headers */
		memcpy(p, cases[c].headers, cases[c].len);
		p += cases[c].len;
		*p++ = (char) (i % 2 ? XLR_BLOCK_ID_DATA_LONG : XLR_BLOCK_ID_DATA_SHORT);
		len -= i % 2 ? 5 : 2;
		memcpy(p, &len, i % 2 ? 4 : 1);
		set_crc(record);
		WalkAdvance(&state, &reader, page_after(wal->records[n + 1].bound));
		if (cases[c].blocks < 0 ? state.stop != WALK_BAD_BLOCKS || source.block != 0
								: state.records == 0 || (int) source.block != cases[c].blocks)
			fail_msg("case %zu: %s, %zu blocks", c, WalkStopName(state.stop), source.block);
	}
	memcpy(record, saved, record->xl_tot_len);
}

/* ---------------- the beginning, reads, costs ---------------- */

/* What the first call accepts, and what it does not. */
static void
test_beginning(void **arg)
{
	Wal *wal = &wal_made;
	XLogRecPtr page = find_page(wal, PAGE_RECORDS, 3);
	XLogRecPtr within = find_page(wal, PAGE_CONTINUED, 3);
	XLogRecPtr first = find_page(wal, PAGE_FIRST, 0);
	size_t i = record_at(wal, page + 4000);
	uint64 sysid = wal->sysid;
	Source source = {.wal = wal};
	WalkState state;

	(void) arg;
	assert_false(WalkInit(&state, InvalidXLogRecPtr, 0, 1, MB, 0));
	assert_false(WalkInit(&state, page + 4, 0, 1, MB, 0));
	assert_false(WalkInit(&state, page + 8, 0, 1, MB, 0));
	assert_false(WalkInit(&state, page + 100, 0, 1, MB, 0));
	assert_false(WalkInit(&state, first + SizeOfXLogShortPHD, 0, 1, MB, 0));
	assert_false(WalkInit(&state, page, 0, 1, MB + 1, 0));
	assert_false(WalkInit(&state, page, 0, 1, MB / 2, 0));
	assert_true(WalkInit(&state, first + SizeOfXLogLongPHD, 0, 1, MB, 0));

	/* no previous record known; or a wrong one */
	assert_true(WalkInit(&state, wal->records[i].bound, 0, wal->tli, MB, 0));
	assert_true(advance(&state, &source, page + XLOG_BLCKSZ) == WALK_NEED_MORE &&
				state.records > 1);
	assert_true(
		WalkInit(&state, wal->records[i].bound, page + SizeOfXLogShortPHD, wal->tli, MB, 0));
	assert_true(advance(&state, &source, page + XLOG_BLCKSZ) == WALK_BAD_PREV);
	((XLogRecord *) at(wal, wal->records[i].start))->xl_prev = wal->records[i].start;
	set_crc((XLogRecord *) at(wal, wal->records[i].start));
	assert_true(WalkInit(&state, wal->records[i].bound, 0, wal->tli, MB, 0));
	assert_true(advance(&state, &source, page + XLOG_BLCKSZ) == WALK_BAD_PREV);
	((XLogRecord *) at(wal, wal->records[i].start))->xl_prev = wal->records[i - 1].start;
	set_crc((XLogRecord *) at(wal, wal->records[i].start));

	/* behind a page header, where the page begins with the rest of a record */
	assert_true(WalkInit(&state, within + SizeOfXLogShortPHD, 0, wal->tli, MB, 0));
	assert_true(advance(&state, &source, within + XLOG_BLCKSZ) == WALK_BAD_PAGE);
	assert_true(WalkInit(&state, within + SizeOfXLogShortPHD + 8, 0, wal->tli, MB, 0));
	if (wal->records[record_at(wal, within) + 1].bound > within + SizeOfXLogShortPHD + 8)
		assert_true(advance(&state, &source, within + XLOG_BLCKSZ) == WALK_BAD_PAGE);

	/* the system identifier, if it is known */
	state = walk_from(wal, record_at(wal, first - 1));
	state.sysid++;
	assert_true(advance(&state, &source, first + XLOG_BLCKSZ) == WALK_BAD_PAGE);
	wal->sysid = 0;
	state = walk_from(wal, record_at(wal, first - 1));
	assert_true(advance(&state, &source, first + XLOG_BLCKSZ) == WALK_NEED_MORE);
	assert_true(state.boundary > first);
	wal->sysid = sysid;
}

/* The new timeline begins within a page of the old one. */
static void
test_timelines(void **arg)
{
	const Wal *old = &wal_16mb;
	const Wal *new = &wal_branched;
	XLogRecPtr branch = end_of(old);
	size_t i = record_at(new, branch);
	Source source = {.wal = new};
	WalkState state;

	(void) arg;
	assert_true(branch % XLOG_BLCKSZ != 0 && new->records[i].bound == branch);
	assert_true(((XLogPageHeader) at(new, page_of(branch)))->xlp_tli == old->tli);

	/* from where the old one ended, with what was its last record */
	assert_true(WalkInit(&state, branch, old->records[old->nrecords - 1].start, new->tli,
						 new->segsize, new->sysid));
	advance(&state, &source, new->to);
	check_boundary(new, state.boundary, end_of(new), "new timeline", branch);
	assert_true(state.records == new->nrecords - i);

	/* a walk on the old one stops where the new one begins */
	state = walk_from(new, i);
	state.tli = old->tli;
	assert_true(advance(&state, &source, new->to) == WALK_OTHER_TIMELINE);
	assert_true(state.boundary < page_of(branch) + XLOG_BLCKSZ);

	/* a page of the future, entered within or not */
	state = walk_from(new, new->nrecords - 20);
	state.tli = old->tli;
	assert_true(advance(&state, &source, new->to) == WALK_OTHER_TIMELINE && state.records == 0);

	/* a page entered at its beginning has to be of this one */
	state = walk_from(new, 0);
	state.boundary = page_of(branch);
	assert_true(advance(&state, &source, new->to) == WALK_OTHER_TIMELINE);
}

static void
test_read_failures(void **arg)
{
	const Wal *wal = &wal_made;
	XLogRecPtr page = find_page(wal, PAGE_MIDDLE, 0);
	size_t from = record_at(wal, page) - 1;
	Source source = {.wal = wal, .fail_at = page};
	WalkState state = walk_from(wal, from);

	(void) arg;
	assert_true(advance(&state, &source, page + 20 * XLOG_BLCKSZ) == WALK_READ_FAILED);
	assert_true(state.boundary == wal->records[from + 1].bound);
	assert_false(WalkIsStuck(&state, wal->to));
	source.fail_at = 0;
	source.max_read = XLOG_BLCKSZ - 1;
	assert_true(advance(&state, &source, page + 20 * XLOG_BLCKSZ) == WALK_READ_FAILED);
	source.max_read = 0;
	assert_true(advance(&state, &source, page + 20 * XLOG_BLCKSZ) == WALK_NEED_MORE);
	check_boundary(wal, state.boundary, expected_boundary(wal, wal->to, page + 20 * XLOG_BLCKSZ),
				   "read again", page);
}

/* Damage is told from what is only not there yet. */
static void
test_stuck(void **arg)
{
	const Wal *wal = &wal_made;
	XLogRecPtr page = find_page(wal, PAGE_RECORDS, 3);
	size_t i = record_at(wal, page + 4000);
	char *byte = at(wal, wal->records[i].start + SizeOfXLogRecord);
	Source source = {.wal = wal};
	WalkState state = walk_from(wal, i);

	(void) arg;
	assert_false(WalkIsStuck(&state, wal->to));
	*byte ^= 1;
	assert_true(advance(&state, &source, page + XLOG_BLCKSZ) == WALK_BAD_CRC);
	assert_false(WalkIsStuck(&state, page + XLOG_BLCKSZ - 8));
	assert_true(WalkIsStuck(&state, page + XLOG_BLCKSZ));
	*byte ^= 1;
	assert_true(advance(&state, &source, page + XLOG_BLCKSZ) == WALK_NEED_MORE);
	assert_false(WalkIsStuck(&state, wal->to));
}

/* While a long record is being written, a call costs a few pages. */
static void
test_long_record_is_cheap(void **arg)
{
	const Wal *wal = &wal_1mb;
	XLogRecPtr limit;
	size_t i;
	size_t calls = 0;

	(void) arg;
	for (i = 0; wal->records[i + 1].bound - wal->records[i].bound < 2 * MB; i++)
		assert_true(i + 1 < wal->nrecords);
	for (limit = page_after(wal->records[i].bound) + XLOG_BLCKSZ; limit < wal->records[i + 1].bound;
		 limit += XLOG_BLCKSZ)
	{
		Source source = {.wal = wal};
		WalkState state = walk_from(wal, i);

		assert_true(advance(&state, &source, limit) == WALK_NEED_MORE);
		assert_true(source.reads <= 2 && source.bytes <= 5 * XLOG_BLCKSZ);
		calls++;
	}
	assert_true(calls > 200);

	/* and so does a switch whose padding is not written; its end is not final */
	while (!wal->records[i].is_switch ||
		   wal->records[i + 1].bound - wal->records[i].bound < 20 * XLOG_BLCKSZ)
		assert_true(++i < wal->nrecords);
	for (limit = page_after(wal->records[i].bound + 100); limit < wal->records[i + 1].bound;
		 limit += XLOG_BLCKSZ)
	{
		Source source = {.wal = wal};
		WalkState state = walk_from(wal, i);

		assert_true(advance(&state, &source, limit) == WALK_NEED_MORE);
		assert_true(state.records == 0 && source.bytes <= 4 * XLOG_BLCKSZ);
	}
}

/* The longest record there is, of zeros, made as it is read. */
typedef struct LongRecord
{
	XLogRecord header;
	uint64 next;     /* of its bytes, to be on the next page */
	XLogRecPtr addr; /* of the next page */
} LongRecord;

static ssize_t
read_long(void *arg, XLogRecPtr from, char *buf, size_t len)
{
	LongRecord *record = arg;
	size_t done;

	if (from == 64 * MB)
	{
		record->next = 0;
		record->addr = from;
	}
	assert_true(from == record->addr);
	memset(buf, 0, len);
	for (done = 0; done < len; done += XLOG_BLCKSZ)
	{
		XLogLongPageHeader header = (XLogLongPageHeader) (buf + done);
		uint32 left = record->header.xl_tot_len - Min(record->next, record->header.xl_tot_len);
		bool is_first = (from + done) % (64 * MB) == 0;

		header->std.xlp_magic = XLOG_PAGE_MAGIC;
		header->std.xlp_info = (is_first ? XLP_LONG_HEADER : 0) |
							   (record->next > 0 && left > 0 ? XLP_FIRST_IS_CONTRECORD : 0);
		header->std.xlp_tli = 1;
		header->std.xlp_pageaddr = from + done;
		header->std.xlp_rem_len = record->next > 0 ? left : 0;
		if (is_first)
		{
			header->xlp_seg_size = 64 * MB;
			header->xlp_xlog_blcksz = XLOG_BLCKSZ;
		}
		if (record->next == 0)
			memcpy(buf + SizeOfXLogLongPHD, &record->header, SizeOfXLogRecord);
		record->next += XLOG_BLCKSZ - (is_first ? SizeOfXLogLongPHD : SizeOfXLogShortPHD);
	}
	record->addr += len;
	return len;
}

static void
test_longest_record(void **arg)
{
	LongRecord record = {.header = {.xl_tot_len = 0x3fffffff, .xl_rmid = RM_HEAP_ID}};
	WalkReader reader = {read_long, NULL, &record, buffer, sizeof(buffer)};
	uint32 left = record.header.xl_tot_len - SizeOfXLogRecord;
	WalkState state;

	(void) arg;
	memset(buffer, 0, sizeof(buffer));
	INIT_CRC32C(record.header.xl_crc);
	for (; left > sizeof(buffer); left -= sizeof(buffer))
		COMP_CRC32C(record.header.xl_crc, buffer, sizeof(buffer));
	COMP_CRC32C(record.header.xl_crc, buffer, left);
	COMP_CRC32C(record.header.xl_crc, &record.header, offsetof(XLogRecord, xl_crc));
	FIN_CRC32C(record.header.xl_crc);

	assert_true(WalkInit(&state, 64 * MB, InvalidXLogRecPtr, 1, 64 * MB, 0));
	assert_true(WalkAdvance(&state, &reader, (uint64) 2048 * MB) == WALK_ZERO_LENGTH);
	assert_true(state.records == 1 && state.boundary > (uint64) (64 + 1024) * MB);
}

static void
test_stop_names(void **arg)
{
	int i;
	int j;

	(void) arg;
	for (i = 0; i < WALK_STOPS; i++)
	{
		assert_non_null(WalkStopName(i));
		for (j = 0; j < i; j++)
			assert_string_not_equal(WalkStopName(i), WalkStopName(j));
	}
	assert_string_equal(WalkStopName(WALK_STOPS), "unknown");
	assert_string_equal(WalkStopName(WALK_NEED_MORE), "need more");
	assert_string_equal(WalkStopName(WALK_BAD_PAGE), "bad page header");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wal_is_varied),  cmocka_unit_test(test_whole),
		cmocka_unit_test(test_every_boundary), cmocka_unit_test(test_every_limit),
		cmocka_unit_test(test_blocks),         cmocka_unit_test(test_bad_blocks),
		cmocka_unit_test(test_flips),          cmocka_unit_test(test_torn_pages),
		cmocka_unit_test(test_cut_records),    cmocka_unit_test(test_growing_pages),
		cmocka_unit_test(test_crc_collision),  cmocka_unit_test(test_changed),
		cmocka_unit_test(test_reasons),        cmocka_unit_test(test_beginning),
		cmocka_unit_test(test_timelines),      cmocka_unit_test(test_read_failures),
		cmocka_unit_test(test_stuck),          cmocka_unit_test(test_long_record_is_cheap),
		cmocka_unit_test(test_longest_record), cmocka_unit_test(test_stop_names),
		cmocka_unit_test(test_strip_as_sent),  cmocka_unit_test(test_strip_anywhere),
		cmocka_unit_test(test_strip_damaged),  cmocka_unit_test(test_strip_zeros),
		cmocka_unit_test(test_strip_stranger),
	};

	return cmocka_run_group_tests(tests, load_everything, NULL);
}
