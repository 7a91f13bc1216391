"""Each block equals its paper: a NumPy fp64 loop from the formula, and timm where timm has it."""

import functools
import re

import numpy as np
import pytest
import references
import torch
from loops import LOOPS, WITHOUT_LOOP
from timm.layers import ConvNormAct, EcaModule, SelectiveKernel
from timm.layers.bottleneck_attn import BottleneckAttn
from timm.models.byobnet import LayerFn
from timm.models.mobilevit import MobileVitBlock
from torch import nn

import modules

TOLERANCE = 1e-5


def image(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def error(block: nn.Module, x: torch.Tensor, expected: np.ndarray) -> float:
    """The larger of the fp32 and the fp64 block's distance to the reference, relative to its size."""
    with torch.no_grad():
        single = block(x).double().numpy()
        double = block.double()(x.double()).numpy()
    return max(np.abs(single - expected).max(), np.abs(double - expected).max()) / max(1, np.abs(expected).max())


def test_every_builtin_block_has_a_reference() -> None:
    builtin = {name for name in modules.names() if modules.spec(name).builtin}
    assert builtin == {*LOOPS, *WITHOUT_LOOP}


@pytest.mark.parametrize("channels", [16, 32])
@pytest.mark.parametrize("name", sorted(LOOPS))
def test_equals_the_formula(name: str, channels: int) -> None:
    block = references.scramble(modules.create(name, channels))
    x = image(2, channels, 5, 7)
    expected = LOOPS[name](x.double().numpy(), references.state(block))
    assert error(block, x, expected) < TOLERANCE


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_the_reference_sees_every_parameter(name: str) -> None:
    """A parity test means nothing for a weight that does not reach the output."""
    block = references.scramble(modules.create(name, 16))
    x = image(2, 16, 5, 7).double().numpy()
    reference = LOOPS[name]
    before = reference(x, references.state(block))
    for key, value in references.state(block).items():
        if not key.endswith("num_batches_tracked"):
            moved = value + 0.1 * np.arange(1, value.size + 1).reshape(value.shape) % 0.7
            after = reference(x, {**references.state(block), key: moved})
            assert np.abs(after - before).max() > 10 * TOLERANCE, key


@pytest.mark.parametrize("channels", [64, 128])
def test_eca_kernel_equals_timm(channels: int) -> None:
    ours, theirs = modules.create("eca", channels), EcaModule(channels)
    assert ours.conv.kernel_size == theirs.conv.kernel_size == ((3,) if channels == 64 else (5,))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_simam_keeps_its_precision_far_from_zero(layout: torch.memory_format) -> None:
    x = (image(2, 16, 13, 17) + 100).contiguous(memory_format=layout)
    assert error(modules.create("simam", 16), x, LOOPS["simam"](x.double().numpy(), {})) < TOLERANCE


@pytest.mark.parametrize("channels", [48, 64, 576])
def test_sk_equals_timm(channels: int) -> None:
    ours = references.scramble(modules.create("sk", channels))
    groups, dim = int(np.gcd(32, channels)), max(32, channels // 16)
    theirs = SelectiveKernel(channels, split_input=False, groups=groups, rd_channels=dim).eval()
    assert len(theirs.state_dict()) == len(ours.state_dict())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = image(2, channels, 13, 17)
    assert error(ours, x, theirs(x).detach().double().numpy()) < TOLERANCE


@pytest.mark.parametrize("size", [(20, 20), (6, 6)])
def test_mhsa_equals_timm_at_its_reference_size(size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("mhsa", 64, feat_size=size[0]))
    theirs = BottleneckAttn(64, feat_size=size, scale_pos_embed=True).eval()
    names = {"rows.table": "pos_embed.height_rel", "columns.table": "pos_embed.width_rel"}
    theirs.load_state_dict({names.get(key, key): value for key, value in ours.state_dict().items()})
    x = image(2, 64, *size)
    assert error(ours, x, theirs(x).detach().double().numpy()) < TOLERANCE


MOBILEVIT_NAMES = (
    (r"^local\.0\.0\.", "conv_kxk.conv."),
    (r"^local\.0\.1\.", "conv_kxk.bn."),
    (r"^local\.1\.", "conv_1x1."),
    (r"^layers\.(\d)\.qkv\.", r"transformer.\1.attn.qkv."),
    (r"^layers\.(\d)\.project\.", r"transformer.\1.attn.proj."),
    (r"^layers\.(\d)\.mlp\.0\.", r"transformer.\1.mlp.fc1."),
    (r"^layers\.(\d)\.mlp\.2\.", r"transformer.\1.mlp.fc2."),
    (r"^layers\.(\d)\.", r"transformer.\1."),
    (r"^project\.0\.", "conv_proj.conv."),
    (r"^project\.1\.", "conv_proj.bn."),
    (r"^fuse\.0\.", "conv_fusion.conv."),
    (r"^fuse\.1\.", "conv_fusion.bn."),
)


@pytest.mark.parametrize("size", [(20, 20), (13, 17), (15, 20), (1, 7), (1, 1)])
@pytest.mark.parametrize(("channels", "dim", "depth"), [(64, 96, 2), (48, 72, 3)])
def test_mobilevit_equals_timm(channels: int, dim: int, depth: int, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("mobilevit", channels, depth=depth))
    layers = LayerFn(conv_norm_act=functools.partial(ConvNormAct, act_layer=nn.SiLU), act=nn.SiLU)
    theirs = MobileVitBlock(channels, transformer_dim=dim, transformer_depth=depth, patch_size=2, layers=layers).eval()

    def renamed(key: str) -> str:
        for pattern, name in MOBILEVIT_NAMES:
            if re.search(pattern, key):
                return re.sub(pattern, name, key)
        return key

    theirs.load_state_dict({renamed(key): value for key, value in ours.state_dict().items()})
    x = image(2, channels, *size)
    assert error(ours, x, theirs(x).detach().double().numpy()) < TOLERANCE
