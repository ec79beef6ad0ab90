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

bool
link_same_incarnation(const LinkIncarnation *a, const LinkIncarnation *b)
{
	return a->term == b->term && a->incarnation == b->incarnation && a->timeline == b->timeline &&
		   a->start == b->start && a->nonce == b->nonce;
}

/* Where in 'h' is this incarnation?  n if nowhere. */
static int
find(const LinkIncarnation *h, int n, const LinkIncarnation *what)
{
	int i = 0;

	while (i < n && !link_same_incarnation(&h[i], what))
		i++;
	return i;
}

/*
 * Rule 15: the divergence is the lowest of ALL starts after the common part, on both sides: a
 * later incarnation may begin below an earlier one, because a crash of the host took WAL away.
 * LINK_NO_DIVERGENCE if nothing comes after the common part.  The oldest entry of one of them is
 * in the other; otherwise nothing is known to be common, and they diverge at 0.  (An empty history
 * is the beginning of every other.)
 */
uint64_t
link_divergence(const LinkIncarnation *a, int na, const LinkIncarnation *b, int nb)
{
	int i = 0;
	int j = 0;

	if (na > 0 && nb > 0)
	{
		j = find(b, nb, &a[0]);
		if (j == nb)
		{
			j = 0;
			i = find(a, na, &b[0]);
			if (i == na)
				return 0;
		}
	}
	while (i < na && j < nb && link_same_incarnation(&a[i], &b[j]))
	{
		i++;
		j++;
	}
	if (MUT(hist_one_sided))
		return lowest_start(b, j, nb, LINK_NO_DIVERGENCE);
	return lowest_start(b, j, nb, lowest_start(a, i, na, LINK_NO_DIVERGENCE));
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
