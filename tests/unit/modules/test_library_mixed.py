"""CBAM and coordinate attention equal timm's."""

import pytest
import references
import torch
from test_parity import TOLERANCE, error, image
from timm.layers.cbam import CbamModule
from timm.layers.coord_attn import CoordAttn
from torch import Tensor

import modules


@pytest.mark.parametrize("channels", [64, 128])
def test_cbam_equals_timm(channels: int) -> None:
    ours = references.scramble(modules.create("cbam", channels))
    theirs = CbamModule(channels, mlp_bias=True).eval()

    def shaped(key: str, value: Tensor) -> Tensor:
        if key == "spatial.0.weight":
            return value.flip(1)  # timm stacks the mean first
        return value[..., None, None] if key.startswith("mlp") and value.dim() == 2 else value

    values = [shaped(key, value) for key, value in ours.state_dict().items()]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    x = image(2, channels, 13, 17)
    assert error(ours, x, theirs(x).detach().double().numpy()) < TOLERANCE


@pytest.mark.parametrize("channels", [64, 512])
def test_coord_equals_timm(channels: int) -> None:
    ours = references.scramble(modules.create("coord", channels))
    theirs = CoordAttn(channels, rd_channels=max(8, channels // 32), bias=True).eval()
    state = theirs.state_dict()
    names = {"squeeze.0": "conv1", "squeeze.1": "bn1", "rows": "conv_h", "columns": "conv_w"}
    for key, value in ours.state_dict().items():
        layer, name = key.rsplit(".", 1)
        state[f"{names[layer]}.{name}"] = value
    state["conv1.bias"] = torch.zeros_like(state["bn1.bias"])  # before a norm: none in ours
    theirs.load_state_dict(state)
    x = image(2, channels, 13, 17)
    assert error(ours, x, theirs(x).detach().double().numpy()) < TOLERANCE
