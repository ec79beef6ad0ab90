/*-------------------------------------------------------------------------
 *
 * listen.c
 *	  The link's listening sockets.
 *
 * They are opened in the postmaster, when shared memory is made and before
 * any child is forked, so that every link worker inherits them and a worker
 * that restarts loses no connection that waits in the backlog.  They stay
 * open over a crash restart.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ip.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "utils/varlena.h"

#define MAX_LISTEN 16

int tandem_listen_count = 0;
int tandem_listen_fds[MAX_LISTEN];

/*
 * Split "host", "host:port" or "[v6 host]:port" in place.  *host points into
 * 'text'.  False if the port is not a port.
 */
bool
tandem_parse_address(char *text, int default_port, char **host, int *port)
{
	char *colon;
	char *end;
	long value;

	*port = default_port;
	if (text[0] == '[')
	{
		char *bracket = strchr(text, ']');

		if (bracket == NULL)
			return false;
		*bracket = '\0';
		*host = text + 1;
		if (bracket[1] == '\0')
			return **host != '\0';
		if (bracket[1] != ':')
			return false;
		colon = bracket + 1;
	}
	else
	{
		*host = text;
		colon = strchr(text, ':');
		/* more than one colon: an IPv6 address without a port */
		if (colon == NULL || strchr(colon + 1, ':') != NULL)
			return **host != '\0';
		*colon = '\0';
	}
	value = strtol(colon + 1, &end, 10);
	if (end == colon + 1 || *end != '\0' || value < 1 || value > 65535)
		return false;
	*port = (int) value;
	return **host != '\0';
}

/* Open a socket for every address that 'host' stands for ("*": all). */
static void
listen_on(const char *host)
{
	struct addrinfo hint = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
	struct addrinfo *addrs = NULL;
	char service[16];
	int rc;

	snprintf(service, sizeof(service), "%d", tandem_port);
	rc = pg_getaddrinfo_all(strcmp(host, "*") == 0 ? NULL : host, service, &hint, &addrs);
	if (rc != 0 || addrs == NULL)
	{
		ereport(WARNING,
				(errmsg("could not translate \"%s\" in tandem.listen_addresses to an address: %s",
						host, gai_strerror(rc))));
		return;
	}
	for (struct addrinfo *a = addrs; a != NULL; a = a->ai_next)
	{
		int fd;

		if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
			continue;
		if (tandem_listen_count == MAX_LISTEN)
		{
			ereport(WARNING, (errmsg("tandem.listen_addresses has more than %d addresses; "
									 "the rest is ignored",
									 MAX_LISTEN)));
			break;
		}
		fd = link_tcp_listen(a->ai_addr, a->ai_addrlen);
		if (fd >= 0)
			tandem_listen_fds[tandem_listen_count++] = fd;
		else if (errno != EAFNOSUPPORT)
		{
			bool in_use = errno == EADDRINUSE;

			ereport(WARNING,
					(errmsg("could not listen for links on \"%s\" port %d: %m", host, tandem_port),
					 in_use ? errhint("Is another server using it? If not, wait a few seconds and "
									  "retry; else set tandem.port to a free port.")
							: 0));
		}
	}
	pg_freeaddrinfo_all(hint.ai_family, addrs);
}

/*
 * The postmaster ends: its lock file goes next, and whoever starts the server
 * then must be able to have the port.
 */
static void
close_sockets(pg_attribute_unused() int code, pg_attribute_unused() Datum arg)
{
	while (tandem_listen_count > 0)
		close(tandem_listen_fds[--tandem_listen_count]);
}

/*
 * Open the sockets. Postmaster only; does nothing when they are open.  With
 * addresses given but none of them usable the server does not start, as with
 * listen_addresses.
 */
void
tandem_listen(void)
{
	const char *addresses = tandem_listen_addresses;
	char *copy;
	List *hosts;
	ListCell *cell;

	if (tandem_listen_count > 0)
		return;
	if (addresses[0] == '\0')
		addresses = ListenAddresses != NULL ? ListenAddresses : "";
	copy = pstrdup(addresses);
	if (!SplitGUCList(copy, ',', &hosts))
		ereport(FATAL, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid list syntax in parameter \"%s\"",
							   tandem_listen_addresses[0] != '\0' ? "tandem.listen_addresses"
																  : "listen_addresses")));
	foreach (cell, hosts)
		listen_on(lfirst(cell));
	if (hosts != NIL && tandem_listen_count == 0)
		ereport(FATAL, (errmsg("could not listen for links on any address"),
						errhint("Set tandem.listen_addresses and tandem.port to an address and a "
								"free port of this server.")));
	list_free(hosts);
	pfree(copy);
	on_proc_exit(close_sockets, 0);
}
