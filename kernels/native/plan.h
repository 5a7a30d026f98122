/* A plan as the launch sees it. schuss_kernels/plan.py builds the rows, schuss_kernels/expected.py the table of gradients;
   columns.h, with the numbers of their columns, is written from these files. */
#ifndef SCHUSS_PLAN_H
#define SCHUSS_PLAN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "launch.h"

typedef struct {
    schuss_table table; /* its rows are written: their gradients */
    int64_t elements;
    int threads;
    int64_t *clock; /* raised by one in every launch */

    int64_t *turns; /* rows of what is between the two passes of a step (turns.py): the tensors', then others */
    int64_t turn_count;
    const int64_t *portions;
    int64_t portion_count;

    int64_t tensors;
    bool fixed;               /* gradients are written: each must be writable, and where it was in the step before */
    int64_t *expected;        /* one row a tensor: what its gradient looked like in the step before */
    const int64_t *layouts;   /* shapes and strides that these rows point to */
    const int64_t *intervals; /* first bytes of the memory that belongs to parameters, sorted; then the ends */
    int64_t interval_count;

    float *numbers32; /* scalars: `width` numbers a slot, in both types */
    double *numbers64;
    int64_t slots, width;

    PyObject *array_type;  /* numpy.ndarray */
    PyObject *memmap_type; /* numpy.memmap */
    Py_buffer *views;      /* of gradients that are no arrays, held while kernels read them */
    Py_ssize_t view_count;
} schuss_plan;

/* gradients.c: put a tuple of arrays into the plan; false where one is not as expected and Python has to look. */
bool gradients_place(schuss_plan *plan, PyObject *gradients);

/* Give back the buffers that gradients_place took. */
void gradients_release(schuss_plan *plan);

#endif
