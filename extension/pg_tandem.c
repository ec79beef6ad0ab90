/*-------------------------------------------------------------------------
 *
 * pg_tandem.c
 *	  Loading: settings, shared memory, hooks, background workers.
 *
 * The library is to be preloaded on every node; what runs follows from the
 * role.  The workers start when recovery has finished, so on a primary only;
 * the replaced walreceiver functions act where a walreceiver runs, so on a
 * standby only.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <limits.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/varlena.h"

PG_MODULE_MAGIC;

void _PG_init(void);

char *tandem_node_name;
char *tandem_listen_addresses;
int tandem_port;
char *tandem_link_addresses;
bool tandem_link;
int tandem_max_links;
int tandem_link_timeout;
int tandem_reconnect_interval;
bool tandem_tls;
char *tandem_async_links;
bool tandem_fallback;
int tandem_capture_at;
bool tandem_lease_required;
char *tandem_watchdog_directory;
int tandem_transport;
char *tandem_rdma_device;
int tandem_rdma_gid_index;
int tandem_rdma_poll_us;
int tandem_nice;
int tandem_rdma_ring_size;

TandemShared *tandem = NULL;

static char *offer_value;
static char host_name[NAMEDATALEN];
static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

/* ------------------------------------------------------------- settings */

/* Is this a good name for a node?  Also asked about what a peer says. */
bool
tandem_name_is_good(const char *name)
{
	size_t length = strlen(name);

	return length > 0 && length < NAMEDATALEN &&
		   strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
			   length;
}

static bool
check_node_name(char **newval, pg_attribute_unused() void **extra,
				pg_attribute_unused() GucSource source)
{
	if ((*newval)[0] == '\0' || tandem_name_is_good(*newval))
		return true;
	GUC_check_errdetail("A node name has 1 to %d characters out of letters, digits, \"_\", \".\" "
						"and \"-\".",
						NAMEDATALEN - 1);
	return false;
}

/* Without a name of its own a node is called as its cluster or its host. */
static const char *
default_node_name(void)
{
	const char *cluster = GetConfigOption("cluster_name", true, false);

	if (cluster != NULL && tandem_name_is_good(cluster))
		return cluster;
	if (gethostname(host_name, sizeof(host_name) - 1) == 0 && tandem_name_is_good(host_name))
		return host_name;
	return "node";
}

static bool
check_list(char **newval, bool (*check)(char *item), const char *what)
{
	char *copy = pstrdup(*newval);
	List *list;
	ListCell *cell;
	bool good = true;

	if (!SplitGUCList(copy, ',', &list))
	{
		GUC_check_errdetail("List syntax is invalid.");
		good = false;
	}
	else
	{
		foreach (cell, list)
		{
			char *item = pstrdup(lfirst(cell));

			if (good && !check(lfirst(cell)))
			{
				GUC_check_errdetail("\"%s\" is not %s.", item, what);
				good = false;
			}
			pfree(item);
		}
		list_free(list);
	}
	pfree(copy);
	return good;
}

static bool
item_is_name(char *item)
{
	return tandem_name_is_good(item);
}

static bool
item_is_address(char *item)
{
	char *host;
	int port;

	return tandem_parse_address(item, 1, &host, &port);
}

static bool
item_is_anything(char *item)
{
	return item[0] != '\0';
}

static bool
check_async_links(char **newval, pg_attribute_unused() void **extra,
				  pg_attribute_unused() GucSource source)
{
	return check_list(newval, item_is_name, "a node name");
}

static bool
check_link_addresses(char **newval, pg_attribute_unused() void **extra,
					 pg_attribute_unused() GucSource source)
{
	return check_list(newval, item_is_address, "a host, or a host and a port");
}

static bool
check_listen_addresses(char **newval, pg_attribute_unused() void **extra,
					   pg_attribute_unused() GucSource source)
{
	return check_list(newval, item_is_anything, "an address");
}

