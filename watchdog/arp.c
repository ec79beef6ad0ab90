/*
 * arp.c
 *		ARP probes and announcements.
 */
#include "arp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <string.h>
#include <unistd.h>

/* Header, then sender's hardware and IP address, then the target's. */
#define ARP_HEADER 8
#define ARP_MAX    (ARP_HEADER + 2 * (NETLINK_HW_MAX + 4))

/* struct sockaddr_ll has room for 8 bytes of address; the kernel takes more. */
typedef union LinkAddress
{
	struct sockaddr_ll ll;
	uint8_t room[sizeof(struct sockaddr_ll) + NETLINK_HW_MAX];
} LinkAddress;

int
arp_open(const NetDevice *device)
{
	struct sockaddr_ll ll = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ARP), .sll_ifindex = device->index};
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int e;

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *) &ll, sizeof(ll)) == 0)
		return fd;
	e = -errno;
	close(fd);
	return e;
}

/* sender or target NULL: zeros */
static int
send_arp(int fd, const NetDevice *device, uint16_t operation, const uint8_t *sender,
		 const uint8_t *target_hw, const uint8_t *target)
{
	LinkAddress to = {.ll = {.sll_family = AF_PACKET,
							 .sll_protocol = htons(ETH_P_ARP),
							 .sll_ifindex = device->index,
							 .sll_hatype = htons(device->type),
							 .sll_halen = device->hw_length}};
	uint8_t packet[ARP_MAX] = {0};
	uint8_t *p = packet + ARP_HEADER;
	int h = device->hw_length;

	packet[0] = device->type >> 8;
	packet[1] = device->type & 0xff;
	packet[2] = ETH_P_IP >> 8;
	packet[3] = ETH_P_IP & 0xff;
	packet[4] = h;
	packet[5] = 4;
	packet[7] = operation;
	memcpy(p, device->hw, h);
	if (sender != NULL)
		memcpy(p + h, sender, 4);
	if (target_hw != NULL)
		memcpy(p + h + 4, target_hw, h);
	memcpy(p + h + 4 + h, target, 4);

	memcpy(to.ll.sll_addr, device->broadcast, h <= 8 ? h : 0);
	if (h > 8)
		memcpy(to.room + offsetof(struct sockaddr_ll, sll_addr), device->broadcast, h);
	if (sendto(fd, packet, ARP_HEADER + 2 * (h + 4), 0, (struct sockaddr *) &to,
			   h <= 8 ? sizeof(to.ll) : offsetof(struct sockaddr_ll, sll_addr) + h) < 0)
		return -errno;
	return 0;
}

int
arp_probe(int fd, const NetDevice *device, const uint8_t *address)
{
	return send_arp(fd, device, ARPOP_REQUEST, NULL, NULL, address);
}

int
arp_announce(int fd, const NetDevice *device, const uint8_t *address)
{
	int result = send_arp(fd, device, ARPOP_REQUEST, address, NULL, address);

	if (result == 0)
		result = send_arp(fd, device, ARPOP_REPLY, address, device->hw, address);
	return result;
}

bool
arp_claimed(int fd, const NetDevice *device, const uint8_t *address, char *whose)
{
	bool claimed = false;

	for (int i = 0; i < ARP_AT_ONCE; i++)
	{
		uint8_t packet[512];
		ssize_t n = recv(fd, packet, sizeof(packet), 0);
		int h = device->hw_length;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		if (n < ARP_HEADER + 2 * (h + 4) || packet[4] != h || packet[5] != 4 ||
			memcmp(packet + ARP_HEADER + h, address, 4) != 0 ||
			memcmp(packet + ARP_HEADER, device->hw, h) == 0)
			continue;
		claimed = true;
		netlink_hw_text(packet + ARP_HEADER, h, whose);
	}
	return claimed;
}
