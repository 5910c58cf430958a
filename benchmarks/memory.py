"""Memory that training takes, beside torch.nn.  `python benchmarks/memory.py`

Each network is trained in a process of its own: the figure is how much further than after a small network the
peak of the process goes.  It is taken twice: where freed blocks go back to the system at once, so that the
peak is the memory in use, and with malloc as it is, which keeps some of them.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

import torch
from recurrent import LENGTHS, PAIRS, SIZES, layers, text

import t7compat

AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "131072"}  # glibc: larger blocks are mapped, and unmapped when freed
ROUNDS = 5  # with malloc as it is; how much it keeps differs from process to process
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


def measured(rounds: int, environment: dict[str, str], *arguments: int) -> float:
    """What `added` gives for the arguments: the median of several processes."""
    command = [sys.executable, __file__, *map(str, arguments)]
    options = {"capture_output": True, "text": True, "check": True, "env": os.environ | environment}
    return statistics.median(float(subprocess.run(command, **options).stdout) for _ in range(rounds))


def beside(rounds: int, environment: dict[str, str], pair: int, *size: int) -> str:
    """Our memory, that of torch.nn, and the ratio."""
    here, there = (measured(rounds, environment, pair, ours, *size) for ours in (1, 0))
    return f"{here:6.0f} MB {there:6.0f} MB {here / there:5.2f}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        which, ours, *sizes = map(int, sys.argv[1:])
        print(added(which, bool(ours), *sizes))
    else:
        print(f"{'t7compat, torch.nn, ratio':36}  {'in use':23}   with what malloc keeps")
        for shape in (*SIZES, (LENGTHS[-1], *SIZES[0][1:])):
            for index, pair in enumerate(PAIRS):
                columns = beside(1, AT_ONCE, index, *shape), beside(ROUNDS, {}, index, *shape)
                print(f"{pair.name + ' ' + text(shape):36}", *columns, sep="  ")
