"""Which CUDA kernels are looked at (of every rule those that most people use, of some rules all), and how."""

from __future__ import annotations

import pytest
from cuda_models import Host, Model, differences, is_dense, moved
from distinct import KERNELS
from schuss_kernels.engine.reference import ReferenceEngine
from schuss_kernels.plan.spec import Spec, quantized_storages
from schuss_kernels.storage.dtypes import BF16, F16, F32, F64

try:
    import cuda_on_cpu
except ImportError as error:
    MISSING = NO_WARPS = f"numba-cuda is not usable here: {error}"
else:
    MISSING, NO_WARPS = cuda_on_cpu.missing(), cuda_on_cpu.warps_missing()

needs_compiler = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
needs_warps = pytest.mark.skipif(NO_WARPS is not None, reason=str(NO_WARPS))

MIXED = "adamw"  # parameter and gradient of different types: one rule is enough

FORMS = {
    "f32": (F32, F32, False, False),
    "f64 strided": (F64, F64, True, False),
    "f32 8 bits": (F32, F32, False, True),
    "f64": (F64, F64, False, False),
    "f32 strided": (F32, F32, True, False),
    "f64 8 bits": (F64, F64, False, True),
    "f32 8 bits strided": (F32, F32, True, True),
    "f32 f64": (F32, F64, False, False),
    "f64 f32": (F64, F32, False, False),
}
"""Name -> parameter, gradient, strided or not, states in 8 bits or not. Of the rules in ALL_FORMS it is all that are
looked at, so that every two of these meet; of every other rule one of the first three, each of another rule in turn."""

ALL_FORMS = ("sgd_nesterov", "rmsprop_centered_momentum", "adam_amsgrad", MIXED)


def looked_at(rule, every=False):
    """The forms of a rule whose kernels are looked at: name -> spec. ``every``: all that there are."""
    eight = quantized_storages(rule)
    made = {}
    for name in [*list(FORMS)[:7], *(["f32 f64", "f64 f32"] * (rule.name == MIXED))]:
        parameter, gradient, strided, codes = FORMS[name]
        if codes and not any(storage.is_quantized for storage in eight):
            continue  # states that are weights have no such form
        states = eight if codes else (parameter,) * len(rule.State._fields)
        made[name] = Spec(rule, parameter, gradient, states, strided=strided)
    if not every and rule.name not in ALL_FORMS:
        first = [name for name in list(FORMS)[:3] if name in made]
        name = first[list(KERNELS).index(rule.name) % len(first)]
        return {name: made[name]}
    if rule.name == MIXED:
        riders = {"master": "remainder", "stochastic": True, "clip": True, "zero": True, "ema": True, "copy": F16}
        made["8 bits riders"] = Spec(rule, BF16, F16, eight, **riders)
    return made


def parametrize_forms():
    """Parametrize a test over rules and specs; what the short run leaves out is for ``-m full``."""
    rows = []
    for rule in KERNELS.values():
        short = looked_at(rule)
        for name, spec in looked_at(rule, every=True).items():
            if spec.master:
                continue  # the tests of storages and riders have it
            marks = [] if name in short else [pytest.mark.full]
            marks += [needs_warps if spec.quantized_states else needs_compiler]
            rows.append(pytest.param(rule, spec, marks=marks, id=f"{rule.name}-{name}"))
    return pytest.mark.parametrize(("rule", "spec"), rows)


def cases_of(cases, strided):
    """The cases whose tensors need a strided kernel, or a dense one."""
    return [case for case in cases if is_dense(case) != strided]


def same_bits_as_the_reference(rule, types, cases, **options):
    """The compiled IR leaves every byte of a model as the numpy reference does."""
    results = []
    for make in (cuda_on_cpu.Engine, ReferenceEngine):
        model = Model(rule, *types, cases, Host(), **options)
        results.append(model.run(make(model.tensors)))
    assert not differences(*results), differences(*results)
    assert moved(results[0], Model(rule, *types, cases, Host(), **options).result())
