"""Large-kernel blocks against the classes of timm and torch that equal the paper."""

import numpy as np
import pytest
import references
import torch
import torch.nn.functional as F
from timm.models.focalnet import FocalModulation
from timm.models.starnet import Block

import modules
from modules.kernel.caa import BoxMean
from modules.kernel.lka import depthwise

SIZES = [(20, 20), (13, 17), (1, 7), (1, 1)]


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def difference(ours: torch.nn.Module, theirs: torch.nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float(np.abs((ours.double()(x) - theirs.double()(x)).numpy()).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "levels", "window"), [(64, 2, 3), (48, 3, 5)])
def test_focal_equals_timm(channels: int, levels: int, window: int, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("focal", channels, levels=levels, window=window))
    theirs = FocalModulation(channels, focal_window=window, focal_level=levels).eval()
    own = ours.state_dict()
    state = {}
    for n in ("weight", "bias"):
        state[f"f.{n}"] = torch.cat([own[f"{key}.{n}"] for key in ("query", "context", "weigh")])
        state[f"h.{n}"], state[f"proj.{n}"] = own[f"modulate.{n}"], own[f"project.{n}"]
    state |= {f"focal_layers.{i}.0.weight": own[f"focus.{i}.weight"] for i in range(levels)}
    theirs.load_state_dict(state)
    assert difference(ours, theirs, image(2, channels, *size)) < 1e-12


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "ratio"), [(64, 3), (48, 4)])
def test_star_equals_timm(channels: int, ratio: int, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("star", channels, ratio=ratio))
    theirs = references.scramble(Block(channels, mlp_ratio=ratio), seed=1)  # scrambled biases before the norms
    own, state = ours.state_dict(), theirs.state_dict()
    for part, key in (("dwconv", "before"), ("g", "reduce")):
        state[f"{part}.conv.weight"] = own[f"{key}.0.weight"]
        for n in ("weight", "bias", "running_var"):
            state[f"{part}.bn.{n}"] = own[f"{key}.1.{n}"]
        state[f"{part}.bn.running_mean"] = own[f"{key}.1.running_mean"] + state[f"{part}.conv.bias"]
    for n in ("weight", "bias"):
        for part, key in (("f1", "one"), ("f2", "two"), ("dwconv2", "after")):
            state[f"{part}.conv.{n}"] = own[f"{key}.{n}"]
    theirs.load_state_dict(state)
    assert difference(ours, theirs, image(2, channels, *size)) < 1e-5  # of the fp32 sum in running_mean


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_the_box_mean_is_average_pooling(kernel_size: int, size: tuple[int, int]) -> None:
    x = image(2, 8, *size)
    assert torch.allclose(BoxMean(8, kernel_size)(x), F.avg_pool2d(x, kernel_size, 1, kernel_size // 2), atol=1e-14)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("height", "width", "dilation"), [(7, 7, 3), (1, 7, 3), (7, 1, 3), (1, 21, 1), (3, 3, 2)])
def test_padding_apart_changes_nothing(height: int, width: int, dilation: int, size: tuple[int, int]) -> None:
    ours = references.scramble(depthwise(8, height, width, dilation)).double()
    weight, bias = ours.parameters()
    padding = (dilation * (height // 2), dilation * (width // 2))
    x = image(2, 8, *size)
    expected = F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=8)
    assert torch.allclose(ours(x), expected, atol=1e-12)
