/*
 * mutation.h
 *		MUT(name): is this rule broken on purpose?
 *
 * Constant false in everything that is installed.  The simulator compiles the decision core with
 * -DFSM_MUTATIONS and its own list of mutations, to show that it notices each of them.
 */
#ifndef TANDEM_MUTATION_H
#define TANDEM_MUTATION_H

#ifdef FSM_MUTATIONS
#include "mutations.h"
#else
#define MUT(name) false
#endif

#endif /* TANDEM_MUTATION_H */
