"""Gradient addresses straight from the ndarray headers, for a whole list in one compiled call.

Python needs over a microsecond to tell where an array lies. The header of an ndarray (data, ndim, dimensions, strides,
descr) is part of NumPy's stable binary interface: every compiled extension reads it. :data:`USABLE` says whether this
interpreter keeps its objects as expected; where it does not, the arrays are asked in Python instead.

``refresh`` compares every header with the table of :mod:`.expected`, as ``native/gradients.c`` does.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np

from ..plan.chunk_table import GRAD
from ..plan.gradient_table import ADVANCE, COLUMNS, DATA, DESCR, FIRST, HIGH, LAST, LAYOUT, LOW, NDIM, GradientTable
from .machine import set_table, table

_WORD = 8
_TYPE = object.__basicsize__ - _WORD  # the type pointer ends an object's head
_DATA = object.__basicsize__
_NDIM, _DIMENSIONS, _STRIDES, _DESCR, _FLAGS = _DATA + 8, _DATA + 16, _DATA + 24, _DATA + 40, _DATA + 48
_WRITEABLE = 0x400
_ITEMS = tuple.__basicsize__  # a list's pointer to its items follows the variable-size head


def refresh(gradients, fixed, count, expected, layouts, rows, width, lows, highs, intervals, kind, none):
    """The number of the first gradient that is not as expected, ``count`` if all are.

    ``gradients`` is the address of a list object of ``count`` items; every other argument an address, a count or a
    number of bytes. None is expected where the address in the plan is 0, and only there. ``fixed``: gradients will be
    written; each must be writable and where it was, for whether two of them share memory is only looked at in Python.
    """
    items = table(gradients + _ITEMS, 0)
    for number in range(count):
        array = table(items, number)
        row = expected + number * (COLUMNS * _WORD)
        if array == none or table(row, DATA) == 0:
            if array == none and table(row, DATA) == 0:
                continue
            return number
        if table(array + _TYPE, 0) != kind or table(array + _DESCR, 0) != table(row, DESCR):
            return number
        ndim = table(array + _NDIM, 0) & 0xFFFFFFFF
        if ndim != table(row, NDIM):
            return number
        dimensions, strides = table(array + _DIMENSIONS, 0), table(array + _STRIDES, 0)
        layout = layouts + table(row, LAYOUT) * _WORD
        for axis in range(ndim):
            if table(dimensions, axis) != table(layout, axis) or table(strides, axis) != table(layout, ndim + axis):
                return number
        data = table(array + _DATA, 0)
        if fixed and (data != table(row, DATA) or table(array + _FLAGS, 0) & _WRITEABLE == 0):
            return number
        if data == table(row, DATA):
            continue
        low, high = data + table(row, LOW), data + table(row, HIGH)
        left, right = 0, intervals
        while left < right:  # the first interval that ends behind the gradient's first byte
            middle = (left + right) // 2
            if table(highs, middle) > low:
                right = middle
            else:
                left = middle + 1
        if left < intervals and table(lows, left) < high:
            return number
        set_table(row, DATA, data)
        for line in range(table(row, FIRST), table(row, LAST)):
            set_table(rows + line * width, GRAD, data + (line - table(row, FIRST)) * table(row, ADVANCE))
    return count


def arguments(expected: GradientTable, rows: np.ndarray) -> tuple[int, ...]:
    """What :func:`refresh` takes after the list."""
    lows, highs = expected.intervals
    return (
        len(expected.table),
        expected.table.ctypes.data,
        expected.layouts.ctypes.data,
        rows.ctypes.data,
        rows.strides[0] if rows.size else 0,
        lows.ctypes.data,
        highs.ctypes.data,
        len(lows),
        id(np.ndarray),
        id(None),
    )


def _usable() -> bool:
    """Read a list of arrays through the offsets above and compare with what Python says."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != _WORD:
        return False
    word = ctypes.c_int64.from_address
    arrays: list[Any] = [np.zeros((2, 3), np.float32)[:, ::2], np.zeros((4, 5, 6), np.float64)]
    arrays[1].flags.writeable = False
    try:
        items = word(id(arrays) + _ITEMS).value
        for number, array in enumerate(arrays):
            head = word(items + number * _WORD).value
            if head != id(array):
                return False
            same = (
                word(head + _TYPE).value == id(np.ndarray)
                and word(head + _DATA).value == array.ctypes.data
                and word(head + _NDIM).value & 0xFFFFFFFF == array.ndim
                and word(head + _DESCR).value == id(array.dtype)
                and bool(word(head + _FLAGS).value & _WRITEABLE) == array.flags.writeable
                and _words(word(head + _DIMENSIONS).value, array.ndim) == array.shape
                and _words(word(head + _STRIDES).value, array.ndim) == array.strides
            )
            if not same:
                return False
    except (ValueError, OSError):
        return False
    return True


def _words(address: int, count: int) -> tuple[int, ...]:
    return tuple((ctypes.c_int64 * count).from_address(address))


USABLE = _usable()
