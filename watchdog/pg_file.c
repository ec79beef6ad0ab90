/*
 * pg_file.c
 *		See pg_file.h.
 */
#include "pg_file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TEXT (4 * 1024 * 1024)

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
	int fd = open(path, O_RDONLY | O_CLOEXEC);

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
finish(int fd, uid_t uid, gid_t gid, mode_t mode)
{
	if (uid != (uid_t) -1 && geteuid() == 0 && fchown(fd, uid, gid) != 0)
		return -errno;
	if (fchmod(fd, mode) != 0 || fsync(fd) != 0)
		return -errno;
	return 0;
}

int
pg_file_write(const char *path, const char *text, uid_t uid, gid_t gid, mode_t mode)
{
	char aside[PG_FILE_PATH];
	int fd;
	int r;

	if (snprintf(aside, sizeof(aside), "%s.tandem-tmp", path) >= (int) sizeof(aside))
		return -ENAMETOOLONG;
	fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, strlen(text));
	if (r == 0)
		r = finish(fd, uid, gid, mode);
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

int
pg_file_copy(const char *from, const char *to, uid_t uid, gid_t gid)
{
	char *piece = malloc(1024 * 1024);
	struct stat st;
	ssize_t n = 0;
	int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int out = -1;
	int r = in < 0 || piece == NULL ? -errno : 0;

	if (r == 0 && fstat(in, &st) != 0)
		r = -errno;
	if (r == 0)
	{
		out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
		r = out < 0 ? -errno : 0;
	}
	while (r == 0 && (n = read(in, piece, 1024 * 1024)) > 0)
		r = write_all(out, piece, (size_t) n);
	if (r == 0 && n < 0)
		r = -errno;
	if (r == 0)
		r = finish(out, uid, gid, st.st_mode & 07777);
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	free(piece);
	return r;
}

int
pg_file_make_directory(const char *path, uid_t uid, gid_t gid)
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
		{
			if (uid != (uid_t) -1 && geteuid() == 0 && chown(part, uid, gid) != 0)
				return -errno;
			pg_file_sync_parent(part);
		}
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
