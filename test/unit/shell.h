/*
 * shell.h
 *		A shell script in a directory, for what a test prepares and looks at.
 */
#ifndef UNIT_SHELL_H
#define UNIT_SHELL_H

/* The test fails if the script does. */
extern void
shell_in(const char *directory, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif /* UNIT_SHELL_H */
