"""The speed of t7compat.mersenne beside PyTorch's own generator.  `python benchmarks/mersenne.py [n]`"""

from __future__ import annotations

import sys
from timeit import timeit

import torch
from compare import Task, compare

from t7compat import mersenne


def main(n: int) -> None:
    """Compare filling n numbers, then time single ones, of which PyTorch has no equal."""
    double, single = torch.empty(n, dtype=torch.float64), torch.empty(n)
    print(f"{n:,} numbers")
    compare(
        *(
            Task(name, ours, "torch", theirs)
            for name, ours, theirs in [
                ("normal, double", lambda: mersenne.normal_(double), lambda: double.normal_()),
                ("normal, float", lambda: mersenne.normal_(single), lambda: single.normal_()),
                ("uniform, double", lambda: mersenne.uniform_(double, -1, 1), lambda: double.uniform_(-1, 1)),
                (
                    "bernoulli, float",
                    lambda: mersenne.bernoulli_(single, 0.5),
                    lambda: single.bernoulli_(0.5),
                ),
                ("random, double", lambda: mersenne.random_(double, 100), lambda: double.random_(1, 101)),
                (
                    "exponential, double",
                    lambda: mersenne.exponential_(double, 1),
                    lambda: double.exponential_(1),
                ),
                (
                    "geometric, double",
                    lambda: mersenne.geometric_(double, 0.3),
                    lambda: double.geometric_(0.7),
                ),
                ("randperm", lambda: mersenne.randperm(n), lambda: torch.randperm(n)),
            ]
        )
    )
    for draw in (mersenne.uniform, mersenne.normal, mersenne.random):
        print(f"{draw.__name__ + '()':22}{timeit(draw, number=10000) * 100:10.2f} us a number")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
