/*
 * config_values.c
 *		Addresses, virtual addresses, agents and their options, as tandem.conf writes them.
 *		tandemd and tandemctl link it.
 */
#include "config_values.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool
config_is_name(const char *value)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";

	return isalnum((unsigned char) value[0]) && value[strspn(value, allowed)] == '\0';
}

bool
config_next_part(const char **p, char separator, char *part)
{
	const char *begin = *p;
	const char *end;
	size_t n;

	if (begin == NULL)
		return false;
	end = strchr(begin, separator);
	*p = end != NULL ? end + 1 : NULL;
	if (end == NULL)
		end = begin + strlen(begin);
	while (begin < end && isspace((unsigned char) *begin))
		begin++;
	while (end > begin && isspace((unsigned char) end[-1]))
		end--;
	n = end - begin;
	if (n >= CONFIG_PATH_SIZE)
		n = CONFIG_PATH_SIZE - 1; /* no value is that long: it would not fit either */
	memcpy(part, begin, n);
	part[n] = '\0';
	return true;
}

/* 1 to 65535 */
static bool
read_port(const char *text, uint16_t *port)
{
	char *end;
	long n;

	if (!isdigit((unsigned char) text[0]))
		return false;
	errno = 0;
	n = strtol(text, &end, 10);
	if (errno != 0 || *end != '\0' || n < 1 || n > 65535)
		return false;
	*port = (uint16_t) n;
	return true;
}

/* ADDRESS, ADDRESS:PORT, [ADDRESS]:PORT; numbers only. */
static bool
read_address(const char *text, struct sockaddr_storage *address, char *why)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *) address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) address;
	char host[CONFIG_PATH_SIZE];
	const char *port_text = NULL;
	uint16_t port = CONFIG_HEARTBEAT_PORT;

	memset(address, 0, sizeof(*address));
	strcpy(host, text);
	if (host[0] == '[')
	{
		char *close = strchr(host, ']');

		if (close == NULL || (close[1] != '\0' && close[1] != ':'))
		{
			snprintf(why, WHY_SIZE, "\"%s\" is not [ADDRESS]:PORT", text);
			return false;
		}
		if (close[1] == ':')
			port_text = close + 2;
		*close = '\0';
		memmove(host, host + 1, strlen(host));
	}
	else if (strchr(host, ':') != NULL && strchr(host, ':') == strrchr(host, ':'))
	{
		char *colon = strchr(host, ':');

		*colon = '\0';
		port_text = colon + 1;
	}
	if (port_text != NULL && !read_port(port_text, &port))
	{
		snprintf(why, WHY_SIZE, "\"%s\" is not a port (1 to 65535)", port_text);
		return false;
	}
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1)
	{
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		if (v4->sin_addr.s_addr != htonl(INADDR_ANY) && !IN_MULTICAST(ntohl(v4->sin_addr.s_addr)) &&
			v4->sin_addr.s_addr != htonl(INADDR_BROADCAST))
			return true;
		snprintf(why, WHY_SIZE, "\"%s\" is not the address of a node", host);
		return false;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1)
	{
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		if (!IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr) && !IN6_IS_ADDR_MULTICAST(&v6->sin6_addr) &&
			!IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
			return true;
		snprintf(why, WHY_SIZE, "\"%s\" is not the address of a node (link-local does not do)",
				 host);
		return false;
	}
	snprintf(why, WHY_SIZE,
			 "\"%s\" is not an IP address (names are not taken: the watchdog must not depend on a "
			 "name server)",
			 host);
	return false;
}

/* address = ADDRESS[:PORT], ...: one a path */
bool
config_read_addresses(void *target, const char *value, char *why)
{
	ConfigNode *node = target;
	const char *p = value;
	char part[CONFIG_PATH_SIZE];

	node->npaths = 0;
	while (config_next_part(&p, ',', part))
	{
		struct sockaddr_storage address;

		if (!read_address(part, &address, why))
			return false;
		for (int i = 0; i < node->npaths; i++)
		{
			if (memcmp(&node->path[i], &address, sizeof(address)) == 0)
			{
				snprintf(why, WHY_SIZE, "\"%s\" is there twice", part);
				return false;
			}
		}
		if (node->npaths == CONFIG_MAX_PATHS)
		{
			snprintf(why, WHY_SIZE, "more than %d addresses", CONFIG_MAX_PATHS);
			return false;
		}
		node->path[node->npaths++] = address;
	}
	return true;
}

