/*
 * walfault.c
 *	  Faults of the disk while a server writes WAL, to be preloaded (LD_PRELOAD).
 *
 * The file named in the environment variable WALFAULT_ORDER holds lines of a
 * fault and how many times it is still to happen, e.g. "short 3"; the first
 * line comes first:
 *
 *	short	pwrite() of WAL pages writes only a part, each time of another size
 *			(also one that ends within a page), and returns its length
 *	eintr	it writes nothing and fails with EINTR
 *	enospc	it writes nothing and fails with ENOSPC
 *	eio		it writes nothing and fails with EIO
 *
 * Without the file, or when all counts have come down to 0, nothing happens.
 * Only writes into segment files below pg_wal are meant.  What was done is
 * appended to the file named in WALFAULT_DONE, a line for each fault.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>
#include <unistd.h>

#include "walpath.h"

static void
note(const char *fault, size_t asked, size_t done)
{
	const char *path = getenv("WALFAULT_DONE");
	char line[128];
	int length = snprintf(line, sizeof(line), "%s %zu %zu\n", fault, asked, done);
	int fd = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

	if (fd >= 0)
	{
		if (write(fd, line, length) != length)
			abort();
		close(fd);
	}
}

/*
 * Take one fault from the order: the first whose count is not down to 0.
 * Several processes write WAL, one at a time, but the lock costs nothing.
 */
static bool
take_order(char *fault)
{
	const char *path = getenv("WALFAULT_ORDER");
	char text[256];
	char left[256] = "";
	bool taken = false;
	ssize_t length;
	int fd = path == NULL ? -1 : open(path, O_RDWR);

	if (fd < 0)
		return false;
	flock(fd, LOCK_EX);
	length = read(fd, text, sizeof(text) - 1);
	text[length > 0 ? length : 0] = '\0';
	for (char *save, *line = strtok_r(text, "\n", &save); line != NULL;
		 line = strtok_r(NULL, "\n", &save))
	{
		char word[16];
		int count;
		size_t used = strlen(left);

		if (sscanf(line, "%15s %d", word, &count) != 2 || count <= 0)
			continue;
		if (!taken)
		{
			strcpy(fault, word);
			count--;
			taken = true;
		}
		snprintf(left + used, sizeof(left) - used, "%s %d\n", word, count);
	}
	length = strlen(left);
	if (taken && (ftruncate(fd, 0) != 0 || pwrite(fd, left, length, 0) != length))
		abort();
	close(fd);
	return taken;
}

static ssize_t
faulty_pwrite(int fd, const void *data, size_t length, off_t offset)
{
	static size_t seed = 12345;
	ssize_t (*real)(int, const void *, size_t, off_t) =
		(ssize_t(*)(int, const void *, size_t, off_t)) dlsym(RTLD_NEXT, "pwrite");
	char fault[16];
	char name[WALPATH_NAME];
	size_t asked = length;
	int save_errno = errno;

	if (length < 2 || !is_segment(fd, name) || !take_order(fault))
	{
		errno = save_errno;
		return real(fd, data, length, offset);
	}
	if (strcmp(fault, "short") == 0)
	{
		seed = seed * 1103515245 + 12345;
		length = 1 + (seed >> 8) % (length - 1);
		note(fault, asked, length);
		errno = save_errno;
		return real(fd, data, length, offset);
	}
	note(fault, asked, 0);
	errno = strcmp(fault, "enospc") == 0 ? ENOSPC : strcmp(fault, "eio") == 0 ? EIO : EINTR;
	return -1;
}

ssize_t
pwrite(int fd, const void *data, size_t length, off_t offset)
{
	return faulty_pwrite(fd, data, length, offset);
}

ssize_t
pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	return faulty_pwrite(fd, data, length, offset);
}
