"""List every optimizer, in all its forms: one row each. Names, benches and the demo go by it."""

from __future__ import annotations

import functools
import importlib
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.validate import did_you_mean
from ..optimizer import Optimizer

ELEMENT, TENSOR, GLOBAL, MATRIX = "element-wise", "per tensor", "global", "matrix"
"""What an element's step depends on: the element, a number of its tensor, one of all tensors, or its row and column."""


@dataclass(frozen=True)
class Variant:
    """One form of an optimizer.

    ``module`` in :mod:`schuss.optim` has the class. ``options`` mean the same to torch's class of that name.
    ``fused``: torch has ``fused=True`` for it on the CPU. ``demo_lr`` trains the network of ``schuss demo``. ``of``: of
    a wrapper, the form that it is put around.
    """

    key: str
    title: str
    module: str
    optimizer: str
    demo_lr: float
    fused: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ELEMENT
    of: str = ""

    @property
    def cls(self) -> type[Optimizer]:
        """Import the optimizer's class."""
        found: type[Optimizer] = getattr(importlib.import_module(f"schuss.optim.{self.module}"), self.optimizer)
        return found

    def build(self, params: Any, **options: Any) -> Optimizer:
        """Make the optimizer on ``params``; ``options`` are added to the form's own."""
        if self.of:
            return self.cls(VARIANTS[self.of].build(params, **options), **self.options)
        return self.cls(params, **{**self.options, **options})


_BOTH = {"centered": True, "momentum": 0.9}

