/*
 * own_dir.c
 *		See own_dir.h.  tandemd and tandemctl link it.
 */
#include "own_dir.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINKS 40 /* as the kernel */

/* On the way from the root directory. */
typedef struct Walk
{
	char at[PATH_MAX];   /* where it has come to: safe, and no link; "" is the root directory */
	char rest[PATH_MAX]; /* what of the path is still to go */
	int links;           /* followed */
	char detail[PATH_MAX + 128];
} Walk;

static OwnDir
end(Walk *w, OwnDir result, const char *format, ...) __attribute__((format(printf, 3, 4)));

static OwnDir
end(Walk *w, OwnDir result, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(w->detail, sizeof(w->detail), format, ap);
	va_end(ap);
	return result;
}

/* The next name of the path; false if there is none. */
static bool
next_name(Walk *w, char *name, size_t size)
{
	const char *from = w->rest + strspn(w->rest, "/");
	size_t length = strcspn(from, "/");

	if (length == 0)
		return false;
	snprintf(name, size, "%.*s", (int) length, from);
	memmove(w->rest, from + length, strlen(from + length) + 1);
	return true;
}

/* Where the link "path" leads is to go before the rest. */
static OwnDir
follow(Walk *w, const char *path)
{
	char target[PATH_MAX];
	char rest[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return end(w, OWN_DIR_UNSAFE, "Could not read symbolic link \"%s\": %s.", path,
				   strerror(errno));
	target[n] = '\0';
	if (++w->links > MAX_LINKS)
		return end(w, OWN_DIR_UNSAFE, "\"%s\" is one symbolic link too many.", path);
	if ((size_t) snprintf(rest, sizeof(rest), "%s/%s", target, w->rest) >= sizeof(rest))
		return end(w, OWN_DIR_UNSAFE, "Symbolic link \"%s\" leads to a name that is too long.",
				   path);
	strcpy(w->rest, rest);
	if (target[0] == '/')
		w->at[0] = '\0';
	return OWN_DIR_SAFE;
}

/* One step: "path" is in a directory that is safe.  Others may write there only if "unless" is set. */
static OwnDir
look(Walk *w, const char *path, mode_t unless)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return end(w, errno == ENOENT ? OWN_DIR_MISSING : OWN_DIR_UNSAFE,
				   "Could not look at \"%s\": %s.", path, strerror(errno));
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return end(w, OWN_DIR_UNSAFE, "%s \"%s\" belongs to user %u.",
				   S_ISLNK(st.st_mode) ? "Symbolic link" : "Directory", path, (unsigned) st.st_uid);
	if (S_ISLNK(st.st_mode))
		return follow(w, path);
	if (!S_ISDIR(st.st_mode))
		return end(w, OWN_DIR_UNSAFE, "\"%s\" is not a directory.", path);
	if ((st.st_mode & 022) != 0 && (st.st_mode & unless) == 0)
		return end(w, OWN_DIR_UNSAFE, "Others may write in directory \"%s\" (mode %04o).", path,
				   (unsigned) st.st_mode & 07777);
	if (path != w->at)
		strcpy(w->at, path);
	return OWN_DIR_SAFE;
}

static OwnDir
walk(Walk *w)
{
	OwnDir result = look(w, "/", S_ISVTX);
	char name[NAME_MAX + 1];

	w->at[0] = '\0';
	while (result == OWN_DIR_SAFE && next_name(w, name, sizeof(name)))
	{
		char path[PATH_MAX + NAME_MAX + 2];

		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0)
		{
			char *slash = strrchr(w->at, '/');

			if (slash != NULL)
				*slash = '\0';
			continue;
		}
		snprintf(path, sizeof(path), "%s/%s", w->at, name);
		result = strlen(path) < PATH_MAX ? look(w, path, S_ISVTX)
										 : end(w, OWN_DIR_UNSAFE, "Its name is too long.");
	}
	if (result != OWN_DIR_SAFE)
		return result;
	return look(w, w->at[0] != '\0' ? w->at : "/", 0);
}

OwnDir
own_dir_check(const char *setting, const char *path, char *error, size_t size)
{
	Walk w = {.links = 0};
	OwnDir result;

	snprintf(w.rest, sizeof(w.rest), "%s", path);
	result = walk(&w);
	if (result == OWN_DIR_MISSING)
		snprintf(error, size, "%s \"%s\" is not there.  DETAIL: %s", setting, path, w.detail);
	else if (result == OWN_DIR_UNSAFE)
		snprintf(
			error, size,
			"%s \"%s\" is not safe from others.  DETAIL: %s  HINT: It and all directories above "
			"it must belong to root, and nobody else may write there.",
			setting, path, w.detail);
	return result;
}
