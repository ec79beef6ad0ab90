/*-------------------------------------------------------------------------
 *
 * fake_verbs.c
 *	  libibverbs without devices.  See fake_verbs.h.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fake_verbs.h"

/* these are functions of the library below the macros */
#undef ibv_query_port
#undef ibv_reg_mr

#define EVENTS  16
#define ENTRIES 4096 /* of a completion queue, at most */
#define PAIRS   8
#define REGIONS 8

typedef struct FakeContext
{
	struct ibv_context base;
	struct ibv_async_event events[EVENTS];
	int event_count;
	int unacked;
	int objects;
	struct FakeContext *next;
} FakeContext;

typedef struct FakeQueue
{
	struct ibv_cq base;
	struct ibv_wc entries[ENTRIES];
	int count;
	int armed; /* 1: for solicited events, 2: for all */
	int unacked;
	int users;
} FakeQueue;

typedef struct FakePair
{
	struct ibv_qp base;
	struct ibv_qp_cap cap;
	FakeQueue *queue;
	uint32_t peer;
	bool remote_write;
	bool failed;
	int receives;
	int sends; /* whose completion was not taken yet */
} FakePair;

typedef struct FakeRegion
{
	struct ibv_mr base;
	int access;
} FakeRegion;

Fake fake;
static FakeContext *contexts;
static FakePair *pairs[PAIRS]; /* by number - 1 */
static FakeRegion *regions[REGIONS];

void
fake_reset(void)
{
	memset(&fake, 0, sizeof(fake));
}

/* Is it this call that is to fail? */
static bool
fails(void)
{
	if (++fake.calls != fake.fail_at)
		return false;
	errno = ENOMEM;
	return true;
}

static void
demand(bool condition)
{
	if (!condition)
		fake.violations++;
}

/* Memory for an object of 'context'. */
static void *
make(struct ibv_context *context, size_t size)
{
	void *object = calloc(1, size);

	if (object == NULL)
		abort();
	fake.objects++;
	if (context != NULL)
		((FakeContext *) context)->objects++;
	return object;
}

static int
destroy(struct ibv_context *context, void *object)
{
	fake.objects--;
	if (context != NULL)
		((FakeContext *) context)->objects--;
	free(object);
	return 0;
}

static void
raise_event(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		abort();
}

/* -1 with EAGAIN if there is none */
static int
take_event(int fd)
{
	uint64_t one;

	return read(fd, &one, sizeof(one)) == sizeof(one) ? 0 : -1;
}

/* ---------------------------------------------------------------- devices */

struct ibv_device **
ibv_get_device_list(int *num_devices)
{
	struct ibv_device **list;

	if (fails())
		return NULL;
	list = make(NULL, (fake.devices + 1) * sizeof(struct ibv_device *));
	for (int i = 0; i < fake.devices; i++)
		list[i] = &fake.device[i].base;
	*num_devices = fake.devices;
	return list;
}

void
ibv_free_device_list(struct ibv_device **list)
{
	destroy(NULL, list);
}

const char *
ibv_get_device_name(struct ibv_device *device)
{
	return device->name;
}

static int poll_cq(struct ibv_cq *cq, int num_entries, struct ibv_wc *wc);
static int req_notify_cq(struct ibv_cq *cq, int solicited_only);
static int post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr);
static int post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr);

struct ibv_context *
ibv_open_device(struct ibv_device *device)
{
	FakeContext *context;

	errno = ((FakeDevice *) device)->open_error;
	if (errno != 0 || fails())
		return NULL;
	context = make(NULL, sizeof(FakeContext));
	context->base.device = device;
	context->base.ops.poll_cq = poll_cq;
	context->base.ops.req_notify_cq = req_notify_cq;
	context->base.ops.post_send = post_send;
	context->base.ops.post_recv = post_recv;
	context->base.async_fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	context->next = contexts;
	contexts = context;
	return &context->base;
}

int
ibv_close_device(struct ibv_context *context)
{
	FakeContext *c = (FakeContext *) context;
	FakeContext **at = &contexts;

	demand(c->objects == 0 && c->unacked == 0);
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	close(context->async_fd);
	return destroy(NULL, c);
}

int
ibv_query_device(struct ibv_context *context, struct ibv_device_attr *device_attr)
{
	const FakeDevice *device = (FakeDevice *) context->device;

	memset(device_attr, 0, sizeof(*device_attr));
	device_attr->phys_port_cnt = device->ports;
	device_attr->max_qp_wr = device->max_qp_wr;
	device_attr->max_cqe = device->max_cqe;
	return fails() ? ENOMEM : 0;
}

