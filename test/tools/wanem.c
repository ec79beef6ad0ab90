/*
 * wanem.c
 *	  A line between two network namespaces: rate, delay, jitter, loss.
 *
 *	wanem NAMESPACE NAMESPACE DEVICE RATE DELAY JITTER LOSS BUFFER
 *
 * For kernels without netem; scripts/wan starts it, gives the devices their
 * addresses and tells what the line is like.  NAMESPACE is a path, such as
 * /run/netns/NAME or /proc/PID/ns/net.  A TUN device named DEVICE is made in
 * each.  RATE is in bits a second, DELAY and JITTER in microseconds, LOSS a
 * fraction of the packets, BUFFER in bytes.  All of them are of one direction,
 * and both directions are alike.
 *
 * A direction is a router's output: a buffer whose tail is dropped when it is
 * full, a line that carries one packet after the other at RATE, and the way
 * over it, which takes DELAY plus or minus up to JITTER (even distribution) and
 * loses packets at random.  Packets stay in order.  RATE counts IP packets, with
 * their headers and without Ethernet's.
 *
 * "ready" is said on standard output.  Commands come on standard input, a line
 * each: "cut" (nothing passes, and what is on its way is lost), "restore", and
 * "stats": a line of JSON.  At the end of the input the program ends.  The
 * devices end with it, however it ends.
 *
 * It wakes up at most every GRAIN, and whenever something is due: that is how
 * exact the delay is.  The rate is exact: it is reckoned, not waited for.  It
 * runs with real-time priority where it may: a line does not get slower because
 * somebody else wants the CPU.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>

#define MTU          1500
#define READ_AT_ONCE 256    /* packets, before the other direction has its turn */
#define MAX_GRAIN    250000 /* ns */
#define NS_PER_S     1000000000.0

typedef struct Packet
{
	struct Packet *next;
	int64_t due; /* when it comes out, CLOCK_MONOTONIC in ns */
	ssize_t length;
	unsigned char data[MTU];
} Packet;

/* From one namespace to the other. */
typedef struct Direction
{
	int from; /* where its packets are read, and */
	int to;   /* where they are written */
	Packet *first;
	Packet **last;
	Packet *spare;    /* to read into */
	int64_t busy;     /* until then the line carries what it has taken */
	int64_t last_due; /* no packet overtakes another */
	uint64_t random;  /* never 0 */
	uint64_t packets; /* these came out, */
	uint64_t bytes;   /* ... so large */
	uint64_t lost;    /* on the way */
	uint64_t dropped; /* as the buffer was full */
	uint64_t cut_off; /* while the line was cut */
	int64_t most;     /* the most that has waited in the buffer, bytes */
} Direction;

static double ns_per_byte;
static int64_t delay;  /* ns */
static int64_t jitter; /* ns */
static double loss;
static int64_t buffer; /* bytes */
static int64_t grain;  /* ns */
static bool cut;
static Direction directions[2];

static void
die(const char *what)
{
	fprintf(stderr, "wanem: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* 0 <= r < 1: xorshift64*, each direction its own, so that a run can be repeated. */
static double
random_of(Direction *d)
{
	d->random ^= d->random >> 12;
	d->random ^= d->random << 25;
	d->random ^= d->random >> 27;
	return (double) ((d->random * UINT64_C(0x2545F4914F6CDD1D)) >> 11) / 9007199254740992.0;
}

static Packet *
new_packet(void)
{
	Packet *packet = malloc(sizeof(Packet));

	if (packet == NULL)
		die("memory");
	return packet;
}

/* Makes the device in the namespace; this process is in there afterwards. */
static int
make_device(const char *space, const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd = open(space, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET) != 0)
		die(space);
	close(fd);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		die("/dev/net/tun");
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &request) != 0)
		die(name);
	return fd;
}

/* The spare packet comes in at t: into the buffer, and when will it come out? */
static void
take(Direction *d, int64_t t)
{
	Packet *packet = d->spare;
	int64_t waiting = d->busy > t ? (int64_t) ((double) (d->busy - t) / ns_per_byte) : 0;

	if (cut)
	{
		d->cut_off++;
		return;
	}
	if (waiting + packet->length > buffer)
	{
		d->dropped++;
		return;
	}
	if (waiting + packet->length > d->most)
		d->most = waiting + packet->length;
	d->busy = (d->busy > t ? d->busy : t) + (int64_t) ((double) packet->length * ns_per_byte);
	if (random_of(d) < loss)
	{
		d->lost++; /* the line has carried it, for nothing */
		return;
	}
	packet->due = d->busy + delay + (int64_t) ((double) jitter * (2 * random_of(d) - 1));
	if (packet->due < d->last_due)
		packet->due = d->last_due;
	d->last_due = packet->due;
	packet->next = NULL;
	*d->last = packet;
	d->last = &packet->next;
	d->spare = new_packet();
}

static void
take_all(Direction *d, int64_t t)
{
	for (int i = 0; i < READ_AT_ONCE; i++)
	{
		d->spare->length = read(d->from, d->spare->data, MTU);
		if (d->spare->length <= 0)
			return; /* nothing there; a device that is down says EIO */
		take(d, t);
	}
}

