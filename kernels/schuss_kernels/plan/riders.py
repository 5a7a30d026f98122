"""The numbers that stand before a rule's scalars: what rides along in a step."""

from __future__ import annotations

SCALE, CLIP, EMA_KEEP, EMA_ADD, KEY_HIGH, KEY_LOW, SLOW_STEP = range(7)


RIDERS = 8
"""What stands in a slot before the rule's scalars: the scale of the gradients, the value they are limited to, what the
moving average keeps and takes, the two halves of the key of the random bits, and the share of their way to the
parameters that slow weights go."""


Floats = tuple[float, ...]
