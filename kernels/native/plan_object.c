#include "plan_object.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "columns.h"
#include "gradients.h"
#include "launch.h"
#include "plan.h"
#include "two_pass.h"
#include "written_arrays.h"

/* A step over fewer elements keeps the GIL: it ends before another thread could use the time, and taking the GIL back
   may wait until that thread's switch interval (5 ms) ends. */
enum { GIL_RELEASE_MIN_ELEMENTS = 8192 };

/* The arrays that a plan points into. */
enum { ROWS, SPANS, GRADIENT_TABLE, SHAPES, INTERVALS, SCALARS32, SCALARS64, CLOCK, TWO_PASS, PORTIONS, WRITTEN,
       BUFFERS };

typedef struct {
    PyObject_HEAD
    schuss_plan plan;
    Py_buffer buffers[BUFFERS];
    int buffer_count; /* how many of them are held */
} PlanObject;

/* Run the kernels of one column: ROW_KERNEL, ROW_SQUARES or ROW_MEASURE. */
static void run_column(schuss_plan *plan, int column, bool use_openmp)
{
    plan->table.column = column;
    launch(&plan->table, plan->threads, use_openmp, plan->threads_given);
}

/* Update the parameters, and raise the clock. */
static void run(schuss_plan *plan, bool use_openmp)
{
    run_column(plan, ROW_KERNEL, use_openmp);
    *plan->clock += 1;
}

