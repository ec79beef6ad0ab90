/*-------------------------------------------------------------------------
 *
 * test_vip.c
 *	  Tests of the virtual addresses (watchdog/vip.c, arp.c, ndisc.c,
 *	  netlink.c) between two network namespaces of our own: "us" and a
 *	  neighbour, joined by a veth pair.  As root; nothing outside is touched,
 *	  and everything goes with this process.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arp.h"
#include "ndisc.h"
#include "vip.h"

#define MS  INT64_C(1000)
#define SEC INT64_C(1000000)

#define V4  "10.9.0.100"
#define V6  "fd09::100"

static pid_t neighbour; /* keeps the other namespace */
static sd_event *event;
static Config config;
static Vip *vip;
static struct
{
	int n; /* calls */
	VipState state;
	char text[512];
} told[2];

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * SEC + t.tv_nsec / 1000;
}

static void
sh(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

/* What a command prints, its first 2 kB. */
static const char *
output(const char *format, ...)
{
	static char text[2048];
	char command[512];
	va_list args;
	FILE *f;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	f = popen(command, "r");
	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	pclose(f);
	return text;
}

static bool
present(const char *address)
{
	return strstr(output("ip -o addr show dev tv0 to %s", address), address) != NULL;
}

/* Seconds the kernel will still keep it. */
static int
valid(const char *address)
{
	const char *p = strstr(output("ip -o addr show dev tv0 to %s", address), "valid_lft ");

	return p != NULL ? atoi(p + 10) : -1;
}

/* Does the neighbour know the address with this hardware address? */
static bool
neighbour_has(const char *address, const char *hw)
{
	return strstr(output("nsenter -t %d -n ip neigh show %s dev tv1", (int) neighbour, address),
				  hw) != NULL;
}

static const char *
our_hw(void)
{
	static char hw[32];

	snprintf(hw, sizeof(hw), "%s", output("cat /sys/class/net/tv0/address 2>/dev/null"));
	if (hw[0] == '\0' || strstr(hw, ":") == NULL)
	{
		const char *p = strstr(output("ip -o link show tv0"), "link/ether ");

		assert_non_null(p);
		snprintf(hw, sizeof(hw), "%.17s", p + 11);
	}
	hw[strcspn(hw, "\n")] = '\0';
	return hw;
}

static void
on_told(void *user, int index, VipState state, const char *text)
{
	(void) user;
	told[index].n++;
	told[index].state = state;
	snprintf(told[index].text, sizeof(told[index].text), "%s", text);
}

static VipState
state_of(int index)
{
	const char *text;

	return vip_state(vip, index, &text);
}

/* Run the loop for so long at most, holding the addresses if hold is not 0; true: until both are
 * in this state. */
static bool
run_until(VipState state, int64_t limit, int64_t hold)
{
	int64_t end = now_us() + limit;

	while (now_us() < end)
	{
		if (hold != 0)
			vip_hold(vip, now_us() + hold);
		if (state_of(0) == state && state_of(1) == state)
			return true;
		sd_event_run(event, 20 * MS);
	}
	return false;
}

static void
run_for(int64_t time)
{
	int64_t end = now_us() + time;

	while (now_us() < end)
		sd_event_run(event, 10 * MS);
}

static void
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
	{
		if (write(fd, text, strlen(text)) < 0)
			fprintf(stderr, "could not write %s\n", path);
		close(fd);
	}
}

