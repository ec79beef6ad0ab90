/*-------------------------------------------------------------------------
 *
 * test_config.c
 *	  Tests of tandem.conf: units, every key's bad values, what must hold
 *	  between keys, the key file (watchdog/config.c and its helpers).
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "units.h"

#define TWO_NODES                          \
	"[node a]\n"                           \
	"address = 10.0.0.1, [fd00::1]:6000\n" \
	"conninfo = host=10.0.0.1 port=5432\n" \
	"[node b]\n"                           \
	"address = 10.0.0.2:5444\n"            \
	"conninfo = host=10.0.0.2\n"
#define WITNESS        \
	"[node w]\n"       \
	"role = witness\n" \
	"address = 10.0.0.3\n"
#define REST            \
	"[tandemd]\n"       \
	"cluster = books\n" \
	"[postgres]\n"      \
	"data_directory = /data\n"
#define BASE TWO_NODES WITNESS REST

static char directory[] = "/tmp/tandem-config-XXXXXX";
static char conf[64];
static char keyfile[64];
static char message[4096];

static void
put(const char *path, const char *text, size_t length, mode_t mode)
{
	int fd;

	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, length), length);
	close(fd);
	assert_int_equal(chmod(path, mode), 0);
}

static int
begin(void **state)
{
	(void) state;
	if (mkdtemp(directory) == NULL)
		return 1;
	snprintf(conf, sizeof(conf), "%s/tandem.conf", directory);
	snprintf(keyfile, sizeof(keyfile), "%s/key", directory);
	return 0;
}

static int
end(void **state)
{
	(void) state;
	unlink(conf);
	unlink(keyfile);
	return rmdir(directory);
}

static bool
read_text(Config *c, const char *text)
{
	bool own_node = strstr(text, "[tandemd]\nnode = ") != NULL ||
					strstr(text, "    node = ") != NULL;

	put(conf, text, strlen(text), 0644);
	message[0] = '\0';
	return config_read_public(c, conf, own_node ? NULL : "a", message, sizeof(message));
}

static void
good(Config *c, const char *text)
{
	if (!read_text(c, text))
		fail_msg("refused: %s", message);
}

/* line is that of the text; expected is how the message begins after it. */
static void
bad(const char *text, int line, const char *expected)
{
	Config c;
	char prefix[128];

	if (read_text(&c, text))
		fail_msg("taken, but expected: %s", expected);
	snprintf(prefix, sizeof(prefix), "%s:%d: ", conf, line);
	if (strncmp(message, prefix, strlen(prefix)) != 0 ||
		strncmp(message + strlen(prefix), expected, strlen(expected)) != 0)
		fail_msg("said: %s\nexpected: %s%s", message, prefix, expected);
}

