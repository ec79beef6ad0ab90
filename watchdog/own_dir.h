/*
 * own_dir.h
 *		Is a directory tandemd's own?
 */
#ifndef TANDEM_OWN_DIR_H
#define TANDEM_OWN_DIR_H

#include <stddef.h>

#define OWN_DIR_ERROR 1024 /* a longer message is cut */

typedef enum OwnDir
{
	OWN_DIR_SAFE,
	OWN_DIR_MISSING, /* it, or one above it, is not there */
	OWN_DIR_UNSAFE   /* or it could not be looked at */
} OwnDir;

/*
 * May nobody but root and the user of this process make a file in the directory, or put another
 * directory in its place?  All above it are looked at, and every symbolic link on the way: each
 * belongs to one of the two; in the directory itself nobody else may write, and in those above only
 * with the sticky bit.  What is found safe stays so, as nobody else can change it.
 *
 * "setting" names the directory in the message, which unless it is safe is left in error: in one
 * line, with DETAIL and HINT.
 */
extern OwnDir own_dir_check(const char *setting, const char *path, char *error, size_t size);

#endif /* TANDEM_OWN_DIR_H */
