/* The arrays of the caller that a step writes: parameters, and the copies of them. */
#ifndef SCHUSS_WRITTEN_ARRAYS_H
#define SCHUSS_WRITTEN_ARRAYS_H

#include "plan.h"

/* Take a tuple of arrays, and a table of what each of them is: address, number of axes, shape; then the next array. On
   failure set an error and return false. */
bool written_arrays_set(schuss_plan *plan, PyObject *arrays, const int64_t *table, Py_ssize_t length);

/* Return whether all arrays are still what the table says, and writable. An array that is resized in place has other
   memory then, and what it had belongs to somebody else. */
bool written_arrays_unchanged(const schuss_plan *plan);

/* Let go of the arrays. */
void written_arrays_release(schuss_plan *plan);

#endif