VARIANTS = {
    variant.key: variant
    for variant in (
        Variant("sgd", "SGD", "sgd", "SGD", 0.3, True),
        Variant("sgd-momentum", "SGD momentum", "sgd", "SGD", 0.05, True, {"momentum": 0.9}),
        Variant("sgd-nesterov", "SGD Nesterov", "sgd", "SGD", 0.05, True, {"momentum": 0.9, "nesterov": True}),
        Variant("adagrad", "Adagrad", "adagrad", "Adagrad", 0.03, True),
        Variant("rmsprop", "RMSprop", "rmsprop", "RMSprop", 0.002),
        Variant("rmsprop-momentum", "RMSprop momentum", "rmsprop", "RMSprop", 0.0005, False, {"momentum": 0.9}),
        Variant("rmsprop-centered", "RMSprop centered", "rmsprop", "RMSprop", 0.002, False, {"centered": True}),
        Variant("rmsprop-centered-momentum", "RMSprop centered, momentum", "rmsprop", "RMSprop", 0.0005, False, _BOTH),
        Variant("adam", "Adam", "adam", "Adam", 0.003, True),
        Variant("adam-amsgrad", "Adam AMSGrad", "adam", "Adam", 0.003, True, {"amsgrad": True}),
        Variant("adamw", "AdamW", "adam", "AdamW", 0.003, True),
        Variant("adamw-amsgrad", "AdamW AMSGrad", "adam", "AdamW", 0.003, True, {"amsgrad": True}),
        Variant("lamb", "LAMB", "lamb", "LAMB", 0.007, kind=TENSOR),
        Variant("lars", "LARS", "lars", "LARS", 1.0, kind=TENSOR),
        Variant("lars-nesterov", "LARS Nesterov", "lars", "LARS", 1.0, False, {"nesterov": True}, TENSOR),
        Variant("larc", "LARC", "lars", "LARS", 0.1, False, {"clip": True, "trust_coefficient": 0.02}, TENSOR),
        Variant("novograd", "NovoGrad", "novograd", "NovoGrad", 0.01, kind=TENSOR),
        Variant("stable-adamw", "Stable AdamW", "stable_adamw", "StableAdamW", 0.003, kind=TENSOR),
        Variant("fromage", "Fromage", "fromage", "Fromage", 0.003, kind=TENSOR),
        Variant("cautious-adamw", "Cautious AdamW", "cautious", "CautiousAdamW", 0.003, kind=TENSOR),
        Variant("cautious-lion", "Cautious Lion", "cautious", "CautiousLion", 0.0003, kind=TENSOR),
        Variant("mars", "MARS", "mars", "MARS", 0.003, kind=TENSOR),
        Variant("mars-lion", "MARS Lion", "mars", "MARSLion", 0.0005, kind=TENSOR),
        Variant("adabelief", "AdaBelief", "adabelief", "AdaBelief", 0.003),
        Variant("acprop", "ACProp", "adabelief", "ACProp", 0.01, False, {"eps": 1e-3}),
        Variant("yogi", "Yogi", "yogi", "Yogi", 0.01),
        Variant("adan", "Adan", "adan", "Adan", 0.005),
        Variant("ademamix", "AdEMAMix", "ademamix", "AdEMAMix", 0.002),
        Variant("simplified-ademamix", "Simplified AdEMAMix", "ademamix", "SimplifiedAdEMAMix", 2e-05),
        Variant("adopt", "ADOPT", "adopt", "ADOPT", 0.003),
        Variant("laprop", "LaProp", "laprop", "LaProp", 0.002),
        Variant("grams", "Grams", "grams", "Grams", 0.003),
        Variant("lion", "Lion", "lion", "Lion", 0.001),
        Variant("tiger", "Tiger", "lion", "Tiger", 0.0005),
        Variant("signsgd", "SignSGD", "signum", "SignSGD", 0.001),
        Variant("signum", "Signum", "signum", "Signum", 0.001),
        Variant("adadelta", "Adadelta", "adadelta", "Adadelta", 1.0),
        Variant("adamax", "Adamax", "adamax", "Adamax", 0.005),
        Variant("adamaxw", "AdamaxW", "adamax", "AdamaxW", 0.005),
        Variant("nadam", "NAdam", "nadam", "NAdam", 0.003),
        Variant("radam", "RAdam", "radam", "RAdam", 0.003),
        Variant("rprop", "Rprop", "rprop", "Rprop", 0.01),
        Variant("asgd", "ASGD", "asgd", "ASGD", 0.3),
        Variant("dog", "DoG", "dog", "DoG", 1.0, kind=GLOBAL),
        Variant("ldog", "LDoG", "dog", "LDoG", 1.0, kind=TENSOR),
        Variant("dowg", "DoWG", "dog", "DoWG", 0.3, kind=GLOBAL),
        Variant("prodigy", "Prodigy", "prodigy", "Prodigy", 1.0, kind=GLOBAL),
        Variant("dadapt-adam", "DAdapt Adam", "prodigy", "DAdaptAdam", 0.1, kind=GLOBAL),
        Variant("schedule-free-sgd", "Schedule-Free SGD", "schedule_free", "ScheduleFreeSGD", 1.0),
        Variant("schedule-free-adamw", "Schedule-Free AdamW", "schedule_free", "ScheduleFreeAdamW", 0.005),
        Variant("schedule-free-radam", "Schedule-Free RAdam", "schedule_free", "ScheduleFreeRAdam", 0.005),
        Variant("sophia", "Sophia", "sophia", "Sophia", 0.0005),
        Variant("adafactor", "Adafactor", "adafactor", "Adafactor", 0.03, kind=MATRIX),
        Variant("sm3", "SM3", "sm3", "SM3", 0.1, kind=MATRIX),
        Variant("muon", "Muon", "muon", "Muon", 0.01, kind=MATRIX),
        Variant("lookahead-adamw", "Lookahead AdamW", "lookahead", "Lookahead", 0.005, of="adamw"),
        Variant("ftrl", "FTRL", "ftrl", "FTRL", 1.0),
        Variant("qhm", "QHM", "qh", "QHM", 0.3, False, {"momentum": 0.9}),
        Variant("qhadam", "QHAdam", "qh", "QHAdam", 0.003, False, {"nus": (0.7, 1.0)}),
        Variant("madgrad", "MADGRAD", "madgrad", "MADGRAD", 0.003),
        Variant("aggmo", "AggMo", "aggmo", "AggMo", 0.01),
        Variant("adabound", "AdaBound", "adabound", "AdaBound", 0.003),
        Variant("amsbound", "AMSBound", "adabound", "AdaBound", 0.003, False, {"amsbound": True}),
        Variant("padam", "PAdam", "padam", "PAdam", 0.3),
        Variant("optimistic-gd", "Optimistic GD", "optimistic", "OGD", 0.3),
        Variant("optimistic-adam", "Optimistic Adam", "optimistic", "OptimisticAdam", 0.001),
        Variant("cocob", "COCOB", "cocob", "COCOB", 1.0),
    )
}

ALIASES = {"momentum": "sgd-momentum", "nesterov": "sgd-nesterov", "amsgrad": "adam-amsgrad"}
"""Short names of forms that have a longer one in :data:`VARIANTS`."""

Factory = Callable[..., Optimizer]

CLASSIC = tuple(VARIANTS)[:12]
"""The optimizers that gradient descent is taught with, in all forms: what benches and the demo take by themselves."""

CLASSES = {variant.optimizer: variant.module for variant in VARIANTS.values()}
"""The optimizer classes, and which module of :mod:`schuss.optim` has them."""


def classes_by_kind() -> str:
    """Return the names of the optimizer classes as text, a paragraph for each kind."""
    kinds: dict[str, list[str]] = {}
    for name in CLASSES:
        kind = next(variant.kind for variant in VARIANTS.values() if variant.optimizer == name)
        kinds.setdefault(kind, []).append(name)
    return "\n".join(
        textwrap.fill(", ".join(names), 100, initial_indent=f"    {kind}: ", subsequent_indent=" " * 8)
        for kind, names in kinds.items()
    )


