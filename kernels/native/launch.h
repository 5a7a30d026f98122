/* Runs a table: on the calling thread, with helper threads, or with an OpenMP team that another library has started. */
#ifndef SCHUSS_LAUNCH_H
#define SCHUSS_LAUNCH_H

#include <stdbool.h>

#include "work.h"

/* Run all rows with up to `threads` threads. `use_openmp`: prefer the OpenMP team of this process, if there is one. */
void launch(const schuss_table *table, int threads, bool use_openmp);

#endif
