"""Memory that training takes, beside torch.nn.  `python benchmarks/memory.py`

Each network is trained in a process of its own: the figure is how much further than after a small network the
peak of the process goes.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

import torch
from recurrent import LENGTHS, PAIRS, SIZES, layers, text

import t7compat

ROUNDS = 5
KILOBYTES = 1e3  # per megabyte; Linux gives the peak in kilobytes


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KILOBYTES


def added(pair: int, ours: bool, *size: int) -> float:
    """What training with sequences of this size adds, in MB."""
    t7compat.setdefaulttensortype("torch.FloatTensor")
    torch.set_num_threads(1)
    small, large = (layers(PAIRS[pair], *shape) for shape in ((3, 2, size[-1]), size))
    step = small.ours if ours else small.theirs
    step()
    before, step = peak(), large.ours if ours else large.theirs
    for _ in range(3):
        step()
    return peak() - before


def measured(pair: int, ours: bool, *size: int) -> float:
    """The median of several processes."""
    arguments = [str(int(value)) for value in (pair, ours, *size)]
    command = [sys.executable, __file__, *arguments]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(ROUNDS)]
    return statistics.median(float(run.stdout) for run in runs)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        which, ours, *sizes = map(int, sys.argv[1:])
        print(added(which, bool(ours), *sizes))
    else:
        for shape in (*SIZES, (LENGTHS[-1], *SIZES[0][1:])):
            for index, pair in enumerate(PAIRS):
                here, there = (measured(index, ours, *shape) for ours in (True, False))
                name = f"{pair.name} {text(shape)}"
                print(f"{name:34} {here:6.0f} MB   torch.nn {there:6.0f} MB   ratio {here / there:5.2f}")
