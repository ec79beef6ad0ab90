/*
 * pg_process.c
 *		See pg_process.h.
 *
 * Only those files of /proc are read that a hung process cannot hold up: stat, io, and the links
 * cwd and exe (cmdline needs the process's memory map).
 */
#include "pg_process.h"

#include "rights.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_PATH 4096

bool
pg_place_look(PgPlace *place)
{
	struct stat st;

	if (stat(place->path, &st) != 0 || !S_ISDIR(st.st_mode))
		return false;
	place->dev = st.st_dev;
	place->ino = st.st_ino;
	return true;
}

/* Is the link "/proc/PID/<name>" what it should be?  Its text goes to "text". */
static bool
read_link(pid_t pid, const char *name, char *text)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
	n = readlink(path, text, MAX_PATH - 1);
	if (n < 0)
		return false;
	text[n] = '\0';
	return true;
}

/*
 * Does the process stand in the data directory, in the one that is there or in the one that was
 * there?  A link to a directory that was removed ends in " (deleted)".
 */
static bool
stands_in(pid_t pid, const PgPlace *place)
{
	char path[64];
	char text[MAX_PATH];
	struct stat st;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/cwd", (int) pid);
	if (stat(path, &st) != 0)
		return false;
	if (place->ino != 0 && st.st_dev == place->dev && st.st_ino == place->ino)
		return true;
	if (st.st_nlink != 0 || !read_link(pid, "cwd", text))
		return false;
	n = strlen(place->path);
	return strncmp(text, place->path, n) == 0 && strcmp(text + n, " (deleted)") == 0;
}

static bool
runs_postgres(pid_t pid)
{
	char text[MAX_PATH];
	const char *name;

	if (!read_link(pid, "exe", text))
		return false;
	name = strrchr(text, '/');
	name = name != NULL ? name + 1 : text;
	return strcmp(name, "postgres") == 0 || strcmp(name, "postgres (deleted)") == 0;
}

/* ---------- /proc/PID/stat ---------- */

typedef struct Stat
{
	pid_t pid;
	pid_t parent;
	pid_t session;
	char state;
	uint64_t ticks; /* processor time */
	uint64_t started;
	bool ours;
} Stat;

/* Read a small file of /proc; false if it is not there. */
static bool
read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int) pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return true;
}

static bool
read_stat(pid_t pid, Stat *s)
{
	char text[1024];
	const char *rest;
	int parent;
	int session;
	unsigned long long user;
	unsigned long long kernel;
	unsigned long long started;

	if (!read_proc(pid, "stat", text, sizeof(text)))
		return false;
	rest = strrchr(text, ')'); /* the name before it may hold anything */
	if (rest == NULL ||
		sscanf(rest + 1,
			   " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu",
			   &s->state, &parent, &session, &user, &kernel, &started) != 6)
		return false;
	s->pid = pid;
	s->parent = parent;
	s->session = session;
	s->ticks = user + kernel;
	s->started = started;
	s->ours = false;
	return s->state != 'Z' && s->state != 'X';
}

static int
by_pid(const void *a, const void *b)
{
	const Stat *x = a;
	const Stat *y = b;

	return (x->pid > y->pid) - (x->pid < y->pid);
}

/* Every process of the host, in the order of their pids; NULL with errno set. */
static Stat *
read_all(int *count)
{
	Stat *all = NULL;
	int size = 0;
	int n = 0;
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	if (dir == NULL)
		return NULL;
	while ((entry = readdir(dir)) != NULL)
	{
		if (!isdigit((unsigned char) entry->d_name[0]))
			continue;
		if (n == size)
		{
			Stat *more = realloc(all, (size_t) (size = size != 0 ? size * 2 : 256) * sizeof(Stat));

			if (more == NULL)
			{
				free(all);
				closedir(dir);
				errno = ENOMEM;
				return NULL;
			}
			all = more;
		}
		if (read_stat(atoi(entry->d_name), &all[n]))
			n++;
	}
	closedir(dir);
	if (n > 1)
		qsort(all, (size_t) n, sizeof(Stat), by_pid);
	*count = n;
	if (all == NULL)
		errno = ENOENT;
	return all;
}

static Stat *
lookup(Stat *all, int n, pid_t pid)
{
	Stat key = {.pid = pid};

	return bsearch(&key, all, (size_t) n, sizeof(Stat), by_pid);
}

/* Descendants, by parent and by session: an archiver that was killed leaves its command behind. */
static void
mark_descendants(Stat *all, int n)
{
	bool again = true;

	while (again)
	{
		again = false;
		for (int i = 0; i < n; i++)
		{
			const Stat *parent;
			const Stat *leader;

			if (all[i].ours)
				continue;
			parent = lookup(all, n, all[i].parent);
			leader = lookup(all, n, all[i].session);
			if ((parent != NULL && parent->ours) || (leader != NULL && leader->ours))
				again = all[i].ours = true;
		}
	}
}

/* A cgroup that is not there has no processes. */
static void
mark_cgroup(Stat *all, int n, const char *cgroup)
{
	FILE *file = fopen(cgroup, "re");
	int pid;

	if (file == NULL)
		return;
	while (fscanf(file, "%d", &pid) == 1)
	{
		Stat *s = lookup(all, n, pid);

		if (s != NULL)
			s->ours = true;
	}
	fclose(file);
}

static int
add(PgProcesses *found, const Stat *s)
{
	if (found->n == found->size)
	{
		int size = found->size != 0 ? found->size * 2 : 64;
		PgProcess *more = realloc(found->p, (size_t) size * sizeof(PgProcess));

		if (more == NULL)
			return -ENOMEM;
		found->p = more;
		found->size = size;
	}
	found->p[found->n++] = (PgProcess){s->pid, s->started};
	return 0;
}

