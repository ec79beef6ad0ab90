/*
 * pg_bed.c
 *		See pg_bed.h.
 */
#include "pg_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pg_process.h"
#include "rights.h"

static char why_not[128];

static void
not_possible(void **state)
{
	(void) state;
	print_message("skipped: %s\n", why_not);
	skip();
}

static bool
is_possible(void)
{
	if (geteuid() != 0 || getpwnam("postgres") == NULL || bed_bin()[0] == '\0')
		strcpy(why_not, "starting a server needs root, a user postgres, and PostgreSQL");
	else if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		snprintf(why_not, sizeof(why_not), "no mount namespace: %s", strerror(errno));
	else if (rights_set("postgres") != 0)
		strcpy(why_not, "root without the capabilities to act for another user");
	return why_not[0] == '\0';
}

int
bed_run_tests(const char *name, const struct CMUnitTest *tests, size_t n)
{
	const struct CMUnitTest instead[] = {cmocka_unit_test(not_possible)};

	if (!is_possible())
		return cmocka_run_group_tests_name(name, instead, NULL, NULL);
	if (getenv("ONLY") != NULL)
		cmocka_set_test_filter(getenv("ONLY"));
	return _cmocka_run_group_tests(name, tests, n, NULL, NULL);
}

const char *
bed_bin(void)
{
	static char bin[256];
	FILE *f;

	if (bin[0] != '\0')
		return bin;
	f = popen(getenv("PG_CONFIG") != NULL ? "$PG_CONFIG --bindir" : "pg_config --bindir", "r");
	if (f != NULL && fgets(bin, sizeof(bin), f) != NULL)
		bin[strcspn(bin, "\n")] = '\0';
	if (f != NULL)
		pclose(f);
	return bin;
}

/* ---------- commands ---------- */

static bool
shell(bool loud, const char *format, va_list args)
{
	char command[4096];
	int status;

	vsnprintf(command, sizeof(command), format, args);
	status = system(command);
	if (loud && status != 0)
		fprintf(stderr, "failed (%d): %s\n", status, command);
	return status == 0;
}

void
bed_shell(const char *format, ...)
{
	va_list args;
	bool ok;

	va_start(args, format);
	ok = shell(true, format, args);
	va_end(args);
	assert_true(ok);
}

bool
bed_try(const char *format, ...)
{
	va_list args;
	bool ok;

	va_start(args, format);
	ok = shell(false, format, args);
	va_end(args);
	return ok;
}

#define AS "cd / && runuser -u postgres -- "

const char *
bed_ask(const Bed *b, int port, const char *query)
{
	static char answer[400];
	char command[2048];
	FILE *f;

	answer[0] = '\0';
	snprintf(
		command, sizeof(command),
		"%s env PGCONNECT_TIMEOUT=3 %s/psql -XAtq -h %s -p %d -d postgres -c \"%s\" 2>/dev/null",
		geteuid() == 0 ? AS : "cd / &&", bed_bin(), b->top, port, query);
	f = popen(command, "r");
	assert_non_null(f);
	if (fgets(answer, sizeof(answer), f) == NULL)
		answer[0] = '\0';
	answer[strcspn(answer, "\n")] = '\0';
	pclose(f);
	return answer;
}

int
bed_processes(const char *data)
{
	PgPlace place = {.path = data};
	PgProcesses found;
	int n;

	(void) pg_place_look(&place);
	assert_int_equal(pg_processes_find(&found, &place, NULL), 0);
	n = found.n;
	pg_processes_free(&found);
	return n;
}

/* ---------- the bed ---------- */

/*
 * A port that nobody listens on, and not the other one; below those that the kernel gives away by
 * itself: a server that is stopped and started again finds it free, whatever else runs meanwhile.
 */
static int
free_port(int other)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET};
	int port = other;
	uint16_t number;

	assert_true(fd >= 0);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int tries = 0; tries < 100; tries++)
	{
		assert_int_equal(getrandom(&number, sizeof(number), 0), sizeof(number));
		port = 10000 + number % 20000;
		a.sin_port = htons(port);
		if (port != other && bind(fd, (struct sockaddr *) &a, sizeof(a)) == 0)
			break;
		port = other;
	}
	close(fd);
	assert_int_not_equal(port, other);
	return port;
}

