/*-------------------------------------------------------------------------
 *
 * walk_bed.c
 *	  The WAL of real clusters (walk_wal.sh), with pg_waldump's output as the
 *	  truth; how the tests walk it, and what is to come of that.
 *
 *-------------------------------------------------------------------------
 */
#include "walk_bed.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

Wal wal_1mb = {.name = "1"};
Wal wal_16mb = {.name = "16"};
Wal wal_64mb = {.name = "64"};
Wal wal_branched = {.name = "16", .tli = 2};
Wal wal_made = {.name = "made"};
Wal *const all_wal[WALS] = {&wal_1mb, &wal_16mb, &wal_64mb, &wal_branched, &wal_made};

char buffer[1024 * 1024] pg_attribute_aligned(8);
static char wal_dir[MAXPGPATH];
static bool wal_dir_is_ours;
static pid_t script = -1;
static uint64 random_state = UINT64CONST(0x2545F4914F6CDD1D);

uint64
next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

char *
at(const Wal *wal, XLogRecPtr lsn)
{
	return wal->data + (lsn - wal->from);
}

XLogRecPtr
page_of(XLogRecPtr lsn)
{
	return lsn - lsn % XLOG_BLCKSZ;
}

XLogRecPtr
page_after(XLogRecPtr lsn)
{
	return page_of(lsn + XLOG_BLCKSZ - 1);
}

uint32
header_size(const Wal *wal, XLogRecPtr page)
{
	return page % wal->segsize == 0 ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
}

XLogRecPtr
end_of(const Wal *wal)
{
	return wal->records[wal->nrecords].bound;
}

TruthRecord *
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
size_t
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
XLogRecPtr
expected_boundary(const Wal *wal, XLogRecPtr changed, XLogRecPtr limit)
{
	return wal->records[record_at(wal, Min(changed, limit))].bound;
}

/* ---------------- walking ---------------- */

ssize_t
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

WalkStop
advance(WalkState *state, Source *source, XLogRecPtr limit)
{
	WalkReader reader = {read_wal, NULL, source, buffer, sizeof(buffer)};

	return WalkAdvance(state, &reader, limit);
}

/* a walk about to read the given record */
WalkState
walk_from(const Wal *wal, size_t record)
{
	WalkState state;

	assert_true(WalkInit(&state, wal->records[record].bound,
						 record > 0 ? wal->records[record - 1].start : InvalidXLogRecPtr, wal->tli,
						 wal->segsize, wal->sysid));
	return state;
}

XLogRecPtr
walk_once(const Wal *wal, size_t record, XLogRecPtr limit, WalkStop *stop)
{
	Source source = {.wal = wal};
	WalkState state = walk_from(wal, record);

	*stop = advance(&state, &source, limit);
	return state.boundary;
}

void
check_boundary(const Wal *wal, XLogRecPtr got, XLogRecPtr expected, const char *what,
			   XLogRecPtr where)
{
	if (got != expected)
		fail_msg("%s: %s at %X/%X: boundary %X/%X, expected %X/%X", wal->name, what,
				 LSN_FORMAT_ARGS(where), LSN_FORMAT_ARGS(got), LSN_FORMAT_ARGS(expected));
}

/* ---------------- kinds of pages ---------------- */

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
XLogRecPtr
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

int
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
