/*
 * copy_file.c
 *		Which copy of the database is this data directory?  (SAFETY rule 16; see report.h)
 *
 * pg_tandem/copy in the data directory, one line of text:
 *
 *		copy 0123456789abcdef complete 89ABCDEF
 *
 * The last word is the CRC-32C of what stands before it, with its blank.  The file is small and
 * replaced as a whole; it is read with plain system calls, by a daemon and by PostgreSQL's
 * processes alike.
 */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_DIRECTORY "pg_tandem"
#define COPY_NAME      "copy"
#define LINE_SIZE      64
#define PATH_SIZE      4096

/* CRC-32C bit by bit: a line of 30 bytes needs no table. */
static uint32_t
crc32c(const char *text, size_t length)
{
	uint32_t crc = UINT32_MAX;

	while (length-- > 0)
	{
		crc ^= (unsigned char) *text++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ ((crc & 1) != 0 ? UINT32_C(0x82F63B78) : 0);
	}
	return ~crc;
}

/* The line for 'copy', with its newline.  Returns its length. */
static int
format_line(const CopyFile *copy, char *line)
{
	int n = snprintf(line, LINE_SIZE, "copy %016" PRIx64 " %s ", copy->id,
					 copy->rebuilding ? "rebuilding" : "complete");

	return n + snprintf(line + n, (size_t) (LINE_SIZE - n), "%08" PRIX32 "\n",
						crc32c(line, (size_t) n));
}

static bool
path_of(const char *data_directory, const char *name, char *path)
{
	if (snprintf(path, PATH_SIZE, "%s/" COPY_DIRECTORY "%s%s", data_directory,
				 name[0] != '\0' ? "/" : "", name) < PATH_SIZE)
		return true;
	errno = ENAMETOOLONG;
	return false;
}

/* False with errno set if it cannot be read or is damaged (EBADMSG); a missing file is id 0. */
bool
copy_file_read(const char *data_directory, CopyFile *copy)
{
	char path[PATH_SIZE];
	char text[LINE_SIZE + 1];
	char again[LINE_SIZE];
	char state[16];
	ssize_t n;
	int saved;
	int fd;

	*copy = (CopyFile){.id = 0};
	if (!path_of(data_directory, COPY_NAME, path))
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT;
	n = read(fd, text, LINE_SIZE);
	saved = errno;
	close(fd);
	errno = saved;
	if (n < 0)
		return false;
	text[n] = '\0';
	if (sscanf(text, "copy %16" SCNx64 " %15s", &copy->id, state) == 2)
	{
		/* whatever is not what would be written is damaged */
		copy->rebuilding = strcmp(state, "rebuilding") == 0;
		if (format_line(copy, again) == n && strcmp(text, again) == 0 && copy->id != 0)
			return true;
	}
	*copy = (CopyFile){.id = 0};
	errno = EBADMSG;
	return false;
}

static bool
fsync_path(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool good;
	int saved;

	if (fd < 0)
		return false;
	good = fsync(fd) == 0;
	saved = errno;
	close(fd);
	errno = saved;
	return good;
}

/* Write and flush the new file under its temporary name. */
static bool
write_file(const char *path, const char *line, int length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bool good = false;
	ssize_t n;
	int saved;

	if (fd < 0)
		return false;
	n = write(fd, line, (size_t) length);
	if (n == length)
		good = fsync(fd) == 0;
	else if (n >= 0)
		errno = ENOSPC;
	saved = errno;
	if (close(fd) != 0 && good)
		return false;
	errno = saved;
	return good;
}

/* Who owns the data directory owns what is in it, whoever writes it. */
static bool
give_to_owner(const char *data_directory, const char *path)
{
	struct stat st;

	if (geteuid() != 0)
		return true;
	return stat(data_directory, &st) == 0 && chown(path, st.st_uid, st.st_gid) == 0;
}

/* Durable when it returns true.  False with errno set. Blocks on fsync: call from a thread. */
bool
copy_file_write(const char *data_directory, const CopyFile *copy)
{
	char directory[PATH_SIZE];
	char path[PATH_SIZE];
	char temporary[PATH_SIZE];
	char line[LINE_SIZE];
	int length = format_line(copy, line);

	if (copy->id == 0)
	{
		errno = EINVAL;
		return false;
	}
	if (!path_of(data_directory, "", directory) || !path_of(data_directory, COPY_NAME, path) ||
		!path_of(data_directory, COPY_NAME ".tmp", temporary))
		return false;
	if (mkdir(directory, 0700) == 0)
	{
		if (!give_to_owner(data_directory, directory))
			return false;
	}
	else if (errno != EEXIST)
		return false;
	/* also if it was there: who made it may not have flushed it yet */
	if (!fsync_path(data_directory))
		return false;
	return write_file(temporary, line, length) && give_to_owner(data_directory, temporary) &&
		   rename(temporary, path) == 0 && fsync_path(directory);
}
