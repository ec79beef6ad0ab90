/*-------------------------------------------------------------------------
 *
 * rdma.c
 *	  One end of an RDMA connection, by libibverbs.  See verbs.h and rdma.h.
 *
 * Queue-pair numbers, GIDs and memory keys travel on the link's TCP
 * connection, so librdmacm is not needed, and InfiniBand and RoCE differ in
 * how the address of the peer is written only.
 *
 * The primary's end writes and gets completions; the standby's end has the
 * ring and gets an entry in its completion queue for each write with an
 * immediate.  Each has one completion queue with one completion channel.  The
 * channel and the device's asynchronous events lie behind one epoll
 * descriptor, which is all that the owner waits for.
 *
 * The primary does not wait for completions: the standby's answers, which
 * come by TCP, wake it, and then it looks.  Errors are the exception, so its
 * queue is armed for solicited events, which errors are and its writes are
 * not.
 *
 *-------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <infiniband/verbs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rdma.h"

#define SLOTS       1024 /* frames in the ring, receive entries, send entries */
#define INLINE_MAX  220  /* asked for: header and a small commit */

/*
 * A packet that is not answered is sent again RETRIES times.  The time between
 * two is 4.096 us * 2^n (devices may take up to four times that), with n so
 * that all of them together stay below the link's own timeout: then the
 * stream is back on TCP before the link would be given up.  Not below n = 13,
 * 34 ms: a switch that is busy is not a dead one.  Not 7 times: soft-RoCE takes
 * that for "for ever".
 */
#define RETRIES     6
#define TIMEOUT_MIN 13
#define TIMEOUT_MAX 18 /* 1.07 s */

/*
 * With credits a write always finds a receive entry.  If it does not, that is
 * an error of ours, which waiting does not cure; a few tries, 0.64 ms apart,
 * cover a device that is slow to show the standby's entries.
 */
#define RNR_RETRIES 6
#define RNR_TIMER   12

#define HOP_LIMIT   64

#define PRESENT_MS  200 /* how often to look whether the device is still there */

typedef struct Rdma
{
	LinkVerbs base;
	bool standby;
	int timeout; /* n, as above */
	uint8_t port;
	int gid_index;
	bool global; /* address the peer by GID: RoCE */
	uint32_t inline_max;
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
	struct ibv_mr *mr;
	uint64_t remote_address;
	uint32_t remote_key;
	unsigned int events; /* got from the channel and not acknowledged */
	int64_t looked;      /* when is_present() looked last, ms */
} Rdma;

bool
link_rdma_built(void)
{
	return true;
}

/* Returns false. */
static bool __attribute__((format(printf, 2, 3))) fail(Rdma *r, const char *fmt, ...)
{
	va_list args;

	if (r->base.error[0] != '\0')
		return false; /* the first one counts */
	va_start(args, fmt);
	vsnprintf(r->base.error, sizeof(r->base.error), fmt, args);
	va_end(args);
	return false;
}

/* ----------------------------------------------------- which device and GID */

/* What is looked for, and what was found. */
typedef struct Search
{
	const LinkRdmaOptions *options;
	char device[64];    /* wanted, or empty */
	int port;           /* wanted, or 0 */
	union ibv_gid gid;  /* the local address as RoCE v2 writes it */
	char interface[64]; /* network interface of that address, or empty */
	char address[INET6_ADDRSTRLEN];
} Search;

