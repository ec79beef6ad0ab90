/*-------------------------------------------------------------------------
 *
 * tandem.h
 *	  What the parts of the extension share: settings, shared memory, and
 *	  the functions each part offers to the others.
 *
 * Units, everywhere: LSNs are byte positions, times are TimestampTz or
 * microseconds, settings with a time are milliseconds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_H
#define TANDEM_H

#include "postgres.h"

#include "access/xact.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "replication/syncrep.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/guc.h"

#include "compat.h"
#include "link/options.h"
#include "link/switch.h"
#include "walk.h"
#include "watchdog/gate_rule.h"
#include "watchdog/report.h"

/* The one name in synchronous_standby_names. */
#define TANDEM_GATE_NAME    "tandem"

/* In the data directory; pg_basebackup copies it, as it must. */
#define TANDEM_DIRECTORY    "pg_tandem"
#define TANDEM_HISTORY_FILE TANDEM_DIRECTORY "/incarnations"

/* ------------------------------------------------------------- settings */

extern char *tandem_node_name;
extern char *tandem_listen_addresses;
extern int tandem_port;
extern char *tandem_link_addresses;
extern bool tandem_link;
extern int tandem_max_links;
extern int tandem_link_timeout;       /* ms */
extern int tandem_reconnect_interval; /* ms */
extern bool tandem_tls;
extern char *tandem_async_links;
extern char *tandem_link_options;
extern bool tandem_fallback;
extern int tandem_capture_at;
extern bool tandem_lease_required;
extern char *tandem_watchdog_directory;
extern int tandem_transport;
extern char *tandem_rdma_device;
extern int tandem_rdma_gid_index; /* -1: that of the link's address */
extern int tandem_rdma_poll_us;   /* us */
extern int tandem_rdma_ring_size; /* kB */
extern int tandem_nice;           /* of link workers and walreceivers */

extern bool tandem_is_async(const char *name);
extern bool tandem_async_of_slot(const char *slot, char name[NAMEDATALEN]);
extern bool tandem_name_is_good(const char *name);

#define TANDEM_CAPTURE_WRITE  0
#define TANDEM_CAPTURE_FLUSH  1

#define TANDEM_TRANSPORT_AUTO 0
#define TANDEM_TRANSPORT_RDMA 1
#define TANDEM_TRANSPORT_TCP  2

/* -------------------------------------------------------- shared memory */

/*
 * An offer: what a standby's walsender gave out on SHOW tandem.link_offer.
 * The key is good for one link; the rest stays while the walsender lives,
 * because it tells a tandem standby from any other.
 */
typedef struct TandemOffer
{
	uint64 id;   /* 0: free */
	bool usable; /* the key has not been used */
	bool lent;   /* a link worker uses the walsender's entry */
	bool tls;
	int walsnd; /* index into WalSndCtl->walsnds */
	pid_t pid;  /* the walsender */
	TimestampTz made;
	uint8 key[LINK_KEY_SIZE];
} TandemOffer;

#define TANDEM_MAX_OFFERS 128

/* What is to be seen of RDMA on one side of a link. */
typedef struct TandemRdma
{
	bool on;                 /* the ring carries the stream */
	char reason[256];        /* by what, or why not */
	char last_fallback[256]; /* why it was left for TCP last */
	uint64 completions;      /* since the start, as the others */
	uint64 bytes;
	uint64 waits; /* for credit; the primary's side only */
	uint64 fallbacks;
	uint64 memory; /* registered now, bytes */
} TandemRdma;

typedef enum TandemLinkState
{
	TANDEM_LINK_DOWN,
	TANDEM_LINK_CATCHING_UP,
	TANDEM_LINK_STREAMING,
	TANDEM_LINK_PAUSED,
	TANDEM_LINK_HANDING_OVER
} TandemLinkState;

/*
 * A link as seen from the primary.  An entry belongs to a standby's name from
 * its first connection on; it is taken for another name only when it is down
 * and no entry is unused.  Written by the worker that serves it (pid), under
 * the mutex.
 */
