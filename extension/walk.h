/*-------------------------------------------------------------------------
 *
 * walk.h
 *	  How far is a written WAL page final?  A walk over WAL records.
 *
 * Capture at write learns from pwrite() that whole WAL pages are in the
 * segment file.  Not all of their bytes are final.  What PostgreSQL does
 * guarantee (all functions are in xlog.c):
 *
 * - An inserter takes a WAL insertion lock before it reserves space
 *	 (XLogInsertRecord), and computes the record's CRC, xl_prev included,
 *	 before it copies the first byte.  Each byte of the reserved space gets
 *	 one value and no other; until then the page holds the zero that
 *	 AdvanceXLInsertBuffer() put there.
 * - WaitXLogInsertionsToFinish() returns a position below which nobody is
 *	 still copying, and XLogWrite() is asked to write no further than that.
 *	 So all pages that one pwrite() wrote but the last are final, all of
 *	 their bytes, and so is every page with a later one written behind it.
 *	 The header of a written page is final too: XLP_FIRST_IS_CONTRECORD and
 *	 xlp_rem_len are set by the inserter that crosses into the page, and
 *	 before it has done so nobody writes beyond the page's first byte.
 * - The last page is written whole, although XLogWrite() was asked for a
 *	 part of it only, and nobody outside that function sees how large the
 *	 part was.  Behind it lie whole records, records being copied right now
 *	 (any subset of their bytes, later ones before earlier ones), or zeros.
 *	 A later pwrite() of the same page brings the rest.
 *
 * That is not enough to know what to send, hence the walk: from a position
 * where a record is known to begin, over each record whose page headers,
 * length, xl_prev and CRC agree.  Why can such a record no longer change?
 * The one before it is whole, so exactly one inserter owns the space behind
 * it, and what is there can be: that inserter's final bytes; zeros, where it
 * has not copied yet; or, if the page was never written since the server
 * started, what an earlier use of the file left.  The last is excluded by
 * the limit (below).  A mixture of final bytes and zeros does not match the
 * CRC, unless the zeros are the final bytes.  Bytes that the CRC does not
 * cover are compared with the only value PostgreSQL writes there: the
 * padding behind a record, in a page header and behind XLOG_SWITCH is zero;
 * all fields of page headers have one right value, except one flag,
 * XLP_BKP_REMOVABLE, which a page gets when it is initialised and keeps.
 *
 * "Does not match" means: with a chance of 2^-32 for each half-copied record
 * that is looked at.  On a busy server that is not never.  So what was
 * reported of the last page is remembered as a hash that shares nothing with
 * the CRC, and the next call compares it first: WALK_CHANGED.  When a caller
 * reads the flush LSN, then calls WalkAdvance() and does not get
 * WALK_CHANGED, then every byte below both positions is, in the file it
 * read, what PostgreSQL flushed.  Only that much should be let through to
 * where it cannot be taken back (the bound).
 *
 * The walk accepts nothing that crash recovery (xlogreader.c) would not, so
 * that all it reports survives a crash of PostgreSQL alone.  Recovery may go
 * further: it accepts nonzero padding, for example.  As in recovery, a record
 * that an earlier crash cut off is passed over, without its CRC, if a valid
 * XLOG_OVERWRITE_CONTRECORD behind it says so; nobody writes there again.
 *
 * What the walk relies on, and cannot see itself:
 *
 * - The first boundary is one, and everything before it is final: the redo
 *	 pointer, or the end of a record that was replayed or flushed.
 * - The limit counts only pages that this postmaster's children wrote, or
 *	 that lie before the end of recovery; start again after each restart.
 *	 Whole records of an earlier incarnation may lie beyond, at the right
 *	 address, with an xl_prev that agrees by chance of equal lengths: no check
 *	 would notice.
 * - The timeline is the one being written.
 *
 * walk.c needs no memory but the caller's buffer, whatever a record's length
 * (1 GB is possible), takes no locks, and reports by return value only; it
 * compiles in the backend and in frontend programs.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_WALK_H
#define TANDEM_WALK_H

#include "access/xlog_internal.h"
#include "access/xlogrecord.h"
#include "common/relpath.h"
#include "storage/block.h"

/* ---- differences between PostgreSQL versions: begin ---- */
#if PG_VERSION_NUM >= 160000
#include "storage/relfilelocator.h"
typedef RelFileLocator WalkRelation;
#else
#include "storage/relfilenode.h"
typedef RelFileNode WalkRelation;
#endif
/* ---- differences between PostgreSQL versions: end ---- */

/*
 * Why a walk stopped.  Only WALK_CHANGED says by itself that something is
 * wrong; the others are met in the ordinary course at the end of the last
 * page.  See WalkIsStuck().
 */
