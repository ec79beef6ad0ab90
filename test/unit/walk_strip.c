/*-------------------------------------------------------------------------
 *
 * walk_strip.c
 *	  Tests of link/strip.c, with the WAL that the record walk is tested with:
 *	  whatever it is and wherever it is cut into frames, it comes out as it was;
 *	  and of WAL as the sender cuts it, all is left out that can be.
 *
 *-------------------------------------------------------------------------
 */
#include "walk_bed.h"

#include "link/strip.h"

#define FRAME_MAX (128 * 1024)

/* Where WAL is cut. */
typedef enum Cut
{
	CUT_AS_SENT, /* after a record or a page */
	CUT_ANYWHERE
} Cut;

typedef struct Journey
{
	LinkStrip sender;
	LinkStrip standby;
	size_t stripped;  /* records that were left out of, as the truth tells where they are */
	size_t possible;  /* records of which it had to be */
	size_t refused;   /* frames that went as they were */
	XLogRecPtr known; /* from here on both sides have seen where records begin */
} Journey;

static uint8 frame[FRAME_MAX];

static const uint8 *
field(XLogRecPtr from, XLogRecPtr record, size_t offset)
{
	return frame + (record - from) + offset;
}

/* Does the frame have what was written over the rest of a record after a crash? */
static bool
has_cut_off(const Wal *wal, XLogRecPtr from, XLogRecPtr to)
{
	for (size_t i = record_at(wal, from); i < wal->nrecords && wal->records[i].start < to; i++)
	{
		if (wal->records[i].start >= from && wal->records[i].is_overwrite)
			return true;
	}
	return false;
}

/*
 * Count the records of a stripped frame that are, and those that had to be.
 * The length of a record that was cut off leads astray, as far as its frame.
 */
static void
count_records(Journey *journey, const Wal *wal, XLogRecPtr from, XLogRecPtr to)
{
	static const uint8 zeros[8] = {0};

	if (has_cut_off(wal, from, to))
	{
		journey->known = to;
		return;
	}
	for (size_t i = record_at(wal, from); i < wal->nrecords && wal->records[i].start < to; i++)
	{
		const TruthRecord *record = &wal->records[i];
		bool whole = record->start >= from && wal->records[i + 1].bound <= to &&
					 XLOG_BLCKSZ - record->start % XLOG_BLCKSZ >= SizeOfXLogRecord;

		if (!whole || i == 0 || wal->records[i - 1].start < journey->known)
			continue;
		journey->possible++;
		journey->stripped +=
			memcmp(field(from, record->start, offsetof(XLogRecord, xl_prev)), zeros, 8) == 0 &&
			memcmp(field(from, record->start, offsetof(XLogRecord, xl_crc)), zeros, 4) == 0;
	}
}

/* One frame to the standby and back; it must be what it was. */
static void
send_frame(Journey *journey, const char *wal, XLogRecPtr lsn, size_t length)
{
	if (link_strip(&journey->sender, lsn, frame, length))
		link_restore(&journey->standby, lsn, frame, length);
	else
	{
		journey->refused++;
		assert_memory_equal(frame, wal, length);
		link_strip_skip(&journey->standby, lsn, frame, length);
	}
	assert_memory_equal(frame, wal, length);
	assert_memory_equal(&journey->sender, &journey->standby, sizeof(LinkStrip));
}

static size_t
frame_length(const Wal *wal, XLogRecPtr from, Cut cut)
{
	XLogRecPtr to = from + 1 + next_random() % (next_random() % 4 == 0 ? FRAME_MAX : 2000);

	if (cut == CUT_AS_SENT)
	{
		size_t i = record_at(wal, to);

		to = next_random() % 2 == 0 ? to - to % XLOG_BLCKSZ : wal->records[i].bound;
		if (to <= from)
			to = page_after(from);
	}
	return Min(Min(to, wal->to) - from, FRAME_MAX);
}

