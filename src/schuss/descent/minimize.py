"""Gradient descent on a function, with any optimizer: by itself, and as a method of ``scipy.optimize.minimize``."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.validate import number, shown, whole
from ..optim import registry
from ..optimizer import Optimizer
from .objective import Objective, point, quiet

GTOL, MAXITER = 1e-5, 10_000

STATIONARY, OUT_OF_STEPS, SMALL_STEP, NOT_FINITE, STOPPED = 0, 1, 2, 3, 99
"""What ``status`` of a result may be; the last is SciPy's for a callback that ends a run."""


class Result(dict[str, Any]):
    """What stands in for ``scipy.optimize.OptimizeResult`` where SciPy is not installed: its entries are attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __dir__(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:>{width}}: {value!r}" for name, value in self.items())


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    optimizer: Any = "adam",
    *,
    args: Any = (),
    jac: Any = None,
    callback: Callable[..., Any] | None = None,
    gtol: float | None = None,
    xtol: float | None = None,
    maxiter: int | None = None,
    tol: float | None = None,
    return_path: bool = False,
    disp: bool = False,
    bounds: Any = None,
    constraints: Any = (),
    hess: Any = None,
    hessp: Any = None,
    **options: Any,
) -> Any:
    """Find a minimum of a function (a maximum, with ``maximize=True``) by gradient descent.

    Parameters
    ----------
    fun
        ``fun(x, *args)`` returns a number. ``x`` is an array like ``x0``, a new one at each call.
    x0
        Where to start: numbers in any shape, at least one. A float dtype that optimizers take is kept, other numbers
        become float64; a single number, an array of one. It is left as it is.
    optimizer
        A name (``"sgd"``, ``"momentum"``, ``"nesterov"``, ``"adagrad"``, ``"rmsprop"``, ``"adam"``, ``"amsgrad"``,
        ``"adamw"`` and the longer ones of :mod:`schuss.optim.registry`), a class, or a function of the parameters that
        returns an optimizer on them.
    args
        Further arguments of ``fun`` and ``jac``, a tuple.
    jac
        ``jac(x, *args)`` returns the gradient in the shape of ``x``; True: ``fun`` returns (value, gradient). None:
        the gradient comes from ``scipy.differentiate``, some ten calls of ``fun`` for each number in ``x``, or from
        central differences where SciPy has no such module. (:func:`schuss.check_gradient` checks a ``jac``.)
    callback
        Called after each step: as ``callback(intermediate_result=result)``, with ``x``, ``fun``, ``jac`` and ``nit``,
        where that is the name of its only parameter, else as ``callback(xk)``. StopIteration from it ends the run.
    gtol
        Stop where the 2-norm of the gradient is not above this; None for ``tol``, else 1e-5.
    xtol
        Stop after a step whose 2-norm is not above this; None for 0: where nothing moves any more. A step that a
        schedule gives a learning rate of 0 does not count.
    maxiter
        Stop after so many steps; None for 10,000.
    tol
        What ``gtol`` is where it is None.
    return_path
        Keep all points in the result, as ``path`` (start first, shape ``(nit + 1, *x.shape)``), and their values, as
        ``path_fun``.
    disp
        Print how it ended.
    bounds, constraints, hess, hessp
        Here so that they can be refused: gradient descent has no use for them.
    **options
        Of the optimizer: ``lr`` (a number or a function of the step, see :mod:`schuss.schedules`), ``momentum``, ...

    Returns
    -------
    scipy.optimize.OptimizeResult
        (Without SciPy, a dict with the same entries as attributes.) ``x``, ``fun`` and ``jac`` at the end; ``nit``
        steps, ``nfev`` and ``njev`` evaluations; ``message`` says why it ended, as does ``status``: 0 a stationary
        point, 2 a small step (``success`` is True); 1 out of steps, 3 diverged, 99 ended by the callback (False). A
        run in which the point, ``fun`` or ``jac`` is no longer finite ends with status 3 at the last point where all
        were.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; a ``fun`` that returns no number, or is not finite at ``x0``; a ``jac`` of a
        wrong shape.

    Examples
    --------
    >>> import schuss
    >>> result = schuss.minimize(lambda x: ((x - 3.0) ** 2).sum(), [0.0, 1.0], "momentum", lr=0.05,
    ...     jac=lambda x: 2.0 * (x - 3.0))
    >>> result.success, result.x.round(4)
    (True, array([3., 3.]))
    """
    _refuse(bounds=bounds, constraints=constraints, hess=hess, hessp=hessp)
    _refuse_options_of_scipy(options)
    limits = _Limits(
        _tolerance("gtol", gtol, _tolerance("tol", tol, GTOL)), _tolerance("xtol", xtol, 0.0), _steps(maxiter)
    )
    objective, call, make = Objective(fun, jac, args), _callback(callback), registry.factory(optimizer)
    x = point(x0, "x0")
    run = _Run(objective, x, registry.built(make, {"x": x}, **options), limits, [] if return_path else None)
    with quiet():
        run.descend(call)
    result = run.result()
    if disp:
        print(
            f"{result.message}\n    fun: {result.fun:.10g}\n    steps: {result.nit}\n"
            f"    evaluations of fun: {result.nfev}, of the gradient: {result.njev}"
        )
    return result


def scipy_method(optimizer: Any = "adam", **options: Any) -> Callable[..., Any]:
    """What to pass to ``scipy.optimize.minimize`` as ``method=``.

    Parameters
    ----------
    optimizer, **options
        As in :func:`minimize`, whose own ``gtol``, ``xtol``, ``maxiter``, ``return_path`` and ``disp`` are options too.
        Those that SciPy is given (``options={"maxiter": 100}``, ``tol=``) come before these.

    Returns
    -------
    Callable
        A custom method as SciPy documents it; it can be pickled where ``optimizer`` and ``options`` can. Where ``fun``
        or its gradient is not finite at ``x0``, the result has ``success=False``, so that global searches which call
        ``minimize`` from many points go on.

    Raises
    ------
    TypeError, ValueError
        For an optimizer that there is not; in SciPy's call, for bounds, constraints and Hessians.

    Examples
    --------
    >>> import schuss
    >>> from scipy import optimize
    >>> result = optimize.minimize(optimize.rosen, [-1.2, 1.0], jac=optimize.rosen_der,
    ...     method=schuss.scipy_method("adam", lr=0.1))
    >>> result.success, result.x.round(3)
    (True, array([1., 1.]))
    """
    registry.factory(optimizer)  # tells at once what is none
    for name in _SCIPYS:
        if name in options:
            raise TypeError(f"scipy_method: {name} is an argument of scipy.optimize.minimize; give it there")
    _refuse_options_of_scipy(options)
    return functools.partial(_method, optimizer, options)


_SCIPYS = ("args", "jac", "hess", "hessp", "bounds", "constraints", "callback")


_OPTIONS_OF_SCIPY = (
    *("adaptive", "c1", "c2", "catol", "direc", "fatol", "finite_diff_rel_step", "ftol", "hess_inv0"),
    *("initial_simplex", "initial_tr_radius", "iprint", "maxcor", "maxfev", "maxfun", "maxls", "minfev", "offset"),
    *("rescale", "return_all", "rhobeg", "stepmx", "workers", "xatol", "xrtol"),
)
"""Options of SciPy's own methods that no optimizer has."""


