"""What leaves a study: a bundle that needs Ultralytics alone, a placement on another base, a card that says no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import ultralytics
import yaml
from conftest import SCRATCH, TINY, Result, Searched, study_in
from optuna.trial import create_trial
from ultralytics.nn.tasks import DetectionModel, load_checkpoint

from modules import registry
from nas import bundle, export, graph, plug_ins, setting, weights
from search_spaces import Placement

PLACED = {"backbone.p4": "cbam", "neck.p3": {"eca": {"kernel_size": 5}}}
NAMES = {0: "red", 1: "green"}
WIDE = TINY.replace("[16", "[24").replace("[32", "[48")

# Runs several commands of a bundle in one process that cannot import the project.
ALONE = """
import importlib, json, runpy, sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modules", "nas", "search_spaces", "yolo_attention_nas_startup"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
script, folders, commands = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
sys.path[:] = [p for p in sys.path if p] + folders
sys.argv[:] = [script, *commands[0]]
runpy.run_path(script, run_name="__main__")
for command in commands[1:]:
    sys.argv[:] = [script, *command]
    importlib.import_module(script.split("/")[-1][:-3]).main()
left = sorted(m for m in sys.modules if m.split(".")[0] in ("modules", "nas", "search_spaces"))
assert not left, left
"""


def add(folder: Path, blocks: dict[str, object]) -> int:
    """Tell a study of one more trial, as good as its first one; its number."""
    study, placement = study_in(folder), Placement.from_json(blocks)
    like = study.trials[0]
    said = {"placement": placement.to_json(), "placement_id": placement.id, "label": placement.label}
    study.add_trial(
        create_trial(
            values=like.values, params=like.params, distributions=like.distributions,
            user_attrs=like.user_attrs | said,
        )
    )  # fmt: skip
    return len(study.trials) - 1


@pytest.fixture
def placed(copied: Searched) -> tuple[Searched, int]:
    """A study with a trial of two blocks whose weights are kept, every gamma off zero; and its number."""
    number, study = add(copied.folder, PLACED), study_in(copied.folder)
    model = weights.build(graph.insert(study.user_attrs["base_yaml"], Placement.from_json(PLACED)).yaml, NAMES)
    torch.manual_seed(3)
    for name, p in model.named_parameters():
        if name.endswith("gamma_logit_scale"):
            p.data.normal_()
    export.keep(copied.folder, number, model, {"data": study.user_attrs["recipe"]["data"], "imgsz": 64})
    return copied, number


def exported(cli, placed: tuple[Searched, int], *args: object) -> Result:
    """`export` of the placed trial."""
    return cli("export", placed[0].folder, "--pick", placed[1], *args)


def alone(script: Path, cwd: Path, *commands: list[str]) -> None:
    """Run commands of a bundle where the project cannot be imported."""
    folders = {str(Path(p)) for p in sys.path if p.endswith(("site-packages", "dist-packages"))}
    folders.add(str(Path(ultralytics.__file__).parents[1]))
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, str(script), json.dumps(sorted(folders)), json.dumps(commands)],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]


def test_a_bundle_needs_ultralytics_alone(placed, cli, tmp_path: Path, tiny_data: Path) -> None:
    result = exported(cli, placed, "--bundle", tmp_path / "b")
    assert result.code == 0, result.text
    there = {p.suffix: p for p in (tmp_path / "b").iterdir() if p.name != "README.md"}
    assert set(there) == {".yaml", ".pt", ".py", ".md"}
    script = there[".py"]
    assert script.stem == f"attend_{Placement.from_json(PLACED).id}"
    for file in (there[".yaml"], there[".md"], script, tmp_path / "b" / "README.md"):
        assert str(tiny_data.parent) not in file.read_text() and str(SCRATCH) not in file.read_text()
    assert (
        bundle.named_modules(there[".pt"]) & {script.stem} and str(tiny_data).encode() not in there[".pt"].read_bytes()
    )
    work = tmp_path / "elsewhere"
    work.mkdir()
    train = [f"data={tiny_data}", "epochs=1", "imgsz=64", "batch=4", "workers=0", "device=cpu", "plots=False",
             f"project={work / 'runs'}"]  # fmt: skip
    best = work / "runs" / "pt" / "weights" / "best.pt"
    alone(
        script,
        work,
        ["detect", "train", f"model={there['.yaml']}", *train, "name=yaml"],
        ["detect", "train", f"model={there['.pt']}", *train, "name=pt"],
        ["predict", f"model={best}", f"source={tiny_data.parent / 'images' / 'val'}", "imgsz=64", "device=cpu"],
        ["export", f"model={best}", "format=onnx", "imgsz=64", "device=cpu"],
    )
    assert best.with_suffix(".onnx").is_file()
    assert (work / "runs" / "yaml" / "weights" / "last.pt").is_file()
    assert script.stem in bundle.named_modules(best), "what it trained names the file's classes"


def test_a_bundles_weights_are_the_very_ones(placed, cli, tmp_path: Path, monkeypatch) -> None:
    assert exported(cli, placed, "--bundle", tmp_path / "b", "-o", tmp_path / "o").code == 0
    (ours,), (theirs,) = (tmp_path / "o").glob("*.pt"), (tmp_path / "b").glob("*.pt")
    one, _ = load_checkpoint(ours)
    from nas.onefile.block_file import block_file

    with bundle.imported(block_file(Placement.from_json(PLACED))) as made:
        two, checkpoint = load_checkpoint(theirs)
        assert [m for m in two.model if isinstance(m, made.Attend)] and not any(
            type(m).__module__.startswith("modules") for m in two.modules()
        )
        assert list(two.state_dict()) == list(one.state_dict())
        image = torch.rand(1, 3, 64, 96)
        with torch.no_grad():
            assert export.same(one(image), two(image))
        assert [m.eps for m in two.modules() if hasattr(m, "eps")] == [
            m.eps for m in one.modules() if hasattr(m, "eps")
        ]
        assert checkpoint["train_args"]["data"] == "data.yaml"


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers and imports is forgotten."""
    before, names = set(sys.modules), dict(registry._SPECS)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_own"):
            del sys.modules[name]
    registry._SPECS.clear()
    registry._SPECS.update(names)


