/*
 * shell.c
 *		See shell.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shell.h"

void
shell_in(const char *directory, const char *format, ...)
{
	char script[4096];
	char command[4200];
	va_list args;

	va_start(args, format);
	vsnprintf(script, sizeof(script), format, args);
	va_end(args);
	snprintf(command, sizeof(command), "cd %s && { %s; }", directory, script);
	if (system(command) != 0)
		fail_msg("%s", command);
}
