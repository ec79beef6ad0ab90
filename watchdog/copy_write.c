/*
 * copy_write.c
 *		Which copy of the database is this data directory?  tandemd says so (see report.h).
 */
#include <errno.h>
#include <sys/stat.h>

#include "pg_file.h"
#include "report.h"

bool
copy_file_write(const char *data_directory, const CopyFile *copy)
{
	char directory[PG_FILE_PATH];
	char path[PG_FILE_PATH];
	char line[COPY_LINE_SIZE];
	struct stat owner; /* of the data directory, and so of what is in it */
	int r = copy->id != 0 ? 0 : -EINVAL;

	if (r == 0 && stat(data_directory, &owner) != 0)
		r = -errno;
	if (r == 0 && (!pg_file_join(directory, data_directory, "pg_tandem") ||
				   !pg_file_join(path, data_directory, COPY_FILE)))
		r = -ENAMETOOLONG;
	if (r == 0)
		r = pg_file_make_directory(directory, owner.st_uid, owner.st_gid);
	/* also if it was there: who made it may not have flushed it yet */
	if (r == 0)
		r = pg_file_sync_directory(data_directory);
	(void) copy_file_line(copy, line);
	if (r == 0)
		r = pg_file_write(path, line, owner.st_uid, owner.st_gid, 0600);
	errno = -r;
	return r == 0;
}
