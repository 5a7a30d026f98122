/* Runs a table with the OpenMP team that another library, such as torch, has started in this process. */
#ifndef SCHUSS_OPENMP_H
#define SCHUSS_OPENMP_H

#include <stdbool.h>

#include "work.h"

/* Run a table with `threads` threads of the OpenMP team. Return false, and run nothing, where there is no team. */
bool openmp_run(const schuss_table *table, int threads);

/* Let forked children do without the team: libgomp hangs in a child of a process that used it. Call it once, when the
   module loads. */
void openmp_watch_forks(void);

#endif
