/*
 * rebuild_swap.c
 *		A seed that is complete takes the place of the old copy.
 *
 * The new copy is written into the directory tandem_seed inside each place that PostgreSQL uses:
 * the data directory, and the WAL's and the tablespaces' directories where they lie elsewhere.  So
 * it is on the right file system, needs no right on the directory above, and a place may be a mount
 * point.  Then the entries of the old copy are moved to tandem_old, and after that those of the new
 * one up: renames within one file system, each of which has happened or not.  The note says which
 * of the two is under way, so a cut is resumed.  pg_tandem/copy, which says that the node is being
 * rebuilt, stays where it is all the time.
 */
#include "rebuild_files.h"

#include "pg_file.h"
#include "report.h"
#include "rights.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/*
 * Which entries of a place belong to the old copy?  In a tablespace only those of a server
 * (PG_15_...).
 */
static bool
is_old(const char *name, int place, bool tablespace)
{
	if (is_dot(name) || strcmp(name, REBUILD_SEED) == 0 || strcmp(name, REBUILD_OLD) == 0 ||
		strcmp(name, "lost+found") == 0)
		return false;
	if (place == 0 && strcmp(name, "pg_tandem") == 0)
		return false;
	return !tablespace || strncmp(name, "PG_", 3) == 0;
}

static int
move(const char *from, const char *to, const char *name)
{
	char source[PG_FILE_PATH];
	char target[PG_FILE_PATH];

	if (!pg_file_join(source, from, name) || !pg_file_join(target, to, name))
		return -ENAMETOOLONG;
	return rename(source, target) == 0 ? 0 : -errno;
}

/* ---------- out ---------- */

static int
move_out(const char *place, int index, bool tablespace)
{
	char old[PG_FILE_PATH];
	DIR *dir;
	struct dirent *entry;
	int moved = 0;
	int r;

	if (!pg_file_join(old, place, REBUILD_OLD))
		return -ENAMETOOLONG;
	r = pg_file_make_directory(old);
	dir = r == 0 ? opendir(place) : NULL;
	if (dir == NULL)
		return r != 0 ? r : -errno;
	while (r == 0 && (entry = readdir(dir)) != NULL)
	{
		if (is_old(entry->d_name, index, tablespace))
		{
			r = move(place, old, entry->d_name);
			moved++;
		}
	}
	closedir(dir);
	if (r == 0 && moved > 0) /* until a reading of the directory finds nothing */
		return move_out(place, index, tablespace);
	if (r == 0)
		r = pg_file_sync_directory(old);
	return r == 0 ? pg_file_sync_directory(place) : r;
}

/* ---------- in ---------- */

/* The new copy's pg_tandem, file by file: "copy" is this node's own, "boot_id" another host's. */
static int
move_tandem(const char *seed, const char *place)
{
	char from[PG_FILE_PATH];
	char to[PG_FILE_PATH];
	DIR *dir;
	struct dirent *entry;
	int r = 0;

	if (!pg_file_join(from, seed, "pg_tandem") || !pg_file_join(to, place, "pg_tandem"))
		return -ENAMETOOLONG;
	dir = opendir(from);
	if (dir == NULL)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (entry = readdir(dir)) != NULL)
	{
		if (!is_dot(entry->d_name) && strcmp(entry->d_name, "copy") != 0 &&
			strcmp(entry->d_name, "boot_id") != 0)
			r = move(from, to, entry->d_name);
	}
	closedir(dir);
	return r == 0 ? pg_file_sync_directory(to) : r;
}

