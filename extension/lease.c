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
#include <unistd.h>

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "executor/executor.h"
#include "libpq/auth.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "tcop/dest.h"
#include "tcop/utility.h"
#include "utils/ps_status.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#include "watchdog/lease_file.h"

#define REMAP_US   10000 /* look for another file at most this often */
#define POLL_MS    10
#define TITLE_SIZE 256

static ClientAuthentication_hook_type previous_authentication = NULL;
static ExecutorStart_hook_type previous_executor_start = NULL;
static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_access = NULL;

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
	if (stat(path, &st) != 0 || (st.st_uid != 0 && st.st_uid != geteuid()) ||
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

/* ------------------------------------------------------- before acknowledging */

/*
 * May this session acknowledge now?  One that has only read may, unless the
 * lease has ended: what it has seen may be out of date then.
 */
static bool
may_acknowledge(bool wrote, bool *over)
{
	int64 now = lease_file_now();
	Gate gate = {.term = pg_atomic_read_u64(&tandem->gate.term)};

	(void) lease_read(&gate.cell, now, false);
	*over = gate_must_stop(&gate, now, lease_stop_budget());
	if (gate_lease_valid(&gate, now))
		return true;
	return !wrote && (gate.cell.deadline == 0 || now < gate.cell.deadline);
}

/* As core shows its wait for a standby; 'title' gets what is shown otherwise. */
static void
show_waiting(char *title)
{
	char waiting[TITLE_SIZE];
	int length;
	const char *now = get_ps_display(&length);

	snprintf(title, TITLE_SIZE, "%.*s", length, now);
	if (title[0] == '\0')
		strcpy(title, "commit");
	snprintf(waiting, sizeof(waiting), "%.100s waiting for the lease", title);
	if (update_process_title)
		set_ps_display(waiting);
}

/*
 * The calling session's transaction is over, and core has let it through.
 * Returns when it may tell its client.  Until then the lease has to be renewed,
 * or the gate has to follow into its new term; or this server is killed
 * (SAFETY.md rule 11).  If that should have happened already, as when the host
 * was paused, or if the session is asked to end, it ends without telling its
 * client that it has committed, as core does it.
 *
 * Before the gate has opened there are superusers only, tandemd's probe among
 * them, by which it finds out that this server works: what they commit with
 * synchronous_commit = local or off they need not wait for.
 *
 * Interrupts are held here, as in core's own wait for a standby; a request to
 * cancel is left for later.
 */
void
lease_wait(bool wrote)
{
	char title[TITLE_SIZE] = "";
	bool open;
	bool over;

	if (!IsUnderPostmaster || MyProcPid == tandem->gate.pid)
		return; /* nobody is told; the gate worker must not wait for itself */
	open = pg_atomic_read_u32(&tandem->gate.open) != 0;
	if (!wrote && (!open || MyBackendType != B_BACKEND))
		return; /* on a standby, or not an ordinary user */
	if (!open && synchronous_commit <= SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
		return;
	while (!may_acknowledge(wrote, &over))
	{
		if (over || ProcDiePending)
		{
			ereport(WARNING,
					(errcode(ERRCODE_ADMIN_SHUTDOWN),
					 over ? errmsg("terminating connection because the lease of this primary has "
								   "ended")
						  : errmsg("canceling the wait for the lease and terminating connection "
								   "due to administrator command"),
					 wrote ? errdetail("The transaction has already committed locally, but might "
									   "not have been replicated to the standby.")
						   : 0));
			whereToSendOutput = DestNone;
			ProcDiePending = InterruptPending = true;
			return;
		}
		if (title[0] == '\0')
			show_waiting(title);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	if (title[0] == '\0')
		return;
	if (update_process_title)
		set_ps_display(title);
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
	return tandem != NULL && pg_atomic_read_u32(&tandem->gate.open) == 0 && !RecoveryInProgress();
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

/* As get_role_password() does it: the shared catalogs can be read already. */
static bool
is_superuser_name(const char *name)
{
	HeapTuple role = SearchSysCache1(AUTHNAME, PointerGetDatum(name));
	bool super = false;

	if (HeapTupleIsValid(role))
	{
		super = ((Form_pg_authid) GETSTRUCT(role))->rolsuper;
		ReleaseSysCache(role);
	}
	return super;
}

static void
authentication_hook(Port *port, int status)
{
	if (previous_authentication != NULL)
		previous_authentication(port, status);
	if (status == STATUS_OK && !am_walsender && kept_out() && !is_superuser_name(port->user_name))
		refuse(FATAL);
}

/* Some sessions are there already: those of a standby that has been promoted. */
static void
check_session(void)
{
	if (MyBackendType == B_BACKEND && kept_out() && !superuser_arg(GetAuthenticatedUserId()))
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

/* A session may end its transaction, but not one that is prepared. */
static bool
ends_transaction(const Node *statement)
{
	if (!IsA(statement, TransactionStmt))
		return false;
	switch (((const TransactionStmt *) statement)->kind)
	{
		case TRANS_STMT_PREPARE:
		case TRANS_STMT_COMMIT_PREPARED:
		case TRANS_STMT_ROLLBACK_PREPARED:
			return false;
		default:
			return true;
	}
}

static void
utility_hook(PlannedStmt *statement, const char *text, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo parameters, QueryEnvironment *environment,
			 DestReceiver *destination, QueryCompletion *completion)
{
	if (!ends_transaction(statement->utilityStmt))
		check_session();
	if (previous_utility != NULL)
		previous_utility(statement, text, read_only_tree, context, parameters, environment,
						 destination, completion);
	else
		standard_ProcessUtility(statement, text, read_only_tree, context, parameters, environment,
								destination, completion);
}

/* Calls of functions that are not in a query, as those for large objects. */
static void
access_hook(ObjectAccessType access, Oid class, Oid object, int sub_object, void *arg)
{
	if (access == OAT_FUNCTION_EXECUTE)
		check_session();
	if (previous_access != NULL)
		previous_access(access, class, object, sub_object, arg);
}

/* Postmaster only, while preloading. */
void
lease_install(void)
{
	if (!tandem_lease_required)
		return;
	previous_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = authentication_hook;
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start_hook;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
	previous_access = object_access_hook;
	object_access_hook = access_hook;
}
