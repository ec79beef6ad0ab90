/*
 * program.c
 *		See program.h.
 */
#include "program.h"

#include "rights.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_SIZE 2048
#define MAX_GROUPS  64

/* What the child needs, made before the fork: after it only system calls are safe. */
typedef struct Child
{
	const char *const *argv;
	char *envp[10 + PROGRAM_MAX_ENVIRONMENT];
	char home[1100];
	char user[80];
	bool change_user;
	uid_t uid;
	gid_t gid;
	int ngroups;
	gid_t groups[MAX_GROUPS];
	mode_t umask;
	int input;  /* becomes its stdin; -1: none */
	int output; /* becomes its stdout and stderr */
	int lock;
	pid_t parent;
	bool detached;
} Child;

struct Program
{
	ProgramSpec spec;
	pid_t pid;
	int pidfd;
	int pipe; /* -1: there is none (log_file) */
	sd_event_source *end;
	sd_event_source *readable;
	sd_event_source *timer;
	bool timed_out;
	size_t nline;
	char line[1024];
	size_t noutput;
	char output[OUTPUT_SIZE + 1];
};

const char *
program_status_text(int status)
{
	static char text[64];

	if (status == -ETIME)
		snprintf(text, sizeof(text), "killed: it took too long");
	else if (status < 0)
		snprintf(text, sizeof(text), "%s", strerror(-status));
	else if (WIFEXITED(status))
		snprintf(text, sizeof(text), "exit status %d", WEXITSTATUS(status));
	else
		snprintf(text, sizeof(text), "signal %d", WTERMSIG(status));
	return text;
}

bool
program_user(const char *name, uid_t *uid, gid_t *gid)
{
	const struct passwd *pw = name != NULL && name[0] != '\0' ? getpwnam(name) : NULL;

	if (pw == NULL)
		return false;
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
	return true;
}

/* ---------- starting ---------- */

/* A small environment, so that nothing depends on how tandemd was started. */
static int
prepare_environment(Child *c, const struct passwd *pw, const char *const *more)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	static char messages[] = "LC_MESSAGES=C";
	static char lang[] = "LANG=C.UTF-8";
	static char timeout[] = "PGCONNECT_TIMEOUT=10";
	static char oom_file[] = "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj";
	static char oom_value[] = "PG_OOM_ADJUST_VALUE=0";
	int n = 0;

	snprintf(c->home, sizeof(c->home), "HOME=%s", pw != NULL ? pw->pw_dir : "/");
	snprintf(c->user, sizeof(c->user), "USER=%s", pw != NULL ? pw->pw_name : "root");
	c->envp[n++] = path;
	c->envp[n++] = messages;
	c->envp[n++] = lang;
	c->envp[n++] = timeout;
	c->envp[n++] = c->home;
	c->envp[n++] = c->user;
	/* a postmaster keeps tandemd's protection from the kernel's out-of-memory killer, as by Debian's
	 * unit; its children must not have it */
	c->envp[n++] = oom_file;
	c->envp[n++] = oom_value;
	for (int i = 0; more != NULL && more[i] != NULL; i++)
	{
		if (i == PROGRAM_MAX_ENVIRONMENT)
			return -E2BIG;
		c->envp[n++] = (char *) more[i];
	}
	c->envp[n] = NULL;
	return 0;
}

static int
prepare(Child *c, const ProgramSpec *spec)
{
	const struct passwd *pw = geteuid() == 0 && spec->os_user != NULL && spec->os_user[0] != '\0'
								  ? getpwnam(spec->os_user)
								  : getpwuid(geteuid());

	memset(c, 0, sizeof(*c));
	c->argv = spec->argv;
	c->detached = spec->detached;
	c->lock = spec->lock;
	c->parent = getpid();
	c->umask = spec->umask != 0 ? spec->umask : 077;
	c->input = -1;
	if (geteuid() == 0 && spec->os_user != NULL && spec->os_user[0] != '\0')
	{
		if (pw == NULL)
			return -ENOENT;
		c->change_user = true;
		c->uid = pw->pw_uid;
		c->gid = pw->pw_gid;
		c->ngroups = MAX_GROUPS;
		if (getgrouplist(pw->pw_name, pw->pw_gid, c->groups, &c->ngroups) < 0)
			return -E2BIG;
	}
	return prepare_environment(c, pw, spec->environment);
}

