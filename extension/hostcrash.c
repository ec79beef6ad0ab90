/*-------------------------------------------------------------------------
 *
 * hostcrash.c
 *	  After a crash of its host a primary comes back on a new timeline.
 *
 * With capture at write a standby may hold WAL that the primary's host lost
 * when it crashed before the flush.  The primary's new WAL then begins where
 * the lost WAL was, on the same timeline, and a copy that has replayed the
 * lost WAL cannot be told from one that has replayed the new: pg_rewind, which
 * knows timelines only, would pick a wrong fork point and damage it.  So each
 * possible loss of WAL is made a timeline of its own.
 *
 * Whether the host crashed is told by the kernel's boot id: a primary that
 * captures at write leaves it in BOOT_FILE, and a start that finds the control
 * file "in production" and another boot id follows a crash of the host.  (A
 * crash of PostgreSQL alone loses nothing: what was written is in the
 * kernel.)  Then standby.signal is made, so that recovery runs in standby
 * mode, and as soon as recovery runs a worker asks for promotion.  Recovery
 * looks at that request only when it has read pg_wal to its end.
 *
 * If the server ends in between, the next start finds a standby.signal with
 * our text in it and goes on.
 *
 * With tandem.lease_required nobody is asked from here: to tandemd this server
 * is a standby, which it promotes if it holds a lease for it (SAFETY.md rule
 * 12), and else lets follow whoever is the primary now.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#define BOOT_ID     "/proc/sys/kernel/random/boot_id"
#define BOOT_FILE   TANDEM_DIRECTORY "/boot_id"
#define SIGNAL_TEXT "made by pg_tandem: new timeline after a crash of the host\n"

/* Read a small text file; false if it cannot be read. */
static bool
read_text(const char *path, char *text, size_t size)
{
	int fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	ssize_t length;

	if (fd < 0)
		return false;
	length = read(fd, text, size - 1);
	CloseTransientFile(fd);
	if (length < 0)
		return false;
	text[length] = '\0';
	return true;
}

/* Write one, durably.  ERROR (in the postmaster: FATAL) if that fails. */
static void
write_text(const char *path, const char *text)
{
	char temporary[MAXPGPATH];
	int fd;

	snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	fd = OpenTransientFile(temporary, O_WRONLY | O_CREAT | O_TRUNC | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not create file \"%s\": %m", temporary)));
	errno = 0;
	if (write(fd, text, strlen(text)) != (ssize_t) strlen(text))
	{
		/* if write didn't set errno, assume no disk space */
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not write to file \"%s\": %m", temporary)));
	}
	if (pg_fsync(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not fsync file \"%s\": %m", temporary)));
	CloseTransientFile(fd);
	(void) durable_rename(temporary, path, ERROR);
}

static bool
exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

/*
 * Remember in which life of the host this primary captures at write.  Gate
 * worker, before the first WAL is captured; the directory is there.
 */
void
hostcrash_remember_boot(void)
{
	char now[64];
	char then[64];

	if (!read_text(BOOT_ID, now, sizeof(now)))
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not read file \"%s\": %m", BOOT_ID)));
	if (!read_text(BOOT_FILE, then, sizeof(then)) || strcmp(now, then) != 0)
		write_text(BOOT_FILE, now);
}

/*
 * This server is a primary now, and what the file was there for is done.  If
 * it is not of this life of the host, or was copied here with the data
 * directory, it must not stay: this primary may capture at flush.  Gate worker.
 */
void
hostcrash_forget_other_boots(void)
{
	char now[64];
	char then[64];

	if (read_text(BOOT_FILE, then, sizeof(then)) &&
		(!read_text(BOOT_ID, now, sizeof(now)) || strcmp(now, then) != 0))
		(void) durable_unlink(BOOT_FILE, LOG);
}

/* Was this server a primary when its host crashed? */
static bool
host_has_crashed(void)
{
	bool crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	bool crashed = crc_ok && control->state == DB_IN_PRODUCTION;
	char now[64];
	char then[64];

	pfree(control);
	return crashed && !exists("standby.signal") && !exists("recovery.signal") &&
		   !exists("backup_label") && read_text(BOOT_FILE, then, sizeof(then)) &&
		   read_text(BOOT_ID, now, sizeof(now)) && strcmp(now, then) != 0;
}

/*
 * Look whether this start is to end on a new timeline.  Postmaster only, when
 * shared memory is made at its start, before the startup process runs.
 */
void
hostcrash_check(void)
{
	char text[sizeof(SIGNAL_TEXT) + 1];

	if (host_has_crashed())
	{
		write_text("standby.signal", SIGNAL_TEXT);
		ereport(LOG, (errmsg("the host crashed while this server was a primary that captured WAL "
							 "at write"),
					  errdetail("A standby may hold WAL that was lost here. Recovery will end on "
								"a new timeline.")));
	}
	tandem->new_timeline = !tandem_lease_required &&
						   read_text("standby.signal", text, sizeof(text)) &&
						   strcmp(text, SIGNAL_TEXT) == 0;
}

/*
 * Main function of the worker that asks for promotion.  It ends with 0, which
 * means that it is not started again.
 */
void
tandem_timeline_main(pg_attribute_unused() Datum arg)
{
	if (tandem->new_timeline)
	{
		int fd;

		fd = OpenTransientFile(PROMOTE_SIGNAL_FILE, O_WRONLY | O_CREAT | PG_BINARY);
		if (fd < 0)
			ereport(ERROR, (errcode_for_file_access(),
							errmsg("could not create file \"%s\": %m", PROMOTE_SIGNAL_FILE)));
		CloseTransientFile(fd);
		if (kill(PostmasterPid, SIGUSR1) != 0)
			ereport(ERROR, (errmsg("failed to send signal to postmaster: %m")));
	}
	proc_exit(0);
}