/* The local address of the TCP connection, and its interface. */
static bool
read_address(Search *search)
{
	struct sockaddr_storage local;
	socklen_t length = sizeof(local);
	struct ifaddrs *list;

	if (getsockname(search->options->fd, (struct sockaddr *) &local, &length) != 0)
		return false;
	if (local.ss_family == AF_INET)
	{
		const struct sockaddr_in *in = (struct sockaddr_in *) &local;

		search->gid.raw[10] = search->gid.raw[11] = 0xFF;
		memcpy(search->gid.raw + 12, &in->sin_addr, 4);
		inet_ntop(AF_INET, &in->sin_addr, search->address, sizeof(search->address));
	}
	else if (local.ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) &local;

		memcpy(search->gid.raw, &in6->sin6_addr, 16);
		inet_ntop(AF_INET6, &in6->sin6_addr, search->address, sizeof(search->address));
	}
	else
		return false;
	if (getifaddrs(&list) != 0)
		return true; /* InfiniBand will not be found by itself */
	for (struct ifaddrs *i = list; i != NULL; i = i->ifa_next)
	{
		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != local.ss_family)
			continue;
		if (local.ss_family == AF_INET
				? memcmp(&((struct sockaddr_in *) i->ifa_addr)->sin_addr,
						 &((struct sockaddr_in *) &local)->sin_addr, 4) == 0
				: memcmp(&((struct sockaddr_in6 *) i->ifa_addr)->sin6_addr,
						 &((struct sockaddr_in6 *) &local)->sin6_addr, 16) == 0)
			snprintf(search->interface, sizeof(search->interface), "%s", i->ifa_name);
	}
	freeifaddrs(list);
	return true;
}

static bool
read_options(Search *search, char *why, size_t why_size)
{
	const char *device = search->options->device;
	const char *colon = strchr(device, ':');
	size_t length = colon != NULL ? (size_t) (colon - device) : strlen(device);

	if (length >= sizeof(search->device))
		length = sizeof(search->device) - 1;
	memcpy(search->device, device, length);
	if (colon != NULL)
		search->port = atoi(colon + 1);
	if (read_address(search))
		return true;
	snprintf(why, why_size, "the link has no internet address");
	return false;
}

/* Is this the device and the port of the IP-over-InfiniBand interface? */
static bool
has_interface(const Search *search, const char *device, int port)
{
	char path[PATH_MAX];
	FILE *file;
	int number = -1; /* of the port, from 0 on */

	if (search->interface[0] == '\0')
		return false;
	snprintf(path, sizeof(path), "/sys/class/net/%s/device/infiniband/%s", search->interface,
			 device);
	if (access(path, F_OK) != 0)
		return false;
	snprintf(path, sizeof(path), "/sys/class/net/%s/dev_port", search->interface);
	file = fopen(path, "re");
	if (file == NULL)
		return true;
	if (fscanf(file, "%d", &number) != 1)
		number = port - 1;
	fclose(file);
	return number == port - 1;
}

/*
 * The GID of this port that fits, or -1.  On Ethernet it is the RoCE v2 GID
 * of the local address: it is known to the peer's IP routing.
 */
static int
find_gid(const Search *search, struct ibv_context *context, int port,
		 const struct ibv_port_attr *attr, union ibv_gid *gid)
{
	for (int i = 0; i < attr->gid_tbl_len; i++)
	{
		struct ibv_gid_entry entry;
		bool wanted = search->options->gid_index == i;

		if (search->options->gid_index >= 0 && !wanted)
			continue;
		if (ibv_query_gid_ex(context, port, i, &entry, 0) != 0)
			continue; /* an empty place */
		*gid = entry.gid;
		if (wanted)
			return i;
		if (attr->link_layer == IBV_LINK_LAYER_INFINIBAND)
		{
			if (search->device[0] != '\0' ||
				has_interface(search, ibv_get_device_name(context->device), port))
				return i;
		}
		else if (entry.gid_type == IBV_GID_TYPE_ROCE_V2 &&
				 memcmp(entry.gid.raw, search->gid.raw, sizeof(entry.gid.raw)) == 0)
			return i;
	}
	return -1;
}

