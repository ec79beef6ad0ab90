/*
 * rights.h
 *		With whose rights a thread works with files.
 *
 * tandemd is root, and the data directory belongs to the database's user, who may put a link in
 * place of anything in it, at any moment: a name below it may lead anywhere.  So whatever is done by
 * such a name, reading as well, is done with that user's rights: tandemd can then do nothing that
 * the user could not do himself, and what it makes is his.  The same holds for the directories of
 * the WAL and of tablespaces, of the Unix socket and of the log.  Directories of tandemd's own
 * (state_directory, run_directory) are root's, and no user's name leads there.
 *
 * Only the rights on files change, and only of the calling thread: the user cannot signal it.
 */
#ifndef TANDEM_RIGHTS_H
#define TANDEM_RIGHTS_H

#include <stdbool.h>

typedef struct Rights
{
	bool changed; /* there is something to restore */
} Rights;

/*
 * Who the database's user is: once, before there are threads.  It also takes that user's groups for
 * the whole process, in place of root's.  0 or negative errno (-ENOENT: there is no such user; -EPERM:
 * root without the capabilities to act for another).  Unless tandemd is root nothing ever changes.
 */
extern int rights_set(const char *os_user);

/*
 * From here to the end of the block (RIGHTS_OF_DATABASE) this thread has the rights of the
 * database's user; it may be nested.  Blocks that the file system keeps for root may be used: what
 * tandemd writes must find room where the database has left none.
 */
extern Rights rights_of_database(void);
extern void rights_restore(const Rights *before);
/* Do without those blocks, too, for the rest of the block: as PostgreSQL does. */
extern void rights_without_reserve(void);

#define RIGHTS_OF_DATABASE \
	Rights rights_before __attribute__((cleanup(rights_restore))) = rights_of_database()

#endif /* TANDEM_RIGHTS_H */
