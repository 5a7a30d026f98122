/* The Python module schuss_kernels._native. It uses nothing but the stable ABI of CPython 3.11. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "columns.h"
#include "isa_levels.h"
#include "kernels.h"
#include "openmp.h"
#include "plan_object.h"
#include "pool.h"
#include "two_pass.h"

static PyObject *module_levels(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    PyObject *found = PyList_New(0);
    for (int number = 0; found != NULL && LEVELS[number] != NULL; number++) {
        PyObject *pair = Py_BuildValue("(sO)", LEVELS[number], isa_level_runs(LEVELS[number]) ? Py_True : Py_False);
        if (pair == NULL || PyList_Append(found, pair) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(pair);
    }
    return found;
}

static PyObject *module_kernels(PyObject *self, PyObject *name)
{
    (void)self;
    const char *level = PyUnicode_AsUTF8AndSize(name, NULL);
    PyObject *found = level == NULL ? NULL : PyDict_New();
    for (int number = 0; found != NULL && number < KERNEL_COUNT; number++) {
        if (strcmp(KERNELS[number].level, level) != 0) {
            continue;
        }
        PyObject *address = PyLong_FromVoidPtr((void *)(intptr_t)KERNELS[number].kernel);
        if (address == NULL || PyDict_SetItemString(found, KERNELS[number].key, address) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(address);
    }
    return found;
}

/* Return a tensor's sums as a tuple of `count` floats. */
static PyObject *tensor_sums(const double *blocks, int64_t block_count, int64_t count)
{
    PyObject *found = PyTuple_New((Py_ssize_t)count);
    for (int64_t number = 0; found != NULL && number < count; number++) {
        PyObject *value = PyFloat_FromDouble(fold_blocks(blocks + number, block_count, count));
        if (value == NULL || PyTuple_SetItem(found, (Py_ssize_t)number, value) < 0) {
            Py_CLEAR(found);
        }
    }
    return found;
}

static PyObject *module_folded(PyObject *module, PyObject *arguments)
{
    (void)module;
    enum { MEASURED, FIRST, COUNT, ARRAYS };
    PyObject *arrays[ARRAYS], *found = NULL;
    Py_buffer views[ARRAYS];
    if (!PyArg_ParseTuple(arguments, "OOO", &arrays[MEASURED], &arrays[FIRST], &arrays[COUNT])) {
        return NULL;
    }
    int held = 0;
    while (held < ARRAYS && PyObject_GetBuffer(arrays[held], &views[held], PyBUF_SIMPLE) == 0) {
        held++;
    }
    if (held == ARRAYS) {
        const double *measured = views[MEASURED].buf;
        const int64_t *first = views[FIRST].buf, *count = views[COUNT].buf;
        Py_ssize_t tensors = views[COUNT].len / 8, sums = views[MEASURED].len / 8;
        if (views[FIRST].len != (tensors + 1) * 8 || first[tensors] > sums) {
            PyErr_SetString(PyExc_ValueError, "folded: the tables do not belong together");
        } else {
            found = PyList_New(tensors);
        }
        for (Py_ssize_t tensor = 0; found != NULL && tensor < tensors; tensor++) {
            int64_t each = count[tensor], blocks = each > 0 ? (first[tensor + 1] - first[tensor]) / each : 0;
            PyObject *sum = tensor_sums(measured + first[tensor], blocks, each);
            if (sum == NULL || PyList_SetItem(found, tensor, sum) < 0) {
                Py_CLEAR(found);
            }
        }
    }
    while (held > 0) {
        PyBuffer_Release(&views[--held]);
    }
    return found;
}

static PyMethodDef module_methods[] = {
    {"levels", module_levels, METH_NOARGS,
     "levels() -> list[tuple[str, bool]]\n\n"
     "Return the instruction-set levels that kernels were compiled for, least demanding first, and whether this\n"
     "processor runs them."},
    {"folded", module_folded, METH_VARARGS,
     "folded(measured, first_sum, sum_counts) -> list[tuple[float, ...]]\n\n"
     "Return every tensor's sums: the sums of its blocks, added up in order."},
    {"kernels", module_kernels, METH_O,
     "kernels(level) -> dict[str, int]\n\nReturn the addresses of a level's kernels, by key."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    static bool watching = false; /* once a process, however often the module is created */
    if (!watching) {
        watching = true;
        pool_watch_forks();
        openmp_watch_forks();
    }
    if (PyModule_AddStringConstant(module, "SOURCES", SOURCES) < 0) {
        return -1;
    }
    PyObject *type = PyType_FromModuleAndSpec(module, &plan_spec, NULL);
    if (type == NULL || PyModule_AddObjectRef(module, "Plan", type) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    Py_DECREF(type);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, (void *)module_exec}, {0, NULL}};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "Kernels compiled ahead of time, and what launches them. Private to schuss_kernels.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module_definition); }
