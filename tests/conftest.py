"""What all tests share: surroundings that are thrown away, a tiny dataset, a tiny detector, the command line."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared"
SCRATCH = Path(tempfile.mkdtemp(prefix="nas-tests-"))

# Before the first import of Ultralytics: it reads these once. Waiting threads must not spin on a busy machine.
os.environ["YOLO_CONFIG_DIR"] = str(SCRATCH / "config")
os.environ["XDG_CACHE_HOME"] = str(SCRATCH / "cache")
os.environ["MPLCONFIGDIR"] = str(SCRATCH / "matplotlib")
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "1"
for folder in ("config", "cache", "matplotlib"):
    (SCRATCH / folder).mkdir()
if str(REPO) not in sys.path:
    sys.path.insert(0, str(REPO))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import yaml  # noqa: E402
from environment import Environment, make_environment  # noqa: E402

import nas  # noqa: E402, F401  reads OMP_NUM_THREADS, which Ultralytics changes

BLOCKS = ("cot", "eca", "mhsa", "mobilevit", "parnet", "s2", "shuffle", "simam", "sk", "triplet")

TINY = """\
nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, SPPF, [32, 5]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 4], 1, Concat, [1]]
  - [-1, 1, C2f, [32]]
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 3], 1, Concat, [1]]
  - [-1, 1, C2f, [16]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [[-1, 9], 1, Concat, [1]]
  - [-1, 1, C2f, [32]]
  - [[12, 15], 1, v10Detect, [nc]]
"""
TINY_SPACE = "max_blocks: 2\nblocks: [eca, simam]\nsites: [backbone.p4, neck.p3, neck.p4]\n"


TRIALS = 4  # of the finished search that many tests look at


@dataclass(frozen=True)
class Result:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, spaces and boxes' borders squeezed."""
        return " ".join((self.out + " " + self.err).replace("│", " ").split())


def call_cli(*args: Any) -> Result:
    """Run ``python -m nas ARGS`` in this process."""
    from nas import cli

    out, err, code = io.StringIO(), io.StringIO(), 0
    with mock.patch.object(sys, "argv", ["nas", *map(str, args)]):
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as e:
                code = e.code if isinstance(e.code, int) else int(bool(e.code))
    return Result(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Searched:
    """A finished search: its folder, the recipe's file that made it, and what the command said."""

    folder: Path
    recipe: Path
    result: Result

    @property
    def output(self) -> Path:
        """Folder that holds the study's."""
        return self.folder.parent

    @property
    def study(self) -> Any:
        """The study as stored."""
        return study_in(self.folder)


def study_in(folder: Path) -> Any:
    """The study in a folder's database."""
    import optuna

    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}")


def write_recipe(path: Path, **values: Any) -> Path:
    """A recipe for the tiny detector: a trial takes about a second."""
    train = {"imgsz": 64, "batch": 4, "workers": 0, "device": "cpu"} | values.pop("train", {})
    recipe = {
        "weights": "none", "warm_epochs": 0, "epochs": 1, "latency_runs": 3, "sampler": "random", "startup": 3,
        "rungs": 1, "finalists": 0, "slots": 0,
        "train": train, **{k: str(v) if isinstance(v, Path) else v for k, v in values.items()},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(recipe))
    return path


def run_python(code: str, *args: Any, cwd: Path | None = None, timeout: float = 240) -> str:
    """Run code in a fresh interpreter that finds the repository; its standard output. Fails with its stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        cwd=cwd or SCRATCH,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def make_dataset(root: Path, train: int = 8, val: int = 4, size: int = 64) -> Path:
    """Noise with one red and one green rectangle a picture; the path of its data.yaml."""
    import cv2

    draw = np.random.default_rng(7)
    for split, count in (("train", train), ("val", val), ("test", val)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i in range(count):
            image = draw.integers(0, 60, (size, size, 3), dtype=np.uint8)
            lines = []
            for c, colour in enumerate(((40, 40, 255), (40, 255, 40))):
                w, h = draw.integers(size // 4, size // 2, 2)
                x, y = draw.integers(0, size - w), draw.integers(0, size - h)
                image[y : y + h, x : x + w] = colour
                box = (x + w / 2, y + h / 2, w, h)
                lines.append(" ".join([str(c), *(f"{v / size:.6f}" for v in box)]))
            assert cv2.imwrite(str(root / "images" / split / f"{i}.png"), image)
            (root / "labels" / split / f"{i}.txt").write_text("\n".join(lines) + "\n")
    file = root / "data.yaml"
    file.write_text("train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: red\n  1: green\n")
    return file


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the project's wheel; read only."""
    return make_environment(tmp_path_factory.mktemp("wheel") / "venv", str(REPO))


@pytest.fixture(scope="session")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the project as an editable install; read only."""
    return make_environment(tmp_path_factory.mktemp("editable") / "venv", "--editable", str(REPO))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread gives the same sums on every machine, and two test runs do not get in each other's way."""
    import torch

    torch.set_num_threads(1)
    yield
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.fixture
def cli() -> Callable[..., Result]:
    """:func:`call_cli`."""
    return call_cli


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.yaml of 8 + 4 pictures of 64 px with two classes; read only."""
    return make_dataset(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """data.yaml of a tiny dataset that a test may damage."""
    return make_dataset(tmp_path / "own", 4, 2)


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tiny dataset of a task, 16 + 8 pictures, made once; read only."""
    from task_data import make_data

    root = tmp_path_factory.mktemp("tasks")

    def of(task: str) -> Path:
        folder = root / task
        if not folder.exists():
            return make_data(folder, task, train=16, val=8)
        return folder if task == "classify" else folder / "data.yaml"

    return of


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YAML of a YOLOv10 in the small: two levels, 17 rows, both heads."""
    file = tmp_path_factory.mktemp("base") / "tiny.yaml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="session")
def tiny_space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space of 19 placements for the tiny base."""
    file = tmp_path_factory.mktemp("space") / "small.yaml"
    file.write_text(TINY_SPACE)
    return file


@pytest.fixture(scope="session")
def coco_weights() -> Path:
    """YOLOv10n trained on COCO, where it is at hand."""
    file = SHARED / "weights" / "yolov10n_coco_rebuilt.pt"
    if not file.is_file():
        pytest.skip("no trained YOLOv10n at hand")
    return file


@pytest.fixture(scope="session")
def coco_val() -> Path:
    """Folder with images/val and labels/val of 128 COCO pictures, where it is at hand."""
    folder = SHARED / "data" / "coco128-val"
    if not (folder / "images" / "val").is_dir():
        pytest.skip("no COCO pictures at hand")
    return folder


@pytest.fixture(scope="session")
def searched(
    tmp_path_factory: pytest.TempPathFactory, tiny_data: Path, tiny_base: Path, tiny_space: Path
) -> Iterator[Searched]:
    """A search of four placements with three objectives; read only, copy it with :func:`copied`."""
    root = tmp_path_factory.mktemp("searched")
    recipe = write_recipe(
        root / "recipe.yaml", data=tiny_data, base=tiny_base, space=tiny_space, trials=TRIALS,
        name="first", output=root / "runs", objectives=["map", "latency", "gflops"],
    )  # fmt: skip
    result = call_cli("search", "--recipe", recipe)
    assert result.code == 0, result.text[-3000:]
    yield Searched(root / "runs" / "first", recipe, result)


@pytest.fixture
def copied(searched: Searched, tmp_path: Path) -> Searched:
    """The finished search in a folder of this test's own."""
    shutil.copytree(searched.output, tmp_path / "runs")
    recipe = yaml.safe_load(searched.recipe.read_text()) | {"output": str(tmp_path / "runs")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return Searched(tmp_path / "runs" / "first", tmp_path / "recipe.yaml", searched.result)