static void
send_all(Journey *journey, const Wal *wal, Cut cut)
{
	for (XLogRecPtr from = wal->from; from < end_of(wal);)
	{
		size_t length = frame_length(wal, from, cut);
		LinkStrip before = journey->sender;

		memcpy(frame, at(wal, from), length);
		if (cut == CUT_AS_SENT && link_strip(&before, from, frame, length))
			count_records(journey, wal, from, from + length);
		memcpy(frame, at(wal, from), length);
		send_frame(journey, at(wal, from), from, length);
		from += length;
	}
}

void
test_strip_as_sent(void **arg)
{
	(void) arg;
	for (int i = 0; i < WALS; i++)
	{
		Journey journey = {.known = all_wal[i]->from};

		send_all(&journey, all_wal[i], CUT_AS_SENT);
		assert_int_equal(journey.refused, 0);
		assert_true(journey.possible > 0);
		assert_int_equal(journey.stripped, journey.possible);
	}
}

void
test_strip_anywhere(void **arg)
{
	(void) arg;
	for (int i = 0; i < WALS; i++)
	{
		Journey journey = {0};

		send_all(&journey, all_wal[i], CUT_ANYWHERE);
	}
}

/* WAL that has been damaged is not mended, and not made worse. */
void
test_strip_damaged(void **arg)
{
	const Wal *wal = &wal_16mb;
	Journey journey = {0};

	(void) arg;
	for (int round = 0; round < 4000; round++)
	{
		XLogRecPtr from = wal->from + next_random() % (end_of(wal) - wal->from - FRAME_MAX);
		size_t length = frame_length(wal, from, next_random() % 2);
		static char damaged[FRAME_MAX];

		memcpy(damaged, at(wal, from), length);
		for (uint64 n = next_random() % 40; n > 0; n--)
			damaged[next_random() % length] = next_random() % 3 == 0 ? 0 : (char) next_random();
		memcpy(frame, damaged, length);
		/* often as if it followed the last frame */
		send_frame(&journey, damaged, next_random() % 2 ? from : journey.sender.next, length);
	}
}

/* A record that looks as if something had been left out goes as it is, with its frame. */
void
test_strip_zeros(void **arg)
{
	const Wal *wal = &wal_1mb;
	Journey journey = {0};
	size_t i = record_at(wal, wal->from + 20000);
	static char zeros[FRAME_MAX];
	XLogRecPtr from;
	size_t length;

	(void) arg;
	while (XLOG_BLCKSZ - wal->records[i].start % XLOG_BLCKSZ < 1000)
		i++;
	from = wal->records[i - 1].start;
	length = wal->records[i + 20].start - from;
	memcpy(zeros, at(wal, from), length);
	memset(zeros + (wal->records[i].start - from) + offsetof(XLogRecord, xl_prev), 0, 8);
	memset(zeros + (wal->records[i].start - from) + offsetof(XLogRecord, xl_crc), 0, 4);
	memcpy(frame, zeros, length);
	send_frame(&journey, zeros, from, length);
	assert_int_equal(journey.refused, 1);

	/* and the next frame is stripped, with what both sides know of this one */
	from += length;
	length = wal->records[i + 21].start - from;
	memcpy(frame, at(wal, from), length);
	assert_true(link_strip(&journey.sender, from, frame, length));
	assert_memory_not_equal(frame, at(wal, from), length);
	link_restore(&journey.standby, from, frame, length);
	assert_memory_equal(frame, at(wal, from), length);
}

/* What comes from the network may be anything; it only must not be touched beyond its end. */
void
test_strip_stranger(void **arg)
{
	(void) arg;
	for (int round = 0; round < 20000; round++)
	{
		size_t length = 1 + next_random() % (round % 50 == 0 ? FRAME_MAX : 300);
		uint8 *bytes = malloc(length);
		LinkStrip strip = {0};
		uint64 lsn = next_random();

		if (round % 2 == 0)
			lsn -= lsn % XLOG_BLCKSZ;
		for (size_t k = 0; k < length; k++)
			bytes[k] = next_random() % 4 == 0 ? 0 : (uint8) (next_random() % 64);
		strip.next = lsn;
		strip.record = next_random();
		link_restore(&strip, lsn, bytes, length);
		assert_true(strip.next == lsn + length);
		free(bytes);
	}
}
