/*
 * walpath.h
 *	  For libraries that are preloaded: is a descriptor a file of WAL?
 */
#ifndef TOOLS_WALPATH_H
#define TOOLS_WALPATH_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WALPATH_NAME 64 /* room for a name below pg_wal */

/*
 * Is this descriptor a file below pg_wal?  Then its name there goes to name
 * (WALPATH_NAME bytes).  errno is left alone.
 */
static inline bool
is_wal(int fd, char *name)
{
	char link[64];
	char path[4096];
	const char *at;
	int save_errno = errno;
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	errno = save_errno;
	if (length < 0)
		return false;
	path[length] = '\0';
	at = strstr(path, "/pg_wal/");
	if (at == NULL || strlen(at + 8) >= WALPATH_NAME)
		return false;
	strcpy(name, at + 8);
	return true;
}

/* The same, and a segment: 24 hexadecimal digits. */
static inline bool
is_segment(int fd, char *name)
{
	return is_wal(fd, name) && strspn(name, "0123456789ABCDEF") == 24 && name[24] == '\0';
}

#endif
