"""What a candidate costs: the sum of base and blocks is the whole, and latencies say how they were measured."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from conftest import BLOCKS
from torch import nn
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from nas import cost, graph, weights
from search_spaces import Block, Placement

NAMES = {i: str(i) for i in range(80)}
YAML = yaml_model_load("yolov10n.yaml")
SITES = {s.name: s for s in graph.sites(YAML)}
SIZE = 128


@cache
def base() -> DetectionModel:
    return weights.build(YAML, NAMES)


@cache
def base_gflops() -> float:
    return cost.gflops(base(), SIZE)


PLACED = [{sorted(SITES)[i % 9]: block} for i, block in enumerate(BLOCKS)]
SEVERAL = {"backbone.p3": "cot", "neck.p3": {"sk": {}}, "neck.p5": "mhsa", "backbone.psa": "mobilevit"}


@pytest.mark.parametrize("wire", ["residual", "plain"])
@pytest.mark.parametrize("blocks", [*PLACED, SEVERAL], ids=str)
def test_the_whole_is_the_base_and_its_blocks(blocks: dict[str, object], wire: str) -> None:
    placement = Placement.of(blocks)
    model = weights.build(graph.insert(YAML, placement, wire).yaml, NAMES)
    count, flops = cost.params(base()), base_gflops()
    for name, block in placement:
        site = SITES[name]
        more = cost.block_cost(block, site.channels, site.size(SIZE), wire)
        assert more[1] >= 0
        count, flops = count + more[0], flops + more[1]
    assert cost.params(model) == count
    assert cost.gflops(model, SIZE) == pytest.approx(flops, rel=1e-9)


def test_blocks_that_multiply_are_counted() -> None:
    """A counter that sees nothing would make the sum right and every block free."""
    for name in set(BLOCKS) - {
        "simam",
        "shuffle",
    }:  # these two have neither a convolution nor a matrix product
        assert cost.block_cost(Block(name), 64, 16)[1] > 0, name


def test_attention_grows_with_the_square_of_its_tokens() -> None:
    one, two, four = (cost.block_cost(Block("mhsa"), 64, size)[1] for size in (8, 16, 32))
    assert four / two > 4.2, "linear in the area, so the products of attention are not counted"
    assert two > one


def test_yolov10n_has_the_published_gflops() -> None:
    assert round(cost.gflops(base(), 640), 1) == 8.8


def test_counting_leaves_the_model_as_it_was() -> None:
    model = weights.build(YAML, NAMES)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    cost.gflops(model, 64)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert not any(m._forward_hooks for m in model.modules())


def test_latency_says_what_was_measured() -> None:
    runner = cost.torch_runner(base(), torch.device("cpu"))
    found = cost.latency(runner, runner, 64, runs=5)
    assert found.ms > 0
    assert found.base_ms > 0
    assert found.iqr_ms >= 0
    assert found.ratio > 0
    assert math.isfinite(found.ratio)
    assert (found.runs, found.imgsz, found.batch) == (5, 64, 1)
    assert (found.backend, found.device, found.dtype, found.head) == ("torch", "cpu", "float32", "one2one")
    assert found.threads == torch.get_num_threads()


def test_deployed_is_a_fused_copy_on_the_head_without_nms() -> None:
    model = copy.deepcopy(base())
    ready = cost.deployed(model, torch.device("cpu"))
    assert ready.is_fused()
    assert not model.is_fused()
    assert ready.end2end
    assert not any(p.requires_grad for p in ready.parameters())
    plain = cost.deployed(weights.build("yolov8n.yaml", NAMES), torch.device("cpu"))
    assert not getattr(plain, "end2end", False)


def test_a_failed_measurement_raises() -> None:
    runner = cost.torch_runner(base(), torch.device("cpu"))
    broken = copy.deepcopy(runner.forward)

    class Broken(nn.Module):
        f, i = -1, 3

        def forward(self, x):
            raise RuntimeError("the device is lost")

    broken.model[3] = Broken()
    with pytest.raises(RuntimeError, match="the device is lost"):
        cost.latency(replace(runner, forward=broken), runner, 64, runs=3)
    with pytest.raises(RuntimeError, match="the device is lost"):
        cost.gflops(broken, 64)


@pytest.mark.parametrize(("runs", "warmup"), [(2, 3), (0, 3), (3, 0)])
def test_too_few_runs_are_refused(runs: int, warmup: int) -> None:
    runner = cost.torch_runner(base(), torch.device("cpu"))
    with pytest.raises(ValueError, match="at least 3 runs after 1 warm-up"):
        cost.latency(runner, runner, 64, runs=runs, warmup=warmup)
