/*
 * tandemd.c
 *		The daemon's main(): options, configuration, then manager.c.
 *
 * It stays in the foreground; systemd, or whoever starts it, puts it where it belongs.
 */
#include <errno.h>
#include <getopt.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "manager.h"
#include "rights.h"

#define DEFAULT_CONFIG "/etc/tandem.conf"

static void
usage(FILE *to)
{
	fputs("tandemd keeps one of two PostgreSQL servers primary.\n\n"
		  "Usage:\n"
		  "  tandemd [OPTION]...\n\n"
		  "Options:\n"
		  "  -c, --config=FILE  configuration (default " DEFAULT_CONFIG ")\n"
		  "  -n, --node=NAME    this node's name, instead of \"node\" in the file\n"
		  "      --check        read and check the configuration, then end\n"
		  "  -V, --version      show the version, then end\n"
		  "  -h, --help         show this, then end\n",
		  to);
}

typedef struct Options
{
	const char *config;
	const char *node;
	bool check;
} Options;

/* True if there is more to do than what an option did; *status otherwise is the exit status. */
static bool
parse_options(int argc, char **argv, Options *o, int *status)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'}, {"node", required_argument, NULL, 'n'},
		{"check", no_argument, NULL, 'C'},        {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
	int c;

	*status = EXIT_SUCCESS;
	while ((c = getopt_long(argc, argv, "c:n:Vh", options, NULL)) != -1)
	{
		switch (c)
		{
			case 'c':
				o->config = optarg;
				break;
			case 'n':
				o->node = optarg;
				break;
			case 'C':
				o->check = true;
				break;
			case 'V':
				puts("tandemd " MANAGER_VERSION);
				return false;
			case 'h':
				usage(stdout);
				return false;
			default:
				usage(stderr);
				*status = 2;
				return false;
		}
	}
	if (optind == argc)
		return true;
	fprintf(stderr, "tandemd: too many arguments: \"%s\"\n", argv[optind]);
	*status = 2;
	return false;
}

static Config *
read_config(const Options *o)
{
	Config *c = calloc(1, sizeof(*c));
	char error[1024];
	const char *unsafe;
	const char *warning;

	if (c == NULL)
	{
		manager_log(NULL, LOG_ERR, "out of memory");
		return NULL;
	}
	if (!config_read(c, o->config, o->node, error, sizeof(error)))
		manager_log(NULL, LOG_ERR, "%s", error);
	else if ((unsafe = fsm_check_config(&c->fsm)) != NULL)
		manager_log(NULL, LOG_ERR, "%s: the configuration is not safe: %s", o->config, unsafe);
	else
	{
		warning = fsm_config_warning(&c->fsm);
		if (warning != NULL)
			manager_log(NULL, LOG_WARNING, "%s: %s", o->config, warning);
		return c;
	}
	free(c);
	return NULL;
}

/* Signals of the event loop are blocked in all threads; a closed socket is no reason to die. */
static void
set_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* A witness works with no data directory. */
static bool
set_rights(const Config *c)
{
	int r = c->node[c->self].witness ? 0 : rights_set(c->os_user);

	if (r < 0)
		manager_log(NULL, LOG_ERR, "could not take the rights of os_user \"%s\": %s", c->os_user,
					r == -ENOENT ? "there is no such user" : strerror(-r));
	return r == 0;
}

int
main(int argc, char **argv)
{
	Options options = {.config = DEFAULT_CONFIG};
	Config *config;
	Manager *m;
	ManagerEnd end;
	char error[1024];
	int status;

	if (!parse_options(argc, argv, &options, &status))
		return status;
	/* no engines, no configuration of OpenSSL's own: an HMAC is all that is needed */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	set_signals();
	config = read_config(&options);
	if (config == NULL)
		return EXIT_FAILURE;
	if (options.check)
	{
		printf("%s: ok for node %s\n", options.config, config->node[config->self].name);
		free(config);
		return EXIT_SUCCESS;
	}
	if (!set_rights(config))
	{
		free(config);
		return EXIT_FAILURE;
	}
	if (!manager_new(&m, config, error, sizeof(error)))
	{
		manager_log(NULL, LOG_ERR, "%s", error);
		free(config);
		return EXIT_FAILURE;
	}
	free(config);
	end = manager_run(m);
	manager_free(m);
	if (end == MANAGER_RELOAD)
	{
		execv("/proc/self/exe", argv);
		manager_log(NULL, LOG_ERR, "could not start again: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