/* Does a port of this device fit?  Then all that names it is in *r. */
static bool
take_port(Rdma *r, const Search *search, struct ibv_context *context)
{
	struct ibv_device_attr device;

	if (ibv_query_device(context, &device) != 0)
		return false;
	for (int port = 1; port <= device.phys_port_cnt; port++)
	{
		LinkRingEnd *local = &r->base.local;
		struct ibv_port_attr attr;
		union ibv_gid gid;
		char text[INET6_ADDRSTRLEN];

		if ((search->port != 0 && search->port != port) ||
			ibv_query_port(context, port, &attr) != 0 || attr.state != IBV_PORT_ACTIVE)
			continue;
		r->gid_index = find_gid(search, context, port, &attr, &gid);
		if (r->gid_index < 0)
			continue;
		r->port = port;
		r->global = attr.link_layer == IBV_LINK_LAYER_ETHERNET;
		local->layer = r->global ? LINK_LAYER_ETHERNET : LINK_LAYER_INFINIBAND;
		local->mtu = attr.active_mtu;
		local->lid = attr.lid;
		memcpy(local->gid, gid.raw, sizeof(local->gid));
		local->slots = SLOTS;
		if (device.max_qp_wr < SLOTS || device.max_cqe < SLOTS)
			local->slots = device.max_qp_wr < device.max_cqe ? device.max_qp_wr : device.max_cqe;
		inet_ntop(AF_INET6, gid.raw, text, sizeof(text));
		snprintf(r->base.description, sizeof(r->base.description),
				 "%s port %d, %s GID %d %s, MTU %d", ibv_get_device_name(context->device), port,
				 r->global ? "RoCE" : "InfiniBand", r->gid_index, text, 128 << attr.active_mtu);
		return local->slots >= LINK_RING_MIN_SLOTS;
	}
	return false;
}

/* Open the device that fits.  False with a reason. */
static bool
find_device(Rdma *r, const LinkRdmaOptions *options, char *why, size_t why_size)
{
	Search search = {.options = options};
	struct ibv_device **list;
	int count = 0;
	bool named = false;
	bool unopened = false;

	if (!read_options(&search, why, why_size))
		return false;
	list = ibv_get_device_list(&count);
	if (list == NULL || count == 0)
	{
		if (list != NULL)
			ibv_free_device_list(list);
		snprintf(why, why_size, "there is no RDMA device");
		return false;
	}
	for (int i = 0; i < count && r->context == NULL; i++)
	{
		struct ibv_context *context;

		if (search.device[0] != '\0' && strcmp(search.device, ibv_get_device_name(list[i])) != 0)
			continue;
		named = true;
		context = ibv_open_device(list[i]);
		if (context == NULL)
		{
			/* it may be the one that is wanted: if no other is, say this */
			snprintf(why, why_size, "could not open RDMA device \"%s\": %s",
					 ibv_get_device_name(list[i]), strerror(errno));
			unopened = true;
			continue;
		}
		if (take_port(r, &search, context))
			r->context = context;
		else
			ibv_close_device(context);
	}
	ibv_free_device_list(list);
	if (r->context != NULL)
		return true;
	if (unopened)
		return false;
	if (search.device[0] != '\0')
		snprintf(why, why_size,
				 named ? "RDMA device \"%s\" has no active port with such a GID"
					   : "there is no RDMA device \"%s\"",
				 options->device);
	else
		snprintf(why, why_size, "no RDMA device has an active port with the address %s",
				 search.address);
	return false;
}

/* ------------------------------------------------------------------- life */

static void
rdma_destroy(LinkVerbs *verbs)
{
	Rdma *r = (Rdma *) verbs;

	/* an event that was not acknowledged would be waited for */
	if (r->cq != NULL && r->events > 0)
		ibv_ack_cq_events(r->cq, r->events);
	if (r->qp != NULL)
		ibv_destroy_qp(r->qp);
	if (r->cq != NULL)
		ibv_destroy_cq(r->cq);
	if (r->mr != NULL)
		ibv_dereg_mr(r->mr);
	if (r->channel != NULL)
		ibv_destroy_comp_channel(r->channel);
	if (r->pd != NULL)
		ibv_dealloc_pd(r->pd);
	if (verbs->fd >= 0)
		close(verbs->fd);
	if (r->context != NULL)
		ibv_close_device(r->context);
	if (verbs->memory != NULL)
		munmap(verbs->memory, verbs->size);
	free(r);
}

/* Memory of so many bytes, registered.  The peer may write to the standby's. */
static bool
make_memory(Rdma *r, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return fail(r, "could not allocate %zu bytes: %s", size, strerror(errno));
	r->base.memory = memory;
	r->base.size = size;

	/* a child process must not get a copy of pages that the device writes to */
	(void) madvise(memory, size, MADV_DONTFORK);
	r->mr = ibv_reg_mr(r->pd, memory, size,
					   r->standby ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE : 0);
	if (r->mr == NULL)
		return fail(r, "could not register %zu MB of memory: %s%s", size / (1024 * 1024),
					strerror(errno), errno == ENOMEM ? " (see the limit on locked memory)" : "");
	return true;
}

