/* Runs a table: on the calling thread, with helper threads, or with an OpenMP team that another library has started. */
#ifndef SCHUSS_LAUNCH_H
#define SCHUSS_LAUNCH_H

#include <stdbool.h>

#include "work.h"

/* Run all rows with up to `threads` threads. `use_openmp`: prefer the OpenMP team of this process, if there is one.
   `threads_given`: the user asked for this number of threads; else the step uses no more than the team has. */
void launch(const schuss_table *table, int threads, bool use_openmp, bool threads_given);

#endif