typedef struct TandemLink
{
	slock_t mutex;
	char name[NAMEDATALEN]; /* empty: unused */
	pid_t pid;              /* worker serving it, 0 when down */
	Latch *latch;           /* of the worker while it streams, else NULL; read
							 * without the mutex by capture.c */
	uint64 instance;        /* random number of the standby's postmaster */
	bool superseded;        /* its standby has connected again: end */
	TandemLinkState state;
	bool pause; /* tandem.pause_link() was called */
	bool encrypted;
	bool async;     /* named in tandem.async_links */
	bool in_sync;   /* holds everything released; written under the gate lock */
	bool named;     /* commits wait for it, under a lease; written under the gate lock */
	uint64 copy;    /* which copy of the database it says it is, or 0 */
	uint64 session; /* number of the session; answers count for it only */
	uint64 term;    /* of the session */
	int walsnd;     /* index of the standby's walsender entry */
	pid_t walsender_pid;
	char address[80];
	char slot_name[NAMEDATALEN];
	XLogRecPtr sent;
	XLogRecPtr written;
	XLogRecPtr flushed;
	XLogRecPtr replayed;
	TimeOffset write_lag; /* us, -1 unknown */
	TimeOffset flush_lag;
	TimeOffset replay_lag;
	TimeOffset round_trip; /* us, -1 unknown */
	uint64 wal_bytes;
	uint64 wire_bytes;
	LinkCompression compression; /* in force */
	int compression_level;
	uint64 raw_bytes; /* WAL that was compressed ... */
	uint64 packed_bytes;
	uint64 compression_cpu; /* ... and the CPU time that took, us */
	char congestion[LINK_CONGESTION_SIZE];
	uint64 max_rate; /* bytes a second, 0: no limit */
	uint64 connects;
	TimestampTz since;      /* of the present state */
	TimestampTz last_reply; /* when the standby was last heard */
	char last_error[256];
	TandemRdma rdma;

	/* the WAL that is kept for it (backlog.c); written by the gate worker */
	uint64 backlog;        /* bytes */
	uint64 backlog_limit;  /* bytes, 0: none */
	double backlog_growth; /* bytes a second, as measured at backlog_time ... */
	TimestampTz backlog_time;
	uint64 backlog_then; /* ... when so much was kept */
	int backlog_warned;  /* percent */
	bool slot_lost;      /* its slot keeps nothing any more */
} TandemLink;

/* WAL was flushed up to 'lsn', as was last seen at 'time' (exposure.c). */
typedef struct TandemFlush
{
	XLogRecPtr lsn;
	TimestampTz time;
} TandemFlush;

#define TANDEM_FLUSHES 512

typedef struct TandemFlushes
{
	slock_t mutex;
	TimestampTz looked; /* read without the mutex */
	int count;
	TandemFlush entry[TANDEM_FLUSHES];
} TandemFlushes;

typedef enum TandemGateState
{
	TANDEM_GATE_STALLED,
	TANDEM_GATE_IN_SYNC,
	TANDEM_GATE_ALONE
} TandemGateState;

/* Protected by the gate lock, except where said. */
typedef struct TandemGate
{
	pid_t pid; /* the gate worker, 0 when it is not running */
	bool alone;
	TandemGateState state;
	TimestampTz since;
	char reason[256];
	XLogRecPtr released; /* the highest LSN ever let through */
	bool fallback;       /* a standby that streams by core is in sync */
	Latch *latch;
	pg_atomic_uint64 unreplicated; /* commits acknowledged without a standby:
									* cancelled waits; lock-free */

	/* with tandem.lease_required; all zero without */
	Gate rule;                   /* its peer is 0, the one named here, or -1 */
	bool begun;                  /* the rule is that of this primary */
	bool lease;                  /* was the lease valid at the last look? */
	bool peer_holds;             /* the named standby holds rule.waits_from */
	char peer_name[NAMEDATALEN]; /* for whom commits wait, or empty */
	pg_atomic_uint64 term;       /* rule.term, lock-free; 0: not begun */
	pg_atomic_uint32 open;       /* rule.open, lock-free */
} TandemGate;

/* The process that talks to tandemd (watchdog.c). */
typedef struct TandemWatchdog
{
	pid_t pid;
	Latch *latch;            /* NULL: it does not run */
	pg_atomic_uint32 reterm; /* the term changes: no links until it has */
} TandemWatchdog;

