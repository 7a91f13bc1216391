"""The single file of a bundle: every block in it is the very block, and it knows nothing of ours."""

from __future__ import annotations

import ast
import copy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import REPO

import modules
from modules import registry
from nas.bundle import imported
from nas.catalogue import builtin
from nas.onefile.block_file import BlockFile, block_file
from nas.onefile.flatten import FlattenError
from nas.onefile.scopes import reads
from search_spaces import Placement

HELPERS = "from torch import Tensor, nn\nfrom modules import attention, deploy\nfrom modules.forms import Gate\n"

BLOCKS = tuple(spec.name for spec in builtin())  # other tests register blocks of their own


def file_of(*blocks: str) -> BlockFile:
    """The file for these blocks with their default options."""
    return block_file(Placement.of({f"site{i}": block for i, block in enumerate(blocks)}))


@pytest.fixture(scope="module")
def together() -> Iterator[ModuleType]:
    """One file with all blocks, where names of different files meet."""
    with imported(file_of(*BLOCKS)) as made:
        yield made


def shaken(block: torch.nn.Module) -> torch.nn.Module:
    """A block off its start: its parameters, gamma among them, and its running statistics moved."""
    torch.manual_seed(1)
    with torch.no_grad():
        for value in block.state_dict().values():
            if value.is_floating_point():
                value.add_(0.2 * torch.rand_like(value))
    return block


def assert_same(made: ModuleType, name: str) -> None:
    """Same keys, and the same values to the bit: in training, in evaluation, folded."""
    ours = shaken(modules.Attend(32, name))
    theirs = made.Attend(32, name)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 32, 7, 9, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(theirs(x), ours(x)), "in training"
        ours.eval(), theirs.eval()
        plain = ours(x)
        assert torch.equal(theirs(x), plain), "in evaluation"
        assert not torch.equal(plain, x)
        ours.fold(), theirs.fold()
        assert list(theirs.state_dict()) == list(ours.state_dict())
        assert torch.equal(theirs(x), ours(x)), "folded"


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_of_its_own_file_is_the_very_block(name: str) -> None:
    file = file_of(name)
    found = {n.module or "" if isinstance(n, ast.ImportFrom) else n.names[0].name
             for n in ast.walk(ast.parse(file.text)) if isinstance(n, ast.Import | ast.ImportFrom)}  # fmt: skip
    assert {x.split(".")[0] for x in found} <= {"torch", "ultralytics", "__future__", *sys.stdlib_module_names}
    assert file.needs == ()
    with imported(file) as made:
        assert_same(made, name)
        types = {type(m).__module__.split(".")[0] for m in made.Attend(32, name).modules()}
    assert types <= {file.module, "torch"}


@pytest.mark.parametrize("name", BLOCKS)
def test_all_blocks_in_one_file(name: str, together: ModuleType) -> None:
    assert_same(together, name)


