"""One rank of a training run on several processes, started by torchrun: trains, and rank 0 saves what came out.

Usage: torchrun --nproc-per-node N two_ranks.py METHOD TEXT OUT ACCUMULATION STOP
TEXT is a file, or `documents`, which METHOD then labels.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import torch
import torch.distributed

sys.path.insert(0, str(Path(__file__).parents[2]))

from models.registry import load_file

toy = load_file(Path(__file__).with_name("toy_training.py"))

method, text, out, accumulation, stop = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
stopped = out / "stopped.ckpt"
# Layer drop leaves a layer's parameters without gradient, and DDP must look for them.
extra = {
    "devices": int(os.environ["WORLD_SIZE"]),
    "strategy": "ddp_find_unused_parameters_true",
    "use_distributed_sampler": False,
}
if text == "documents":
    module, data = toy.documents_and_data(method, accumulation)
else:
    module, data = toy.module_and_data(text, method, dropout=0.0, clip=0.5, accumulation=accumulation)
if stop:
    stopper = toy.StopAt(stop)
    with contextlib.suppress(toy.Stop):
        toy.fit(module, data, stopper, **extra)
else:
    if stopped.exists():
        module.load_resume_state(torch.load(stopped, weights_only=True))
    toy.fit(module, data, **extra)
if torch.distributed.get_rank() == 0:
    if stop:
        stopped.write_bytes(stopper.saved)
    else:
        torch.save({"model": module.model.state_dict(), "score": module.scores[0].value}, out / "trained.ckpt")
torch.distributed.destroy_process_group()
