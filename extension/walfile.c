/*-------------------------------------------------------------------------
 *
 * walfile.c
 *	  Reading WAL segments of this data directory.
 *
 * The bytes come from the page cache: they were written a moment ago.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"

/*
 * Read [start, start + length) of timeline 'tli', which must lie within one
 * segment, into 'buf'.  False with errno set if it is not there in full (0:
 * the file is too short).  The descriptor stays open in *file for the next
 * read; the caller closes it with walfile_close().
 *
 * A segment may be removed or recycled at any time where nothing protects it:
 * who reads WAL that is to be trusted calls CheckXLogRemoved() afterwards, as
 * the walsender does.
 */
bool
walfile_read(WalFile *file, TimeLineID tli, XLogRecPtr start, void *buf, size_t length)
{
	XLogSegNo segno;
	uint32 offset = XLogSegmentOffset(start, wal_segment_size);
	size_t done = 0;

	Assert(offset + length <= (size_t) wal_segment_size);
	XLByteToSeg(start, segno, wal_segment_size);
	if (file->fd >= 0 && (file->segno != segno || file->tli != tli))
		walfile_close(file);
	if (file->fd < 0)
	{
		char path[MAXPGPATH];

		XLogFilePath(path, tli, segno, wal_segment_size);
		file->fd = BasicOpenFile(path, O_RDONLY | PG_BINARY);
		if (file->fd < 0)
			return false;
		file->segno = segno;
		file->tli = tli;
	}
	while (done < length)
	{
		ssize_t n = pg_pread(file->fd, (char *) buf + done, length - done, offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = 0;
			return false;
		}
		done += n;
	}
	return true;
}

void
walfile_close(WalFile *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

/*
 * CRC-32C of [from, to).  False if part of it is not in pg_wal.
 */
bool
walfile_crc(TimeLineID tli, XLogRecPtr from, XLogRecPtr to, uint32 *crc)
{
	WalFile file = {.fd = -1};
	PGAlignedXLogBlock block;
	pg_crc32c value;
	bool found = true;

	INIT_CRC32C(value);
	while (from < to && found)
	{
		size_t n = Min(to - from, XLOG_BLCKSZ - from % XLOG_BLCKSZ);

		found = walfile_read(&file, tli, from, block.data, n);
		if (found)
			COMP_CRC32C(value, block.data, n);
		from += n;
	}
	walfile_close(&file);
	FIN_CRC32C(value);
	*crc = value;
	return found;
}