static bool
watch(Rdma *r, int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
		epoll_ctl(r->base.fd, EPOLL_CTL_ADD, fd, &event) != 0)
		return fail(r, "could not wait for the device: %s", strerror(errno));
	return true;
}

static bool
make_queues(Rdma *r)
{
	uint32_t slots = r->base.local.slots;
	struct ibv_qp_init_attr init = {.qp_type = IBV_QPT_RC};
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = r->port};

	r->pd = ibv_alloc_pd(r->context);
	if (r->pd == NULL)
		return fail(r, "could not allocate a protection domain: %s", strerror(errno));
	r->channel = ibv_create_comp_channel(r->context);
	if (r->channel == NULL)
		return fail(r, "could not create a completion channel: %s", strerror(errno));
	r->base.fd = epoll_create1(EPOLL_CLOEXEC);
	if (r->base.fd < 0)
		return fail(r, "could not wait for the device: %s", strerror(errno));
	if (!watch(r, r->channel->fd) || !watch(r, r->context->async_fd))
		return false;
	r->cq = ibv_create_cq(r->context, slots, NULL, r->channel, 0);
	if (r->cq == NULL)
		return fail(r, "could not create a completion queue: %s", strerror(errno));

	init.send_cq = init.recv_cq = r->cq;
	init.cap.max_send_wr = r->standby ? 1 : slots;
	init.cap.max_recv_wr = r->standby ? slots : 1;
	init.cap.max_send_sge = init.cap.max_recv_sge = 1;
	init.cap.max_inline_data = r->standby ? 0 : INLINE_MAX;
	r->qp = ibv_create_qp(r->pd, &init);
	if (r->qp == NULL)
	{
		init.cap.max_inline_data = 0; /* not every device has it */
		r->qp = ibv_create_qp(r->pd, &init);
	}
	if (r->qp == NULL)
		return fail(r, "could not create a queue pair: %s", strerror(errno));
	r->inline_max = init.cap.max_inline_data;
	attr.qp_access_flags = r->standby ? IBV_ACCESS_REMOTE_WRITE : 0;
	errno = ibv_modify_qp(r->qp, &attr,
						  IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	if (errno != 0)
		return fail(r, "could not initialize the queue pair: %s", strerror(errno));
	return true;
}

/* ------------------------------------------------------------- connecting */

static bool
post_receives(Rdma *r, int count)
{
	while (count-- > 0)
	{
		struct ibv_recv_wr wr = {0}; /* a write brings its own address */
		struct ibv_recv_wr *bad;

		errno = ibv_post_recv(r->qp, &wr, &bad);
		if (errno != 0)
			return fail(r, "could not post a receive entry: %s", strerror(errno));
	}
	return true;
}

static bool
ready_to_receive(Rdma *r, const LinkRingEnd *peer)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = peer->mtu < r->base.local.mtu ? peer->mtu : r->base.local.mtu,
		.dest_qp_num = peer->queue_pair,
		.rq_psn = peer->sequence,
		.max_dest_rd_atomic = 0, /* nobody reads */
		.min_rnr_timer = RNR_TIMER,
		.ah_attr = {.dlid = peer->lid, .port_num = r->port, .is_global = r->global},
	};

	if (r->global)
	{
		memcpy(attr.ah_attr.grh.dgid.raw, peer->gid, sizeof(peer->gid));
		attr.ah_attr.grh.sgid_index = r->gid_index;
		attr.ah_attr.grh.hop_limit = HOP_LIMIT;
	}
	errno = ibv_modify_qp(r->qp, &attr,
						  IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
							  IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
	if (errno != 0)
		return fail(r, "could not reach the peer's queue pair: %s", strerror(errno));
	return true;
}

