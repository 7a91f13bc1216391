"""Gate and Branch are wired as any block is; what folds, folds to the same function with less in it."""

import pytest
import torch
from torch import Tensor, nn

from modules import Attend, deploy, forms, layers


class ChannelGate(forms.Gate):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(8, 8, 1)

    def gate(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3), keepdim=True)).sigmoid()


class LinearGate(forms.Gate):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)

    def gate(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def last(self) -> nn.Module:
        return self.conv


class Shift(forms.Branch):
    def __init__(self) -> None:
        super().__init__()
        self.conv = layers.conv_norm(8, 8, 3)

    def branch(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def last(self) -> nn.Module:
        return self.conv


class Bias(forms.Branch):
    pooled = True

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv2d(8, 8, 1)

    def branch(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3), keepdim=True))

    def last(self) -> nn.Module:
        return self.fc


class Transform(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.SiLU(), *layers.conv_norm(8, 8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def last(self) -> nn.Module:
        return self.conv


class Unfolded(Transform):
    last = None  # type: ignore[assignment]


def wired(block: nn.Module) -> Attend:
    attend = Attend(8, "simam")
    attend.block = block
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in attend.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.3)
        for name, b in attend.named_buffers():
            if "running" in name:
                b.copy_(torch.rand(b.shape, generator=g) + 0.5)
    return attend.eval()


def image() -> Tensor:
    return torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(1))


BLOCKS = [ChannelGate, LinearGate, Shift, Bias, Transform, Unfolded]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_short_wiring_is_the_long_one(block: type[nn.Module]) -> None:
    attend, x = wired(block()), image()
    gamma = attend.gamma.reshape(1, -1, 1, 1)
    assert torch.allclose(attend(x), x + gamma * (attend.block(x) - x), atol=1e-5)


@pytest.mark.parametrize("block", BLOCKS)
def test_folding_keeps_the_output(block: type[nn.Module]) -> None:
    attend, x = wired(block()), image()
    before = attend(x)
    deploy.fold(attend)
    assert torch.allclose(attend(x), before, atol=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in attend.modules())


@pytest.mark.parametrize(
    ("block", "gamma", "keep"),
    [(Shift, False, False), (LinearGate, False, False), (Transform, False, True), (Unfolded, True, False)],
)
def test_gamma_goes_where_a_linear_map_is_last(block: type[nn.Module], gamma: bool, keep: bool) -> None:
    attend = deploy.fold(wired(block()))
    assert (attend.gamma is not None, attend.keep is not None) == (gamma, keep)


def test_a_gate_keeps_gamma() -> None:
    assert deploy.fold(wired(ChannelGate())).gamma is not None


def test_train_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="Attend is in train mode"):
        deploy.fold(wired(Shift()).train())


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, bias=False), nn.Conv1d(4, 6, 3), nn.Linear(4, 6)])
def test_merged_is_norm_after_layer(layer: nn.Module) -> None:
    kind = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
    norm = kind(6).eval()
    for values in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        nn.init.uniform_(values, 0.5, 1.5)
    x = torch.randn({nn.Conv2d: (2, 4, 5, 5), nn.Conv1d: (2, 4, 5), nn.Linear: (3, 4)}[type(layer)])
    assert torch.allclose(deploy.merged(layer.eval(), norm)(x), norm(layer(x)), atol=1e-5)


def test_fuse_of_ultralytics_folds_and_keeps_the_detections() -> None:
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    from nas import graph
    from nas.plugin import register
    from search_spaces import Block, Placement

    register()
    base = dict(yaml_model_load("yolov10n.yaml"))
    graft = graph.insert(base, Placement.of({"neck.p3": Block("sk"), "backbone.p4": Block("eca")}))
    model = DetectionModel(graft.yaml, verbose=False).eval()
    attends = [m for m in model.modules() if isinstance(m, Attend)]
    for attend in attends:
        nn.init.uniform_(attend.gamma, -0.5, 0.5)
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        before = model(x)[0]
        model.train()  # Ultralytics fuses a checkpoint before it calls eval()
        after = model.fuse(verbose=False).eval()(x)[0]
        again = model.fuse(verbose=False)(x)[0]
    assert torch.allclose(after, before, rtol=1e-4, atol=1e-3)
    assert torch.equal(after, again)
    assert not any(isinstance(m, nn.BatchNorm2d) for a in attends for m in a.modules())
