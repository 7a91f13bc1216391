"""Attend: the identity to the bit, no trace in the random stream, at home in Ultralytics."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import modules
from modules import Attend, registry

NAMES = modules.names()


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)).mul(3).to(dtype)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("precision", ["fp32", "half", "bf16 autocast", "fp16 autocast", "bf16 autocast, bf16 map"])
@pytest.mark.parametrize("name", NAMES)
def test_starts_as_the_identity_to_the_bit(name: str, precision: str, mode: str) -> None:
    attend = Attend(32, name).train(mode == "train")
    dtype = torch.half if precision == "half" else torch.bfloat16 if precision.endswith("map") else torch.float32
    x = image(2, 32, 13, 17, dtype=dtype)
    if precision == "half":
        attend = attend.half()
    auto = torch.float16 if precision.startswith("fp16") else torch.bfloat16
    with torch.autocast("cpu", dtype=auto, enabled="autocast" in precision):
        y = attend(x)
    assert y.dtype == x.dtype
    assert torch.equal(y, x)


@pytest.mark.parametrize("name", NAMES)
def test_leaves_the_identity_once_gamma_moves(name: str) -> None:
    """Or the test above would pass for a block that is never called."""
    attend = Attend(32, name).eval()
    x = image(2, 32, 13, 17)
    with torch.no_grad():
        attend.gamma.fill_(1)
        assert torch.allclose(attend(x), attend.block(x), atol=1e-5)
        attend.gamma.fill_(0.5)
        attend.train()  # an untrained norm does not scale up a small branch in eval mode
        assert not torch.allclose(attend(x), x, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_gamma_is_trained_from_the_first_step(name: str) -> None:
    attend = Attend(32, name).train()
    attend(image(2, 32, 8, 8)).square().mean().backward()
    assert attend.gamma.grad.abs().sum() > 0


def test_plain_is_the_block_itself() -> None:
    attend = Attend(32, "sk", wire="plain").eval()
    x = image(2, 32, 8, 8)
    assert attend.gamma is None
    assert Attend.GAMMA not in attend.state_dict()
    assert torch.equal(attend(x), attend.block(x))


def test_gamma_is_found_by_its_key() -> None:
    attend = Attend(32, "eca")
    assert attend.gamma is dict(attend.named_parameters())[Attend.GAMMA]
    assert attend.gamma.shape == (32,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("c2", "eca"), "channels is 'c2'"),
        ((), r"a row is written `\[-1, 1, Attend, \[c2, eca\]\]`, got \[\]"),
        (("eca",), r"a row is written `\[-1, 1, Attend, \[c2, eca\]\]`, got \['eca'\]"),
        ((32, "ecca"), "did you mean 'eca'"),
        ((32, "eca", {"kernel": 3}), "did you mean 'kernel_size'"),
        ((32, "eca", 3), "options of 'eca' are 3"),
        ((32, "eca", None, "gated"), "wire is 'gated', allowed: residual, plain"),
    ],
)
def test_wrong_arguments_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Attend(*arguments)


def test_a_wrong_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Attend\(simam\): the map has 16 channels, expected 32"):
        Attend(32, "simam")(image(1, 16, 4, 4))


@pytest.mark.parametrize("name", NAMES)
def test_building_leaves_the_random_stream_alone(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    Attend(32, name)
    assert torch.equal(torch.rand(4), expected)
    assert torch.initial_seed() == 5


def test_weights_come_from_the_ambient_seed_and_what_is_built() -> None:
    def weight(seed: int, draws: int = 0, **options: Any) -> Tensor:
        torch.manual_seed(seed)
        torch.rand(draws)
        return Attend(32, "sk", options).block.squeeze[0].weight

    assert torch.equal(weight(1), weight(1, draws=9))
    assert not torch.equal(weight(1), weight(2))
    assert not torch.equal(weight(1), weight(1, groups=16))


@pytest.mark.parametrize("name", NAMES)
def test_pickles_and_copies(name: str) -> None:
    attend = Attend(32, name, modules.spec(name).options).eval()
    nn.init.normal_(attend.gamma)
    x = image(1, 32, 9, 7)
    for other in (pickle.loads(pickle.dumps(attend)), copy.deepcopy(attend)):
        assert torch.equal(other(x), attend(x))


def yolo_with(row: list[Any], after: int, scale: str) -> dict[str, Any]:
    """YOLOv10's YAML with a row put after row `after`; what read that row reads the new one."""
    from ultralytics.nn.tasks import yaml_model_load

    cfg = yaml_model_load(f"yolov10{scale}.yaml")
    rows = [*cfg["backbone"], *cfg["head"]]

    def moved(source: Any) -> Any:
        return [moved(s) for s in source] if isinstance(source, list) else source + (source >= after)

    rows = [[moved(r[0]), *r[1:]] for r in rows]
    rows.insert(after + 1, row)
    return {**cfg, "backbone": rows[:8], "head": rows[8:]}


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    import ultralytics.nn.tasks as tasks

    monkeypatch.setattr(tasks, "Attend", Attend, raising=False)


