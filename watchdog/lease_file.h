/*
 * lease_file.h
 *		The gate's cell: what tandemd tells the extension without waiting for anybody.
 *
 * tandemd makes the file <tandem.watchdog_directory>/<node>.lease on a tmpfs (/run) and maps it
 * writable; the extension maps it read-only.  It outlives the postmaster and tandemd but not a
 * boot of the host, which is what SAFETY asks of the cell: a postmaster that starts without a
 * tandemd still finds a deadline that has passed (rule 11).  It is replaced only by rename, never
 * truncated: a reader maps either a whole file or none.  A reader that finds st_ino changed maps
 * again.
 *
 * One writer (tandemd), many readers.  The fields are guarded by a sequence counter: odd while
 * they are being written.  A reader that cannot get a stable copy within some tries treats the
 * cell as {0, 0, floor of last time}: no lease.
 *
 * Units: times are microseconds of CLOCK_BOOTTIME.
 */
#ifndef TANDEM_LEASE_FILE_H
#define TANDEM_LEASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "gate_rule.h"

#define LEASE_FILE_MAGIC   UINT64_C(0x3130455341454c54) /* "TLEASE01" */
#define LEASE_FILE_VERSION 1

typedef struct LeaseFile
{
	uint64_t magic;
	uint32_t version;
	uint32_t size;     /* sizeof(LeaseFile) */
	char boot_id[40];  /* /proc/sys/kernel/random/boot_id; another one: no lease in this boot */
	char node[64];     /* tandem.node_name it is for */
	uint64_t sequence; /* odd: being written; accessed with __atomic builtins */
	GateCell cell;
	int64_t stop_budget; /* S of SAFETY, microseconds */
	int64_t lease;       /* G, microseconds, for messages */
	int64_t tandemd_pid; /* for messages; 0 = none */
} LeaseFile;

/* lease_file.c; no PostgreSQL and no tandemd in it, both link it. */

/*
 * Map for writing, making the file if there is none of this boot and node.  The cell of an earlier
 * tandemd of this boot is kept: its floor and deadline still hold.  NULL with errno set.  The
 * caller then sets stop_budget, lease and tandemd_pid before it writes the first cell.
 */
extern LeaseFile *lease_file_create(const char *path, const char *node);
/* Map for reading; NULL with errno set (ENOENT: no tandemd has run in this boot). */
extern const LeaseFile *lease_file_open(const char *path);
extern void lease_file_close(const LeaseFile *file);
/* The floor never goes down, whatever is asked for. */
extern void lease_file_write(LeaseFile *file, const GateCell *cell);
/* False if there is no stable copy, or the file is of another boot, version or node. */
extern bool lease_file_read(const LeaseFile *file, const char *node, GateCell *cell);
/* This boot's id, in a static buffer; an empty string if it cannot be read. */
extern const char *lease_file_boot_id(void);
/* CLOCK_BOOTTIME in microseconds. */
extern int64_t lease_file_now(void);

#endif /* TANDEM_LEASE_FILE_H */