def _refuse_options_of_scipy(options: dict[str, Any]) -> None:
    for name in options:
        if name in _OPTIONS_OF_SCIPY:
            raise TypeError(
                f"{name}: an option of SciPy's own methods, which gradient descent has no use for (its limits are "
                "maxiter, gtol and xtol)"
            )


def _method(optimizer: Any, own: dict[str, Any], fun: Any, x0: Any, args: Any = (), **options: Any) -> Any:
    try:
        return minimize(fun, x0, optimizer, args=args, **{**own, **options})
    except _NotFiniteAtStart as error:
        return error.result


class _NotFiniteAtStart(ValueError):
    """``fun`` or ``jac`` is not finite at ``x0``. The result says so too, to a caller who would rather go on."""

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class _Limits:
    gtol: float
    xtol: float
    maxiter: int


class _Run:
    """A descent and where it stands."""

    def __init__(
        self,
        objective: Objective,
        x: np.ndarray,
        optimizer: Optimizer,
        limits: _Limits,
        path: list[tuple[np.ndarray, float]] | None,
    ) -> None:
        self._objective, self._moving, self._optimizer, self._limits = objective, x, optimizer, limits
        self._path = path
        self.nit, self.status, self.message = 0, STATIONARY, ""

    def descend(self, call: Callable[[Any], Any] | None) -> None:
        """Step until there is a reason to stop."""
        limits = self._limits
        self.x = self._moving.copy()
        self.fun, self.jac = self._objective.at(self.x)
        self._first = self.fun
        self._record()
        wrong = self._not_finite(self.x, self.fun, self.jac)
        if wrong:
            self._stop(NOT_FINITE, f"At x0, {wrong[0]} is {wrong[1]}.")
            raise _NotFiniteAtStart(f"{wrong[0]}: expected a finite value at x0, got {wrong[1]}", self.result())
        moved = math.inf
        while not self._arrived(moved):
            self._optimizer.step({"x": self.jac})
            x = self._moving.copy()
            fun, jac = self._objective.at(x) if np.isfinite(x).all() else (math.nan, self.jac)
            wrong = self._not_finite(x, fun, jac)
            if wrong:
                text = f"Diverged: after step {self.nit + 1}, {wrong[0]} is {wrong[1]}. This is the last finite point;"
                return self._stop(NOT_FINITE, f"{text} a smaller learning rate may help.")
            moved = _norm(x - self.x)
            if moved <= limits.xtol and self._rate_was_zero():
                moved = math.inf
            self.x, self.fun, self.jac = x, fun, jac
            self.nit += 1
            self._record()
            try:
                if call is not None:
                    call(_result(x=x.copy(), fun=fun, jac=jac.copy(), nit=self.nit))
            except StopIteration:
                return self._stop(STOPPED, "`callback` raised `StopIteration`.")

    def _arrived(self, moved: float) -> bool:
        limits, slope = self._limits, _norm(self.jac)
        if slope <= limits.gtol:
            self._stop(STATIONARY, f"Stationary point: the gradient's norm, {slope:.3g}, is not above gtol.")
        elif moved <= limits.xtol:
            self._stop(SMALL_STEP, f"Small step: the last one's norm, {moved:.3g}, is not above xtol.")
        elif self.nit >= limits.maxiter:
            text = f"Out of steps: made maxiter, {limits.maxiter}, and the gradient's norm is {slope:.3g}."
            up = self._optimizer.param_groups[0]["maximize"]
            if self.fun < self._first if up else self.fun > self._first:
                text += " fun is worse than at x0: a smaller learning rate may help."
            self._stop(OUT_OF_STEPS, text)
        return bool(self.message)

    def _stop(self, status: int, message: str) -> None:
        self.status, self.message = status, message

    def _rate_was_zero(self) -> bool:
        """Whether a schedule has kept the last step from moving anything."""
        group = self._optimizer.param_groups[0]
        return callable(group.get("lr")) and bool(group.last_rate == 0.0)

    def _record(self) -> None:
        if self._path is not None:
            self._path.append((self.x, self.fun))

    @staticmethod
    def _not_finite(x: np.ndarray, fun: float, jac: np.ndarray) -> tuple[str, Any] | None:
        for name, value in (("x", x), ("fun", fun), ("jac", jac)):
            finite = np.isfinite(value)
            if not finite.all():
                return name, value if np.ndim(value) == 0 else np.asarray(value)[~finite][0]
        return None

    def result(self) -> Any:
        """SciPy's, where it is installed."""
        path = {}
        if self._path is not None:
            points, values = zip(*self._path, strict=True)
            path = {"path": np.stack(points), "path_fun": np.array(values)}
        return _result(
            x=self.x,
            fun=self.fun,
            jac=self.jac,
            nit=self.nit,
            nfev=self._objective.nfev,
            njev=self._objective.njev,
            status=self.status,
            success=self.status in (STATIONARY, SMALL_STEP),
            message=self.message,
            **path,
        )


