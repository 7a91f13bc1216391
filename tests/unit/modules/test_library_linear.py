"""The family "linear", part one, against timm where it has the block."""

import pytest
import references
import torch
from test_parity import TOLERANCE, error, image
from timm.models.efficientvit_mit import LiteMLA
from timm.models.swiftformer import EfficientAdditiveAttention
from timm.models.xcit import XCA
from torch import nn

import modules
from modules import deploy

SIZES = [(20, 20), (13, 17), (3, 5), (1, 1)]


def of_timm(theirs: nn.Module, values: list[torch.Tensor]) -> nn.Module:
    """Its parameters and buffers, in its own order."""
    for target, value in zip(theirs.state_dict().values(), values, strict=True):
        target.copy_(value.reshape(target.shape))
    return theirs.eval()


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [48, 64])
def test_xca_equals_timm(channels: int, size: tuple[int, int], folded: bool) -> None:
    ours = references.scramble(modules.create("xca", channels))
    p = ours.state_dict()
    qkv = torch.cat((p["query_key.weight"], p["value.weight"]))
    values = [p["attend.temperature"], qkv, p["out.weight"], p["out.bias"]]
    theirs = of_timm(XCA(channels, num_heads=2), values)
    x = image(2, channels, *size)
    expected = theirs(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape).detach().double().numpy()
    assert error(deploy.fold(ours) if folded else ours, x, expected) < TOLERANCE


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [48, 64])
def test_litemla_equals_timm(channels: int, size: tuple[int, int], folded: bool) -> None:
    ours = references.scramble(modules.create("litemla", channels))
    theirs = of_timm(LiteMLA(channels, channels, eps=1e-15), list(ours.state_dict().values()))
    x = image(2, channels, *size)
    expected = theirs(x).detach().double().numpy()  # in fp32 throughout, even where its input is fp64
    assert error(deploy.fold(ours) if folded else ours, x, expected) < TOLERANCE


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [48, 64])
def test_additive_equals_timm(channels: int, size: tuple[int, int], folded: bool) -> None:
    ours = references.scramble(modules.create("additive", channels))
    p = ours.state_dict()
    (q, k), (q_bias, k_bias) = p["query_key.weight"].chunk(2), p["query_key.bias"].chunk(2)
    rest = [p[f"{layer}.{kind}"] for layer in ("project", "final") for kind in ("weight", "bias")]
    theirs = of_timm(EfficientAdditiveAttention(channels, channels), [p["weigh"], q, q_bias, k, k_bias, *rest])
    x = image(2, channels, *size)
    expected = theirs(x).detach().double().numpy()
    assert error(deploy.fold(ours) if folded else ours, x, expected) < TOLERANCE
