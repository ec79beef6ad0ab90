/*
 * manager.h
 *		tandemd as a whole: one event loop around the decision core.
 *
 * manager.c gives every input to fsm_step() and carries out its actions in order.  Everything
 * else is a room of its own that knows nothing of the others: heartbeat.c (network), store.c
 * (disk), postgres.c, vip.c, fence.c, resources.c, device.c, control.c (tandemctl).  Handlers are
 * called from the loop and never block.  Errors are negative errno.
 */
#ifndef TANDEM_MANAGER_H
#define TANDEM_MANAGER_H

#include <systemd/sd-event.h>

#include "config.h"
#include "heartbeat.h"
#include "helpers.h"
#include "lease_file.h"
#include "postgres.h"
#include "store.h"
#include "vip.h"

typedef struct Control Control; /* control.h */

#define MANAGER_VERSION    "0.1"
#define MANAGER_MAX_EVENTS 256
#define MANAGER_MAX_QUEUE  32

/* For tandemctl events; each is a line of the journal too. */
typedef struct ManagerEvent
{
	int64_t time;  /* CLOCK_REALTIME us */
	char kind[16]; /* state, postgres, vip, fence, resource, network, operator, alarm */
	char text[256];
} ManagerEvent;

typedef enum ManagerEnd
{
	MANAGER_STOP,
	MANAGER_RELOAD /* start again with what the configuration file says now */
} ManagerEnd;

typedef struct Manager
{
	Config config;
	Fsm fsm;
	FsmActions actions; /* of the step being carried out */
	bool stepping;
	int nqueue; /* inputs that came while a step was being carried out */
	FsmInput queue[MANAGER_MAX_QUEUE];

	sd_event *event;
	sd_event_source *timer;
	LeaseFile *lease; /* NULL on a witness, as are postgres and what goes with it */
	GateCell cell;    /* what it says */
	int lock;         /* one tandemd per node */
	Heartbeat *heartbeat;
	Store *store;
	Postgres *postgres;
	Vip *vip;
	Fence *fence;
	Resources *resources;
	Device *device;
	Control *control;

	bool write_failed; /* the last write of the state, and that was said */
	bool seed;         /* the rebuild asked for is a seed, not a rewind */
	bool ending;       /* the host goes down: hand over, then end */
	bool confirm;      /* confirm_default = failover, as configured (loss.c) */
	int64_t ends_at;   /* ... at the latest */
	ManagerEnd end;
	struct
	{
		bool wanted;
		bool ok;
		char text[256];
	} reply; /* of the decision core to an operator */
	FsmPgState told_pg;
	int64_t left_full_at; /* when a full disk was last handed over from */
	const char *veto;     /* loss.c: what forbids a failover that nobody confirms; or NULL */
	int64_t
		caught_up_at;  /* loss.c: when this standby last held all that its primary spoke of, ... */
	uint64_t mark_lsn; /* ... and what it is to reach next: the primary's end, ... */
	int64_t mark_at;   /* ... as it was at this time */
	uint64_t nevents;  /* ever */
	ManagerEvent events[MANAGER_MAX_EVENTS];
} Manager;

/* False with a message. */
extern bool manager_new(Manager **m, const Config *c, char *error, size_t error_size);
extern ManagerEnd manager_run(Manager *m);
/* PostgreSQL is left alone; so are the addresses, which end with the lease. */
extern void manager_free(Manager *m);

/* Give an input to the decision core and carry out what it answers. */
extern void manager_input(Manager *m, const FsmInput *in);
/*
 * An operator's command to the decision core; its answer is put into text (of this size).  Not to
 * be called while a step is carried out.
 */
extern bool manager_operator(Manager *m, const FsmInput *in, char *text, size_t size);
extern FsmInput manager_operator_input(FsmOperator op);
/* This node shall be rewound (or seeded) from the primary.  False if it cannot be now. */
extern bool manager_rebuild(Manager *m, bool seed);

/* memory.c: give back what only the start needed, in a while. */
extern void manager_save_memory(Manager *m);

/* event.c: ring, journal (or standard error), event hook. */
extern void manager_event(Manager *m, const char *kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* A line that is no event, for the journal only.  priority as in syslog.h; m may be NULL. */
extern void manager_log(Manager *m, int priority, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * look.c: what the decision core is told of PostgreSQL.  False if there is nothing to be told now:
 * a primary must have reported and answered its probe in time, so that one that hangs falls silent
 * and is noticed by probe_timeout.
 */
extern bool manager_look(const Config *c, const PostgresLook *look, const GateCell *cell,
						 int64_t now, FsmPg *pg);

/*
 * loss.c: how many bytes of WAL that the primary has are not known to be on this node's (or the
 * given node's) copy; -1 if it is not known.
 */
extern int64_t manager_loss(const Manager *m, int node);
/* Profile dr: forbid or allow a failover without an operator, after max_loss. */
extern void manager_loss_tick(Manager *m);

/*
 * status.c: everything tandemctl status shows, as a JSON object (jansson; the caller frees it):
 * nodes with role, state, term, LSNs, lag, sign of life; record; lease; VIP; resources; whether a
 * failover is possible now, if not why, and what would be lost; paused; countdown of profile dr.
 */
struct json_t;
extern struct json_t *manager_status(Manager *m);
/* Why this node could not become primary, whatever lease runs now; NULL if it could. */
extern const char *manager_why_not(const Manager *m);
/* One line for sd_notify(). */
extern void manager_status_line(const Manager *m, char *text, size_t size);

#endif /* TANDEM_MANAGER_H */
