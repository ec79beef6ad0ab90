/*-------------------------------------------------------------------------
 *
 * test_rdma.c
 *	  Tests of what link/rdma.c makes of libibverbs, with one that is made
 *	  for it (fake_verbs.h).  test/vm has the real one.
 *
 * The link's TCP connection, whose local address decides about the device, is
 * one over the loopback interface.
 *
 *-------------------------------------------------------------------------
 */
#include "pair.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fake_verbs.h"
#include "rdma.h"
#include "ring.h"

#define SIZE    LINK_RING_MIN_SIZE
#define TIMEOUT 5000

static const char *dev_port; /* what sysfs is to say of the interface lo */

/* ------------------------------------------------------------------ sysfs */

extern int __real_access(const char *path, int mode);
extern int __wrap_access(const char *path, int mode);
extern FILE *__real_fopen(const char *path, const char *mode);
extern FILE *__wrap_fopen(const char *path, const char *mode);

/* The interface lo is IP over InfiniBand, of the device fake1. */
int
__wrap_access(const char *path, int mode)
{
	if (strcmp(path, "/sys/class/net/lo/device/infiniband/fake1") == 0)
		return 0;
	return __real_access(path, mode);
}

FILE *
__wrap_fopen(const char *path, const char *mode)
{
	if (strcmp(path, "/sys/class/net/lo/dev_port") != 0)
		return __real_fopen(path, mode);
	return dev_port != NULL ? fmemopen((void *) (uintptr_t) dev_port, strlen(dev_port), "r") : NULL;
}

/* ---------------------------------------------------------------- devices */

static void
set_gid(FakePort *port, int index, const char *address, uint32_t type)
{
	assert_int_equal(inet_pton(AF_INET6, address, port->gid[index].gid.raw), 1);
	port->gid[index].gid_type = type;
}

/* A device whose ports are down and have one GID each. */
static FakeDevice *
add_device(const char *name, int ports, int layer)
{
	FakeDevice *device = &fake.device[fake.devices++];

	snprintf(device->base.name, sizeof(device->base.name), "%s", name);
	strcpy(device->base.dev_path, "/sys/class");
	device->ports = ports;
	device->max_qp_wr = device->max_cqe = 4096;
	device->max_inline = 256;
	for (int i = 0; i < ports; i++)
	{
		device->port[i].state = IBV_PORT_DOWN;
		device->port[i].layer = layer;
		device->port[i].mtu = IBV_MTU_1024 + i;
		device->port[i].lid = 10 * i + 5;
		set_gid(&device->port[i], 0, "fe80::1",
				layer == IBV_LINK_LAYER_ETHERNET ? IBV_GID_TYPE_ROCE_V1 : IBV_GID_TYPE_IB);
	}
	return device;
}

/*
 * fake0 has one port without the link's address, fake1 two: the second one has it.
 */
static FakeDevice *
two_devices(void)
{
	FakeDevice *other;
	FakeDevice *device;

	fake_reset();
	other = add_device("fake0", 1, IBV_LINK_LAYER_ETHERNET);
	other->port[0].state = IBV_PORT_ACTIVE;
	set_gid(&other->port[0], 1, "::ffff:10.0.0.1", IBV_GID_TYPE_ROCE_V2);
	device = add_device("fake1", 2, IBV_LINK_LAYER_ETHERNET);
	device->port[0].state = device->port[1].state = IBV_PORT_ACTIVE;
	set_gid(&device->port[1], 1, "::ffff:127.0.0.1", IBV_GID_TYPE_ROCE_V1);
	set_gid(&device->port[1], 3, "::ffff:127.0.0.1", IBV_GID_TYPE_ROCE_V2);
	return device;
}

/* One of two that are the same but for the address: the usual case. */
static FakeDevice *
one_device(void)
{
	FakeDevice *device;

	fake_reset();
	device = add_device("fake0", 1, IBV_LINK_LAYER_ETHERNET);
	device->port[0].state = IBV_PORT_ACTIVE;
	set_gid(&device->port[0], 1, "::ffff:127.0.0.1", IBV_GID_TYPE_ROCE_V2);
	return device;
}

/* ------------------------------------------------------------------- ends */

static char why[256];

