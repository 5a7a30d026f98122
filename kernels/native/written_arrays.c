/* The headers of numpy.ndarray are read directly, as in gradients.c. */

#include "written_arrays.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/ndarraytypes.h>

bool written_arrays_set(schuss_plan *plan, PyObject *arrays, const int64_t *table, Py_ssize_t length)
{
    Py_ssize_t count = PyTuple_Size(arrays), place = 0;
    plan->written = PyMem_Calloc((size_t)count + 1, sizeof(PyObject *));
    if (plan->written == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (; plan->written_count < count; plan->written_count++) {
        PyObject *array = PyTuple_GetItem(arrays, plan->written_count);
        bool is_array = PyType_IsSubtype(Py_TYPE(array), (PyTypeObject *)plan->array_type);
        place += place + 2 <= length && table[place + 1] >= 0 ? 2 + table[place + 1] : length + 1;
        if (!is_array || place > length) {
            break;
        }
        plan->written[plan->written_count] = Py_NewRef(array);
    }
    if (plan->written_count < count || place != length) {
        PyErr_SetString(PyExc_ValueError, "Plan: the table of the arrays that are written is not of these arrays");
        return false;
    }
    plan->written_table = table;
    return true;
}

bool written_arrays_unchanged(const schuss_plan *plan)
{
    const int64_t *was = plan->written_table;
    int64_t changed = 0; /* bits that differ, of all arrays: few branches, as this runs in every step */
    for (Py_ssize_t number = 0; number < plan->written_count; number++) {
        PyArrayObject *array = (PyArrayObject *)plan->written[number];
        int64_t ndim = was[1];
        changed |= ((int64_t)(intptr_t)PyArray_DATA(array) ^ was[0]) | (~PyArray_FLAGS(array) & NPY_ARRAY_WRITEABLE);
        if (PyArray_NDIM(array) != ndim) {
            return false;
        }
        was += 2;
        const npy_intp *shape = PyArray_DIMS(array);
        for (int64_t axis = 0; axis < ndim; axis++) {
            changed |= shape[axis] ^ *was++;
        }
    }
    return changed == 0;
}

void written_arrays_release(schuss_plan *plan)
{
    while (plan->written_count > 0) {
        Py_DECREF(plan->written[--plan->written_count]);
    }
    PyMem_Free(plan->written);
    plan->written = NULL;
}
