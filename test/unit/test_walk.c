/*-------------------------------------------------------------------------
 *
 * test_walk.c
 *	  Tests of the record walk (extension/walk.c).
 *
 * Two kinds of WAL are walked: what real clusters wrote (walk_wal.sh), with
 * pg_waldump's output as the truth, and what insert_record() below lays out
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
#include "postgres_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "catalog/pg_control.h"
#include "walk.h"

#define MB ((uint32) 1024 * 1024)

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

static Wal wal_1mb = {.name = "1"};
static Wal wal_16mb = {.name = "16"};
static Wal wal_64mb = {.name = "64"};
static Wal wal_branched = {.name = "16", .tli = 2};
static Wal wal_made = {.name = "made"};

static char buffer[1024 * 1024] pg_attribute_aligned(8);
static char wal_dir[MAXPGPATH];
static bool wal_dir_is_ours;
static pid_t script = -1;
static uint64 random_state = UINT64CONST(0x2545F4914F6CDD1D);

static uint64
next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static char *
at(const Wal *wal, XLogRecPtr lsn)
{
	return wal->data + (lsn - wal->from);
}

static XLogRecPtr
page_of(XLogRecPtr lsn)
{
	return lsn - lsn % XLOG_BLCKSZ;
}

static XLogRecPtr
page_after(XLogRecPtr lsn)
{
	return page_of(lsn + XLOG_BLCKSZ - 1);
}

static uint32
header_size(const Wal *wal, XLogRecPtr page)
{
	return page % wal->segsize == 0 ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
}

static XLogRecPtr
end_of(const Wal *wal)
{
	return wal->records[wal->nrecords].bound;
}

static TruthRecord *
add_record(Wal *wal, XLogRecPtr start, XLogRecPtr bound)
{
	TruthRecord *record;

	/* room for this one and the one behind the end */
	if ((wal->nrecords & (wal->nrecords + 1)) == 0)
		wal->records = realloc(wal->records, (wal->nrecords + 1) * 4 * sizeof(*record));
	record = &wal->records[wal->nrecords++];
	memset(record, 0, 2 * sizeof(*record));
	record->start = start;
	record->bound = bound;
	return record;
}

