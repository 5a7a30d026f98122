/* Reads where a step's gradients lie, compares them with the step before, and writes their addresses into the plan. */
#ifndef SCHUSS_GRADIENTS_H
#define SCHUSS_GRADIENTS_H

#include "plan.h"

/* Put a list of gradients into the plan, and hold them: another thread may change the list during the step. Return
   false where one is not as expected and Python has to examine it; the gradients before it may be in the plan then. */
bool gradients_set(schuss_plan *plan, PyObject *gradients);

/* Release the gradients that gradients_set holds, and their buffers. */
void gradients_release(schuss_plan *plan);

#endif
