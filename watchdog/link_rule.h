/*
 * link_rule.h
 *		From where may a standby resume, and what must it discard?  (SAFETY rule 15)
 *
 * Both sides of a link send their whole history of incarnations.  An incarnation is one start of
 * PostgreSQL as a primary, or one term of it: {term, incarnation, timeline, nonce} and the LSN at
 * which its new WAL began.  Either side may have dropped its oldest entries.  Pure, shared by the
 * extension and the simulator.  LSNs are bytes.
 */
#ifndef TANDEM_LINK_RULE_H
#define TANDEM_LINK_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "../link/frame.h"

#define LINK_NO_DIVERGENCE UINT64_MAX

typedef enum LinkVerdict
{
	LINK_RESUME,  /* zero durably from *resume on, then acknowledge and stream from there */
	LINK_REBUILD, /* applied beyond the divergence: rewind or seed (rule 16) */
	LINK_WAIT     /* the primary holds less than the resume point: ask again later */
} LinkVerdict;

extern bool link_same_incarnation(const LinkIncarnation *a, const LinkIncarnation *b);
extern uint64_t link_divergence(const LinkIncarnation *a, int na, const LinkIncarnation *b, int nb);
extern LinkVerdict
link_resume(const LinkIncarnation *standby, int nstandby, const LinkIncarnation *primary,
			int nprimary, uint64_t flush, uint64_t applied, uint64_t primary_end, uint64_t *resume);

#endif /* TANDEM_LINK_RULE_H */
