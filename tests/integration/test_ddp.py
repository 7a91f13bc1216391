"""Training in two processes, as Ultralytics starts it, on our YAML; nothing of ours is imported by anybody's code.

Ultralytics' way is kept: the parent pickles its trainer, and `torch.distributed.run` starts a file that trains. The
subclass changes only what is made for CUDA: the process group is gloo's, the wrapped model has no device's number, and
the validation after the last epoch's is left out.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from environment import Environment
from ultralytics.nn.tasks import yaml_model_load

from nas import graph
from search_spaces import Placement

ON_CPU = """
import os
import sys
from pathlib import Path
import torch
from torch import nn
from ultralytics.models.yolo.detect import DetectionTrainer

assert "nas" not in sys.modules

def on_cpu(model, device_ids, **kwargs):
    return stock(model, **kwargs)

stock = nn.parallel.DistributedDataParallel

class OnTwoCpus(DetectionTrainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.world_size, self.ddp = 2, "LOCAL_RANK" not in os.environ

    def _setup_ddp(self):
        torch.distributed.init_process_group("gloo")

    def _setup_train(self):
        nn.parallel.DistributedDataParallel = on_cpu
        try:
            super()._setup_train()
        finally:
            nn.parallel.DistributedDataParallel = stock

    def final_eval(self):  # stock validates again, on the current CUDA device
        state = {k: v.clone() for k, v in self.model.module.state_dict().items()}
        extra = {m for m in sys.modules if m.split(".")[0] in ("nas", "search_spaces")}
        first = self.train_loader.dataset.im_files[list(self.train_loader.sampler)[0]]
        torch.save((state, sorted(extra), first), Path(self.args.project) / f"rank{os.environ['RANK']}.pt")

if __name__ == "__main__":
    model, data, folder = sys.argv[1:]
    OnTwoCpus(overrides=dict(model=model, data=data, project=folder, name="ddp", epochs=2, imgsz=64, batch=4,
                             workers=0, device="cpu", plots=False, warmup_epochs=0)).train()
"""

ON_GPUS = """
import sys
from ultralytics import YOLO

if __name__ == "__main__":
    model, data, folder = sys.argv[1:]
    YOLO(model).train(data=data, project=folder, name="ddp", epochs=2, imgsz=64, batch=4, workers=0, device="0,1",
                      plots=False)
"""


@pytest.fixture(scope="module")
def model(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YAML with three of our rows, one of them with batch norms of its own."""
    placement = Placement.of({"neck.p3": "eca", "backbone.p4": "simam", "neck.p4": "cot"})
    file = tmp_path_factory.mktemp("ddp") / "mine.yaml"
    file.write_text(yaml.safe_dump(graph.insert(yaml_model_load(tiny_base), placement).yaml, sort_keys=False))
    return file


def test_two_processes_train_one_model(installed: Environment, model: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(ON_CPU)
    said = installed.run(tmp_path / "script.py", model, tiny_data, tmp_path, cwd=tmp_path)
    assert "torch.distributed.run" in said and "unused parameters" not in said and "did not receive grad" not in said
    (one, extra, first), (two, _, other) = (torch.load(tmp_path / f"rank{k}.pt", weights_only=False) for k in (0, 1))
    assert not extra and first != other  # each process saw pictures of its own
    names = [name for name in one if "running" not in name and "num_batches" not in name]
    gammas = [name for name in names if name.endswith("gamma_logit_scale")]
    assert len(gammas) == 3 and all(one[name].abs().max() > 0 for name in gammas)
    assert [name for name in names if not torch.equal(one[name], two[name])] == []
    norms = [name for name in one if name.endswith("running_mean")]
    assert any(not torch.equal(one[name], two[name]) for name in norms)  # they are two models
    saved = torch.load(tmp_path / "ddp" / "weights" / "last.pt", weights_only=False)["ema"]
    assert [type(m).__name__ for m in saved.model].count("Attend") == 3


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus(installed: Environment, model: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(ON_GPUS)
    said = installed.run(tmp_path / "script.py", model, tiny_data, tmp_path, cwd=tmp_path)
    assert "torch.distributed.run" in said
    saved = torch.load(tmp_path / "ddp" / "weights" / "last.pt", weights_only=False)["model"]
    assert [type(m).__name__ for m in saved.model].count("Attend") == 3