static int
lines(const char *text)
{
	int n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

/* ---------- units ---------- */

static void
test_times(void **state)
{
	static const struct
	{
		const char *text;
		int64_t us;
		const char *back;
	} t[] = {
		{"500ms", 500000, "500ms"},
		{"0.5s", 500000, "500ms"},
		{"5 s", 5000000, "5s"},
		{"30min", INT64_C(1800000000), "30min"},
		{"1h", INT64_C(3600000000), "1h"},
		{"2d", INT64_C(172800000000), "2d"},
		{"90min", INT64_C(5400000000), "90min"},
		{"1.5s", 1500000, "1.5s"},
		{"1.036s", 1036000, "1.036s"},
		{"7us", 7, "7us"},
		{"0.000001s", 1, "1us"},
		{"0", 0, "0s"},
		{"0.1s", 100000, "100ms"},
	};
	static const char *const wrong[] = {"",
										"5",
										"s",
										"-1s",
										"1.s",
										".5s",
										"1.5.5s",
										"5 sec",
										"5S",
										"5m",
										"5ms ",
										"0.0001ms",
										"+1s",
										"1e3s",
										"0x5s",
										" 5s",
										"5s 3s",
										"5s3ms",
										"9223372036854775807s"};
	char buf[UNITS_TEXT_SIZE];
	int64_t us;

	(void) state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
	{
		if (!units_parse_time(t[i].text, &us))
			fail_msg("\"%s\" was refused", t[i].text);
		assert_true(us == t[i].us);
		assert_string_equal(units_time_text(us, buf), t[i].back);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		if (units_parse_time(wrong[i], &us))
			fail_msg("\"%s\" was taken for %lld us", wrong[i], (long long) us);
	}
}

static void
test_sizes(void **state)
{
	char buf[UNITS_TEXT_SIZE];
	int64_t n;

	(void) state;
	assert_true(units_parse_size("16MB", &n) && n == 16 << 20);
	assert_true(units_parse_size("1.5kB", &n) && n == 1536);
	assert_true(units_parse_size("2TB", &n) && n == INT64_C(2) << 40);
	assert_true(units_parse_size("12B", &n) && n == 12);
	assert_true(units_parse_size("0", &n) && n == 0);
	assert_false(units_parse_size("16", &n));
	assert_false(units_parse_size("16mb", &n));
	assert_false(units_parse_size("0.3B", &n));
	assert_false(units_parse_size("9000000TB", &n));
	assert_string_equal(units_size_text(0, buf), "0 B");
	assert_string_equal(units_size_text(1023, buf), "1023 B");
	assert_string_equal(units_size_text(1536, buf), "1.50 kB");
	assert_string_equal(units_size_text(INT64_C(20) << 20, buf), "20.0 MB");
	assert_string_equal(units_size_text(INT64_C(300) << 30, buf), "300 GB");
}

/* ---------- a good file ---------- */

static void
test_defaults(void **state)
{
	Config c;
	const struct sockaddr_in *v4;
	const struct sockaddr_in6 *v6;
	char text[128];

	(void) state;
	good(&c, BASE);
	assert_int_equal(c.nnodes, 3);
	assert_int_equal(c.self, 0);
	assert_int_equal(config_node(&c, "w"), 2);
	assert_int_equal(config_node(&c, "x"), -1);
	assert_true(c.node[2].witness && !c.node[0].witness);
	assert_int_equal(c.node[0].npaths, 2);
	v4 = (const struct sockaddr_in *) &c.node[0].path[0];
	assert_int_equal(ntohs(v4->sin_port), 5443);
	v6 = (const struct sockaddr_in6 *) &c.node[0].path[1];
	assert_int_equal(v6->sin6_family, AF_INET6);
	assert_int_equal(ntohs(v6->sin6_port), 6000);
	config_address_text(&c.node[0].path[1], text, sizeof(text));
	assert_string_equal(text, "[fd00::1]:6000");

	assert_string_equal(c.state_directory, "/var/lib/tandemd");
	assert_string_equal(c.run_directory, "/run/pg_tandem");
	config_run_path(&c, ".lease", text, sizeof(text));
	assert_string_equal(text, "/run/pg_tandem/a.lease");
	assert_string_equal(c.slot, "a");
	config_default_slot("Host-1.x", text);
	assert_string_equal(text, "host_1_x");
	assert_int_equal(c.key_length, 0);

	assert_int_equal(c.fsm.nnodes, 3);
	assert_int_equal(c.fsm.voters, 7);
	assert_int_equal(c.fsm.data, 3);
	assert_false(c.fsm.fence || c.fsm.dr || c.fsm.isolation_continue);
	assert_int_equal(c.fsm.timing.lease, 5000000);
	assert_int_equal(c.fsm.timing.heartbeat, 500000);
	assert_int_equal(c.fsm.timing.margin, 100000);
	assert_int_equal(c.fsm.timing.stop, 1000000);
	assert_int_equal(c.fsm.timing.validity, 3851485);
	assert_int_equal(c.fsm.restart_attempts, 3);
	assert_true(c.fsm.restart_window == INT64_C(1800000000));
	assert_null(fsm_check_config(&c.fsm));
}

static void
test_everything(void **state)
{
	static const char text[] = TWO_NODES
		"fence = /usr/sbin/fence_ipmilan\n"
		"fence_options = ip=10.9.0.2; username=tandem; password=a=b\n"
		"[node w]\nrole = witness\naddress = 10.0.0.3\n"
		"[node far]\nsite=remote\naddress: 10.1.0.1\nconninfo = host=10.1.0.1\n"
		"# a comment\n   ; another\n\n"
		"[ tandemd ]\n\tcluster = books\n    node = b\nevent_hook = /usr/bin/hook\n"
		"[failover]\nlease = 1.5s\nheartbeat = 0.3s\nmargin = 50ms\nstop_budget = 0.4s\n"
		"max_loss = 16MB\nmax_loss_time = 10s\n"
		"[postgres]\ndata_directory = /data\nport = 5432\n"
		"[postgres b]\nport = 6432\nslot = mine\n"
		"[postgres a]\nport = 7432\n"
		"[vip]\naddress = 10.0.0.100/24 dev eth0, fd00::100/64 dev eth1\n"
		"[vip b]\naddress = 10.0.0.100/24 dev ens3, 10.0.0.101 dev ens3\n"
		"[resource fs]\nagent = ocf:heartbeat:Filesystem\noptions = device=/dev/x;fstype=xfs\n"
		"[resource pooler]\nagent = systemd:pgbouncer\nrestart_attempts = 0\n"
		"on_failure = failover\nmonitor_interval = 0\n"
		"[resource old]\nagent = lsb:oldd\nstart_timeout = 2min\n"
		"[watchdog]\ndevice = required\npath = /dev/watchdog1\n";
	char with_fence[sizeof(text) + 100];
	char *p;
	Config c;

	(void) state;
	/* the other node needs an agent, too */
	strcpy(with_fence, text);
	p = strstr(with_fence, "[node b]");
	memmove(p + 15, p, strlen(p) + 1);
	memcpy(p, "fence = /bin/f\n", 15);
	good(&c, with_fence);
	assert_int_equal(c.self, 1);
	assert_true(c.fsm.fence);
	assert_string_equal(c.node[1].fence, "/usr/sbin/fence_ipmilan");
	assert_string_equal(c.node[1].fence_options, "ip=10.9.0.2; username=tandem; password=a=b");
	assert_true(c.node[3].dr);
	assert_false(c.node[3].voter);
	assert_int_equal(c.fsm.voters, 7);
	assert_int_equal(c.fsm.data, 11);
	assert_int_equal(c.fsm.timing.validity, 1035643);
	assert_int_equal(c.max_loss_bytes, 16 << 20);
	assert_int_equal(c.port, 6432);
	assert_string_equal(c.slot, "mine");
	assert_int_equal(c.nvips, 2);
	assert_string_equal(c.vip[0].device, "ens3");
	assert_int_equal(c.vip[1].prefix, 32);
	assert_int_equal(c.nresources, 3);
	assert_int_equal(c.resource[0].kind, RESOURCE_OCF);
	assert_string_equal(c.resource[0].agent, "heartbeat:Filesystem");
	assert_false(c.resource[0].failover);
	assert_string_equal(c.resource[1].agent, "pgbouncer.service");
	assert_true(c.resource[1].failover);
	assert_int_equal(c.resource[1].restart_attempts, 0);
	assert_int_equal(c.resource[1].monitor_interval, 0);
	assert_int_equal(c.resource[2].kind, RESOURCE_LSB);
	assert_int_equal(c.resource[2].start_timeout, 120000000);
	assert_int_equal(c.device, DEVICE_REQUIRED);
	assert_string_equal(c.device_path, "/dev/watchdog1");
}

static void
test_example(void **state)
{
	Config c;

	(void) state;
	if (!config_read_public(&c, "../../watchdog/tandem.conf.example", "beta", message,
							sizeof(message)))
		fail_msg("the example is refused: %s", message);
	assert_int_equal(c.nnodes, 3);
	assert_int_equal(c.device, DEVICE_AUTO);
}

/* ---------- what is wrong with one value ---------- */

/* A section is opened (after BASE), then the line follows. */
static const struct
{
	const char *section;
	const char *key;
	const char *value;
	const char *expected; /* after "SECTION.KEY: " */
} values[] = {
	{"tandemd a", "cluster", "two words", "\"two words\" is not a name"},
	{"tandemd a", "node", "1", "stands in [tandemd] only"},
	{"tandemd a", "state_directory", "var", "\"var\" is not an absolute path"},
	{"tandemd b", "run_directory", "./run", "\"./run\" is not an absolute path"},
	{"tandemd a", "key_file", "key", "\"key\" is not an absolute path"},
	{"tandemd a", "event_hook", "hook", "\"hook\" is not an absolute path"},
	{"failover", "profile", "hadr", "\"hadr\" is not one of: ha dr"},
	{"failover", "lease", "5", "\"5\" is not a time with a unit"},
	{"failover", "lease", "1s", "1s is not between 1.5s and 10min"},
	{"failover", "lease", "11min", "11min is not between"},
	{"failover", "heartbeat", "0", "0 is not between 10ms and 5min"},
	{"failover", "heartbeat", "half", "\"half\" is not a time"},
	{"failover", "margin", "0", "0 is not between 1ms and 5min"},
	{"failover", "stop_budget", "10ms", "10ms is not between 100ms and 5min"},
	{"failover", "peer_timeout", "1", "\"1\" is not a time"},
	{"failover", "probe_timeout", "0", "0 is not between 500ms"},
	{"failover", "retry_interval", "x", "\"x\" is not a time"},
	{"failover", "restart_attempts", "-1", "-1 is not between 0 and 1000"},
	{"failover", "restart_attempts", "3x", "\"3x\" is not a whole number"},
	{"failover", "restart_window", "30m", "\"30m\" is not a time"},
	{"failover", "on_isolation", "go", "\"go\" is not one of: stall continue"},
	{"failover", "confirm_timeout", "600", "\"600\" is not a time"},
	{"failover", "confirm_default", "yes", "\"yes\" is not one of: wait failover"},
	{"failover", "confirm_without_majority", "on", "\"on\" is not one of: refuse proceed"},
	{"failover", "max_loss", "16", "\"16\" is not a size with a unit"},
	{"failover", "max_loss_time", "16", "\"16\" is not a time"},
	{"postgres a", "unit", "a b.service", "\"a b.service\" is not a name"},
	{"postgres a", "bin_directory", "bin", "\"bin\" is not an absolute path"},
	{"postgres b", "data_directory", "data", "\"data\" is not an absolute path"},
	{"postgres a", "config_file", "x.conf", "\"x.conf\" is not an absolute path"},
	{"postgres a", "socket_directory", "tmp", "\"tmp\" is not an absolute path"},
	{"postgres a", "port", "0", "0 is not between 1 and 65535"},
	{"postgres a", "port", "65536", "65536 is not between"},
	{"postgres a", "port", "99999999999999999999",
	 "\"99999999999999999999\" is not a whole number"},
	{"postgres a", "os_user", "a b", "\"a b\" is not a name"},
	{"postgres a", "probe_user", "a'b", "\"a'b\" is not a name"},
	{"postgres a", "probe_database", "a/b", "\"a/b\" is not a name"},
	{"postgres a", "replication_user", "a b", "\"a b\" is not a name"},
	{"postgres a", "slot", "a b", "\"a b\" is not a name"},
	{"postgres a", "log_file", "log", "\"log\" is not an absolute path"},
	{"postgres a", "start_timeout", "10ms", "10ms is not between 1s"},
	{"postgres a", "probe_interval", "1h", "1h is not between"},
	{"vip", "address", "10.0.0.100", "\"10.0.0.100\" is not ADDRESS/PREFIX dev DEVICE"},
	{"vip", "address", "10.0.0.100/33 dev eth0", "\"33\" is not the length of a prefix (1 to 32)"},
	{"vip", "address", "10.0.0.100/ dev eth0", "\"\" is not the length of a prefix"},
	{"vip", "address", "fd00::1/129 dev eth0", "\"129\" is not the length of a prefix (1 to 128)"},
	{"vip", "address", "127.0.0.1/8 dev lo", "\"127.0.0.1\" is not an IP address that can move"},
	{"vip", "address", "fe80::1/64 dev eth0", "\"fe80::1\" is not an IP address that can move"},
	{"vip", "address", "224.0.0.1 dev eth0", "\"224.0.0.1\" is not an IP address that can move"},
	{"vip", "address", "host/24 dev eth0", "\"host\" is not an IP address"},
	{"vip", "address", "10.0.0.1/24 dev abcdefghijklmnop", "\"abcdefghijklmnop\" is not the name"},
	{"vip", "address", "10.0.0.1 dev e, 10.0.0.1 dev f", "\"10.0.0.1 dev f\" is there twice"},
	{"vip", "address", "10.0.0.1 dev e,", "\"\" is not ADDRESS/PREFIX dev DEVICE"},
	{"watchdog", "device", "on", "\"on\" is not one of: off auto required"},
	{"watchdog", "path", "watchdog", "\"watchdog\" is not an absolute path"},
	{"node x", "role", "primary", "\"primary\" is not one of: data witness"},
	{"node x", "site", "far", "\"far\" is not one of: local remote"},
	{"node x", "voter", "yes", "\"yes\" is not one of: off on"},
	{"node x", "address", "db1", "\"db1\" is not an IP address (names are not taken"},
	{"node x", "address", "10.0.0.9:0", "\"0\" is not a port"},
	{"node x", "address", "10.0.0.9:70000", "\"70000\" is not a port"},
	{"node x", "address", "[fd00::9", "\"[fd00::9\" is not [ADDRESS]:PORT"},
	{"node x", "address", "0.0.0.0", "\"0.0.0.0\" is not the address of a node"},
	{"node x", "address", "fe80::1", "\"fe80::1\" is not the address of a node"},
	{"node x", "address", "10.0.0.9, 10.0.0.9", "\"10.0.0.9\" is there twice"},
	{"node x", "address", "1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5", "more than 4 addresses"},
	{"node x", "conninfo", "host=x prot=1", "invalid connection option \"prot\""},
	{"node x", "conninfo", "port=1", "names no host"},
	{"node x", "fence", "fence_ipmilan", "\"fence_ipmilan\" is not an absolute path"},
	{"node x", "fence_options", "ip", "\"ip\" is not NAME=VALUE"},
	{"node x", "fence_options", "i p=1", "\"i p\" is not the name of an option"},
	{"resource x", "agent", "pgbouncer", "\"pgbouncer\" is not systemd:UNIT, ocf:PROVIDER:NAME"},
	{"resource x", "agent", "ocf:heartbeat", "\"ocf:heartbeat\" is not"},
	{"resource x", "agent", "ocf:../../bin:sh", "\"ocf:../../bin:sh\" is not"},
	{"resource x", "agent", "lsb:../sh", "\"lsb:../sh\" is not"},
	{"resource x", "agent", "systemd:", "\"systemd:\" is not"},
	{"resource x", "options", "a=1; b", "\"b\" is not NAME=VALUE"},
	{"resource x", "start_timeout", "30", "\"30\" is not a time"},
	{"resource x", "stop_timeout", "0", "0 is not between 100ms"},
	{"resource x", "monitor_interval", "10", "\"10\" is not a time"},
	{"resource x", "restart_attempts", "many", "\"many\" is not a whole number"},
	{"resource x", "on_failure", "stop", "\"stop\" is not one of: ignore failover"},
};
#define NVALUES (sizeof(values) / sizeof(values[0]))

static void
test_bad_values(void **state)
{
	char text[4096];
	char expected[512];

	(void) state;
	for (size_t i = 0; i < NVALUES; i++)
	{
		snprintf(text, sizeof(text), BASE "[%s]\n%s = %s\n", values[i].section, values[i].key,
				 values[i].value);
		snprintf(expected, sizeof(expected), "%s.%s: %s", values[i].section, values[i].key,
				 values[i].expected);
		bad(text, lines(BASE) + 2, expected);
	}
}

/* Each key is in the table above, and is refused empty, twice, and with a comment behind it. */
static void
test_every_key(void **state)
{
	const char *section;
	const char *key;
	const char *def;
	char text[4096];
	char expected[512];
	int n = 0;

	(void) state;
	for (int i = 0; config_key(i, &section, &key, &def); i++)
	{
		const char *opened = NULL;

		for (size_t v = 0; v < NVALUES; v++)
		{
			if (strcmp(values[v].key, key) == 0 &&
				strncmp(values[v].section, section, strlen(section)) == 0)
				opened = values[v].section;
		}
		if (opened == NULL)
			fail_msg("no bad value of %s.%s is tested", section, key);
		snprintf(text, sizeof(text), BASE "[%s]\n%s =\n", opened, key);
		snprintf(expected, sizeof(expected), "%s.%s: has no value", opened, key);
		bad(text, lines(BASE) + 2, expected);
		snprintf(text, sizeof(text), BASE "[%s]\n%s = 1\n\n%s = 2\n", opened, key, key);
		snprintf(expected, sizeof(expected), "%s.%s: is set already, in line %d", opened, key,
				 lines(BASE) + 2);
		bad(text, lines(BASE) + 4, expected);
		snprintf(text, sizeof(text), BASE "[%s]\n%s = 1 # one\n", opened, key);
		snprintf(expected, sizeof(expected), "%s.%s: a comment stands in a line of its own", opened,
				 key);
		bad(text, lines(BASE) + 2, expected);
		n++;
	}
	assert_true(n > 45);
}

/* The manual page has every key in bold: alone, before its default, or in a list of keys. */
static void
test_manual_page(void **state)
{
	FILE *f = fopen("../../watchdog/man/tandem.conf.5", "r");
	static char page[65536];
	const char *section;
	const char *key;
	const char *def;
	size_t n;

	(void) state;
	assert_non_null(f);
	n = fread(page, 1, sizeof(page) - 1, f);
	fclose(f);
	page[n] = '\0';
	for (int i = 0; config_key(i, &section, &key, &def); i++)
	{
		char title[64];
		char alone[80];
		char first[80];
		char later[80];
		char *from;
		char *to;
		char saved;

		snprintf(title, sizeof(title), "\n.SH [%s%s]\n", section,
				 strcmp(section, "node") == 0 || strcmp(section, "resource") == 0 ? " NAME" : "");
		from = strstr(page, title);
		if (from == NULL)
		{
			fail_msg("no section [%s] in tandem.conf.5", section);
			return;
		}
		to = strstr(from + 1, "\n.SH ");
		assert_non_null(to);
		saved = *to;
		*to = '\0';
		snprintf(alone, sizeof(alone), "\n.B %s\n", key);
		snprintf(first, sizeof(first), "\n.BR %s \"", key);
		snprintf(later, sizeof(later), "\", \" %s \"", key);
		if (strstr(from, alone) == NULL && strstr(from, first) == NULL &&
			strstr(from, later) == NULL)
			fail_msg("%s.%s is not in tandem.conf.5", section, key);
		*to = saved;
	}
}

/* ---------- what is wrong with the file ---------- */

static void
test_bad_files(void **state)
{
	char text[20000];
	Config c;

	(void) state;
	bad("cluster = x\n" BASE, 1, "cluster: is in no section");
	bad(BASE "[nodes]\n", lines(BASE) + 1, "nodes: there is no such section");
	bad(BASE "[nodes]\na = b\n", lines(BASE) + 1, "nodes: there is no such section");
	bad(BASE "[failover]\nleas = 5s\n", lines(BASE) + 2, "failover.leas: there is no such setting");
	bad(BASE "[failover]\nLease = 5s\n", lines(BASE) + 2, "failover.Lease: there is no such");
	bad(BASE "[failover a]\nlease = 5s\n", lines(BASE) + 1, "failover a: holds for all nodes");
	bad(BASE "[node]\n", lines(BASE) + 1, "node: needs a name: [node NAME]");
	bad(BASE "[resource]\n", lines(BASE) + 1, "resource: needs a name");
	bad(BASE "[node a b]\n", lines(BASE) + 1, "node a b: a name is made of");
	bad(BASE "[postgres x]\nport = 1\n", lines(BASE) + 1,
		"postgres x: there is no section [node x]");
	bad(BASE "[node a]\n", lines(BASE) + 1, "[node a]: is there already, in line 1");
	bad(BASE "[postgres]\n", lines(BASE) + 1, "[postgres]: is there already");
	bad(BASE "[failover\n", lines(BASE) + 1, "a section ends with \"]\"");
	bad(BASE "[failover] lease = 5s\n", lines(BASE) + 1, "nothing may follow the \"]\"");
	bad(BASE "[]\n", lines(BASE) + 1, "a section needs a name");
	bad(BASE "[failover]\nlease\n", lines(BASE) + 2, "is neither a [section] nor a setting");
	bad(BASE "[failover]\n= 5s\n", lines(BASE) + 2, "a setting needs a name");
	bad(BASE "[failover]\nlease = 5s\n  heartbeat = x\n", lines(BASE) + 3,
		"failover.heartbeat: \"x\" is not a time"); /* indented: not more of the line before */
	snprintf(text, sizeof(text), BASE "[failover]\nlease = %09000d\n", 1);
	bad(text, lines(BASE) + 2, "line is too long");
	memset(text, 'x', sizeof(text));
	snprintf(text, sizeof(text), BASE "[tandemd a]\nstate_directory = /%01500d\n", 1);
	bad(text, lines(BASE) + 2, "tandemd a.state_directory: is longer than 1023 characters");
	bad("", 1, "node: there is no section [node NAME]");

	put(conf, BASE "[failover]\nlea\0se = 5s\n", sizeof(BASE) + 23, 0644);
	assert_false(config_read_public(&c, conf, "a", message, sizeof(message)));
	assert_false(config_read_public(&c, "/nonexistent/x", "a", message, sizeof(message)));
	assert_string_equal(message,
						"could not open file \"/nonexistent/x\": No such file or directory");
}

/* ---------- what must hold between the keys ---------- */

static void
test_timing(void **state)
{
	Config c;
	char text[2048];
	int at = lines(BASE) + 2;

	(void) state;
	bad(BASE "[failover]\nlease = 1.5s\nheartbeat = 0.5s\n", at + 1,
		"failover.heartbeat: heartbeat <= V / 3 does not hold: V = (lease - margin) / 1.01 - "
		"stop_budget is 386ms with lease 1.5s, margin 100ms, stop_budget 1s; so heartbeat, now "
		"500ms, may be 128ms at most");
	bad(BASE "[failover]\nlease = 1.5s\n", at, "failover.lease: heartbeat <= V / 3 does not hold");
	bad(BASE "[failover]\nlease = 1.5s\nheartbeat = 0.5s\nmargin = 50ms\nstop_budget = 0.4s\n",
		at + 1, "failover.heartbeat: heartbeat <= V / 3 does not hold");
	good(&c,
		 BASE "[failover]\nlease = 1.5s\nheartbeat = 0.3s\nmargin = 50ms\nstop_budget = 0.4s\n");
	bad(BASE "[failover]\nstop_budget = 5s\n", at,
		"failover.stop_budget: lease, margin, stop budget, heartbeat and V = (lease - margin)");
	bad(BASE "[failover]\nlease = 2s\nmargin = 3s\n", at, "failover.lease: lease, margin, stop");
	/* the bound itself: V / 3 = 1283828 us */
	good(&c, BASE "[failover]\nheartbeat = 1283828us\n");
	bad(BASE "[failover]\nheartbeat = 1283829us\n", at, "failover.heartbeat: heartbeat <= V / 3");
	bad(BASE "[failover]\nprobe_timeout = 1s\n", lines(TWO_NODES WITNESS) + 3,
		"postgres.probe_interval: must be shorter than failover.probe_timeout");
	/* whatever is taken is safe */
	for (int lease = 1500; lease < 20000; lease += 500)
	{
		for (int heartbeat = 50; heartbeat < 2000; heartbeat += 150)
		{
			snprintf(text, sizeof(text), BASE "[failover]\nlease = %dms\nheartbeat = %dms\n", lease,
					 heartbeat);
			if (read_text(&c, text))
				assert_int_equal(fsm_check_timing(&c.fsm.timing), FSM_TIMING_OK);
		}
	}
}

static void
test_nodes(void **state)
{
	Config c;
	int at = lines(BASE);

	(void) state;
	bad("[node a]\nconninfo = host=x\n", 1, "node a.address: must be set");
	bad("[node a]\naddress = 1.2.3.4\n", 1, "node a.conninfo: must be set (but for a witness)");
	bad("[node w]\nrole = witness\naddress = 1.2.3.4\nconninfo = host=x\n" REST TWO_NODES, 4,
		"node w.conninfo: has no meaning for a witness");
	bad("[node w]\nrole = witness\naddress = 1.2.3.4\nsite = remote\n" REST TWO_NODES, 4,
		"node w.site: has no meaning for a witness");
	bad("[node w]\nrole = witness\naddress = 1.2.3.4\nvoter = off\n" REST TWO_NODES, 4,
		"node w.voter: a witness does nothing but vote");
	bad(BASE "[node x]\naddress = 10.0.0.2:5444\nconninfo = host=x\n", at + 2,
		"node x.address: is that of node b, too");
	bad(BASE "[node x]\naddress = 10.0.0.4\nconninfo = host=x\nfence_options = a=b\n", at + 4,
		"node x.fence_options: there is no fence agent");
	bad(BASE "[node x]\naddress = 10.0.0.4\nconninfo = host=x\nfence = /bin/f\n"
			 "fence_options = a=b; action=reboot\n",
		at + 5, "node x.fence_options: the action is chosen by tandemd");
	bad(BASE "[node x]\naddress = 10.0.0.4\nconninfo = host=x\nfence = /bin/f\n", 1,
		"node a.fence: is missing: other nodes have a fence agent");
	bad("[node a]\naddress = 1.2.3.4\nconninfo = host=x\n" REST, 1,
		"failover: at least two voters are needed");
	bad(BASE "[failover]\non_isolation = continue\n", at + 2,
		"failover.on_isolation: on_isolation = continue is refused with a witness");
	good(&c, TWO_NODES REST "[failover]\non_isolation = continue\n");
	assert_true(c.fsm.isolation_continue);
	bad("[tandemd]\n[postgres]\ndata_directory = /d\n" TWO_NODES, 1,
		"tandemd.cluster: must be set");
	bad("[tandemd]\ncluster = x\n" TWO_NODES WITNESS, 1,
		"postgres.data_directory: must be set on a node with data");
	good(&c, "[tandemd]\nnode = w\ncluster = x\n" TWO_NODES WITNESS);
	assert_int_equal(c.self, 2);
	bad("[tandemd]\nnode = q\ncluster = x\n" TWO_NODES WITNESS, 2,
		"tandemd.node: there is no section [node q]");
	bad(BASE "[resource r]\nstop_timeout = 1s\n", at + 1, "resource r.agent: must be set");
	bad(BASE "[resource r]\nagent = lsb:x\noptions = a=b\n", at + 3,
		"resource r.options: only an ocf: agent takes options");
	bad(BASE "[postgres a]\nslot = Mine\n", lines(TWO_NODES WITNESS) + 3,
		"postgres.slot: \"Mine\"");
}

/* A remote node votes where it is one of the pair (profile dr), not where it is a third. */
static void
test_remote(void **state)
{
	static const char remote[] = "[node r]\nsite = remote\naddress = 10.2.0.1\nconninfo = host=r\n";
	char text[4096];
	Config c;

	(void) state;
	snprintf(text, sizeof(text), BASE "%s", remote);
	good(&c, text);
	assert_int_equal(c.fsm.voters, 7);
	assert_false(c.fsm.any_dr);
	snprintf(text, sizeof(text), BASE "%s[failover]\nprofile = dr\nconfirm_timeout = 10s\n",
			 remote);
	good(&c, text);
	assert_int_equal(c.fsm.voters, 15);
	assert_true(c.fsm.dr && c.fsm.any_dr);
	snprintf(text, sizeof(text), BASE "%svoter = on\n", remote);
	good(&c, text);
	assert_int_equal(c.fsm.voters, 15);
	assert_true(!c.fsm.dr && c.fsm.any_dr); /* this node needs no word, but another voter does */
}

static void
test_node_argument(void **state)
{
	static const char text[] = "[tandemd]\nnode = a\ncluster = x\n"
							   "[postgres]\ndata_directory = /d\n" TWO_NODES WITNESS;
	char host[256];
	char named[4096];
	Config c;

	(void) state;
	put(conf, text, strlen(text), 0644);
	assert_true(config_read_public(&c, conf, NULL, message, sizeof(message)));
	assert_int_equal(c.self, 0);
	assert_true(config_read_public(&c, conf, "b", message, sizeof(message)));
	assert_int_equal(c.self, 1);
	assert_false(config_read_public(&c, conf, "z", message, sizeof(message)));
	assert_non_null(strstr(message, "there is no section [node z] for the node"));

	put(conf, BASE, strlen(BASE), 0644);
	assert_false(config_read_public(&c, conf, NULL, message, sizeof(message)));
	assert_non_null(strstr(message, "tandemd.node: is not set, and no [node NAME] has the name"));
	assert_int_equal(gethostname(host, sizeof(host)), 0);
	snprintf(named, sizeof(named), BASE "[node %s]\naddress = 10.7.7.7\nconninfo = host=x\n", host);
	put(conf, named, strlen(named), 0644);
	if (!config_read_public(&c, conf, NULL, message, sizeof(message)))
		fail_msg("refused: %s", message);
	assert_int_equal(c.self, 3);
}

/* ---------- the key ---------- */

static void
key_refused(const char *expected)
{
	Config c;

	assert_false(config_read(&c, conf, "a", message, sizeof(message)));
	if (strstr(message, expected) == NULL)
		fail_msg("said: %s\nexpected: %s", message, expected);
	assert_non_null(strstr(message, "tandemd.key_file: "));
}

static void
test_key(void **state)
{
	static const char key[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
							  "!\n";
	char text[4096];
	Config c;

	(void) state;
	snprintf(text, sizeof(text), BASE "[tandemd a]\nkey_file = %s\n", keyfile);
	put(conf, text, strlen(text), 0644);

	unlink(keyfile);
	key_refused("No such file or directory");
	put(keyfile, "0123456789abcdef\n", 17, 0600);
	assert_true(config_read(&c, conf, "a", message, sizeof(message)));
	assert_int_equal(c.key_length, 16);
	assert_memory_equal(c.key, "0123456789abcdef", 16);
	put(keyfile, "0123456789abcde\n", 16, 0600);
	key_refused("has 15 bytes; a key has 16 to 64");
	put(keyfile, "", 0, 0600);
	key_refused("has 0 bytes");
	put(keyfile, key, 64, 0600);
	assert_true(config_read(&c, conf, "a", message, sizeof(message)));
	assert_int_equal(c.key_length, 64);
	put(keyfile, key, 65, 0600);
	key_refused("has more than the 64 bytes");
	put(keyfile, key, 66, 0600);
	key_refused("has more than the 64 bytes");
	put(keyfile, key, 32, 0640);
	key_refused("must belong to root and be closed to all others (mode 0600)");
	put(keyfile, key, 32, 0604);
	key_refused("must belong to root");
	put(keyfile, key, 32, 0400);
	assert_true(config_read(&c, conf, "a", message, sizeof(message)));
	if (geteuid() == 0)
	{
		assert_int_equal(chown(keyfile, 1, 1), 0);
		key_refused("must belong to root");
	}
	unlink(keyfile);
	assert_int_equal(mkdir(keyfile, 0700), 0);
	key_refused("is not a file");
	assert_int_equal(rmdir(keyfile), 0);
	/* tandemctl does without */
	assert_true(config_read_public(&c, conf, "a", message, sizeof(message)));
	assert_int_equal(c.key_length, 0);
}

/* Bytes of any kind are refused or taken, and no more. */
static void
test_garbage(void **state)
{
	static const char base[] = BASE "[vip]\naddress = 10.0.0.100/24 dev eth0\n";
	char text[sizeof(base)];
	unsigned seed = 1;
	Config c;

	(void) state;
	for (int i = 0; i < 3000; i++)
	{
		memcpy(text, base, sizeof(base));
		for (int n = 0; n < 1 + i % 5; n++)
		{
			seed = seed * 1103515245u + 12345u;
			text[(seed >> 8) % (sizeof(base) - 1)] = (char) (seed >> 24);
		}
		put(conf, text, sizeof(base) - 1, 0644);
		message[0] = '\0';
		if (!config_read_public(&c, conf, "a", message, sizeof(message)))
			assert_non_null(strstr(message, conf));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times),         cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_defaults),      cmocka_unit_test(test_everything),
		cmocka_unit_test(test_example),       cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_every_key),     cmocka_unit_test(test_manual_page),
		cmocka_unit_test(test_bad_files),     cmocka_unit_test(test_timing),
		cmocka_unit_test(test_nodes),         cmocka_unit_test(test_remote),
		cmocka_unit_test(test_node_argument), cmocka_unit_test(test_key),
		cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