int
pg_processes_find(PgProcesses *found, const PgPlace *place, const char *cgroup)
{
	int n = 0;
	int r = 0;
	bool any = false;
	Stat *all = read_all(&n);

	*found = (PgProcesses){0};
	if (all == NULL)
		return -errno;
	for (int i = 0; i < n; i++)
	{
		if (stands_in(all[i].pid, place) && runs_postgres(all[i].pid))
			any = all[i].ours = true;
	}
	if (any)
		mark_descendants(all, n);
	if (cgroup != NULL)
		mark_cgroup(all, n, cgroup);
	for (int i = 0; i < n && r == 0; i++)
	{
		if (all[i].ours && all[i].pid != getpid())
			r = add(found, &all[i]);
	}
	free(all);
	if (r < 0)
		pg_processes_free(found);
	return r;
}

void
pg_processes_free(PgProcesses *found)
{
	free(found->p);
	*found = (PgProcesses){0};
}

/*
 * Through a pidfd, and only if the process is still the one that was found: its pid may have been
 * given to another one meanwhile.
 */
static bool
kill_one(const PgProcess *p)
{
	int fd = (int) syscall(SYS_pidfd_open, p->pid, 0);
	Stat now;
	bool killed;

	if (fd < 0)
		return false;
	killed = read_stat(p->pid, &now) && now.started == p->started &&
			 pg_process_signal(fd, SIGKILL) == 0;
	close(fd);
	return killed;
}

/* The postmaster first: it then forks nobody any more. */
int
pg_processes_kill(const PgProcesses *found, const PgPlace *place, uint64_t not_after)
{
	pid_t single = 0;
	pid_t postmaster = pg_postmaster_find(place, &single);
	int n = 0;

	for (int pass = 0; pass < 2; pass++)
	{
		for (int i = 0; i < found->n; i++)
		{
			if ((found->p[i].pid == postmaster) == (pass == 0) && found->p[i].started <= not_after)
				n += kill_one(&found->p[i]);
		}
	}
	return n;
}

uint64_t
pg_process_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t) now.tv_sec * (uint64_t) sysconf(_SC_CLK_TCK) +
		   (uint64_t) now.tv_nsec * (uint64_t) sysconf(_SC_CLK_TCK) / 1000000000;
}

/* A tick and 100 kB weigh the same: both are signs of work, and neither is a measure. */
uint64_t
pg_processes_work(const PgProcesses *found)
{
	uint64_t work = 0;

	for (int i = 0; i < found->n; i++)
	{
		char text[1024];
		const char *at;
		Stat s;

		if (read_stat(found->p[i].pid, &s))
			work += s.ticks;
		if (!read_proc(found->p[i].pid, "io", text, sizeof(text)))
			continue;
		if ((at = strstr(text, "\nread_bytes: ")) != NULL)
			work += strtoull(at + 13, NULL, 10) / 100000;
		if ((at = strstr(text, "\nwrite_bytes: ")) != NULL)
			work += strtoull(at + 14, NULL, 10) / 100000;
	}
	return work;
}

/* ---------- the postmaster ---------- */

/* postmaster.pid; false if there is none. */
static bool
read_file(const PgPlace *place, char *text, size_t size)
{
	char path[MAX_PATH];
	ssize_t n;
	int fd;
	RIGHTS_OF_DATABASE;

	snprintf(path, sizeof(path), "%s/postmaster.pid", place->path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return true;
}

/* Its first line; 0 if there is none. */
static long
read_pid(const PgPlace *place)
{
	char text[32];

	return read_file(place, text, sizeof(text)) ? strtol(text, NULL, 10) : 0;
}

static bool
is_alive_in(pid_t pid, const PgPlace *place)
{
	Stat s;

	return pid > 0 && read_stat(pid, &s) && stands_in(pid, place) && runs_postgres(pid);
}

pid_t
pg_postmaster_find(const PgPlace *place, pid_t *single)
{
	long pid = read_pid(place);

	*single = 0;
	if (pid < 0 && is_alive_in((pid_t) -pid, place))
		*single = (pid_t) -pid;
	return pid > 0 && is_alive_in((pid_t) pid, place) ? (pid_t) pid : 0;
}

/* The postmaster writes its state there, as line 8. */
bool
pg_postmaster_was_ready(const PgPlace *place)
{
	char text[MAX_PATH];
	const char *line = text;

	if (!read_file(place, text, sizeof(text)))
		return false;
	for (int i = 1; i < 8 && line != NULL; i++)
	{
		line = strchr(line, '\n');
		line = line != NULL ? line + 1 : NULL;
	}
	return line != NULL && strncmp(line, "ready", 5) == 0;
}

/*
 * To ask with the rights of the database's user is to be told EPERM: there is such a process.  One
 * that is dead and not reaped counts, as it does for PostgreSQL.
 */
bool
pg_postmaster_file_is_stale(const PgPlace *place)
{
	long pid = labs(read_pid(place));

	return pid > 0 && (kill((pid_t) pid, 0) == 0 || errno == EPERM) &&
		   !is_alive_in((pid_t) pid, place);
}

int
pg_process_open(pid_t pid, const PgPlace *place)
{
	int fd = (int) syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -errno;
	if (!is_alive_in(pid, place))
	{
		close(fd);
		return -ESRCH;
	}
	return fd;
}

int
pg_process_signal(int pidfd, int signal)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0 ? 0 : -errno;
}
