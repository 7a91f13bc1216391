"""Faulty models, weights, plug-ins and storages of a search."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable
from pathlib import Path

import torch
from bad_support import HUGE, SEARCH, Case, Damage, Ready, append, bomb, edit, folder, none, put

from nas import export, weights

WEIGHTS = (*SEARCH, "--weights", "<tmp>/own.pt")
NAMES = {0: "red", 1: "green"}


def base(name: str, damage: Damage, *parts: str) -> Case:
    """A faulty model YAML."""
    return Case(f"base: {name}", parts, damage)


def row(old: str, new: str) -> Damage:
    """Replace a row of it."""
    return edit("base", old, new)


def rows_without_end(ready: Ready) -> None:
    line = "  - [-1, 1, Conv, [8, 3, 1]]\n"
    edit("base", "head:\n", line * 5_000 + "head:\n")(ready)


BASES = (
    base("empty file", put("base", ""), "backbone and head"),
    base("a number", put("base", "3"), "tiny.yaml"),
    base("no rows", put("base", "nc: 3\n"), "backbone and head"),
    base(
        "backbone and head that are numbers", put("base", "backbone: 3\nhead: 4\n"), "backbone: expected a list of rows"
    ),
    base("a folder", folder("base"), "tiny.yaml", "a folder"),
    base("UTF-16", put("base", "nc: 2\n".encode("utf-16")), "UTF-8"),
    base("a key twice", append("base", "nc: 3\n"), "the key 'nc' stands there twice"),
    base("a bomb of anchors", append("base", bomb("more")), "aliases"),
    base("an anchor that holds itself", append("base", "more: &a [*a]\n"), "holds itself"),
    base(
        "empty backbone",
        put("base", "backbone: []\nhead:\n  - [-1, 1, v10Detect, [nc]]\n"),
        "backbone: expected a list",
    ),
    base("empty head", put("base", "backbone:\n  - [-1, 1, Conv, [8, 3, 2]]\nhead: []\n"), "head: expected a list"),
    base(
        "a row of two",
        put("base", "backbone: [[1, 2]]\nhead: [[1, 2]]\n"),
        "row 0: expected [from, repeats, module, args]",
    ),
    base("a row that is a word", row("  - [-1, 1, SPPF, [32, 5]]", "  - SPPF"), "row 6: expected [from"),
    base("a row that reads itself", row("[-1, 1, SPPF", "[6, 1, SPPF"), "row 6 (SPPF): reads row 6"),
    base("a row that reads a later one", row("[[-1, 4], 1", "[[-1, 12], 1"), "row 8 (Concat): reads row 12"),
    base("a row that reads before the first", row("[-1, 1, SPPF", "[-9, 1, SPPF"), "row 6 (SPPF): reads row -9"),
    base("a head that reads a row which is not there", row("[[12, 15], 1", "[[12, 99], 1"), "row 16", "reads row 99"),
    base("a row that reads a word", row("[-1, 1, SPPF", "[x, 1, SPPF"), "row 6 (SPPF): reads row 'x'"),
    base("a row that is not known", row("SPPF, [32, 5]", "SPPFF, [32, 5]"), "SPPFF"),
    base("a row that is no layer", row("SPPF, [32, 5]", "torch_safe_load, [x.pt]"), "torch_safe_load", "no layer"),
    base("an activation that runs code", append("base", "activation: open('ran', 'w')\n"), "activation"),
    base("half a repeat", row("[-1, 1, SPPF", "[-1, 1.5, SPPF"), "row 6 (SPPF): repeats 1.5"),
    base("no repeat", row("[-1, 1, SPPF", "[-1, 0, SPPF"), "row 6 (SPPF): repeats 0"),
    base("repeats beyond any", row("[-1, 1, SPPF", "[-1, 1000000000, SPPF"), "row 6 (SPPF): repeats 1000000000"),
    base("NaN in a row", row("SPPF, [32, 5]", "SPPF, [32, .nan]"), "row 6 (SPPF)", "not finite"),
    base("channels beyond any", row("SPPF, [32, 5]", "SPPF, [320000000, 5]"), "parameters, expected at most"),
    base("negative channels", row("SPPF, [32, 5]", "SPPF, [-32, 5]"), "SPPF"),
    base("arguments of another row", row("SPPF, [32, 5]", "SPPF, [[32], {a: 5}]"), "SPPF"),
    base("a module of 100,000 characters", row("SPPF, [32, 5]", f"{HUGE}, [32, 5]"), "row 6"),
    base("no head", row("v10Detect, [nc]", "Concat, [1]"), "row 16 (Concat): expected a head"),
    base(
        "two heads",
        row("  - [[12, 15]", "  - [[12], 1, v10Detect, [nc]]\n  - [[12, 15]"),
        "row 16 (v10Detect): a head before the last row, 17",
    ),
    base("scales that are a list", append("base", "scales: [n]\n"), "scales: expected a mapping"),
    base(
        "a scale of two numbers",
        append("base", "scales: {n: [1, 1]}\n"),
        "scale 'n': expected [depth, width, channels]",
    ),
    base("a scale that is no number", append("base", "scales: {n: [.nan, 1, 64]}\n"), "scale 'n'"),
    base("a depth beyond any", append("base", "depth_multiple: 1.0e+9\n"), "repeats 1"),
    base("rows without end", rows_without_end, "5,017 rows, expected at most 1,000"),
)


def half(ready: Ready) -> None:
    """A checkpoint, cut in the middle."""
    export.save(ready.file, weights.build(str(ready.base), NAMES), {})
    content = ready.file.read_bytes()
    ready.file.write_bytes(content[: len(content) // 2])


def saved(make: Callable[[Ready], object]) -> Damage:
    """What torch saves of something else."""

    def damage(ready: Ready) -> None:
        torch.save(make(ready), ready.file)

    return damage


def fused(ready: Ready) -> None:
    export.save(ready.file, weights.build(str(ready.base), NAMES).fuse(verbose=False), {})


def model_of(name: str) -> Damage:
    """A checkpoint of another model."""
    return lambda ready: export.save(ready.file, weights.build(name, NAMES), {})


class Runs:
    """A pickle that makes a file as it is read."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


