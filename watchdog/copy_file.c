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
#include "crc32c.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE 4096

int
copy_file_line(const CopyFile *copy, char line[COPY_LINE_SIZE])
{
	int n = snprintf(line, COPY_LINE_SIZE, "copy %016" PRIx64 " %s ", copy->id,
					 copy->rebuilding ? "rebuilding" : "complete");

	return n + snprintf(line + n, (size_t) (COPY_LINE_SIZE - n), "%08" PRIX32 "\n",
						text_crc32c(line, (size_t) n));
}

/* False with errno set if it cannot be read or is damaged (EBADMSG); a missing file is id 0. */
bool
copy_file_read(const char *data_directory, CopyFile *copy)
{
	char path[PATH_SIZE];
	char text[COPY_LINE_SIZE + 1];
	char again[COPY_LINE_SIZE];
	char state[16];
	ssize_t n;
	int saved;
	int fd;

	*copy = (CopyFile){.id = 0};
	if (snprintf(path, PATH_SIZE, "%s/" COPY_FILE, data_directory) >= PATH_SIZE)
	{
		errno = ENAMETOOLONG;
		return false;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT;
	n = read(fd, text, COPY_LINE_SIZE);
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
		if (copy_file_line(copy, again) == n && strcmp(text, again) == 0 && copy->id != 0)
			return true;
	}
	*copy = (CopyFile){.id = 0};
	errno = EBADMSG;
	return false;
}
