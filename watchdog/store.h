/*
 * store.h
 *		What must survive, on disk: the voter's state, and the copy id in the data directory.
 *
 * <state_directory>/<node>.state is a text file with a CRC, replaced by write, fsync, rename,
 * fsync of the directory.  Writing happens in a thread of its own, so that a slow disk holds up
 * neither heartbeats nor the lease; one image is in flight at a time (fsm.h).
 *
 * The copy id is in the data directory (report.h).  While a rewind or seed is not complete the
 * state file says so too, with the new id, and that wins: in the meantime the data directory may
 * be missing, empty, or hold the id of the copy it is taken from.  So the copy file is written
 * before a state file that no longer says "rebuilding".
 */
#ifndef TANDEM_STORE_H
#define TANDEM_STORE_H

#include <systemd/sd-event.h>

#include "config.h"

typedef struct Store Store;

/* In the event loop: the image with this number is durable (ok), or could not be written. */
typedef void (*StoreDone)(void *user, uint64_t seq, bool ok, const char *error);

/*
 * Read the state.  A missing file gives admitted = false (rule 17), prom_to and the record's nodes
 * FSM_NOBODY; copy_id and rebuilding come from the data directory (0 if there is none).  False
 * with a message if a file is there and damaged or unreadable: the operator decides.
 */
extern bool store_read(const Config *c, FsmDurable *d, char *error, size_t error_size);
/* Is there a state file, whatever is in it? */
extern bool store_exists(const Config *c);
/*
 * Synchronously, for tandemctl init and for tests.  Whatever the copy file says is replaced,
 * unless copy_id is 0.
 */
extern bool store_write_now(const Config *c, const FsmDurable *d, char *error, size_t error_size);

/* "d" is what store_read() gave: the copy file is written only when that changes. */
extern int store_new(Store **s, const Config *c, const FsmDurable *d, sd_event *event,
					 StoreDone done, void *user);
/* -EBUSY while a write is in flight. */
extern int store_write(Store *s, uint64_t seq, const FsmDurable *d);
/* Waits for the write in flight. */
extern void store_free(Store *s);

#endif /* TANDEM_STORE_H */
