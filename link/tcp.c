/*-------------------------------------------------------------------------
 *
 * tcp.c
 *	  The TCP transport.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conn.h"

#define LISTEN_BACKLOG 64

static ssize_t
io_result(LinkConn *conn, const char *what)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
		return LINK_IO_AGAIN;
	snprintf(conn->error, sizeof(conn->error), "could not %s: %s", what, strerror(errno));
	return LINK_IO_ERROR;
}

static ssize_t
tcp_send(LinkConn *conn, const void *data, size_t length)
{
	ssize_t n = send(conn->fd, data, length, MSG_NOSIGNAL);

	return n > 0 ? n : io_result(conn, "send to the peer");
}

static ssize_t
tcp_recv(LinkConn *conn, void *data, size_t length)
{
	ssize_t n = recv(conn->fd, data, length, 0);

	if (n > 0)
		return n;
	if (n == 0)
	{
		snprintf(conn->error, sizeof(conn->error), "the peer closed the connection");
		return LINK_IO_CLOSED;
	}
	return io_result(conn, "receive from the peer");
}

static void
tcp_close(LinkConn *conn)
{
	(void) conn;
}

const LinkTransport link_tcp_transport = {
	.name = "tcp",
	.encrypted = false,
	.send = tcp_send,
	.recv = tcp_recv,
	.close = tcp_close,
};

/* Close without losing the reason. */
static int
fail(int fd)
{
	int save_errno = errno;

	close(fd);
	errno = save_errno;
	return -1;
}

int
link_tcp_listen(const struct sockaddr *address, socklen_t length)
{
	int one = 1;
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0)
		return fail(fd);
	/* as PostgreSQL does: IPv4 has its own socket */
	if (address->sa_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) != 0)
		return fail(fd);
	if (bind(fd, address, length) != 0 || listen(fd, LISTEN_BACKLOG) != 0)
		return fail(fd);
	return fd;
}

int
link_tcp_connect(const struct sockaddr *address, socklen_t length)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (connect(fd, address, length) != 0 && errno != EINPROGRESS)
		return fail(fd);
	return fd;
}

int
link_tcp_connect_finished(int fd)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(int);
	int error = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
		return LINK_IO_ERROR;
	if (error != 0)
	{
		errno = error;
		return LINK_IO_ERROR;
	}
	length = sizeof(peer);
	if (getpeername(fd, (struct sockaddr *) &peer, &length) == 0)
		return 1;
	return errno == ENOTCONN ? LINK_IO_AGAIN : LINK_IO_ERROR;
}

void
link_tcp_set_options(int fd, int timeout_ms)
{
	int one = 1;
	int seconds = timeout_ms > 1000 ? timeout_ms / 1000 : 1;
	unsigned int timeout = timeout_ms;

	/*
	 * These only make a dead path be noticed sooner; the link's own timeout
	 * notices it in any case, so failure is not an error.
	 */
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
}
