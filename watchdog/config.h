/*
 * config.h
 *		tandem.conf: what tandemd and tandemctl are told (tandem.conf.5).
 *
 * One INI file, the same on all nodes: the node is named by --node, else by "node", else it is the
 * one with the host's name; [tandemd NODE], [postgres NODE], [vip NODE] and [watchdog NODE] hold for
 * that node only and go before the sections without a name.  Read once at start and again at a
 * reload; nothing in it is used before all of it is checked.  Errors name file, line and key.
 * Times have units (500ms, 5s, 30min); sizes too (16MB).
 */
#ifndef TANDEM_CONFIG_H
#define TANDEM_CONFIG_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "fsm.h"

#define CONFIG_NAME_SIZE     64
#define CONFIG_PATH_SIZE     1024
#define CONFIG_MAX_PATHS     4
#define CONFIG_MAX_VIPS      8
#define CONFIG_MAX_RESOURCES 32

/* [node NAME] */
typedef struct ConfigNode
{
	char name[CONFIG_NAME_SIZE]; /* = tandem.node_name of its PostgreSQL */
	bool witness;                /* role = witness (else data) */
	bool dr;                     /* site = remote: asynchronous, never in the record (rule 22) */
	bool voter;                  /* default: on but for site = remote with profile = ha */
	int npaths;
	struct sockaddr_storage path[CONFIG_MAX_PATHS]; /* address = HOST[:PORT], ...; UDP */
	char conninfo[CONFIG_PATH_SIZE];      /* how others reach its PostgreSQL: host=... port=... */
	char fence[CONFIG_PATH_SIZE];         /* fence agent: path of the program */
	char fence_options[CONFIG_PATH_SIZE]; /* key=value lines for its standard input, ';' between */
} ConfigNode;

/* [vip] address = 10.0.0.100/24 dev eth0, ... */
typedef struct ConfigVip
{
	int family; /* AF_INET, AF_INET6 */
	uint8_t address[16];
	int prefix;
	char device[16];
} ConfigVip;

typedef enum ConfigResourceKind
{
	RESOURCE_SYSTEMD, /* systemd:UNIT */
	RESOURCE_OCF,     /* ocf:PROVIDER:NAME with OCF_RESKEY_ options */
	RESOURCE_LSB      /* lsb:NAME, /etc/init.d */
} ConfigResourceKind;

/* [resource NAME], started in the order of the file, stopped in the reverse order */
typedef struct ConfigResource
{
	char name[CONFIG_NAME_SIZE];
	ConfigResourceKind kind;
	char agent[CONFIG_PATH_SIZE];
	char options[CONFIG_PATH_SIZE];
	int64_t start_timeout; /* us */
	int64_t stop_timeout;
	int64_t monitor_interval; /* 0: not monitored */
	int restart_attempts;     /* then: hand over (on_failure = failover) or only say so (ignore) */
	bool failover;
} ConfigResource;

typedef struct Config
{
	char path[CONFIG_PATH_SIZE]; /* of the file */
	int self;
	int nnodes;
	ConfigNode node[FSM_MAX_NODES];

	/* [tandemd] */
	char cluster[CONFIG_NAME_SIZE];
	char state_directory[CONFIG_PATH_SIZE]; /* /var/lib/tandemd; durable */
	char run_directory[CONFIG_PATH_SIZE];   /* /run/pg_tandem; = tandem.watchdog_directory */
	char key_file[CONFIG_PATH_SIZE];        /* shared secret of the heartbeats */
	uint8_t key[64];
	size_t key_length;

	/* [failover]: becomes the FsmConfig */
	FsmConfig fsm;
	int64_t max_loss_bytes; /* profile dr: veto of an automatic failover; 0 = none */
	int64_t max_loss_us;

	/* [postgres] */
	char unit[CONFIG_PATH_SIZE]; /* postgresql@15-main.service; empty: pg_ctl */
	char bin_directory[CONFIG_PATH_SIZE];
	char data_directory[CONFIG_PATH_SIZE];
	char config_file[CONFIG_PATH_SIZE]; /* where it is not in the data directory; may be empty */
	char socket_directory[CONFIG_PATH_SIZE]; /* for the probe */
	int port;
	char os_user[CONFIG_NAME_SIZE]; /* owner of the data directory */
	char probe_user[CONFIG_NAME_SIZE];
	char probe_database[CONFIG_NAME_SIZE];
	char replication_user[CONFIG_NAME_SIZE]; /* for seed, rewind and primary_conninfo */
	char slot
		[CONFIG_NAME_SIZE]; /* primary_slot_name of this node as standby; config_default_slot() */
	char log_file[CONFIG_PATH_SIZE]; /* pg_ctl -l */
	int64_t start_timeout;           /* us */
	int64_t probe_interval;

	/* [vip], [resource], [watchdog] */
	int nvips;
	ConfigVip vip[CONFIG_MAX_VIPS];
	int nresources;
	ConfigResource resource[CONFIG_MAX_RESOURCES];
	enum
	{
		DEVICE_OFF,
		DEVICE_AUTO,
		DEVICE_REQUIRED
	} device;
	char device_path[CONFIG_PATH_SIZE]; /* /dev/watchdog */
	char event_hook[CONFIG_PATH_SIZE];  /* run at changes; may be empty */
} Config;

/*
 * Read and check the file and the key file.  node overrides the file's own node (NULL: as the file
 * says).  False with a message "FILE:LINE: SECTION.KEY: what is wrong" in error; *c is then
 * undefined.
 */
extern bool
config_read(Config *c, const char *path, const char *node, char *error, size_t error_size);
/* Without the key (key_length = 0), which is root's: for tandemctl. */
extern bool
config_read_public(Config *c, const char *path, const char *node, char *error, size_t error_size);
/* The number of a node by name, or -1. */
extern int config_node(const Config *c, const char *name);
/* Path of a file in run_directory: "<run_directory>/<node><suffix>". */
extern void config_run_path(const Config *c, const char *suffix, char *path, size_t size);
/* What a node's slot on the primary is called where "slot" does not say it: its name, with what a
 * slot's name may not contain made "_".  slot has CONFIG_NAME_SIZE bytes. */
extern void config_default_slot(const char *node, char *slot);
/* "10.0.0.100/24 dev eth0" (or an address of ours, "192.0.2.1:5443"), for messages. */
extern void config_vip_text(const ConfigVip *vip, char *text, size_t size);
extern void config_address_text(const struct sockaddr_storage *address, char *text, size_t size);
/* The i-th key there is, for the manual page's test: false after the last.  def: "" if it has no
 * default. */
extern bool config_key(int i, const char **section, const char **key, const char **def);

#endif /* TANDEM_CONFIG_H */
