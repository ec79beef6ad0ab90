/* The tests of got.c in a fully bound program (linked with -z now). */
#include "got_program.h"
