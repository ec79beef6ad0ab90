/*
 * pg_file.c
 *		See pg_file.h.
 */
#include "pg_file.h"

#include "rights.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TEXT (4 * 1024 * 1024)
#define PIECE    (1024 * 1024)

bool
pg_file_join(char path[PG_FILE_PATH], const char *a, const char *b)
{
	return snprintf(path, PG_FILE_PATH, "%s/%s", a, b) < PG_FILE_PATH;
}

bool
pg_file_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

int
pg_file_read(const char *path, char **text)
{
	struct stat st;
	size_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	*text = NULL;
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > MAX_TEXT)
	{
		close(fd);
		return -EFBIG;
	}
	*text = malloc((size_t) st.st_size + 1);
	while (*text != NULL && n < (size_t) st.st_size)
	{
		ssize_t got = read(fd, *text + n, (size_t) st.st_size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) /* half a file must not pass for the whole: it may be written back */
		{
			int r = got < 0 ? -errno : -EIO;

			close(fd);
			free(*text);
			*text = NULL;
			return r;
		}
		n += (size_t) got;
	}
	close(fd);
	if (*text == NULL)
		return -ENOMEM;
	(*text)[n] = '\0';
	return 0;
}

static int
write_all(int fd, const char *data, size_t n)
{
	while (n > 0)
	{
		ssize_t done = write(fd, data, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -ENOSPC;
		data += done;
		n -= (size_t) done;
	}
	return 0;
}

int
pg_file_sync_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = fsync(fd) == 0 ? 0 : -errno;
	close(fd);
	return r;
}

int
pg_file_sync_parent(const char *path)
{
	char parent[PG_FILE_PATH];
	char *slash;

	if (snprintf(parent, sizeof(parent), "%s", path) >= (int) sizeof(parent))
		return -ENAMETOOLONG;
	slash = strrchr(parent, '/');
	if (slash == NULL)
		return pg_file_sync_directory(".");
	if (slash == parent)
		slash++;
	*slash = '\0';
	return pg_file_sync_directory(parent);
}

static int
finish(int fd, mode_t mode)
{
	return fchmod(fd, mode) == 0 && fsync(fd) == 0 ? 0 : -errno;
}

int
pg_file_write(const char *path, const char *text, mode_t mode)
{
	char aside[PG_FILE_PATH];
	int fd;
	int r;

	if (snprintf(aside, sizeof(aside), "%s.tandem-tmp", path) >= (int) sizeof(aside))
		return -ENAMETOOLONG;
	(void) unlink(aside); /* of one that was cut */
	fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, strlen(text));
	if (r == 0)
		r = finish(fd, mode);
	close(fd);
	if (r == 0 && rename(aside, path) != 0)
		r = -errno;
	if (r < 0)
	{
		unlink(aside);
		return r;
	}
	return pg_file_sync_parent(path);
}

int
pg_file_remove(const char *path)
{
	if (unlink(path) != 0)
		return errno == ENOENT ? 0 : -errno;
	return pg_file_sync_parent(path);
}

/* Not through a link, and without waiting for whoever might write into a pipe. */
static int
open_source(const char *path, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int r = fd < 0 || fstat(fd, st) != 0 ? -errno : S_ISREG(st->st_mode) ? 0 : -EINVAL;

	if (r == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return r;
}

/* As much as there was when it was opened. */
static int
copy_all(int out, int in, const struct stat *st)
{
	char *piece = malloc(PIECE);
	int r = piece != NULL ? 0 : -ENOMEM;

	for (off_t at = 0; r == 0 && at < st->st_size;)
	{
		ssize_t n =
			pread(in, piece, st->st_size - at < PIECE ? (size_t) (st->st_size - at) : PIECE, at);

		if (n < 0 && errno == EINTR)
			continue;
		r = n < 0 ? -errno : n == 0 ? -EIO : write_all(out, piece, (size_t) n);
		at += n;
	}
	free(piece);
	return r == 0 ? finish(out, st->st_mode & 07777) : r;
}

static int
copy_from(int in, const char *to, const struct stat *st)
{
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int r = out < 0 ? -errno : copy_all(out, in, st);

	if (out >= 0)
		close(out);
	return r;
}

static int
open_source_of_database(const char *path, struct stat *st)
{
	RIGHTS_OF_DATABASE;

	return open_source(path, st);
}

int
pg_file_copy_out(const char *from, const char *to)
{
	struct stat st;
	int in = open_source_of_database(from, &st);
	int r = in < 0 ? in : copy_from(in, to, &st);

	if (in >= 0)
		close(in);
	return r;
}

static int
copy_to_database(int in, const char *to, const struct stat *st)
{
	RIGHTS_OF_DATABASE;

	return copy_from(in, to, st);
}

int
pg_file_copy_in(const char *from, const char *to)
{
	struct stat st;
	int in = open_source(from, &st);
	int r = in < 0 ? in : copy_to_database(in, to, &st);

	if (in >= 0)
		close(in);
	return r;
}

int
pg_file_make_directory(const char *path)
{
	char part[PG_FILE_PATH];

	if (snprintf(part, sizeof(part), "%s", path) >= (int) sizeof(part))
		return -ENAMETOOLONG;
	for (char *at = part + 1;; at++)
	{
		char end = *at;

		if (end != '/' && end != '\0')
			continue;
		*at = '\0';
		if (mkdir(part, 0700) == 0)
			(void) pg_file_sync_parent(part);
		else if (errno != EEXIST)
			return -errno;
		*at = end;
		if (end == '\0')
			return 0;
	}
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void) st;
	(void) type;
	(void) where;
	return remove(path) == 0 || errno == ENOENT ? 0 : -errno;
}

int
pg_file_remove_tree(const char *path)
{
	int r;

	if (!pg_file_exists(path))
		return 0;
	r = nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
	return r == -1 ? -errno : r;
}