static void
write_conf(Bed *b)
{
	FILE *f = fopen(b->conf, "w");

	assert_non_null(f);
	fprintf(f,
			"[tandemd]\ncluster = test\nstate_directory = %s/state\nrun_directory = %s/run\n"
			"key_file = %s/key\n"
			"[node alpha]\naddress = 127.0.0.1:6001\nconninfo = host=127.0.0.1 port=%d\n"
			"[node beta]\naddress = 127.0.0.1:6002\nconninfo = host=127.0.0.1 port=%d\n"
			"[node gamma]\nrole = witness\naddress = 127.0.0.1:6003\n"
			"[failover]\nprobe_timeout = 2s\n"
			"[postgres]\nbin_directory = %s\nsocket_directory = %s\nstart_timeout = 20s\n"
			"probe_interval = 200ms\n"
			"[postgres alpha]\ndata_directory = %s\nport = %d\nlog_file = %s/alpha.log\n"
			"[postgres beta]\ndata_directory = %s\nport = %d\nlog_file = %s/beta.log\n",
			b->top, b->top, b->top, b->port, b->other_port, bed_bin(), b->top, b->data, b->port,
			b->top, b->other, b->other_port, b->top);
	fclose(f);
	bed_shell("head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \\n' >%s/key && chmod 600 %s/key",
			  b->top, b->top);
}

void
bed_open(Bed *b)
{
	char error[1000];

	/* servers that are killed leave shared memory: here it goes with this process and its children */
	if (unshare(CLONE_NEWIPC) != 0)
		fail_msg("unshare: %s", strerror(errno));
	memset(b, 0, sizeof(*b));
	strcpy(b->top, "/tmp/tandem-pg-XXXXXX");
	assert_non_null(mkdtemp(b->top));
	snprintf(b->conf, sizeof(b->conf), "%s/tandem.conf", b->top);
	snprintf(b->data, sizeof(b->data), "%s/alpha", b->top);
	snprintf(b->other, sizeof(b->other), "%s/beta", b->top);
	b->port = free_port(0);
	b->other_port = free_port(b->port);
	b->config = calloc(1, sizeof(Config));
	assert_non_null(b->config);
	bed_shell("chown postgres %s && chmod 755 %s && mkdir %s/state %s/run", b->top, b->top, b->top,
			  b->top);
	write_conf(b);
	if (!config_read(b->config, b->conf, "alpha", error, sizeof(error)))
		fail_msg("%s", error);
	assert_true(sd_event_new(&b->event) >= 0);
	{
		char path[128];

		snprintf(path, sizeof(path), "%s/run/alpha.lease", b->top);
		b->lease = lease_file_create(path, "alpha");
		assert_non_null(b->lease);
	}
}

/* Ends whatever runs in a data directory. */
static void
clear(const char *data)
{
	PgPlace place = {.path = data};
	PgProcesses found;

	if (!pg_place_look(&place))
		return;
	for (int i = 0; i < 100 && pg_processes_find(&found, &place, NULL) == 0; i++)
	{
		int n = found.n;

		pg_processes_kill(&found, &place, UINT64_MAX);
		pg_processes_free(&found);
		if (n == 0)
			break;
		usleep(20000);
	}
}

void
bed_close(Bed *b)
{
	bed_worker_stop(b);
	bed_leave(b);
	clear(b->data);
	clear(b->other);
	lease_file_close(b->lease);
	sd_event_unref(b->event);
	free(b->config);
	if (getenv("KEEP") == NULL)
		bed_try("rm -rf %s", b->top);
}

void
bed_set(const char *data, const char *line)
{
	bed_shell("echo \"%s\" >>%s/postgresql.conf", line, data);
}

void
bed_make_alpha(Bed *b)
{
	bed_shell(AS "%s/initdb -N -A trust -E UTF8 --locale=C -D %s >/dev/null", bed_bin(), b->data);
	bed_set(b->data, "listen_addresses = '127.0.0.1'");
	bed_shell("echo \"unix_socket_directories = '%s'\nport = %d\" >>%s/postgresql.conf", b->top,
			  b->port, b->data);
	/* mmap: a server that is killed leaves nothing behind in /dev/shm */
	bed_set(b->data, "shared_buffers = 8MB\nfsync = off\nmax_connections = 20\nwal_log_hints = on\n"
					 "dynamic_shared_memory_type = mmap\n"
					 "max_wal_size = 200MB\nwal_keep_size = 64MB");
}

void
bed_make_beta(Bed *b)
{
	bed_start(b, b->data);
	bed_shell(AS "%s/pg_basebackup -c fast -h 127.0.0.1 -p %d -D %s", bed_bin(), b->port, b->other);
	bed_shell(AS "touch %s/standby.signal && echo \"port = %d\nprimary_conninfo = 'host=127.0.0.1 "
				 "port=%d'\" >>%s/postgresql.conf",
			  b->other, b->other_port, b->port, b->other);
	bed_start(b, b->other);
	bed_shell(AS "%s/pg_ctl -w -s -D %s stop", bed_bin(), b->data);
	bed_shell(AS "%s/pg_ctl -w -s -D %s stop", bed_bin(), b->other);
}