def test_a_users_own_block_is_bundled(copied: Searched, forgotten, cli, tmp_path: Path, tiny_data: Path) -> None:
    own = tmp_path / "my_own.py"
    own.write_text(
        "from torch import Tensor, nn\nfrom modules import attention\nfrom modules.forms import Gate\n\n\n"
        '@attention("own_gate", paper="none", family="channel")\nclass OwnGate(Gate):\n    """A gate."""\n\n'
        "    def __init__(self, channels: int) -> None:\n        super().__init__()\n"
        "        self.conv = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))\n\n"
        "    def gate(self, x: Tensor) -> Tensor:\n        return self.conv(x).sigmoid()\n"
    )
    registry.load(own)
    study, placement = study_in(copied.folder), Placement.from_json({"neck.p4": "own_gate"})
    study.set_user_attr("recipe", study.user_attrs["recipe"] | {"modules": [str(own)]})
    study.set_user_attr("identity", study.user_attrs["identity"] | {"modules": [setting._digest(own)]})
    plug_ins.announce([own], print)  # as a search with --modules does
    number = add(copied.folder, placement.to_json())
    model = weights.build(graph.insert(study.user_attrs["base_yaml"], placement).yaml, NAMES)
    export.keep(copied.folder, number, model, {"imgsz": 64})
    result = cli("export", copied.folder, "--pick", number, "--bundle", tmp_path / "b")
    assert result.code == 0, result.text
    (script,), (trained,) = (tmp_path / "b").glob("*.py"), (tmp_path / "b").glob("*.pt")
    assert "my_own" not in bundle.named_modules(trained)
    picture = tiny_data.parent / "images" / "val" / "0.png"
    alone(script, tmp_path, ["predict", f"model={trained}", f"source={picture}", "imgsz=64", "device=cpu"])
    own.unlink()
    del sys.modules["my_own"]
    result = cli("export", copied.folder, "--pick", number, "--bundle", tmp_path / "c")
    assert result.code == 2 and "my_own.py' does not exist" in result.text


