"""The speed of the .t7 codec beside torchfile, PyTorch and plain copying.  `python benchmarks/t7file.py`"""

from __future__ import annotations

import resource
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
import torchfile
from compare import Task, compare

import t7compat
from t7compat import nn

MEGABYTES = 200
KEYS = 200_000
MODULES = 2_000


def peak() -> float:
    """The most memory that this process has used so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(folder: Path) -> None:
    """Write the files, then print a line for each task."""
    tensor = torch.arange(MEGABYTES * 250_000, dtype=torch.float32)
    large, copied, zipped = folder / "large.t7", folder / "copy.t7", folder / "large.pth"
    before = peak()
    t7compat.save(large, tensor)
    print(f"saving {MEGABYTES} MB takes {peak() - before:.1f} MB of memory more than the tensor itself has")
    torch.save(tensor, zipped)

    vocabulary, network = folder / "vocabulary.t7", folder / "network.t7"
    t7compat.save(vocabulary, {f"word{i * 7919 % KEYS}": i for i in range(KEYS)})
    model = nn.Sequential()
    for _ in range(MODULES):
        model.add(nn.Linear(10, 10))
    t7compat.save(network, model)
    compare(
        Task(f"open {MEGABYTES} MB, mapped", lambda: t7compat.load(large),
             "torch.load(mmap=True)", lambda: torch.load(zipped, mmap=True)),
        Task(f"open {MEGABYTES} MB and sum it", lambda: t7compat.load(large).sum(),
             "torch.load(mmap=True)", lambda: torch.load(zipped, mmap=True).sum()),
        Task(f"load {MEGABYTES} MB, mmap=False", lambda: t7compat.load(large, mmap=False),
             "torch.load", lambda: torch.load(zipped)),
        Task(f"save {MEGABYTES} MB", lambda: t7compat.save(large, tensor),
             "torch.save", lambda: torch.save(tensor, zipped)),
        Task(f"save {MEGABYTES} MB", lambda: t7compat.save(large, tensor),
             "shutil.copyfile", lambda: shutil.copyfile(large, copied)),
        Task(f"load a table of {KEYS:,} words", lambda: t7compat.load(vocabulary),
             "torchfile", lambda: torchfile.load(str(vocabulary))),
        Task(f"load a network of {MODULES:,} layers", lambda: t7compat.load(network),
             "torchfile", lambda: torchfile.load(str(network))),
    )  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # torchfile uses names that numpy is going to drop
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
