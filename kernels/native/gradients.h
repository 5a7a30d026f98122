/* Reads where a step's gradients lie, compares them with the step before, and writes their addresses into the plan. */
#ifndef SCHUSS_GRADIENTS_H
#define SCHUSS_GRADIENTS_H

#include "plan.h"

/* Put a tuple of gradients into the plan. Return false where one is not as expected and Python has to examine it; the
   gradients before it may be in the plan then. */
bool gradients_set(schuss_plan *plan, PyObject *gradients);

/* Release the buffers that gradients_set acquired. */
void gradients_release(schuss_plan *plan);

#endif
