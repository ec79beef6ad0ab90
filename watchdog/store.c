/*
 * store.c
 *		See store.h: the voter's state file and its writer thread.
 *
 * The file is text, one "name value ..." a line, nodes by name, so that an operator can read it and
 * so that a node that moved in the configuration is not taken for another:
 *
 *		tandemd 1
 *		node east
 *		promised 5 east
 *		record 5 3 east 0123456789abcdef west fedcba9876543210 whole
 *		stepped_down 4
 *		chosen 5 3
 *		incarnation 17
 *		admitted yes
 *		rebuilding 0
 *		crc 89abcdef
 *
 * The last line has the CRC-32C of all bytes before it.  "-" stands for nobody.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "pg_file.h"
#include "report.h"
#include "rights.h"

#define TEXT_SIZE  2048
#define PATH_SIZE  (CONFIG_PATH_SIZE + CONFIG_NAME_SIZE + 16)
#define ERROR_SIZE 512
#define NAME_SCAN  "%63s" /* CONFIG_NAME_SIZE */

struct Store
{
	const Config *config;
	StoreDone done;
	void *user;
	sd_event_source *source;
	int fd; /* eventfd: the writer has finished */
	pthread_t writer;
	bool started;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* under the lock */
	bool stop;
	bool work;     /* there is an image to write */
	bool finished; /* ... and it has been written, or not */
	bool ok;
	uint64_t seq;
	FsmDurable image;
	char error[ERROR_SIZE];
	/* the writer's own */
	CopyFile copy; /* what the copy file says */
};

/* ---------- text ---------- */

static const char *
name_of(const Config *c, int node)
{
	return node >= 0 && node < c->nnodes ? c->node[node].name : "-";
}

/* False if there is no such node now. */
static bool
node_of(const Config *c, const char *name, int8_t *node)
{
	*node = FSM_NOBODY;
	if (strcmp(name, "-") == 0)
		return true;
	*node = (int8_t) config_node(c, name);
	return *node >= 0;
}

static size_t
format(const Config *c, const FsmDurable *d, char text[TEXT_SIZE])
{
	int n = snprintf(text, TEXT_SIZE,
					 "tandemd 1\n"
					 "node %s\n"
					 "promised %" PRIu64 " %s\n"
					 "record %" PRIu64 " %" PRIu64 " %s %016" PRIx64 " %s %016" PRIx64 " %s\n"
					 "stepped_down %" PRIu64 "\n"
					 "chosen %" PRIu64 " %" PRIu64 "\n"
					 "incarnation %" PRIu64 "\n"
					 "admitted %s\n"
					 "rebuilding %016" PRIx64 "\n",
					 name_of(c, c->self), d->prom, name_of(c, d->prom_to), d->rec.term, d->rec.seq,
					 name_of(c, d->rec.primary), d->rec.primary_copy, name_of(c, d->rec.peer),
					 d->rec.peer_copy, d->rec.lossy ? "lossy" : "whole", d->stepped_down,
					 d->chosen_term, d->chosen_seq, d->inc, d->admitted ? "yes" : "no",
					 d->rebuilding ? d->copy_id : 0);

	n += snprintf(text + n, TEXT_SIZE - (size_t) n, "crc %08" PRIx32 "\n",
				  text_crc32c(text, (size_t) n));
	return (size_t) n;
}

typedef enum Parsed
{
	PARSED,
	PARSED_DAMAGED,
	PARSED_OTHER_VERSION,
	PARSED_OTHER_NODE,
	PARSED_UNKNOWN_NODE
} Parsed;

/* *rebuilding: the id of the copy being made, 0 if there is none. */
static Parsed
parse(const Config *c, const char *text, size_t length, FsmDurable *d, uint64_t *rebuilding,
	  char name[CONFIG_NAME_SIZE])
{
	char self[64], to[64], primary[64], peer[64], whole[8], admitted[8];
	const char *last;
	unsigned version;
	uint32_t crc;

	if (length < 14 || text[length - 1] != '\n' || memchr(text, '\0', length) != NULL)
		return PARSED_DAMAGED;
	for (last = text + length - 1; last > text && last[-1] != '\n';)
		last--;
	if (sscanf(last, "crc %8" SCNx32, &crc) != 1 || strlen(last) != 13 ||
		text_crc32c(text, (size_t) (last - text)) != crc)
		return PARSED_DAMAGED;
	if (sscanf(text, "tandemd %u", &version) != 1)
		return PARSED_DAMAGED;
	if (version != 1)
		return PARSED_OTHER_VERSION;
	if (sscanf(text,
			   "tandemd 1 node " NAME_SCAN " promised %" SCNu64 " " NAME_SCAN " record %" SCNu64
			   " %" SCNu64 " " NAME_SCAN " %" SCNx64 " " NAME_SCAN " %" SCNx64
			   " %7s stepped_down %" SCNu64 " chosen %" SCNu64 " %" SCNu64 " incarnation %" SCNu64
			   " admitted %7s rebuilding %" SCNx64 " crc",
			   self, &d->prom, to, &d->rec.term, &d->rec.seq, primary, &d->rec.primary_copy, peer,
			   &d->rec.peer_copy, whole, &d->stepped_down, &d->chosen_term, &d->chosen_seq, &d->inc,
			   admitted, rebuilding) != 16)
		return PARSED_DAMAGED;
	d->rec.lossy = strcmp(whole, "lossy") == 0;
	d->admitted = strcmp(admitted, "yes") == 0;
	snprintf(name, CONFIG_NAME_SIZE, "%s", self);
	if (strcmp(self, c->node[c->self].name) != 0)
		return PARSED_OTHER_NODE;
	if (!node_of(c, to, &d->prom_to))
		snprintf(name, CONFIG_NAME_SIZE, "%s", to);
	else if (!node_of(c, primary, &d->rec.primary))
		snprintf(name, CONFIG_NAME_SIZE, "%s", primary);
	else if (!node_of(c, peer, &d->rec.peer))
		snprintf(name, CONFIG_NAME_SIZE, "%s", peer);
	else
		return PARSED;
	return PARSED_UNKNOWN_NODE;
}