/* Files of the old pg_tandem that the new copy does not bring must not stay. */
static int
clear_tandem(const char *place)
{
	static const char *const files[] = {"pg_tandem/incarnations", "pg_tandem/boot_id"};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
	{
		char path[PG_FILE_PATH];

		if (!pg_file_join(path, place, files[i]))
			return -ENAMETOOLONG;
		if (unlink(path) != 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

/* A link in the new copy that leads to PLACE/tandem_seed shall lead to PLACE. */
static int
mend_link(const char *path)
{
	static const char tail[] = "/" REBUILD_SEED;
	char target[PG_FILE_PATH];
	char aside[PG_FILE_PATH + 16];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < (ssize_t) sizeof(tail))
		return 0; /* not a link, or mended already */
	target[n] = '\0';
	n -= (ssize_t) strlen(tail);
	if (strcmp(target + n, tail) != 0)
		return 0;
	target[n] = '\0';
	snprintf(aside, sizeof(aside), "%s.tandem-tmp", path);
	(void) unlink(aside);
	if (symlink(target, aside) != 0)
		return -errno;
	return rename(aside, path) == 0 ? 0 : -errno;
}

static int
mend_links(const char *data)
{
	char directory[PG_FILE_PATH];
	char path[PG_FILE_PATH];
	DIR *dir;
	struct dirent *entry;
	int r;

	if (!pg_file_join(path, data, "pg_wal") || !pg_file_join(directory, data, "pg_tblspc"))
		return -ENAMETOOLONG;
	r = mend_link(path);
	dir = r == 0 ? opendir(directory) : NULL;
	if (dir == NULL)
		return r;
	while (r == 0 && (entry = readdir(dir)) != NULL)
	{
		if (!is_dot(entry->d_name) && pg_file_join(path, directory, entry->d_name))
			r = mend_link(path);
	}
	closedir(dir);
	return r == 0 ? pg_file_sync_directory(directory) : r;
}

static int
move_in(const char *place, int index)
{
	char seed[PG_FILE_PATH];
	DIR *dir;
	struct dirent *entry;
	int moved = 0;
	int r = 0;

	if (!pg_file_join(seed, place, REBUILD_SEED))
		return -ENAMETOOLONG;
	dir = opendir(seed);
	if (dir == NULL)
		return -errno;
	while (r == 0 && (entry = readdir(dir)) != NULL)
	{
		if (is_dot(entry->d_name))
			continue;
		if (index == 0 && strcmp(entry->d_name, "pg_tandem") == 0)
		{
			r = move_tandem(seed, place);
			continue;
		}
		r = move(seed, place, entry->d_name);
		moved++;
	}
	closedir(dir);
	if (r == 0 && moved > 0)
		return move_in(place, index);
	return r == 0 ? pg_file_sync_directory(place) : r;
}

/* ---------- the whole ---------- */

/*
 * Place 1 may be the WAL's directory or a tablespace; entries tell: a WAL directory has no PG_15_...
 * and a tablespace nothing else of a server.
 */
static bool
is_tablespace(const char *place)
{
	char seed[PG_FILE_PATH];
	DIR *dir;
	struct dirent *entry;
	bool found = false;

	if (!pg_file_join(seed, place, REBUILD_SEED))
		return false;
	dir = opendir(seed);
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		found = found || strncmp(entry->d_name, "PG_1", 4) == 0 ||
				strncmp(entry->d_name, "PG_2", 4) == 0;
	if (dir != NULL)
		closedir(dir);
	return found;
}

static int
all_out(const RebuildNote *note)
{
	int r = 0;
	RIGHTS_OF_DATABASE;

	for (int i = 0; i < note->nplaces && r == 0; i++)
		r = move_out(note->place[i], i, i > 0 && is_tablespace(note->place[i]));
	return r == 0 ? clear_tandem(note->place[0]) : r;
}

static int
all_in(const RebuildNote *note)
{
	const CopyFile copy = {.id = note->copy, .rebuilding = true};
	int r = 0;
	RIGHTS_OF_DATABASE;

	/* the data directory last: without it nothing starts */
	for (int i = note->nplaces - 1; i >= 0 && r == 0; i--)
		r = move_in(note->place[i], i);
	if (r == 0)
		r = mend_links(note->place[0]);
	if (r == 0)
		r = pg_file_sync_directory(note->place[0]);
	if (r == 0 && !copy_file_write(note->place[0], &copy))
		r = -errno;
	return r;
}

int
rebuild_swap(const Config *c, RebuildNote *note)
{
	int r = 0;

	if (note->phase == REBUILD_OUT)
	{
		r = all_out(note);
		note->phase = REBUILD_IN;
		if (r == 0)
			r = rebuild_note_write(c, note);
	}
	return r == 0 ? all_in(note) : r;
}

int
rebuild_clean(const RebuildNote *note, bool old, bool seed)
{
	int r = 0;
	RIGHTS_OF_DATABASE;

	for (int i = 0; i < note->nplaces; i++)
	{
		char path[PG_FILE_PATH];

		if (old && pg_file_join(path, note->place[i], REBUILD_OLD))
			r = pg_file_remove_tree(path) < 0 ? -EIO : r;
		if (seed && pg_file_join(path, note->place[i], REBUILD_SEED))
			r = pg_file_remove_tree(path) < 0 ? -EIO : r;
	}
	return r;
}

static bool
has_leftovers(const char *place)
{
	char path[PG_FILE_PATH];

	return (pg_file_join(path, place, REBUILD_OLD) && pg_file_exists(path)) ||
		   (pg_file_join(path, place, REBUILD_SEED) && pg_file_exists(path));
}

/* Add the directory a link leads to. */
static void
add_place(RebuildNote *note, const char *link)
{
	char target[PG_FILE_PATH];
	struct stat st;

	if (note->nplaces < REBUILD_MAX_PLACES && lstat(link, &st) == 0 && S_ISLNK(st.st_mode) &&
		realpath(link, target) != NULL && strlen(target) < CONFIG_PATH_SIZE)
		strcpy(note->place[note->nplaces++], target);
}

bool
rebuild_leftovers(const Config *c, RebuildNote *note)
{
	char path[PG_FILE_PATH];
	char directory[PG_FILE_PATH];
	struct dirent *entry;
	DIR *dir;
	bool any = false;
	RIGHTS_OF_DATABASE;

	memset(note, 0, sizeof(*note));
	strcpy(note->place[note->nplaces++], c->data_directory);
	if (pg_file_join(path, c->data_directory, "pg_wal"))
		add_place(note, path);
	dir = pg_file_join(directory, c->data_directory, "pg_tblspc") ? opendir(directory) : NULL;
	while (dir != NULL && (entry = readdir(dir)) != NULL)
	{
		if (pg_file_join(path, directory, entry->d_name))
			add_place(note, path);
	}
	if (dir != NULL)
		closedir(dir);
	for (int i = 0; i < note->nplaces; i++)
		any = any || has_leftovers(note->place[i]);
	return any;
}