static bool
ready_to_send(Rdma *r)
{
	struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS,
							   .sq_psn = r->base.local.sequence,
							   .timeout = r->timeout,
							   .retry_cnt = RETRIES,
							   .rnr_retry = RNR_RETRIES,
							   .max_rd_atomic = 0};

	errno = ibv_modify_qp(r->qp, &attr,
						  IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
							  IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
	if (errno != 0)
		return fail(r, "could not start the queue pair: %s", strerror(errno));
	return true;
}

static bool
rdma_connect(LinkVerbs *verbs, const LinkRingEnd *peer)
{
	Rdma *r = (Rdma *) verbs;

	if (!r->standby)
	{
		r->remote_address = peer->address;
		r->remote_key = peer->key;
		if (!make_memory(r, peer->size))
			return false;
	}
	if (r->standby && !post_receives(r, verbs->local.slots))
		return false;
	if (!ready_to_receive(r, peer) || !ready_to_send(r))
		return false;
	errno = ibv_req_notify_cq(r->cq, !r->standby);
	return errno == 0 || fail(r, "could not arm the completion queue: %s", strerror(errno));
}

static int
timeout_for(int timeout_ms)
{
	int n = TIMEOUT_MIN;

	/* half of it: what was lost last is also sent again, and TCP needs its turn */
	while (n < TIMEOUT_MAX && 4.096e-3 * (2 << n) * (RETRIES + 1) <= timeout_ms / 2.0)
		n++;
	return n;
}

/* --------------------------------------------------------------- operations */

static bool
rdma_write(LinkVerbs *verbs, size_t offset, size_t length, uint32_t mark)
{
	Rdma *r = (Rdma *) verbs;
	struct ibv_sge piece = {
		.addr = (uintptr_t) (verbs->memory + offset), .length = length, .lkey = r->mr->lkey};
	struct ibv_send_wr wr = {.sg_list = &piece,
							 .num_sge = 1,
							 .opcode = IBV_WR_RDMA_WRITE_WITH_IMM,
							 .send_flags = IBV_SEND_SIGNALED,
							 .imm_data = htonl(mark)};
	struct ibv_send_wr *bad;

	if (length <= r->inline_max)
		wr.send_flags |= IBV_SEND_INLINE;
	wr.wr.rdma.remote_addr = r->remote_address + offset;
	wr.wr.rdma.rkey = r->remote_key;
	errno = ibv_post_send(r->qp, &wr, &bad);
	return errno == 0 || fail(r, "could not post a write: %s", strerror(errno));
}

static bool
completed_well(Rdma *r, const struct ibv_wc *wc)
{
	return wc->status == IBV_WC_SUCCESS ||
		   fail(r, "the queue pair has failed: %s", ibv_wc_status_str(wc->status));
}

static int
rdma_written(LinkVerbs *verbs)
{
	Rdma *r = (Rdma *) verbs;
	struct ibv_wc wc[16];
	int total = 0;
	int n;

	do
	{
		n = ibv_poll_cq(r->cq, 16, wc);
		for (int i = 0; i < n; i++)
		{
			if (!completed_well(r, &wc[i]))
				return -1;
			total++;
		}
	} while (n == 16);
	if (n < 0)
	{
		(void) fail(r, "could not read the completion queue");
		return -1;
	}
	return total;
}

static int
rdma_arrived(LinkVerbs *verbs, uint32_t *marks, int max)
{
	Rdma *r = (Rdma *) verbs;
	struct ibv_wc wc[32];
	int n = ibv_poll_cq(r->cq, max < 32 ? max : 32, wc);

	if (n < 0)
	{
		(void) fail(r, "could not read the completion queue");
		return -1;
	}
	for (int i = 0; i < n; i++)
	{
		/* what came before an error is taken; the error is found again then */
		if (wc[i].status != IBV_WC_SUCCESS)
		{
			(void) completed_well(r, &wc[i]);
			return i > 0 ? i : -1;
		}
		if (wc[i].opcode != IBV_WC_RECV_RDMA_WITH_IMM)
		{
			(void) fail(r, "something else than a write has come");
			return -1;
		}
		marks[i] = ntohl(wc[i].imm_data);
	}
	if (n == 0 && r->base.error[0] != '\0')
		return -1;
	return n;
}

static bool
rdma_repost(LinkVerbs *verbs, int count)
{
	return post_receives((Rdma *) verbs, count);
}