def test_other_processes_of_a_training_know_the_blocks(placed, cli, tmp_path: Path, tiny_data: Path) -> None:
    """A multi-GPU training starts Python anew with a file that Ultralytics writes; here that file alone is run."""
    assert exported(cli, placed, "--bundle", tmp_path / "b").code == 0
    (script,), (model,) = (tmp_path / "b").glob("*.py"), (tmp_path / "b").glob("*.yaml")
    code = (
        "import json, subprocess, sys\n"
        f"sys.path[:0] = [{str(script.parent)!r}]\n"
        f"import {script.stem}\n"
        "from ultralytics.models.yolo.detect import DetectionTrainer\n"
        "from ultralytics.utils.dist import generate_ddp_file\n"
        f"trainer = DetectionTrainer(overrides=dict(model={str(model)!r}, data={str(tiny_data)!r}, epochs=1,\n"
        "    imgsz=64, batch=4, workers=0, device='cpu', plots=False, val=False,\n"
        f"    project={str(tmp_path / 'ddp')!r}, name='x'))\n"
        "print('FILE', generate_ddp_file(trainer))\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = lambda *args: subprocess.run(args, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200)  # noqa: E731
    made = run(sys.executable, "-c", code)
    assert made.returncode == 0, made.stderr[-2000:]
    file = made.stdout.split("FILE ")[1].strip()
    done = run(sys.executable, file)
    assert done.returncode == 0, done.stderr[-2000:]
    assert script.stem in bundle.named_modules(tmp_path / "ddp" / "x" / "weights" / "last.pt")


def test_a_bundle_is_written_over_itself_and_nothing_else(placed, cli, tmp_path: Path) -> None:
    for _ in range(2):
        assert exported(cli, placed, "--bundle", tmp_path / "b").code == 0
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "README.md").write_text("mine")
    result = exported(cli, placed, "--bundle", tmp_path / "c")
    assert (result.code, (tmp_path / "c" / "README.md").read_text()) == (2, "mine")
    assert "holds something else" in result.text
    (card,) = (p for p in (tmp_path / "b").glob("*.md") if p.name != "README.md")
    card.write_text(card.read_text().replace("study `first`", "study `other`"))
    assert "of another study" in exported(cli, placed, "--bundle", tmp_path / "b").text


def test_the_untouched_base_is_no_bundle(searched: Searched, cli, tmp_path: Path) -> None:
    result = cli("export", searched.folder, "--pick", "0", "--bundle", tmp_path / "b")
    assert (result.code, (tmp_path / "b").exists()) == (2, False)
    assert "this is the untouched base" in result.text


@pytest.fixture
def wide(tmp_path: Path) -> tuple[Path, Path]:
    """Another scale of the tiny base, and weights of it."""
    (tmp_path / "wide.yaml").write_text(WIDE)
    model = weights.build(str(tmp_path / "wide.yaml"), {0: "a", 1: "b", 2: "c"}, seed=5)
    export.save(tmp_path / "wide.pt", model, {}, half=False)
    return tmp_path / "wide.yaml", tmp_path / "wide.pt"


@pytest.mark.parametrize("given", ["base and weights", "weights", "base"])
def test_a_placement_on_another_base(given: str, placed, cli, tmp_path: Path, wide: tuple[Path, Path]) -> None:
    base, start = wide
    args = (["--base", base] if "base" in given else []) + (["--weights", start] if "weights" in given else [])
    result = exported(cli, placed, *args, "-o", tmp_path / "o")
    assert result.code == 0, result.text
    (file,) = (tmp_path / "o").glob("*.yaml")
    assert file.stem == f"trial-{placed[1]}-{Placement.from_json(PLACED).id}-wide"
    built = DetectionModel(str(file), verbose=False)
    assert [m.channels for m in built.model if type(m).__name__ == "Attend"] == [48, 24]
    assert built.yaml["nc"] == (3 if "weights" in given else 2)
    card, text = json.loads(file.with_suffix(".json").read_text()), file.with_suffix(".md").read_text()
    assert card["cost"]["params"] == sum(p.numel() for p in built.parameters())
    assert card["cost"]["gflops"] > card["base"]["cost"]["gflops"] > card["searched_on"]["cost"]["gflops"]
    assert card["score"] is None and "over_base" not in card and "values" not in card
    assert card["searched_on"]["base"] == "tiny" and card["searched_on"]["score"]["split"] == "val"
    assert "no mAP50-95 of this model is known" in text and "model-index" not in text
    assert file.with_suffix(".pt").is_file() is ("weights" in given)
    if "weights" in given:
        one, _ = load_checkpoint(start)
        two, _ = load_checkpoint(file.with_suffix(".pt"))
        image = torch.rand(1, 3, 96, 64)
        with torch.no_grad():
            assert export.same(one(image), two(image))
        assert two.names == {0: "a", 1: "b", 2: "c"}
        assert f"{len(one.state_dict())}/{len(one.state_dict())} tensors of the base carried over" in result.text


