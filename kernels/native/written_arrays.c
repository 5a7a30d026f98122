/* The headers of numpy.ndarray are read directly, as in gradients.c. */

#include "written_arrays.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/ndarraytypes.h>

bool written_arrays_set(schuss_plan *plan, PyObject *arrays, const int64_t *table, Py_ssize_t length)
{
    Py_ssize_t count = PyTuple_Size(arrays), place = 0;
    plan->written = PyMem_Calloc((size_t)count + 1, sizeof(schuss_written));
    if (plan->written == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (; plan->written_count < count; plan->written_count++) {
        PyObject *array = PyTuple_GetItem(arrays, plan->written_count);
        const int64_t *row = table + place;
        place += place + 2 <= length && row[1] >= 0 ? 2 + row[1] : length + 1;
        if (place > length || !PyType_IsSubtype(Py_TYPE(array), (PyTypeObject *)plan->array_type)) {
            break;
        }
        plan->written[plan->written_count] = (schuss_written){Py_NewRef(array), row[0], row[1], row + 2};
    }
    if (plan->written_count < count || place != length) {
        PyErr_SetString(PyExc_ValueError, "Plan: the table of the arrays that are written is not of these arrays");
        return false;
    }
    return true;
}

bool written_arrays_unchanged(const schuss_plan *plan)
{
    for (const schuss_written *was = plan->written; was < plan->written + plan->written_count; was++) {
        PyArrayObject *array = (PyArrayObject *)was->array;
        if ((int64_t)(intptr_t)PyArray_DATA(array) != was->address || PyArray_NDIM(array) != was->ndim ||
            !(PyArray_FLAGS(array) & NPY_ARRAY_WRITEABLE)) {
            return false;
        }
        const npy_intp *shape = PyArray_DIMS(array);
        for (int64_t axis = 0; axis < was->ndim; axis++) {
            if (shape[axis] != was->shape[axis]) {
                return false;
            }
        }
    }
    return true;
}

void written_arrays_release(schuss_plan *plan)
{
    while (plan->written_count > 0) {
        Py_DECREF(plan->written[--plan->written_count].array);
    }
    PyMem_Free(plan->written);
    plan->written = NULL;
}