/* ---------- files ---------- */

static void
state_path(const Config *c, char path[PATH_SIZE])
{
	snprintf(path, PATH_SIZE, "%s/%s.state", c->state_directory, c->node[c->self].name);
}

static bool
say(char *error, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Always false. */
static bool
say(char *error, size_t size, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(error, size, format, ap);
	va_end(ap);
	return false;
}

static bool
has_database(const Config *c)
{
	return !c->node[c->self].witness && c->data_directory[0] != '\0';
}

/* Is there a data directory to write the copy file into? */
static bool
data_directory_there(const Config *c)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/PG_VERSION", c->data_directory);
	return pg_file_exists(path);
}

/* The whole file; *length is 0 and true returned if there is none. */
static bool
read_text(const char *path, char text[TEXT_SIZE], size_t *length, char *error, size_t error_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	*length = 0;
	if (fd < 0 && errno == ENOENT)
		return true;
	if (fd < 0)
		return say(error, error_size, "could not open \"%s\": %s", path, strerror(errno));
	n = read(fd, text, TEXT_SIZE);
	if (n < 0)
		say(error, error_size, "could not read \"%s\": %s", path, strerror(errno));
	else if (n == 0 || n == TEXT_SIZE)
		say(error, error_size, "\"%s\" has a wrong size", path);
	close(fd);
	if (n <= 0 || n == TEXT_SIZE)
		return false;
	text[n] = '\0';
	*length = (size_t) n;
	return true;
}

static bool
refuse_damaged(const char *path, const char *what, char *error, size_t size)
{
	return say(error, size,
			   "\"%s\" %s; what this voter had promised is not known.  If it is known to be lost, "
			   "move the file away: tandemd then reads the other voters, waits for a lease, and "
			   "votes again (of a pair without witness: after \"tandemctl readmit\")",
			   path, what);
}

static bool
read_copy(const Config *c, CopyFile *copy, char *error, size_t error_size)
{
	RIGHTS_OF_DATABASE;

	*copy = (CopyFile){.id = 0};
	if (!has_database(c) || copy_file_read(c->data_directory, copy))
		return true;
	if (errno == ENOENT || errno == ENOTDIR)
	{
		*copy = (CopyFile){.id = 0};
		return true;
	}
	return say(
		error, error_size,
		"could not read \"%s/pg_tandem/copy\": %s; if it is damaged, remove it and seed this "
		"node again",
		c->data_directory, strerror(errno));
}

bool
store_exists(const Config *c)
{
	char path[PATH_SIZE];

	state_path(c, path);
	return access(path, F_OK) == 0 || errno != ENOENT;
}

bool
store_read(const Config *c, FsmDurable *d, char *error, size_t error_size)
{
	char path[PATH_SIZE];
	char text[TEXT_SIZE + 1];
	char name[CONFIG_NAME_SIZE];
	size_t length;
	uint64_t rebuilding = 0;
	CopyFile copy;

	memset(d, 0, sizeof(*d));
	d->prom_to = d->rec.primary = d->rec.peer = FSM_NOBODY;
	state_path(c, path);
	if (!read_text(path, text, &length, error, error_size) ||
		!read_copy(c, &copy, error, error_size))
		return false;
	if (length > 0)
	{
		switch (parse(c, text, length, d, &rebuilding, name))
		{
			case PARSED:
				break;
			case PARSED_DAMAGED:
				return refuse_damaged(path, "is damaged", error, error_size);
			case PARSED_OTHER_VERSION:
				return refuse_damaged(path, "was written by another version of tandemd", error,
									  error_size);
			case PARSED_OTHER_NODE:
				return say(error, error_size, "\"%s\" is the state of node \"%s\", not of \"%s\"",
						   path, name, c->node[c->self].name);
			case PARSED_UNKNOWN_NODE:
				return say(error, error_size, "\"%s\" names node \"%s\", which is not in \"%s\"",
						   path, name, c->path);
		}
	}
	d->copy_id = rebuilding != 0 ? rebuilding : copy.id;
	d->rebuilding = rebuilding != 0 || copy.rebuilding;
	return true;
}

