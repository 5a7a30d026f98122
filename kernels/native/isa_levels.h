/* Tells which instruction-set levels this processor and operating system can run. */
#ifndef SCHUSS_ISA_LEVELS_H
#define SCHUSS_ISA_LEVELS_H

#include <stdbool.h>

/* Return whether this machine runs a level (x86-64, x86-64-v3, x86-64-v4; generic on other processors). */
bool isa_level_runs(const char *name);

#endif
