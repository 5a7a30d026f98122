/* The kernels that were compiled ahead of time; kernels.c is written by schuss_kernels/ahead.py. */
#ifndef SCHUSS_KERNELS_H
#define SCHUSS_KERNELS_H

#include "launch.h"

typedef struct {
    const char *level; /* instruction-set level */
    const char *key;   /* rule and storages, see native.py */
    schuss_kernel kernel;
} schuss_entry;

extern const char *const LEVELS[]; /* from the least to the most demanding, NULL at the end */
extern const schuss_entry KERNELS[];
extern const int KERNEL_COUNT;

#endif
