/* The Python module schuss_kernels._native, against the stable interface of CPython 3.11. */

#include "plan.h"

#include <string.h>

#include "columns.h"
#include "kernels.h"
#include "isa_levels.h"

/* Elements from which a launch gives up the interpreter lock: below, it ends sooner than another thread can take over,
   and taking the lock back may wait for that thread's turn (5 ms) to end. */
enum { UNLOCK_FROM = 8192 };

enum { ROWS, SPANS, EXPECTED, LAYOUTS, INTERVALS, NUMBERS32, NUMBERS64, CLOCK, TURNS, PORTIONS, BUFFERS };

typedef struct {
    PyObject_HEAD
    schuss_plan plan;
    Py_buffer buffers[BUFFERS]; /* the arrays that the plan points into */
    int held;
} PlanObject;

static void run_column(schuss_plan *plan, int column, bool team)
{
    plan->table.column = column;
    launch(&plan->table, plan->threads, team);
}

static void run(schuss_plan *plan, bool team)
{
    run_column(plan, ROW_KERNEL, team);
    *plan->clock += 1;
}

/* A tensor's sum from those of its blocks, in their order, `stride` numbers apart. */
static double fold(const double *blocks, int64_t block_count, int64_t stride)
{
    double sum = block_count > 0 ? blocks[0] : 0.0;
    for (int64_t block = 1; block < block_count; block++) {
        sum += blocks[block * stride];
    }
    return sum;
}

static double *sums_of_turn(const int64_t *turn) { return (double *)(intptr_t)turn[TURN_FOLDED]; }

/* Call the rule's finish, if there is one. */
static void finish(int64_t *turn, int64_t clock)
{
    if (turn[TURN_FINISH] != 0) {
        int64_t returned;
        void *raised;
        turn[TURN_STEP] = clock + turn[TURN_AHEAD];
        ((schuss_kernel)(intptr_t)turn[TURN_FINISH])(&returned, &raised, (int64_t)(intptr_t)turn);
    }
}

/* The same for a tensor, once its sums are those of its blocks; or add these to what several have together. */
static void finish_tensor(int64_t *turn, int64_t clock)
{
    if (turn[TURN_FINISH] == 0 && turn[TURN_INTO] == 0) {
        return;
    }
    const double *blocks = (const double *)(intptr_t)turn[TURN_MEASURED];
    double *together = (double *)(intptr_t)turn[TURN_INTO], *sums = sums_of_turn(turn);
    for (int64_t number = 0; number < turn[TURN_SUMS]; number++) {
        sums[number] = fold(blocks + number, turn[TURN_BLOCKS], turn[TURN_SUMS]);
        if (together != NULL) {
            together[number] += sums[number];
        }
    }
    finish(turn, clock);
}

/* A step of two passes, portion by portion: what the second moves is then in the caches. (Where a number is of all
   tensors, there is one portion.) */
static void run_both(schuss_plan *plan, bool team)
{
    int64_t *turns = plan->turns, clock = *plan->clock;
    for (int64_t turn = plan->tensors; turn < plan->turn_count; turn++) {
        int64_t *row = turns + turn * TURN_COLUMNS;
        if (row[TURN_FINISH] != 0) {
            memset(sums_of_turn(row), 0, (size_t)row[TURN_SUMS] * sizeof(double));
        }
    }
    for (int64_t number = 0; number < plan->portion_count; number++) {
        const int64_t *portion = plan->portions + number * PORTION_COLUMNS;
        schuss_table table = plan->table;
        table.spans += portion[PORTION_FIRST_SPAN];
        table.span_count = portion[PORTION_LAST_SPAN] - portion[PORTION_FIRST_SPAN];
        table.column = ROW_MEASURE;
        launch(&table, (int)portion[PORTION_THREADS], team);
        for (int64_t tensor = portion[PORTION_FIRST_TENSOR]; tensor < portion[PORTION_LAST_TENSOR]; tensor++) {
            finish_tensor(turns + tensor * TURN_COLUMNS, clock);
        }
        for (int64_t turn = plan->tensors; turn < plan->turn_count; turn++) {
            finish(turns + turn * TURN_COLUMNS, clock);
        }
        table.column = ROW_KERNEL;
        launch(&table, (int)portion[PORTION_THREADS], team);
    }
    *plan->clock += 1;
}

