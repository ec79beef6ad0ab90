/*
 * rebuild_files.c
 *		See rebuild_files.h.
 */
#include "rebuild_files.h"

#include "link_rule.h"
#include "pg_file.h"
#include "rights.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define NOTE_HEADER   "pg_tandem rebuild, format 1\n"
#define NOTE_END      "end\n"
#define ROOM_TO_LEAVE (64 * 1024 * 1024)

static void
state_path(const Config *c, const char *suffix, char path[PG_FILE_PATH])
{
	snprintf(path, PG_FILE_PATH, "%s/%s%s", c->state_directory, c->node[c->self].name, suffix);
}

/* ---------- the note ---------- */

static bool
parse_note(char *text, RebuildNote *note)
{
	char *save = NULL;

	if (strncmp(text, NOTE_HEADER, strlen(NOTE_HEADER)) != 0 || strlen(text) < strlen(NOTE_END) ||
		strcmp(text + strlen(text) - strlen(NOTE_END), NOTE_END) != 0)
		return false;
	for (char *line = strtok_r(text + strlen(NOTE_HEADER), "\n", &save); line != NULL;
		 line = strtok_r(NULL, "\n", &save))
	{
		int phase;

		if (sscanf(line, "phase %d", &phase) == 1)
			note->phase = (RebuildPhase) phase;
		else if (strncmp(line, "copy ", 5) == 0)
			note->copy = strtoull(line + 5, NULL, 16);
		else if (strcmp(line, "saved") == 0)
			note->saved = true;
		else if (strcmp(line, "kept") == 0)
			note->kept = true;
		else if (strncmp(line, "place ", 6) == 0 && note->nplaces < REBUILD_MAX_PLACES &&
				 strlen(line + 6) < CONFIG_PATH_SIZE)
			strcpy(note->place[note->nplaces++], line + 6);
	}
	return note->phase > REBUILD_NONE && note->phase <= REBUILD_DONE;
}

void
rebuild_note_read(const Config *c, RebuildNote *note)
{
	char path[PG_FILE_PATH];
	char *text = NULL;
	int r;

	memset(note, 0, sizeof(*note));
	state_path(c, ".rebuild", path);
	r = pg_file_read(path, &text);
	if (r == -ENOENT)
		return;
	if (r < 0 || !parse_note(text, note))
	{
		memset(note, 0, sizeof(*note));
		note->phase = REBUILD_REWIND;
	}
	free(text);
}

int
rebuild_note_write(const Config *c, const RebuildNote *note)
{
	size_t size = 512 + (size_t) note->nplaces * (CONFIG_PATH_SIZE + 16);
	char *text = malloc(size);
	char path[PG_FILE_PATH];
	size_t n;
	int r;

	if (text == NULL)
		return -ENOMEM;
	n = (size_t) snprintf(text, size, NOTE_HEADER "phase %d\ncopy %016llx\n%s%s", (int) note->phase,
						  (unsigned long long) note->copy, note->saved ? "saved\n" : "",
						  note->kept ? "kept\n" : "");
	for (int i = 0; i < note->nplaces; i++)
		n += (size_t) snprintf(text + n, size - n, "place %s\n", note->place[i]);
	snprintf(text + n, size - n, NOTE_END);
	state_path(c, ".rebuild", path);
	r = pg_file_write(path, text, 0600);
	free(text);
	return r;
}

bool
rebuild_note_is_open(const RebuildNote *note)
{
	return note->phase != REBUILD_NONE && note->phase != REBUILD_DONE;
}

int
rebuild_note_remove(const Config *c)
{
	char path[PG_FILE_PATH];

	state_path(c, ".rebuild", path);
	return pg_file_remove(path);
}

/* ---------- the node's own configuration ---------- */

static const char *const configuration[] = {"postgresql.conf", "postgresql.auto.conf",
											"pg_hba.conf", "pg_ident.conf"};
#define NCONFIGURATION (sizeof(configuration) / sizeof(configuration[0]))

/* Copy those that are there; a link (to /etc) is not a file of the data directory. */
static int
copy_configuration(const char *from, const char *to, int (*copy)(const char *, const char *))
{
	int r = 0;

	for (size_t i = 0; i < NCONFIGURATION && r == 0; i++)
	{
		char source[PG_FILE_PATH];
		char target[PG_FILE_PATH];
		struct stat st;

		if (!pg_file_join(source, from, configuration[i]) ||
			!pg_file_join(target, to, configuration[i]))
			return -ENAMETOOLONG;
		if (lstat(source, &st) == 0 && S_ISREG(st.st_mode))
			r = copy(source, target);
	}
	return r;
}

