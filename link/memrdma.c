/*-------------------------------------------------------------------------
 *
 * memrdma.c
 *	  RDMA without a device.  See memrdma.h.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "memrdma.h"

#define WINDOW 8 /* writes that are placed at the same time */

typedef struct MemEnd
{
	LinkVerbs base;
	LinkMemFabric *fabric;
	bool standby;
	bool connected;
	bool armed;
	bool broken; /* and told so */
} MemEnd;

/* A write.  What is placed of it: all but [from, to). */
typedef struct MemWrite
{
	size_t offset;
	size_t length;
	size_t from;
	size_t to;
	uint32_t mark;
} MemWrite;

/*
 * The writes of one connection, by number: those before 'reposted' are over,
 * those before 'taken' are known to the standby, those before 'notified' have
 * arrived, the others are under way.
 */
struct LinkMemFabric
{
	uint64_t random;
	MemEnd *end[2]; /* primary, standby */
	bool broken;
	MemWrite *writes;
	uint64_t capacity;
	uint64_t posted;
	uint64_t notified;
	uint64_t taken;
	uint64_t reposted;
	uint64_t completed; /* and those before this are completed ... */
	uint64_t told;      /* ... and reported to the primary */
	uint32_t entries;   /* receive entries there are */
	int violations;
};

/* xorshift64*: below 'n' */
static uint64_t
below(LinkMemFabric *fabric, uint64_t n)
{
	fabric->random ^= fabric->random >> 12;
	fabric->random ^= fabric->random << 25;
	fabric->random ^= fabric->random >> 27;
	return (fabric->random * UINT64_C(0x2545F4914F6CDD1D) >> 16) % n;
}

static MemWrite *
write_number(LinkMemFabric *fabric, uint64_t number)
{
	return &fabric->writes[number % fabric->capacity];
}

static void
signal_end(MemEnd *end)
{
	uint64_t one = 1;

	if (end == NULL || !end->armed)
		return;
	end->armed = false;
	if (write(end->base.fd, &one, sizeof(one)) != sizeof(one))
		abort();
}

LinkMemFabric *
link_memrdma_create(uint64_t seed)
{
	LinkMemFabric *fabric = calloc(1, sizeof(LinkMemFabric));

	if (fabric != NULL)
		fabric->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	return fabric;
}

void
link_memrdma_destroy(LinkMemFabric *fabric)
{
	free(fabric->writes);
	free(fabric);
}

int
link_memrdma_violations(const LinkMemFabric *fabric)
{
	return fabric->violations;
}

void
link_memrdma_break(LinkMemFabric *fabric, bool tell_primary, bool tell_standby)
{
	fabric->broken = true;
	for (int i = 0; i < 2; i++)
	{
		if (fabric->end[i] != NULL && (i == 0 ? tell_primary : tell_standby))
		{
			fabric->end[i]->broken = true;
			signal_end(fabric->end[i]);
		}
	}
}

/* --------------------------------------------------------- what happens */

/* Place a piece of a write that is under way. */
static void
place_piece(LinkMemFabric *fabric)
{
	uint64_t under_way = fabric->posted - fabric->notified;
	MemWrite *w = write_number(fabric, fabric->notified +
										   below(fabric, under_way < WINDOW ? under_way : WINDOW));
	size_t left = w->to - w->from;
	size_t n = below(fabric, 3) == 0 ? left : below(fabric, left + 1);
	size_t at = below(fabric, 2) == 0 ? w->from : w->to - n;

	memcpy(fabric->end[1]->base.memory + w->offset + at,
		   fabric->end[0]->base.memory + w->offset + at, n);
	if (at == w->from)
		w->from += n;
	else
		w->to -= n;
}

static void
notify(LinkMemFabric *fabric)
{
	const MemWrite *w = write_number(fabric, fabric->notified);

	if (w->from < w->to)
		return;
	if (fabric->entries == 0)
	{
		fabric->violations++;
		link_memrdma_break(fabric, true, true);
		return;
	}
	fabric->entries--;
	fabric->notified++;
	signal_end(fabric->end[1]);
}

void
link_memrdma_run(LinkMemFabric *fabric, int steps)
{
	for (int i = 0; i < steps; i++)
	{
		bool whole = fabric->end[0] != NULL && fabric->end[1] != NULL && !fabric->broken;

		if (fabric->end[0] == NULL)
			return;
		if (whole && fabric->notified < fabric->posted)
		{
			if (below(fabric, 2) == 0)
				place_piece(fabric);
			else
				notify(fabric);
		}
		if (fabric->end[1] == NULL && fabric->completed < fabric->posted && below(fabric, 4) == 0)
		{
			fabric->end[0]->broken = true; /* nobody answers */
			signal_end(fabric->end[0]);
		}
		else if (fabric->completed < fabric->notified && below(fabric, 2) == 0)
		{
			fabric->completed++;
			signal_end(fabric->end[0]);
		}
	}
}

/* ------------------------------------------------------------ operations */

