/*-------------------------------------------------------------------------
 *
 * backlog.c
 *	  A limit to the WAL that is kept for a standby.
 *
 * The slot of a standby that is away, or behind a line that is too thin, keeps
 * WAL.  The limit is the smaller one of the link's max_backlog and of
 * max_slot_wal_keep_size.  On the way there the log tells how much time is
 * left at the present rate.  Beyond max_backlog the slot is given up: it keeps
 * nothing any more, as one that core has invalidated, and a checkpoint that
 * removes the WAL is asked for.  The standby may still catch up from what is
 * there; when that is gone, it needs a resync.  The primary goes on.
 *
 * Core looks at max_slot_wal_keep_size only at checkpoints; here it counts for
 * what is told.
 *
 * A slot is given up by who holds it: the standby's link worker, or the gate
 * worker for a standby that is away.  A walsender that holds it, because the
 * standby streams by core, is ended first, as core does.
 *
 * A standby that has not connected since this server's start is not known by
 * its name; for it a slot counts that is called like a node in
 * tandem.link_options or tandem.async_links.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <signal.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"
#include "storage/condition_variable.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define AVERAGE_S         30 /* the rate is an average over about so long */
#define SAMPLE_MS         1000
#define RELEASE_MS        100
#define RETRY_MS          250

/*
 * The limit is there for the sake of the disk, so a look comes before it could
 * have been passed at 1 GB/s.
 */
#define LOOK_BYTES_PER_MS (1024 * 1024)
#define LOOK_MS_MIN       20
#define LOOK_MS_MAX       1000

static const int warn_percent[] = {50, 75, 90};

/* The limit for a link, in bytes; 0: none. */
static uint64
limit_of(const char *name, bool async)
{
	LinkOptions options;
	uint64 limit;

	linkopts_get(name, async, &options);
	limit = options.max_backlog;
	if (max_slot_wal_keep_size_mb >= 0)
	{
		uint64 core = (uint64) max_slot_wal_keep_size_mb * 1024 * 1024;

		limit = limit == 0 ? core : Min(limit, core);
	}
	return limit;
}

/* Is a standby that has WAL up to 'lsn' further behind than its link's own limit? */
bool
backlog_is_over(const TandemLink *link, XLogRecPtr lsn)
{
	LinkOptions options;
	XLogRecPtr end = GetFlushRecPtr(NULL);

	linkopts_get(link->name, link->async, &options);
	return options.max_backlog != 0 && end > lsn && end - lsn > options.max_backlog;
}

/* Where the slot with this name stands.  False if there is none. */
static bool
find_slot(const char *name, XLogRecPtr *restart, bool *lost, pid_t *holder)
{
	bool found = false;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots && !found; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (!slot->in_use || strcmp(NameStr(slot->data.name), name) != 0)
			continue;
		SpinLockAcquire(&slot->mutex);
		*restart = slot->data.restart_lsn;
		*lost = TandemSlotIsLost(slot);
		*holder = slot->active_pid;
		SpinLockRelease(&slot->mutex);
		found = true;
	}
	LWLockRelease(ReplicationSlotControlLock);
	return found;
}

/* Give up the slot that this process holds, durably. */
static void
give_up_held_slot(void)
{
	ReplicationSlot *slot = MyReplicationSlot;

	SpinLockAcquire(&slot->mutex);
	TandemSlotSetLost(slot);
	SpinLockRelease(&slot->mutex);
	ReplicationSlotMarkDirty();
	ReplicationSlotSave();
	ReplicationSlotsComputeRequiredLSN();
}

/* 'link' is NULL for a standby that has not been here. */
static void
tell_given_up(TandemLink *link, const char *name, const char *slot_name, uint64 kept, uint64 limit)
{
	if (link != NULL)
	{
		SpinLockAcquire(&link->mutex);
		link->slot_lost = true;
		SpinLockRelease(&link->mutex);
	}
	tandem_event(
		"link", name,
		"needs resync: replication slot \"%s\" kept %llu MB of WAL, more than its limit of "
		"%llu MB, and is given up",
		slot_name, (unsigned long long) (kept >> 20), (unsigned long long) (limit >> 20));
	RequestCheckpoint(CHECKPOINT_CAUSE_XLOG);
}

/*
 * Give up a slot that another process may hold.  Gate worker only.  False if
 * it could not be had; it is tried again a little later.
 */
