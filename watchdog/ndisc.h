/*
 * ndisc.h
 *		The same as arp.h for IPv6: neighbour solicitation and advertisement (RFC 4861).
 *
 * The kernel's own duplicate address detection takes one to two seconds, which a failover does
 * not have; so the question is asked from here, as any neighbour would ask it, and the address is
 * then added without the kernel's.  Errors are negative errno.
 */
#ifndef TANDEM_NDISC_H
#define TANDEM_NDISC_H

#include "netlink.h"

/* A raw ICMPv6 socket on this interface, for the event loop; close() it. */
extern int ndisc_open(const NetDevice *device);
/* Who has this address?  -EADDRNOTAVAIL: this interface has no address to ask from (yet). */
extern int ndisc_probe(int fd, const NetDevice *device, const uint8_t *address);
/* We have this address; it is on the interface already. */
extern int ndisc_announce(int fd, const NetDevice *device, const uint8_t *address);
/* Read what came, up to NDISC_AT_ONCE packets: true if another host says that the address is its
 * own. */
#define NDISC_AT_ONCE 16
extern bool ndisc_claimed(int fd, const NetDevice *device, const uint8_t *address, char *whose);

#endif /* TANDEM_NDISC_H */
