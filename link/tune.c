/*-------------------------------------------------------------------------
 *
 * tune.c
 *	  What TCP can be told about one link: for lines that are long, thin or
 *	  shared with others.
 *
 *-------------------------------------------------------------------------
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "conn.h"

int
link_tcp_set_congestion(int fd, const char *name)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, strlen(name));
}

bool
link_tcp_congestion(int fd, char *name, size_t size)
{
	socklen_t length = size - 1;

	memset(name, 0, size);
	return getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0;
}

int
link_tcp_set_rate(int fd, uint64_t rate)
{
	unsigned long value = rate > 0 ? rate : ~0UL;

	return setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &value, sizeof(value));
}

int
link_tcp_set_send_buffer(int fd, uint64_t bytes)
{
	/* the kernel doubles it, for its own needs */
	int value = bytes / 2 > 1 << 30 ? 1 << 30 : (int) (bytes / 2);

	return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value));
}

int
link_tcp_set_unsent(int fd, uint64_t bytes)
{
	unsigned int value = bytes > 1 << 30 ? 1 << 30 : (unsigned int) bytes;

	return setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, sizeof(value));
}
