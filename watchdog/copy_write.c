/*
 * copy_write.c
 *		Which copy of the database is this data directory?  tandemd says so (see report.h).
 */
#include <errno.h>

#include "pg_file.h"
#include "report.h"
#include "rights.h"

bool
copy_file_write(const char *data_directory, const CopyFile *copy)
{
	char directory[PG_FILE_PATH];
	char path[PG_FILE_PATH];
	char line[COPY_LINE_SIZE];
	int r = copy->id != 0 ? 0 : -EINVAL;
	RIGHTS_OF_DATABASE;

	if (r == 0 && !pg_file_exists(data_directory)) /* it is not made by the way */
		r = -ENOENT;
	if (r == 0 && (!pg_file_join(directory, data_directory, "pg_tandem") ||
				   !pg_file_join(path, data_directory, COPY_FILE)))
		r = -ENAMETOOLONG;
	if (r == 0)
		r = pg_file_make_directory(directory);
	/* also if it was there: who made it may not have flushed it yet */
	if (r == 0)
		r = pg_file_sync_directory(data_directory);
	(void) copy_file_line(copy, line);
	if (r == 0)
		r = pg_file_write(path, line, 0600);
	errno = -r;
	return r == 0;
}
