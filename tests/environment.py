"""Goes in: what to install. Comes out: a virtual environment with it, whose commands run as in a user's shell."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Environment:
    """A virtual environment that the project is installed in; it borrows the packages of the one that tests run in."""

    folder: Path

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(self.folder)}))

    @property
    def python(self) -> Path:
        """Its interpreter."""
        scripts = sysconfig.get_path("scripts", "venv", vars={"base": str(self.folder)})
        return Path(scripts) / Path(sys.executable).name

    def run(self, *args: Any, cwd: Path | None = None, code: int = 0, timeout: float = 240, **env: str) -> str:
        """Run its interpreter as a user's shell would, nothing of the repository on the path; both streams."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            [str(self.python), *map(str, args)], env={**inherited, **env}, cwd=cwd or self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == code, done.stdout[-4000:]
        return done.stdout

    def yolo(self, *args: Any, **kwargs: Any) -> str:
        """Run the command `yolo`, which has its own folder in front of the path and not the current one."""
        script = self.python.parent / "yolo"
        script.write_text("import sys\nfrom ultralytics.cfg import entrypoint\nsys.exit(entrypoint())\n")
        return self.run(script, *args, **kwargs)


def make_environment(folder: Path, *what: str) -> Environment:
    """A new environment and what is installed into it, if anything: by pip or, where there is none, by uv."""
    venv.create(folder, symlinks=os.name != "nt", with_pip=False)
    made = Environment(folder)
    others = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (made.packages / "zz_borrowed.pth").write_text("\n".join(others) + "\n")
    if not what:
        return made
    options = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", *what]
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "--python", str(made.python), *options]
    else:
        command = ["uv", "pip", *options, "--python", str(made.python)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return made