/* libpq's own judgement of libpq's own syntax */
bool
config_read_conninfo(void *target, const char *value, char *why)
{
	ConfigNode *node = target;
	char *error = NULL;
	PQconninfoOption *options = PQconninfoParse(value, &error);
	bool host = false;

	if (options == NULL)
	{
		snprintf(why, WHY_SIZE, "%s", error != NULL ? error : "out of memory");
		while (why[0] != '\0' && isspace((unsigned char) why[strlen(why) - 1]))
			why[strlen(why) - 1] = '\0';
		PQfreemem(error);
		return false;
	}
	for (PQconninfoOption *o = options; o->keyword != NULL; o++)
	{
		if (o->val != NULL &&
			(strcmp(o->keyword, "host") == 0 || strcmp(o->keyword, "hostaddr") == 0))
			host = true;
	}
	PQconninfoFree(options);
	if (!host)
	{
		snprintf(why, WHY_SIZE, "names no host");
		return false;
	}
	if (strlen(value) >= sizeof(node->conninfo))
	{
		snprintf(why, WHY_SIZE, "is too long");
		return false;
	}
	strcpy(node->conninfo, value);
	return true;
}

/* ADDRESS[/PREFIX] dev DEVICE */
static bool
read_vip(const char *text, ConfigVip *vip, char *why)
{
	char address[CONFIG_PATH_SIZE];
	char dev[CONFIG_PATH_SIZE];
	char device[CONFIG_PATH_SIZE];
	char rest[2];
	char *slash;
	int max = 0;

	memset(vip, 0, sizeof(*vip));
	if (sscanf(text, "%1023s %1023s %1023s %1s", address, dev, device, rest) != 3 ||
		strcmp(dev, "dev") != 0)
	{
		snprintf(why, WHY_SIZE, "\"%s\" is not ADDRESS/PREFIX dev DEVICE", text);
		return false;
	}
	slash = strchr(address, '/');
	if (slash != NULL)
		*slash++ = '\0';
	if (inet_pton(AF_INET, address, vip->address) == 1)
	{
		uint32_t a;

		memcpy(&a, vip->address, sizeof(a));
		a = ntohl(a);
		vip->family = AF_INET;
		max = 32;
		if (a == INADDR_ANY || a == INADDR_BROADCAST || IN_MULTICAST(a) || (a >> 24) == 127)
			vip->family = 0;
	}
	else if (inet_pton(AF_INET6, address, vip->address) == 1)
	{
		struct in6_addr a;

		memcpy(&a, vip->address, sizeof(a));
		vip->family = AF_INET6;
		max = 128;
		if (IN6_IS_ADDR_UNSPECIFIED(&a) || IN6_IS_ADDR_MULTICAST(&a) || IN6_IS_ADDR_LOOPBACK(&a) ||
			IN6_IS_ADDR_LINKLOCAL(&a) || IN6_IS_ADDR_V4MAPPED(&a))
			vip->family = 0;
	}
	if (vip->family == 0)
	{
		snprintf(why, WHY_SIZE, "\"%s\" is not an IP address that can move between hosts", address);
		return false;
	}
	vip->prefix = max;
	if (slash != NULL)
	{
		char *end;
		long n = isdigit((unsigned char) slash[0]) ? strtol(slash, &end, 10) : -1;

		if (n < 1 || n > max || *end != '\0')
		{
			snprintf(why, WHY_SIZE, "\"%s\" is not the length of a prefix (1 to %d)", slash, max);
			return false;
		}
		vip->prefix = (int) n;
	}
	if (strlen(device) >= sizeof(vip->device) || strchr(device, '/') != NULL)
	{
		snprintf(why, WHY_SIZE, "\"%s\" is not the name of a network device", device);
		return false;
	}
	strcpy(vip->device, device);
	return true;
}

