/*
 * watch.c
 *		See watch.h.
 */
#include "watch.h"

#include "program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct Watch
{
	WatchCallbacks cb;
	void *user;
	sd_event *event;
	uid_t uid; /* who may connect */
	int listener;
	sd_event_source *accept;
	int fd; /* -1: nobody is connected */
	sd_event_source *read;
	char path[108];
};

static void
hang_up(Watch *w)
{
	w->read = sd_event_source_disable_unref(w->read);
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
}

/* Names and texts are used as strings: they end within their fields. */
static bool
is_whole(WatchReport *r, ssize_t n)
{
	if (n != (ssize_t) sizeof(*r) || r->version != WATCH_VERSION || r->size != sizeof(*r) ||
		r->npeers < 0 || r->npeers > WATCH_MAX_PEERS || (int) r->role < WATCH_RECOVERING ||
		r->role > WATCH_PRIMARY)
		return false;
	r->peer[WATCH_NAME_SIZE - 1] = '\0';
	r->follows[WATCH_NAME_SIZE - 1] = '\0';
	r->refusal[WATCH_TEXT_SIZE - 1] = '\0';
	for (int i = 0; i < WATCH_MAX_PEERS; i++)
		r->peers[i].name[WATCH_NAME_SIZE - 1] = '\0';
	return true;
}

static int
on_report(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	Watch *w = arg;

	(void) source;
	(void) events;
	for (int i = 0; i < 64; i++)
	{
		WatchReport report;
		ssize_t n = recv(fd, &report, sizeof(report), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n <= 0)
		{
			hang_up(w);
			w->cb.lost(w->user);
			return 0;
		}
		if (!is_whole(&report, n))
		{
			hang_up(w);
			w->cb.refused(w->user, "the extension speaks another version: install the same version "
								   "of pg_tandem and tandemd");
			w->cb.lost(w->user);
			return 0;
		}
		w->cb.reported(w->user, &report);
		if (w->fd != fd)
			return 0; /* the handler has ended this connection */
	}
	return 0;
}

static int
on_connection(sd_event_source *source, int listener, uint32_t events, void *arg)
{
	Watch *w = arg;
	struct ucred who;
	socklen_t size = sizeof(who);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void) source;
	(void) events;
	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.uid != w->uid)
	{
		close(fd);
		w->cb.refused(w->user, "a connection to tandemd's socket from another user was refused");
		return 0;
	}
	hang_up(w);
	if (sd_event_add_io(w->event, &w->read, fd, EPOLLIN, on_report, w) < 0)
	{
		close(fd);
		return 0;
	}
	w->fd = fd;
	return 0;
}

static int
listen_at(Watch *w, const struct sockaddr_un *address, gid_t gid)
{
	w->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (w->listener < 0)
		return -errno;
	(void) unlink(address->sun_path);
	if (bind(w->listener, (const struct sockaddr *) address, sizeof(*address)) != 0 ||
		chmod(address->sun_path, 0600) != 0 ||
		(geteuid() == 0 && chown(address->sun_path, w->uid, gid) != 0) ||
		listen(w->listener, 8) != 0)
		return -errno;
	return sd_event_add_io(w->event, &w->accept, w->listener, EPOLLIN, on_connection, w);
}

int
watch_new(Watch **w, const Config *c, sd_event *event, const WatchCallbacks *cb, void *user)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[CONFIG_PATH_SIZE];
	gid_t gid = getegid();
	Watch *n;
	int r;

	config_run_path(c, ".socket", path, sizeof(path));
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	n = calloc(1, sizeof(Watch));
	if (n == NULL)
		return -ENOMEM;
	n->cb = *cb;
	n->user = user;
	n->event = event;
	n->fd = n->listener = -1;
	n->uid = geteuid();
	strcpy(n->path, path);
	r = program_user(c->os_user, &n->uid, &gid) || geteuid() != 0 ? 0 : -ENOENT;
	if (r == 0)
		r = listen_at(n, &address, gid);
	if (r < 0)
	{
		watch_free(n);
		return r;
	}
	*w = n;
	return 0;
}

/* The socket's file stays: a tandemd that has been started meanwhile may own it. */
void
watch_free(Watch *w)
{
	if (w == NULL)
		return;
	hang_up(w);
	sd_event_source_disable_unref(w->accept);
	if (w->listener >= 0)
		close(w->listener);
	free(w);
}

bool
watch_command(Watch *w, const WatchCommand *command)
{
	return w->fd >= 0 && send(w->fd, command, sizeof(*command), MSG_DONTWAIT | MSG_NOSIGNAL) ==
							 (ssize_t) sizeof(*command);
}
