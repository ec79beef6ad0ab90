/*
 * tandemctl.c
 *		What people tell tandemd: options, commands, and the talk with it.
 *
 * Every command is a row of the table below.  Those that change something print one sentence of
 * tandemd's and wait until what was asked for has happened (unless --no-wait).
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "ctl.h"

#define DEFAULT_CONFIG "/etc/tandem.conf"
#define ANSWER_LIMIT   5 /* s */

typedef struct Options
{
	const char *config;
	const char *node;
	bool json;
	bool no_wait;
	bool yes;
	bool primary;
	bool follow;
	bool accept_loss;
	bool even_in_sync;
	const char *force_quorum;
	const char *to;
	const char *argument; /* of the command; NULL: none */
	int timeout;          /* s: how long to wait */
} Options;

/* ---------- talking ---------- */

void
ctl_error(const char *format, ...)
{
	va_list ap;

	fputs("tandemctl: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

json_t *
ctl_request(const char *name)
{
	return json_pack("{s:s}", "command", name);
}

static int
connect_to(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = ANSWER_LIMIT};
	int size = CONTROL_MAX_ANSWER;
	int fd;

	if (strlen(path) >= sizeof(a.sun_path))
	{
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *) &a, sizeof(a)) < 0)
	{
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* Takes over the reference to request. */
json_t *
ctl_ask(const Config *c, json_t *request, bool quiet)
{
	static char text[CONTROL_MAX_ANSWER];
	char path[CONFIG_PATH_SIZE + CONFIG_NAME_SIZE];
	char *asked = json_dumps(request, JSON_COMPACT);
	json_t *answer = NULL;
	ssize_t n = -1;
	int fd;

	json_decref(request);
	config_run_path(c, ".control", path, sizeof(path));
	fd = connect_to(path);
	if (fd < 0)
	{
		if (!quiet)
			ctl_error("could not connect to \"%s\": %s.  HINT: does tandemd run on node %s?", path,
					  strerror(errno), c->node[c->self].name);
		free(asked);
		return NULL;
	}
	if (asked != NULL && send(fd, asked, strlen(asked), MSG_NOSIGNAL) >= 0)
		n = recv(fd, text, sizeof(text), 0);
	if (n > 0)
		answer = json_loadb(text, (size_t) n, 0, NULL);
	if (answer == NULL && !quiet)
		ctl_error("tandemd did not answer%s%s", n < 0 ? ": " : "", n < 0 ? strerror(errno) : "");
	close(fd);
	free(asked);
	return answer;
}

/* Print what tandemd says to a command; its "ok". */
static bool
show_answer(const json_t *answer)
{
	bool ok = json_is_true(json_object_get(answer, "ok"));
	const char *text = json_string_value(json_object_get(answer, "text"));

	if (ok)
		puts(text != NULL ? text : "ok");
	else
		ctl_error("%s", text != NULL ? text : "refused");
	return ok;
}

static json_t *
get_status(const Config *c, bool quiet)
{
	json_t *answer = ctl_ask(c, ctl_request("status"), quiet);
	json_t *status = json_incref(json_object_get(answer, "status"));

	json_decref(answer);
	return status;
}

/* A command without arguments. */
static int
simple(const Config *c, const char *name)
{
	json_t *answer = ctl_ask(c, ctl_request(name), false);
	bool ok;

	if (answer == NULL)
		return CTL_NOBODY;
	ok = show_answer(answer);
	json_decref(answer);
	return ok ? CTL_DONE : CTL_FAILED;
}

static void
nap(void)
{
	struct timespec t = {.tv_nsec = 200 * 1000 * 1000};

	nanosleep(&t, NULL);
}

/* An operator who overrides says so with a word typed, or with --yes. */
static bool
sure(const Options *o, const char *warning)
{
	char line[16] = "";

	if (o->yes)
		return true;
	if (!isatty(STDIN_FILENO))
	{
		ctl_error("%s\nAdd --yes if that is what you want.", warning);
		return false;
	}
	printf("%s\nType \"yes\" to go on: ", warning);
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) != NULL && strcmp(line, "yes\n") == 0;
}

/* ---------- commands ---------- */

static int
cmd_status(const Config *c, const Options *o)
{
	json_t *status = get_status(c, false);

	if (status == NULL)
		return CTL_NOBODY;
	if (o->json)
	{
		json_dumpf(status, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
	}
	else
		ctl_show_status(status);
	json_decref(status);
	return CTL_DONE;
}

static void
show_event(const json_t *e)
{
	json_int_t us = json_integer_value(json_object_get(e, "time_us"));
	time_t seconds = (time_t) (us / 1000000);
	struct tm tm;
	char stamp[32];

	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%s.%03d UTC  %-9s %s\n", stamp, (int) (us / 1000 % 1000),
		   json_string_value(json_object_get(e, "kind")),
		   json_string_value(json_object_get(e, "text")));
}