CHECKPOINTS = (
    Case("weights: missing", ("nowhere/best.pt", "no such file"), none, (*SEARCH, "--weights", "nowhere/best.pt")),
    Case("weights: a folder", ("own.pt",), folder("file"), WEIGHTS),
    Case("weights: empty", ("own.pt",), put("file", ""), WEIGHTS),
    Case(
        "weights: another ending",
        ("good.yaml", "not a readable"),
        none,
        (*SEARCH, "--weights", "<tmp>/good.yaml"),
    ),
    Case("weights: text", ("own.pt",), put("file", "no checkpoint"), WEIGHTS),
    Case("weights: half of it", ("own.pt",), half, WEIGHTS),
    Case("weights: a pickle that runs code", ("own.pt",), saved(lambda _: {"model": Runs()}), WEIGHTS),
    Case(
        "weights: a plain pickle that runs code",
        ("own.pt",),
        lambda r: r.file.write_bytes(pickle.dumps(Runs())),
        WEIGHTS,
    ),
    Case("weights: a tensor", ("own.pt",), saved(lambda _: {"a": torch.zeros(3)}), WEIGHTS),
    Case(
        "weights: tensors alone", ("own.pt",), saved(lambda r: weights.build(str(r.base), NAMES).state_dict()), WEIGHTS
    ),
    Case("weights: fused", ("own.pt", "fused"), fused, WEIGHTS),
    Case("weights: another architecture", ("another architecture: row",), model_of("yolov8n.yaml"), WEIGHTS),
    Case("weights: another task", ("another architecture: row",), model_of("yolov8n-cls.yaml"), WEIGHTS),
)


def plug_in(name: str, text: str | bytes | None, *parts: str, file: str = "") -> Case:
    """A faulty file of blocks."""
    path = file or f"bad_{name.replace(' ', '_').replace('-', '')}.py"

    def damage(ready: Ready) -> None:
        if text is not None:
            (ready.tmp / path).write_bytes(text if isinstance(text, bytes) else text.encode())

    return Case(f"modules: {name}", (path, *parts), damage, (*SEARCH, "--modules", f"<tmp>/{path}"))


