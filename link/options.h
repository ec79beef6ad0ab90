/*-------------------------------------------------------------------------
 *
 * options.h
 *	  What a DBA can choose for one link: the text of tandem.link_options.
 *
 *	name: option=value, option=value; name: option=value
 *
 * A name is a node's, or * for every link; what is said about a name counts
 * more than what is said about *.  Between options there may be commas or
 * spaces.  The options:
 *
 *	compression	auto, none, lz4, zstd, zstd:LEVEL
 *	congestion	auto, or a name of the kernel's: bbr, cubic, ...
 *	max_rate	bits or bytes a second: 50Mbit, 6MB; 0: as fast as it goes
 *	send_buffer	the kernel's, for this link: 4MB; 0: as the kernel likes
 *	max_backlog	WAL to be kept for the standby: 20GB; 0: without a limit
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_LINK_OPTIONS_H
#define TANDEM_LINK_OPTIONS_H

#include "compress.h"
#include "frame.h"

#define LINK_CONGESTION_SIZE 16 /* the kernel's TCP_CA_NAME_MAX */

/* zstd without a level, see doc/wan.md */
#define LINK_ZSTD_LEVEL      1

typedef struct LinkOptions
{
	LinkCompression compression;
	int level;                             /* of zstd */
	char congestion[LINK_CONGESTION_SIZE]; /* empty: auto */
	uint64_t max_rate;                     /* bytes a second, 0: no limit */
	uint64_t send_buffer;                  /* bytes, 0: the kernel's choice */
	uint64_t max_backlog;                  /* bytes, 0: no limit */
} LinkOptions;

/*
 * Read 'text' and give what it says about 'name' (NULL: about nobody, only
 * check it).  False: it is malformed, and 'error', of 'size' bytes, says how.
 * *options is what can be said without the text then.
 */
extern bool link_options_parse(const char *text, const char *name, LinkOptions *options,
							   char *error, size_t size);

/*
 * Is a slot with this name called like the node?  The names of slots have no
 * capitals, dots or dashes: "Tokyo-1" is "tokyo_1" there.
 */
extern bool link_name_is_slot(const char *name, const char *slot);

/*
 * Does 'text', which is well formed, say anything about a node that this slot
 * is called like?  Its name goes to 'name'.
 */
extern bool link_options_of_slot(const char *text, const char *slot, char name[LINK_NAME_SIZE]);

#endif /* TANDEM_LINK_OPTIONS_H */