typedef enum WalkStop
{
	WALK_NOT_STOPPED = 0, /* has not been called yet */
	WALK_NEED_MORE,       /* the record, or its padding, ends beyond the limit */
	WALK_ZERO_LENGTH,     /* nothing there yet */
	WALK_BAD_LENGTH,      /* xl_tot_len out of bounds */
	WALK_BAD_RMGR,        /* xl_rmid neither built in nor custom */
	WALK_BAD_PREV,        /* xl_prev, or the overwritten record, does not agree */
	WALK_BAD_CRC,         /* half-copied, usually */
	WALK_BAD_PADDING,     /* not zero behind a record or XLOG_SWITCH */
	WALK_BAD_PAGE,        /* page header */
	WALK_BAD_BLOCKS,      /* whole, but its block references cannot be decoded */
	WALK_OTHER_TIMELINE,  /* a good page header, of another timeline */
	WALK_CHANGED,         /* bytes reported final are different now */
	WALK_READ_FAILED      /* the read callback gave less than a page */
} WalkStop;

#define WALK_STOPS (WALK_READ_FAILED + 1)

/*
 * A walk.  Plain data, no pointers: it may live in shared memory, and be
 * copied.  WalkAdvance() takes no lock: one process at a time, and whoever
 * reads a state that another process advances needs the caller's lock.
 */
typedef struct WalkState
{
	XLogRecPtr boundary; /* LSN: all before it is final, a record begins here */
	XLogRecPtr prev;     /* LSN of the record before it, invalid if not known */
	uint64 sysid;        /* system identifier, 0 = do not check */
	TimeLineID tli;      /* timeline being written */
	uint32 segsize;      /* WAL segment size in bytes */

	WalkStop stop;   /* why the last call stopped */
	XLogRecPtr seen; /* LSN: end of the last page it looked at */

	XLogRecPtr tail_page; /* LSN of the page tail_hash is about, or invalid */
	uint64 tail_hash;     /* of that page up to boundary */

	uint64 records;           /* walked so far */
	uint64 stops[WALK_STOPS]; /* calls that ended for each reason */
} WalkState;

/*
 * Read WAL from the file: whole pages, beginning with the one at LSN from,
 * len bytes (a multiple of XLOG_BLCKSZ, within one segment, below the limit)
 * into buf.  Returns the number of bytes read; a short read is fine, less
 * than a page, or negative, is a failure, which the callback may have
 * reported.  Must read the file anew each time: pages grow.  May be asked
 * for the page before the boundary, which can lie in the segment before.
 */
typedef ssize_t (*WalkReadFunction)(void *arg, XLogRecPtr from, char *buf, size_t len);

/*
 * Called for each block reference of each whole valid record, in order, just
 * before the boundary moves behind that record.  start is where the record
 * begins (as pg_waldump shows it), end the new boundary.  It must not call
 * WalkAdvance() on the same state.  Records that change relation files
 * without block references (XLR_SPECIAL_REL_UPDATE) are not reported.
 */
typedef void (*WalkBlockFunction)(void *arg, WalkRelation relation, ForkNumber fork,
								  BlockNumber block, XLogRecPtr start, XLogRecPtr end);

/*
 * What a walk reads with; belongs to the caller, process-local.  buf is
 * MAXALIGNed, bufsize bytes, one page at least; 1 MB is plenty.  Its contents
 * mean nothing between two calls.
 */
typedef struct WalkReader
{
	WalkReadFunction read;
	WalkBlockFunction block; /* or NULL, which costs nothing */
	void *arg;               /* passed to both */
	char *buf;
	size_t bufsize;
} WalkReader;

/*
 * Begin a walk at an LSN where a record begins: as a record's end is given
 * (at a page's first byte, if the record before ends with the page before),
 * or as its start is (behind the page header).  prev is the LSN of the record
 * before it, or InvalidXLogRecPtr: then the first record is only required to
 * have a lower xl_prev, as in xlogreader.c.  segsize is in bytes; sysid may
 * be 0.  On a new timeline begin where it branched off, not at an earlier redo
 * pointer: the pages before are another timeline's.  Returns false, with the
 * state unusable, if boundary or segsize cannot be right.
 */
extern bool WalkInit(WalkState *state, XLogRecPtr boundary, XLogRecPtr prev, TimeLineID tli,
					 uint32 segsize, uint64 sysid);

/*
 * Walk on as far as the pages below limit allow.  limit is an LSN, the end of
 * the last page that was written whole (rounded down to a page); any lower one
 * is allowed, to do less at once, but a record is walked only by a call whose
 * limit lies behind it.  The boundary never moves back.  Returns, and leaves
 * in state->stop, why it stopped.
 *
 * A record that ends beyond the limit costs a few pages to read, however long
 * it is; a whole one is read once.  After WALK_CHANGED each further call says
 * so again: the caller has to tell whoever it gave the bytes to, and begin a
 * new walk from an LSN at or below the flushed one.
 */
extern WalkStop WalkAdvance(WalkState *state, const WalkReader *reader, XLogRecPtr limit);

/*
 * Did the last call stop at something that cannot become valid any more?
 * flushed is the flush LSN as it was before that call.  True means damage, a
 * wrong first boundary, or a limit that was too high; the walk will not get
 * further, and capture at flush has to do.
 */
extern bool WalkIsStuck(const WalkState *state, XLogRecPtr flushed);

/* A stop reason's name, lower case, constant: for views and messages. */
extern const char *WalkStopName(WalkStop stop);

#endif /* TANDEM_WALK_H */
