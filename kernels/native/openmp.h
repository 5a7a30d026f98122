/* Runs a table with the OpenMP team that another library, such as torch, has started in this process. */
#ifndef SCHUSS_OPENMP_H
#define SCHUSS_OPENMP_H

#include <stdbool.h>

#include "work.h"

/* Return how many threads the team of the calling thread has: torch.set_num_threads() sets it. 0: there is no team. */
int openmp_max_threads(void);

/* Run a table with `threads` threads of the team, which has that many at least. Return false, and run nothing, where
   the team cannot be used now. */
bool openmp_run(const schuss_table *table, int threads);

/* Let forked children do without the team: libgomp hangs in a child of a process that used it. Call it once, when the
   module loads. */
void openmp_watch_forks(void);

#endif