static LinkVerbs *
open_end(int fd, bool standby, const char *device, int gid_index)
{
	LinkRdmaOptions options = {.device = device,
							   .gid_index = gid_index,
							   .fd = fd,
							   .standby = standby,
							   .size = SIZE,
							   .timeout_ms = TIMEOUT};

	why[0] = '\0';
	return link_rdma_open(&options, why, sizeof(why));
}

/* Everything is closed, and was in the right order. */
static void
assert_clean(void)
{
	assert_int_equal(fake.objects, 0);
	assert_int_equal(fake.violations, 0);
}

/* What is chosen for a link at this address says so; NULL: nothing, for this reason. */
static void
assert_choice(bool v6, const char *device, int gid_index, const char *description,
			  const char *reason)
{
	LinkVerbs *verbs;
	int fds[2];

	make_tcp_pair(fds, v6);
	verbs = open_end(fds[0], false, device, gid_index);
	if (description == NULL)
	{
		assert_null(verbs);
		assert_string_equal(why, reason);
	}
	else
	{
		assert_string_equal(verbs != NULL ? verbs->description : why, description);
		verbs->ops->destroy(verbs);
	}
	close(fds[0]);
	close(fds[1]);
	assert_clean();
}

typedef struct Ends
{
	int fds[2];
	LinkVerbs *primary;
	LinkVerbs *standby;
} Ends;

/* Both ends, connected as far as it goes.  False if something fails. */
static bool
open_ends(Ends *e)
{
	memset(e, 0, sizeof(*e));
	make_tcp_pair(e->fds, false);
	e->primary = open_end(e->fds[0], false, "", -1);
	if (e->primary == NULL)
		return false;
	e->standby = open_end(e->fds[1], true, "", -1);
	return e->standby != NULL && e->standby->ops->connect(e->standby, &e->primary->local) &&
		   e->primary->ops->connect(e->primary, &e->standby->local);
}

static void
close_ends(Ends *e)
{
	if (e->primary != NULL)
		e->primary->ops->destroy(e->primary);
	if (e->standby != NULL)
		e->standby->ops->destroy(e->standby);
	close(e->fds[0]);
	close(e->fds[1]);
	assert_clean();
}

static bool
readable(const LinkVerbs *verbs)
{
	struct pollfd fds = {.fd = verbs->fd, .events = POLLIN};

	return poll(&fds, 1, 0) == 1;
}

/* -------------------------------------------------------- which device */

static void
test_choice_by_address(void **state)
{
	FakeDevice *device;

	(void) state;
	fake_reset();
	assert_choice(false, "", -1, NULL, "there is no RDMA device");
	device = two_devices();
	assert_choice(false, "", -1, "fake1 port 2, RoCE GID 3 ::ffff:127.0.0.1, MTU 2048", NULL);
	device->port[1].state = IBV_PORT_DOWN;
	assert_choice(false, "", -1, NULL,
				  "no RDMA device has an active port with the address 127.0.0.1");
	if (have_ipv6())
	{
		set_gid(&device->port[0], 2, "::1", IBV_GID_TYPE_ROCE_V2);
		assert_choice(true, "", -1, "fake1 port 1, RoCE GID 2 ::1, MTU 1024", NULL);
	}
}

static void
test_choice_by_name(void **state)
{
	(void) state;
	two_devices();
	assert_choice(false, "fake1", -1, "fake1 port 2, RoCE GID 3 ::ffff:127.0.0.1, MTU 2048", NULL);
	assert_choice(false, "fake1:2", -1, "fake1 port 2, RoCE GID 3 ::ffff:127.0.0.1, MTU 2048",
				  NULL);
	assert_choice(false, "fake1:1", 0, "fake1 port 1, RoCE GID 0 fe80::1, MTU 1024", NULL);
	assert_choice(false, "fake0", 1, "fake0 port 1, RoCE GID 1 ::ffff:10.0.0.1, MTU 1024", NULL);
	assert_choice(false, "fake0", -1, NULL,
				  "RDMA device \"fake0\" has no active port with such a GID");
	assert_choice(false, "fake0", 2, NULL,
				  "RDMA device \"fake0\" has no active port with such a GID");
	assert_choice(false, "fake1:1", -1, NULL,
				  "RDMA device \"fake1:1\" has no active port with such a GID");
	assert_choice(false, "fake1:3", -1, NULL,
				  "RDMA device \"fake1:3\" has no active port with such a GID");
	assert_choice(false, "fake2", -1, NULL, "there is no RDMA device \"fake2\"");
}

