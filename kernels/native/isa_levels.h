/* Instruction-set levels, and which of them this processor (and operating system) can run. */
#ifndef SCHUSS_ISA_LEVELS_H
#define SCHUSS_ISA_LEVELS_H

#include <stdbool.h>

bool level_runs(const char *name);

#endif
