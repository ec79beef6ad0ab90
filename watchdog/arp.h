/*
 * arp.h
 *		Is an IPv4 address in use?  And: it is here now.  (RFC 5227, by AF_PACKET.)
 *
 * Any link layer whose broadcast address the kernel tells: Ethernet, and InfiniBand with its
 * addresses of 20 bytes.  Errors are negative errno.
 */
#ifndef TANDEM_ARP_H
#define TANDEM_ARP_H

#include "netlink.h"

/* A socket that hears the ARP of this interface, for the event loop; close() it. */
extern int arp_open(const NetDevice *device);
/* Who has this address?  Without saying that we have one. */
extern int arp_probe(int fd, const NetDevice *device, const uint8_t *address);
/* We have this address (both as a request and as an answer: some listen to one only). */
extern int arp_announce(int fd, const NetDevice *device, const uint8_t *address);
/* Read what came, up to ARP_AT_ONCE packets (the event loop calls again): true if another host says
 * that the address is its own; whose (NETLINK_HW_TEXT bytes) is then its hardware address. */
#define ARP_AT_ONCE 16
extern bool arp_claimed(int fd, const NetDevice *device, const uint8_t *address, char *whose);

#endif /* TANDEM_ARP_H */