static int
cmd_events(const Config *c, const Options *o)
{
	json_int_t next = 0;

	do
	{
		json_t *answer = ctl_ask(c, json_pack("{s:s,s:I}", "command", "events", "since", next),
								 o->follow && next > 0);
		json_t *list = json_object_get(answer, "events");
		size_t i;
		json_t *e;

		if (answer == NULL && next == 0)
			return CTL_NOBODY;
		if (answer != NULL && json_integer_value(json_object_get(answer, "next")) < next)
			next = 0; /* another tandemd: from its beginning */
		else if (answer != NULL)
		{
			next = json_integer_value(json_object_get(answer, "next"));
			if (o->json && !o->follow)
			{
				json_dumpf(list, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
				putchar('\n');
			}
			else
				json_array_foreach(list, i, e) show_event(e);
			fflush(stdout);
		}
		json_decref(answer);
		if (o->follow)
			nap();
	} while (o->follow);
	return CTL_DONE;
}

/* Until another node is primary and this one sees it. */
static int
wait_for_switchover(const Config *c, const Options *o, const char *to)
{
	time_t end = time(NULL) + o->timeout;

	while (time(NULL) < end)
	{
		json_t *status = get_status(c, true);
		const char *primary = json_string_value(json_object_get(status, "primary"));
		bool there = primary != NULL && strcmp(primary, c->node[c->self].name) != 0 &&
					 (to == NULL || strcmp(primary, to) == 0);

		json_decref(status);
		if (there)
		{
			printf("node %s is the primary\n", to != NULL ? to : "?");
			return CTL_DONE;
		}
		nap();
	}
	ctl_error("no other node has become primary after %d s: see tandemctl status", o->timeout);
	return CTL_FAILED;
}

static int
cmd_switchover(const Config *c, const Options *o)
{
	json_t *request = ctl_request("switchover");
	json_t *answer;
	int status;

	if (o->to != NULL)
		json_object_set_new(request, "to", json_string(o->to));
	answer = ctl_ask(c, request, false);
	if (answer == NULL)
		return CTL_NOBODY;
	if (!show_answer(answer))
		status = CTL_FAILED;
	else if (o->no_wait)
		status = CTL_DONE;
	else
		status = wait_for_switchover(c, o, json_string_value(json_object_get(answer, "to")));
	json_decref(answer);
	return status;
}

static int
cmd_drop(const Config *c, const Options *o)
{
	(void) o;
	return simple(c, "drop");
}

static int
cmd_pause(const Config *c, const Options *o)
{
	(void) o;
	return simple(c, "pause");
}

static int
cmd_resume(const Config *c, const Options *o)
{
	(void) o;
	return simple(c, "resume");
}

static int
cmd_readmit(const Config *c, const Options *o)
{
	if (!sure(o, "A voter that lost its state may have promised things it no longer knows of.  "
				 "Re-admit it only if no\nother node is, or may become, primary on the strength of "
				 "its old promises."))
		return CTL_FAILED;
	return simple(c, "readmit");
}

/* Split "a,b" into a JSON array. */
static json_t *
names(const char *list)
{
	json_t *a = json_array();
	char *copy = strdup(list);
	char *rest = copy;
	char *name;

	while (copy != NULL && (name = strsep(&rest, ", ")) != NULL)
		if (name[0] != '\0')
			json_array_append_new(a, json_string(name));
	free(copy);
	return a;
}

/* Profile dr. */
static int
cmd_confirm(const Config *c, const Options *o)
{
	json_t *request;
	json_t *answer;
	bool ok;

	if (o->force_quorum != NULL &&
		!sure(o, "If one of the nodes said to be off still runs, there will be TWO PRIMARIES."))
		return CTL_FAILED;
	request = ctl_request("confirm");
	json_object_set_new(request, "decision",
						json_string(o->argument != NULL ? o->argument : "failover"));
	if (o->force_quorum != NULL)
		json_object_set_new(request, "force", names(o->force_quorum));
	answer = ctl_ask(c, request, false);
	if (answer == NULL)
		return CTL_NOBODY;
	ok = show_answer(answer);
	json_decref(answer);
	return ok ? CTL_DONE : CTL_FAILED;
}

static int
cmd_promote(const Config *c, const Options *o)
{
	json_t *request;
	json_t *answer;
	bool ok;

	if (!o->accept_loss && o->force_quorum == NULL)
	{
		ctl_error("say what you override: --accept-loss (this copy may lack acknowledged commits), "
				  "or --force-quorum=NODE,... (these nodes are off, and stay off), or both.  A "
				  "planned change is \"tandemctl switchover\" on the primary.");
		return CTL_USAGE;
	}
	if (o->accept_loss &&
		!sure(o,
			  "Acknowledged commits that this copy does not have are LOST if it becomes primary."))
		return CTL_FAILED;
	if (o->force_quorum != NULL &&
		!sure(o, "If one of the nodes said to be off still runs, there will be TWO PRIMARIES."))
		return CTL_FAILED;
	request = ctl_request("promote");
	json_object_set_new(request, "accept_loss", json_boolean(o->accept_loss));
	if (o->force_quorum != NULL)
		json_object_set_new(request, "force", names(o->force_quorum));
	answer = ctl_ask(c, request, false);
	if (answer == NULL)
		return CTL_NOBODY;
	ok = show_answer(answer);
	json_decref(answer);
	return ok ? CTL_DONE : CTL_FAILED;
}

/* Show how a seed goes on, until it is complete. */
static int
watch_seed(const Config *c)
{
	bool tty = isatty(STDOUT_FILENO);
	char last[128] = "";
	bool seen = false;

	for (;;)
	{
		json_t *status = get_status(c, true);
		const char *state = json_string_value(json_object_get(status, "state"));
		bool rebuilding = state != NULL && strcmp(state, fsm_state_name(FSM_REBUILD)) == 0;
		char text[128];

		if (status == NULL)
		{
			ctl_error("tandemd does not answer any more; the seed goes on when it is back");
			return CTL_NOBODY;
		}
		ctl_progress(status, text, sizeof(text));
		if (text[0] != '\0' && strcmp(text, last) != 0)
		{
			printf(tty ? "\r%-72s" : "%s\n", text);
			fflush(stdout);
			memcpy(last, text, sizeof(last));
		}
		json_decref(status);
		seen = seen || rebuilding;
		if (seen && !rebuilding)
			break;
		nap();
	}
	printf("%sseeded: this node follows the primary\n", tty ? "\n" : "");
	return CTL_DONE;
}

static int
cmd_seed(const Config *c, const Options *o)
{
	json_t *request = ctl_request("seed");
	json_t *answer;
	bool ok;

	json_object_set_new(request, "even_in_sync", json_boolean(o->even_in_sync));
	answer = ctl_ask(c, request, false);
	if (answer == NULL)
		return CTL_NOBODY;
	ok = show_answer(answer);
	json_decref(answer);
	if (!ok)
		return CTL_FAILED;
	return o->no_wait ? CTL_DONE : watch_seed(c);
}

static int
cmd_init(const Config *c, const Options *o)
{
	return ctl_init(c, o->primary);
}

static int
cmd_check(const Config *c, const Options *o)
{
	(void) o;
	return ctl_check(c);
}

static const struct
{
	const char *name;
	int (*run)(const Config *c, const Options *o);
	const char *help;
	const char *arguments; /* what may follow, with '|' between */
} commands[] = {
	{"status", cmd_status, "who is primary, is a failover possible, what would be lost (--json)",
	 NULL},
	{"events", cmd_events, "what happened (--follow, --json)", NULL},
	{"check", cmd_check, "is the configuration safe, and PostgreSQL's with it?", NULL},
	{"switchover", cmd_switchover, "on the primary: hand over to the standby in sync (--to=NODE)",
	 NULL},
	{"drop", cmd_drop, "on the primary: go on without the standby", "standby"},
	{"promote", cmd_promote, "on a standby: override (--accept-loss, --force-quorum=NODE,...)",
	 NULL},
	{"confirm", cmd_confirm, "profile dr: fail over now, or wait", "failover|wait"},
	{"pause", cmd_pause, "maintenance: this node observes and changes nothing", NULL},
	{"resume", cmd_resume, "end of pause", NULL},
	{"seed", cmd_seed, "on a standby: a new copy from the primary (--even-in-sync)", NULL},
	{"readmit", cmd_readmit, "this voter, whose state was lost, votes again", NULL},
	{"init", cmd_init, "first state of this node, once (--primary where the data is)", NULL},
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

/* ---------- options ---------- */

static void
usage(FILE *to)
{
	fputs("tandemctl talks to the tandemd of this node.\n\n"
		  "Usage:\n"
		  "  tandemctl [OPTION]... COMMAND\n\n"
		  "Commands:\n",
		  to);
	for (size_t i = 0; i < NCOMMANDS; i++)
	{
		char text[64];

		snprintf(text, sizeof(text), "%s%s%s%s", commands[i].name,
				 commands[i].arguments != NULL ? " [" : "",
				 commands[i].arguments != NULL ? commands[i].arguments : "",
				 commands[i].arguments != NULL ? "]" : "");
		fprintf(to, "  %-24s %s\n", text, commands[i].help);
	}
	fputs("\nOptions:\n"
		  "  -c, --config=FILE  configuration (default " DEFAULT_CONFIG ")\n"
		  "  -n, --node=NAME    the node, instead of \"node\" in the file\n"
		  "  -w, --no-wait      do not wait until it is done\n"
		  "  -t, --timeout=SEC  how long to wait (default 60)\n"
		  "  -y, --yes          do not ask\n"
		  "  -V, --version      show the version, then end\n"
		  "  -h, --help         show this, then end\n",
		  to);
}

static bool
parse_option(int c, Options *o)
{
	switch (c)
	{
		case 'c':
			o->config = optarg;
			return true;
		case 'n':
			o->node = optarg;
			return true;
		case 'w':
			o->no_wait = true;
			return true;
		case 't':
			o->timeout = atoi(optarg);
			return o->timeout > 0;
		case 'y':
			o->yes = true;
			return true;
		case 'J':
			o->json = true;
			return true;
		case 'P':
			o->primary = true;
			return true;
		case 'F':
			o->follow = true;
			return true;
		case 'L':
			o->accept_loss = true;
			return true;
		case 'S':
			o->even_in_sync = true;
			return true;
		case 'Q':
			o->force_quorum = optarg;
			return true;
		case 'T':
			o->to = optarg;
			return true;
		default:
			return false;
	}
}

static const struct option long_options[] = {{"config", required_argument, NULL, 'c'},
											 {"node", required_argument, NULL, 'n'},
											 {"no-wait", no_argument, NULL, 'w'},
											 {"timeout", required_argument, NULL, 't'},
											 {"yes", no_argument, NULL, 'y'},
											 {"json", no_argument, NULL, 'J'},
											 {"primary", no_argument, NULL, 'P'},
											 {"follow", no_argument, NULL, 'F'},
											 {"accept-loss", no_argument, NULL, 'L'},
											 {"even-in-sync", no_argument, NULL, 'S'},
											 {"force-quorum", required_argument, NULL, 'Q'},
											 {"to", required_argument, NULL, 'T'},
											 {"version", no_argument, NULL, 'V'},
											 {"help", no_argument, NULL, 'h'},
											 {NULL, 0, NULL, 0}};

static int
run(const char *name, const Options *o)
{
	Config *c = calloc(1, sizeof(*c));
	char error[1024];
	int status = CTL_USAGE;

	if (c == NULL || !config_read_public(c, o->config, o->node, error, sizeof(error)))
	{
		ctl_error("%s", c == NULL ? "out of memory" : error);
		free(c);
		return CTL_FAILED;
	}
	for (size_t i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			status = commands[i].run(c, o);
	free(c);
	return status;
}

/* Is this a command, and may that follow it? */
static bool
is_command(const char *name, const char *argument)
{
	size_t length = argument != NULL ? strlen(argument) : 0;

	for (size_t i = 0; i < NCOMMANDS; i++)
	{
		const char *may = commands[i].arguments;

		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (argument == NULL)
			return true;
		for (; may != NULL; may = strchr(may, '|') != NULL ? strchr(may, '|') + 1 : NULL)
			if (length > 0 && strncmp(may, argument, length) == 0 &&
				(may[length] == '\0' || may[length] == '|'))
				return true;
	}
	return false;
}

int
main(int argc, char **argv)
{
	Options o = {.config = DEFAULT_CONFIG, .timeout = 60};
	int c;

	while ((c = getopt_long(argc, argv, "c:n:wt:yVh", long_options, NULL)) != -1)
	{
		if (c == 'V' || c == 'h')
		{
			if (c == 'V')
				puts("tandemctl 0.1");
			else
				usage(stdout);
			return CTL_DONE;
		}
		if (!parse_option(c, &o))
		{
			usage(stderr);
			return CTL_USAGE;
		}
	}
	o.argument = argc - optind == 2 ? argv[optind + 1] : NULL;
	if (argc - optind < 1 || argc - optind > 2 || !is_command(argv[optind], o.argument))
	{
		if (optind < argc)
			ctl_error("unknown command, or too many arguments: \"%s\"", argv[optind]);
		usage(stderr);
		return CTL_USAGE;
	}
	return run(argv[optind], &o);
}