static bool
check_directory(char **newval, pg_attribute_unused() void **extra,
				pg_attribute_unused() GucSource source)
{
	canonicalize_path(*newval);
	if (is_absolute_path(*newval))
		return true;
	GUC_check_errdetail("It must be an absolute path.");
	return false;
}

/* Is there a name in tandem.async_links for which is_it() says yes?  It goes to 'found', if not NULL. */
static bool
find_async(bool (*is_it)(const char *listed, const char *wanted), const char *wanted,
		   char found[NAMEDATALEN])
{
	char *copy = pstrdup(tandem_async_links);
	List *names;
	ListCell *cell;
	bool good = false;

	if (SplitGUCList(copy, ',', &names))
	{
		foreach (cell, names)
		{
			if (good || !is_it(lfirst(cell), wanted))
				continue;
			good = true;
			if (found != NULL)
				strlcpy(found, lfirst(cell), NAMEDATALEN);
		}
		list_free(names);
	}
	pfree(copy);
	return good;
}

static bool
is_same_name(const char *listed, const char *wanted)
{
	return strcmp(listed, wanted) == 0;
}

/* Is this standby named in tandem.async_links? */
bool
tandem_is_async(const char *name)
{
	return find_async(is_same_name, name, NULL);
}

/* Is a standby named there that this slot is called like?  Its name goes to 'name'. */
bool
tandem_async_of_slot(const char *slot, char name[NAMEDATALEN])
{
	return find_async(link_name_is_slot, slot, name);
}

static const struct config_enum_entry capture_options[] = {{"write", TANDEM_CAPTURE_WRITE, false},
														   {"flush", TANDEM_CAPTURE_FLUSH, false},
														   {NULL, 0, false}};

static const struct config_enum_entry transport_options[] = {{"auto", TANDEM_TRANSPORT_AUTO, false},
															 {"rdma", TANDEM_TRANSPORT_RDMA, false},
															 {"tcp", TANDEM_TRANSPORT_TCP, false},
															 {NULL, 0, false}};

