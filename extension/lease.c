/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  What a session has to do with the lease: it looks at it before it
 *	  acknowledges a commit, and it is kept out before the gate has opened.
 *
 * tandemd writes the gate's cell {term, end of the lease, floor} into a file
 * in memory (watchdog/lease_file.h).  Every process that needs it maps that
 * file for itself, so a lease ends on time whichever of our processes, or of
 * tandemd's, is stopped, dead or slow.
 *
 * A session looks at the lease itself, after core has let its commit through
 * and before the client is told.  So no commit is acknowledged after the end
 * of the lease even if whoever let it through did so late (a link worker that
 * was stopped between looking and moving), and while the gate is alone, when
 * no commit waits in core at all.  It costs a read of the clock, and no
 * process switch.  What the look protects is that two primaries never both
 * acknowledge; that no commit is lost does not depend on it.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <sys/stat.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "executor/executor.h"
#include "libpq/auth.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "tcop/dest.h"
#include "tcop/utility.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "watchdog/lease_file.h"

#define REMAP_US 10000 /* look for another file at most this often */
#define POLL_MS  10

static ClientAuthentication_hook_type previous_authentication = NULL;
static ExecutorStart_hook_type previous_executor_start = NULL;
static ProcessUtility_hook_type previous_utility = NULL;

/* ------------------------------------------------------------------ the cell */

static const LeaseFile *mapped = NULL;
static dev_t mapped_device;
static ino_t mapped_inode;
static int64 remapped_at = 0;
static uint64 last_floor = 0;

/* Map the file that is there now, if it is not the one that is mapped. */
static void
remap(void)
{
	char path[MAXPGPATH];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s.lease", tandem_watchdog_directory, tandem_node_name);
	if (stat(path, &st) != 0 ||
		(mapped != NULL && st.st_dev == mapped_device && st.st_ino == mapped_inode))
		return;
	lease_file_close(mapped);
	mapped = lease_file_open(path);
	/* if it was replaced in between, the next look finds that out */
	mapped_device = st.st_dev;
	mapped_inode = st.st_ino;
}

/*
 * Read the cell.  False, and a cell without a lease, if there is none: no
 * tandemd has run in this boot, or its file cannot be read.  'now' in us of
 * CLOCK_BOOTTIME; 'fresh' looks for a new file in any case.  Any process;
 * never throws, allocates or locks.
 */
bool
lease_read(GateCell *cell, int64 now, bool fresh)
{
	bool good = mapped != NULL && lease_file_read(mapped, tandem_node_name, cell);

	if ((fresh || !good || now >= cell->deadline) &&
		(fresh || now < remapped_at || now - remapped_at >= REMAP_US))
	{
		remapped_at = now;
		remap();
		good = mapped != NULL && lease_file_read(mapped, tandem_node_name, cell);
	}
	if (!good)
		*cell = (GateCell){.floor = last_floor};
	last_floor = Max(last_floor, cell->floor);
	return good;
}

/* How long after the end of the lease PostgreSQL must be gone, us. */
int64
lease_stop_budget(void)
{
	return mapped != NULL ? mapped->stop_budget : 0;
}

/* Terms below this one are over for this node (SAFETY.md rule 15). */
uint64
lease_floor(void)
{
	GateCell cell;

	if (!tandem_lease_required)
		return 0;
	(void) lease_read(&cell, lease_file_now(), false);
	return cell.floor;
}

/* Is the lease of the gate's own term valid at this moment?  Any process. */
static bool
lease_is_valid(void)
{
	int64 now = lease_file_now();
	Gate gate = {.term = pg_atomic_read_u64(&tandem->gate.term)};

	(void) lease_read(&gate.cell, now, false);
	return gate_lease_valid(&gate, now);
}

/* ------------------------------------------------------- before acknowledging */

/*
 * The calling session has committed, and core has let it through.  Returns
 * when the lease is valid: the caller may then tell its client.  Otherwise
 * the lease is renewed, or this server is killed (SAFETY.md rule 11).
 *
 * Interrupts are held here, as in core's own wait for a standby.  A session
 * that is asked to end does, without telling the client that it has committed,
 * as core does it; a request to cancel is left for later.
 */