void
bed_start(Bed *b, const char *data)
{
	bed_shell(AS "%s/pg_ctl -w -s -D %s -l %s.log start", bed_bin(), data, data);
	(void) b;
}

void
bed_promote_beta(Bed *b)
{
	bed_shell(AS "%s/pg_ctl -w -s -D %s promote", bed_bin(), b->other);
}

/* ---------- the room ---------- */

static void
on_changed(void *user)
{
	Bed *b = user;

	b->changes++;
}

static void
on_rebuilt(void *user, bool ok, const char *error)
{
	Bed *b = user;

	b->rebuilt = ok ? 1 : -1;
	snprintf(b->error, sizeof(b->error), "%s", ok ? "" : error);
}

static void
on_told(void *user, const char *kind, const char *text)
{
	Bed *b = user;
	size_t n = strlen(b->log);

	snprintf(b->log + n, sizeof(b->log) - n, "%s: %s\n", kind, text);
	if (getenv("LOUD") != NULL)
		fprintf(stderr, "    %s: %s\n", kind, text);
}

void
bed_manage(Bed *b)
{
	static const PostgresCallbacks callbacks = {on_changed, on_rebuilt, on_told};

	b->rebuilt = 0;
	assert_int_equal(postgres_new(&b->postgres, b->config, b->event, &callbacks, b), 0);
}

void
bed_leave(Bed *b)
{
	postgres_free(b->postgres);
	b->postgres = NULL;
}

void
bed_lease(Bed *b, uint64_t term, int64_t left)
{
	GateCell cell = {.term = term, .deadline = lease_file_now() + left, .floor = term};

	lease_file_write(b->lease, &cell);
}

void
bed_run(Bed *b, int64_t us)
{
	assert_true(sd_event_run(b->event, (uint64_t) us) >= 0);
}

void
bed_fail(Bed *b, const char *file, int line, const char *what)
{
	const PostgresLook *l = postgres_look(b->postgres);

	fprintf(stderr, "%s:%d: not reached: %s\nstate %d, postmaster %d, answered %d, text \"%s\"\n%s",
			file, line, what, l->state, (int) l->postmaster, l->answered, l->text, b->log);
	fail();
}

bool
bed_told(const Bed *b, const char *text)
{
	return strstr(b->log, text) != NULL;
}

void
bed_forget(Bed *b)
{
	b->log[0] = '\0';
}

/* ---------- the extension's worker ---------- */

static int
connect_to(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%.107s", path);
	if (connect(fd, (struct sockaddr *) &a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void
report(const Bed *b, int fd, int claim)
{
	WatchReport r = {.version = WATCH_VERSION, .size = sizeof(r)};
	PgPlace place = {.path = b->data};
	pid_t single;
	const char *answer;

	(void) pg_place_look(&place);
	r.postmaster = pg_postmaster_find(&place, &single);
	r.role = (WatchRole) claim;
	if (r.postmaster == 0)
		return;
	if (claim < 0)
	{
		answer = bed_ask(b, b->port, "SELECT pg_is_in_recovery()");
		r.role = answer[0] == 't'   ? WATCH_STANDBY
				 : answer[0] == 'f' ? WATCH_PRIMARY
									: WATCH_RECOVERING;
	}
	(void) send(fd, &r, sizeof(r), MSG_NOSIGNAL); /* if nobody is there, the next look finds out */
}

static _Noreturn void
worker(const Bed *b, int claim)
{
	const struct passwd *pw = getpwnam("postgres");
	char path[128];
	int fd = -1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0)
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(path, sizeof(path), "%s/run/alpha.socket", b->top);
	for (;;)
	{
		if (fd < 0)
			fd = connect_to(path);
		else if (recv(fd, path + sizeof(path) - 1, 1, MSG_DONTWAIT) == 0)
		{
			close(fd);
			fd = connect_to(path);
		}
		if (fd >= 0)
			report(b, fd, claim);
		usleep(50000);
	}
}

void
bed_worker_start(Bed *b, int role)
{
	bed_worker_stop(b);
	b->worker = fork();
	assert_true(b->worker >= 0);
	if (b->worker == 0)
		worker(b, role);
}

void
bed_worker_stop(Bed *b)
{
	if (b->worker > 0)
	{
		kill(b->worker, SIGKILL);
		waitpid(b->worker, NULL, 0);
	}
	b->worker = 0;
}