static bool
take_and_give_up(const char *slot_name, pid_t holder)
{
	const char *why = NULL;

	if (holder != 0)
	{
		ReplicationSlot *slot;

		/* a walsender; link workers see to their own */
		(void) kill(holder, SIGTERM);
		slot = SearchNamedReplicationSlot(slot_name, true);
		if (slot == NULL)
			return false;
		ConditionVariablePrepareToSleep(&slot->active_cv);
		(void) ConditionVariableTimedSleep(&slot->active_cv, RELEASE_MS, PG_WAIT_EXTENSION);
		ConditionVariableCancelSleep();
	}
	if (!slot_take(slot_name, &why))
		return false;
	give_up_held_slot();
	slot_give_back();
	return true;
}

/*
 * The worker of a link that is up: has its standby fallen too far behind?
 * Then its slot is given up, and WAL is sent as long as it is there.
 */
void
backlog_check_own(TandemLink *link, TimestampTz now)
{
	static TimestampTz looked = 0;
	ReplicationSlot *slot = MyReplicationSlot;
	XLogRecPtr restart;
	LinkOptions options;

	if (slot == NULL || tandem_link_options[0] == '\0' ||
		!TimestampDifferenceExceeds(looked, now, LOOK_MS_MIN))
		return;
	looked = now;
	restart = slot->data.restart_lsn; /* nobody else moves it */
	if (restart == InvalidXLogRecPtr || !backlog_is_over(link, restart))
		return;
	give_up_held_slot();
	linkopts_get(link->name, link->async, &options);
	tell_given_up(link, link->name, link->slot_name, GetFlushRecPtr(NULL) - restart,
				  options.max_backlog);
}

/* "3 h 20 min" */
static const char *
duration(double seconds)
{
	if (seconds >= 86400 * 2)
		return psprintf("%.0f days", seconds / 86400);
	if (seconds >= 3600)
		return psprintf("%d h %d min", (int) seconds / 3600, (int) seconds % 3600 / 60);
	if (seconds >= 120)
		return psprintf("%d min", (int) seconds / 60);
	return psprintf("%d s", (int) seconds);
}

/*
 * What is kept for a link, and how it grows, for the view and the warnings.
 * Gate worker only; it alone writes these fields.
 */
static void
measure(TandemLink *link, XLogRecPtr restart, TimestampTz now)
{
	XLogRecPtr end = GetFlushRecPtr(NULL);
	uint64 kept = restart != InvalidXLogRecPtr && end > restart ? end - restart : 0;
	uint64 limit = limit_of(link->name, link->async);
	double seconds = (now - link->backlog_time) / 1000000.0;
	bool sample = TimestampDifferenceExceeds(link->backlog_time, now, SAMPLE_MS);
	double growth = link->backlog_growth;
	double present = 0;
	int warned = link->backlog_warned;
	int level = 0;

	if (link->backlog_time != 0 && seconds > 0)
	{
		double weight = Min(seconds / AVERAGE_S, 1);

		present = ((double) kept - (double) link->backlog_then) / seconds;
		/* at the beginning there is nothing to take the average of */
		if (sample)
			growth = growth == 0 ? present : growth + (present - growth) * weight;
	}
	if (kept == 0)
		growth = 0;
	for (size_t i = 0; i < lengthof(warn_percent); i++)
	{
		if (limit > 0 && kept >= limit / 100 * warn_percent[i])
			level = warn_percent[i];
	}
	SpinLockAcquire(&link->mutex);
	link->backlog = kept;
	link->backlog_limit = limit;
	link->backlog_growth = growth;
	if (sample)
	{
		link->backlog_time = now;
		link->backlog_then = kept;
	}
	link->backlog_warned = level;
	SpinLockRelease(&link->mutex);

	/* once on the way up; again after it has been below */
	if (level > warned)
	{
		double rate = Max(growth, present); /* a burst is not to be averaged away */
		bool known = rate > 0 && limit > kept;

		tandem_event("link", link->name,
					 "%d %% of the WAL that may be kept for it is used: %llu MB of %llu MB%s%s%s",
					 level, (unsigned long long) (kept >> 20), (unsigned long long) (limit >> 20),
					 known ? "; the limit is reached in " : "",
					 known ? duration((limit - kept) / rate) : "",
					 known ? " at the present rate" : "");
	}
}

/*
 * In what time could the slot be beyond its link's own limit?  In milliseconds,
 * 0 if it is already.
 */