def a_folder_of_blocks(ready: Ready) -> None:
    (ready.tmp / "blocks.py").mkdir()


BLOCK = "from torch import nn\nfrom modules import attention\n@attention({name!r}, paper='x', family='channel')\n"
BLOCK += "class Mine(nn.Module):\n    '''Mine.'''\n    def __init__(self, {argument}):\n        super().__init__()\n"
PLUG_INS = (
    plug_in("missing", None, "does not exist"),
    Case("modules: a folder", ("blocks.py",), a_folder_of_blocks, (*SEARCH, "--modules", "<tmp>/blocks.py")),
    plug_in("empty", "", "registered no block"),
    plug_in("no blocks", "x = 3\n", "registered no block"),
    plug_in("no Python", "def (:\n", "SyntaxError"),
    plug_in("text", "hello", "cannot be imported", file="mine.txt"),
    plug_in("two words", "x = 3\n", "cannot be imported", file="my blocks.py"),
    plug_in("Latin-1", "x = 'grün'\n".encode("latin-1"), "SyntaxError"),
    plug_in("NUL", b"x = 3\n\x00", "failed"),
    plug_in("raises", "raise RuntimeError('no\\nway')\n", "RuntimeError: no"),
    plug_in("leaves", "import sys\nsys.exit(3)\n", "SystemExit"),
    plug_in("leaves without a word", "raise SystemExit\n", "SystemExit"),
    plug_in("needs another", "import no_such_package\n", "ModuleNotFoundError"),
    plug_in("name taken", BLOCK.format(name="eca", argument="channels"), "block name 'eca' is taken"),
    plug_in("name of two words", BLOCK.format(name="a b", argument="channels"), "block name 'a b'"),
    plug_in("name of the parser", BLOCK.format(name="c2", argument="channels"), "block name 'c2'"),
    plug_in("no channels", BLOCK.format(name="mine_0", argument="width"), "expected 'channels'"),
    plug_in("name of a package", BLOCK.format(name="mine_1", argument="channels"), "exists", file="yaml.py"),
)


def other_program(ready: Ready) -> None:
    """A study of that name in an Optuna database that is none of ours."""
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{ready.tmp}/other.db")
    optuna.create_study(study_name="x", storage=storage).set_user_attr("theirs", 1)
    storage.engine.dispose()


def database(ready: Ready) -> None:
    """A database without tables."""
    sqlite3.connect(ready.tmp / "bare.db").execute("CREATE TABLE t (x)").connection.close()


def storage(name: str, url: str, *parts: str, damage: Damage = none) -> Case:
    """A faulty storage."""
    return Case(f"storage: {name}", parts, damage, (*SEARCH, "--storage", url))


SECRET = "postgresql+psycopg://me:secret@127.0.0.1:9/x"
STORAGES = (
    storage("nonsense", "nonsense", "storage nonsense", "cannot be used"),
    storage("no such folder", "sqlite:////no/such/folder/x.db", "storage", "cannot be used"),
    storage("a folder", "sqlite:///<tmp>", "storage", "cannot be used"),
    storage("a text", "sqlite:///<tmp>/good.yaml", "storage", "not a database"),
    storage(
        "read only",
        "sqlite:///file:<tmp>/other.db?mode=ro&uri=true",
        "storage",
        "readonly",
        damage=other_program,
    ),
    storage("unknown driver", "sqlite+nonsense:///x.db", "storage", "cannot be used"),
    storage("unknown database", "nosql://me:secret@127.0.0.1/x", "storage", "cannot be used"),
    storage("nobody answers", SECRET, "storage", "cannot be used"),
    storage("a port that is none", SECRET.replace(":9/", ":nine/"), "storage", "cannot be used"),
    storage("a port beyond any", SECRET.replace(":9/", ":99999/"), "storage", "cannot be used"),
    storage(
        "a study of another program", "sqlite:///<tmp>/other.db", "another program", "--name", damage=other_program
    ),
    storage(
        "a fault beside a new storage",
        "sqlite:///<tmp>/new.db",
        "no image",
        damage=lambda ready: [image.unlink() for image in ready.images("train")],
    ),
)

CASES = (*BASES, *CHECKPOINTS, *PLUG_INS, *STORAGES)
