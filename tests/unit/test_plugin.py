"""Ultralytics knows the row `Attend`: in whatever order things are imported, at every scale, and from a `.pt` alone.

And where the project is installed, with no import of ours at all.
"""

from __future__ import annotations

from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from conftest import run_python
from environment import Environment, make_environment
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from nas import export, graph, weights
from search_spaces import Placement

BUILD = """
import sys
from ultralytics.nn.tasks import DetectionModel
text = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Attend", ["c2", "eca"]]],
        "head": [[-1, 1, "Conv", [16, 3, 2]], [[0, 2], 1, "Detect", ["nc"]]]}
model = DetectionModel(text, verbose=False)
assert type(model.model[1]).__name__ == "Attend" and model.model[1].channels == 16
assert hasattr(DetectionModel.fuse, "__wrapped__")  # ours, which folds the blocks
assert not [f for f in sys.meta_path if type(f).__module__.startswith(("nas", "yolo_attention_nas"))]
"""


@pytest.mark.parametrize(
    "first",
    [
        "import nas, ultralytics",
        "import ultralytics, nas",
        "import ultralytics.nn.tasks, nas",
        "import nas, nas.plugin",
        "import modules, nas; modules.Attend",
    ],
)
def test_in_whatever_order_they_are_imported(first: str) -> None:
    run_python(f"{first}\n{BUILD}")


def test_registering_again_changes_nothing() -> None:
    run_python(
        "import nas, sys\nbefore = list(sys.meta_path)\nnas.register()\nassert sys.meta_path == before\n" + BUILD
    )


@pytest.mark.parametrize(("scale", "wide"), [("n", (32, 64, 64)), ("s", (64, 128, 128))])
def test_the_parser_turns_c2_into_the_channels_of_the_row_before(scale: str, wide: tuple[int, ...]) -> None:
    """A habit of Ultralytics' parser that one YAML for all scales stands on."""
    text = graph.insert(
        yaml_model_load("yolov10n.yaml"),
        Placement.of({"backbone.p2": "eca", "backbone.p3": "sk", "neck.p3": "cot"}),
    ).yaml
    text |= {"scales": {"n": [0.33, 0.25, 1024], "s": [0.33, 0.5, 1024]}, "scale": scale}
    model = DetectionModel(text, verbose=False)
    found = [m for m in model.model if type(m).__name__ == "Attend"]
    assert tuple(m.channels for m in found) == wide


def test_a_saved_checkpoint_trains_where_only_ultralytics_is_imported(
    tmp_path: Path, tiny_base: Path, tiny_data: Path
) -> None:
    graft = graph.insert(yaml_model_load(tiny_base), Placement.of({"neck.p3": "eca", "backbone.p4": "simam"}))
    model = weights.build(graft.yaml, {0: "red", 1: "green"})
    file = tmp_path / "point.pt"
    export.save(file, model, {"data": str(tiny_data), "imgsz": 64})
    run_python(
        "import sys, torch\n"
        "from ultralytics import YOLO\n"
        "file, data, out = sys.argv[1:]\n"
        "assert 'nas' not in sys.modules\n"
        "model = YOLO(file)\n"
        "kinds = [type(m).__name__ for m in model.model.model]\n"
        "assert kinds.count('Attend') == 2 and model.names == {0: 'red', 1: 'green'}\n"
        "model.predict(torch.zeros(1, 3, 64, 64), verbose=False)\n"
        "model.train(data=data, epochs=1, imgsz=64, batch=4, workers=0, device='cpu', plots=False, project=out)\n"
        "kinds = [type(m).__name__ for m in YOLO(model.trainer.last).model.model]\n"
        "assert kinds.count('Attend') == 2\n",
        file,
        tiny_data,
        tmp_path / "out",
    )


STARTUP = "yolo_attention_nas_startup"
OURS = f"{{m for m in sys.modules if m.split('.')[0] in ('nas', 'modules', 'search_spaces', '{STARTUP}')}}"
FAKE = """
import sys
import {0} as startup
mine = [f for f in sys.meta_path if type(f) is startup.AfterImport]
assert len(mine) == 1, sys.meta_path
"""


@pytest.fixture(params=["installed", "editable"])
def environment(request: pytest.FixtureRequest) -> Environment:
    """An environment with the project, by its wheel and editable."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder with an `ultralytics.nn.tasks` and a `torch.nn` that load in no time."""
    for package in ("ultralytics", "ultralytics/nn", "torch"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "ultralytics/nn/tasks.py").write_text("import os\nassert 'FAIL' not in os.environ\nvalue = 1\n")
    (tmp_path / "torch/nn.py").write_text("class Module: pass\n")
    return tmp_path


def test_the_start_up_files_are_installed_and_leave_with_the_project(environment: Environment) -> None:
    files = [f"{STARTUP}.pth", f"{STARTUP}.py"]
    assert [f for f in files if (environment.packages / f).is_file()] == files
    recorded = PathDistribution(next(environment.packages.glob("yolo_attention_nas-*.dist-info"))).files or []
    assert set(files) <= {str(f) for f in recorded}


def test_plain_ultralytics_builds_our_row(environment: Environment) -> None:
    environment.run("-c", BUILD)


def test_a_process_without_ultralytics_imports_the_start_up_file_only(environment: Environment, tmp_path: Path) -> None:
    bare = make_environment(tmp_path / "venv")
    code = "import sys; print(*sorted(sys.modules))"
    assert set(environment.run("-c", code).split()) - set(bare.run("-c", code).split()) == {STARTUP}


