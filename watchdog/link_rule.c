/*
 * link_rule.c
 *		See link_rule.h.
 */
#include "link_rule.h"

#include "mutation.h"

static uint64_t
lowest_start(const LinkIncarnation *h, int from, int n, uint64_t lowest)
{
	for (int i = from; i < n; i++)
	{
		if (h[i].start < lowest)
			lowest = h[i].start;
		if (MUT(hist_first_only))
			break;
	}
	return lowest;
}

/*
 * Rule 15: the divergence is the lowest of ALL starts after the common prefix, on both sides: a
 * later incarnation may begin below an earlier one, because a crash of the host took WAL away.
 * LINK_NO_DIVERGENCE if the histories are equal.
 */
uint64_t
link_divergence(const LinkIncarnation *a, int na, const LinkIncarnation *b, int nb)
{
	int common = 0;

	while (common < na && common < nb && a[common].term == b[common].term &&
		   a[common].inc == b[common].inc && a[common].start == b[common].start)
		common++;
	if (MUT(hist_one_sided))
		return lowest_start(b, common, nb, LINK_NO_DIVERGENCE);
	return lowest_start(b, common, nb, lowest_start(a, common, na, LINK_NO_DIVERGENCE));
}

/*
 * Rule 15, decided by the standby with what it holds NOW (flush and applied are LSNs of this
 * instant, not those of its question).  *resume is set with LINK_RESUME only.
 */
LinkVerdict
link_resume(const LinkIncarnation *standby, int nstandby, const LinkIncarnation *primary,
			int nprimary, uint64_t flush, uint64_t applied, uint64_t primary_end, uint64_t *resume)
{
	uint64_t at = link_divergence(standby, nstandby, primary, nprimary);

	if (MUT(no_incarnation))
		at = LINK_NO_DIVERGENCE;
	if (flush < at)
		at = flush;
	if (MUT(no_incarnation) && at > primary_end)
		at = primary_end;
	if (at > primary_end)
		return LINK_WAIT;
	if (at < applied && !MUT(no_incarnation))
		return LINK_REBUILD;
	*resume = at;
	return LINK_RESUME;
}