/* Link-local addresses at once, not after a second of duplicate address detection. */
static void
no_dad(void)
{
	write_file("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
	write_file("/proc/sys/net/ipv6/conf/all/accept_dad", "0");
}

static int
begin(void **state)
{
	int pipes[2];
	char c;

	(void) state;
	if (geteuid() != 0)
		return 0;
	if (unshare(CLONE_NEWNET) != 0 || pipe(pipes) != 0)
		return 1;
	no_dad();
	neighbour = fork();
	if (neighbour == 0)
	{
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) != 0)
			_exit(1);
		no_dad();
		if (write(pipes[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(pipes[0], &c, 1) != 1)
		return 1;
	close(pipes[0]);
	close(pipes[1]);
	sh("ip link add tv0 type veth peer name tv1 netns %d", (int) neighbour);
	sh("ip link set lo up && ip link set tv0 up && ip addr add 10.9.0.1/24 dev tv0 && "
	   "ip addr add fd09::1/64 dev tv0 nodad");
	sh("nsenter -t %d -n sh -c 'ip link set lo up && ip link set tv1 up && "
	   "ip addr add 10.9.0.2/24 dev tv1 && ip addr add fd09::2/64 dev tv1 nodad'",
	   (int) neighbour);
	config.nvips = 2;
	config.vip[0] = (ConfigVip){.family = AF_INET, .prefix = 24, .device = "tv0"};
	config.vip[1] = (ConfigVip){.family = AF_INET6, .prefix = 64, .device = "tv0"};
	inet_pton(AF_INET, V4, config.vip[0].address);
	inet_pton(AF_INET6, V6, config.vip[1].address);
	return sd_event_new(&event) < 0;
}

static int
end(void **state)
{
	(void) state;
	if (neighbour > 0)
	{
		kill(neighbour, SIGKILL);
		waitpid(neighbour, NULL, 0);
		sd_event_unref(event);
	}
	return 0;
}

/* Each test has a Vip of its own and a neighbour without memory. */
static int
each(void **state)
{
	(void) state;
	if (geteuid() != 0)
		return 0;
	memset(told, 0, sizeof(told));
	sh("nsenter -t %d -n ip neigh flush dev tv1", (int) neighbour);
	return vip_new(&vip, &config, event, on_told, NULL);
}

static int
after_each(void **state)
{
	(void) state;
	if (geteuid() != 0)
		return 0;
	vip_remove(vip);
	vip_free(vip);
	return present(V4) || present(V6);
}

static void
need_root(void)
{
	if (geteuid() != 0)
	{
		print_message("skipped: needs root\n");
		skip();
	}
}

/* ---------- tests ---------- */

static void
test_add(void **state)
{
	int64_t begin = now_us();

	(void) state;
	need_root();
	/* what the neighbour believes now is wrong */
	sh("nsenter -t %d -n sh -c 'ip neigh replace " V4
	   " lladdr 02:00:00:00:00:99 dev tv1 nud stale && "
	   "ip neigh replace " V6 " lladdr 02:00:00:00:00:99 dev tv1 nud stale'",
	   (int) neighbour);
	vip_hold(vip, now_us() + 3 * SEC);
	assert_int_equal(state_of(0), VIP_PROBING);
	assert_false(present(V4) || present(V6));
	assert_true(run_until(VIP_ON, SEC, 0));
	print_message("on after %d ms\n", (int) ((now_us() - begin) / MS));
	assert_true(now_us() - begin < 300 * MS);
	assert_true(present(V4) && present(V6));
	assert_in_range(valid(V4), 1, 3);
	assert_in_range(valid(V6), 1, 3);
	/* our own connections do not come from it */
	assert_non_null(strstr(output("ip -o addr show dev tv0 to " V6), "deprecated"));
	assert_null(strstr(output("ip -o addr show dev tv0 to " V6), "tentative"));
	run_for(200 * MS);
	assert_true(neighbour_has(V4, our_hw()));
	assert_true(neighbour_has(V6, our_hw()));
	sh("nsenter -t %d -n ping -q -c 1 -W 2 " V4 " >/dev/null", (int) neighbour);
	sh("nsenter -t %d -n ping -q -c 1 -W 2 " V6 " >/dev/null", (int) neighbour);
	assert_string_equal(told[0].text, V4 "/24 dev tv0 added");
	assert_string_equal(told[1].text, V6 "/64 dev tv0 added");
	assert_int_equal(told[0].n, 2);
}

/* A neighbour that missed the first burst gets the second. */
static void
test_second_burst(void **state)
{
	int64_t begin;

	(void) state;
	need_root();
	assert_true(run_until(VIP_ON, SEC, 10 * SEC));
	begin = now_us();
	run_for(300 * MS);
	sh("nsenter -t %d -n sh -c 'ip neigh replace " V4
	   " lladdr 02:00:00:00:00:99 dev tv1 nud stale && "
	   "ip neigh replace " V6 " lladdr 02:00:00:00:00:99 dev tv1 nud stale'",
	   (int) neighbour);
	run_for(4 * SEC);
	assert_true(neighbour_has(V4, "02:00:00:00:00:99"));
	while (now_us() - begin < 7 * SEC &&
		   !(neighbour_has(V4, our_hw()) && neighbour_has(V6, our_hw())))
		run_for(50 * MS);
	assert_true(neighbour_has(V4, our_hw()));
	assert_true(neighbour_has(V6, our_hw()));
	print_message("second burst after %d ms\n", (int) ((now_us() - begin) / MS));
	assert_in_range((now_us() - begin) / MS, 4900, 6500);
}

static void
test_renew(void **state)
{
	int64_t end_at;

	(void) state;
	need_root();
	assert_true(run_until(VIP_ON, SEC, 1200 * MS));
	end_at = now_us() + 4 * SEC;
	while (now_us() < end_at)
	{
		vip_hold(vip, now_us() + 1200 * MS);
		run_for(200 * MS);
		assert_true(present(V4) && present(V6));
		assert_in_range(valid(V4), 0, 1);
	}
	assert_int_equal(told[0].n, 2);
	assert_int_equal(told[1].n, 2);
}

/* Not renewed: gone at the end of the lease, not a second later. */
static void
test_expiry(void **state)
{
	int64_t until;

	(void) state;
	need_root();
	assert_true(run_until(VIP_ON, SEC, 3 * SEC));
	until = now_us() + 2050 * MS; /* the kernel counts whole seconds */
	vip_hold(vip, until);
	run_for(until - now_us() - 150 * MS);
	assert_true(present(V4) && present(V6));
	assert_true(run_until(VIP_OFF, 300 * MS, 0));
	assert_true(now_us() - until < 50 * MS);
	assert_false(present(V4) || present(V6));
	assert_non_null(strstr(told[0].text, "removed: the lease has ended"));
	/* a hold that is over adds nothing */
	vip_hold(vip, now_us() - 1);
	run_for(300 * MS);
	assert_false(present(V4) || present(V6));
}

static void
test_remove(void **state)
{
	(void) state;
	need_root();
	assert_true(run_until(VIP_ON, SEC, 3 * SEC));
	vip_remove(vip);
	assert_false(present(V4) || present(V6));
	assert_int_equal(state_of(0), VIP_OFF);
	assert_string_equal(told[0].text, V4 "/24 dev tv0 removed");
	run_for(300 * MS);
	assert_false(present(V4) || present(V6));
	/* in the middle of probing */
	vip_hold(vip, now_us() + 3 * SEC);
	run_for(50 * MS);
	vip_remove(vip);
	run_for(300 * MS);
	assert_false(present(V4) || present(V6));
	/* what an earlier tandemd left */
	sh("ip addr add " V4 "/24 dev tv0 && ip addr add " V6 "/64 dev tv0 nodad");
	vip_remove(vip);
	assert_false(present(V4) || present(V6));
}

/* The process is killed: the kernel removes the addresses. */
static void
test_killed(void **state)
{
	pid_t child;
	int64_t until;
	int64_t gone4 = 0;
	int64_t gone6 = 0;

	(void) state;
	need_root();
	until = now_us() + 3500 * MS;
	child = fork();
	if (child == 0)
	{
		/* the parent's loop must not be used here */
		sd_event *e;
		Vip *v;

		if (sd_event_new(&e) < 0 || vip_new(&v, &config, e, on_told, NULL) != 0)
			_exit(1);
		for (;;)
		{
			vip_hold(v, until);
			sd_event_run(e, 10 * MS);
		}
	}
	while (now_us() < until && !(present(V4) && present(V6)))
		usleep(10000);
	assert_true(present(V4) && present(V6));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	while (now_us() < until + 3 * SEC && (gone4 == 0 || gone6 == 0))
	{
		if (gone4 == 0 && !present(V4))
			gone4 = now_us();
		if (gone6 == 0 && !present(V6))
			gone6 = now_us();
		usleep(10000);
	}
	assert_true(gone4 != 0 && gone6 != 0);
	print_message("killed: gone %d ms (IPv4) and %d ms (IPv6) after the end of the lease\n",
				  (int) ((gone4 - until) / MS), (int) ((gone6 - until) / MS));
	assert_true(gone4 - until < 1300 * MS && gone6 - until < 1300 * MS);
}

static void
test_duplicate(void **state)
{
	const char *text;

	(void) state;
	need_root();
	sh("nsenter -t %d -n sh -c 'ip addr add " V4 "/24 dev tv1 && ip addr add " V6
	   "/64 dev tv1 nodad'",
	   (int) neighbour);
	assert_true(run_until(VIP_TAKEN, SEC, 3 * SEC));
	assert_false(present(V4) || present(V6));
	assert_int_equal(vip_state(vip, 0, &text), VIP_TAKEN);
	assert_non_null(
		strstr(text, V4 "/24 dev tv0 is in use by another host, with hardware address "));
	assert_non_null(strstr(text, output("nsenter -t %d -n ip -o link show tv1 | "
										"sed -n 's/.*ether \\([^ ]*\\).*/\\1/p' | tr -d '\\n'",
										(int) neighbour)));
	/* said once, tried again and again */
	for (int64_t t = now_us(); now_us() - t < 1500 * MS;)
	{
		vip_hold(vip, now_us() + 3 * SEC);
		run_for(200 * MS);
		assert_false(present(V4) || present(V6));
	}
	assert_int_equal(told[0].n, 2);
	assert_int_equal(told[1].n, 2);
	sh("nsenter -t %d -n sh -c 'ip addr del " V4 "/24 dev tv1 && ip addr del " V6 "/64 dev tv1'",
	   (int) neighbour);
	assert_true(run_until(VIP_ON, SEC, 3 * SEC));
	assert_true(present(V4) && present(V6));
}

/* Somebody claims them while we have them: said, and answered. */
static void
test_claimed_later(void **state)
{
	pid_t child;
	int status;

	(void) state;
	need_root();
	assert_true(run_until(VIP_ON, SEC, 5 * SEC));
	run_for(200 * MS);
	assert_int_equal(told[0].n, 2);
	sh("nsenter -t %d -n sh -c 'ip addr add " V6 "/64 dev tv1 nodad && ip neigh flush dev tv1'",
	   (int) neighbour);
	child = fork();
	if (child == 0)
	{
		char path[64];
		int fd;
		Netlink *n;
		NetDevice device;

		snprintf(path, sizeof(path), "/proc/%d/ns/net", (int) neighbour);
		fd = open(path, O_RDONLY);
		if (fd < 0 || setns(fd, CLONE_NEWNET) != 0 || netlink_open(&n) != 0 ||
			netlink_device(n, "tv1", &device) != 0)
			_exit(1);
		fd = arp_open(&device);
		if (fd < 0 || arp_announce(fd, &device, config.vip[0].address) != 0)
			_exit(2);
		fd = ndisc_open(&device);
		if (fd < 0 || ndisc_announce(fd, &device, config.vip[1].address) != 0)
			_exit(3);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	run_for(200 * MS);
	assert_non_null(strstr(told[0].text, "is claimed by another host, too"));
	assert_non_null(strstr(told[1].text, "is claimed by another host, too"));
	assert_int_equal(state_of(0), VIP_ON);
	sh("nsenter -t %d -n ip addr del " V6 "/64 dev tv1", (int) neighbour);
}

/* Of so many packets, none of which is a claim, how many are left when they have been read once. */
static int
left_of(int sent, bool (*claimed)(int, const NetDevice *, const uint8_t *, char *))
{
	NetDevice device = {.hw_length = 6};
	uint8_t packet[64] = {0};
	char whose[NETLINK_HW_TEXT];
	int fds[2];
	int n = 0;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds), 0);
	for (int i = 0; i < sent; i++)
		assert_int_equal(send(fds[1], packet, sizeof(packet), 0), sizeof(packet));
	assert_false(claimed(fds[0], &device, config.vip[0].address, whose));
	while (recv(fds[0], packet, sizeof(packet), 0) > 0)
		n++;
	close(fds[0]);
	close(fds[1]);
	return n;
}

/* A host that floods the network does not hold the daemon in the reading of it. */
static void
test_flood(void **state)
{
	(void) state;
	need_root();
	assert_int_equal(left_of(100, arp_claimed), 100 - ARP_AT_ONCE);
	assert_int_equal(left_of(100, ndisc_claimed), 100 - NDISC_AT_ONCE);
}

static void
test_device(void **state)
{
	const char *text;

	(void) state;
	need_root();
	sh("ip link set tv0 down");
	assert_true(run_until(VIP_FAILED, SEC, 3 * SEC));
	vip_state(vip, 0, &text);
	assert_string_equal(text, "could not add " V4 "/24 dev tv0: the device is down");
	sh("ip link set tv0 up");
	assert_true(run_until(VIP_ON, 3 * SEC, 3 * SEC));
	/* the kernel drops IPv6 addresses when a device goes down */
	sh("ip link set tv0 down");
	vip_hold(vip, now_us() + 3 * SEC);
	run_for(100 * MS);
	sh("ip link set tv0 up");
	assert_true(run_until(VIP_ON, 3 * SEC, 3 * SEC));
	run_for(200 * MS);
	vip_hold(vip, now_us() + 3 * SEC);
	assert_true(present(V4) && present(V6));
	vip_remove(vip);

	sh("ip link set tv0 down && ip link set tv0 name tv9");
	assert_true(run_until(VIP_FAILED, SEC, 3 * SEC));
	vip_state(vip, 0, &text);
	assert_string_equal(text, "could not find network device \"tv0\": No such device");
	vip_remove(vip); /* no error, although there is no device */
	assert_int_equal(state_of(0), VIP_OFF);
	sh("ip link set tv9 name tv0 && ip link set tv0 up");
	sh("ip addr add fd09::1/64 dev tv0 nodad");
}

/* A device without neighbours has nobody to ask. */
static void
test_dummy(void **state)
{
	(void) state;
	need_root();
	strcpy(config.vip[0].device, "lo");
	strcpy(config.vip[1].device, "lo");
	vip_hold(vip, now_us() + 2 * SEC);
	assert_int_equal(state_of(0), VIP_ON);
	assert_int_equal(state_of(1), VIP_ON);
	assert_non_null(strstr(output("ip -o addr show dev lo"), V4 "/24"));
	assert_non_null(strstr(output("ip -o addr show dev lo"), V6 "/64"));
	vip_remove(vip);
	assert_null(strstr(output("ip -o addr show dev lo"), V4));
	strcpy(config.vip[0].device, "tv0");
	strcpy(config.vip[1].device, "tv0");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, each, after_each)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_add),    TEST(test_second_burst), TEST(test_renew),     TEST(test_expiry),
		TEST(test_remove), TEST(test_killed),       TEST(test_duplicate), TEST(test_claimed_later),
		TEST(test_device), TEST(test_dummy),        TEST(test_flood),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