def test_ultralytics_alone_imports_no_package_of_ours(installed: Environment, fake: Path) -> None:
    code = f"import sys, ultralytics.nn.tasks as t; assert t.Attend; assert {OURS} == {{'{STARTUP}'}}, {OURS}"
    installed.run("-c", code, PYTHONPATH=str(fake))


@pytest.mark.parametrize(("flag", "there"), [("-I", True), ("-E", True), ("-P", True), ("-O", True), ("-S", False)])
def test_flags_of_python(installed: Environment, flag: str, there: bool) -> None:
    installed.run(flag, "-c", f"import sys; assert ('{STARTUP}' in sys.modules) is {there}")


def test_a_spawned_process_knows_the_row(installed: Environment, tmp_path: Path, fake: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import multiprocessing\n"
        "def known():\n"
        "    import ultralytics.nn.tasks as tasks\n"
        "    return str(tasks.Attend)\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(known))\n"
    )
    assert "modules.attend.Attend" in installed.run(tmp_path / "script.py", PYTHONPATH=str(fake))


@pytest.mark.parametrize("value", ["0", "false", "OFF"])
def test_a_variable_turns_it_off(installed: Environment, fake: Path, value: str) -> None:
    code = "import sys, ultralytics.nn.tasks as tasks; assert not hasattr(tasks, 'Attend')\nassert not "
    installed.run("-c", code + "[f for f in sys.meta_path if type(f).__module__.startswith('yolo_att')]",
                  PYTHONPATH=str(fake), YOLO_ATTENTION_NAS=value)  # fmt: skip


def test_turned_off_an_import_of_ours_still_tells(installed: Environment) -> None:
    installed.run("-c", f"import nas\n{BUILD}", YOLO_ATTENTION_NAS="0")


def test_a_look_for_the_module_before_its_import_takes_nothing_away(installed: Environment, fake: Path) -> None:
    installed.run("-c", FAKE.format(STARTUP) + (
        "from importlib.util import find_spec\n"
        "assert find_spec('ultralytics.nn.tasks') and find_spec('ultralytics.nn.tasks')\n"
        "import ultralytics.nn.tasks as tasks\n"
        "assert tasks.Attend and tasks.value == 1 and mine[0] not in sys.meta_path\n"
    ), PYTHONPATH=str(fake))  # fmt: skip


def test_a_failed_import_may_be_tried_again(installed: Environment, fake: Path) -> None:
    installed.run("-c", FAKE.format(STARTUP) + (
        "import os\n"
        "os.environ['FAIL'] = '1'\n"
        "try:\n    import ultralytics.nn.tasks\nexcept AssertionError:\n    del os.environ['FAIL']\n"
        "import ultralytics.nn.tasks as tasks\n"
        "assert tasks.Attend\n"
    ), PYTHONPATH=str(fake))  # fmt: skip


def test_the_module_keeps_its_own_loader(installed: Environment, fake: Path) -> None:
    installed.run("-c", (
        "import inspect, ultralytics.nn.tasks as tasks\n"
        "from importlib.machinery import SourceFileLoader\n"
        "assert type(tasks.__loader__) is type(tasks.__spec__.loader) is SourceFileLoader\n"
        "assert 'value = 1' in inspect.getsource(tasks)\n"
    ), PYTHONPATH=str(fake))  # fmt: skip


def test_a_fault_of_ours_is_silent_and_written_down(installed: Environment, fake: Path, tmp_path: Path) -> None:
    (fake / "torch" / "nn.py").write_text("")  # the stand-in has no base
    code = "import ultralytics.nn.tasks as tasks; assert tasks.value == 1 and not hasattr(tasks, 'Attend')"
    assert installed.run("-c", code, PYTHONPATH=str(fake), XDG_CACHE_HOME=str(tmp_path / "cache")) == ""
    told = (tmp_path / "cache" / "yolo-attention-nas" / "startup-fault.txt").read_text()
    assert "AttributeError" in told and "Module" in told and str(installed.python) in told
    (tmp_path / "cache").rename(tmp_path / "gone")
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert installed.run("-c", code, PYTHONPATH=str(fake), XDG_CACHE_HOME=str(tmp_path / "cache")) == ""


def test_a_strangers_package_of_the_same_name_stays_in_peace(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "__init__.py").write_text("raise SystemExit('imported unasked')")
    (tmp_path / "modules" / "mine.py").write_text("value = 7\n")
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\n"
        "from ultralytics.nn.tasks import DetectionModel\n"
        "DetectionModel({'nc': 2, 'backbone': [[-1, 1, 'Conv', [8, 3, 2]]], 'head': [[[0], 1, 'Detect', ['nc']]]})\n"
        "rows = [[-1, 1, 'Conv', [8, 3, 2]], [-1, 1, 'Attend', ['c2', 'eca']]]\n"
        "try:\n"
        "    DetectionModel({'nc': 2, 'backbone': rows, 'head': [[[0], 1, 'Detect', ['nc']]]})\n"
        "except ImportError as e:\n"
        "    assert str(Path('modules', '__init__.py').resolve()) in str(e), e\n"
        "else:\n"
        "    raise SystemExit('built from where?')\n"
        "Path('modules', '__init__.py').write_text('')\n"
        "import modules.mine\n"
        "assert modules.mine.value == 7\n"
    )
    installed.run(tmp_path / "script.py", cwd=tmp_path)
