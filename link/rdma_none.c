/*-------------------------------------------------------------------------
 *
 * rdma_none.c
 *	  In place of rdma.c where libibverbs was not there at build time.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>

#include "rdma.h"

bool
link_rdma_built(void)
{
	return false;
}

LinkVerbs *
link_rdma_open(const LinkRdmaOptions *options, char *why, size_t why_size)
{
	(void) options;
	snprintf(why, why_size, "pg_tandem was built without libibverbs");
	return NULL;
}