static bool
broken(MemEnd *end)
{
	if (end->broken)
		snprintf(end->base.error, sizeof(end->base.error), "the fabric broke");
	return end->broken;
}

static bool
mem_connect(LinkVerbs *verbs, const LinkRingEnd *peer)
{
	MemEnd *end = (MemEnd *) verbs;

	if (broken(end))
		return false;
	if (end->standby)
		end->fabric->entries = verbs->local.slots;
	else
	{
		verbs->size = peer->size;
		verbs->memory = malloc(verbs->size);
	}
	end->connected = verbs->memory != NULL;
	return end->connected;
}

/* Does it touch a place that the standby has not given back? */
static bool
overruns(LinkMemFabric *fabric, size_t offset, size_t length)
{
	for (uint64_t i = fabric->reposted; i < fabric->posted; i++)
	{
		const MemWrite *w = write_number(fabric, i);

		if (offset < w->offset + w->length && w->offset < offset + length)
			return true;
	}
	return false;
}

static bool
mem_write(LinkVerbs *verbs, size_t offset, size_t length, uint32_t mark)
{
	MemEnd *end = (MemEnd *) verbs;
	LinkMemFabric *fabric = end->fabric;

	if (broken(end))
		return false;
	if (!end->connected || offset + length > verbs->size || overruns(fabric, offset, length))
		fabric->violations++;
	if (fabric->posted - fabric->reposted == fabric->capacity)
	{
		fabric->violations++; /* more writes than receive entries */
		return true;
	}
	*write_number(fabric, fabric->posted) = (MemWrite){offset, length, 0, length, mark};
	fabric->posted++;
	return true;
}

static int
mem_written(LinkVerbs *verbs)
{
	MemEnd *end = (MemEnd *) verbs;
	LinkMemFabric *fabric = end->fabric;
	int n = fabric->completed - fabric->told;

	if (broken(end))
		return -1;
	fabric->told += n;
	return n;
}

static int
mem_arrived(LinkVerbs *verbs, uint32_t *marks, int max)
{
	MemEnd *end = (MemEnd *) verbs;
	LinkMemFabric *fabric = end->fabric;
	int n = 0;

	while (n < max && fabric->taken < fabric->notified)
		marks[n++] = write_number(fabric, fabric->taken++)->mark;
	if (n == 0 && broken(end))
		return -1;
	return n;
}

static bool
mem_repost(LinkVerbs *verbs, int count)
{
	MemEnd *end = (MemEnd *) verbs;
	LinkMemFabric *fabric = end->fabric;

	if (broken(end))
		return false;
	if (fabric->reposted + count > fabric->taken)
		fabric->violations++;
	fabric->reposted += count;
	fabric->entries += count;
	return true;
}

static bool
mem_arm(LinkVerbs *verbs)
{
	MemEnd *end = (MemEnd *) verbs;
	uint64_t events;

	if (broken(end))
		return false;
	(void) !read(verbs->fd, &events, sizeof(events));
	end->armed = true;
	return true;
}

static bool
mem_healthy(LinkVerbs *verbs)
{
	return !broken((MemEnd *) verbs);
}

static void
mem_destroy(LinkVerbs *verbs)
{
	MemEnd *end = (MemEnd *) verbs;

	end->fabric->end[end->standby] = NULL;
	close(verbs->fd);
	free(verbs->memory);
	free(end);
}

static const LinkVerbsOps mem_ops = {
	.name = "memory",
	.connect = mem_connect,
	.write = mem_write,
	.written = mem_written,
	.arrived = mem_arrived,
	.repost = mem_repost,
	.arm = mem_arm,
	.healthy = mem_healthy,
	.destroy = mem_destroy,
};

LinkVerbs *
link_memrdma_open(LinkMemFabric *fabric, bool standby, size_t size, uint32_t slots, char *why,
				  size_t why_size)
{
	MemEnd *end = calloc(1, sizeof(MemEnd));

	snprintf(why, why_size, "out of memory");
	if (end == NULL)
		return NULL;
	end->base.ops = &mem_ops;
	end->base.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	end->base.local = (LinkRingEnd){.queue_pair = 1 + standby,
									.mtu = 3,
									.layer = LINK_LAYER_ETHERNET,
									.slots = slots,
									.size = size};
	end->fabric = fabric;
	end->standby = standby;
	fabric->posted = fabric->notified = fabric->taken = fabric->reposted = 0;
	fabric->completed = fabric->told = 0;
	fabric->entries = 0;
	if (!standby)
		fabric->broken = false; /* a new connection */
	else
	{
		end->base.memory = malloc(size);
		end->base.size = size;
		free(fabric->writes);
		fabric->capacity = slots;
		fabric->writes = calloc(slots, sizeof(MemWrite));
	}
	if (end->base.fd < 0 || (standby && (end->base.memory == NULL || fabric->writes == NULL)))
	{
		if (end->base.fd >= 0)
			close(end->base.fd);
		free(end->base.memory);
		free(end);
		return NULL;
	}
	fabric->end[standby] = end;
	return &end->base;
}
