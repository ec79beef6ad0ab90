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

/*
 * The function that the main program's calls of 'name' led to: a preloaded
 * library's (LD_PRELOAD), else the C library's.  It can be asked for before
 * and after got_replace().  NULL if there is none.
 */
extern void *got_real(const char *name);

#endif /* TANDEM_GOT_H */
