/*
 * netlink.h
 *		What the virtual addresses need of the kernel's network interfaces (libmnl).
 *
 * Every call is one request to the kernel and its answer, with a time limit of a second: nothing
 * here waits for the network.  Errors are negative errno.
 */
#ifndef TANDEM_NETLINK_H
#define TANDEM_NETLINK_H

#include "config.h"

#define NETLINK_HW_MAX   32 /* InfiniBand's have 20 bytes */
#define NETLINK_HW_TEXT  (NETLINK_HW_MAX * 3)
#define NETLINK_INFINITE UINT32_MAX

typedef struct NetDevice
{
	char name[16];
	int index;
	unsigned flags; /* IFF_* */
	uint16_t type;  /* ARPHRD_* */
	int hw_length;
	uint8_t hw[NETLINK_HW_MAX];
	uint8_t broadcast[NETLINK_HW_MAX];
} NetDevice;

typedef struct Netlink Netlink;

extern int netlink_open(Netlink **n);
extern void netlink_close(Netlink *n);
extern int netlink_device(Netlink *n, const char *name, NetDevice *device);
/*
 * Add the address, or renew it: the kernel removes it by itself after so many seconds.  IPv6:
 * without duplicate address detection (the caller has looked), and deprecated, so that this host's
 * own connections do not come from an address that may go away.
 */
extern int
netlink_hold(Netlink *n, const NetDevice *device, const ConfigVip *vip, uint32_t seconds);
/* -EADDRNOTAVAIL if it is not there. */
extern int netlink_remove(Netlink *n, const NetDevice *device, const ConfigVip *vip);

/* "aa:bb:cc:00:00:01", for messages */
extern const char *netlink_hw_text(const uint8_t *hw, int length, char *text);

#endif /* TANDEM_NETLINK_H */
