"""Makes Ultralytics know `Attend`: the name in its YAML parser, and our deploy form in its `model.fuse()`.

Ultralytics has a hook for neither. `parse_model` looks a layer's name up among the globals of
`ultralytics.nn.tasks`, and `BaseModel.fuse` knows its own layers only. This is the one place that touches either.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any


def join(tasks: ModuleType) -> None:
    """Tell the module `ultralytics.nn.tasks`. Calling it again changes nothing."""
    from modules.attend import Attend  # which calls this function at its end

    if getattr(tasks, "Attend", None) is Attend:
        return
    tasks.Attend = Attend  # type: ignore[attr-defined]
    stock = tasks.BaseModel.fuse

    @functools.wraps(stock)
    def fuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        # a model in quantisation-aware training keeps the layers whose ranges it has learned
        if not getattr(tasks, "is_qat", lambda model: False)(self):
            for module in self.modules():
                if isinstance(module, Attend):
                    module.eval().fold()
        return stock(self, *args, **kwargs)

    tasks.BaseModel.fuse = fuse
