/*-------------------------------------------------------------------------
 *
 * capture.c
 *	  How far is there WAL that may be sent?
 *
 * Capture is learning that WAL bytes exist.  At flush: the local flush LSN,
 * of which the link workers learn by the wake-up that core gives its own
 * walsenders after each flush.
 *
 *-------------------------------------------------------------------------
 */
#include "tandem.h"

#include "access/xlog.h"

/*
 * The LSN up to which the link workers may send.  Never goes back while the
 * server is a primary.
 */
XLogRecPtr
capture_sendable(void)
{
	return GetFlushRecPtr(NULL);
}

/* Where WAL is captured, and why there. */
const char *
capture_point(const char **why)
{
	*why = "WAL is sent after the local flush";
	return "flush";
}
