/*
 * sim.h
 *		The simulator's world: hosts, their clocks, the network, PostgreSQL, clients, faults.
 *
 * One World is one schedule.  Everything that happens is an event in one queue, ordered by true
 * time and then by number, so that a seed replays a schedule exactly.  An event belongs to a host
 * and to one of its two processes (tandemd, PostgreSQL) or to nobody; it is dropped if that
 * process has died meanwhile, and deferred, in order, while it is stopped or the host is frozen.
 *
 * Times are microseconds of true time unless said otherwise; local() gives a host's
 * CLOCK_BOOTTIME. LSNs are counted in WAL records: the record at index k of a WAL ends at LSN k +
 * 1.
 */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fsm.h"
#include "gate_rule.h"
#include "link_rule.h"
#include "mutation.h"

#define MAX_HOSTS     4
#define WITNESS       2
#define THIRD         3
#define MAX_WAITING   32
#define FRAME_RECORDS 24
#define MAX_HIST      512
#define MS            INT64_C(1000)
#define SEC           INT64_C(1000000)
#define NONE          UINT32_MAX

typedef int64_t Time;

/* ---------- options ---------- */

typedef struct Options
{
	FsmTiming timing;
	bool two, nofence, fence, third, wild, freezeclock, proceed, dr, override, nolive;
	bool verbose;
	const char *only; /* this directed schedule only */
} Options;

extern Options opt;

#define MAX_EDGES 64
extern uint64_t edges_taken[MAX_EDGES]; /* by index in fsm_edges(), over all schedules */

/* ---------- events ---------- */

typedef enum Proc
{
	P_SYS, /* not bound to a process */
	P_TD,
	P_PG
} Proc;

struct World;
struct Event;
typedef void (*Handler)(struct World *w, int host, struct Event *e);

typedef struct Hello
{
	int session_gen; /* of the asking standby's postmaster */
	int nhist;
	uint64_t flush;
	uint64_t floor;
	uint64_t term, inc; /* the standby's last incarnation, when it asked */
	LinkIncarnation hist[];
} Hello;

typedef struct Frame
{
	int session;
	uint64_t term, inc;
	uint64_t from, bound;
	bool async;
	int n;
	int wal[FRAME_RECORDS];
} Frame;

typedef struct Event
{
	Time at;
	uint64_t number;
	Handler run;
	void *free_me;
	uint32_t next; /* free list and deferred lists */
	int8_t host;
	int8_t proc;
	int gen; /* of the process; -1 = whichever runs */
	int64_t a, b;
	union
	{
		FsmMsg msg;
		Frame frame;
		GateCommand gate;
	} u;
} Event;

typedef struct Deferred
{
	uint32_t head, tail;
} Deferred;

/* ---------- hosts ---------- */

typedef struct Waiting
{
	uint64_t lsn;
	int id;
} Waiting;

/* A standby's connection to a primary; both directions are in order. */
typedef struct Session
{
	int id;
	bool on;
	int primary;
	int gen_primary, gen_standby;
	bool broken[2];
	Time last[2];
	uint64_t sent;
	/* at the primary */
	bool answered;
	uint64_t flush;
	uint64_t copy;
	Time answer_at;
} Session;

typedef struct Pg
{
	bool up, stopped, primary, was_primary;
	int gen;
	int *wal;
	uint64_t len, cap, flush, applied;
	uint64_t applied_async; /* applied while no record named this standby */
	int nhist;
	LinkIncarnation hist[MAX_HIST];
	int nwaiting;
	Waiting waiting[MAX_WAITING];
	Gate gate;
	Time gate_last; /* commands arrive in order */
	Time open_term_at;
	uint64_t open_term; /* the highest term in which it opened */
	int follows;
	Deferred deferred;
} Pg;

typedef struct Host
{
	bool up, frozen, dead;
	bool data;
	int64_t ppm; /* clock rate: 1 + ppm / 1e6 */
	Time offset, lost, frozen_at;
	int boot;
	Time woken_at;
	uint32_t cut; /* mask: messages to these are lost */

	bool td, td_stopped;
	int td_gen;
	Deferred deferred;
	FsmConfig cfg;
	Fsm fsm;
	FsmDurable disk;
	FsmDurable writing;
	bool in_flight;
	bool disk_full;
	bool slow_files;
	bool no_device; /* the kernel's watchdog is required and cannot be had */
	int timer_gen;
	bool state_lost;
	bool outdated; /* mutation outdate_path only */

	bool vip;
	FsmTime vip_until; /* local */

	Pg pg;
} Host;

/* ---------- the world ---------- */

