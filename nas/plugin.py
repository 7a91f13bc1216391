"""Goes in: nothing. Comes out: an Ultralytics that knows `Attend` (modules/join.py) as soon as it is imported.

An installed project needs no call: yolo_attention_nas_startup.py does the same at the start of Python. This is for
where it is not installed, or turned off.
"""

from __future__ import annotations

import yolo_attention_nas_startup


def register() -> None:
    """Make `Attend` known to Ultralytics, now or as soon as it is imported. Calling it again changes nothing."""
    yolo_attention_nas_startup.install()