typedef enum TandemReceiverState
{
	TANDEM_RCV_NONE,       /* no walreceiver, or not ours */
	TANDEM_RCV_CORE,       /* PostgreSQL's own streaming */
	TANDEM_RCV_CONNECTING, /* the link is being opened or reopened */
	TANDEM_RCV_STREAMING   /* the link carries the stream */
} TandemReceiverState;

/* The standby's side; written by the walreceiver, under the mutex. */
typedef struct TandemReceiver
{
	slock_t mutex;
	pid_t pid;
	TandemReceiverState state;
	TimestampTz since;
	char primary_name[NAMEDATALEN];
	char address[80];
	bool encrypted;
	XLogRecPtr written;
	XLogRecPtr durable;
	XLogRecPtr bound;
	uint64 wal_bytes;
	uint64 flushes;
	uint64 connects;
	TimestampTz last_message;
	TimestampTz refused; /* when an error that does not pass was raised last */
	bool diverged;       /* the last of them wants a rewind or a new seed */
	XLogRecPtr tail;     /* left by the last walreceiver beyond the bound up to here; 0: none */
	TimeLineID tail_timeline;
	char last_error[256];
	TandemRdma rdma;
} TandemReceiver;

/* How long before the flush: four buckets for each power of two of us. */
#define TANDEM_LEAD_BUCKETS 96

/* What is known about new WAL (capture.c). */
typedef struct TandemCapture
{
	pg_atomic_uint32 at_write;     /* 1: captured at write, 0: at flush */
	pg_atomic_uint64 written;      /* LSN: end of the last page written, a hint */
	pg_atomic_uint64 walked;       /* LSN: all before it is final */
	pg_atomic_uint64 writes;       /* writes of WAL pages seen */
	pg_atomic_uint64 short_writes; /* of them, cut short by the kernel */
	pg_atomic_uint64 walks_ended;  /* walks that could not go on */
	pg_atomic_uint64 changes;      /* of them, because reported bytes changed */
	pg_atomic_uint32 restart;      /* a new walk is wanted */
	TimeLineID timeline;           /* being written */
	WalkState walk;                /* protected by the walk lock */

	/* counters for the view tandem.capture */
	pg_atomic_uint64 early_bytes;               /* sent before the local flush */
	pg_atomic_uint64 lead[TANDEM_LEAD_BUCKETS]; /* samples of how long before */
	pg_atomic_uint64 wakeups;                   /* times a link worker found new WAL */
	pg_atomic_uint64 reads;                     /* reads from segment files */
	pg_atomic_uint64 bytes;                     /* bytes read from segment files */
} TandemCapture;

typedef struct TandemEvent
{
	TimestampTz time;
	char kind[16]; /* node, link, gate */
	char name[NAMEDATALEN];
	char message[256];
} TandemEvent;

#define TANDEM_MAX_EVENTS 256

typedef struct TandemShared
{
	LWLock *gate_lock;    /* TandemGate, TandemLink.in_sync */
	LWLock *history_lock; /* history, history_ready */
	LWLock *link_lock;    /* allocation of links[] */
	LWLock *walk_lock;    /* capture.walk */

	uint64 instance;        /* random number of this postmaster's life */
	bool new_timeline;      /* recovery is to end with a promotion */
	uint64 sessions;        /* links opened, ever; protected by the link lock */
	XLogRecPtr clean_start; /* where new WAL begins after a clean stop, else 0 */
	bool history_ready;     /* a primary may make offers */
	LinkHistory history;

	slock_t offer_mutex;
	TandemOffer offers[TANDEM_MAX_OFFERS];

	slock_t event_mutex;
	uint64 event_count; /* ever */
	TandemEvent events[TANDEM_MAX_EVENTS];

	slock_t refused_mutex; /* for the rate limit of log lines */
	TimestampTz refused_logged;
	uint64 refused_unlogged;

	TandemGate gate;
	TandemWatchdog watchdog;
	TandemFlushes flushes;
	TandemReceiver receiver;
	TandemCapture capture;
	TandemLink links[FLEXIBLE_ARRAY_MEMBER]; /* tandem_max_links */
} TandemShared;

extern TandemShared *tandem; /* NULL unless preloaded */

/* ------------------------------------------------------------ functions */