typedef struct World
{
	Time now, requeue;
	uint64_t seed;
	uint64_t prng;
	uint64_t numbers;
	int n;
	Host h[MAX_HOSTS];
	Session link[MAX_HOSTS]; /* by standby */
	int sessions;

	Event *pool;
	uint32_t npool, cap_pool, free_list;
	uint32_t *heap;
	uint32_t nheap, cap_heap;

	bool chaos;
	int loss;                        /* per thousand */
	int slow;                        /* per thousand: slow messages */
	int slow_flush;                  /* per thousand: slow local flushes */
	bool hold_flush;                 /* directed: no local flush ends */
	Time late[MAX_HOSTS][MAX_HOSTS]; /* directed: datagrams from, to are so much later */
	Time late_frame; /* directed: the next message to a standby on a link is so much later */
	Time late_hello; /* directed: the next answer to a hello is so much later */
	int next_id;
	uint64_t next_copy;
	int cap_ids;
	uint64_t lossy_opened; /* the last term opened by an override */
	bool overridden;       /* an operator accepted loss in this schedule */
	char *acked;           /* by id: 1 = acknowledged, 2 = given up by an operator's override */
	int *where;            /* by id: index in the WAL */
	uint8_t *received;     /* by id: mask of the standbys that flushed it */
	int directed;          /* -1 = random */

	/* statistics */
	uint64_t acks, promotions, events;
	Time last_ack, max_gap;
	int last_ack_host;

	bool failed;
	char why[200];
	Time gap[3];
	int lost_kind; /* 0 primary, 1 standby, 2 witness, -1 none */
} World;

/* world.c: clock, queue, network, chance */
extern uint64_t rnd(World *w);
extern Time between(World *w, Time lo, Time hi);
extern bool chance(World *w, int per_thousand);
extern FsmTime local(World *w, int i);
extern Time true_time(World *w, int i, FsmTime at);
extern Event *post(World *w, Time delay, int host, Proc proc, int gen, Handler run);
extern Event *post_td(World *w, int host, Time delay, Handler run);
extern Event *post_pg(World *w, int host, Time delay, Handler run);
extern Event *post_sys(World *w, Time delay, int host, Handler run);
extern void forget(World *w, Deferred *d);
extern void release_deferred(World *w, Deferred *d);
extern void run_until(World *w, Time t);
extern void clear_queue(World *w);
extern bool reachable(World *w, int a, int b);
extern void send_datagram(World *w, const FsmMsg *m);
extern void trace(World *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
extern void fail(World *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* tandemd.c: the shell around the decision core */
extern void td_start(World *w, int i, bool first);
extern void td_kill(World *w, int i);
extern void td_stop(World *w, int i);
extern void td_continue(World *w, int i);
extern void td_input(World *w, int i, const FsmInput *in);
extern void td_operator(World *w, int i, FsmOperator op, uint32_t mask);
extern void td_message(World *w, int i, Event *e);
extern void td_pg_died(World *w, int i);
extern void td_poll_now(World *w, int i);
extern void td_poll_once(World *w, int i, Event *e);
extern void td_diverged(World *w, int i);
extern void td_device(World *w, int i, bool there);

/* pg.c: PostgreSQL, the extension, clients */
extern void pg_start(World *w, int i);
extern void pg_kill(World *w, int i);
extern void pg_stop(World *w, int i);
extern void pg_continue(World *w, int i);
extern bool pg_become_primary(World *w, int i, uint64_t term, uint64_t inc);
extern void pg_autostart(World *w, int i);
extern void pg_gate_command(World *w, int i, Event *e);
extern void pg_drop_unflushed(World *w, int i);
extern void pg_rebuild(World *w, int i, int from);
extern void pg_forget_sessions(World *w, int i);
extern void pg_standby_loop(World *w, int i);
extern void pg_accept_loss(World *w, int i);
extern bool pg_primary_here(World *w, int i);

/* faults.c: hosts, chaos, healing */
extern void host_crash(World *w, int i);
extern void host_boot(World *w, int i, bool autostart);
extern void host_freeze(World *w, int i);
extern void host_thaw(World *w, int i);
extern void cut(World *w, int a, int b, bool both);
extern void isolate(World *w, int i);
extern void join_net(World *w, int i);
extern void heal(World *w);
extern void chaos_begin(World *w, Time delay);
extern bool all_admitted(World *w);
extern bool in_sync(World *w);
extern int primary_of(World *w);

/* directed.c */
extern int directed_count(void);
extern const char *directed_name(int k);
extern bool directed_fits(int k);
extern void directed_run(World *w, int k);

/* schedule.c */
extern void world_reset(World *w, uint64_t seed);
extern void settle(World *w, Time bound);
extern void schedule_run(World *w, uint64_t seed);

#endif /* SIM_H */
