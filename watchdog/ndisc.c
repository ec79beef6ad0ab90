/*
 * ndisc.c
 *		Neighbour solicitations and unsolicited advertisements.
 */
#include "ndisc.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* header with target, then one option: our link-layer address */
#define ND_MAX (sizeof(struct nd_neighbor_advert) + 8 + NETLINK_HW_MAX)

int
ndisc_open(const NetDevice *device)
{
	int fd = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMPV6);
	struct icmp6_filter filter;
	struct ifreq ifr = {0};
	int hops = 255; /* anything else is dropped: it would have come through a router */
	int on = 1;
	int off = 0;
	int e;

	if (fd < 0)
		return -errno;
	ICMP6_FILTER_SETBLOCKALL(&filter);
	ICMP6_FILTER_SETPASS(ND_NEIGHBOR_ADVERT, &filter);
	memcpy(ifr.ifr_name, device->name, sizeof(ifr.ifr_name));
	if (setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter)) == 0 &&
		setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, &ifr, sizeof(ifr)) == 0 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)) == 0 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &off, sizeof(off)) == 0 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof(on)) == 0)
		return fd;
	e = -errno;
	close(fd);
	return e;
}

/* Put the option with our hardware address behind a header; returns its length. */
static size_t
put_option(uint8_t *p, uint8_t type, const NetDevice *device)
{
	size_t pad = device->type == ARPHRD_INFINIBAND ? 2 : 0; /* RFC 4391 */
	size_t length = (2 + pad + device->hw_length + 7) / 8 * 8;

	memset(p, 0, length);
	p[0] = type;
	p[1] = length / 8;
	memcpy(p + 2 + pad, device->hw, device->hw_length);
	return device->hw_length > 0 ? length : 0;
}

/* source NULL: the kernel chooses one of the interface */
static int
send_nd(int fd, const NetDevice *device, const void *packet, size_t length,
		const struct in6_addr *to, const uint8_t *source)
{
	struct sockaddr_in6 address = {
		.sin6_family = AF_INET6, .sin6_addr = *to, .sin6_scope_id = device->index};
	struct in6_pktinfo info = {.ipi6_ifindex = device->index};
	union
	{
		struct cmsghdr header;
		uint8_t room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *) packet, .iov_len = length};
	struct msghdr message = {.msg_name = &address,
							 .msg_namelen = sizeof(address),
							 .msg_iov = &iov,
							 .msg_iovlen = 1,
							 .msg_control = &control,
							 .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	if (source != NULL)
		memcpy(&info.ipi6_addr, source, sizeof(info.ipi6_addr));
	c->cmsg_level = IPPROTO_IPV6;
	c->cmsg_type = IPV6_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(c), &info, sizeof(info));
	return sendmsg(fd, &message, 0) < 0 ? -errno : 0;
}

int
ndisc_probe(int fd, const NetDevice *device, const uint8_t *address)
{
	/* the solicited-node multicast address: its last 24 bits are those of the address */
	struct in6_addr to = {.s6_addr = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff}};
	_Alignas(8) uint8_t packet[ND_MAX] = {0};
	struct nd_neighbor_solicit *ns = (struct nd_neighbor_solicit *) packet;

	memcpy(to.s6_addr + 13, address + 13, 3);
	ns->nd_ns_type = ND_NEIGHBOR_SOLICIT; /* the kernel adds the checksum */
	memcpy(&ns->nd_ns_target, address, 16);
	return send_nd(fd, device, packet,
				   sizeof(*ns) + put_option(packet + sizeof(*ns), ND_OPT_SOURCE_LINKADDR, device),
				   &to, NULL);
}

int
ndisc_announce(int fd, const NetDevice *device, const uint8_t *address)
{
	static const struct in6_addr all_nodes = {.s6_addr = {0xff, 0x02, [15] = 1}};
	_Alignas(8) uint8_t packet[ND_MAX] = {0};
	struct nd_neighbor_advert *na = (struct nd_neighbor_advert *) packet;

	na->nd_na_type = ND_NEIGHBOR_ADVERT;
	na->nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE;
	memcpy(&na->nd_na_target, address, 16);
	return send_nd(fd, device, packet,
				   sizeof(*na) + put_option(packet + sizeof(*na), ND_OPT_TARGET_LINKADDR, device),
				   &all_nodes, address);
}

/* The hardware address in an advertisement is the first option of that type. */
static void
read_option(const uint8_t *p, size_t n, const NetDevice *device, char *whose, bool *ours)
{
	size_t pad = device->type == ARPHRD_INFINIBAND ? 2 : 0;

	strcpy(whose, "unknown");
	*ours = false;
	while (n >= 8 && p[1] != 0 && (size_t) p[1] * 8 <= n)
	{
		size_t length = (size_t) p[1] * 8;

		if (p[0] == ND_OPT_TARGET_LINKADDR && length >= 2 + pad + device->hw_length)
		{
			netlink_hw_text(p + 2 + pad, device->hw_length, whose);
			*ours = memcmp(p + 2 + pad, device->hw, device->hw_length) == 0;
			return;
		}
		p += length;
		n -= length;
	}
}

/* RFC 4861 7.1.2: what comes through a router does not count */
static bool
is_from_link(struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c))
	{
		int hops;

		if (c->cmsg_level != IPPROTO_IPV6 || c->cmsg_type != IPV6_HOPLIMIT)
			continue;
		memcpy(&hops, CMSG_DATA(c), sizeof(hops));
		return hops == 255;
	}
	return false;
}

bool
ndisc_claimed(int fd, const NetDevice *device, const uint8_t *address, char *whose)
{
	bool claimed = false;

	for (int i = 0; i < NDISC_AT_ONCE; i++)
	{
		union
		{
			struct nd_neighbor_advert na;
			uint8_t room[512];
		} packet;
		union
		{
			struct cmsghdr header;
			uint8_t room[CMSG_SPACE(sizeof(int)) + 64];
		} control;
		struct iovec iov = {.iov_base = &packet, .iov_len = sizeof(packet)};
		struct msghdr message = {.msg_iov = &iov,
								 .msg_iovlen = 1,
								 .msg_control = &control,
								 .msg_controllen = sizeof(control)};
		char text[NETLINK_HW_TEXT];
		bool ours;
		ssize_t n = recvmsg(fd, &message, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		if (n < (ssize_t) sizeof(packet.na) || packet.na.nd_na_type != ND_NEIGHBOR_ADVERT ||
			packet.na.nd_na_code != 0 || memcmp(&packet.na.nd_na_target, address, 16) != 0 ||
			!is_from_link(&message))
			continue;
		read_option(packet.room + sizeof(packet.na), n - sizeof(packet.na), device, text, &ours);
		if (ours)
			continue;
		claimed = true;
		strcpy(whose, text);
	}
	return claimed;
}
