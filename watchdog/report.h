/*
 * report.h
 *		What travels between a node's tandemd and the extension of its PostgreSQL.
 *
 * A SOCK_SEQPACKET socket <tandem.watchdog_directory>/<node>.socket: tandemd listens, the
 * extension's watchdog worker ("pg_tandem watchdog", one per postmaster, in both roles) connects
 * and comes back whenever the connection is lost.  tandemd takes a connection only from the user
 * that owns the data directory (SO_PEERCRED); a new connection replaces the older one.
 *
 * The extension sends a WatchReport after connecting, at every change that tandemd waits for (a
 * command carried out, the gate opens, a peer's flush reaches waits_from, role, link up or down,
 * refusal) and at least every 100 ms.  tandemd sends WatchCommand.  Both are fixed structs of the
 * same machine; size and version are checked, anything else ends the connection.
 *
 * Units: LSNs are bytes; ages are microseconds.  Strings end with 0.
 */
#ifndef TANDEM_REPORT_H
#define TANDEM_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "gate_rule.h"

#define WATCH_VERSION   1
#define WATCH_NAME_SIZE 64
#define WATCH_MAX_PEERS 8
#define WATCH_TEXT_SIZE 256

typedef enum WatchRole
{
	WATCH_RECOVERING, /* not yet consistent, or crash recovery of a primary */
	WATCH_STANDBY,
	WATCH_PRIMARY /* recovery has ended and the incarnation is durable */
} WatchRole;

/* A standby's link, seen from the primary: answers of the current session and incarnation only. */
typedef struct WatchPeer
{
	char name[WATCH_NAME_SIZE];
	uint64_t session; /* number of the link's session; 0: no link, or no answer yet */
	uint64_t copy;    /* its copy id, from its HELLO */
	uint64_t written;
	uint64_t flush;
	uint64_t replayed;
	int64_t age;   /* since its last answer */
	bool async;    /* tandem.async_links */
	bool near_end; /* rule 8 a: flush within 16 MB of released and the link is streaming */
} WatchPeer;

typedef struct WatchReport
{
	uint32_t version;
	uint32_t size;
	int32_t postmaster;
	WatchRole role;
	uint64_t system_identifier;
	uint32_t timeline;
	bool lease_required;
	bool sync_standbys_defined; /* core's flag is up (rule 10) */

	/* primary */
	uint64_t term;
	uint64_t inc;
	uint64_t instance; /* the command carried out last */
	uint64_t cmd;
	bool require;
	bool open;
	char peer[WATCH_NAME_SIZE]; /* for whom commits wait */
	uint64_t peer_copy;
	uint64_t waits_from;
	uint64_t released;
	uint64_t flush; /* local flush; on a standby what it holds durably */
	uint64_t end;   /* primary: end of written WAL */
	int32_t npeers;
	WatchPeer peers[WATCH_MAX_PEERS];

	/* standby */
	uint64_t replayed;
	bool link_up; /* receives WAL, by a link or by core's streaming */
	char follows[WATCH_NAME_SIZE];
	bool diverged; /* the primary refused: rewind or seed (rule 16) */
	char refusal[WATCH_TEXT_SIZE];
} WatchReport;

typedef struct WatchCommand
{
	uint32_t version;
	uint32_t size;
	GateOrder order;
	uint64_t instance;
	uint64_t cmd;
	uint64_t term;
	uint64_t inc;               /* GATE_TERM */
	char peer[WATCH_NAME_SIZE]; /* GATE_REQUIRE: node name; empty: nobody yet */
	uint64_t peer_copy;
} WatchCommand;

/* The copy of the database (rule 16), in the data directory: pg_tandem/copy, one text line
 * "copy <16 hex digits> <complete|rebuilding> <crc>", replaced by write, fsync, rename, fsync of
 * the directory.  Only tandemd writes it; the extension reads it for its HELLO, and refuses to
 * open a link while it says rebuilding. pg_basebackup and pg_rewind copy the directory, so
 * tandemd writes it again after either.  copy_file.c reads it, and the extension links that, too;
 * copy_write.c writes it. */
typedef struct CopyFile
{
	uint64_t id; /* 0: there is no file */
	bool rebuilding;
} CopyFile;

#define COPY_FILE      "pg_tandem/copy"
#define COPY_LINE_SIZE 64

/* The line for "copy", with its newline.  Returns its length. */
extern int copy_file_line(const CopyFile *copy, char line[COPY_LINE_SIZE]);
/* False with errno set if it cannot be read or is damaged (EBADMSG); a missing file is id 0. */
extern bool copy_file_read(const char *data_directory, CopyFile *copy);
/* Durable when it returns true.  False with errno set. Blocks on fsync: call from a thread. */
extern bool copy_file_write(const char *data_directory, const CopyFile *copy);

#endif /* TANDEM_REPORT_H */