/* Take the events that made the channel readable. */
static void
take_events(Rdma *r)
{
	struct ibv_cq *cq;
	void *context;

	while (ibv_get_cq_event(r->channel, &cq, &context) == 0)
	{
		/* acknowledging takes a lock: not each time */
		if (++r->events == 1000)
		{
			ibv_ack_cq_events(r->cq, r->events);
			r->events = 0;
		}
	}
}

static bool
rdma_arm(LinkVerbs *verbs)
{
	Rdma *r = (Rdma *) verbs;

	take_events(r);
	errno = ibv_req_notify_cq(r->cq, !r->standby);
	return errno == 0 || fail(r, "could not arm the completion queue: %s", strerror(errno));
}

/*
 * Some drivers, soft-RoCE's among them, do not tell who uses a device that it
 * is to be removed, but wait until nobody does.  Its entry in sysfs has gone
 * before.
 */
static bool
is_present(Rdma *r)
{
	struct timespec ts;
	int64_t now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	now = (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
	if (now - r->looked < PRESENT_MS)
		return true;
	r->looked = now;
	return access(r->context->device->dev_path, F_OK) == 0 || errno != ENOENT ||
		   fail(r, "the device is being removed");
}

/*
 * Asynchronous events.  Those of other queue pairs do not come to us: the
 * device was opened for this one.
 */
static bool
rdma_healthy(LinkVerbs *verbs)
{
	Rdma *r = (Rdma *) verbs;
	struct ibv_async_event event;
	bool well = r->base.error[0] == '\0';

	while (ibv_get_async_event(r->context, &event) == 0)
	{
		switch (event.event_type)
		{
			case IBV_EVENT_COMM_EST:
			case IBV_EVENT_PORT_ACTIVE:
			case IBV_EVENT_SM_CHANGE:
			case IBV_EVENT_CLIENT_REREGISTER:
			case IBV_EVENT_GID_CHANGE:
			case IBV_EVENT_PKEY_CHANGE:
			case IBV_EVENT_SQ_DRAINED:
				break;
			case IBV_EVENT_PORT_ERR:
			case IBV_EVENT_LID_CHANGE:
				if (event.element.port_num == r->port)
					well = fail(r, "port %d: %s", r->port, ibv_event_type_str(event.event_type));
				break;
			default:
				well = fail(r, "%s", ibv_event_type_str(event.event_type));
				break;
		}
		ibv_ack_async_event(&event);
	}
	if (!r->standby)
		take_events(r);
	return is_present(r) && well;
}

static const LinkVerbsOps rdma_ops = {
	.name = "rdma",
	.connect = rdma_connect,
	.write = rdma_write,
	.written = rdma_written,
	.arrived = rdma_arrived,
	.repost = rdma_repost,
	.arm = rdma_arm,
	.healthy = rdma_healthy,
	.destroy = rdma_destroy,
};

LinkVerbs *
link_rdma_open(const LinkRdmaOptions *options, char *why, size_t why_size)
{
	Rdma *r = calloc(1, sizeof(Rdma));
	uint32_t sequence = 0;

	if (r == NULL)
	{
		snprintf(why, why_size, "out of memory");
		return NULL;
	}
	r->base.ops = &rdma_ops;
	r->base.fd = -1;
	r->standby = options->standby;
	r->timeout = timeout_for(options->timeout_ms);
	if (!find_device(r, options, why, why_size))
	{
		rdma_destroy(&r->base);
		return NULL;
	}
	(void) !getrandom(&sequence, sizeof(sequence), GRND_NONBLOCK);
	r->base.local.sequence = sequence & 0xFFFFFF;
	r->base.local.size = options->size;
	if (!make_queues(r) || (r->standby && !make_memory(r, options->size)))
	{
		snprintf(why, why_size, "%s: %s", ibv_get_device_name(r->context->device), r->base.error);
		rdma_destroy(&r->base);
		return NULL;
	}
	r->base.local.queue_pair = r->qp->qp_num;
	if (r->standby)
	{
		r->base.local.key = r->mr->rkey;
		r->base.local.address = (uintptr_t) r->base.memory;
	}
	return &r->base;
}
