#!/usr/bin/env bash
# In: any command line. Out: the same command, run inside the project's own .venv, which is made on first use.
#   bash scripts/run.sh python -m nas search --trials 100
#   bash scripts/run.sh pytest
# PYTHON=python3.12 bash scripts/run.sh ...  chooses the interpreter (3.11 or 3.12) for a new .venv.
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
stamp=.venv/.installed

[ $# -gt 0 ] || { sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; }

find_python() {
  for candidate in ${PYTHON:-} python3.12 python3.11 python3 python; do
    if supported "$candidate"; then echo "$candidate"; return; fi
  done
  echo "run.sh: Python 3.11 or 3.12 is needed, none was found on PATH; name one: PYTHON=/path/to/python $0" >&2
  exit 2
}

if [ ! -f "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
  echo "run.sh: preparing .venv (once; PyTorch is a large download, some minutes)" >&2
  if command -v uv >/dev/null 2>&1; then
    [ -x .venv/bin/python ] || uv venv --quiet --python "${PYTHON:->=3.11,<3.13}" .venv >&2
    VIRTUAL_ENV=$root/.venv uv pip install --quiet --compile-bytecode --editable '.[test]' >&2
  else
    [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' >&2
  fi
  touch "$stamp"
fi
cd "$here"
export VIRTUAL_ENV=$root/.venv PATH=$root/.venv/bin:$PATH
exec "$@"