void
lease_wait(void)
{
	bool waited = false;

	if (!IsUnderPostmaster || MyProcPid == tandem->gate.pid)
		return; /* no client; the gate worker reads catalogs and must not wait for itself */
	while (!lease_is_valid())
	{
		if (ProcDiePending)
		{
			ereport(WARNING,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 errmsg("canceling the wait for the lease and terminating connection due to "
							"administrator command"),
					 errdetail("The transaction has already committed locally, but might not have "
							   "been replicated to the standby.")));
			whereToSendOutput = DestNone;
			break;
		}
		waited = true;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	if (waited)
		SetLatch(MyLatch); /* it may have been set for something else */
}

/* --------------------------------------------------- before the gate has opened */

/*
 * Are ordinary users to be kept out now?  (SAFETY.md rule 10)  On a primary
 * until the gate has opened: what they could see may not be on the standby.
 */
static bool
kept_out(void)
{
	return tandem_lease_required && tandem != NULL && !RecoveryInProgress() &&
		   pg_atomic_read_u32(&tandem->gate.open) == 0;
}

static void
refuse(int level)
{
	ereport(level, (errcode(ERRCODE_CANNOT_CONNECT_NOW), errmsg("not yet: waiting for the standby"),
					errdetail("This server is the primary, but its standby does not hold all of "
							  "its WAL yet, and it is not authorized to go on alone."),
					errhint("Try again in a moment. \"tandemctl status\" tells what it waits "
							"for.")));
}

/* Is this the name of a superuser?  Before the catalogs can be read. */
static bool
is_superuser_name(const char *name)
{
	TandemSuperusers *known = &tandem->superusers;
	bool found = false;

	SpinLockAcquire(&known->mutex);
	for (int i = 0; i < known->count && !found; i++)
		found = strcmp(known->name[i], name) == 0;
	SpinLockRelease(&known->mutex);
	return found;
}

static void
authentication_hook(Port *port, int status)
{
	if (previous_authentication != NULL)
		previous_authentication(port, status);
	if (status == STATUS_OK && !am_walsender && kept_out() && !is_superuser_name(port->user_name))
		refuse(FATAL);
}

/*
 * A session of a hot standby that has been promoted is connected already; it
 * waits for the gate like everybody else.
 */
static void
check_session(void)
{
	if (kept_out() && MyBackendType == B_BACKEND && !superuser_arg(GetAuthenticatedUserId()))
		refuse(ERROR);
}

static void
executor_start_hook(QueryDesc *query, int flags)
{
	check_session();
	if (previous_executor_start != NULL)
		previous_executor_start(query, flags);
	else
		standard_ExecutorStart(query, flags);
}

static void
utility_hook(PlannedStmt *statement, const char *text, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo parameters, QueryEnvironment *environment,
			 DestReceiver *destination, QueryCompletion *completion)
{
	/* it may leave its transaction */
	if (!IsA(statement->utilityStmt, TransactionStmt))
		check_session();
	if (previous_utility != NULL)
		previous_utility(statement, text, read_only_tree, context, parameters, environment,
						 destination, completion);
	else
		standard_ProcessUtility(statement, text, read_only_tree, context, parameters, environment,
								destination, completion);
}

/*
 * Note who is a superuser, for authentication_hook().  The gate worker does it
 * while clients are kept out; it has no database, but roles are not in one.
 */
void
lease_note_superusers(void)
{
	TandemSuperusers found = {.count = 0};
	Relation relation;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(AuthIdRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_authid role = (Form_pg_authid) GETSTRUCT(tuple);

		if (role->rolsuper && role->rolcanlogin && found.count < TANDEM_MAX_SUPERUSERS)
			strlcpy(found.name[found.count++], NameStr(role->rolname), NAMEDATALEN);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();

	SpinLockAcquire(&tandem->superusers.mutex);
	tandem->superusers.count = found.count;
	memcpy(tandem->superusers.name, found.name, sizeof(found.name));
	SpinLockRelease(&tandem->superusers.mutex);
}

/* Postmaster only, while preloading. */
void
lease_install(void)
{
	previous_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = authentication_hook;
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start_hook;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
}