/* Of tandemd and the postmaster the kernel shall kill neither; of a program of ours it may. */
static void
unprotect(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);
	ssize_t n = fd >= 0 ? write(fd, "0", 1) : 0;

	(void) n; /* without /proc nothing is protected */
	if (fd >= 0)
		close(fd);
}

static _Noreturn void
child(const Child *c)
{
	sigset_t none;
	int null = open("/dev/null", O_RDWR);

	if (c->detached)
		setsid();
	else
		setpgid(0, 0);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!c->detached)
		unprotect();
	if (dup2(c->input >= 0 ? c->input : null, 0) < 0 || dup2(c->output, 1) < 0 ||
		dup2(c->output, 2) < 0)
		_exit(126);
	if (c->lock > 0 && (c->lock == 3 ? fcntl(3, F_SETFD, 0) : dup2(c->lock, 3)) < 0)
		_exit(126);
	syscall(SYS_close_range, c->lock > 0 ? 4U : 3U, ~0U, 0U);
	if (c->change_user &&
		(setgroups((size_t) c->ngroups, c->groups) != 0 || setresgid(c->gid, c->gid, c->gid) != 0 ||
		 setresuid(c->uid, c->uid, c->uid) != 0))
		_exit(126);
	/* after the change of the user, which clears it */
	if (!c->detached && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != c->parent))
		_exit(126);
	if (chdir("/") != 0)
		_exit(126);
	umask(c->umask);
	execve(c->argv[0], (char *const *) c->argv, c->envp);
	dprintf(2, "could not execute %s: %s\n", c->argv[0], strerror(errno));
	_exit(127);
}

/*
 * Who may write into the directory must not choose another file by a link, nor have tandemd wait for
 * a pipe's reader.
 */
static int
open_append(const char *path)
{
	int fd = open(
		path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK, 0600);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
		return fd;
	close(fd);
	return -EINVAL;
}

/* With the rights of the program's user: the file is his, and its directory may be. */
static int
open_log(const Child *c, const char *path)
{
	if (c->change_user)
	{
		RIGHTS_OF_DATABASE;

		return open_append(path);
	}
	return open_append(path);
}

/* A pipe with all of it in it: it holds that much, so nobody has to write while the child reads. */
static int
open_input(const char *text)
{
	size_t n = strlen(text);
	int fds[2];

	if (n > PROGRAM_MAX_INPUT)
		return -E2BIG;
	if (pipe2(fds, O_CLOEXEC) != 0)
		return -errno;
	if (write(fds[1], text, n) != (ssize_t) n)
	{
		close(fds[0]);
		fds[0] = -EIO;
	}
	close(fds[1]);
	return fds[0];
}

/* ---------- its output ---------- */

static void
remember(Program *p, const char *text, size_t n)
{
	if (n >= OUTPUT_SIZE)
	{
		text += n - OUTPUT_SIZE;
		n = OUTPUT_SIZE;
	}
	if (p->noutput + n > OUTPUT_SIZE)
	{
		size_t keep = OUTPUT_SIZE - n;

		memmove(p->output, p->output + p->noutput - keep, keep);
		p->noutput = keep;
	}
	memcpy(p->output + p->noutput, text, n);
	p->noutput += n;
	p->output[p->noutput] = '\0';
}

/* A progress line ends with a carriage return. */
static void
split(Program *p, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		if (text[i] != '\n' && text[i] != '\r')
		{
			if (p->nline < sizeof(p->line) - 1)
				p->line[p->nline++] = text[i];
			continue;
		}
		p->line[p->nline] = '\0';
		if (p->nline > 0 && p->spec.line != NULL)
			p->spec.line(p->spec.user, p->line);
		p->nline = 0;
	}
}

static void
read_output(Program *p)
{
	char text[4096];

	for (int i = 0; i < 16; i++)
	{
		ssize_t n = read(p->pipe, text, sizeof(text));

		if (n > 0)
		{
			remember(p, text, (size_t) n);
			split(p, text, (size_t) n);
		}
		else if (n == 0)
		{
			p->readable = sd_event_source_disable_unref(p->readable);
			return;
		}
		else
			return;
	}
}

static int
on_readable(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	(void) source;
	(void) fd;
	(void) events;
	read_output(arg);
	return 0;
}

/* ---------- its end ---------- */