bool
config_read_vips(void *target, const char *value, char *why)
{
	Config *c = target;
	const char *p = value;
	char part[CONFIG_PATH_SIZE];

	c->nvips = 0;
	while (config_next_part(&p, ',', part))
	{
		ConfigVip vip;

		if (!read_vip(part, &vip, why))
			return false;
		for (int i = 0; i < c->nvips; i++)
		{
			if (c->vip[i].family == vip.family &&
				memcmp(c->vip[i].address, vip.address, sizeof(vip.address)) == 0)
			{
				snprintf(why, WHY_SIZE, "\"%s\" is there twice", part);
				return false;
			}
		}
		if (c->nvips == CONFIG_MAX_VIPS)
		{
			snprintf(why, WHY_SIZE, "more than %d addresses", CONFIG_MAX_VIPS);
			return false;
		}
		c->vip[c->nvips++] = vip;
	}
	return true;
}

/*
 * systemd:UNIT, ocf:PROVIDER:NAME, lsb:NAME.  The names become parts of paths that root runs:
 * nothing else than names is taken.
 */
bool
config_read_agent(void *target, const char *value, char *why)
{
	ConfigResource *r = target;
	const char *colon = strchr(value, ':');
	const char *name = colon != NULL ? colon + 1 : "";

	r->agent[0] = '\0';
	if (strncmp(value, "systemd:", 8) == 0 && strlen(name) < 256 && name[0] != '\0' &&
		strchr(name, '/') == NULL && strchr(name, ' ') == NULL)
	{
		r->kind = RESOURCE_SYSTEMD;
		snprintf(r->agent, sizeof(r->agent), "%s%s", name,
				 strchr(name, '.') == NULL ? ".service" : "");
		return true;
	}
	if (strncmp(value, "lsb:", 4) == 0 && config_is_name(name) && strlen(name) < 256)
	{
		r->kind = RESOURCE_LSB;
		strcpy(r->agent, name);
		return true;
	}
	if (strncmp(value, "ocf:", 4) == 0 && strlen(name) < 256)
	{
		char provider[256];
		char *type;

		strcpy(provider, name);
		type = strchr(provider, ':');
		if (type != NULL)
		{
			*type++ = '\0';
			if (config_is_name(provider) && config_is_name(type))
			{
				r->kind = RESOURCE_OCF;
				strcpy(r->agent, name);
				return true;
			}
		}
	}
	snprintf(why, WHY_SIZE, "\"%s\" is not systemd:UNIT, ocf:PROVIDER:NAME or lsb:NAME", value);
	return false;
}

/* NAME=VALUE; NAME=VALUE: kept as it is, once it is known to be that. */
bool
config_read_options(void *target, const char *value, char *why)
{
	const char *p = value;
	char part[CONFIG_PATH_SIZE];

	if (strlen(value) >= CONFIG_PATH_SIZE)
	{
		snprintf(why, WHY_SIZE, "is too long");
		return false;
	}
	while (config_next_part(&p, ';', part))
	{
		char *equals = strchr(part, '=');

		if (equals == NULL || equals == part)
		{
			snprintf(why, WHY_SIZE, "\"%s\" is not NAME=VALUE (\";\" between several)", part);
			return false;
		}
		*equals = '\0';
		if (!config_is_name(part))
		{
			snprintf(why, WHY_SIZE, "\"%s\" is not the name of an option", part);
			return false;
		}
	}
	strcpy(target, value);
	return true;
}

void
config_vip_text(const ConfigVip *vip, char *text, size_t size)
{
	char address[INET6_ADDRSTRLEN];

	inet_ntop(vip->family, vip->address, address, sizeof(address));
	snprintf(text, size, "%s/%d dev %s", address, vip->prefix, vip->device);
}

void
config_address_text(const struct sockaddr_storage *address, char *text, size_t size)
{
	char host[INET6_ADDRSTRLEN];

	if (address->ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *a = (const struct sockaddr_in6 *) address;

		inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof(host));
		snprintf(text, size, "[%s]:%d", host, ntohs(a->sin6_port));
	}
	else
	{
		const struct sockaddr_in *a = (const struct sockaddr_in *) address;

		inet_ntop(AF_INET, &a->sin_addr, host, sizeof(host));
		snprintf(text, size, "%s:%d", host, ntohs(a->sin_port));
	}
}
