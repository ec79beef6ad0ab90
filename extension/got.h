/*-------------------------------------------------------------------------
 *
 * got.h
 *	  Replace a function that the main program calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TANDEM_GOT_H
#define TANDEM_GOT_H

/*
 * Make the main program call 'replacement' wherever it calls the imported
 * function 'name'.  Returns the number of entries replaced, 0 if the program
 * does not import the function that way, -1 with errno if its page could not
 * be made writable (nothing is changed then).  To be called while the process
 * has one thread, before it forks those that are to use the replacement.
 */
extern int got_replace(const char *name, void *replacement);

#endif /* TANDEM_GOT_H */
