"""A user's own file of blocks: loaded, refused with a reason, and held to the contract."""

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import modules
from modules import registry
from modules.contract import check

GOOD = '''
from torch import nn
from modules import attention

@attention("{name}", paper="none", family="mine")
class Mine(nn.Module):
    """A gate from a point-wise convolution."""

    def __init__(self, channels, bias=True):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x):
        return x * self.conv(x).sigmoid()
'''

BAD = GOOD.replace("x * self.conv(x).sigmoid()", "x * (self.conv(x) - self.conv(x).mean()).softmax(0)")

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write a file of blocks; afterwards forget what it registered."""
    specs, loaded = dict(registry._SPECS), set(sys.modules)

    def file(stem: str, text: str) -> Path:
        path = tmp_path / f"{stem}.py"
        path.write_text(text)
        return path

    yield file
    registry._SPECS.clear()
    registry._SPECS.update(specs)
    for name in set(sys.modules) - loaded:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_users_block_is_loaded_and_holds_the_contract(write: Write) -> None:
    path = write("mine_good", GOOD.format(name="mine_good"))
    assert modules.load(path) == ("mine_good",)
    assert "mine_good" in modules.names()
    assert modules.spec("mine_good").options == {"bias": True}
    report = check("mine_good")
    assert report.passed, report.failures
    assert modules.Attend(16, "mine_good", {"bias": False}).block.conv.bias is None


def test_loading_again_changes_nothing(write: Write) -> None:
    path = write("mine_twice", GOOD.format(name="mine_twice"))
    modules.load(path)
    before = modules.spec("mine_twice")
    assert modules.load(str(path)) == ("mine_twice",)
    assert modules.spec("mine_twice") is before


def test_a_broken_block_is_named_with_its_rule(write: Write) -> None:
    modules.load(write("mine_bad", BAD.format(name="mine_bad")))
    report = check("mine_bad", quick=True)
    assert not report.passed
    assert [finding.rule for finding in report.failures] == ["independent"]
    assert "batch of 3" in report.failures[0].detail


@pytest.mark.parametrize(
    ("stem", "text", "message"),
    [
        ("mine_empty", "x = 1\n", "registered no block"),
        ("mine_raises", GOOD.format(name="mine_raises") + "\n1 / 0\n", "ZeroDivisionError: division by zero"),
        ("mine_syntax", "def (:\n", "SyntaxError"),
        ("mine_taken", GOOD.format(name="eca"), "'eca' is taken by ECA"),
        ("mine_local", GOOD.format(name="act"), "'act' would be replaced"),
        ("json", GOOD.format(name="mine_json"), "a module 'json' exists; rename the file"),
        ("antigravity", GOOD.format(name="mine_anti"), "a module 'antigravity' exists; rename the file"),
        ("mine-dash", GOOD.format(name="mine_dash"), "cannot be imported"),
    ],
)
def test_a_bad_file_is_refused_and_leaves_nothing(write: Write, stem: str, text: str, message: str) -> None:
    before = modules.names()
    with pytest.raises(ValueError, match=message):
        modules.load(write(stem, text))
    assert modules.names() == before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'.*none\.py' does not exist"):
        modules.load(tmp_path / "none.py")


def entry_points(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = importlib.metadata.EntryPoint("mine", value, registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] if group == entry.group else [])


def test_entry_points_are_loaded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("mine_entry", GOOD.format(name="mine_entry"))
    monkeypatch.syspath_prepend(path.parent)
    entry_points(monkeypatch, "mine_entry:Mine")
    assert modules.load_entry_points() == ("mine_entry",)
    assert modules.load_entry_points() == ()


def test_a_broken_entry_point_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(monkeypatch, "no_such_module_here:Mine")
    with pytest.raises(ValueError, match="entry point 'mine' = 'no_such_module_here:Mine' failed"):
        modules.load_entry_points()