int
ibv_query_port(struct ibv_context *context, uint8_t port_num,
			   struct _compat_ibv_port_attr *port_attr)
{
	const FakePort *port = &((FakeDevice *) context->device)->port[port_num - 1];
	struct ibv_port_attr *attr = (struct ibv_port_attr *) port_attr;

	attr->state = port->state;
	attr->active_mtu = port->mtu;
	attr->lid = port->lid;
	attr->link_layer = port->layer;
	attr->gid_tbl_len = FAKE_GIDS;
	return fails() ? ENOMEM : 0;
}

int
_ibv_query_gid_ex(struct ibv_context *context, uint32_t port_num, uint32_t gid_index,
				  struct ibv_gid_entry *entry, uint32_t flags, size_t entry_size)
{
	static const union ibv_gid empty;
	const FakeDevice *device = (FakeDevice *) context->device;

	demand(flags == 0 && entry_size == sizeof(*entry) && gid_index < FAKE_GIDS);
	*entry = device->port[port_num - 1].gid[gid_index];
	return fails() || memcmp(&entry->gid, &empty, sizeof(empty)) == 0 ? ENODATA : 0;
}

/* ---------------------------------------------------------------- objects */

struct ibv_pd *
ibv_alloc_pd(struct ibv_context *context)
{
	struct ibv_pd *pd;

	if (fails())
		return NULL;
	pd = make(context, sizeof(*pd));
	pd->context = context;
	return pd;
}

int
ibv_dealloc_pd(struct ibv_pd *pd)
{
	for (int i = 0; i < PAIRS; i++)
		demand(pairs[i] == NULL || pairs[i]->base.pd != pd);
	for (int i = 0; i < REGIONS; i++)
		demand(regions[i] == NULL || regions[i]->base.pd != pd);
	return destroy(pd->context, pd);
}

struct ibv_mr *
ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	FakeRegion *region;
	int i = 0;

	if (fails())
		return NULL;
	region = make(pd->context, sizeof(*region));
	while (regions[i] != NULL)
		i++;
	regions[i] = region;
	region->base = (struct ibv_mr){
		.context = pd->context, .pd = pd, .addr = addr, .length = length, .lkey = i, .rkey = i};
	region->access = access;
	fake.access[(access & IBV_ACCESS_REMOTE_WRITE) != 0] = access;
	return &region->base;
}

struct ibv_mr *
ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova, unsigned int access)
{
	demand(iova == (uintptr_t) addr);
	return ibv_reg_mr(pd, addr, length, (int) access);
}

int
ibv_dereg_mr(struct ibv_mr *mr)
{
	regions[mr->rkey] = NULL;
	return destroy(mr->context, mr);
}

struct ibv_comp_channel *
ibv_create_comp_channel(struct ibv_context *context)
{
	struct ibv_comp_channel *channel;

	if (fails())
		return NULL;
	channel = make(context, sizeof(*channel));
	channel->context = context;
	channel->fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	return channel;
}

int
ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	demand(channel->refcnt == 0);
	close(channel->fd);
	return destroy(channel->context, channel);
}

struct ibv_cq *
ibv_create_cq(struct ibv_context *context, int cqe, void *cq_context,
			  struct ibv_comp_channel *channel, int comp_vector)
{
	FakeQueue *queue;

	if (fails())
		return NULL;
	demand(comp_vector == 0 && cqe <= ((FakeDevice *) context->device)->max_cqe && cqe <= ENTRIES);
	queue = make(context, sizeof(*queue));
	queue->base.context = context;
	queue->base.channel = channel;
	queue->base.cq_context = cq_context;
	queue->base.cqe = cqe;
	channel->refcnt++;
	return &queue->base;
}

int
ibv_destroy_cq(struct ibv_cq *cq)
{
	FakeQueue *queue = (FakeQueue *) cq;

	demand(queue->users == 0 && queue->unacked == 0);
	cq->channel->refcnt--;
	return destroy(cq->context, queue);
}

struct ibv_qp *
ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *qp_init_attr)
{
	const FakeDevice *device = (FakeDevice *) pd->context->device;
	struct ibv_qp_cap *cap = &qp_init_attr->cap;
	FakePair *pair;
	int i = 0;

	if (fails())
		return NULL;
	if ((int) cap->max_inline_data > device->max_inline)
	{
		errno = EINVAL;
		return NULL;
	}
	demand((int) cap->max_send_wr <= device->max_qp_wr &&
		   (int) cap->max_recv_wr <= device->max_qp_wr);
	demand(qp_init_attr->qp_type == IBV_QPT_RC && qp_init_attr->send_cq == qp_init_attr->recv_cq);
	pair = make(pd->context, sizeof(*pair));
	while (pairs[i] != NULL)
		i++;
	pairs[i] = pair;
	pair->base.context = pd->context;
	pair->base.pd = pd;
	pair->base.qp_num = i + 1;
	pair->base.state = IBV_QPS_RESET;
	pair->cap = *cap;
	pair->queue = (FakeQueue *) qp_init_attr->send_cq;
	pair->queue->users++;
	return &pair->base;
}