def test_the_files_are_as_a_linter_wants_them(tmp_path: Path) -> None:
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("no ruff at hand")
    for name in BLOCKS:
        (tmp_path / f"attend_{name}.py").write_text(file_of(name).text)
    (tmp_path / "attend_all.py").write_text(file_of(*BLOCKS).text)
    config = ["--config", str(REPO / "pyproject.toml"), "--no-cache", str(tmp_path)]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *command, *config], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_file_says_what_it_is(together: ModuleType) -> None:
    text = file_of("eca", "swin").text
    assert text.startswith("# SPDX-License-Identifier: AGPL-3.0-or-later\n")
    assert "arXiv:1910.03151" in text and "arXiv:2103.14030" in text
    for gone in ("modules.", "@attention", "@counted", "Annotated", "registry", "type: ignore"):
        assert gone not in text, gone
    with pytest.raises(ValueError, match=r"no block 'nowhere' in attend_\w+.py, which has: a2, "):
        together.Attend(32, "nowhere")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a user's own file of blocks is written; what it registers is forgotten afterwards."""
    before, names = set(sys.modules), dict(registry._SPECS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "own_blocks.py"
    for name in set(sys.modules) - before:
        del sys.modules[name]
    registry._SPECS.clear()
    registry._SPECS.update(names)


def test_a_users_own_block_comes_along(mine: Path) -> None:
    mine.write_text(
        '"""Mine."""\n'
        "import math\nfrom typing import Annotated\n"
        "import torch\nfrom torch import Tensor, nn\n\n"
        "from modules import attention, deploy\nfrom modules.checks import Count, Int, divisor as part\n"
        "from modules.forms import Gate as Weigh\nfrom modules.layers import conv_norm\n\n"
        "Width = Annotated[int, Int(2)]\nFACTOR = math.e  # of all\n\n\n"
        "# Twice as much\ndef mean(x: Tensor) -> Tensor:\n    return 2 * x.mean((2, 3), keepdim=True) * FACTOR\n\n\n"
        "class Gate(nn.Sequential):\n    pass\n\n\n"
        '@attention("own", paper="none", family="channel")\n'
        "class Own(Weigh):\n"
        '    """Mine."""\n\n'
        "    def __init__(self, channels: int, width: Width = 4, groups: Count = 8) -> None:\n"
        "        super().__init__()\n"
        "        self.net = Gate(conv_norm(channels, width), nn.Conv2d(width, channels, 1))\n"
        "        self.groups = part(channels, groups)\n\n"
        "    def gate(self, x: Tensor) -> Tensor:\n"
        "        fold = [mean(x) for x in x.chunk(self.groups, 1)]\n"
        "        return self.net(torch.cat(fold, 1)).sigmoid()\n\n"
        "    def fold(self) -> None:\n"
        "        fold = self.net[0]\n        deploy.fold(fold)\n"
    )
    registry.load(mine)
    file = file_of("own", "eca")
    assert "# Twice as much\n" in file.text
    with imported(file) as made:
        assert_same(made, "own")
        assert_same(made, "eca")
        assert made.OwnBlocksGate is not made.Gate


CANNOT = {
    "star": ("from math import *\n", "a star cannot be resolved"),
    "relative": ("from .x import y\n", "relative import"),
    "in an if": (
        "import sys\nif sys:\n    def late(x):\n        return x\n",
        "'late' is defined by no plain statement",
    ),
    "module as a value": ("from modules import layers\nlate = layers\n", "'layers' is used as a value"),
    "our search": ("from nas.errors import InputError as late\n", "imports 'nas'"),
    "a file beside": ("from beside_it import late\n", "imports 'beside_it', which is no installed package"),
    "import of ours": ("import modules.layers\nlate = None\n", "write `from modules.layers import ...`"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_stand_in_one_file_is_told(case: str, mine: Path) -> None:
    extra, part = CANNOT[case]
    (mine.parent / "beside_it.py").write_text("late = 1\n")
    text = (
        HELPERS + (extra if case != "relative" else "")
        + '@attention("own", paper="none", family="channel")\nclass Own(Gate):\n'
        + '    """Mine."""\n    def __init__(self, channels: int) -> None:\n        super().__init__()\n'
        + "    def gate(self, x: Tensor) -> Tensor:\n        return (x, late)[0]\n"
    )  # fmt: skip
    mine.write_text(text)
    registry.load(mine)
    if case == "relative":  # it would not load
        mine.write_text(extra + text)
    with pytest.raises(FlattenError, match=part):
        file_of("own")


def test_a_class_inside_a_function_cannot(mine: Path) -> None:
    mine.write_text(
        HELPERS + "def make():\n"
        '    @attention("own", paper="none", family="channel")\n'
        "    class Own(Gate):\n        def __init__(self, channels: int) -> None:\n            super().__init__()\n"
        "make()\n"
    )
    registry.load(mine)
    with pytest.raises(FlattenError, match=r"block 'own': its class make.<locals>.Own"):
        file_of("own")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(a, b=c, *d, e: g = 1, **h) -> i: return a + b + d + e + h + j", "c g i j"),
        ("class A(b, c=d):\n    e = f\n    def g(self): return e, h", "b d f e h"),
        ("x = [a for a in b if a for c in a]", "b"),
        ("x = [x for x in x]", "x"),
        ("def f():\n    y = 1\n    def g(): return y, z\n    return g", "z"),
        ("def f():\n    global y\n    y = w\n    return y", "w y"),
        ("f = lambda a, b=c: a + d", "c d"),
        ("def f():\n    import os.path\n    from a import b as c\n    return os, b, c", "b"),
        ("def f():\n    try: pass\n    except E as e: return e\n    return any((n := m) for m in k), n", "E any k"),
        ("@a.b(c)\nclass D: e: f = g", "a c f g"),
    ],
)
def test_reads_are_those_of_globals(text: str, names: str) -> None:
    (statement,) = ast.parse(text).body
    assert {read.node.id for read in reads(statement)} == set(names.split())


def test_the_file_leaves_no_trace_in_this_process() -> None:
    from ultralytics.nn import tasks

    before = (tasks.Attend, tasks.BaseModel.fuse, set(sys.modules))
    with imported(file_of("eca")) as made:
        assert copy.deepcopy(made.Attend(8, "eca")).wire == "residual"
    assert (tasks.Attend, tasks.BaseModel.fuse, set(sys.modules)) == before
