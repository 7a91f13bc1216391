"""The contract of a block: a registered name in, a Report with one finding for each rule out.

Parity with the paper needs a reference of each block's own: tests/unit/modules/test_parity.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modules import registry, rules, tooling
from modules.registry import Spec
from modules.rules import CHANNELS, Fault, Scope, Skip, first_line

RULES: dict[str, Callable[[Scope], None]] = {
    "shape": rules.keeps_shape,
    "batch_one": rules.trains_at_batch_one,
    "independent": rules.batch_is_independent,
    "bf16": rules.finite_in_bf16,
    "fp16": rules.finite_in_fp16,
    "half": rules.finite_in_half,
    "deterministic": rules.is_deterministic,
    "learns": rules.learns_from_zero,
    "input": rules.keeps_its_input,
    "pickle": rules.pickles,
    "channels_last": rules.keeps_the_memory_format,
    "gradient": rules.has_the_gradient,
    "sync": tooling.never_waits_for_the_device,
    "compile": tooling.compiles,
    "deploy": tooling.folds,
    "onnx": tooling.exports_to_onnx,
    "macs": tooling.counts_its_macs,
    "cost": tooling.costs_what_it_says,
}
SLOW = ("compile", "onnx")


@dataclass(frozen=True)
class Finding:
    """What one rule found; `detail` says what and where it failed, or why it was skipped (then `passed`)."""

    rule: str
    passed: bool
    detail: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class Report:
    """All findings on one block."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """No rule failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(f for f in self.findings if not f.passed)


def check(
    block: str | Spec,
    *,
    quick: bool = False,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
) -> Report:
    """Try every rule on a registered block, with its default options or those given.

    quick: few channel counts, neither compiler nor ONNX.
    """
    spec = registry.spec(block) if isinstance(block, str) else block
    scope = Scope(spec, (16, 24, 64) if quick else CHANNELS, device, dict(options or {}))
    rules = (name for name in RULES if not (quick and name in SLOW))
    return Report(spec.name, tuple(try_rule(name, scope) for name in rules))


def try_rule(name: str, scope: Scope) -> Finding:
    """One rule on one block."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            RULES[name](scope)
    except Skip as reason:
        return Finding(name, True, str(reason), skipped=True)
    except Fault as fault:
        return Finding(name, False, str(fault))
    except Exception as error:
        return Finding(name, False, f"{type(error).__name__}: {first_line(error)}")
    return Finding(name, True)