int
rebuild_save_configuration(const Config *c)
{
	char path[PG_FILE_PATH];
	int r;

	state_path(c, ".saved", path);
	r = pg_file_remove_tree(path);
	if (r == 0)
		r = pg_file_make_directory(path);
	if (r == 0 && pg_file_exists(c->data_directory))
		r = copy_configuration(c->data_directory, path, pg_file_copy_out);
	return r == 0 ? pg_file_sync_directory(path) : r;
}

static int
sync_directory_of_database(const char *directory)
{
	RIGHTS_OF_DATABASE;

	return pg_file_sync_directory(directory);
}

int
rebuild_restore_configuration(const Config *c, const char *directory)
{
	char path[PG_FILE_PATH];
	int r;

	state_path(c, ".saved", path);
	if (!pg_file_exists(path))
		return 0;
	r = copy_configuration(path, directory, pg_file_copy_in);
	return r == 0 ? sync_directory_of_database(directory) : r;
}

int
rebuild_forget_configuration(const Config *c)
{
	char path[PG_FILE_PATH];

	state_path(c, ".saved", path);
	return pg_file_remove_tree(path);
}

/* ---------- histories of incarnations ---------- */

/* The entries of the extension's file: "term incarnation timeline X/X nonce"; how many. */
static int
parse_history(const char *text, LinkIncarnation *entry)
{
	int n = 0;

	while (*text != '\0' && n < LINK_MAX_HISTORY)
	{
		unsigned long long term;
		unsigned long long nonce;
		unsigned int hi;
		unsigned int lo;
		LinkIncarnation *e = &entry[n];

		if (sscanf(text, "%llu %u %u %X/%X %llx", &term, &e->incarnation, &e->timeline, &hi, &lo,
				   &nonce) == 6)
		{
			e->term = term;
			e->start = (uint64_t) hi << 32 | lo;
			e->nonce = nonce;
			n++;
		}
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return n;
}

uint64_t
rebuild_divergence(const char *mine, const char *theirs)
{
	LinkIncarnation *entry = calloc(2 * LINK_MAX_HISTORY, sizeof(LinkIncarnation));
	uint64_t divergence = 0;
	int n;
	int m;

	if (entry == NULL)
		return 0;
	n = parse_history(mine, entry);
	m = parse_history(theirs, entry + LINK_MAX_HISTORY);
	if (n > 0 && m > 0)
		divergence = link_divergence(entry, n, entry + LINK_MAX_HISTORY, m);
	free(entry);
	return divergence;
}

char *
rebuild_history(const char *directory)
{
	char path[PG_FILE_PATH];
	char *text = NULL;
	RIGHTS_OF_DATABASE;

	if (pg_file_join(path, directory, "pg_tandem/incarnations"))
		(void) pg_file_read(path, &text);
	return text;
}

/* ---------- WAL that will be discarded ---------- */

/* "TTTTTTTTXXXXXXXXYYYYYYYY", perhaps with ".partial". */
static bool
is_segment(const char *name)
{
	return strspn(name, "0123456789ABCDEF") == 24 &&
		   (name[24] == '\0' || strcmp(name + 24, ".partial") == 0);
}

/*
 * Does this file hold WAL from "from" on?  One that waits to be used again has the address of older
 * WAL in its first page.
 */
static bool
holds_wal(const char *path, const char *name, uint64_t from, off_t *size)
{
	struct
	{
		uint16_t magic;
		uint16_t info;
		uint32_t timeline;
		uint64_t address;
	} page;
	struct stat st;
	char part[9] = "";
	uint64_t start;
	bool ok;
	RIGHTS_OF_DATABASE;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return false;
	ok = fstat(fd, &st) == 0 && pread(fd, &page, sizeof(page), 0) == sizeof(page);
	close(fd);
	if (!ok || st.st_size < 1024 * 1024)
		return false;
	memcpy(part, name + 8, 8);
	start = strtoull(part, NULL, 16) << 32;
	memcpy(part, name + 16, 8);
	start += strtoull(part, NULL, 16) * (uint64_t) st.st_size;
	*size = st.st_size;
	return page.address == start && start + (uint64_t) st.st_size > from;
}

static DIR *
open_directory(const char *path)
{
	RIGHTS_OF_DATABASE;

	return opendir(path);
}

/* Call for every file of pg_wal that is to be kept; stops at an error. */
static int
each_segment(const char *directory, uint64_t from,
			 int (*take)(void *, const char *, const char *, off_t), void *data)
{
	DIR *dir = open_directory(directory);
	struct dirent *entry;
	int r = 0;

	if (dir == NULL)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (entry = readdir(dir)) != NULL)
	{
		char path[PG_FILE_PATH];
		off_t size = 0;

		if (is_segment(entry->d_name) && pg_file_join(path, directory, entry->d_name) &&
			holds_wal(path, entry->d_name, from, &size))
			r = take(data, path, entry->d_name, size);
	}
	closedir(dir);
	return r;
}