static long
time_to_limit(const char *name, bool async, XLogRecPtr restart)
{
	LinkOptions options;
	XLogRecPtr end = GetFlushRecPtr(NULL);
	uint64 kept = end > restart ? end - restart : 0;

	linkopts_get(name, async, &options);
	if (options.max_backlog == 0 || restart == InvalidXLogRecPtr)
		return LOOK_MS_MAX;
	if (kept > options.max_backlog)
		return 0;
	return Min(Max((long) ((options.max_backlog - kept) / LOOK_BYTES_PER_MS), LOOK_MS_MIN),
			   LOOK_MS_MAX);
}

/* The gate worker gives a slot up, or tries to.  When to look again. */
static long
give_up(TandemLink *link, const char *name, bool async, const char *slot_name, XLogRecPtr restart,
		pid_t holder)
{
	LinkOptions options;

	if (!take_and_give_up(slot_name, holder))
		return RETRY_MS; /* it has waited; the gate worker has more to do */
	linkopts_get(name, async, &options);
	tell_given_up(link, name, slot_name, GetFlushRecPtr(NULL) - restart, options.max_backlog);
	return LOOK_MS_MIN;
}

/* A standby that has been here since the start.  When to look again, in milliseconds. */
static long
look_at_link(TandemLink *link, TimestampTz now)
{
	XLogRecPtr restart;
	pid_t holder;
	bool lost;
	long wait_ms;

	if (link->slot_name[0] == '\0' || !find_slot(link->slot_name, &restart, &lost, &holder))
	{
		SpinLockAcquire(&link->mutex);
		link->backlog = link->backlog_limit = link->backlog_then = 0;
		link->backlog_growth = 0;
		SpinLockRelease(&link->mutex);
		return LOOK_MS_MAX;
	}
	measure(link, restart, now);
	if (lost && !link->slot_lost)
		tandem_event(
			"link", link->name,
			"needs resync: replication slot \"%s\" kept more WAL than max_slot_wal_keep_size, "
			"and is given up",
			link->slot_name);
	SpinLockAcquire(&link->mutex);
	link->slot_lost = lost;
	SpinLockRelease(&link->mutex);
	wait_ms = time_to_limit(link->name, link->async, restart);
	if (wait_ms > 0)
		return wait_ms;
	if (link->pid == 0)
		return give_up(link, link->name, link->async, link->slot_name, restart, holder);
	link_wake_worker(link);
	return LOOK_MS_MIN;
}

static bool
slot_is_known(const char *slot_name)
{
	for (int i = 0; i < tandem_max_links; i++)
	{
		if (tandem->links[i].name[0] != '\0' && strcmp(tandem->links[i].slot_name, slot_name) == 0)
			return true;
	}
	return false;
}

/* The slot of a standby that has not been here, if it is named as a link.  As above. */
static long
look_at_slot(const char *slot_name)
{
	char name[LINK_NAME_SIZE];
	XLogRecPtr restart;
	pid_t holder;
	bool lost;
	long wait_ms;

	if (slot_is_known(slot_name) ||
		(!link_options_of_slot(tandem_link_options, slot_name, name) &&
		 !tandem_async_of_slot(slot_name, name)) ||
		!find_slot(slot_name, &restart, &lost, &holder))
		return LOOK_MS_MAX;
	wait_ms = time_to_limit(name, true, restart);
	return wait_ms > 0 ? wait_ms : give_up(NULL, name, true, slot_name, restart, holder);
}

/*
 * Look at what is kept for each standby, if it is time to.  Gate worker, at
 * each of its turns.  Returns in how many milliseconds to look again.
 */
long
backlog_look(TimestampTz now)
{
	static TimestampTz next = 0;
	long wait_ms = LOOK_MS_MAX;

	if (now < next && next - now <= LOOK_MS_MAX * INT64CONST(1000)) /* the clock may be set back */
		return (long) ((next - now) / 1000) + 1;
	for (int i = 0; i < tandem_max_links; i++)
	{
		if (tandem->links[i].name[0] != '\0')
			wait_ms = Min(wait_ms, look_at_link(&tandem->links[i], now));
	}
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		char name[NAMEDATALEN] = "";

		LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
		if (slot->in_use && slot->data.database == InvalidOid)
			strlcpy(name, NameStr(slot->data.name), sizeof(name));
		LWLockRelease(ReplicationSlotControlLock);
		if (name[0] != '\0')
			wait_ms = Min(wait_ms, look_at_slot(name));
	}
	next = TimestampTzPlusMilliseconds(now, wait_ms);
	return wait_ms;
}
