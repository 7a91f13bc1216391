"""The channel gates against torchvision and timm, and their options against the loops."""

import numpy as np
import pytest
import references
import references_channel
import torch
from test_parity import TOLERANCE, error, image
from timm.layers import EffectiveSEModule, GlobalContext, SEModule
from timm.layers.gather_excite import GatherExcite
from torch import nn
from torchvision.ops import SqueezeExcitation

import modules

SIZES = [(20, 20), (13, 17), (1, 7), (1, 1)]


def loaded(theirs: nn.Module, ours: nn.Module, names: dict[str, str]) -> nn.Module:
    """`theirs` with our weights, a linear layer's as those of a 1x1 convolution; `names`: ours -> theirs."""
    want = theirs.state_dict()
    theirs.load_state_dict({names[key]: v.reshape(want[names[key]].shape) for key, v in ours.state_dict().items()})
    return theirs.eval()


def named(**layers: str) -> dict[str, str]:
    return {f"{ours}.{n}": f"{theirs}.{n}" for ours, theirs in layers.items() for n in ("weight", "bias")}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("channels", "reduction"), [(64, 16), (256, 16), (48, 4)])
def test_se_equals_torchvision_and_timm(channels: int, reduction: int, size: tuple[int, int]) -> None:
    dim, x = max(channels // reduction, 8), image(2, channels, *size)
    for theirs in (SqueezeExcitation(channels, dim), SEModule(channels, rd_channels=dim)):
        ours = references.scramble(modules.create("se", channels, reduction=reduction))
        y = loaded(theirs, ours, named(squeeze="fc1", excite="fc2"))(x)
        assert error(ours, x, y.detach().double().numpy()) < TOLERANCE


@pytest.mark.parametrize("channels", [64, 256])
def test_se_is_as_wide_as_timm(channels: int) -> None:
    assert modules.create("se", channels).squeeze.out_features == SEModule(channels).fc1.out_channels


@pytest.mark.parametrize("size", SIZES)
def test_ese_equals_timm(size: tuple[int, int]) -> None:
    ours, x = references.scramble(modules.create("ese", 48)), image(2, 48, *size)
    theirs = loaded(EffectiveSEModule(48), ours, named(excite="fc"))
    assert error(ours, x, theirs(x).detach().double().numpy()) < TOLERANCE


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fusion", ["add", "mul"])
def test_gc_equals_timm(fusion: str, size: tuple[int, int]) -> None:
    ours = references.scramble(modules.create("gc", 64, reduction=8, fusion=fusion))
    theirs = GlobalContext(64, rd_channels=8, fuse_add=fusion == "add", fuse_scale=fusion == "mul")
    mlp = "mlp_add" if fusion == "add" else "mlp_scale"
    names = named(reduce=f"{mlp}.fc1", norm=f"{mlp}.norm", expand=f"{mlp}.fc2") | {"attend": "conv_attn.weight"}
    getattr(theirs, mlp).norm.eps = 1e-5  # GCNet's, by PyTorch's default; timm's default is 1e-6
    ours.register_parameter("bias", nn.Parameter(torch.zeros(1)))  # which the softmax does not see
    theirs = loaded(theirs, ours, names | {"bias": "conv_attn.bias"})
    x = image(2, 64, *size)
    assert error(ours, x, theirs(x).detach().double().numpy()) < TOLERANCE


@pytest.mark.parametrize(
    ("extent", "size"),
    [(0, (20, 20)), (0, (13, 17)), (0, (1, 1)), (2, (20, 20)), (4, (20, 20)), (4, (8, 12)), (8, (16, 24))],
)
def test_ge_equals_timm_where_the_extent_divides_the_map(extent: int, size: tuple[int, int]) -> None:
    ours, theirs = modules.create("ge", 16, extent=extent), GatherExcite(16, extent=extent, use_mlp=False)
    x = image(2, 16, *size)
    assert error(ours, x, theirs(x).double().numpy()) < TOLERANCE


@pytest.mark.parametrize("size", [(5, 7), (13, 17), (1, 7), (1, 1)])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("ge", {"extent": extent}) for extent in (1, 2, 3, 4, 8)),
        *(("fca", {"frequencies": frequencies}) for frequencies in (1, 4, 16)),
        *(("gc", {"fusion": fusion}) for fusion in ("add", "mul")),
    ],
)
def test_options_equal_the_loop(name: str, options: dict[str, int | str], size: tuple[int, int]) -> None:
    block = references.scramble(modules.create(name, 24, **options))
    x = image(2, 24, *size)
    expected = references_channel.LOOPS[name](x.double().numpy(), references.state(block), **options)
    assert error(block, x, expected) < TOLERANCE


@pytest.mark.parametrize("n", [1, 2, 6, 7, 8, 20, 33, 160])
def test_fca_pools_as_torch_does(n: int) -> None:
    rows = modules.create("fca", 16).pooling(n, torch.zeros(1, dtype=torch.float64))
    expected = nn.functional.adaptive_avg_pool1d(torch.eye(n, dtype=torch.float64)[None], 7)[0].T
    assert np.abs((rows - expected).numpy()).max() < 1e-12


def test_fca_with_one_frequency_is_se_on_seven_times_the_mean() -> None:
    x = image(2, 32, 14, 21)
    fca = references.scramble(modules.create("fca", 32, frequencies=1))
    se = modules.create("se", 32)
    nn.init.zeros_(se.squeeze.bias)
    nn.init.zeros_(se.excite.bias)
    se.squeeze.weight.data, se.excite.weight.data = 7 * fca.squeeze.weight, fca.excite.weight
    assert torch.allclose(fca(x), se(x), atol=1e-5)
