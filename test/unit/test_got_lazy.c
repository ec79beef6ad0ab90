/* The tests of got.c in a lazily bound program (linked with -z lazy). */
#include "got_program.h"
