/*
 * lease_file.c
 *		The gate's cell in shared memory between tandemd and the extension: see lease_file.h.
 *
 * Writing.  The counter is made odd, the fields are stored one by one, the counter is made even.
 * A writer that dies in between leaves it odd: readers then see no lease, until the next tandemd
 * takes the file over.  The order of the fields matters for that moment only: the floor first,
 * then the term, then the deadline, so that what is left is never more than either the old or the
 * new cell allowed.
 */
#include "lease_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define READ_TRIES 200 /* writing takes nanoseconds, unless the writer was stopped in it */
#define PATH_SIZE  4096

/* CLOCK_BOOTTIME in microseconds. */
int64_t
lease_file_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* This boot's id, in a static buffer; an empty string if it cannot be read. */
const char *
lease_file_boot_id(void)
{
	static char id[sizeof(((LeaseFile *) NULL)->boot_id)];
	ssize_t n = -1;
	int fd;

	if (id[0] != '\0')
		return id;
	fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
	{
		n = read(fd, id, sizeof(id) - 1);
		close(fd);
	}
	id[n > 0 ? n : 0] = '\0';
	id[strcspn(id, "\n")] = '\0';
	return id;
}

/* Is this a file of this version, boot and node? */
static bool
is_ours(const LeaseFile *file, const char *node)
{
	const char *boot = lease_file_boot_id();

	return file->magic == LEASE_FILE_MAGIC && file->version == LEASE_FILE_VERSION &&
		   file->size == sizeof(LeaseFile) && boot[0] != '\0' &&
		   strncmp(file->boot_id, boot, sizeof(file->boot_id)) == 0 &&
		   strncmp(file->node, node, sizeof(file->node)) == 0;
}

/* Map an existing file; NULL with errno set, EBADMSG if it is too short. */
static LeaseFile *
map(const char *path, bool writable)
{
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	void *at = MAP_FAILED;
	int saved;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0)
	{
		if (S_ISREG(st.st_mode) && st.st_size >= (off_t) sizeof(LeaseFile))
			at = mmap(NULL, sizeof(LeaseFile), writable ? PROT_READ | PROT_WRITE : PROT_READ,
					  MAP_SHARED, fd, 0);
		else
			errno = EBADMSG;
	}
	saved = errno;
	close(fd);
	errno = saved;
	return at != MAP_FAILED ? at : NULL;
}

/* A new file beside the old one, then in its place.  NULL with errno set. */
static LeaseFile *
make(const char *path, const char *node)
{
	LeaseFile blank = {
		.magic = LEASE_FILE_MAGIC, .version = LEASE_FILE_VERSION, .size = sizeof(LeaseFile)};
	char temporary[PATH_SIZE];
	LeaseFile *file = NULL;
	int saved;
	int fd;

	snprintf(blank.boot_id, sizeof(blank.boot_id), "%s", lease_file_boot_id());
	snprintf(blank.node, sizeof(blank.node), "%s", node);
	if (blank.boot_id[0] == '\0' || strlen(node) >= sizeof(blank.node) ||
		(size_t) snprintf(temporary, sizeof(temporary), "%s.new", path) >= sizeof(temporary))
	{
		errno = blank.boot_id[0] == '\0' ? ENOENT : ENAMETOOLONG;
		return NULL;
	}
	(void) unlink(temporary);
	/* the extension may run as another user than tandemd, and only reads */
	fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return NULL;
	if (fchmod(fd, 0644) == 0)
	{
		ssize_t n = write(fd, &blank, sizeof(blank));

		if (n >= 0 && n != (ssize_t) sizeof(blank))
			errno = ENOSPC;
		else if (n >= 0)
			file = map(temporary, true);
	}
	saved = errno;
	close(fd);
	errno = saved;
	if (file != NULL && rename(temporary, path) == 0)
		return file;
	saved = errno;
	if (file != NULL)
		munmap(file, sizeof(LeaseFile));
	(void) unlink(temporary);
	errno = saved;
	return NULL;
}

/*
 * Map for writing, making the file if there is none of this boot and node.  The cell of an earlier
 * tandemd of this boot is kept: its floor and deadline still hold.  NULL with errno set.
 */
LeaseFile *
lease_file_create(const char *path, const char *node)
{
	LeaseFile *file = map(path, true);

	if (file != NULL && is_ours(file, node))
	{
		/* an odd counter: its writer died while writing, each field is whole */
		if (__atomic_load_n(&file->sequence, __ATOMIC_ACQUIRE) % 2 != 0)
			__atomic_fetch_add(&file->sequence, 1, __ATOMIC_ACQ_REL);
		return file;
	}
	if (file != NULL)
	{
		/* whoever has it mapped must see that it is over */
		__atomic_store_n(&file->magic, 0, __ATOMIC_RELEASE);
		munmap(file, sizeof(LeaseFile));
	}
	else if (errno != ENOENT && errno != EBADMSG)
		return NULL;
	return make(path, node);
}

/* Map for reading; NULL with errno set (ENOENT: no tandemd has run in this boot). */
const LeaseFile *
lease_file_open(const char *path)
{
	return map(path, false);
}

void
lease_file_close(const LeaseFile *file)
{
	if (file != NULL)
		munmap((void *) file, sizeof(LeaseFile));
}

/* The floor never goes down, whatever is asked for.  One writer only. */
void
lease_file_write(LeaseFile *file, const GateCell *cell)
{
	uint64_t sequence = __atomic_load_n(&file->sequence, __ATOMIC_RELAXED);

	__atomic_store_n(&file->sequence, sequence + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (cell->floor > file->cell.floor)
		__atomic_store_n(&file->cell.floor, cell->floor, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&file->cell.term, cell->term, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&file->cell.deadline, cell->deadline, __ATOMIC_RELAXED);
	__atomic_store_n(&file->sequence, sequence + 2, __ATOMIC_RELEASE);
}

/* False if there is no stable copy, or the file is of another boot, version or node. */
bool
lease_file_read(const LeaseFile *file, const char *node, GateCell *cell)
{
	if (!is_ours(file, node))
		return false;
	for (int i = 0; i < READ_TRIES; i++)
	{
		uint64_t before = __atomic_load_n(&file->sequence, __ATOMIC_ACQUIRE);

		cell->floor = __atomic_load_n(&file->cell.floor, __ATOMIC_RELAXED);
		cell->term = __atomic_load_n(&file->cell.term, __ATOMIC_RELAXED);
		cell->deadline = __atomic_load_n(&file->cell.deadline, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (before % 2 == 0 && before == __atomic_load_n(&file->sequence, __ATOMIC_RELAXED))
			return true;
		if (i > READ_TRIES / 2)
			sched_yield();
	}
	return false;
}
