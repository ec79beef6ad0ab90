/*
 * pg_file.h
 *		Small files of the data directory and of the state directory, written durably.
 *
 * Below the data directory call them with the rights of its user (rights.h).
 *
 * Durable: written aside, fsynced, renamed, and the directory fsynced.  These functions block: call
 * them from a task (task.h).  All return 0 or negative errno.
 */
#ifndef TANDEM_PG_FILE_H
#define TANDEM_PG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PG_FILE_PATH 4096

/* The whole file, with a 0 behind it; the caller frees it.  -EFBIG above 4 MB. */
extern int pg_file_read(const char *path, char **text);
extern int pg_file_write(const char *path, const char *text, mode_t mode);
/* Remove it; it need not be there. */
extern int pg_file_remove(const char *path);
extern int pg_file_sync_directory(const char *path);
/* fsync the directory that holds path. */
extern int pg_file_sync_parent(const char *path);
/*
 * Copy a file that lies below the data directory to a place of tandemd's own, or the other way: what
 * is below the data directory is opened with the rights of its user.  Neither name may be a link.
 */
extern int pg_file_copy_out(const char *from, const char *to);
extern int pg_file_copy_in(const char *from, const char *to);
/* Make a directory and those above it. */
extern int pg_file_make_directory(const char *path);
/* Remove a directory with all that is in it; it need not be there. Does not follow links. */
extern int pg_file_remove_tree(const char *path);
extern bool pg_file_exists(const char *path);
/* "a/b" into path; false if it does not fit. */
extern bool pg_file_join(char path[PG_FILE_PATH], const char *a, const char *b);

#endif /* TANDEM_PG_FILE_H */
