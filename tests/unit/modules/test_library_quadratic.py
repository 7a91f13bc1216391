"""The quadratic blocks equal the classes of timm and Ultralytics, where these have them."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import references
import torch
from timm.layers.attention2d import MultiQueryAttention2d
from timm.models.shvit import SHSA as TimmSHSA
from torch import nn
from ultralytics.nn.modules.block import PSA as UltralyticsPSA
from ultralytics.nn.modules.block import PSABlock as UltralyticsPSABlock

import modules
from modules.quadratic.core import TILE, PixelAttention, tiles

TOLERANCE = 1e-5
SIZES = [(13, 17), (20, 20), (1, 7), (1, 1)]
State = dict[str, torch.Tensor]


def equal(ours: nn.Module, theirs: nn.Module, channels: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        for dtype in (torch.float32, torch.float64):
            expected = theirs.eval().to(dtype)(x.to(dtype))
            assert (ours.to(dtype)(x.to(dtype)) - expected).abs().max() < TOLERANCE * max(1.0, expected.abs().max())


def conv(p: State, ours: str, theirs: str) -> State:
    """Our Sequential(Conv2d, BatchNorm) as Ultralytics' Conv."""
    parts = {f"{ours}.0.": f"{theirs}.conv.", f"{ours}.1.": f"{theirs}.bn."}
    return {new + k.removeprefix(old): v for k, v in p.items() for old, new in parts.items() if k.startswith(old)}


def by_head(p: State, heads: int, key_dim: int) -> State:
    """Rows of q, k, v for all heads each -> q, k, v head by head, as Ultralytics has them."""
    rows = p["attn.qkv.conv.weight"].shape[0]
    i = torch.arange(rows)
    q, k, v = (t.reshape(heads, -1) for t in i.split((heads * key_dim, heads * key_dim, rows - 2 * heads * key_dim)))
    order = torch.cat((q, k, v), 1).flatten()
    return {key: v[order] if key.startswith("attn.qkv") and v.dim() else v for key, v in p.items()}


def attention_and_mlp(p: State) -> State:
    names = {"qkv": "qkv", "position": "pe", "project": "proj"}
    found = {k: v for a, b in names.items() for k, v in conv(p, f"attention.{a}", f"attn.{b}").items()}
    return found | conv(p, "mlp.0", "ffn.0") | conv(p, "mlp.1", "ffn.1")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [32, 128, 320])
def test_psa_equals_ultralytics(channels: int, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("psa", channels))
    p = ours.state_dict()
    p = by_head(
        attention_and_mlp(p) | conv(p, "enter", "cv1") | conv(p, "leave", "cv2"),
        ours.attention.num_heads,
        ours.attention.key_dim,
    )
    theirs = UltralyticsPSA(channels, channels)
    theirs.load_state_dict(p)
    equal(ours, theirs, channels, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "heads"), [(32, 1), (256, 4)])
def test_psablock_equals_ultralytics(channels: int, heads: int, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("psablock", channels))
    theirs = UltralyticsPSABlock(channels, num_heads=heads)
    theirs.load_state_dict(by_head(attention_and_mlp(ours.state_dict()), heads, ours.attention.key_dim))
    equal(ours, theirs, channels, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "stride"), [(32, 2), (128, 2), (64, 1)])
def test_mqa_equals_timm(channels: int, stride: int, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("mqa", channels, kv_stride=stride))
    theirs = MultiQueryAttention2d(channels, num_heads=ours.num_heads, kv_stride=stride)
    p = ours.state_dict()
    mapped = {
        f"{b}.proj.weight": p[f"{a}.weight"][..., None, None]
        for a, b in {"query": "query", "key": "key", "value": "value", "project": "output"}.items()
    }
    if stride > 1:
        for i, name in enumerate(("key", "value")):
            mapped[f"{name}.down_conv.weight"] = p[f"{name}_map.weight"]
            for what in ("weight", "bias", "running_mean", "running_var"):
                mapped[f"{name}.norm.{what}"] = p[f"norm.{what}"].chunk(2)[i]
            mapped[f"{name}.norm.num_batches_tracked"] = p["norm.num_batches_tracked"]
    theirs.load_state_dict(mapped)
    equal(ours, theirs, channels, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "part"), [(32, 8), (128, 32), (224, 48)])
def test_shsa_equals_timm(channels: int, part: int, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("shsa", channels))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m = TimmSHSA(channels, 16, part)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.m(x)

    theirs = Residual()
    names = {"norm.": "pre_norm.", "qkv.0.": "qkv.c.", "qkv.1.": "qkv.bn."}
    names |= {"project.0.": "proj.1.c.", "project.1.": "proj.1.bn."}
    p = {b + k.removeprefix(a): v for k, v in ours.state_dict().items() for a, b in names.items() if k.startswith(a)}
    theirs.m.load_state_dict(p)
    equal(ours, theirs, channels, size)


@pytest.mark.parametrize(
    ("groups", "n", "m"), [(1, 1600, 1600), (6, 400, 400), (4, 35, 35), (2, 700, 900), (3, 5, TILE)]
)
def test_tiles_cover_all_logits_once(groups: int, n: int, m: int) -> None:
    seen = np.zeros((groups, n), int)
    for group, rows in tiles(groups, n, m):
        seen[group, rows] += 1
        assert seen[group, rows].size * m <= max(TILE, m)
    assert (seen == 1).all()


def explicit(scale: float) -> Callable[..., torch.Tensor]:
    return lambda q, k, v: v @ (scale * q.transpose(-1, -2) @ k).softmax(-1).transpose(-1, -2)


@pytest.mark.parametrize(("d", "e"), [(4, 12), (8, 8)])
@pytest.mark.parametrize(("n", "m"), [(35, 35), (700, 900)])
def test_pixel_attention_in_tiles_equals_the_whole_with_its_gradients(n: int, m: int, d: int, e: int) -> None:
    g = torch.Generator().manual_seed(0)
    shapes = ((2, 3, d, n), (2, 1, d, m), (2, 1, e, m))
    inputs = [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in shapes]
    weight = torch.randn(2, 3, e, n, generator=g, dtype=torch.float64)
    results = []
    for f in (PixelAttention(0.3), explicit(0.3)):
        y = f(*inputs)
        results.append((y, *torch.autograd.grad((y * weight).sum(), inputs)))
    for ours, whole in zip(*results, strict=True):
        assert math.isclose((ours - whole).abs().max().item(), 0, abs_tol=1e-10)