/* A device that may not be opened is named, unless another one will do. */
static void
test_choice_without_access(void **state)
{
	FakeDevice *device = two_devices();

	(void) state;
	fake.device[0].open_error = EACCES;
	assert_choice(false, "", -1, "fake1 port 2, RoCE GID 3 ::ffff:127.0.0.1, MTU 2048", NULL);
	device->open_error = EACCES;
	assert_choice(false, "", -1, NULL, "could not open RDMA device \"fake1\": Permission denied");
	assert_choice(false, "fake0", -1, NULL,
				  "could not open RDMA device \"fake0\": Permission denied");
}

/* InfiniBand: the port below the IP-over-InfiniBand interface of the address. */
static void
test_choice_infiniband(void **state)
{
	FakeDevice *device;

	(void) state;
	fake_reset();
	add_device("fake0", 1, IBV_LINK_LAYER_INFINIBAND)->port[0].state = IBV_PORT_ACTIVE;
	device = add_device("fake1", 2, IBV_LINK_LAYER_INFINIBAND);
	device->port[0].state = device->port[1].state = IBV_PORT_ACTIVE;
	dev_port = "1\n";
	assert_choice(false, "", -1, "fake1 port 2, InfiniBand GID 0 fe80::1, MTU 2048", NULL);
	dev_port = "0\n";
	assert_choice(false, "", -1, "fake1 port 1, InfiniBand GID 0 fe80::1, MTU 1024", NULL);
	dev_port = NULL; /* an old kernel: the first one */
	assert_choice(false, "", -1, "fake1 port 1, InfiniBand GID 0 fe80::1, MTU 1024", NULL);
	assert_choice(false, "fake0", -1, "fake0 port 1, InfiniBand GID 0 fe80::1, MTU 1024", NULL);
	dev_port = "1\n";
	device->port[1].state = IBV_PORT_DOWN;
	assert_choice(false, "", -1, NULL,
				  "no RDMA device has an active port with the address 127.0.0.1");
}

/* A device that can do little gets as much to do, and none at all if it is too little. */
static void
test_small_device(void **state)
{
	FakeDevice *device = one_device();
	Ends e;

	(void) state;
	device->max_cqe = 100;
	device->max_inline = 0;
	assert_true(open_ends(&e));
	assert_int_equal(e.primary->local.slots, 100);
	assert_int_equal(e.standby->local.slots, 100);
	assert_true(e.primary->ops->write(e.primary, 0, 64, 1));
	assert_int_equal(fake.inline_writes, 0);
	close_ends(&e);

	device->max_qp_wr = LINK_RING_MIN_SLOTS - 1;
	assert_choice(false, "", -1, NULL,
				  "no RDMA device has an active port with the address 127.0.0.1");
}

/* -------------------------------------------------------- how it connects */