@dataclass(frozen=True)
class Listed:
    """What :func:`schuss.optimizers` tells of a form of an optimizer.

    ``name`` is what :func:`schuss.make` takes; ``cls`` the class, ``options`` what makes it this form; ``states`` what
    an element keeps; ``bytes_per_parameter`` what a step moves in float32; ``kind``: ``"element-wise"``, ``"per
    tensor"``, ``"global"`` or ``"matrix"``; ``source``: the paper.
    """

    name: str
    title: str
    cls: type[Optimizer]
    options: Mapping[str, Any]
    states: tuple[str, ...]
    bytes_per_parameter: float
    kind: str
    source: str


def optimizers() -> list[Listed]:
    """List every optimizer in every form.

    >>> import schuss
    >>> [found.name for found in schuss.optimizers()][:3]
    ['sgd', 'sgd-momentum', 'sgd-nesterov']
    """
    return [_listed(key) for key in VARIANTS]


@functools.cache
def _listed(key: str) -> Listed:
    import numpy as np

    variant = VARIANTS[key]
    shape = (512, 512) if variant.kind == MATRIX else (1, 1)
    (tensor,) = variant.build([np.zeros(shape, np.float32)], backend="numpy")._stepper.engine.tensors
    bytes_per_parameter = tensor.bytes_moved() / tensor.parameter.size
    return Listed(
        name=variant.key,
        title=variant.title,
        cls=variant.cls,
        options=variant.options,
        states=tensor.rule.State._fields,
        bytes_per_parameter=bytes_per_parameter,
        kind=variant.kind,
        source=tensor.rule.paper,
    )


def key(name: str) -> str:
    """Return the key in :data:`VARIANTS` that a name means; case, spaces and underscores do not matter.

    Raises
    ------
    ValueError
        When there is no such optimizer, with the nearest name.

    >>> key("Adam"), key("momentum"), key("sgd_nesterov")
    ('adam', 'sgd-momentum', 'sgd-nesterov')
    """
    plain = name.strip().lower().replace(" ", "-").replace("_", "-")
    plain = ALIASES.get(plain, plain)
    if plain not in VARIANTS:
        known = (*VARIANTS, *ALIASES)
        raise ValueError(f"optimizer: unknown name {name!r}{did_you_mean(plain, known)} (known: {', '.join(known)})")
    return plain


def variant(name: str) -> Variant:
    """Return the row of :data:`VARIANTS` that a name means; errors as of :func:`key`."""
    return VARIANTS[key(name)]


def factory(optimizer: Any) -> Factory:
    """Return a function that makes the optimizer: ``factory(params, **options)``.

    Parameters
    ----------
    optimizer
        A name (see :func:`key`), a class of optimizers, or any function that takes parameters and returns an optimizer
        on them.

    Raises
    ------
    TypeError, ValueError
        When it is none of these.
    """
    if isinstance(optimizer, str):
        return variant(optimizer).build
    if isinstance(optimizer, Optimizer):
        raise TypeError(
            "optimizer: expected a name, a class or a function of the parameters, got an optimizer that has its "
            f"parameters already ({optimizer!r}); pass its class"
        )
    if not callable(optimizer) or (isinstance(optimizer, type) and not issubclass(optimizer, Optimizer)):
        raise TypeError(f"optimizer: expected a name, a class or a function of the parameters, got {optimizer!r}")
    return optimizer


def make(name: str, params: Any, **options: Any) -> Optimizer:
    """Make an optimizer by its name.

    Parameters
    ----------
    name
        Such as ``"adamw"``, ``"sgd-nesterov"`` (:func:`schuss.optimizers` lists them), or the short names
        ``"momentum"``, ``"nesterov"``, ``"amsgrad"``; case, spaces and underscores do not matter.
    params, **options
        What its class takes.

    Raises
    ------
    ValueError
        When there is no such optimizer, with the nearest name.

    >>> import numpy as np, schuss
    >>> schuss.make("adamw", [np.ones(3, np.float32)], lr=1e-3, backend="numpy")
    <AdamW: 1 tensors, 3 parameters, backend numpy>
    """
    return variant(name).build(params, **options)


def built(factory: Factory, params: Any, **options: Any) -> Optimizer:
    """Make an optimizer by a factory, and check that it is one.

    Raises
    ------
    TypeError
        When it makes something else.
    """
    made = factory(params, **options)
    if not isinstance(made, Optimizer):
        raise TypeError(f"optimizer: expected a function that returns a schuss optimizer, got {made!r} from it")
    return made
