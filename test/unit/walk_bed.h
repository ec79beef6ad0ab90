/*-------------------------------------------------------------------------
 *
 * walk_bed.h
 *	  WAL to walk, and the truth about it; what the tests of the record walk share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef WALK_BED_H
#define WALK_BED_H

#include "postgres_fe.h"

#include <setjmp.h>
#include <sys/types.h>
#include <cmocka.h>

#include "walk.h"

#define MB   ((uint32) 1024 * 1024)
#define WALS 5

typedef struct TruthRecord
{
	XLogRecPtr start;
	XLogRecPtr bound; /* the boundary before it */
	bool is_switch;
	bool is_overwrite;
} TruthRecord;

typedef struct TruthBlock
{
	XLogRecPtr start;
	uint32 relation[3];
	ForkNumber fork;
	BlockNumber block;
} TruthBlock;

typedef struct Wal
{
	const char *name;
	TimeLineID tli;
	uint32 segsize;
	uint64 sysid;
	char *data;
	XLogRecPtr from;      /* LSN of data[0], a segment's first byte */
	XLogRecPtr to;        /* LSN behind data's last byte */
	TruthRecord *records; /* nrecords and one more, whose bound is the end */
	size_t nrecords;
	TruthBlock *blocks;
	size_t nblocks;
} Wal;

/* what the read callback works on, and what it was asked for */
typedef struct Source
{
	const Wal *wal;
	XLogRecPtr fail_at; /* a read of this page fails */
	size_t max_read;    /* a short read, if not 0 */
	size_t reads;
	size_t bytes;
	size_t block; /* how many block references were compared */
} Source;

/* pages that differ in what they hold */
typedef enum PageKind
{
	PAGE_RECORDS,   /* begins and ends with a boundary or a header across */
	PAGE_CONTINUED, /* begins in a record, more follow */
	PAGE_MIDDLE,    /* of one record */
	PAGE_FIRST,     /* of a segment */
	PAGE_SWITCH,    /* has a switch record */
	PAGE_PADDING,   /* behind one */
	PAGE_STRADDLED, /* ends within a record's header */
	PAGE_OVERWRITE, /* after a record cut off */
	PAGE_KINDS
} PageKind;

/* walk_bed.c: the WAL of real clusters, made by load_everything(), and the walk */
extern Wal wal_1mb;
extern Wal wal_16mb;
extern Wal wal_64mb;
extern Wal wal_branched;
extern Wal wal_made;
extern Wal *const all_wal[WALS];
extern char buffer[1024 * 1024]; /* of read_wal() */

extern int load_everything(void **arg);
extern uint64 next_random(void);
extern char *at(const Wal *wal, XLogRecPtr lsn);
extern XLogRecPtr page_of(XLogRecPtr lsn);
extern XLogRecPtr page_after(XLogRecPtr lsn);
extern uint32 header_size(const Wal *wal, XLogRecPtr page);
extern XLogRecPtr end_of(const Wal *wal);
extern TruthRecord *add_record(Wal *wal, XLogRecPtr start, XLogRecPtr bound);
extern size_t record_at(const Wal *wal, XLogRecPtr lsn);
extern XLogRecPtr find_page(const Wal *wal, PageKind kind, int which);
extern XLogRecPtr expected_boundary(const Wal *wal, XLogRecPtr changed, XLogRecPtr limit);
extern ssize_t read_wal(void *arg, XLogRecPtr from, char *buf, size_t len);
extern WalkStop advance(WalkState *state, Source *source, XLogRecPtr limit);
extern WalkState walk_from(const Wal *wal, size_t record);
extern XLogRecPtr walk_once(const Wal *wal, size_t record, XLogRecPtr limit, WalkStop *stop);
extern void check_boundary(const Wal *wal, XLogRecPtr got, XLogRecPtr expected, const char *what,
						   XLogRecPtr where);

/* walk_made.c: WAL laid out byte by byte */
extern void make_wal(Wal *wal);
extern void set_crc(XLogRecord *record);

/* walk_damage.c */
extern void test_flips(void **arg);
extern void test_torn_pages(void **arg);
extern void test_cut_records(void **arg);
extern void test_growing_pages(void **arg);
extern void test_crc_collision(void **arg);
extern void test_changed(void **arg);
extern void test_reasons(void **arg);

/* walk_strip.c */
extern void test_strip_as_sent(void **arg);
extern void test_strip_anywhere(void **arg);
extern void test_strip_damaged(void **arg);
extern void test_strip_zeros(void **arg);
extern void test_strip_stranger(void **arg);

#endif /* WALK_BED_H */
