/*
 * ctl_init.c
 *		tandemctl init: the first state of a voter, once in the life of a cluster.
 *
 * Every voter begins with an empty record.  Only the node that holds the data begins with one that
 * names its copy; it has to be found by whoever wants to be primary, so only that copy can.  A
 * voter that *lost* its state must not be initialised again (SAFETY rule 17): without a state
 * tandemd re-admits it by itself, or "tandemctl readmit" does.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "pg_file.h"
#include "report.h"
#include "rights.h"
#include "store.h"

static bool
has_data_directory(const Config *c)
{
	char path[CONFIG_PATH_SIZE + 16];

	snprintf(path, sizeof(path), "%s/PG_VERSION", c->data_directory);
	return pg_file_exists(path);
}

/* The pid in postmaster.pid, if such a process is there; 0 otherwise. */
static long
postmaster(const Config *c)
{
	char path[CONFIG_PATH_SIZE + 16];
	char *text;
	long pid;
	RIGHTS_OF_DATABASE;

	snprintf(path, sizeof(path), "%s/postmaster.pid", c->data_directory);
	if (pg_file_read(path, &text) < 0)
		return 0;
	pid = strtol(text, NULL, 10);
	free(text);
	return pid > 0 && (kill((pid_t) pid, 0) == 0 || errno != ESRCH) ? pid : 0;
}

static uint64_t
new_copy_id(void)
{
	uint64_t id = 0;

	while (id == 0)
		if (getrandom(&id, sizeof(id), 0) != (ssize_t) sizeof(id))
			id = 0;
	return id;
}

static bool
may_be_initialised(const Config *c, bool primary)
{
	const char *node = c->node[c->self].name;
	json_t *answer;

	if (store_exists(c))
	{
		ctl_error("node %s has a state already in \"%s\".  HINT: a voter that lost its state is "
				  "never initialised again; start tandemd without one, and it reads the others.",
				  node, c->state_directory);
		return false;
	}
	answer = ctl_ask(c, ctl_request("status"), true);
	if (answer != NULL)
	{
		json_decref(answer);
		ctl_error("tandemd runs on node %s: stop it first", node);
		return false;
	}
	if (!primary)
		return true;
	if (c->node[c->self].witness)
		ctl_error("node %s is a witness: --primary is for the node that holds the data", node);
	else if (!has_data_directory(c))
		ctl_error("there is no PostgreSQL data directory \"%s\"", c->data_directory);
	else
		return true;
	return false;
}

int
ctl_init(const Config *c, bool primary)
{
	const char *node = c->node[c->self].name;
	bool data = !c->node[c->self].witness && has_data_directory(c);
	FsmDurable d;
	char error[1024];

	if (!c->node[c->self].witness && rights_set(c->os_user) < 0)
	{
		ctl_error("could not take the rights of user \"%s\"", c->os_user);
		return CTL_FAILED;
	}
	if (!may_be_initialised(c, primary))
		return CTL_FAILED;
	if (data && postmaster(c) != 0)
	{
		ctl_error("PostgreSQL runs (process %ld): stop it first; tandemd starts it", postmaster(c));
		return CTL_FAILED;
	}
	memset(&d, 0, sizeof(d));
	d.prom_to = d.rec.primary = d.rec.peer = FSM_NOBODY;
	d.admitted = true;
	if (data)
		d.copy_id = new_copy_id();
	if (primary)
	{
		d.prom = 1;
		d.prom_to = (int8_t) c->self;
		d.rec.term = d.rec.seq = 1;
		d.rec.primary = (int8_t) c->self;
		d.rec.primary_copy = d.copy_id;
		d.chosen_term = d.chosen_seq = 1;
	}
	if (!store_write_now(c, &d, error, sizeof(error)))
	{
		ctl_error("%s", error);
		return CTL_FAILED;
	}
	if (primary)
		printf("node %s: initialised, its copy %016" PRIx64 " is the database\n", node, d.copy_id);
	else if (data)
		printf("node %s: initialised, its copy %016" PRIx64 " is a standby's\n", node, d.copy_id);
	else
		printf("node %s: initialised%s\n", node,
			   c->node[c->self].witness ? " as a witness"
										: " without data; start tandemd, then: tandemctl seed");
	return CTL_DONE;
}