/* event.c: a ring in shared memory; also logs at LOG.  Any process. */
extern void
tandem_event(const char *kind, const char *name, const char *fmt, ...) pg_attribute_printf(3, 4);
extern bool tandem_event_repeated(const char *kind, const char *name, const char *fmt, ...)
	pg_attribute_printf(3, 4);
extern void tandem_store_text(char *to, size_t size, const char *from);

extern void tandem_clean_text(char *text);

/* listen.c: the link's sockets, opened once in the postmaster. */
extern int tandem_listen_count;
extern int tandem_listen_fds[];
extern void tandem_listen(void);
extern bool tandem_parse_address(char *text, int default_port, char **host, int *port);

/* incarnation.c */
extern void incarnation_note_clean_stop(void);
extern void incarnation_begin(void);
extern XLogRecPtr incarnation_end_of_record(XLogRecPtr record, uint32 length);
extern uint64 incarnation_reterm(uint64 term, uint64 incarnation, XLogRecPtr start);
extern void incarnation_suspend(void);
extern void incarnation_resume(void);
extern void incarnation_current(LinkIncarnation *current);
extern bool incarnation_ready(void);
extern void incarnation_copy(LinkHistory *history);
extern void incarnation_load(LinkHistory *history);
extern void incarnation_store(const LinkHistory *history);
extern bool incarnation_equal(const LinkHistory *a, const LinkHistory *b);
extern uint32 incarnation_timeline_crc(TimeLineID tli);

/* hostcrash.c */
extern void hostcrash_remember_boot(void);
extern void hostcrash_forget_other_boots(void);
extern void hostcrash_check(void);
extern PGDLLEXPORT void tandem_timeline_main(Datum arg);

/* offer.c */
extern const char *offer_show(void);
extern bool offer_lookup(void *arg, uint64 id, bool tls, uint8_t *key);
extern bool offer_take(uint64 id, TandemOffer *offer);
extern void offer_return(uint64 id);
/* A standby of ours that streams by core; positions as its walsender shows them. */
typedef struct FallbackStream
{
	pid_t pid; /* of the walsender */
	bool caught_up;
	XLogRecPtr write;
	XLogRecPtr flush;
	XLogRecPtr apply;
} FallbackStream;
extern bool offer_next_fallback(int *cursor, FallbackStream *stream);

/* gate.c */
extern void gate_reserve(void);
extern void gate_answer(TandemLink *link, XLogRecPtr write, XLogRecPtr flush, XLogRecPtr apply);
extern void gate_link_changed(TandemLink *link, const char *why);
extern void gate_set_alone(const char *reason);
extern void gate_set_in_sync(void);
extern void gate_wake(void);
extern bool gate_link_in_sync(const TandemLink *link);
extern void gate_xact_callback(XactEvent event, void *arg);
extern const char *gate_state_name(TandemGateState state);
extern void gate_look(void);
extern XLogRecPtr gate_bound(const TandemLink *link, XLogRecPtr flushed);
extern bool gate_obey(const WatchCommand *command, bool only_try);
extern PGDLLEXPORT void tandem_gate_main(Datum arg);

/* lease.c */
extern void lease_install(void);
extern bool lease_read(GateCell *cell, int64 now, bool fresh);
extern int64 lease_stop_budget(void);
extern uint64 lease_floor(void);
extern void lease_wait(bool wrote);

/* watchdog.c */
extern void watchdog_wake(void);
extern PGDLLEXPORT void tandem_watchdog_main(Datum arg);

/* capture.c */
extern void capture_install(void);
extern void capture_decide(void);
extern bool capture_is_at_write(void);
extern void capture_begin_session(void);
extern bool capture_sendable(XLogRecPtr *sendable, XLogRecPtr *flushed);
extern const char *capture_point(const char **why);
extern void capture_note_lead(TimeOffset lead);
extern TimeOffset capture_lead(double quantile);

/* walfile.c: reading WAL segments of this data directory. */
typedef struct WalFile
{
	int fd; /* -1: none open */
	XLogSegNo segno;
	TimeLineID tli;
} WalFile;

extern bool walfile_read(WalFile *file, TimeLineID tli, XLogRecPtr start, void *buf, size_t length);
extern void walfile_close(WalFile *file);
extern bool walfile_crc(TimeLineID tli, XLogRecPtr from, XLogRecPtr to, uint32 *crc);

