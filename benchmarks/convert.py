"""What t7convert takes for large weights, beside copying.  `python benchmarks/convert.py`"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from compare import Task, compare

import t7compat
from converters import convert
from t7compat import nn

# Of VGG: the planes of its convolutions (0 is a pooling), and the sizes of its Linear layers
PLANES = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
LINEAR = (25088, 4096, 4096, 1000)

# In an interpreter of its own: the most memory beyond that of the interpreter with its packages.  (What
# getrusage says of a new process is that of the one that started it, if that is more.)
MEMORY = """
import re, sys
import converters
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
before = peak()
converters.convert(sys.argv[1], sys.argv[2], check=False, force=True)
print(f"{peak() - before:.0f}")
"""


def vgg() -> nn.Sequential:
    """VGG-16, about 550 MB, without the gradients of its parameters."""
    network, before = nn.Sequential().float(), 3
    for planes in PLANES:
        if planes:
            network.add(nn.SpatialConvolution(before, planes, 3, 3, 1, 1, 1, 1)).add(nn.ReLU())
            before = planes
        else:
            network.add(nn.SpatialMaxPooling(2, 2, 2, 2))
    network.add(nn.View(LINEAR[0]))
    for inputs, outputs in itertools.pairwise(LINEAR):
        network.add(nn.Linear(inputs, outputs)).add(nn.ReLU())
    for module in network.float().listModules():
        for name in {"gradWeight", "gradBias"} & vars(module).keys():
            vars(module)[name] = vars(module)[name].new_empty(0)
    return network.clearState()


def main(folder: Path) -> None:
    """Write the checkpoint, then print the memory and a line for each task."""
    path, copied = folder / "vgg.t7", folder / "copy.t7"
    t7compat.save(path, vgg())
    size = path.stat().st_size / 2**20
    command = [sys.executable, "-c", MEMORY, str(path), str(folder / "out")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(
        f"converting {size:.0f} MB takes at most {done.stdout.strip()} MB of memory besides the interpreter"
    )

    def converted(to: str) -> None:
        convert(path, folder / "out", to=to, check=False, force=True)

    compare(
        *(
            Task(f"{size:.0f} MB to {to}, not verified", lambda to=to: converted(to),  # type: ignore[misc]
                 "shutil.copy", lambda: shutil.copy(path, copied))
            for to in ("py", "state-dict", "npz")
        )
    )  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
