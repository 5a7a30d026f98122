"""The rules whose kernels are looked at: one of those that share an update (and a measure) and differ in numbers."""

from __future__ import annotations

from schuss_kernels.rules import RULES

KERNELS = {
    rule.name: rule for rule in {(rule.update, rule.measure): rule for rule in reversed(RULES.values())}.values()
}
"""Name -> rule, the first of each."""