typedef struct Kept
{
	int n;
	uint64_t bytes;
	const char *directory;
} Kept;

static int
count_segment(void *data, const char *path, const char *name, off_t size)
{
	Kept *kept = data;

	(void) path;
	(void) name;
	kept->n++;
	kept->bytes += (uint64_t) size;
	return 0;
}

static int
copy_segment(void *data, const char *path, const char *name, off_t size)
{
	Kept *kept = data;
	char target[PG_FILE_PATH];

	(void) size;
	if (!pg_file_join(target, kept->directory, name))
		return -ENAMETOOLONG;
	return pg_file_copy_out(path, target);
}

/* For whoever finds the directory. */
static int
explain(const Config *c, const char *directory, uint64_t from)
{
	char path[PG_FILE_PATH];
	char text[1024];

	snprintf(
		text, sizeof(text),
		"WAL of node \"%s\" that its new primary did not have when the node was rebuilt: from\n"
		"%X/%X on. These changes are in no database any more. To see them:\n\n"
		"	pg_waldump --path=. --start=%X/%X [SEGMENT]\n\n"
		"tandemd does not need these files; remove them when nobody does.\n",
		c->node[c->self].name, (unsigned int) (from >> 32), (unsigned int) from,
		(unsigned int) (from >> 32), (unsigned int) from);
	if (!pg_file_join(path, directory, "README"))
		return -ENAMETOOLONG;
	return pg_file_write(path, text, 0600);
}

int
rebuild_keep_wal(const Config *c, uint64_t from, int *segments,
				 char directory[CONFIG_PATH_SIZE * 2])
{
	Kept kept = {.directory = directory};
	char wal[PG_FILE_PATH];
	char date[32];
	struct statvfs fs;
	struct tm tm;
	time_t now = time(NULL);
	int r;

	*segments = 0;
	directory[0] = '\0';
	if (!pg_file_join(wal, c->data_directory, "pg_wal"))
		return -ENAMETOOLONG;
	r = each_segment(wal, from, count_segment, &kept);
	if (r < 0 || kept.n == 0)
		return r;
	gmtime_r(&now, &tm);
	strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &tm);
	snprintf(directory, CONFIG_PATH_SIZE * 2, "%s/discarded/%s-%s", c->state_directory, date,
			 c->node[c->self].name);
	if (statvfs(c->state_directory, &fs) != 0)
		return -errno;
	if ((uint64_t) fs.f_bavail * fs.f_frsize < kept.bytes + ROOM_TO_LEAVE)
		return -ENOSPC;
	r = pg_file_make_directory(directory);
	if (r == 0)
		r = each_segment(wal, from, copy_segment, &kept);
	if (r == 0)
		r = explain(c, directory, from);
	if (r < 0)
	{
		(void) pg_file_remove_tree(directory);
		return r;
	}
	*segments = kept.n;
	return pg_file_sync_directory(directory);
}

/* ---------- pg_control ---------- */

/*
 * The beginning of the file, which is the same in PostgreSQL 15 to 18: system identifier (8 bytes),
 * version, catalog version, state (4 each), ..., at 48 the timeline of the latest checkpoint.
 */
int
rebuild_control(const char *directory, RebuildControl *control)
{
	char path[PG_FILE_PATH];
	unsigned char head[64];
	uint32_t state;
	ssize_t n;
	int fd;
	RIGHTS_OF_DATABASE;

	if (!pg_file_join(path, directory, "global/pg_control"))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	n = read(fd, head, sizeof(head));
	close(fd);
	if (n != (ssize_t) sizeof(head))
		return -EBADMSG;
	memcpy(&state, head + 16, sizeof(state));
	memcpy(&control->timeline, head + 48, sizeof(control->timeline));
	control->clean = state == 1 || state == 2;
	return 0;
}
