"""Attention blocks: a name and hyperparameters in, a [B, C, H, W] -> [B, C, H, W] module out.

Importing this package is cheap: torch comes in with the first block that is looked up.
"""

from typing import TYPE_CHECKING, Any

from modules.registry import (
    Spec,
    attention,
    check_options,
    create,
    load,
    load_entry_points,
    names,
    spec,
)

if TYPE_CHECKING:
    from modules.attend import Attend

__distribution__ = "yolo-attention-nas"
__all__ = [
    "Attend",
    "Spec",
    "attention",
    "check_options",
    "create",
    "load",
    "load_entry_points",
    "names",
    "spec",
]


def __getattr__(name: str) -> Any:
    """`modules.Attend`, imported when first asked for (PEP 562)."""
    if name == "Attend":
        from modules.attend import Attend

        return Attend
    raise AttributeError(f"module 'modules' has no attribute {name!r}")
