"""Blocks of references_window.py against torchvision, timm and Ultralytics, and with more heads than one."""

import pytest
import references
from loops import LOOPS
from test_parity import TOLERANCE, error, image
from timm.models.pvt_v2 import Attention
from torch import Tensor
from torchvision.models.swin_transformer import ShiftedWindowAttention

import modules

SIZES = [(20, 20), (13, 17), (1, 7), (1, 1)]


@pytest.mark.parametrize("size", [*SIZES, (14, 14), (7, 9), (8, 3)])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("channels", [48, 96])
def test_swin_equals_torchvision(channels: int, shift: bool, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("swin", channels, shift=shift))
    theirs = ShiftedWindowAttention(channels, [7, 7], [3, 3] if shift else [0, 0], ours.num_heads).eval()
    names = {"table": "relative_position_bias_table", "project.weight": "proj.weight", "project.bias": "proj.bias"}
    state = {names.get(key, key): value for key, value in ours.state_dict().items()}
    theirs.load_state_dict({"relative_position_index": theirs.relative_position_index, **state})
    x = image(2, channels, *size)
    expected = theirs(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert error(ours, x, expected.detach().double().numpy()) < TOLERANCE


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [48, 192])
def test_lsra_equals_timm(channels: int, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("lsra", channels))
    theirs = Attention(channels, ours.num_heads, linear_attn=True).eval()
    names = {"query": "q", "key_value": "kv", "reduce.0": "sr", "reduce.1": "norm", "project": "proj"}
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}

    def renamed(key: str) -> str:
        layer, kind = key.rsplit(".", 1)
        return f"{names[layer]}.{kind}"

    state = {renamed(key): value for key, value in ours.state_dict().items()}
    theirs.load_state_dict({key: value.reshape(shapes[key]) for key, value in state.items()})
    x = image(2, channels, *size)
    expected = theirs(x.flatten(2).transpose(1, 2), size).transpose(1, 2).reshape(x.shape)
    assert error(ours, x, expected.detach().double().numpy()) < TOLERANCE


@pytest.mark.parametrize("size", [(20, 20), (13, 16), (2, 2)])
@pytest.mark.parametrize("channels", [48, 96])
def test_area_equals_ultralytics(channels: int, size: tuple[int, int]) -> None:
    from ultralytics.nn.modules.block import AAttn

    ours = references.scramble(modules.create("area", channels))
    heads = ours.num_heads
    theirs = AAttn(channels, heads, area=4).eval()

    def per_head(value: Tensor) -> Tensor:
        """[q; k; v] to the order of theirs: q, k, v of the first head, then of the second."""
        if value.dim() == 0:
            return value
        return value.reshape(3, heads, -1, *value.shape[1:]).transpose(0, 1).reshape(value.shape)

    state = {}
    for key, value in ours.state_dict().items():
        layer, kind = key.split(".", 1)
        name = {"position": "pe", "project": "proj"}.get(layer, layer)
        part = kind.replace("0.", "conv.").replace("1.", "bn.")
        state[f"{name}.{part}"] = per_head(value) if layer == "qkv" else value
    theirs.load_state_dict(state)
    x = image(2, channels, *size)
    assert error(ours, x, theirs(x).detach().double().numpy()) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "channels"), [("agent", 128), ("lsra", 128), ("tssa", 96), ("area", 64), ("swin", 64)]
)
@pytest.mark.parametrize("size", [(3, 4), (1, 1)])
def test_equals_the_formula_with_several_heads(name: str, channels: int, size: tuple[int, int]) -> None:
    block = references.scramble(modules.create(name, channels))
    assert block.num_heads > 1
    x = image(1, channels, *size)
    expected = LOOPS[name](x.double().numpy(), references.state(block))
    assert error(block, x, expected) < TOLERANCE
