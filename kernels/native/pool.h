/* Helper threads that share a launch with the calling thread. */
#ifndef SCHUSS_POOL_H
#define SCHUSS_POOL_H

#include <stdbool.h>

#include "work.h"

/* Run a table with `threads` threads, the calling one included. Return false, and run nothing, while another thread's
   launch uses the helpers. */
bool pool_run(const schuss_table *table, int threads);

/* Let forked children start helpers of their own, as threads do not survive a fork. Call it once, when the module
   loads. */
void pool_watch_forks(void);

#endif