def test_another_scale_of_one_yaml(placed, cli, tmp_path: Path) -> None:
    """Ultralytics reads the scale from the file's name, ours too."""
    result = exported(cli, placed, "--base", "yolov10s.yaml", "--bundle", tmp_path / "b", "-o", tmp_path / "o")
    assert result.code == 0, result.text
    for file in (*(tmp_path / "o").glob("*.yaml"), *(tmp_path / "b").glob("*.yaml")):
        assert file.stem.endswith("-yolov10s")
        built = DetectionModel(str(file), verbose=False)
        assert [m.channels for m in built.model if type(m).__name__ == "Attend"] == [256, 128]


def test_all_faults_of_another_base_at_once(placed, cli, tmp_path: Path) -> None:
    # no second level: neither backbone.p4 nor anything of a width that kernels of 5 need
    rows = yaml.safe_load(TINY)
    one_level = {
        "nc": 2,
        "backbone": rows["backbone"][:4],
        "head": [[-1, 1, "C2f", [16]], [[-1], 1, "v10Detect", ["nc"]]],
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(one_level))
    result = exported(cli, placed, "--base", tmp_path / "small.yaml", "--weights", "nowhere.pt", "-o", tmp_path / "o")
    assert (result.code, (tmp_path / "o").exists()) == (2, False)
    assert "nowhere.pt: no such file" in result.text
    assert "unknown site 'backbone.p4'" in result.text


def test_weights_of_another_scale_are_refused(placed, cli, tmp_path: Path, wide, tiny_base: Path) -> None:
    result = exported(cli, placed, "--base", tiny_base, "--weights", wide[1], "-o", tmp_path / "o")
    assert (result.code, (tmp_path / "o").exists()) == (2, False)
    assert "another architecture or scale" in result.text


def test_a_base_that_is_none(placed, cli, tmp_path: Path) -> None:
    result = exported(cli, placed, "--base", "nowhere.yaml", "-o", tmp_path / "o")
    assert result.code == 2 and "nowhere.yaml: no such model YAML" in result.text


def test_the_limit_on_tokens_is_that_of_the_space(copied: Searched, cli, tmp_path: Path) -> None:
    space = tmp_path / "narrow.yaml"
    space.write_text("max_tokens: 4\nblocks: [mhsa]\nsites: [neck.p3]\n")
    study = study_in(copied.folder)
    study.set_user_attr("recipe", study.user_attrs["recipe"] | {"space": str(space)})
    number = add(copied.folder, {"neck.p3": "mhsa"})
    result = cli("export", copied.folder, "--pick", number, "--base", "yolov10s.yaml", "-o", tmp_path / "o")
    assert result.code == 2 and "the space's max_tokens is 4" in result.text


def test_the_card_says_what_was_measured_and_how(searched: Searched, cli, tmp_path: Path) -> None:
    trial = export.front_trials(searched.study)[0]
    assert cli("export", searched.folder, "--pick", trial.number, "-o", tmp_path).code == 0
    (file,) = tmp_path.glob("*.md")
    text, score = file.read_text(), trial.user_attrs["score"]
    front = yaml.safe_load(text.split("---")[1])
    assert (front["license"], front["library_name"], front["pipeline_tag"]) == (
        "agpl-3.0", "ultralytics", "object-detection",
    )  # fmt: skip
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(score["value"], abs=1e-5)
    latency = trial.user_attrs["cost"]["latency"]
    for part in (
        f"{score['value']:.4f}", "NMS-free head", "on val of", "64 px", "1 epoch from", "seed 0",
        f"{trial.user_attrs['cost']['params']:,}", "GFLOPs: thop", f"{latency['ratio']:.3f}", "IQR", "float32",
        "1 thread,", searched.study.user_attrs["identity"]["data"], "AGPL-3.0-or-later", "yolo detect train model=",
    ):  # fmt: skip
        assert part in text, part
    if trial.user_attrs["placement"]:
        assert "One short training with one seed proves no" in text
    assert str(searched.output) not in text


def test_help_names_the_options(cli) -> None:
    text = cli("export", "--help").text
    assert all(option in text for option in ("--base", "--weights", "--bundle"))