static void
remove_first(Direction *d)
{
	Packet *packet = d->first;

	d->first = packet->next;
	if (d->first == NULL)
		d->last = &d->first;
	free(packet);
}

static void
give_due(Direction *d, int64_t t)
{
	while (d->first != NULL && d->first->due <= t)
	{
		/* a device that is down takes nothing: then it is lost there */
		if (write(d->to, d->first->data, (size_t) d->first->length) == d->first->length)
		{
			d->packets++;
			d->bytes += (uint64_t) d->first->length;
		}
		remove_first(d);
	}
}

static void
cut_line(void)
{
	cut = true;
	for (int i = 0; i < 2; i++)
	{
		Direction *d = &directions[i];

		for (; d->first != NULL; d->cut_off++)
			remove_first(d);
		d->busy = d->last_due = 0;
	}
}

static void
print_stats(void)
{
	for (int i = 0; i < 2; i++)
	{
		const Direction *d = &directions[i];

		printf("%s{\"packets\": %ju, \"bytes\": %ju, \"lost\": %ju, \"dropped\": %ju, \"cut_off\": "
			   "%ju, "
			   "\"most_waiting\": %jd}",
			   i == 0 ? "[" : ", ", (uintmax_t) d->packets, (uintmax_t) d->bytes,
			   (uintmax_t) d->lost, (uintmax_t) d->dropped, (uintmax_t) d->cut_off,
			   (intmax_t) d->most);
	}
	printf("]\n");
}

/* False at the end of the input. */
static bool
obey(void)
{
	char line[64];

	if (fgets(line, sizeof(line), stdin) == NULL)
		return false;
	line[strcspn(line, "\n")] = '\0';
	if (strcmp(line, "cut") == 0)
		cut_line();
	else if (strcmp(line, "restore") == 0)
		cut = false;
	else if (strcmp(line, "stats") != 0)
	{
		fprintf(stderr, "wanem: \"%s\" is no command\n", line);
		return false;
	}
	print_stats(); /* so that whoever has said it knows that it is done */
	fflush(stdout);
	return true;
}

/* Sleeps until something can be done. */
static void
wait_for_work(struct pollfd *fds, int64_t begun)
{
	struct timespec until = {.tv_sec = (begun + grain) / 1000000000,
							 .tv_nsec = (begun + grain) % 1000000000};
	struct timespec left = {0, 0};
	int64_t next = INT64_MAX;

	/* many packets at a time are cheaper than one */
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	for (int i = 0; i < 2; i++)
	{
		if (directions[i].first != NULL && directions[i].first->due < next)
			next = directions[i].first->due;
	}
	if (next != INT64_MAX)
	{
		int64_t t = next - now();

		if (t > 0)
			left = (struct timespec){.tv_sec = t / 1000000000, .tv_nsec = t % 1000000000};
	}
	if (ppoll(fds, 3, next != INT64_MAX ? &left : NULL, NULL) < 0 && errno != EINTR)
		die("poll");
}

static double
number(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= 0))
	{
		fprintf(stderr, "wanem: \"%s\" is no number\n", text);
		exit(2);
	}
	return value;
}

int
main(int argc, char **argv)
{
	struct pollfd fds[3] = {{.fd = STDIN_FILENO, .events = POLLIN}};
	struct sched_param priority = {.sched_priority = 1};
	int devices[2];

	if (argc != 9)
	{
		fprintf(stderr, "usage: wanem NAMESPACE NAMESPACE DEVICE RATE DELAY JITTER LOSS BUFFER\n");
		return 2;
	}
	ns_per_byte = 8 * NS_PER_S / number(argv[4]);
	delay = (int64_t) (number(argv[5]) * 1000);
	jitter = (int64_t) (number(argv[6]) * 1000);
	loss = number(argv[7]);
	buffer = (int64_t) number(argv[8]);
	grain = delay / 10 < MAX_GRAIN ? delay / 10 : MAX_GRAIN;

	/* the devices first: where one cannot be made, nothing has been done */
	for (int i = 0; i < 2; i++)
		devices[i] = make_device(argv[1 + i], argv[3]);
	for (int i = 0; i < 2; i++)
	{
		directions[i] = (Direction){.from = devices[i],
									.to = devices[1 - i],
									.spare = new_packet(),
									.random = i == 0 ? UINT64_C(0x9E3779B97F4A7C15)
													 : UINT64_C(0xD1B54A32D192ED03)};
		directions[i].last = &directions[i].first;
		fds[1 + i] = (struct pollfd){.fd = devices[i], .events = POLLIN};
	}
	setvbuf(stdin, NULL, _IONBF, 0); /* poll() must see what is not read yet */
	prctl(PR_SET_TIMERSLACK, 1UL);
	sched_setscheduler(0, SCHED_FIFO, &priority);
	printf("ready\n");
	fflush(stdout);

	for (;;)
	{
		int64_t t = now();

		for (int i = 0; i < 2; i++)
			give_due(&directions[i], t);
		for (int i = 0; i < 2; i++)
			take_all(&directions[i], t);
		if (fds[0].revents != 0 && !obey())
			return 0;
		wait_for_work(fds, t);
	}
}