static void
test_attributes(void **state)
{
	const struct ibv_qp_attr *primary = &fake.attr[0];
	const struct ibv_qp_attr *standby = &fake.attr[1];
	double silence;
	Ends e;

	(void) state;
	one_device();
	assert_true(open_ends(&e));

	/* only the standby's ring is written to from afar */
	assert_int_equal(primary->qp_access_flags, 0);
	assert_int_equal(standby->qp_access_flags, IBV_ACCESS_REMOTE_WRITE);
	assert_int_equal(fake.access[0], 0);
	assert_int_equal(fake.access[1], IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	assert_int_equal(e.primary->local.key, 0);
	assert_int_equal(e.primary->local.address, 0);

	/* each has the address and the first sequence number of the other one */
	assert_true(primary->ah_attr.is_global);
	assert_int_equal(primary->ah_attr.grh.sgid_index, 1);
	assert_memory_equal(primary->ah_attr.grh.dgid.raw, e.standby->local.gid, 16);
	assert_int_equal(primary->rq_psn, e.standby->local.sequence);
	assert_int_equal(primary->sq_psn, e.primary->local.sequence);
	assert_int_equal(standby->rq_psn, e.primary->local.sequence);
	assert_true(e.primary->local.sequence < 1 << 24);

	/* an end to everything: RNR 7 would be for ever, retries 7 are it with soft-RoCE */
	assert_true(primary->rnr_retry > 0 && primary->rnr_retry < 7);
	assert_true(primary->retry_cnt > 0 && primary->retry_cnt < 7);
	silence = 4.096e-3 * (1 << primary->timeout) * (primary->retry_cnt + 1);
	assert_true(silence > 200 && silence <= TIMEOUT / 2.0);
	close_ends(&e);
}

/* The smaller MTU is the path's; InfiniBand is addressed by LID. */
static void
test_path(void **state)
{
	Ends e;
	LinkRingEnd peer;

	(void) state;
	one_device()->port[0].mtu = IBV_MTU_4096;
	assert_true(open_ends(&e));
	assert_int_equal(fake.attr[0].path_mtu, IBV_MTU_4096);
	close_ends(&e);

	for (int mtu = IBV_MTU_1024; mtu <= IBV_MTU_4096; mtu++)
	{
		memset(&e, 0, sizeof(e));
		make_tcp_pair(e.fds, false);
		one_device()->port[0].mtu = IBV_MTU_2048;
		fake.device[0].port[0].layer = IBV_LINK_LAYER_INFINIBAND;
		e.primary = open_end(e.fds[0], false, "fake0", -1);
		assert_non_null(e.primary);
		assert_int_equal(e.primary->local.layer, LINK_LAYER_INFINIBAND);
		peer = e.primary->local;
		peer.mtu = mtu;
		peer.lid = 77;
		assert_true(e.primary->ops->connect(e.primary, &peer));
		assert_int_equal(fake.attr[0].path_mtu, mtu < IBV_MTU_2048 ? mtu : IBV_MTU_2048);
		assert_int_equal(fake.attr[0].ah_attr.dlid, 77);
		assert_false(fake.attr[0].ah_attr.is_global);
		close_ends(&e);
	}
}

/* --------------------------------------------------------------- writing */

/* A write is there, with its mark; who waits is woken; small ones go inline. */
static void
test_write(void **state)
{
	uint32_t marks[4];
	Ends e;

	(void) state;
	one_device();
	assert_true(open_ends(&e));
	memset(e.primary->memory, 'x', 4096);
	assert_true(e.standby->ops->arm(e.standby));
	assert_false(readable(e.standby));
	assert_true(e.primary->ops->write(e.primary, 0, 100, 0x01020304));
	assert_true(readable(e.standby));
	assert_int_equal(fake.inline_writes, 1);
	assert_true(e.primary->ops->write(e.primary, 128, 3000, 5));
	assert_int_equal(fake.inline_writes, 1);
	assert_int_equal(e.standby->ops->arrived(e.standby, marks, 4), 2);
	assert_int_equal(marks[0], 0x01020304);
	assert_int_equal(marks[1], 5);
	assert_memory_equal(e.standby->memory + 128, e.primary->memory, 3000);
	assert_true(e.standby->memory[100] == 0 && e.standby->memory[3128] == 0);
	assert_true(e.standby->ops->arm(e.standby));
	assert_false(readable(e.standby));
	assert_int_equal(e.standby->ops->arrived(e.standby, marks, 4), 0);
	assert_true(e.standby->ops->repost(e.standby, 2));

	/* the primary looks when it is awake for another reason */
	assert_false(readable(e.primary));
	assert_int_equal(e.primary->ops->written(e.primary), 2);
	assert_int_equal(e.primary->ops->written(e.primary), 0);
	assert_true(e.primary->ops->healthy(e.primary) && e.standby->ops->healthy(e.standby));
	close_ends(&e);
}

/* A write that fails wakes the primary, and is its last one. */
static void
test_write_fails(void **state)
{
	static const enum ibv_wc_status statuses[] = {IBV_WC_RETRY_EXC_ERR, IBV_WC_RNR_RETRY_EXC_ERR,
												  IBV_WC_REM_ACCESS_ERR};

	(void) state;
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
	{
		uint32_t marks[4];
		Ends e;

		one_device();
		assert_true(open_ends(&e));
		assert_true(e.primary->ops->write(e.primary, 0, 64, 1));
		fake.write_status = statuses[i];
		assert_true(e.primary->ops->write(e.primary, 64, 64, 2));
		assert_true(readable(e.primary));
		assert_true(e.primary->ops->write(e.primary, 128, 64, 3));
		assert_int_equal(e.primary->ops->written(e.primary), -1);
		assert_non_null(strstr(e.primary->error, "the queue pair has failed: "));
		assert_false(e.primary->ops->healthy(e.primary));
		assert_int_equal(e.standby->ops->arrived(e.standby, marks, 4), 1);
		assert_int_equal(e.standby->ops->arrived(e.standby, marks, 4), 0);
		close_ends(&e);
	}
}

/* The standby is gone: the primary gets an error, not a write that seems to be there. */
static void
test_standby_gone(void **state)
{
	Ends e;

	(void) state;
	one_device();
	assert_true(open_ends(&e));
	e.standby->ops->destroy(e.standby);
	e.standby = NULL;
	assert_true(e.primary->ops->write(e.primary, 0, 64, 1));
	assert_int_equal(e.primary->ops->written(e.primary), -1);
	assert_string_equal(e.primary->error,
						"the queue pair has failed: transport retry counter exceeded");
	close_ends(&e);
}

/*
 * The ring with its credits, many laps: never a write without a receive entry,
 * never a completion queue that overflows, or the fake would notice.
 */
static void
test_ring(void **state)
{
	LinkRing *primary = link_ring_create();
	LinkRing *standby = link_ring_create();
	uint64_t lsn = 0;
	uint64_t taken = 0;
	Ends e;

	(void) state;
	one_device()->max_qp_wr = 64;
	assert_true(open_ends(&e));
	link_ring_reset(primary, e.primary, 1);
	link_ring_reset(standby, e.standby, 1);
	assert_true(link_ring_dimension(primary, SIZE, e.standby->local.slots));
	assert_true(link_ring_dimension(standby, SIZE, e.standby->local.slots));
	for (uint32_t n = 0; n < 20000;)
	{
		size_t length = stream_length(n, n % 8 == 0 ? LINK_MAX_PAYLOAD : 500);
		LinkHeader header = {.type = LINK_WAL, .lsn = lsn};
		uint8_t *to = link_ring_begin(primary, length);
		const uint8_t *payload;
		uint64_t position;

		if (to != NULL)
		{
			stream_payload(n++, to, length);
			assert_true(link_ring_end(primary, &header, length));
			lsn += length;
		}
		/* the standby is slow: it takes something when there is no room, or seldom */
		for (int i = 0; i < 30 && (to == NULL || n % 97 == 0); i++)
		{
			if (link_ring_next(standby, &header, &payload) == 0)
				break;
			assert_int_equal(header.lsn, taken);
			taken += header.length;
		}
		if (link_ring_credit_due(standby, false, &position))
			assert_true(link_ring_credit(primary, position));
		assert_int_equal(fake.violations, 0);
	}
	assert_true(taken > 20 * SIZE && primary->waits > 0);
	link_ring_destroy(primary);
	link_ring_destroy(standby);
	e.primary = e.standby = NULL;
	close_ends(&e);
}

/* ----------------------------------------------------------------- health */

static void
test_events(void **state)
{
	static const struct
	{
		enum ibv_event_type type;
		int port;
		bool well;
	} events[] = {{IBV_EVENT_COMM_EST, 0, true},     {IBV_EVENT_PORT_ACTIVE, 1, true},
				  {IBV_EVENT_GID_CHANGE, 1, true},   {IBV_EVENT_PKEY_CHANGE, 1, true},
				  {IBV_EVENT_SM_CHANGE, 1, true},    {IBV_EVENT_CLIENT_REREGISTER, 1, true},
				  {IBV_EVENT_PORT_ERR, 2, true},     {IBV_EVENT_PORT_ERR, 1, false},
				  {IBV_EVENT_LID_CHANGE, 1, false},  {IBV_EVENT_QP_FATAL, 0, false},
				  {IBV_EVENT_CQ_ERR, 0, false},      {IBV_EVENT_QP_ACCESS_ERR, 0, false},
				  {IBV_EVENT_DEVICE_FATAL, 0, false}};

	(void) state;
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
	{
		FakeDevice *device = one_device();
		Ends e;

		assert_true(open_ends(&e));
		fake_event(device, IBV_EVENT_COMM_EST, 0);
		fake_event(device, events[i].type, events[i].port);
		assert_true(readable(e.primary) && readable(e.standby));
		assert_int_equal(e.primary->ops->healthy(e.primary), events[i].well);
		assert_int_equal(e.standby->ops->healthy(e.standby), events[i].well);
		assert_int_equal(e.primary->ops->healthy(e.primary), events[i].well); /* and stays so */
		assert_false(readable(e.primary) || readable(e.standby));
		if (events[i].type == IBV_EVENT_PORT_ERR && !events[i].well)
			assert_string_equal(e.primary->error, "port 1: port error");
		close_ends(&e);
	}
}

/* Events that nobody has looked at do not keep an end from being destroyed. */
static void
test_events_at_end(void **state)
{
	FakeDevice *device = one_device();
	Ends e;

	(void) state;
	assert_true(open_ends(&e));
	for (int i = 0; i < 3; i++)
	{
		assert_true(e.standby->ops->arm(e.standby));
		assert_true(e.primary->ops->write(e.primary, 64 * i, 64, i + 1));
	}
	fake.write_status = IBV_WC_RETRY_EXC_ERR;
	assert_true(e.primary->ops->write(e.primary, 1024, 64, 9));
	fake_event(device, IBV_EVENT_DEVICE_FATAL, 0);
	close_ends(&e);
}

/* A device that is being removed, and whose driver tells nobody. */
static void
test_removed(void **state)
{
	FakeDevice *device = one_device();
	int64_t end;
	Ends e;

	(void) state;
	assert_true(open_ends(&e));
	assert_true(e.standby->ops->healthy(e.standby));
	strcpy(device->base.dev_path, "/nonexistent/uverbs0");
	end = now_ms() + 2000;
	while (e.standby->ops->healthy(e.standby))
		assert_true(now_ms() < end);
	assert_string_equal(e.standby->error, "the device is being removed");
	close_ends(&e);
}

/* --------------------------------------------------------- every call fails */

/* Some of everything.  False when something has failed; *error then says what. */
static bool
use_ends(Ends *e, const char **error)
{
	uint32_t marks[8];

	*error = why;
	if (!open_ends(e))
	{
		if (e->primary != NULL && e->primary->error[0] != '\0')
			*error = e->primary->error;
		if (e->standby != NULL && e->standby->error[0] != '\0')
			*error = e->standby->error;
		return false;
	}
	*error = e->primary->error;
	for (int i = 0; i < 3; i++)
	{
		if (!e->primary->ops->write(e->primary, 4096 * i, 100 + 2000 * i, i + 1))
			return false;
	}
	if (e->primary->ops->written(e->primary) < 0 || !e->primary->ops->healthy(e->primary))
		return false;
	*error = e->standby->error;
	return e->standby->ops->arrived(e->standby, marks, 8) == 3 &&
		   e->standby->ops->repost(e->standby, 3) && e->standby->ops->arm(e->standby) &&
		   e->standby->ops->healthy(e->standby);
}

/* Whichever call fails, there is a reason, and nothing is left. */
static void
test_each_call_fails(void **state)
{
	int failed = 0;
	bool done = false;

	(void) state;
	for (int n = 1; !done; n++)
	{
		const char *error;
		Ends e;
		bool well;

		one_device();
		fake.device[0].max_qp_wr = 32; /* not thousands of receive entries */
		fake.fail_at = n;
		well = use_ends(&e, &error);
		done = fake.calls < n;
		if (done)
			assert_true(well);
		if (!well)
		{
			failed++;
			assert_string_not_equal(error, "");
		}
		close_ends(&e);
	}
	assert_true(failed > 60); /* or it would test nothing */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice_by_address),
		cmocka_unit_test(test_choice_by_name),
		cmocka_unit_test(test_choice_without_access),
		cmocka_unit_test(test_choice_infiniband),
		cmocka_unit_test(test_small_device),
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_write_fails),
		cmocka_unit_test(test_standby_gone),
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_events_at_end),
		cmocka_unit_test(test_removed),
		cmocka_unit_test(test_each_call_fails),
		cmocka_unit_test(test_no_descriptor_left),
	};

	return cmocka_run_group_tests_name("rdma", tests, before_all, NULL);
}