int
ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int attr_mask)
{
	FakePair *pair = (FakePair *) qp;
	struct ibv_qp_attr *kept = &fake.attr[pair->remote_write];

	if (fails())
		return ENOMEM;
	demand((attr_mask & IBV_QP_STATE) != 0);
	switch (attr->qp_state)
	{
		case IBV_QPS_INIT:
			demand(qp->state == IBV_QPS_RESET && attr->pkey_index == 0);
			pair->remote_write = (attr->qp_access_flags & IBV_ACCESS_REMOTE_WRITE) != 0;
			kept = &fake.attr[pair->remote_write];
			kept->qp_access_flags = attr->qp_access_flags;
			kept->port_num = attr->port_num;
			break;
		case IBV_QPS_RTR:
			demand(qp->state == IBV_QPS_INIT);
			pair->peer = attr->dest_qp_num;
			kept->path_mtu = attr->path_mtu;
			kept->rq_psn = attr->rq_psn;
			kept->min_rnr_timer = attr->min_rnr_timer;
			kept->ah_attr = attr->ah_attr;
			break;
		case IBV_QPS_RTS:
			demand(qp->state == IBV_QPS_RTR);
			kept->timeout = attr->timeout;
			kept->retry_cnt = attr->retry_cnt;
			kept->rnr_retry = attr->rnr_retry;
			kept->sq_psn = attr->sq_psn;
			break;
		default:
			demand(false);
			break;
	}
	qp->state = attr->qp_state;
	return 0;
}

int
ibv_destroy_qp(struct ibv_qp *qp)
{
	FakePair *pair = (FakePair *) qp;

	pair->queue->users--;
	pairs[qp->qp_num - 1] = NULL;
	return destroy(qp->context, pair);
}

/* ----------------------------------------------------------- what happens */

static void
complete(FakePair *pair, enum ibv_wc_status status, enum ibv_wc_opcode opcode, uint32_t imm_data)
{
	FakeQueue *queue = pair->queue;
	bool solicited = status != IBV_WC_SUCCESS; /* nothing else is here */

	if (queue->count == queue->base.cqe)
	{
		demand(false);
		return;
	}
	queue->entries[queue->count++] = (struct ibv_wc){
		.status = status, .opcode = opcode, .imm_data = imm_data, .qp_num = pair->base.qp_num};
	if (queue->armed == 2 || (queue->armed == 1 && solicited))
	{
		queue->armed = 0;
		raise_event(queue->base.channel->fd);
	}
}

/* A queue pair that has failed gives back its receive entries. */
static void
fail_pair(FakePair *pair)
{
	pair->failed = true;
	for (; pair->receives > 0; pair->receives--)
		complete(pair, IBV_WC_WR_FLUSH_ERR, IBV_WC_RECV, 0);
}

static int
poll_cq(struct ibv_cq *cq, int num_entries, struct ibv_wc *wc)
{
	FakeQueue *queue = (FakeQueue *) cq;
	int n = num_entries < queue->count ? num_entries : queue->count;

	if (fails())
		return -1;
	memcpy(wc, queue->entries, n * sizeof(*wc));
	queue->count -= n;
	memmove(queue->entries, queue->entries + n, queue->count * sizeof(*wc));
	for (int i = 0; i < n; i++)
	{
		FakePair *pair = pairs[wc[i].qp_num - 1];

		if (pair != NULL && wc[i].opcode == IBV_WC_RDMA_WRITE)
			pair->sends--;
	}
	return n;
}

static int
req_notify_cq(struct ibv_cq *cq, int solicited_only)
{
	((FakeQueue *) cq)->armed = solicited_only ? 1 : 2;
	return fails() ? ENOMEM : 0;
}

static int
post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad_wr)
{
	FakePair *pair = (FakePair *) qp;

	*bad_wr = wr;
	if (fails())
		return ENOMEM;
	demand(qp->state != IBV_QPS_RESET && wr->num_sge == 0 && wr->next == NULL);
	demand(pair->receives < (int) pair->cap.max_recv_wr);
	pair->receives++;
	if (pair->failed)
		fail_pair(pair);
	return 0;
}

