/* Where the gradients of a step lie: read from the arrays, compared with the step before, written into the plan.

   A numpy.ndarray shows its header, which is part of NumPy's stable binary interface. Everything else is asked through
   the buffer protocol, which takes ten times as long. */

#include "plan.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/ndarraytypes.h>

#include "columns.h"

typedef struct {
    int64_t data;
    int64_t ndim;
    const Py_ssize_t *shape, *strides;
} schuss_seen;

static bool see_array(const schuss_plan *plan, PyObject *object, const int64_t *row, schuss_seen *seen)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if ((int64_t)(intptr_t)PyArray_DESCR(array) != row[EXPECTED_DESCR]) {
        return false;
    }
    if (plan->fixed && !(PyArray_FLAGS(array) & NPY_ARRAY_WRITEABLE)) {
        return false;
    }
    seen->data = (int64_t)(intptr_t)PyArray_DATA(array);
    seen->ndim = PyArray_NDIM(array);
    seen->shape = (const Py_ssize_t *)PyArray_DIMS(array);
    seen->strides = (const Py_ssize_t *)PyArray_STRIDES(array);
    return true;
}

static bool see_buffer(schuss_plan *plan, PyObject *object, const int64_t *row, schuss_seen *seen)
{
    /* Other subclasses of ndarray may mean more than their memory (a mask, for one): Python looks at them. */
    bool array = PyType_IsSubtype(Py_TYPE(object), (PyTypeObject *)plan->array_type);
    if ((array && (PyObject *)Py_TYPE(object) != plan->memmap_type) || !PyObject_CheckBuffer(object)) {
        return false;
    }
    if (plan->views == NULL) {
        plan->views = PyMem_Calloc((size_t)plan->tensors, sizeof(Py_buffer));
        if (plan->views == NULL) {
            return false;
        }
    }
    Py_buffer *view = &plan->views[plan->view_count];
    if (PyObject_GetBuffer(object, view, plan->fixed ? PyBUF_RECORDS : PyBUF_RECORDS_RO) < 0) {
        PyErr_Clear(); /* Python will say what is wrong with it */
        return false;
    }
    plan->view_count++;
    if (view->format == NULL || view->format[0] != (char)row[EXPECTED_FORMAT] || view->format[1] != '\0') {
        return false;
    }
    seen->data = (int64_t)(intptr_t)view->buf;
    seen->ndim = view->ndim;
    seen->shape = view->shape;
    seen->strides = view->strides;
    return true;
}

static bool same_layout(const schuss_seen *seen, const int64_t *row, const int64_t *layouts)
{
    if (seen->ndim != row[EXPECTED_NDIM]) {
        return false;
    }
    const int64_t *shape = layouts + row[EXPECTED_LAYOUT], *strides = shape + seen->ndim;
    for (int64_t axis = 0; axis < seen->ndim; axis++) {
        if (seen->shape[axis] != shape[axis] || seen->strides[axis] != strides[axis]) {
            return false;
        }
    }
    return true;
}

/* Whether the bytes from `low` to `high` belong to a parameter. */
static bool touches_parameter(const schuss_plan *plan, int64_t low, int64_t high)
{
    const int64_t *lows = plan->intervals, *highs = lows + plan->interval_count;
    int64_t left = 0, right = plan->interval_count;
    while (left < right) { /* the first interval that ends behind `low` */
        int64_t middle = (left + right) / 2;
        if (highs[middle] > low) {
            right = middle;
        } else {
            left = middle + 1;
        }
    }
    return left < plan->interval_count && lows[left] < high;
}

static bool place(schuss_plan *plan, PyObject *object, int64_t *row)
{
    if (object == Py_None || row[EXPECTED_DATA] == 0) {
        return object == Py_None && row[EXPECTED_DATA] == 0; /* None, and none in the step before */
    }
    schuss_seen seen;
    bool array = (PyObject *)Py_TYPE(object) == plan->array_type;
    if (!(array ? see_array(plan, object, row, &seen) : see_buffer(plan, object, row, &seen))) {
        return false;
    }
    if (!same_layout(&seen, row, plan->layouts)) {
        return false;
    }
    if (seen.data == row[EXPECTED_DATA]) {
        return true;
    }
    if (plan->fixed || seen.data == 0 || touches_parameter(plan, seen.data + row[EXPECTED_LOW], seen.data + row[EXPECTED_HIGH])) {
        return false;
    }
    row[EXPECTED_DATA] = seen.data;
    int64_t first = row[EXPECTED_FIRST], advance = row[EXPECTED_ADVANCE];
    int64_t *line = (int64_t *)plan->table.rows + first * plan->table.width;
    for (int64_t number = first; number < row[EXPECTED_LAST]; number++, line += plan->table.width) {
        line[ROW_GRAD] = seen.data + (number - first) * advance;
    }
    return true;
}

bool gradients_place(schuss_plan *plan, PyObject *gradients)
{
    if (PyTuple_Size(gradients) != plan->tensors) {
        return false;
    }
    for (int64_t number = 0; number < plan->tensors; number++) {
        if (!place(plan, PyTuple_GetItem(gradients, number), plan->expected + number * EXPECTED_COLUMNS)) {
            return false;
        }
    }
    return true;
}

void gradients_release(schuss_plan *plan)
{
    while (plan->view_count > 0) {
        PyBuffer_Release(&plan->views[--plan->view_count]);
    }
}
