/* Runs a step whose rules measure first: measure, finish, update. The Python module that builds the table of what runs
   between the two passes lists its columns. */
#ifndef SCHUSS_TWO_PASS_H
#define SCHUSS_TWO_PASS_H

#include <stdbool.h>
#include <stdint.h>

#include "plan.h"

/* Return a tensor's sum: the sums of its blocks, `stride` numbers apart, added up in order. */
double fold_blocks(const double *blocks, int64_t block_count, int64_t stride);

/* Run both passes of a step, and raise the clock.

   Each portion of tensors goes through both passes before the next one: the caches then still hold what the first pass
   has read. A sum over all tensors needs them all measured first: then there is one portion. */
void two_pass_run(schuss_plan *plan, bool use_openmp);

#endif
