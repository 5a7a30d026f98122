/* The Python type Plan: the tables of an engine, and methods that run them. */
#ifndef SCHUSS_PLAN_OBJECT_H
#define SCHUSS_PLAN_OBJECT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* What the module creates the type from. */
extern PyType_Spec plan_spec;

#endif