@pytest.mark.parametrize(
    ("scale", "after", "channels"), [("n", 4, 64), ("s", 4, 128), ("n", 16, 64), ("s", 22, 512), ("n", 2, 32)]
)
def test_c2_becomes_the_channels_of_the_row_before(registered: None, scale: str, after: int, channels: int) -> None:
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel(yolo_with([-1, 1, "Attend", ["c2", "eca"]], after, scale), verbose=False).eval()
    attend = model.model[after + 1]
    assert isinstance(attend, Attend)
    assert (attend.channels, attend.name) == (channels, "eca")
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))


class Worded(nn.Module):
    """A block with a string option."""

    def __init__(self, channels: int, word: str = "none") -> None:
        super().__init__()
        self.word = word

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def test_the_parser_leaves_strings_inside_options_alone(registered: None) -> None:
    from ultralytics.nn.tasks import DetectionModel

    modules.attention("worded", paper="none", family="test")(Worded)
    try:
        row = [-1, 1, "Attend", ["c2", "worded", {"word": "act"}, "plain"]]
        model = DetectionModel(yolo_with(row, 4, "n"), verbose=False)
    finally:
        del registry._SPECS["worded"]
    assert (model.model[5].block.word, model.model[5].wire) == ("act", "plain")


def test_ultralytics_keeps_gamma_out_of_weight_decay() -> None:
    from ultralytics.engine.trainer import BaseTrainer

    trainer = BaseTrainer.__new__(BaseTrainer)
    trainer.args, trainer.data = SimpleNamespace(warmup_bias_lr=0.1), {"nc": 1}
    model = nn.Module()
    model.model = nn.Sequential(Attend(32, "sk"), Attend(32, "shuffle"))
    for name in ("SGD", "AdamW", "MuSGD"):
        trainer.model = model
        optimizer = trainer.build_optimizer(model, name=name, lr=0.01, decay=0.1)
        for attend in model.model:
            (group,) = (g for g in optimizer.param_groups if any(p is attend.gamma for p in g["params"]))
            assert (group["weight_decay"], group["param_group"]) == (0.0, "bn"), name


def test_a_checkpoint_makes_ultralytics_know_attend(tmp_path: Path) -> None:
    """Unpickling imports modules.attend, which tells Ultralytics; here without the start-up file."""
    torch.save({"model": Attend(16, "eca")}, tmp_path / "x.pt")
    code = (
        "import sys, torch, ultralytics.nn.tasks as tasks\n"
        "assert not hasattr(tasks, 'Attend')\n"
        f"torch.load({str(tmp_path / 'x.pt')!r}, weights_only=False)\n"
        "assert tasks.Attend is sys.modules['modules.attend'].Attend\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "YOLO_ATTENTION_NAS": "0"})