/* the last record whose bound is not behind lsn */
static size_t
record_at(const Wal *wal, XLogRecPtr lsn)
{
	size_t low = 0;
	size_t high = wal->nrecords;

	while (low < high)
	{
		size_t middle = (low + high + 1) / 2;

		if (wal->records[middle].bound <= lsn)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* the rule: changed is the first byte that differs, or beyond the limit */
static XLogRecPtr
expected_boundary(const Wal *wal, XLogRecPtr changed, XLogRecPtr limit)
{
	return wal->records[record_at(wal, Min(changed, limit))].bound;
}

/* ---------------- walking ---------------- */

static ssize_t
read_wal(void *arg, XLogRecPtr from, char *buf, size_t len)
{
	Source *source = arg;
	const Wal *wal = source->wal;

	assert_true(from % XLOG_BLCKSZ == 0 && len % XLOG_BLCKSZ == 0 && len > 0);
	assert_true(len <= sizeof(buffer));
	assert_true(from / wal->segsize == (from + len - 1) / wal->segsize);
	assert_true(from >= wal->from && from + len <= wal->to);
	if (source->fail_at >= from && source->fail_at < from + len)
		len = source->fail_at - from;
	if (source->max_read != 0 && len > source->max_read)
		len = source->max_read;
	memcpy(buf, at(wal, from), len);
	source->reads++;
	source->bytes += len;
	return len;
}

static WalkStop
advance(WalkState *state, Source *source, XLogRecPtr limit)
{
	WalkReader reader = {read_wal, NULL, source, buffer, sizeof(buffer)};

	return WalkAdvance(state, &reader, limit);
}

/* a walk about to read the given record */
static WalkState
walk_from(const Wal *wal, size_t record)
{
	WalkState state;

	assert_true(WalkInit(&state, wal->records[record].bound,
						 record > 0 ? wal->records[record - 1].start : InvalidXLogRecPtr, wal->tli,
						 wal->segsize, wal->sysid));
	return state;
}

static XLogRecPtr
walk_once(const Wal *wal, size_t record, XLogRecPtr limit, WalkStop *stop)
{
	Source source = {.wal = wal};
	WalkState state = walk_from(wal, record);

	*stop = advance(&state, &source, limit);
	return state.boundary;
}

static void
check_boundary(const Wal *wal, XLogRecPtr got, XLogRecPtr expected, const char *what,
			   XLogRecPtr where)
{
	if (got != expected)
		fail_msg("%s: %s at %X/%X: boundary %X/%X, expected %X/%X", wal->name, what,
				 LSN_FORMAT_ARGS(where), LSN_FORMAT_ARGS(got), LSN_FORMAT_ARGS(expected));
}

/* ---------------- WAL that PostgreSQL wrote ---------------- */

static void
remove_wal_dir(void)
{
	pid_t child;

	if (!wal_dir_is_ours)
		return;
	child = fork();
	if (child == 0)
	{
		execlp("rm", "rm", "-rf", wal_dir, (char *) NULL);
		_exit(127);
	}
	waitpid(child, NULL, 0);
}

static void
interrupted(int signo)
{
	if (script > 0)
	{
		kill(script, SIGTERM);
		waitpid(script, NULL, 0);
	}
	remove_wal_dir();
	_exit(128 + signo);
}

static void
run_script(void)
{
	const char *path = getenv("WALK_WAL_SH");
	char beside[MAXPGPATH];
	int status;

	if (path == NULL)
	{
		const char *slash = strrchr(__FILE__, '/');

		snprintf(beside, sizeof(beside), "%.*swalk_wal.sh",
				 slash == NULL ? 0 : (int) (slash + 1 - __FILE__), __FILE__);
		path = beside;
	}
	signal(SIGINT, interrupted);
	signal(SIGTERM, interrupted);
	signal(SIGHUP, interrupted);
	script = fork();
	if (script == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		execlp("bash", "bash", path, wal_dir, (char *) NULL);
		_exit(127);
	}
	assert_true(waitpid(script, &status, 0) == script);
	script = -1;
	if (status != 0)
	{
		remove_wal_dir();
		fail_msg("%s failed: status %d", path, status);
	}
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Map the segments of wal->name and wal->tli into one piece of memory. */
static void
map_segments(Wal *wal)
{
	char path[MAXPGPATH];
	char prefix[16];
	char *names[1024];
	size_t n = 0;
	size_t i;
	DIR *dir;
	struct dirent *entry;
	struct stat st;

	if (wal->tli == 0)
		wal->tli = 1;
	snprintf(prefix, sizeof(prefix), "%08X", wal->tli);
	snprintf(path, sizeof(path), "%s/%s", wal_dir, wal->name);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
	{
		if (IsXLogFileName(entry->d_name) && strncmp(entry->d_name, prefix, 8) == 0)
		{
			assert_true(n < lengthof(names));
			names[n++] = strdup(entry->d_name);
		}
	}
	closedir(dir);
	assert_true(n > 0);
	qsort(names, n, sizeof(names[0]), compare_names);

	for (i = 0; i < n; i++)
	{
		unsigned int log;
		unsigned int seg;
		int fd;

		snprintf(path, sizeof(path), "%s/%s/%s", wal_dir, wal->name, names[i]);
		fd = open(path, O_RDONLY);
		assert_true(fd >= 0 && fstat(fd, &st) == 0);
		assert_true(sscanf(names[i] + 8, "%08X%08X", &log, &seg) == 2);
		if (i == 0)
		{
			wal->segsize = st.st_size;
			wal->from = ((uint64) log << 32) + (uint64) seg * wal->segsize;
			wal->to = wal->from + n * wal->segsize;
			wal->data = mmap(NULL, wal->to - wal->from, PROT_READ | PROT_WRITE,
							 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
			assert_true(wal->data != MAP_FAILED);
		}
		/* none may be missing */
		assert_true(((uint64) log << 32) + (uint64) seg * wal->segsize ==
					wal->from + i * wal->segsize);
		assert_true(mmap(wal->data + i * wal->segsize, wal->segsize, PROT_READ | PROT_WRITE,
						 MAP_PRIVATE | MAP_FIXED, fd, 0) != MAP_FAILED);
		close(fd);
		free(names[i]);
	}
	wal->sysid = ((XLogLongPageHeader) wal->data)->xlp_sysid;
}

/* Where a record ends, counted page by page. */
static XLogRecPtr
record_end(const Wal *wal, XLogRecPtr start, uint32 tot_len, bool is_switch)
{
	XLogRecPtr pos = start;
	uint32 left = MAXALIGN(tot_len);

	for (;;)
	{
		uint32 room = XLOG_BLCKSZ - pos % XLOG_BLCKSZ;

		if (left <= room)
			break;
		left -= room;
		pos += room + header_size(wal, pos + room);
	}
	pos += left;
	while (is_switch && pos % wal->segsize != 0)
		pos += MAXIMUM_ALIGNOF;
	return pos;
}

static XLogRecPtr
parse_lsn(const char *line, const char *label)
{
	const char *p = strstr(line, label);
	unsigned int high = 0;
	unsigned int low = 0;

	if (p == NULL || sscanf(p + strlen(label), "%X/%X", &high, &low) != 2)
		fail_msg("no \"%s\" in: %.200s", label, line);
	return (uint64) high << 32 | low;
}

static ForkNumber
parse_fork(const char *name)
{
	if (strncmp(name, "fsm ", 4) == 0)
		return FSM_FORKNUM;
	if (strncmp(name, "vm ", 3) == 0)
		return VISIBILITYMAP_FORKNUM;
	assert_true(strncmp(name, "init ", 5) == 0);
	return INIT_FORKNUM;
}

static void
parse_blocks(Wal *wal, const char *line, XLogRecPtr start)
{
	const char *p = line;

	while ((p = strstr(p, ", blkref #")) != NULL)
	{
		TruthBlock block = {.start = start, .fork = MAIN_FORKNUM};
		const char *fork;
		const char *blk;

		assert_true(sscanf(p, ", blkref #%*u: rel %u/%u/%u", &block.relation[0], &block.relation[1],
						   &block.relation[2]) == 3);
		p = strstr(p, ": rel");
		blk = strstr(p, " blk ");
		fork = strstr(p, " fork ");
		if (fork != NULL && fork < blk)
			block.fork = parse_fork(fork + 6);
		block.block = strtoul(blk + 5, NULL, 10);
		if ((wal->nblocks & (wal->nblocks + 1)) == 0)
			wal->blocks = realloc(wal->blocks, (wal->nblocks + 1) * 2 * sizeof(block));
		wal->blocks[wal->nblocks++] = block;
	}
}

/*
 * One line of pg_waldump.  The record's bound is what the one before it ends
 * with, by its length; that has to agree with the LSN that pg_waldump shows,
 * or, where a record was cut off, with what the record over it says.
 */
static void
parse_record(Wal *wal, const char *line)
{
	static XLogRecPtr end;
	XLogRecPtr start = parse_lsn(line, ", lsn: ");
	const char *desc = strstr(line, ", desc: ");
	const char *tot = strchr(strstr(line, "(rec/tot)"), ':');
	TruthRecord *record;

	if (wal->nrecords == 0)
		end = start;
	record = add_record(wal, start, end);
	record->is_switch = strncmp(desc, ", desc: SWITCH", 14) == 0;
	record->is_overwrite = strncmp(desc, ", desc: OVERWRITE_CONTRECORD", 28) == 0;
	if (record->is_overwrite)
		start = parse_lsn(desc, " lsn ");
	if (wal->nrecords > 1)
	{
		assert_true(parse_lsn(line, ", prev ") == record[-1].start);
		assert_true(start == end ||
					(end % XLOG_BLCKSZ == 0 && start == end + header_size(wal, end)));
	}
	end =
		record_end(wal, record->start, strtoul(strchr(tot, '/') + 1, NULL, 10), record->is_switch);
	record[1].bound = end;
	parse_blocks(wal, desc, record->start);
}

static void
load_wal(Wal *wal)
{
	const char *pg_config = getenv("PG_CONFIG");
	char command[MAXPGPATH * 2];
	char *line = NULL;
	size_t size = 0;
	FILE *pipe;

	map_segments(wal);
	snprintf(command, sizeof(command),
			 "exec \"$(%s --bindir)/pg_waldump\" -p %s/%s -t %u -s %X/%X 2>/dev/null",
			 pg_config != NULL ? pg_config : "pg_config", wal_dir, wal->name, wal->tli,
			 LSN_FORMAT_ARGS(wal->from));
	pipe = popen(command, "r");
	assert_non_null(pipe);
	while (getline(&line, &size, pipe) > 0)
	{
		if (strncmp(line, "rmgr: ", 6) == 0)
			parse_record(wal, line);
	}
	free(line);
	pclose(pipe); /* fails at the end of WAL */
	assert_true(wal->nrecords > 0);
}

/* A timeline's own WAL begins where it branched off. */
static void
forget_before(Wal *wal, XLogRecPtr branch)
{
	size_t n = record_at(wal, branch);

	wal->nrecords -= n;
	memmove(wal->records, wal->records + n, (wal->nrecords + 1) * sizeof(wal->records[0]));
	for (n = 0; n < wal->nblocks && wal->blocks[n].start < branch; n++)
		;
	wal->nblocks -= n;
	memmove(wal->blocks, wal->blocks + n, wal->nblocks * sizeof(wal->blocks[0]));
}

/* ---------------- WAL made here ---------------- */

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

static void
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

static void
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

static bool
page_is(const Wal *wal, XLogRecPtr page, PageKind kind)
{
	size_t last = record_at(wal, page + XLOG_BLCKSZ - 1);
	const TruthRecord *before = &wal->records[record_at(wal, page)];
	const TruthRecord *record = &wal->records[last];
	bool within = before->bound < page;

	/* neither what leads into it nor what leads out is long, or each test is */
	if (wal->records[record_at(wal, page - 1)].bound + 4 * XLOG_BLCKSZ < page ||
		(!record->is_switch && record[1].bound > page + 5 * XLOG_BLCKSZ))
		return false;
	/* test_cut_records has those that hold the rest of a record cut off */
	if (record->is_overwrite && record->start > page + XLOG_BLCKSZ)
		return false;

	switch (kind)
	{
		case PAGE_RECORDS:
			return !within && record - before > 3;
		case PAGE_CONTINUED:
			return within && record - before > 3;
		case PAGE_MIDDLE:
			return within && before == record && record[1].bound > page + XLOG_BLCKSZ;
		case PAGE_FIRST:
			return page % wal->segsize == 0 && record - before > 3;
		case PAGE_SWITCH:
			return record->is_switch && record->bound > page + 500 &&
				   record->bound < page + XLOG_BLCKSZ - 500;
		case PAGE_PADDING:
			return before->is_switch && before == record && page - before->bound > XLOG_BLCKSZ &&
				   page - before->bound < 3 * XLOG_BLCKSZ;
		case PAGE_STRADDLED:
			return record[0].start > page + XLOG_BLCKSZ - SizeOfXLogRecord;
		case PAGE_OVERWRITE:
			return before->is_overwrite && page_of(before->start) == page && record != before;
		default:
			return false;
	}
}

/* The how-manieth page of that kind, or invalid. */
static XLogRecPtr
find_page(const Wal *wal, PageKind kind, int which)
{
	XLogRecPtr page = page_of(wal->records[0].bound) + 2 * XLOG_BLCKSZ;

	for (; page + 2 * XLOG_BLCKSZ < end_of(wal); page += XLOG_BLCKSZ)
	{
		if (page_is(wal, page, kind) && which-- == 0)
			return page;
	}
	return InvalidXLogRecPtr;
}

/* ---------------- the tests: all of it ---------------- */

static Wal *const all_wal[] = {&wal_1mb, &wal_16mb, &wal_64mb, &wal_branched, &wal_made};

static int
load_everything(void **arg)
{
	const char *dir = getenv("WALK_WAL_DIR");

	(void) arg;
	if (dir != NULL)
		strlcpy(wal_dir, dir, sizeof(wal_dir));
	else
	{
		strlcpy(wal_dir, "/tmp/test_walk.XXXXXX", sizeof(wal_dir));
		assert_non_null(mkdtemp(wal_dir));
		wal_dir_is_ours = true;
		run_script();
	}
	load_wal(&wal_1mb);
	load_wal(&wal_16mb);
	load_wal(&wal_64mb);
	load_wal(&wal_branched);
	forget_before(&wal_branched, end_of(&wal_16mb));
	make_wal(&wal_made);
	remove_wal_dir(); /* it is mapped */
	wal_dir_is_ours = false;
	return 0;
}

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

/* ---------------- the tests: damage ---------------- */

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

static void
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

static void
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
static void
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

static void
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
static void
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
static void
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

static void
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
	};

	return cmocka_run_group_tests(tests, load_everything, NULL);
}
