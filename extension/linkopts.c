/*-------------------------------------------------------------------------
 *
 * linkopts.c
 *	  What a DBA has chosen for one link, put into force on its connection.
 *
 * tandem.link_options is read by link/options.c.  Here is what "auto" means,
 * and how a reload reaches a link that is up: everything but compression is
 * changed on the open connection; for another compression the link is opened
 * again, because both sides must agree on it.
 *
 * "auto" goes by the link's mode.  A commit may wait for a synchronous link,
 * so nothing is put in its way: no compression, and the congestion control
 * that the kernel gives every connection.  An asynchronous one is taken to be
 * far away: zstd, and bbr if the kernel has it.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "utils/guc.h"
#include "utils/timestamp.h"

#define FAR_CONGESTION "bbr"

/*
 * How much may lie unsent in the kernel's buffer: what is behind it in the
 * queue, a bound or a keepalive, waits that long.  At most a quarter of a
 * second of max_rate.
 */
#define UNSENT_BYTES   (512 * 1024)
#define UNSENT_LEAST   (16 * 1024)

char *tandem_link_options;

/* of the connection that this link worker serves */
static char kernel_congestion[LINK_CONGESTION_SIZE];
static uint64 raw_seen;
static uint64 packed_seen;
static uint64 cpu_seen;

/* Check hook of tandem.link_options. */
bool
linkopts_check(char **newval, pg_attribute_unused() void **extra,
			   pg_attribute_unused() GucSource source)
{
	LinkOptions options;
	char error[256];

	if (link_options_parse(*newval, NULL, &options, error, sizeof(error)))
		return true;
	GUC_check_errdetail("%s", error);
	return false;
}

/* What is set for a link, with "auto" replaced by what it means. */
void
linkopts_get(const char *name, bool async, LinkOptions *options)
{
	char error[256];

	(void) link_options_parse(tandem_link_options, name, options, error, sizeof(error));
	if (options->compression == LINK_COMPRESSION_AUTO)
		options->compression = async ? LINK_COMPRESSION_ZSTD : LINK_COMPRESSION_NONE;
	if (options->congestion[0] == '\0' && async)
		strlcpy(options->congestion, FAR_CONGESTION, sizeof(options->congestion));
}

/*
 * Choose the congestion control.  One that was asked for and cannot be had is
 * told; that "auto" had to be content with another is not.
 */
static void
choose_congestion(int fd, TandemLink *link, const LinkOptions *options)
{
	LinkOptions said;
	char error[256];
	const char *name = options->congestion[0] != '\0' ? options->congestion : kernel_congestion;
	int result = link_tcp_set_congestion(fd, name);

	(void) link_options_parse(tandem_link_options, link->name, &said, error, sizeof(error));
	if (result != 0 && said.congestion[0] != '\0')
		(void) tandem_event_repeated("link", link->name,
									 "congestion control \"%s\" cannot be had: %s; see "
									 "net.ipv4.tcp_allowed_congestion_control",
									 name, strerror(errno));
}

/*
 * Put into force what concerns the open connection.  Failures leave the
 * kernel's own choice, which the view then shows.
 */
static void
apply(LinkConn *conn, TandemLink *link, const LinkOptions *options)
{
	char congestion[LINK_CONGESTION_SIZE];
	uint64 unsent = UNSENT_BYTES;

	choose_congestion(conn->fd, link, options);
	if (!link_tcp_congestion(conn->fd, congestion, sizeof(congestion)))
		congestion[0] = '\0';
	(void) link_tcp_set_rate(conn->fd, options->max_rate);
	if (options->send_buffer > 0)
		(void) link_tcp_set_send_buffer(conn->fd, options->send_buffer);
	if (options->max_rate > 0)
		unsent = Min(unsent, Max(options->max_rate / 4, UNSENT_LEAST));
	(void) link_tcp_set_unsent(conn->fd, unsent);

	SpinLockAcquire(&link->mutex);
	strlcpy(link->congestion, congestion, sizeof(link->congestion));
	link->max_rate = options->max_rate;
	SpinLockRelease(&link->mutex);
}

/*
 * A standby is about to be welcomed; it said in the flags of its greeting what
 * compression it can take.  Everything is in force afterwards.  Returns the
 * flags for the answer.  False: out of memory.
 */
bool
linkopts_begin(LinkConn *conn, TandemLink *link, uint16 hello_flags, uint16 *welcome_flags)
{
	LinkOptions options;

	linkopts_get(link->name, link->async, &options);
	if (!link_tcp_congestion(conn->fd, kernel_congestion, sizeof(kernel_congestion)))
		kernel_congestion[0] = '\0';
	apply(conn, link, &options);

	*welcome_flags = link_compression_flag(options.compression) & hello_flags;
	if (*welcome_flags == 0)
		options.compression = LINK_COMPRESSION_NONE;
	raw_seen = packed_seen = cpu_seen = 0;
	SpinLockAcquire(&link->mutex);
	link->compression = options.compression;
	link->compression_level = options.compression == LINK_COMPRESSION_ZSTD ? options.level : 0;
	SpinLockRelease(&link->mutex);
	return link_conn_compress(conn, options.compression, true, options.level);
}

/*
 * The settings have been read again.  False: the link has to be opened again
 * for its compression.
 */
bool
linkopts_reload(LinkConn *conn, TandemLink *link, uint16 hello_flags)
{
	LinkOptions options;
	bool can;

	linkopts_get(link->name, link->async, &options);
	apply(conn, link, &options);
	can = (link_compression_flag(options.compression) & hello_flags) != 0;
	if (!can)
		options.compression = LINK_COMPRESSION_NONE;
	return options.compression == link->compression &&
		   (options.compression != LINK_COMPRESSION_ZSTD ||
			options.level == link->compression_level);
}

/* Add what compression has done since the last call.  Link mutex held. */
void
linkopts_count(const LinkConn *conn, TandemLink *link)
{
	uint64 raw = link_codec_raw_bytes(conn->codec);
	uint64 packed = link_codec_packed_bytes(conn->codec);
	uint64 cpu = link_codec_cpu(conn->codec);

	link->raw_bytes += raw - raw_seen;
	link->packed_bytes += packed - packed_seen;
	link->compression_cpu += cpu - cpu_seen;
	raw_seen = raw;
	packed_seen = packed;
	cpu_seen = cpu;
}