/* accept.c: a link worker waits here for a standby that has proved its key. */
extern LinkConn *accept_standby(TandemOffer *offer, char *address, size_t address_size);
extern void accept_log_refused(const char *address, const char *why);

/* handshake.c: the primary's side. */
extern TandemLink *handshake_primary(LinkConn *conn, const TandemOffer *offer, const char *address,
									 LinkHello *hello, uint16 *flags);
extern bool
handshake_welcome(LinkConn *conn, const LinkHello *hello, XLogRecPtr bound, uint16 flags);
extern void
handshake_refuse(LinkConn *conn, LinkReason reason, const char *message, const char *hint);

/* sender.c */
extern void link_wake_worker(const TandemLink *link);
extern PGDLLEXPORT void tandem_link_main(Datum arg);

/* slot.c: the standby's slot, held by its link worker. */
extern bool slot_take(const char *name, const char **why);
extern void slot_give_back(void);
extern void slot_move(const TandemLink *link, XLogRecPtr acknowledged, TimestampTz now);
extern void slot_feedback(const LinkFeedback *feedback);

/* linkopts.c: tandem.link_options, in force on a connection. */
extern bool linkopts_check(char **newval, void **extra, GucSource source);
extern void linkopts_get(const char *name, bool async, LinkOptions *options);
extern bool
linkopts_begin(LinkConn *conn, TandemLink *link, uint16 hello_flags, uint16 *welcome_flags);
extern bool linkopts_reload(LinkConn *conn, TandemLink *link, uint16 hello_flags);
extern void linkopts_count(const LinkConn *conn, TandemLink *link);

/* exposure.c: what would be lost if a standby took over now? */
extern void exposure_look(TimestampTz now);
extern TimestampTz exposure_since(XLogRecPtr lsn);
extern bool exposure_of(const TandemLink *link, uint64 *bytes, TimeOffset *time);

/* backlog.c: a limit to the WAL that is kept for a standby. */
extern bool backlog_is_over(const TandemLink *link, XLogRecPtr lsn);
extern void backlog_check_own(TandemLink *link, TimestampTz now);
extern long backlog_look(TimestampTz now);

/* lag.c: how long ago was an LSN sent? */
typedef struct LagTracker LagTracker;
extern LagTracker *lag_create(void);
extern void lag_reset(LagTracker *tracker);
extern void lag_sent(LagTracker *tracker, XLogRecPtr lsn, TimestampTz now);
extern TimeOffset lag_reached(LagTracker *tracker, int mode, XLogRecPtr lsn, TimestampTz now);

/* rdma.c: what sendring.c and rcvring.c share. */
typedef struct RdmaShow
{
	slock_t *mutex; /* of both */
	TandemRdma *rdma;
	bool *encrypted;
	const char *name; /* for events */
	uint64 completions_seen;
	uint64 bytes_seen;
	uint64 waits_seen;
	char told[256]; /* why RDMA is not used though it is asked for */
} RdmaShow;

extern const char *rdma_why_not(const LinkConn *conn);
extern LinkVerbs *
rdma_open(const LinkConn *conn, bool standby, size_t limit, char *why, size_t why_size);
extern void rdma_show_begin(RdmaShow *show, const LinkConn *conn);
extern void rdma_show_counters(RdmaShow *show, const LinkConn *conn);
extern void rdma_show_change(RdmaShow *show, const LinkConn *conn, LinkSwitch change);
extern void rdma_show_reason(RdmaShow *show, const char *reason);

/* priority.c */
extern void priority_set(bool raised);
extern int priority_of(pid_t pid);

/* sendring.c: the primary's side of RDMA, for sender.c. */
extern int sendring_begin(TandemLink *link, LinkConn *conn);
extern const char *sendring_frame(LinkConn *conn, const LinkHeader *header, const uint8_t *payload,
								  const LinkHeader *stamp, bool *ended);
extern const char *
sendring_step(LinkConn *conn, const LinkHeader *stamp, bool *ended, long *wait_ms);
extern void sendring_retry(void);
extern void sendring_end(void);

/* receiver.c */
extern void receiver_install(void);

#endif /* TANDEM_H */