static bool
write_state(const Config *c, const FsmDurable *d, char *error, size_t error_size)
{
	char path[PATH_SIZE];
	char text[TEXT_SIZE];
	int r;

	(void) format(c, d, text);
	state_path(c, path);
	r = pg_file_write(path, text, 0600);
	if (r == 0)
		return true;
	return say(error, error_size, "could not write \"%s\": %s", path, strerror(-r));
}

/*
 * The copy file, if it does not say so already.  A directory that is not there (yet) cannot be
 * marked, and need not be while the state file says "rebuilding".
 */
static bool
write_copy(const Config *c, const FsmDurable *d, CopyFile *copy, char *error, size_t error_size)
{
	CopyFile wanted = {.id = d->copy_id, .rebuilding = d->rebuilding};

	if (!has_database(c) || wanted.id == 0 ||
		(wanted.id == copy->id && wanted.rebuilding == copy->rebuilding))
		return true;
	if (wanted.rebuilding && !data_directory_there(c))
		return true;
	if (!copy_file_write(c->data_directory, &wanted))
		return say(error, error_size, "could not write \"%s/pg_tandem/copy\": %s",
				   c->data_directory, strerror(errno));
	*copy = wanted;
	return true;
}

bool
store_write_now(const Config *c, const FsmDurable *d, char *error, size_t error_size)
{
	CopyFile copy = {.id = 0};

	if (mkdir(c->state_directory, 0700) != 0 && errno != EEXIST)
		return say(error, error_size, "could not make \"%s\": %s", c->state_directory,
				   strerror(errno));
	return write_copy(c, d, &copy, error, error_size) && write_state(c, d, error, error_size);
}

/* ---------- the writer ---------- */

static void *
writer(void *user)
{
	Store *s = user;

	pthread_mutex_lock(&s->lock);
	for (;;)
	{
		FsmDurable image;
		char error[ERROR_SIZE] = "";
		bool ok;

		while (!s->work && !s->stop)
			pthread_cond_wait(&s->wake, &s->lock);
		if (!s->work)
			break;
		image = s->image;
		pthread_mutex_unlock(&s->lock);

		ok = write_copy(s->config, &image, &s->copy, error, sizeof(error)) &&
			 write_state(s->config, &image, error, sizeof(error));

		pthread_mutex_lock(&s->lock);
		s->work = false;
		s->finished = true;
		s->ok = ok;
		memcpy(s->error, error, sizeof(error));
		(void) eventfd_write(s->fd, 1);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int
written(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	Store *s = user;
	char error[ERROR_SIZE];
	eventfd_t n;
	bool finished;
	bool ok;
	uint64_t seq;

	(void) source;
	(void) revents;
	(void) eventfd_read(fd, &n);
	pthread_mutex_lock(&s->lock);
	finished = s->finished;
	s->finished = false;
	ok = s->ok;
	seq = s->seq;
	memcpy(error, s->error, sizeof(error));
	pthread_mutex_unlock(&s->lock);
	if (finished)
		s->done(s->user, seq, ok, error);
	return 0;
}

/* Signals are the event loop's. */
static int
start_writer(Store *s)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 256 * 1024);
	r = pthread_create(&s->writer, &attributes, writer, s);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	s->started = r == 0;
	return -r;
}

int
store_new(Store **out, const Config *c, const FsmDurable *d, sd_event *event, StoreDone done,
		  void *user)
{
	Store *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return -ENOMEM;
	s->config = c;
	s->done = done;
	s->user = user;
	s->copy = (CopyFile){.id = d->copy_id, .rebuilding = d->rebuilding};
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->wake, NULL);
	s->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = s->fd < 0 ? -errno : sd_event_add_io(event, &s->source, s->fd, EPOLLIN, written, s);
	if (r >= 0)
		r = sd_event_source_set_priority(s->source, SD_EVENT_PRIORITY_IMPORTANT);
	if (r >= 0)
		r = start_writer(s);
	if (r < 0)
	{
		store_free(s);
		return r;
	}
	*out = s;
	return 0;
}

int
store_write(Store *s, uint64_t seq, const FsmDurable *d)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (s->work || s->finished)
		r = -EBUSY;
	else
	{
		s->image = *d;
		s->seq = seq;
		s->work = true;
		pthread_cond_signal(&s->wake);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

void
store_free(Store *s)
{
	if (s == NULL)
		return;
	if (s->started)
	{
		pthread_mutex_lock(&s->lock);
		s->stop = true;
		pthread_cond_signal(&s->wake);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->writer, NULL);
	}
	sd_event_source_disable_unref(s->source);
	if (s->fd >= 0)
		close(s->fd);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
