/* The kernels that were compiled ahead of time. The build writes kernels.c. */
#ifndef SCHUSS_KERNELS_H
#define SCHUSS_KERNELS_H

#include "work.h"

typedef struct {
    const char *level; /* instruction-set level */
    const char *key;   /* rule, source digest and storage types, as Python writes them */
    schuss_kernel kernel;
} schuss_entry;

extern const char *const LEVELS[]; /* least demanding first, then NULL */
extern const schuss_entry KERNELS[];
extern const int KERNEL_COUNT;

#endif
