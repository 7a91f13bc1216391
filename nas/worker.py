"""Goes in: a recipe and a place in the queue, from the parent process. Comes out: its share of a study's trials.

Run as ``python -m nas.worker`` by nas/workers.py. What it prints goes to the study's log.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas import cost, setting, storage, turn, warm
from nas import study as studies
from nas.children import Parent
from nas.recipe import Recipe


def main() -> int:
    """Do the job; the exit status is that of `search`."""
    parent = Parent()
    with turn.interruptible():
        try:
            work(parent.hear(), parent)
        except KeyboardInterrupt:
            return 130
        except studies.SearchStopped as e:
            parent.tell(stopped=str(e))
            return 1
        except BaseException as e:
            traceback.print_exc()
            parent.tell(failed=" ".join(f"{type(e).__name__}: {e}".split())[:1000])
            return 1
    return 0


def work(job: Mapping[str, Any], parent: Parent) -> None:
    """Come to where the parent process stands, and take trials until there are enough."""
    base_cost = cost.Cost.from_json(job["base_cost"])
    prepared = replace(setting.prepare(Recipe.model_validate(job["recipe"]), base_cost), workers=job["workers"])
    study = studies.join(prepared, storage.open_storage(studies.storage_url(prepared)), job["index"])
    base = warm.warm_base(prepared)
    parent.tell(ready=True)
    turn.work(study, prepared, base, lambda text: parent.tell(said=text))


if __name__ == "__main__":
    raise SystemExit(main())
