"""Distances: what the golden data does not show.

The numbers were printed by Torch7, for the same steps.
"""

from __future__ import annotations

import pytest
from torch7 import gives, tensor, wave

import t7compat
from t7compat import Table, mersenne, nn


@pytest.mark.parametrize(
    ("p", "batch", "vector"),
    [
        (1.5, "0 0.680283 0.595897 0.525263 -0.55003 -1.36663", "0.797189 0.525263 -0.55003 -1.36663"),
        (2, "0 0.75222 0.658911 0.671687 -0.703358 -1.7476", "0.698216 0.671687 -0.703358 -1.7476"),
        (3, "0 0.70983 0.54465 0.273625 -0.300037 -1.85228", "0.633963 0.273625 -0.300037 -1.85228"),
    ],
)
def test_pairwise_distance(p: float, batch: str, vector: str) -> None:
    module = nn.PairwiseDistance(p)
    a, b = wave(2, 3), (wave(6) * 0.3).reshape(2, 3)
    b[0, 0] = a[0, 0]
    module.forward(Table(a, b))
    gives(module.backward(Table(a, b), tensor(1, 2))[1], batch)
    module.forward(Table(a[1], b[1]))
    gives(Table(module.output, module.backward(Table(a[1], b[1]), tensor(2))[1]), vector)
    module.forward(Table(a, a))
    assert not module.backward(Table(a, a), tensor(1, 2))[1].any()


def test_signs_of_equal_elements_are_drawn() -> None:
    t7compat.manualSeed(3)
    a, b = wave(3, 2), wave(3, 2)
    b[0, 1], b[2, 0] = 5, -5
    gradInput = nn.PairwiseDistance(1).backward(Table(a, b), tensor(1, 2, 3))
    gives(gradInput, "-1 -1 -2 2 3 3 1 1 2 -2 -3 -3")
    assert mersenne.default_generator.random(100) == 61


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (1, "-0.000846153305 -0.191230647024 0.127769149118 0.087972216423 -0.126200980628 0.075536353369"),
        (2, "0.034692285522 -0.309692109782 0.364692074635 0.116989230218 -0.222924359942 0.268983111997"),
    ],
)
def test_scale_counts_for_a_part_of_the_gradient_of_cosine(scale: float, expected: str) -> None:
    module, x, gradOutput = nn.Cosine(3, 2), tensor(0.3, -1, 2), tensor(1, 0.5)
    module.weight.copy_(tensor(1, 2, 3, -1, 0.5, 2).view(2, 3))
    module.zeroGradParameters()
    module.forward(x)
    module.backward(x, gradOutput, scale)
    gives(module.gradWeight, expected)
    module.zeroGradParameters()
    network = nn.Sequential().add(module)
    network.forward(x)
    network.backward(x, gradOutput, scale)
    gives(module.gradWeight, expected)


def test_centres_from_the_input() -> None:
    t7compat.manualSeed(8)
    random, spread = nn.Kmeans(2, 3), nn.Kmeans(3, 2)
    t7compat.manualSeed(8)
    random.reset()
    random.initRandom(wave(5, 3))
    gives(random.weight, "0.334988 -0.350783 -0.871576 0.644218 0.98545 0.863209")
    t7compat.manualSeed(9)
    spread.reset()
    spread.initKmeansPlus(wave(8, 2), 0.6)
    gives(spread.weight, "-0.982453 -0.631267 0.863209 0.334988 0.319098 -0.366479")
