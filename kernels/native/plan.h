/* The tables of an engine, as C code sees them. The Python package builds them, and writes the numbers of their columns
   into columns.h when it is built. */
#ifndef SCHUSS_PLAN_H
#define SCHUSS_PLAN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "work.h"

/* An array of the caller that a step writes, and what it was when the plan was made. */
typedef struct {
    PyObject *array;
    int64_t address, ndim;
    const int64_t *shape;
} schuss_written;

typedef struct {
    schuss_table table; /* its rows are written to: new gradients' addresses */
    int64_t elements;
    int threads;
    bool threads_given; /* the user asked for so many */
    int64_t *clock; /* steps that moved parameters: raised by one in each */

    int64_t *two_pass_rows; /* what runs between two passes: a row a tensor, then rows that tensors share */
    int64_t two_pass_count;
    const int64_t *portions; /* runs of neighbouring tensors that go through both passes together */
    int64_t portion_count;

    int64_t tensors;
    bool writes_gradients;    /* kernels write gradients: each must be writable, and where it was in the step before */
    int64_t *gradient_table;  /* a row a tensor: dtype, layout and address of its gradient in the step before */
    const int64_t *shapes;    /* shapes and strides that these rows refer to */
    const int64_t *intervals; /* memory of the parameters: first bytes in ascending order, then the ends */
    int64_t interval_count;

    schuss_written *written; /* the arrays of the caller that a step writes */
    Py_ssize_t written_count;

    float *scalars32; /* riders' and rules' scalars, `width` numbers a slot, in both compute types */
    double *scalars64;
    int64_t slots, width;

    PyObject *array_type;  /* numpy.ndarray */
    PyObject *memmap_type; /* numpy.memmap */
    Py_buffer *views;      /* buffers of gradients that are not arrays, held while kernels read them */
    Py_ssize_t view_count;
    PyObject **held; /* the gradients of a step, held while it runs */
    Py_ssize_t held_count;
} schuss_plan;

#endif
