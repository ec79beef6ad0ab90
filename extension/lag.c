/*-------------------------------------------------------------------------
 *
 * lag.c
 *	  How long ago was an LSN sent?
 *
 * The same idea as LagTrackerWrite() and LagTrackerRead() in core's
 * walsender.c: a ring of samples (LSN, time), written when WAL is sent, read
 * by one head for each level when the standby says how far it is.  When the
 * ring is full of samples that the slowest head still needs, the newest is
 * moved on, so that the lag shown is then a little too small rather than
 * unknown.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#define SAMPLES 4096

typedef struct Sample
{
	XLogRecPtr lsn;
	TimestampTz time;
} Sample;

struct LagTracker
{
	uint64 written;                      /* samples ever written */
	uint64 read[NUM_SYNC_REP_WAIT_MODE]; /* samples each head has passed */
	Sample ring[SAMPLES];
};

/* Allocated in the current memory context, for good. */
LagTracker *
lag_create(void)
{
	return palloc0(sizeof(LagTracker));
}

void
lag_reset(LagTracker *tracker)
{
	memset(tracker, 0, sizeof(*tracker));
}

/* WAL up to 'lsn' is sent now. */
void
lag_sent(LagTracker *tracker, XLogRecPtr lsn, TimestampTz now)
{
	uint64 slowest = tracker->read[0];

	for (int i = 1; i < NUM_SYNC_REP_WAIT_MODE; i++)
		slowest = Min(slowest, tracker->read[i]);
	if (tracker->written - slowest == SAMPLES)
		tracker->written--;
	tracker->ring[tracker->written++ % SAMPLES] = (Sample){lsn, now};
	for (int i = 0; i < NUM_SYNC_REP_WAIT_MODE; i++)
		tracker->read[i] = Min(tracker->read[i], tracker->written);
}

/*
 * The standby has reached 'lsn' at level 'mode' (SYNC_REP_WAIT_...): how long
 * ago was it sent, in microseconds; -1 when no sample was passed.
 */
TimeOffset
lag_reached(LagTracker *tracker, int mode, XLogRecPtr lsn, TimestampTz now)
{
	TimestampTz sent = 0;

	while (tracker->read[mode] < tracker->written)
	{
		const Sample *sample = &tracker->ring[tracker->read[mode] % SAMPLES];

		if (sample->lsn > lsn)
			break;
		sent = sample->time;
		tracker->read[mode]++;
	}
	if (sent == 0)
		return -1;
	return Max(now - sent, 0);
}
