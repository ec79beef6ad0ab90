/*-------------------------------------------------------------------------
 *
 * fake_verbs.h
 *	  libibverbs without devices, for the tests of link/rdma.c: as strict as a
 *	  device, and any call can be made to fail.
 *
 * It takes the place of the library.  Two queue pairs of this process that
 * name each other are connected; a write is placed, and notified, while it is
 * posted.  What a device would punish, or would wait for in vain, is counted
 * as a violation: entries beyond what a queue was made for, a write without a
 * receive entry, an object that is destroyed while another one needs it, or
 * with events that were not acknowledged.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_TEST_FAKE_VERBS_H
#define TANDEM_TEST_FAKE_VERBS_H

#include <infiniband/verbs.h>
#include <stdbool.h>

#define FAKE_DEVICES 2
#define FAKE_PORTS   2
#define FAKE_GIDS    4

typedef struct FakePort
{
	enum ibv_port_state state;
	int layer; /* IBV_LINK_LAYER_... */
	enum ibv_mtu mtu;
	int lid;
	struct ibv_gid_entry gid[FAKE_GIDS]; /* an empty one is all zero */
} FakePort;

typedef struct FakeDevice
{
	struct ibv_device base;
	int ports;
	FakePort port[FAKE_PORTS]; /* port 1 is [0] */
	int max_qp_wr;
	int max_cqe;
	int max_inline;
	int open_error; /* of ibv_open_device, or 0 */
} FakeDevice;

typedef struct Fake
{
	int devices;
	FakeDevice device[FAKE_DEVICES];
	int fail_at; /* the call of this number fails; 0: none */
	int calls;
	int objects; /* that were made and not destroyed */
	int violations;
	enum ibv_wc_status write_status; /* of the next writes; only SUCCESS is placed */

	/* what was asked for last, by [remote writes allowed] */
	struct ibv_qp_attr attr[2];
	int access[2]; /* of the memory */
	int inline_writes;
} Fake;

extern Fake fake;

/* No device, nothing fails. */
extern void fake_reset(void);

/* An asynchronous event for all who have the device open. */
extern void fake_event(FakeDevice *device, enum ibv_event_type type, int port);

#endif /* TANDEM_TEST_FAKE_VERBS_H */