static PyObject *plan_step_two_pass(PyObject *self, PyObject *use_openmp)
{
    schuss_plan *plan = &((PlanObject *)self)->plan;
    bool openmp = use_openmp == Py_True;
    if (plan->elements < GIL_RELEASE_MIN_ELEMENTS) {
        two_pass_run(plan, openmp);
    } else {
        Py_BEGIN_ALLOW_THREADS
        two_pass_run(plan, openmp);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *plan_run(PyObject *self, PyObject *use_openmp)
{
    schuss_plan *plan = &((PlanObject *)self)->plan;
    bool openmp = use_openmp == Py_True;
    Py_BEGIN_ALLOW_THREADS
    run(plan, openmp);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Run kernels that read the gradients and write nothing but sums. */
static PyObject *add_up(PyObject *self, int column, bool use_openmp)
{
    schuss_plan *plan = &((PlanObject *)self)->plan;
    Py_BEGIN_ALLOW_THREADS
    run_column(plan, column, use_openmp);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *plan_add_grad_squares(PyObject *self, PyObject *use_openmp)
{
    return add_up(self, ROW_SQUARES, use_openmp == Py_True);
}

static PyObject *plan_add_measures(PyObject *self, PyObject *use_openmp)
{
    return add_up(self, ROW_MEASURE, use_openmp == Py_True);
}

static PyObject *plan_set_gradients(PyObject *self, PyObject *gradients)
{
    schuss_plan *plan = &((PlanObject *)self)->plan;
    if (!PyList_CheckExact(gradients)) {
        PyErr_SetString(PyExc_TypeError, "set_gradients takes a list of gradients");
        return NULL;
    }
    bool set = written_arrays_unchanged(plan) && gradients_set(plan, gradients);
    gradients_release(plan); /* the caller holds them from here on */
    return PyBool_FromLong(set);
}

static PyObject *plan_step(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "step takes a list of gradients and whether to share an OpenMP team");
        return NULL;
    }
    schuss_plan *plan = &((PlanObject *)self)->plan;
    if (!PyList_CheckExact(arguments[0])) {
        Py_RETURN_FALSE;
    }
    bool openmp = arguments[1] == Py_True, set = written_arrays_unchanged(plan) && gradients_set(plan, arguments[0]);
    if (set && plan->elements < GIL_RELEASE_MIN_ELEMENTS) {
        run(plan, openmp);
    } else if (set) {
        Py_BEGIN_ALLOW_THREADS
        run(plan, openmp);
        Py_END_ALLOW_THREADS
    }
    gradients_release(plan);
    return PyBool_FromLong(set);
}

/* Write a tuple of numbers into the scalars, in float32 and float64, from index `first` on. On failure set an error and
   return false. */
static bool write_scalars(schuss_plan *plan, Py_ssize_t first, PyObject *numbers)
{
    for (Py_ssize_t number = 0; number < PyTuple_Size(numbers); number++) {
        double value = PyFloat_AsDouble(PyTuple_GetItem(numbers, number));
        if (value == -1.0 && PyErr_Occurred()) {
            return false;
        }
        plan->scalars32[first + number] = (float)value;
        plan->scalars64[first + number] = value;
    }
    return true;
}

static PyObject *plan_scalars(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    schuss_plan *plan = &((PlanObject *)self)->plan;
    if (count != 3 || !PyList_Check(arguments[0]) || !PyTuple_Check(arguments[1]) || !PyTuple_Check(arguments[2])) {
        PyErr_SetString(PyExc_TypeError,
                        "scalars takes a list of slots, and the riders' numbers and the rule's in tuples");
        return NULL;
    }
    Py_ssize_t riders = PyTuple_Size(arguments[1]), numbers = PyTuple_Size(arguments[2]), first = -1;
    for (Py_ssize_t number = 0; number < PyList_Size(arguments[0]); number++) {
        Py_ssize_t slot = PyLong_AsSsize_t(PyList_GetItem(arguments[0], number));
        if (slot == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (slot < 0 || slot >= plan->slots || riders + numbers > plan->width) {
            PyErr_SetString(PyExc_IndexError, "scalars: there is no such slot, or more numbers than it holds");
            return NULL;
        }
        Py_ssize_t at = slot * plan->width;
        if (first < 0) {
            first = at;
            if (!write_scalars(plan, at, arguments[1]) || !write_scalars(plan, at + riders, arguments[2])) {
                return NULL;
            }
        } else {
            memcpy(plan->scalars32 + at, plan->scalars32 + first, (size_t)(riders + numbers) * sizeof(float));
            memcpy(plan->scalars64 + at, plan->scalars64 + first, (size_t)(riders + numbers) * sizeof(double));
        }
    }
    Py_RETURN_NONE;
}

/* Hold the memory of an array whose elements have `itemsize` bytes. On failure set an error and return false. */
static bool hold_array(PlanObject *self, PyObject *array, Py_ssize_t itemsize)
{
    Py_buffer *view = &self->buffers[self->buffer_count];
    if (PyObject_GetBuffer(array, view, PyBUF_WRITABLE | PyBUF_ND) < 0) {
        return false;
    }
    self->buffer_count++;
    if (view->itemsize != itemsize) {
        PyErr_SetString(PyExc_TypeError, "Plan: expected int64 tables and scalars in float32 and float64");
        return false;
    }
    return true;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"rows",      "spans",     "gradient_table", "shapes",        "intervals",
                            "scalars32", "scalars64", "clock",          "two_pass",      "portions",
                            "written_table", "written", "elements",     "threads",       "threads_given",
                            "writes_gradients", "array_type", "memmap_type", NULL};
    PyObject *arrays[BUFFERS], *written, *array_type, *memmap_type;
    long long elements;
    int threads, threads_given, writes_gradients;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OOOOOOOOOOOO!LippOO", names, &arrays[ROWS], &arrays[SPANS],
                                     &arrays[GRADIENT_TABLE], &arrays[SHAPES], &arrays[INTERVALS], &arrays[SCALARS32],
                                     &arrays[SCALARS64], &arrays[CLOCK], &arrays[TWO_PASS], &arrays[PORTIONS],
                                     &arrays[WRITTEN], &PyTuple_Type, &written, &elements, &threads, &threads_given,
                                     &writes_gradients, &array_type, &memmap_type)) {
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PlanObject *self = (PlanObject *)allocate(type, 0);
    if (self == NULL) {
        return NULL;
    }
    for (int number = 0; number < BUFFERS; number++) {
        if (!hold_array(self, arrays[number], number == SCALARS32 ? 4 : 8)) {
            Py_DECREF(self);
            return NULL;
        }
    }
    const Py_buffer *held = self->buffers;
    if (held[ROWS].ndim != 2 || held[GRADIENT_TABLE].ndim != 2 || held[GRADIENT_TABLE].shape[1] != GRADIENT_COLUMNS ||
        held[INTERVALS].ndim != 2 || held[SCALARS32].ndim != 2 || held[SCALARS64].ndim != 2 || held[SPANS].ndim != 1 ||
        held[SPANS].shape[0] < 1 || held[TWO_PASS].ndim != 2 || held[TWO_PASS].shape[1] != TWO_PASS_COLUMNS ||
        held[PORTIONS].ndim != 2 || held[PORTIONS].shape[1] != PORTION_COLUMNS) {
        PyErr_SetString(PyExc_ValueError, "Plan: a table has another form than expected");
        Py_DECREF(self);
        return NULL;
    }
    self->plan = (schuss_plan){
        .table = {.rows = held[ROWS].buf,
                  .width = held[ROWS].shape[1],
                  .spans = held[SPANS].buf,
                  .span_count = held[SPANS].shape[0] - 1},
        .elements = elements,
        .threads = threads,
        .threads_given = threads_given != 0,
        .clock = held[CLOCK].buf,
        .two_pass_rows = held[TWO_PASS].buf,
        .two_pass_count = held[TWO_PASS].shape[0],
        .portions = held[PORTIONS].buf,
        .portion_count = held[PORTIONS].shape[0],
        .writes_gradients = writes_gradients != 0,
        .tensors = held[GRADIENT_TABLE].shape[0],
        .gradient_table = held[GRADIENT_TABLE].buf,
        .shapes = held[SHAPES].buf,
        .intervals = held[INTERVALS].buf,
        .interval_count = held[INTERVALS].shape[1],
        .scalars32 = held[SCALARS32].buf,
        .scalars64 = held[SCALARS64].buf,
        .slots = held[SCALARS32].shape[0],
        .width = held[SCALARS32].shape[1],
        .array_type = Py_NewRef(array_type),
        .memmap_type = Py_NewRef(memmap_type),
    };
    self->plan.held = PyMem_Calloc((size_t)self->plan.tensors + 1, sizeof(PyObject *));
    if (self->plan.held == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    if (!written_arrays_set(&self->plan, written, held[WRITTEN].buf, held[WRITTEN].len / 8)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void plan_dealloc(PyObject *object)
{
    PlanObject *self = (PlanObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    gradients_release(&self->plan);
    PyMem_Free(self->plan.views);
    PyMem_Free(self->plan.held);
    written_arrays_release(&self->plan);
    while (self->buffer_count > 0) {
        PyBuffer_Release(&self->buffers[--self->buffer_count]);
    }
    Py_XDECREF(self->plan.array_type);
    Py_XDECREF(self->plan.memmap_type);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef plan_methods[] = {
    {"step", (PyCFunction)(void (*)(void))plan_step, METH_FASTCALL,
     "step(gradients, use_openmp) -> bool\n\n"
     "Put a list of gradients (None: the tensor has none) into the plan, run it and raise the clock. Return False,\n"
     "and run nothing, where one has another dtype, shape or strides than in the step before or overlaps a\n"
     "parameter, or an array that is written was changed. Python then has to examine them."},
    {"set_gradients", plan_set_gradients, METH_O,
     "set_gradients(gradients) -> bool\n\n"
     "Do the first half of step: put a list of gradients into the plan. The caller holds them until the step ends."},
    {"add_measures", plan_add_measures, METH_O,
     "add_measures(use_openmp)\n\nAdd up what the rules measure. Releases the GIL."},
    {"add_grad_squares", plan_add_grad_squares, METH_O,
     "add_grad_squares(use_openmp)\n\nAdd up the squares of the gradients. Releases the GIL."},
    {"run", plan_run, METH_O,
     "run(use_openmp)\n\nUpdate the parameters with the gradients in the plan, and raise the clock. Releases the GIL."},
    {"step_two_pass", plan_step_two_pass, METH_O,
     "step_two_pass(use_openmp)\n\n"
     "Measure, finish and update, one portion of tensors after the other, and raise the clock. Releases the GIL,\n"
     "except for a small plan."},
    {"scalars", (PyCFunction)(void (*)(void))plan_scalars, METH_FASTCALL,
     "scalars(slots, riders, numbers)\n\n"
     "Write the riders' numbers and then a rule's into each of the slots, in float32 and float64."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot plan_slots[] = {
    {Py_tp_doc, "The tables of an engine, numpy arrays whose memory the plan holds, and methods that run them."},
    {Py_tp_new, plan_new},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_methods, plan_methods},
    {0, NULL},
};

PyType_Spec plan_spec = {
    .name = "schuss_kernels._native.Plan",
    .basicsize = sizeof(PlanObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = plan_slots,
};
