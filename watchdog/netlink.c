/*
 * netlink.c
 *		Addresses and interfaces, by rtnetlink.
 */
#include "netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

struct Netlink
{
	struct mnl_socket *socket;
	uint32_t seq;
};

int
netlink_open(Netlink **result)
{
	static const struct timeval limit = {.tv_sec = 1};
	Netlink *n = calloc(1, sizeof(Netlink));
	int e;

	if (n == NULL)
		return -ENOMEM;
	n->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (n->socket == NULL || mnl_socket_bind(n->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
		setsockopt(mnl_socket_get_fd(n->socket), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) !=
			0)
	{
		e = -errno;
		netlink_close(n);
		return e;
	}
	*result = n;
	return 0;
}

void
netlink_close(Netlink *n)
{
	if (n == NULL)
		return;
	if (n->socket != NULL)
		mnl_socket_close(n->socket);
	free(n);
}

/*
 * Send a request and read until it is answered: by an acknowledgement, or by a message for
 * callback.  Answers to earlier requests that came too late are passed over.
 */
static int
ask(Netlink *n, struct nlmsghdr *request, mnl_cb_t callback, void *data)
{
	char buf[MNL_SOCKET_BUFFER_SIZE];
	unsigned port = mnl_socket_get_portid(n->socket);

	request->nlmsg_seq = ++n->seq;
	if (mnl_socket_sendto(n->socket, request, request->nlmsg_len) < 0)
		return -errno;
	for (;;)
	{
		ssize_t got = mnl_socket_recvfrom(n->socket, buf, sizeof(buf));
		const struct nlmsghdr *answer = (const struct nlmsghdr *) buf;
		int result;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (got < (ssize_t) sizeof(*answer) || answer->nlmsg_seq != n->seq)
			continue;
		result = mnl_cb_run(buf, got, n->seq, port, callback, data);
		if (result < 0)
			return -errno;
		if (result == MNL_CB_STOP || callback != NULL)
			return 0;
	}
}

/* ---------- interfaces ---------- */

static int
read_device(const struct nlmsghdr *message, void *data)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(message);
	const struct nlattr *a;
	NetDevice *device = data;

	device->index = info->ifi_index;
	device->flags = info->ifi_flags;
	device->type = info->ifi_type;
	mnl_attr_for_each(a, message, sizeof(*info))
	{
		int length = mnl_attr_get_payload_len(a);

		if (length > NETLINK_HW_MAX)
			continue;
		if (mnl_attr_get_type(a) == IFLA_ADDRESS)
		{
			device->hw_length = length;
			memcpy(device->hw, mnl_attr_get_payload(a), length);
		}
		else if (mnl_attr_get_type(a) == IFLA_BROADCAST)
			memcpy(device->broadcast, mnl_attr_get_payload(a), length);
	}
	return MNL_CB_OK;
}

int
netlink_device(Netlink *n, const char *name, NetDevice *device)
{
	char buf[MNL_SOCKET_BUFFER_SIZE];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *info;
	int result;

	memset(device, 0, sizeof(*device));
	snprintf(device->name, sizeof(device->name), "%s", name);
	request->nlmsg_type = RTM_GETLINK;
	request->nlmsg_flags = NLM_F_REQUEST;
	info = mnl_nlmsg_put_extra_header(request, sizeof(*info));
	info->ifi_family = AF_UNSPEC;
	mnl_attr_put_strz(request, IFLA_IFNAME, device->name);
	result = ask(n, request, read_device, device);
	return result == 0 && device->index == 0 ? -ENODEV : result;
}

/* ---------- addresses ---------- */

static struct nlmsghdr *
address_request(char *buf, uint16_t type, uint16_t flags, const NetDevice *device,
				const ConfigVip *vip)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(buf);
	struct ifaddrmsg *a;
	int length = vip->family == AF_INET ? 4 : 16;

	request->nlmsg_type = type;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	a = mnl_nlmsg_put_extra_header(request, sizeof(*a));
	a->ifa_family = vip->family;
	a->ifa_prefixlen = vip->prefix;
	a->ifa_scope = RT_SCOPE_UNIVERSE;
	a->ifa_index = device->index;
	mnl_attr_put(request, IFA_LOCAL, length, vip->address);
	mnl_attr_put(request, IFA_ADDRESS, length, vip->address);
	return request;
}

int
netlink_hold(Netlink *n, const NetDevice *device, const ConfigVip *vip, uint32_t seconds)
{
	char buf[MNL_SOCKET_BUFFER_SIZE];
	struct nlmsghdr *request =
		address_request(buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, device, vip);
	struct ifa_cacheinfo lifetime = {.ifa_valid = seconds, .ifa_prefered = seconds};

	if (vip->family == AF_INET6)
	{
		lifetime.ifa_prefered = 0;
		mnl_attr_put_u32(request, IFA_FLAGS, IFA_F_NODAD);
	}
	mnl_attr_put(request, IFA_CACHEINFO, sizeof(lifetime), &lifetime);
	return ask(n, request, NULL, NULL);
}

int
netlink_remove(Netlink *n, const NetDevice *device, const ConfigVip *vip)
{
	char buf[MNL_SOCKET_BUFFER_SIZE];

	return ask(n, address_request(buf, RTM_DELADDR, 0, device, vip), NULL, NULL);
}

const char *
netlink_hw_text(const uint8_t *hw, int length, char *text)
{
	text[0] = '\0';
	for (int i = 0; i < length && i < NETLINK_HW_MAX; i++)
		sprintf(text + strlen(text), "%s%02x", i > 0 ? ":" : "", hw[i]);
	return text;
}