static void
define_rdma_settings(void)
{
	DefineCustomStringVariable(
		"tandem.rdma_device", "RDMA device that a link uses, or device:port.",
		"The default is the one that has the address of the link's TCP connection.",
		&tandem_rdma_device, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tandem.rdma_gid_index", "Index of the GID that a link uses.",
							"-1 is the one of the link's address.", &tandem_rdma_gid_index, -1, -1,
							65535, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tandem.rdma_poll_us",
							"Time a standby looks for WAL in its ring before it sleeps.",
							"In microseconds; 0 never spins.", &tandem_rdma_poll_us, 0, 0, 10000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tandem.rdma_ring_size", "Size of the memory that WAL is written to.",
							"Locked in memory on both nodes while RDMA is in use.",
							&tandem_rdma_ring_size, 16 * 1024, LINK_RING_MIN_SIZE / 1024,
							LINK_RING_MAX_SIZE / 1024, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
}

static void
define_settings(void)
{
	DefineCustomStringVariable("tandem.node_name", "Name of this node, distinct on every node.",
							   "The default is cluster_name, or else the host's name.",
							   &tandem_node_name, "", PGC_POSTMASTER, 0, check_node_name, NULL,
							   NULL);
	DefineCustomStringVariable("tandem.listen_addresses",
							   "Addresses on which a primary listens for links.",
							   "The default is listen_addresses.", &tandem_listen_addresses, "",
							   PGC_POSTMASTER, GUC_LIST_INPUT, check_listen_addresses, NULL, NULL);
	DefineCustomIntVariable("tandem.port", "TCP port on which a primary listens for links.", NULL,
							&tandem_port, 5442, 1, 65535, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"tandem.link_addresses", "Addresses a standby is told to open its link to.",
		"A list of host or host:port, tried in this order. The default is the address that the "
		"standby's own connection reached.",
		&tandem_link_addresses, "", PGC_SIGHUP, GUC_LIST_INPUT, check_link_addresses, NULL, NULL);
	DefineCustomBoolVariable("tandem.link", "Lets a standby receive WAL over a link.",
							 "When off, it streams as PostgreSQL does by itself.", &tandem_link,
							 true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("tandem.transport", "Transport that carries the WAL of a link.",
							 "auto takes RDMA where both nodes can and the link is not encrypted; "
							 "rdma takes it there, too, and WAL is then not encrypted.",
							 &tandem_transport, TANDEM_TRANSPORT_AUTO, transport_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_rdma_settings();
	DefineCustomIntVariable("tandem.max_links", "Number of standbys that a primary can serve.",
							"Each takes one of max_worker_processes.", &tandem_max_links, 4, 1, 64,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"tandem.link_timeout", "Time without a sign of life after which a link is given up.", NULL,
		&tandem_link_timeout, 5000, 100, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"tandem.reconnect_interval", "Longest delay between two attempts to open a link.", NULL,
		&tandem_reconnect_interval, 1000, 10, 3600000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomBoolVariable("tandem.tls", "Encrypts links.",
							 "The primary's setting holds for its links.", &tandem_tls, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"tandem.async_links", "Names of standbys for which no commit ever waits.", NULL,
		&tandem_async_links, "", PGC_SIGHUP, GUC_LIST_INPUT, check_async_links, NULL, NULL);
	DefineCustomStringVariable(
		"tandem.link_options", "What is different for single links.",
		"\"name: option=value, ...; ...\" with the options compression, congestion, max_rate, "
		"send_buffer and max_backlog; the name * stands for all links.",
		&tandem_link_options, "", PGC_SIGHUP, 0, linkopts_check, NULL, NULL);
	DefineCustomBoolVariable("tandem.fallback",
							 "Lets a standby stream without a link where none can be had.",
							 "When off, it waits for the link.", &tandem_fallback, true, PGC_SIGHUP,
							 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"tandem.link_offer", "Where a standby finds the link, and its key.",
		"Answered on replication connections only.", &offer_value, "", PGC_INTERNAL,
		GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE | GUC_NO_SHOW_ALL, NULL, NULL, offer_show);
	DefineCustomEnumVariable(
		"tandem.capture", "Where WAL is captured for sending.",
		"At write it is sent while it is being flushed, where that is possible.",
		&tandem_capture_at, TANDEM_CAPTURE_WRITE, capture_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"tandem.nice", "Nice value of the processes that synchronous commits wait for.",
		"The link worker and the walreceiver run with it as far as RLIMIT_NICE permits; 0 changes "
		"nothing.",
		&tandem_nice, -10, -20, 0, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("tandem.lease_required",
							 "Acknowledges commits only under a lease of the watchdog.",
							 "The watchdog then also decides whether commits wait for a standby.",
							 &tandem_lease_required, false, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"tandem.watchdog_directory", "Directory of the watchdog's socket and lease file.",
		"It must not outlive a boot of the host.", &tandem_watchdog_directory, "/run/pg_tandem",
		PGC_POSTMASTER, 0, check_directory, NULL, NULL);
	MarkGUCPrefixReserved("tandem");
}

/* -------------------------------------------------------- shared memory */

static Size
shared_size(void)
{
	return add_size(offsetof(TandemShared, links), mul_size(tandem_max_links, sizeof(TandemLink)));
}

static void
shmem_request(void)
{
	if (previous_shmem_request != NULL)
		previous_shmem_request();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("pg_tandem", 4);
}

static void
init_shared(void)
{
	LWLockPadded *locks = GetNamedLWLockTranche("pg_tandem");

	memset(tandem, 0, shared_size());
	tandem->gate_lock = &locks[0].lock;
	tandem->history_lock = &locks[1].lock;
	tandem->link_lock = &locks[2].lock;
	tandem->walk_lock = &locks[3].lock;
	if (!pg_strong_random(&tandem->instance, sizeof(tandem->instance)))
		ereport(FATAL,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes")));
	SpinLockInit(&tandem->offer_mutex);
	SpinLockInit(&tandem->event_mutex);
	SpinLockInit(&tandem->refused_mutex);
	SpinLockInit(&tandem->receiver.mutex);
	SpinLockInit(&tandem->flushes.mutex);
	pg_atomic_init_u64(&tandem->gate.unreplicated, 0);
	pg_atomic_init_u64(&tandem->gate.term, 0);
	pg_atomic_init_u32(&tandem->gate.open, 0);
	pg_atomic_init_u32(&tandem->watchdog.reterm, 0);
	pg_atomic_init_u32(&tandem->capture.at_write, 0);
	pg_atomic_init_u64(&tandem->capture.written, 0);
	pg_atomic_init_u64(&tandem->capture.walked, 0);
	pg_atomic_init_u64(&tandem->capture.writes, 0);
	pg_atomic_init_u64(&tandem->capture.short_writes, 0);
	pg_atomic_init_u64(&tandem->capture.walks_ended, 0);
	pg_atomic_init_u64(&tandem->capture.changes, 0);
	pg_atomic_init_u32(&tandem->capture.restart, 0);
	pg_atomic_init_u64(&tandem->capture.early_bytes, 0);
	for (int i = 0; i < TANDEM_LEAD_BUCKETS; i++)
		pg_atomic_init_u64(&tandem->capture.lead[i], 0);
	pg_atomic_init_u64(&tandem->capture.wakeups, 0);
	pg_atomic_init_u64(&tandem->capture.reads, 0);
	pg_atomic_init_u64(&tandem->capture.bytes, 0);
	for (int i = 0; i < tandem_max_links; i++)
		SpinLockInit(&tandem->links[i].mutex);
}

/*
 * Runs whenever shared memory is made: at start, and again after a crash of
 * one of the server's processes.
 */
static void
shmem_startup(void)
{
	bool found;

	if (previous_shmem_startup != NULL)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	tandem = ShmemInitStruct("pg_tandem", shared_size(), &found);
	if (!found)
		init_shared();
	LWLockRelease(AddinShmemInitLock);

	if (!IsUnderPostmaster && IsPostmasterEnvironment)
	{
		if (tandem_node_name[0] == '\0')
			SetConfigOption("tandem.node_name", default_node_name(), PGC_POSTMASTER,
							PGC_S_DYNAMIC_DEFAULT);
		incarnation_note_clean_stop();
		hostcrash_check();
		gate_reserve();
		tandem_listen();
	}
}

/* -------------------------------------------------------------- workers */

static void
register_worker(const char *function, const char *name, const char *type, BgWorkerStartTime start,
				int flags)
{
	BackgroundWorker worker = {
		.bgw_flags = flags,
		.bgw_start_time = start,
		.bgw_restart_time = 1,
	};

	strlcpy(worker.bgw_library_name, "pg_tandem", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, name, sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, type, sizeof(worker.bgw_type));
	RegisterBackgroundWorker(&worker);
}

/*
 * Without these lines, "CREATE EXTENSION" works in a server that does not
 * preload the library; its functions then say what is missing.
 */
void
_PG_init(void)
{
	int flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;

	if (!process_shared_preload_libraries_in_progress)
		return;

	define_settings();
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = shmem_request;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	RegisterXactCallback(gate_xact_callback, NULL);
	receiver_install();
	capture_install();
	lease_install();

	register_worker("tandem_timeline_main", "pg_tandem timeline", "pg_tandem timeline",
					BgWorkerStart_PostmasterStart, BGWORKER_SHMEM_ACCESS);
	if (tandem_lease_required)
		register_worker("tandem_watchdog_main", "pg_tandem watchdog", "pg_tandem watchdog",
						BgWorkerStart_PostmasterStart, BGWORKER_SHMEM_ACCESS);
	register_worker("tandem_gate_main", "pg_tandem gate", "pg_tandem gate",
					BgWorkerStart_RecoveryFinished, flags);
	for (int i = 1; i <= tandem_max_links; i++)
	{
		char name[BGW_MAXLEN];

		snprintf(name, sizeof(name), "pg_tandem link worker %d", i);
		register_worker("tandem_link_main", name, "pg_tandem link", BgWorkerStart_RecoveryFinished,
						flags);
	}
}
