"""Split attention equals timm's class."""

import pytest
import references
import torch
from test_parity import TOLERANCE, error, image
from timm.layers import SplitAttn
from torch import nn

import modules

NAMES = {"conv.0": "conv", "conv.1": "bn0", "squeeze.0": "fc1", "squeeze.1": "bn1", "select": "fc2"}


@pytest.mark.parametrize("radix", [2, 4])
@pytest.mark.parametrize("channels", [48, 64, 320])
def test_split_equals_timm(channels: int, radix: int) -> None:
    ours = references.scramble(modules.create("split", channels, radix=radix))
    dim = max(channels * radix // 4, 32)
    theirs = SplitAttn(channels, radix=radix, rd_channels=dim // radix, norm_layer=nn.BatchNorm2d).eval()
    weights = {}
    for key, value in ours.state_dict().items():
        layer, _, name = key.rpartition(".")
        weights[f"{NAMES[layer]}.{name}"] = value
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["fc1.bias"], [])  # idle before its norm
    with torch.no_grad():
        theirs.fc1.bias.zero_()
        x = image(2, channels, 13, 17)
        assert error(ours, x, theirs(x).double().numpy()) < TOLERANCE
