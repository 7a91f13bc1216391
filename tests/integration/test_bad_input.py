"""What the user can mend: one clear message, the nearest match, exit status 2, no traceback, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import Searched, write_recipe

from nas import export, weights

Damage = Callable[[Path], object]


def edit(old: str, new: str) -> Damage:
    """Replace text in data.yaml."""
    return lambda data: data.write_text(data.read_text().replace(old, new))


def no_labels(data: Path) -> None:
    for file in data.parent.glob("labels/*/*.txt"):
        file.unlink()


def class_out_of_range(data: Path) -> None:
    (data.parent / "labels" / "train" / "0.txt").write_text("7 0.5 0.5 0.1 0.1\n")


DATASETS: dict[str, tuple[Damage, list[str]]] = {
    "no file": (lambda data: data.unlink(), ["data.yaml"]),
    "empty file": (lambda data: data.write_text(""), ["data.yaml", "NoneType"]),
    "binary": (lambda data: data.write_bytes(b"\x89PNG\r\n\x00\xff"), ["data.yaml", "not a YAML file"]),
    "broken yaml": (lambda data: data.write_text("train: [\n"), ["data.yaml", "not a YAML file"]),
    "no train key": (edit("train: images/train\n", ""), ["data.yaml", "'train:' key missing"]),
    "no val key": (edit("val: images/val\n", ""), ["data.yaml", "'val:' key missing"]),
    "no names": (edit("names:\n  0: red\n  1: green\n", ""), ["data.yaml", "names"]),
    "names no mapping": (edit("names:\n  0: red\n  1: green\n", "names: 3\n"), ["names"]),
    "names and nc of another kind": (edit("names:\n  0: red\n  1: green\n", "nc: 2\nnames: 3\n"), ["names"]),
    "names with words for numbers": (edit("  0: red", "  a: red"), ["names"]),
    "nc and names disagree": (edit("names:", "nc: 3\nnames:"), ["nc says 3 classes, names lists 2"]),
    "missing train folder": (edit("images/train", "images/nowhere"), ["nowhere"]),
    "missing val folder": (edit("images/val", "images/nowhere"), ["nowhere"]),
    "empty folder": (
        lambda data: [p.unlink() for p in data.parent.glob("images/train/*")],
        ["train", "no image"],
    ),
    "class out of range": (class_out_of_range, ["0.txt has class 7", "(0 to 1)"]),
    "no labels": (no_labels, ["not one box"]),
}

# arguments beside the good recipe -> what the message must hold
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "image size": (["imgsz=100"], ["imgsz=100", "multiple of 32", "96"]),
    "unknown option": (["--trails", "3"], ["no such option: --trails; did you mean '--trials'?"]),
    "unknown objective": (["--objectives", "map,latncy"], ["unknown objective 'latncy'", "'latency'"]),
    "only one objective": (["--objectives", "map"], ["expected map,latency"]),
    "unknown sampler": (["--sampler", "tpee"], ["sampler", "'ehvi', 'gp', 'tpe', 'nsga2' or 'random'"]),
    "unknown argument of Ultralytics": (["mosiac=1.0"], ["mosiac=1.0", "did you mean 'mosaic'?"]),
    "a value that Ultralytics refuses": (["lr0=fast"], ["lr0"]),
    "unknown optimizer": (["optimizer=Adm"], ["optimizer=Adm"]),
    "an argument decided by us": (["data=x.yaml"], ["the search decides this itself", "--data"]),
    "no key and value": (["imgsz"], ["'imgsz'", "KEY=VALUE"]),
    "no trials": (["--trials", "0"], ["trials", "greater than or equal to 1"]),
    "trials no number": (["--trials", "many"], ["--trials", "valid integer"]),
    "negative seed": (["--seed", "-1"], ["seed"]),
    "no batch": (["batch=0"], ["batch=0"]),
    "two devices": (["device=0,1"], ["device", "one device"]),
    "no such device": (["device=7"], ["device"]),
    "missing weights": (["--weights", "nowhere/best.pt"], ["nowhere/best.pt", "no such file"]),
    "unknown base": (["--base", "yolov10z.yaml"], ["yolov10z.yaml", "no such model YAML"]),
    "base that is not understood": (["--base", "rtdetr-l.yaml"], ["RTDETRDecoder", "expected a head"]),
    "unknown space": (["--space", "artcle"], ["'artcle' not found", "did you mean 'article'?"]),
    "an argument as an option": (["--imgsz", "64"], ["written KEY=VALUE: imgsz=..."]),
    "misspelt option": (["--wieghts", "x.pt"], ["no such option: --wieghts; did you mean '--weights'?"]),
    "two numbers of epochs": (["--epochs", "1", "epochs=2"], ["--epochs 1 and epochs=2"]),
    "missing recipe": (["--recipe", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
    "missing modules": (["--modules", "nowhere.py"], ["nowhere.py", "does not exist"]),
    "limit that excludes the base": (["--max-params", "1000"], ["the limits exclude the base itself"]),
    "limit of GFLOPs": (["--max-gflops", "0.0001"], ["the limits exclude the base itself"]),
    "bad name": (["--name", "a/b"], ["name", "a/b"]),
    "storage that is none": (["--storage", "nonsense"], ["storage nonsense", "cannot be used"]),
    "storage out of reach": (["--storage", "sqlite:////no/such/folder/x.db"], ["storage", "cannot be used"]),
    "unknown wire": (["--wire", "resdual"], ["wire", "'residual' or 'plain'"]),
}

SPACES: dict[str, tuple[str, list[str]]] = {
    "unknown block": ("blocks: [ecaa]\nsites: [neck.p3]\n", ["unknown block 'ecaa'", "did you mean 'eca'?"]),
    "unknown site": (
        "blocks: [eca]\nsites: [neck.p33]\n",
        ["unknown site 'neck.p33'", "did you mean 'neck.p3'?"],
    ),
    "unknown block's option": (
        "blocks: [{eca: {kernel: 3}}]\nsites: [neck.p3]\n",
        ["unknown option 'kernel'", "did you mean 'kernel_size'?"],
    ),
    "option out of its range": (
        "sites:\n  neck.p3: [{eca: {kernel_size: big}}]\n",
        ["eca: kernel_size is 'big', allowed: an odd int >= 1"],
    ),
    "block that cannot stand at its own site": (
        "max_tokens: 3\nsites:\n  neck.p3: [mhsa]\n",
        ["mhsa at neck.p3", "max_tokens is 3"],
    ),
    "no block can stand anywhere": (
        "max_tokens: 1\nblocks: [mhsa]\nsites: [neck.p3]\n",
        ["no block can stand at any of its sites"],
    ),
    "unknown key": ("block: [eca]\nsites: [neck.p3]\n", ["unknown key 'block'", "did you mean 'blocks'?"]),
    "not a space": ("- 3\n", ["expected a mapping"]),
    "list as an option": ("blocks: [{eca: {kernel_size: [3]}}]\nsites: [neck.p3]\n", ["eca"]),
}

RECIPES: dict[str, tuple[str, list[str]]] = {
    "unknown key": ("trails: 3\n", ["trails: no such field", "did you mean 'trials'?"]),
    "key that is a number": ("1: 3\n", ["1"]),
    "no mapping": ("- 1\n", ["expected a mapping"]),
    "binary": ("\x00\x01", ["not a YAML file"]),
    "train that is no mapping": ("train: 3\n", ["train"]),
}


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    """The output folder; nothing may be in it afterwards."""
    folder = tmp_path / "runs"
    yield folder
    left = [str(p.relative_to(folder)) for p in folder.rglob("*")] if folder.exists() else []
    assert left == []


@pytest.fixture
def good(tmp_path: Path, tiny_data: Path, tiny_base: Path, tiny_space: Path, output: Path) -> Path:
    """A recipe that would run."""
    return write_recipe(
        tmp_path / "good.yaml",
        data=tiny_data,
        base=tiny_base,
        space=tiny_space,
        trials=2,
        name="x",
        output=output,
    )


def assert_told(result, parts: list[str]) -> None:
    """Status 2, the message, no traceback."""
    assert result.code == 2, result.text[-2000:]
    assert "Traceback" not in result.text
    assert "error" in result.err.lower()
    for part in parts:
        assert part in " ".join(result.err.replace("│", " ").split()), result.err


@pytest.mark.parametrize("case", DATASETS)
def test_datasets(case: str, cli, good: Path, own_data: Path) -> None:
    damage, parts = DATASETS[case]
    damage(own_data)
    assert_told(cli("search", "--recipe", good, "--data", own_data), parts)


@pytest.mark.parametrize("case", COMMANDS)
def test_search_options(case: str, cli, good: Path) -> None:
    args, parts = COMMANDS[case]
    assert_told(cli("search", "--recipe", good, *args), parts)


@pytest.mark.parametrize("case", SPACES)
def test_spaces(case: str, cli, good: Path, tmp_path: Path) -> None:
    text, parts = SPACES[case]
    (tmp_path / "s.yaml").write_text(text)
    assert_told(cli("search", "--recipe", good, "--space", tmp_path / "s.yaml"), parts)


@pytest.mark.parametrize("case", RECIPES)
def test_recipes(case: str, cli, output: Path, tmp_path: Path) -> None:
    text, parts = RECIPES[case]
    (tmp_path / "r.yaml").write_text(text)
    assert_told(cli("search", "--recipe", tmp_path / "r.yaml", "--output", output), parts)


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_weights_that_are_no_checkpoint(content: bytes, cli, good: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(content)
    assert_told(cli("search", "--recipe", good, "--weights", file), ["w.pt", "not a readable Ultralytics checkpoint"])


def test_weights_that_hold_something_else(cli, good: Path, tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(3)}, file)
    assert_told(cli("search", "--recipe", good, "--weights", file), ["w.pt"])


def test_weights_of_another_architecture(cli, good: Path, tmp_path: Path) -> None:
    file = tmp_path / "v8.pt"
    export.save(file, weights.build("yolov8n.yaml", {0: "red", 1: "green"}), {})
    assert_told(cli("search", "--recipe", good, "--weights", file), ["another architecture: row"])


def test_a_base_with_a_row_that_ultralytics_does_not_know(cli, good: Path, tmp_path: Path, tiny_base: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(tiny_base.read_text().replace("SPPF, [32, 5]", "SPPFF, [32, 5]"))
    assert_told(cli("search", "--recipe", good, "--base", file), ["SPPFF"])


@pytest.mark.parametrize("text", ["backbone: 3\nhead: 4\n", "backbone: [[1, 2]]\nhead: []\n", "nc: 3\n", "", "3"])
def test_a_base_that_is_no_model(text: str, cli, good: Path, tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    assert_told(cli("search", "--recipe", good, "--base", file), [])


def test_all_faults_of_the_surroundings_are_told_at_once(cli, good: Path, own_data: Path, tmp_path: Path) -> None:
    own_data.unlink()
    (tmp_path / "s.yaml").write_text("blocks: [ecaa, cott]\nsites: [neck.p33]\n")
    result = cli(
        "search", "--recipe", good, "--data", own_data, "--space", tmp_path / "s.yaml", "--weights", "nowhere/w.pt",
        "--modules", "nowhere.py",
    )  # fmt: skip
    assert_told(result, ["data.yaml", "'ecaa'", "'cott'", "'neck.p33'", "nowhere/w.pt", "nowhere.py"])


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["export", "first", "--pick", "kne"], ["--pick 'kne'", "did you mean 'knee'?"]),
        (["export", "first", "--pick", "99"], ["trial 99 was not trained to the end", "0, 1, 2, 3"]),
        (["export", "first", "--pick", "-1"], ["--pick"]),
        (["export", "frist"], ["study 'frist' not found", "did you mean 'first'?"]),
        (["dashboard", "frist"], ["study 'frist' not found", "did you mean 'first'?"]),
        (["dashboard", "first", "--port", "0"], ["--port"]),
        (["dashboard", "first", "--storage", "nonsense"], ["storage nonsense"]),
    ],
    ids=" ".join,
)
def test_looking_at_a_study(args: list[str], parts: list[str], searched: Searched, cli, tmp_path: Path) -> None:
    extra = ["-o", tmp_path / "to"] if args[0] == "export" else []
    assert_told(cli(*args, "--output", searched.output, *extra), parts)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["show", "neck.p33=eca"], ["unknown site 'neck.p33'", "did you mean 'neck.p3'?"]),
        (["show", "neck.p3=ecaa"], ["unknown block 'ecaa'", "did you mean 'eca'?"]),
        (["show", "neck.p3=eca(kernel=3)"], ["unknown option 'kernel'", "did you mean 'kernel_size'?"]),
        (["show", "neck.p3"], ["expected SITE=BLOCK"]),
        (["show", "neck.p3=eca", "neck.p3=cot"], ["named twice"]),
        (["show", "neck.p3=eca(3)"], ["an option is written name=value"]),
        (["show", "neck.p3=eca(kernel_size=[)"], ["neck.p3"]),
        (["show", "--base", "yolov10z.yaml"], ["yolov10z.yaml"]),
        (["show", "neck.p3=eca", "--wire", "x"], ["wire 'x'"]),
        (["cost", "neck.p3=eca", "--imgsz", "100"], ["--imgsz 100", "multiple of 32"]),
        (
            ["cost", "neck.p3=eca(kernel_size=big)"],
            ['neck.p3=eca(kernel_size="big")', "eca: kernel_size is 'big', allowed: an odd int >= 1"],
        ),
        (["cost", "--device", "7"], ["device"]),
        (["spaces", "artcle"], ["did you mean 'article'?"]),
        (["modules", "show", "ecaa"], ["did you mean 'eca'?"]),
        (["modules", "check", "nowhere.py"], ["nowhere.py"]),
        (["modules", "check", "ecaa"], ["did you mean 'eca'?"]),
        (["modules", "--modules", "nowhere.py"], ["nowhere.py"]),
        (["train", "epochs=1"], ["train needs model=", "train needs data="]),
        (["train", "model=nowhere/x.pt", "data=y.yaml"], ["nowhere/x.pt: no such file"]),
        (["train", "model=yolov10n.yaml", "data=y.yaml", "epoch=3"], ["epoch=3", "did you mean 'epochs'?"]),
        (["serach"], ["serach"]),
    ],
    ids=" ".join,
)
def test_other_commands(args: list[str], parts: list[str], cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_told(cli(*args), parts)
    assert list(tmp_path.iterdir()) == []
