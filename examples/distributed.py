"""A training loop for any number of processes.

    python examples/distributed.py
    torchrun --nproc-per-node 2 examples/distributed.py

Both print the same losses.  Lines that are marked with # + are those that one process would not need.
"""

import torch

import t7compat
from t7compat import distributed, nn

ITERATIONS, BATCH = 100, 32

rank, size = distributed.start()  # +
t7compat.manualSeed(1)
if rank == 0:
    print(f"training with {size} process{'es' if size > 1 else ''}")

model = nn.Sequential()
model.add(nn.Linear(2, 16)).add(nn.Tanh())
model.add(nn.Linear(16, 2)).add(nn.LogSoftMax())
model = distributed.wrap(model)  # +
criterion = nn.ClassNLLCriterion()

points = torch.rand(1024, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
classes = (points.prod(1) > 0).long() + 1  # which two of the quadrants

for i in range(ITERATIONS):
    start = i * BATCH % len(points)
    rows = range(start + rank, start + BATCH, size)  # + of the batch, those of this process
    x, y = points[rows], classes[rows]
    loss = criterion.forward(model.forward(x), y)
    model.zeroGradParameters()
    model.backward(x, criterion.backward(model.output, y))
    model.updateParameters(1.0)
    if i % 20 == 19:
        loss = distributed.average(loss)  # + in all processes, for it waits for them
        if rank == 0:
            print(f"loss after {i + 1} iterations: {loss:.6f}")

if rank == 0:
    t7compat.save("distributed.t7", model)  # the model as Torch7 knows it