/* Place a write into the peer's memory.  What came of it. */
static enum ibv_wc_status
place(const struct ibv_send_wr *wr, FakePair *peer)
{
	const struct ibv_sge *piece = wr->sg_list;
	const FakeRegion *region = regions[wr->wr.rdma.rkey];
	const uint8_t *begin = (const uint8_t *) (uintptr_t) wr->wr.rdma.remote_addr;

	if (fake.write_status != IBV_WC_SUCCESS)
		return fake.write_status;
	if (peer == NULL || peer->failed)
		return IBV_WC_RETRY_EXC_ERR;
	if (peer->receives == 0)
	{
		demand(false);
		return IBV_WC_RNR_RETRY_EXC_ERR;
	}
	if (!peer->remote_write || (region->access & IBV_ACCESS_REMOTE_WRITE) == 0 ||
		begin < (uint8_t *) region->base.addr ||
		begin + piece->length > (uint8_t *) region->base.addr + region->base.length)
	{
		demand(false);
		return IBV_WC_REM_ACCESS_ERR;
	}
	memcpy((void *) (uintptr_t) begin, (void *) (uintptr_t) piece->addr, piece->length);
	peer->receives--;
	complete(peer, IBV_WC_SUCCESS, IBV_WC_RECV_RDMA_WITH_IMM, wr->imm_data);
	return IBV_WC_SUCCESS;
}

static int
post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad_wr)
{
	FakePair *pair = (FakePair *) qp;
	FakePair *peer = pairs[pair->peer - 1];
	const struct ibv_sge *piece = wr->sg_list;
	const FakeRegion *own = regions[piece->lkey];
	enum ibv_wc_status status = IBV_WC_WR_FLUSH_ERR;

	*bad_wr = wr;
	if (fails())
		return ENOMEM;
	demand(qp->state == IBV_QPS_RTS && wr->opcode == IBV_WR_RDMA_WRITE_WITH_IMM &&
		   wr->num_sge == 1);
	demand((uint8_t *) (uintptr_t) piece->addr >= (uint8_t *) own->base.addr);
	demand((wr->send_flags & IBV_SEND_INLINE) == 0 || piece->length <= pair->cap.max_inline_data);
	demand(pair->sends < (int) pair->cap.max_send_wr);
	pair->sends++;
	fake.inline_writes += (wr->send_flags & IBV_SEND_INLINE) != 0;
	if (peer != NULL && peer->peer != qp->qp_num)
		peer = NULL;
	if (!pair->failed)
		status = place(wr, peer);
	complete(pair, status, IBV_WC_RDMA_WRITE, 0);
	if (status != IBV_WC_SUCCESS)
		fail_pair(pair);
	return 0;
}

/* ----------------------------------------------------------------- events */

int
ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **cq_context)
{
	if (take_event(channel->fd) != 0)
		return -1;

	/* there is one completion queue for each channel here */
	for (int i = 0; i < PAIRS; i++)
	{
		if (pairs[i] != NULL && pairs[i]->queue->base.channel == channel)
		{
			pairs[i]->queue->unacked++;
			*cq = &pairs[i]->queue->base;
			*cq_context = (*cq)->cq_context;
		}
	}
	return 0;
}

void
ibv_ack_cq_events(struct ibv_cq *cq, unsigned int nevents)
{
	((FakeQueue *) cq)->unacked -= nevents;
}

void
fake_event(FakeDevice *device, enum ibv_event_type type, int port)
{
	for (FakeContext *c = contexts; c != NULL; c = c->next)
	{
		if (c->base.device != &device->base)
			continue;
		c->events[c->event_count++] =
			(struct ibv_async_event){.element.port_num = port, .event_type = type};
		raise_event(c->base.async_fd);
	}
}

int
ibv_get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
	FakeContext *c = (FakeContext *) context;

	if (take_event(context->async_fd) != 0)
		return -1;
	*event = c->events[0];
	c->event_count--;
	memmove(c->events, c->events + 1, c->event_count * sizeof(*event));
	c->unacked++;

	return 0;
}

void
ibv_ack_async_event(struct ibv_async_event *event)
{
	(void) event;
	for (FakeContext *c = contexts; c != NULL; c = c->next)
	{
		if (c->unacked > 0)
		{
			c->unacked--;
			return;
		}
	}
	demand(false);
}

const char *
ibv_wc_status_str(enum ibv_wc_status status)
{
	return status == IBV_WC_RETRY_EXC_ERR ? "transport retry counter exceeded" : "another status";
}

const char *
ibv_event_type_str(enum ibv_event_type event)
{
	return event == IBV_EVENT_PORT_ERR ? "port error" : "another event";
}
