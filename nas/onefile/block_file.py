"""Goes in: a placement. Comes out: one Python file with its blocks, which needs Ultralytics and nothing of ours."""

from __future__ import annotations

import importlib.metadata
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import modules
from nas import __version__
from nas.onefile.flatten import Flat, flatten
from nas.onefile.sources import FlattenError, Outside, is_ours
from search_spaces import Placement

PARTS = {  # what the shared modules hold, as a heading
    "modules.forms": "The two forms that most blocks have",
    "modules.layers": "Layers and functions that several blocks share",
    "modules.checks": "Groups and heads for any number of channels",
    "modules.deploy": "Deploy form: a trained block in, the same function with fewer operations out",
    "modules.attend": "What a YAML row names",
    "modules.join": "What Ultralytics has to know",
}
ALSO = {
    "Any": Outside("typing", "Any"),
    "nn": Outside("torch", "nn"),
    "sys": Outside("sys", None),
    "os": Outside("os", None),
    "importlib": Outside("importlib", None),
    "Path": Outside("pathlib", "Path"),
    "entrypoint": Outside("ultralytics.cfg", "entrypoint"),
    "tasks": Outside("ultralytics.nn", "tasks"),
    "default_callbacks": Outside("ultralytics.utils.callbacks.base", "default_callbacks"),
}
THERE = ("torch", "torchvision", "ultralytics", "numpy")  # what Ultralytics brings along
HEAD = '''\
# SPDX-License-Identifier: AGPL-3.0-or-later
{title}

As a program it is `yolo` with these blocks known to it:

    python {module}.py train model=... data=my-data.yaml epochs=100

In Python or a notebook, import it before a model that has them is read:

    import {module}

Blocks:

{papers}

{written}
Keep the file's name: checkpoints name the classes by it.
"""
'''
WRITTEN = "Written by yolo-attention-nas {} (`python -m nas export --bundle`), whose code it is"
CREATE = '''\
BLOCKS = {{
{blocks}
}}


def create(name: str, channels: int, **options: Any) -> nn.Module:
    """The named block for maps [B, channels, H, W]."""
    if name not in BLOCKS:
        raise ValueError(f"no block {{name!r}} in {{__file__}}, which has: {{', '.join(BLOCKS)}}")
    return BLOCKS[name](channels, **options)
'''
TAIL = '''\
def carry(trainer: Any) -> None:
    """A callback that does nothing but name this file: each process of a multi-GPU training imports it with it."""


def main() -> None:
    """Ultralytics' own command line."""
    entrypoint()


if __name__ == "__main__":
    here = Path(__file__).resolve()  # it runs under its own name, by which checkpoints and other processes find it
    sys.path.insert(0, str(here.parent))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    importlib.import_module(here.stem).main()
elif __name__ != "__mp_main__":  # which is a data loader's process that looks at the program it belongs to
    join(tasks)
    default_callbacks["on_pretrain_routine_start"].append(carry)
'''


@dataclass(frozen=True)
class BlockFile:
    """The one Python file.

    Args:
        module: Its name without ``.py``.
        body: All but the last lines, which make Ultralytics know the blocks.
        names: Module and name of each definition that is in it -> what it is called there.
        needs: What has to be installed for it besides Ultralytics, by the names that pip knows.
    """

    module: str
    body: str
    names: Mapping[tuple[str, str], str]
    needs: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole file."""
        return f"{self.body}\n\n{TAIL}"


def block_file(placement: Placement) -> BlockFile:
    """The Python file for the blocks of a placement.

    Raises:
        FlattenError: A block that cannot stand in one file.
    """
    used = sorted({block.name for _, block in placement})
    own = frozenset(m for b in used if not is_ours(m := modules.spec(b).block.__module__))
    flat = flatten(used, own, ALSO)
    module = f"attend_{placement.id}"
    but = f"; what is from {' and '.join(f'{m}.py' for m in sorted(own))} is its author's" if own else ""
    head = HEAD.format(
        title=_wrapped(f"Attention blocks for Ultralytics: {', '.join(used)}.", '"""', ""),
        module=module,
        papers="\n".join(_wrapped(f"{b}: {source(b)}", "- ", "  ") for b in used),
        written=_wrapped(f"{WRITTEN.format(__version__)}{but}.", "", ""),
    )
    parts = [f"{head}\nfrom __future__ import annotations\n\n{flat.imports}"]
    for of, code in flat.sections:
        if of == "modules.attend":
            parts.append(CREATE.format(blocks="\n".join(f'    "{b}": {c},' for b, c in flat.blocks.items())).rstrip())
        parts.append(f"{_heading(of, flat)}\n{code}")
    return BlockFile(module, "\n\n\n".join(parts) + "\n", flat.names, _packages(flat))


def source(block: str) -> str:
    """A block's paper: the first line of its file, or what it was registered with."""
    spec = modules.spec(block)
    return spec.source if spec.builtin else f"{spec.title.removesuffix('.')}; paper: {spec.paper}"


def _packages(flat: Flat) -> tuple[str, ...]:
    """The distributions that hold what the blocks import.

    Raises:
        FlattenError: An import that nobody could install: a file beside the user's own, or a part of this project.
    """
    wanted = [name for name in flat.needs if name not in THERE]
    known = importlib.metadata.packages_distributions() if wanted else {}
    for name in wanted:
        if name in ("nas", "search_spaces") or name not in known:
            raise FlattenError(
                f"a block imports {name!r}, which is no installed package; the single file cannot have it: "
                "put what is needed of it into the block's own file"
            )
    return tuple(sorted({known[name][0] for name in wanted}))


def _heading(module: str, flat: Flat) -> str:
    here = next((b for b in flat.blocks if modules.spec(b).block.__module__ == module), None)
    if here is not None:
        return _wrapped(f"{here}: {source(here)}" if is_ours(module) else f"From {module}.py", "# ", "# ")
    return _wrapped(PARTS.get(module) or f"What blocks here share with {module.split('.')[-1]}", "# ", "# ")


def _wrapped(text: str, first: str, rest: str) -> str:
    return "\n".join(textwrap.wrap(text, 118, initial_indent=first, subsequent_indent=rest))
