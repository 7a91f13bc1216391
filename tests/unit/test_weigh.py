"""What is done about a latency that cannot be true."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nas import cost, deploy, objective
from search_spaces import Placement


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        ([1.1], 1.1),
        ([0.985], 0.985),
        ([0.5, 1.2], 1.2),
        ([0.5, 0.6, 1.2], 1.2),
        ([0.5, 0.6, 0.7], 0.6),
        ([-1.5, 1.1], 1.1),  # below 0: that ratio, and times that lie far apart
        ([-1.5, -1.4, -1.1], 1.4),
    ],
)
def test_what_seems_faster_than_the_base_or_was_disturbed_is_measured_again(
    measured: list[float], told: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(measured)

    def latency(*args: Any) -> cost.Latency:
        ratio = left.pop(0)
        return cost.Latency(
            1.0, 0.1 if ratio > 0 else 0.8, 1.0, abs(ratio), 3, "cpu", "float32", 1, 64, 1, "single", "torch"
        )

    monkeypatch.setattr(cost, "latency", latency)
    monkeypatch.setattr(cost, "params", lambda model: 7)
    monkeypatch.setattr(deploy, "runner", lambda *args: None)
    monkeypatch.setattr(objective, "steps", lambda setting: SimpleNamespace(silent=nullcontext))
    monkeypatch.setattr(objective, "all_threads", lambda setting: nullcontext())
    recipe = SimpleNamespace(latency_backend="torch", imgsz=64, latency_runs=3)
    setting: Any = SimpleNamespace(
        recipe=recipe, device=torch.device("cpu"), fused=None, predict=lambda placement: (7, 1.0)
    )
    found = objective.weigh(setting, None, Placement.of({"neck.p3": "eca"}))
    assert found.latency is not None and found.latency.ratio == told and left == []