static PyObject *plan_turn(PyObject *self, PyObject *team)
{
    schuss_plan *plan = &((PlanObject *)self)->plan;
    bool share = team == Py_True;
    if (plan->elements < UNLOCK_FROM) {
        run_both(plan, share);
    } else {
        Py_BEGIN_ALLOW_THREADS
        run_both(plan, share);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *plan_run(PyObject *self, PyObject *team)
{
    schuss_plan *plan = &((PlanObject *)self)->plan;
    bool share = team == Py_True;
    Py_BEGIN_ALLOW_THREADS
    run(plan, share);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *read_only(PyObject *self, int column, bool share)
{
    schuss_plan *plan = &((PlanObject *)self)->plan;
    Py_BEGIN_ALLOW_THREADS
    run_column(plan, column, share);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *plan_look(PyObject *self, PyObject *team)
{
    return read_only(self, ROW_SQUARES, team == Py_True);
}

static PyObject *plan_measure(PyObject *self, PyObject *team)
{
    return read_only(self, ROW_MEASURE, team == Py_True);
}

static PyObject *plan_place(PyObject *self, PyObject *gradients)
{
    schuss_plan *plan = &((PlanObject *)self)->plan;
    if (!PyTuple_CheckExact(gradients)) {
        PyErr_SetString(PyExc_TypeError, "place takes a tuple of gradients");
        return NULL;
    }
    bool placed = gradients_place(plan, gradients);
    gradients_release(plan); /* the caller holds the tuple */
    return PyBool_FromLong(placed);
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
    PyObject *held = PyList_AsTuple(arguments[0]); /* others may change the list, and drop its arrays, meanwhile */
    if (held == NULL) {
        return NULL;
    }
    bool share = arguments[1] == Py_True, placed = gradients_place(plan, held);
    if (placed && plan->elements < UNLOCK_FROM) {
        run(plan, share);
    } else if (placed) {
        Py_BEGIN_ALLOW_THREADS
        run(plan, share);
        Py_END_ALLOW_THREADS
    }
    gradients_release(plan);
    Py_DECREF(held);
    return PyBool_FromLong(placed);
}

static bool write_numbers(schuss_plan *plan, Py_ssize_t first, PyObject *numbers)
{
    for (Py_ssize_t number = 0; number < PyTuple_Size(numbers); number++) {
        double value = PyFloat_AsDouble(PyTuple_GetItem(numbers, number));
        if (value == -1.0 && PyErr_Occurred()) {
            return false;
        }
        plan->numbers32[first + number] = (float)value;
        plan->numbers64[first + number] = value;
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
            if (!write_numbers(plan, at, arguments[1]) || !write_numbers(plan, at + riders, arguments[2])) {
                return NULL;
            }
        } else {
            memcpy(plan->numbers32 + at, plan->numbers32 + first, (size_t)(riders + numbers) * sizeof(float));
            memcpy(plan->numbers64 + at, plan->numbers64 + first, (size_t)(riders + numbers) * sizeof(double));
        }
    }
    Py_RETURN_NONE;
}

static bool take(PlanObject *self, PyObject *array, Py_ssize_t itemsize)
{
    Py_buffer *view = &self->buffers[self->held];
    if (PyObject_GetBuffer(array, view, PyBUF_WRITABLE | PyBUF_ND) < 0) {
        return false;
    }
    self->held++;
    if (view->itemsize != itemsize) {
        PyErr_SetString(PyExc_TypeError, "Plan: expected int64 tables and scalars in float32 and float64");
        return false;
    }
    return true;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"rows",      "spans",     "expected", "layouts", "intervals",  "numbers32",
                            "numbers64", "clock",     "turns",    "portions", "elements",  "threads",
                            "fixed",     "array_type", "memmap_type", NULL};
    PyObject *arrays[BUFFERS], *array_type, *memmap_type;
    long long elements;
    int threads, fixed;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OOOOOOOOOOLipOO", names, &arrays[ROWS], &arrays[SPANS],
                                     &arrays[EXPECTED], &arrays[LAYOUTS], &arrays[INTERVALS], &arrays[NUMBERS32],
                                     &arrays[NUMBERS64], &arrays[CLOCK], &arrays[TURNS], &arrays[PORTIONS], &elements,
                                     &threads, &fixed, &array_type, &memmap_type)) {
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PlanObject *self = (PlanObject *)allocate(type, 0);
    if (self == NULL) {
        return NULL;
    }
    for (int number = 0; number < BUFFERS; number++) {
        if (!take(self, arrays[number], number == NUMBERS32 ? 4 : 8)) {
            Py_DECREF(self);
            return NULL;
        }
    }
    const Py_buffer *held = self->buffers;
    if (held[ROWS].ndim != 2 || held[EXPECTED].ndim != 2 || held[EXPECTED].shape[1] != EXPECTED_COLUMNS ||
        held[INTERVALS].ndim != 2 || held[NUMBERS32].ndim != 2 || held[NUMBERS64].ndim != 2 || held[SPANS].ndim != 1 ||
        held[SPANS].shape[0] < 1 || held[TURNS].ndim != 2 || held[TURNS].shape[1] != TURN_COLUMNS ||
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
        .clock = held[CLOCK].buf,
        .turns = held[TURNS].buf,
        .turn_count = held[TURNS].shape[0],
        .portions = held[PORTIONS].buf,
        .portion_count = held[PORTIONS].shape[0],
        .fixed = fixed != 0,
        .tensors = held[EXPECTED].shape[0],
        .expected = held[EXPECTED].buf,
        .layouts = held[LAYOUTS].buf,
        .intervals = held[INTERVALS].buf,
        .interval_count = held[INTERVALS].shape[1],
        .numbers32 = held[NUMBERS32].buf,
        .numbers64 = held[NUMBERS64].buf,
        .slots = held[NUMBERS32].shape[0],
        .width = held[NUMBERS32].shape[1],
        .array_type = Py_NewRef(array_type),
        .memmap_type = Py_NewRef(memmap_type),
    };
    return (PyObject *)self;
}

static void plan_dealloc(PyObject *object)
{
    PlanObject *self = (PlanObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    gradients_release(&self->plan);
    PyMem_Free(self->plan.views);
    while (self->held > 0) {
        PyBuffer_Release(&self->buffers[--self->held]);
    }
    Py_XDECREF(self->plan.array_type);
    Py_XDECREF(self->plan.memmap_type);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef plan_methods[] = {
    {"step", (PyCFunction)(void (*)(void))plan_step, METH_FASTCALL,
     "step(gradients, share) -> bool\n\n"
     "Put a list of arrays (None: no gradient) into the plan, run it and raise the clock. False, and nothing run, where\n"
     "one is not as in the step before (dtype, shape, strides, clear of the parameters): Python has to look at them."},
    {"place", plan_place, METH_O,
     "place(gradients) -> bool\n\nThe first half of step: put a tuple of arrays, which the caller holds, into the plan."},
    {"measure", plan_measure, METH_O, "measure(share)\n\nAdd up what the rules measure, without the interpreter lock."},
    {"look", plan_look, METH_O, "look(share)\n\nAdd up the squares of the gradients, without the interpreter lock."},
    {"run", plan_run, METH_O, "run(share)\n\nRun the plan as it is and raise the clock, without the interpreter lock."},
    {"turn", plan_turn, METH_O,
     "turn(share)\n\nMeasure, finish and run, portion by portion, and raise the clock, without the interpreter lock."},
    {"scalars", (PyCFunction)(void (*)(void))plan_scalars, METH_FASTCALL,
     "scalars(slots, riders, numbers)\n\nSet the riders' and a rule's numbers of slots, in float32 and float64."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot plan_slots[] = {
    {Py_tp_doc, "A plan's tables, all of them numpy arrays that it holds on to, and how they are run."},
    {Py_tp_new, plan_new},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_methods, plan_methods},
    {0, NULL},
};

static PyType_Spec plan_spec = {
    .name = "schuss_kernels._native.Plan",
    .basicsize = sizeof(PlanObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = plan_slots,
};

static PyObject *module_levels(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    PyObject *found = PyList_New(0);
    for (int number = 0; found != NULL && LEVELS[number] != NULL; number++) {
        PyObject *pair = Py_BuildValue("(sO)", LEVELS[number], level_runs(LEVELS[number]) ? Py_True : Py_False);
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

static PyObject *sums_of(const double *blocks, int64_t block_count, int64_t count)
{
    PyObject *found = PyTuple_New((Py_ssize_t)count);
    for (int64_t number = 0; found != NULL && number < count; number++) {
        PyObject *value = PyFloat_FromDouble(fold(blocks + number, block_count, count));
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
            PyObject *sum = sums_of(measured + first[tensor], blocks, each);
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
     "The instruction-set levels that kernels were compiled for, least demanding first, and whether this processor runs\n"
     "them."},
    {"folded", module_folded, METH_VARARGS,
     "folded(measured, first_sum, sum_counts) -> list[tuple[float, ...]]\n\n"
     "Every tensor's sums: those of its blocks, added up in their order."},
    {"kernels", module_kernels, METH_O, "kernels(level) -> dict[str, int]\n\nThe addresses of a level's kernels, by key."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    static bool watching = false;
    if (!watching) {
        watching = true;
        pool_watch_forks();
        team_watch_forks();
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
    .m_doc = "Kernels compiled ahead of time, and what launches them. Made for schuss_kernels.native alone.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module_definition); }