def _result(**entries: Any) -> Any:
    return _result_class()(entries)


@functools.cache
def _result_class() -> type[dict[str, Any]]:
    try:
        from scipy.optimize import OptimizeResult
    except ImportError:
        return Result
    return OptimizeResult


def _norm(values: np.ndarray) -> float:
    return float(np.linalg.norm(values.astype(np.float64)))


def _refuse(**given: Any) -> None:
    for name, value in given.items():
        if value is None or (isinstance(value, (tuple, list, dict)) and not value):
            continue
        other = "'trust-constr'" if name.startswith("hess") else "'L-BFGS-B'" if name == "bounds" else "'SLSQP'"
        raise ValueError(
            f"{name}: expected none, gradient descent has no use for them; got {value!r} (scipy's method {other} has)"
        )


def _tolerance(name: str, value: Any, default: float) -> float:
    if value is None:
        return default
    try:
        found = number(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error} of at least 0 or None, got {value!r}") from None
    if not 0.0 <= found < math.inf:
        raise ValueError(f"{name}: expected a finite number of at least 0 or None, got {shown(value)}")
    return found


def _steps(maxiter: Any) -> int:
    if maxiter is None:
        return MAXITER
    try:
        steps = whole(maxiter)
    except (TypeError, ValueError) as error:
        raise type(error)(f"maxiter: {error} of at least 0 or None, got {maxiter!r}") from None
    if steps < 0:
        raise ValueError(f"maxiter: expected a whole number of at least 0 or None, got {maxiter!r}")
    return steps


def _callback(callback: Any) -> Callable[[Any], Any] | None:
    """The callback as a function of the intermediate result, by SciPy's rule for what it wants to be given."""
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"callback: expected a function or None, got {callback!r}")
    try:
        names = set(inspect.signature(callback).parameters)
    except (TypeError, ValueError):  # some builtins have none
        names = set()
    if names == {"intermediate_result"}:
        return lambda result: callback(intermediate_result=result)
    return lambda result: callback(result.x)
