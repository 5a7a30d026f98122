/* The header of a numpy.ndarray is read directly: its layout is part of NumPy's stable binary interface. Every other
   object is read through the buffer protocol, which takes ten times as long. */

#include "gradients.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/ndarraytypes.h>

#include "columns.h"

/* An array as it was handed in: its address, its shape, its strides in bytes. */
typedef struct {
    int64_t data;
    int64_t ndim;
    const Py_ssize_t *shape, *strides;
} schuss_array;

/* Return whether a dtype is the expected one. Most arrays share NumPy's dtype objects, but an unpickled array has an
   equal one of its own, and so has one with metadata. The number tells types apart, not orders of bytes. */
static bool same_dtype(const PyArray_Descr *dtype, int64_t expected)
{
    const PyArray_Descr *wanted = (const PyArray_Descr *)(intptr_t)expected;
    return dtype == wanted || (dtype->type_num == wanted->type_num && PyArray_ISNBO(dtype->byteorder));
}

/* Read a numpy.ndarray. Return false where its dtype is not the expected one, or it must be writable and is not. */
static bool read_array(const schuss_plan *plan, PyObject *object, const int64_t *row, schuss_array *found)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!same_dtype(PyArray_DESCR(array), row[GRADIENT_DESCR])) {
        return false;
    }
    if (plan->writes_gradients && !(PyArray_FLAGS(array) & NPY_ARRAY_WRITEABLE)) {
        return false;
    }
    found->data = (int64_t)(intptr_t)PyArray_DATA(array);
    found->ndim = PyArray_NDIM(array);
    found->shape = (const Py_ssize_t *)PyArray_DIMS(array);
    found->strides = (const Py_ssize_t *)PyArray_STRIDES(array);
    return true;
}

/* Read an object that has the buffer protocol, and hold its buffer. Return false where it has none that will do. */
static bool read_buffer(schuss_plan *plan, PyObject *object, const int64_t *row, schuss_array *found)
{
    /* A subclass of ndarray other than memmap may hold more than its memory (a mask, for one): leave it to Python. */
    bool is_array = PyType_IsSubtype(Py_TYPE(object), (PyTypeObject *)plan->array_type);
    if ((is_array && (PyObject *)Py_TYPE(object) != plan->memmap_type) || !PyObject_CheckBuffer(object)) {
        return false;
    }
    if (plan->views == NULL) {
        plan->views = PyMem_Calloc((size_t)plan->tensors, sizeof(Py_buffer));
        if (plan->views == NULL) {
            return false;
        }
    }
    Py_buffer *view = &plan->views[plan->view_count];
    if (PyObject_GetBuffer(object, view, plan->writes_gradients ? PyBUF_RECORDS : PyBUF_RECORDS_RO) < 0) {
        PyErr_Clear(); /* Python examines the object again and raises the error */
        return false;
    }
    plan->view_count++;
    if (view->format == NULL || view->format[0] != (char)row[GRADIENT_FORMAT] || view->format[1] != '\0') {
        return false;
    }
    found->data = (int64_t)(intptr_t)view->buf;
    found->ndim = view->ndim;
    found->shape = view->shape;
    found->strides = view->strides;
    return true;
}

/* Return whether an array has the shape and strides that a row expects. */
static bool same_layout(const schuss_array *found, const int64_t *row, const int64_t *shapes)
{
    if (found->ndim != row[GRADIENT_NDIM]) {
        return false;
    }
    const int64_t *shape = shapes + row[GRADIENT_SHAPE], *strides = shape + found->ndim;
    for (int64_t axis = 0; axis < found->ndim; axis++) {
        if (found->shape[axis] != shape[axis] || found->strides[axis] != strides[axis]) {
            return false;
        }
    }
    return true;
}

/* Return whether a byte from `low` to `high`, the last one excluded, belongs to a parameter. */
static bool touches_parameter(const schuss_plan *plan, int64_t low, int64_t high)
{
    const int64_t *lows = plan->intervals, *highs = lows + plan->interval_count;
    int64_t left = 0, right = plan->interval_count;
    while (left < right) { /* find the first interval that ends after `low` */
        int64_t middle = (left + right) / 2;
        if (highs[middle] > low) {
            right = middle;
        } else {
            left = middle + 1;
        }
    }
    return left < plan->interval_count && lows[left] < high;
}

/* Put one tensor's gradient into the plan. Return false where it is not as the row expects. */
static bool set_gradient(schuss_plan *plan, PyObject *object, int64_t *row)
{
    if (object == Py_None || row[GRADIENT_DATA] == 0) {
        return object == Py_None && row[GRADIENT_DATA] == 0; /* None, and none was expected */
    }
    schuss_array found;
    bool is_array = (PyObject *)Py_TYPE(object) == plan->array_type;
    if (!(is_array ? read_array(plan, object, row, &found) : read_buffer(plan, object, row, &found))) {
        return false;
    }
    if (!same_layout(&found, row, plan->shapes)) {
        return false;
    }
    if (found.data == row[GRADIENT_DATA]) {
        return true;
    }
    if (plan->writes_gradients || found.data == 0 ||
        touches_parameter(plan, found.data + row[GRADIENT_LOW], found.data + row[GRADIENT_HIGH])) {
        return false;
    }
    row[GRADIENT_DATA] = found.data;
    int64_t first = row[GRADIENT_FIRST], advance = row[GRADIENT_ADVANCE];
    int64_t *chunk = (int64_t *)plan->table.rows + first * plan->table.width;
    for (int64_t number = first; number < row[GRADIENT_LAST]; number++, chunk += plan->table.width) {
        chunk[ROW_GRAD] = found.data + (number - first) * advance;
    }
    return true;
}

bool gradients_set(schuss_plan *plan, PyObject *gradients)
{
    if (plan->held_count > 0 || PyList_Size(gradients) != plan->tensors) {
        return false; /* gradients are held: this call comes from code that reading or releasing them has run */
    }
    for (int64_t number = 0; number < plan->tensors; number++) {
        PyObject *gradient = PyList_GetItem(gradients, number);
        if (gradient == NULL) { /* such code has made the list shorter */
            PyErr_Clear();
            return false;
        }
        plan->held[plan->held_count++] = Py_NewRef(gradient);
        if (!set_gradient(plan, gradient, plan->gradient_table + number * GRADIENT_COLUMNS)) {
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
    while (plan->held_count > 0) {
        Py_DECREF(plan->held[--plan->held_count]);
    }
}
