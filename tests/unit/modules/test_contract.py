"""Every registered block holds every rule; a block made to break one rule is caught by it."""

import pytest
import torch
import torch.nn.functional as F
from loops import OTHER_OPTIONS
from torch import Tensor, nn

import modules
from modules.contract import RULES, check, try_rule
from modules.layers import BatchNorm
from modules.registry import Spec
from modules.rules import CHANNELS, Scope


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", modules.names())
def test_holds(name: str, rule: str) -> None:
    finding = try_rule(rule, Scope(modules.spec(name)))
    assert finding.passed, finding.detail
    assert not finding.skipped, finding.detail


@pytest.mark.parametrize("name", sorted(OTHER_OPTIONS))
def test_holds_with_other_options(name: str) -> None:
    assert set(OTHER_OPTIONS[name]) == set(modules.spec(name).options)
    report = check(name, quick=True, options=OTHER_OPTIONS[name])
    assert report.passed, report.failures


def test_channels_are_those_of_every_yolov10_scale() -> None:
    from ultralytics.nn.tasks import DetectionModel

    found: set[int] = set()
    for scale in "nsmblx":
        model = DetectionModel(f"yolov10{scale}.yaml", verbose=False).eval()
        for row in model.model[:-1]:
            row.register_forward_hook(lambda module, inputs, y: found.add(y.shape[1]))
        with torch.no_grad():
            model(torch.zeros(1, 3, 32, 32))
    assert {16, 640, 1280} <= found
    assert found <= set(CHANNELS)
    assert {16, 24, 48, 80, 160, 320, 640} <= set(CHANNELS)


class Broken(nn.Module):
    """A point-wise convolution; each subclass breaks one rule."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class FixedSize(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[..., :14, :]


class FixedChannels(Broken):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.groups = nn.Conv2d(channels, channels, 1, groups=32)


class NanOnOnePixel(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (x.shape[2] * x.shape[3] - 1) / torch.tensor(x.shape[2] * x.shape[3] - 1.0)


class PooledNorm(Broken):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.norm(x.mean((2, 3), keepdim=True)).sigmoid()


class Idle(Broken):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.idle = nn.Parameter(torch.zeros(channels))


class BatchSoftmax(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * x.mean((2, 3), keepdim=True).softmax(0)


class Rounds(Broken):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return (y + 4096) - 4096 if y.dtype == torch.bfloat16 else y


class HalfSums(Broken):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y / y.square().sum((2, 3), keepdim=True).sqrt() * y.square().sum((2, 3), keepdim=True).sqrt()


class HalfSimAM(nn.Module):
    """The published SimAM: no nan under fp16, but its gate is silently wrong."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        d = (x - x.mean((2, 3), keepdim=True)).square()
        v = d.sum((2, 3), keepdim=True) / max(x.shape[2] * x.shape[3] - 1, 1)
        return x * (d / (4 * (v + 1e-4)) + 0.5).sigmoid()


class Drops(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.1, self.training)


class WritesInput(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.mul_(2) if not x.requires_grad else x)


class ActsOnInput(Broken):
    """Harmless until Ultralytics makes the activation in place."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.act(x))


class Lambda(Broken):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gate = lambda y: y.sigmoid()


class Views(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * x.view(x.shape[0], -1).mean().sigmoid()


class BakesSize(Broken):
    def forward(self, x: Tensor) -> Tensor:
        rows = torch.linspace(0, 1, int(x.shape[2]), dtype=x.dtype).reshape(1, 1, -1, 1)
        return self.conv(x) + rows


class Functional(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.conv.weight)


class ChangesFormat(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).contiguous()


class StartsAsIdentity(Broken):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class HidesItsSquare(Broken):
    def forward(self, x: Tensor) -> Tensor:
        t = self.conv(x).flatten(2)
        return x + (t @ (t.transpose(1, 2) @ t).softmax(-1)).reshape(x.shape)


class ReadsBack(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * float(x.mean())


class Branches(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.mean() > 0 else x


class CopiesConstant(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * torch.ones(1, device="cpu").to(x.device)


class Detaches(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * x.detach().mean((2, 3), keepdim=True).sigmoid()


class ScalesWhenCompiled(Broken):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (2 if torch.compiler.is_compiling() else 1)


class FoldsWrong(Broken):
    def fold(self) -> None:
        self.conv.weight.mul_(1.01)


class LastIsNotLast(Broken):
    def last(self) -> nn.Module:
        return self.conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()


BREAKERS = [
    ("shape", FixedSize, "15x20: shape is"),
    ("shape", FixedChannels, "16 channels: ValueError"),
    ("shape", NanOnOnePixel, "16x1x1: output is not finite"),
    ("batch_one", PooledNorm, "in train mode: ValueError: Expected more than 1 value"),
    ("batch_one", Idle, "parameter idle gets no gradient"),
    ("independent", BatchSoftmax, "alone and in a batch"),
    ("bf16", Rounds, "relative error to fp32"),
    ("fp16", HalfSums, "not finite"),
    ("half", HalfSums, "not finite"),
    ("half", HalfSimAM, "relative error to fp32"),
    ("deterministic", Drops, "two forwards in train mode differ"),
    ("input", WritesInput, "changed in place"),
    ("input", ActsOnInput, "changed in place"),
    ("pickle", Lambda, "ickle"),
    ("channels_last", Views, "view"),
    ("channels_last", ChangesFormat, "comes out in another format"),
    ("gradient", Detaches, "differs from finite differences"),
    ("sync", ReadsBack, "makes the device and the host wait"),
    ("sync", CopiesConstant, "copies between cpu and meta"),
    ("compile", Branches, "32x12x16 in eval mode"),
    ("compile", ScalesWhenCompiled, "differs from eager"),
    ("deploy", FoldsWrong, "the block differs"),
    ("deploy", LastIsNotLast, "Attend differs"),
    ("onnx", BakesSize, "ONNX at"),
    ("learns", StartsAsIdentity, "gamma gets no gradient"),
    ("cost", HidesItsSquare, 'say cost="quadratic"'),
    ("macs", Functional, "add a rule to modules.macs.COUNTERS"),
]


def scope(block: type[nn.Module]) -> Scope:
    return Scope(Spec("broken", block, "", "", "", "linear", None, {}))


@pytest.mark.parametrize(("rule", "block", "message"), BREAKERS)
def test_a_broken_block_is_caught(rule: str, block: type[nn.Module], message: str) -> None:
    finding = try_rule(rule, scope(block))
    assert not finding.passed
    assert message in finding.detail


def test_every_rule_has_a_block_that_breaks_it() -> None:
    assert {rule for rule, _, _ in BREAKERS} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_the_unbroken_block_holds(rule: str) -> None:
    """Or the blocks above might fail for a reason that is not theirs."""
    assert try_rule(rule, scope(Broken)) == try_rule(rule, Scope(modules.spec("eca")))


@pytest.mark.slow  # generates and builds C++, seconds a block
@pytest.mark.parametrize("name", modules.names())
def test_compiles_to_code(name: str) -> None:
    finding = try_rule("compile", Scope(modules.spec(name), backend="inductor"))
    assert finding.passed, finding.detail


def test_norm_of_one_value_takes_the_running_statistics() -> None:
    norm, plain = BatchNorm(4), nn.BatchNorm2d(4)
    x, one = torch.randn(2, 4, 3, 3), torch.randn(1, 4, 1, 1)
    assert torch.equal(norm.train()(x), plain.train()(x))
    assert torch.equal(norm(one), plain.eval()(one))
    assert torch.equal(norm.running_mean, plain.running_mean)
