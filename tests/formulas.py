"""SGD, Adam, AdamW, Lion and RMSprop in float64, written from their papers and torch's documentation alone.

Nothing of schuss is used here: what a step does around the rule (scaling, clipping, skipping, averages, slow weights,
each tensor's own count) is written a second time as well.
"""

from __future__ import annotations

import numpy as np


def sgd(p, g, s, t, o):
    g = g + o["weight_decay"] * p
    if o["momentum"]:
        first = "momentum" not in s
        s["momentum"] = g if first else o["momentum"] * s["momentum"] + (1 - o["dampening"]) * g
        g = g + o["momentum"] * s["momentum"] if o["nesterov"] else s["momentum"]
    return p - o["lr"] * g


def _adam(p, g, s, t, o):
    (b1, b2), zero = o["betas"], np.zeros_like(p)
    s["m"] = b1 * s.get("m", zero) + (1 - b1) * g
    s["v"] = b2 * s.get("v", zero) + (1 - b2) * g**2
    v = s["v"]
    if o["amsgrad"]:
        v = s["largest"] = np.maximum(s.get("largest", zero), v)
    return p - o["lr"] * (s["m"] / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + o["eps"])


def adam(p, g, s, t, o):
    return _adam(p, g + o["weight_decay"] * p, s, t, o)


def adamw(p, g, s, t, o):
    return _adam(p - o["lr"] * o["weight_decay"] * p, g, s, t, o)


def lion(p, g, s, t, o):
    (b1, b2), m = o["betas"], s.get("m", np.zeros_like(p))
    s["m"] = b2 * m + (1 - b2) * g
    return p - o["lr"] * (np.sign(b1 * m + (1 - b1) * g) + o["weight_decay"] * p)


def rmsprop(p, g, s, t, o):
    g, a, zero = g + o["weight_decay"] * p, o["alpha"], np.zeros_like(p)
    s["v"] = a * s.get("v", zero) + (1 - a) * g**2
    v = s["v"]
    if o["centered"]:
        s["mean"] = a * s.get("mean", zero) + (1 - a) * g
        v = v - s["mean"] ** 2
    change = g / (np.sqrt(v) + o["eps"])
    if o["momentum"]:
        s["buffer"] = change = o["momentum"] * s.get("buffer", zero) + change
    return p - o["lr"] * change


FORMULAS = {"SGD": sgd, "Adam": adam, "AdamW": adamw, "Lion": lion, "RMSprop": rmsprop}
FORMS = ("momentum", "nesterov", "amsgrad", "centered", "convention")
"""Options that choose which states there are: no formula here says what becomes of states that come and go."""


class Model:
    """Tensors that are moved by a formula.

    ``p``, ``s``, ``t``: for every tensor its values in float64, its states and its count. ``steps``: steps made.
    ``ema``, ``slow``: moving averages and slow weights, None where there are none. ``options``: a list with a dict a
    tensor, which may be changed between steps.
    """

    def __init__(self, name, params, options, ema=None):
        self.formula, self.options, self.decay = FORMULAS[name], options, ema
        self.p = [np.array(p, np.float64) for p in params]
        self.s, self.t, self.steps = [{} for _ in self.p], [0] * len(self.p), 0
        self.ema = None if ema is None else [p.copy() for p in self.p]
        self.slow, self.k, self.alpha, self.phase = None, 0, 0.0, 0

    def look_ahead(self, k, alpha):
        self.slow, self.k, self.alpha, self.phase = [p.copy() for p in self.p], k, alpha, 0

    def step(self, gradients, grad_scale=1.0, clip_norm=None, clip_value=None, skip_nonfinite=False, zero_grad=False):
        """One step; returns the norm of the scaled gradients and whether the step was skipped."""
        scaled = {n: np.array(g, np.float64) * grad_scale for n, g in enumerate(gradients) if g is not None}
        norm = np.sqrt(sum(float((g**2).sum()) for g in scaled.values()))
        if skip_nonfinite and not all(np.isfinite(g).all() for g in scaled.values()):
            return norm, True
        self.steps += bool(scaled)
        self.phase += bool(scaled)
        for n, g in scaled.items():
            if clip_norm is not None:
                g = g * min(1.0, clip_norm / (norm + 1e-6))
            if clip_value is not None:
                g = np.clip(g, -clip_value, clip_value)
            options = dict(self.options[n])
            if callable(options["lr"]):
                options["lr"] = options["lr"](self.steps - 1)
            self.t[n] += 1
            p = self.formula(self.p[n], -g if options["maximize"] else g, self.s[n], self.t[n], options)
            if self.slow is not None and self.phase % self.k == 0:
                p = self.slow[n] = self.slow[n] + self.alpha * (p - self.slow[n])
            self.p[n] = p
        if self.ema is not None and scaled:  # of all tensors, also of those that stand still
            self.ema = [self.decay * mean + (1 - self.decay) * p for mean, p in zip(self.ema, self.p, strict=True)]
        return norm, False