static void
program_free(Program *p)
{
	sd_event_source_disable_unref(p->end);
	sd_event_source_disable_unref(p->readable);
	sd_event_source_disable_unref(p->timer);
	if (p->pidfd >= 0)
		close(p->pidfd);
	if (p->pipe >= 0)
		close(p->pipe);
	free(p);
}

static int
on_end(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	Program *p = arg;
	int status = 0;
	ProgramSpec spec = p->spec;
	char output[OUTPUT_SIZE + 1];

	(void) source;
	(void) fd;
	(void) events;
	if (p->pipe >= 0)
	{
		read_output(p);
		split(p, "\n", 1);
	}
	if (waitpid(p->pid, &status, WNOHANG) < 0)
		status = -errno;
	if (p->timed_out)
		status = -ETIME;
	memcpy(output, p->output, p->noutput + 1);
	program_free(p);
	if (spec.done != NULL)
		spec.done(spec.user, status, output);
	return 0;
}

static int
on_limit(sd_event_source *source, uint64_t usec, void *arg)
{
	Program *p = arg;

	(void) source;
	(void) usec;
	p->timed_out = true;
	kill(-p->pid, SIGKILL);
	return 0;
}

static int
watch(Program *p, sd_event *event)
{
	int r = sd_event_add_io(event, &p->end, p->pidfd, EPOLLIN, on_end, p);

	if (r >= 0 && p->pipe >= 0)
		r = sd_event_add_io(event, &p->readable, p->pipe, EPOLLIN, on_readable, p);
	if (r >= 0 && p->spec.limit > 0)
		r = sd_event_add_time_relative(event, &p->timer, CLOCK_BOOTTIME, (uint64_t) p->spec.limit,
									   1000, on_limit, p);
	return r;
}

static int
start(Program *p, sd_event *event, const Child *c)
{
	int r;

	p->pid = fork();
	if (p->pid < 0)
		return -errno;
	if (p->pid == 0)
		child(c);
	if (!c->detached)
		setpgid(p->pid, p->pid); /* whoever comes first */
	p->pidfd = (int) syscall(SYS_pidfd_open, p->pid, 0);
	r = p->pidfd < 0 ? -errno : watch(p, event);
	if (r < 0)
	{
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	return r;
}

int
program_run(Program **program, sd_event *event, const ProgramSpec *spec)
{
	Program *p = calloc(1, sizeof(Program));
	int fds[2] = {-1, -1};
	Child c;
	int r;

	*program = NULL;
	if (p == NULL)
		return -ENOMEM;
	p->spec = *spec;
	p->spec.os_user = p->spec.log_file = p->spec.input = NULL;
	p->spec.environment = NULL;
	memset(p->spec.argv, 0, sizeof(p->spec.argv));
	p->pidfd = p->pipe = -1;
	r = prepare(&c, spec);
	if (r < 0)
		goto failed;
	if (spec->input != NULL)
		r = c.input = open_input(spec->input);
	if (r < 0)
		goto failed;
	if (spec->log_file != NULL)
		r = fds[1] = open_log(&c, spec->log_file);
	else if (pipe2(fds, O_CLOEXEC) != 0)
		r = -errno;
	if (r < 0)
		goto failed;
	p->pipe = fds[0];
	if (p->pipe >= 0)
		fcntl(p->pipe, F_SETFL, O_NONBLOCK);
	c.output = fds[1];
	r = start(p, event, &c);
	close(fds[1]);
	if (c.input >= 0)
		close(c.input);
	c.input = -1;
	if (r < 0)
		goto failed;
	*program = p;
	return 0;

failed:
	if (c.input >= 0)
		close(c.input);
	program_free(p);
	return r;
}

pid_t
program_pid(const Program *program)
{
	return program->pid;
}

void
program_stop(const Program *program)
{
	kill(-program->pid, SIGKILL);
}

/*
 * A killed child is reaped here: it ends at once, unless it hangs in the kernel; then it stays a
 * zombie until tandemd ends.
 */
void
program_kill(Program *program)
{
	if (program == NULL)
		return;
	if (!program->spec.detached)
	{
		kill(-program->pid, SIGKILL);
		for (int i = 0; i < 20 && waitpid(program->pid, NULL, WNOHANG) == 0; i++)
			usleep(500);
	}
	else
		(void) waitpid(program->pid, NULL, WNOHANG); /* it may have ended by itself */
	program_free(program);
}
