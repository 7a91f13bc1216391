"""Goes in: a base and the form of its batches, from nas/slots.py. Comes out: how fast one process trains it.

Run as ``python -m nas.probe``: real steps (forward, loss, backward, optimizer) on random pictures with random boxes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
import torch
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import BaseModel

from nas import task, weights
from nas.children import Parent
from nas.fit import load_modules

THINGS = 4  # a picture
ENOUGH = 2  # steps, however long they take


def main() -> None:
    """Answer: a number of threads is made ready for, a number of seconds is trained for."""
    parent = Parent()
    job = parent.hear()
    step: Callable[[], None] | None = None
    while True:
        message = parent.hear()
        if "threads" in message:
            torch.set_num_threads(message["threads"])
            step = step or make_step(job)
            step()
            parent.tell(ready=True)
        else:
            assert step is not None
            images, seconds = train(step, message["seconds"], job["batch"])
            parent.tell(images=images, seconds=seconds, memory=memory())


def train(step: Callable[[], None], seconds: float, batch: int) -> tuple[int, float]:
    """Steps for so many seconds: images, and seconds."""
    start, steps = time.perf_counter(), 0
    while steps < ENOUGH or time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * batch, time.perf_counter() - start


def make_step(job: Mapping[str, Any]) -> Callable[[], None]:
    """One step of training as Ultralytics does it, on the same random batch each time."""
    load_modules(tuple(job["modules"]), [])
    device = torch.device(job["device"])
    names = {i: str(i) for i in range(job["classes"])}
    model = weights.build(dict(job["yaml"]), names, job["channels"]).to(device, memory_format=torch.channels_last)
    model.train()
    model.args = get_cfg(overrides={"task": task.name_of(job["yaml"])})
    for p in model.parameters():
        p.requires_grad_(True)
    batch = random_batch(model, job, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=job["bf16"]):
            loss = model(batch)[0].sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def random_batch(model: BaseModel, job: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Pictures with things in them, in the form that the loss of the model's task takes."""
    draw = torch.Generator().manual_seed(0)
    size, side, of = job["batch"], job["imgsz"], task.name_of(job["yaml"])
    things = size * THINGS
    boxes = torch.rand(things, 4, generator=draw) * 0.3 + 0.35  # centre and size in [0.35, 0.65)
    batch = {
        "img": torch.rand(size, job["channels"], side, side, generator=draw),
        "cls": torch.randint(job["classes"], (things, 1), generator=draw).float(),
        "batch_idx": torch.arange(size).repeat_interleave(THINGS).float(),
        "bboxes": torch.cat([boxes, torch.zeros(things, 1)], 1) if of == "obb" else boxes,
    }
    if of == "segment":  # an index of the thing at each cell
        batch["masks"] = torch.randint(THINGS + 1, (size, side // 4, side // 4), generator=draw).float()
        batch["sem_masks"] = torch.randint(job["classes"], (size, side // 4, side // 4), generator=draw)
    elif of == "pose":
        batch["keypoints"] = torch.rand(things, *model.model[-1].kpt_shape, generator=draw)
    elif of == "classify":
        batch["cls"] = torch.randint(job["classes"], (size,), generator=draw)
    batch = {name: value.to(device) for name, value in batch.items()}
    batch["img"] = batch["img"].to(memory_format=torch.channels_last)
    return batch


def memory() -> int:
    """The most bytes of main memory that this process has taken."""
    try:
        import resource
    except ImportError:  # Windows
        info = psutil.Process().memory_info()
        return int(getattr(info, "peak_wset", info.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
