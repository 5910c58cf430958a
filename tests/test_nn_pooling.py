"""Poolings, paddings, upsampling and normalisations: what single golden cases do not show."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from golden import same

import t7compat
from converters import to_native
from t7compat import InputError, Table, nn

NAN = math.nan


def wave(*size: int) -> torch.Tensor:
    return torch.arange(math.prod(size), dtype=torch.float64).mul(0.7).sin().view(size)


# ---- edges, with the numbers of Torch7


@pytest.mark.parametrize(
    ("module", "size", "first_row"),
    [
        (nn.SpatialAveragePooling(1, 1, 2, 2).ceil(), (1, 2, 2), [0, NAN]),
        (nn.SpatialAveragePooling(1, 1, 3, 3).ceil(), (1, 2, 2), [0, 0]),
        (nn.SpatialAveragePooling(1, 1, 2, 2), (1, 2, 2), [0]),
        (nn.SpatialMaxPooling(1, 1, 2, 2).ceil(), (1, 2, 2), [0, -torch.finfo(torch.float64).max]),
        (nn.SpatialMaxPooling(1, 1, 2, 2).ceil().floor(), (1, 2, 2), [0]),
    ],
    ids=str,
)
def test_windows_beyond_the_end(module: nn.Module, size: tuple[int, ...], first_row: list[float]) -> None:
    input = torch.zeros(size, dtype=torch.float64)
    output = module.forward(input)
    same(output[0, 0], torch.tensor(first_row, dtype=torch.float64))
    gradInput = module.backward(input, torch.ones_like(output))
    assert gradInput.flatten().tolist() == [1] + [0] * (input.numel() - 1)


def test_padding_is_counted_or_not() -> None:
    module = nn.SpatialAveragePooling(2, 2, 2, 2, 1, 1)
    ones = torch.ones(1, 2, 2, dtype=torch.float64)
    assert module.forward(ones)[0, 0, 0] == 0.25
    assert module.setCountExcludePad().forward(ones)[0, 0, 0] == 1
    assert module.setCountIncludePad().forward(ones)[0, 0, 0] == 0.25


def test_old_average_without_its_later_fields() -> None:
    module = nn.SpatialAveragePooling(2, 2)
    for name in ("ceil_mode", "count_include_pad", "padW", "padH", "divide"):
        delattr(module, name)
    same(module.forward(wave(1, 2, 2)), wave(1, 2, 2).sum().view(1, 1, 1))
    assert str(module) == "nn.SpatialAveragePooling(2x2, 1,1)"


def test_slope_of_a_root_at_zero() -> None:
    zeros = torch.zeros(1, 5, 5, dtype=torch.float64)
    for module, input in (
        (nn.FeatureLPPooling(2, 1, 2, False), zeros[0, 0]),
        (nn.FeatureLPPooling(2, 1, 3, True), zeros[0]),
        (nn.SpatialLPPooling(1, 2, 2, 2), zeros),
    ):
        output = module.forward(input)
        assert not output.any()
        assert not module.backward(input, torch.ones_like(output)).any()


# ---- state


def test_fixed_windows() -> None:
    module = nn.SpatialFractionalMaxPooling(2, 2, 3, 3)
    input = wave(1, 2, 9, 9)
    module.forward(input)
    drawn = module.randomSamples
    module.fixPoolingRegions().forward(input)
    assert module.randomSamples is drawn
    module.fixPoolingRegions(False).forward(input)
    assert not torch.equal(module.randomSamples, drawn)
    module.clearState()
    assert module.randomSamples is None
    assert "indices" not in vars(module)


def test_statistics_of_the_batch_stay_in_evaluation() -> None:
    module = nn.BatchNormalization(3)
    module.forward(wave(4, 3))
    same(module.save_mean, wave(4, 3).mean(0))
    same(module.save_std, (wave(4, 3).var(0, correction=0) + module.eps).rsqrt())
    kept = module.save_mean.clone()
    module.evaluate()
    module.forward(wave(5, 3).exp())
    same(module.save_mean, kept)


def test_batch_of_one_in_a_network() -> None:
    """A single sample gets a batch, in the gradient of the layer, too; the sample itself stays what it is."""
    net = nn.Sequential().add(nn.Tanh()).add(nn.BatchNormalization(3))
    net.evaluate()
    input = wave(3)
    assert net.forward(input).shape == (1, 3)
    assert net.backward(input, wave(1, 3)).shape == (3,)
    assert net.get(2).gradInput.shape == (1, 3)
    assert input.shape == (3,)


def test_zero_is_not_nil() -> None:
    module = nn.BatchNormalization(3, 0, 0)
    assert (module.eps, module.momentum) == (0, 0)


def test_old_running_std() -> None:
    module = nn.SpatialBatchNormalization(2)
    del module.running_var
    module.running_std = torch.tensor([0.5, 2], dtype=torch.float64)
    module.upgrade(1)
    same(module.running_var, torch.tensor([4, 0.25], dtype=torch.float64) - 1e-5)
    assert "running_std" not in vars(module)


@pytest.mark.parametrize("make", [nn.VolumetricMaxPooling, nn.VolumetricDilatedMaxPooling])
def test_unpooling_finds_the_places(make: Callable[..., Any]) -> None:
    pooling = make(2, 2, 2).ceil()
    input = wave(2, 3, 5, 5, 4)
    pooled = pooling.forward(input)
    if make is nn.VolumetricDilatedMaxPooling:
        with pytest.raises(InputError, match=r"expected a nn\.VolumetricMaxPooling"):
            nn.VolumetricMaxUnpooling(pooling)
        return
    unpooling = nn.VolumetricMaxUnpooling(pooling)
    output = unpooling.forward(pooled)
    assert (unpooling.otime, unpooling.oheight, unpooling.owidth) == (5, 5, 4)
    found = output != 0
    assert found.sum() == pooled.numel()
    same(output[found], input[found])
    same(unpooling.backward(pooled, input), pooled)


def test_saved_places_are_used_after_loading() -> None:
    for pooling, unpool, input in (
        (nn.SpatialMaxPooling(2, 2), nn.SpatialMaxUnpooling, wave(1, 4, 4)),
        (nn.VolumetricMaxPooling(2, 2, 2), nn.VolumetricMaxUnpooling, wave(1, 4, 4, 4)),
    ):
        module = unpool(pooling)
        pooled = pooling.forward(input)
        again = t7compat.loads(t7compat.dumps(module))
        same(again.forward(pooled), module.forward(pooled))
        same(again.float().forward(pooled.float()), module.forward(pooled).float())


def test_kernel_of_the_caller_is_left_alone() -> None:
    kernel = torch.ones(5, dtype=torch.float64)
    module = nn.SpatialContrastiveNormalization(2, kernel)
    assert kernel.eq(1).all()
    assert module.kernel.sum().item() == pytest.approx(math.sqrt(0.5))
    assert all(inner.kernel is module.kernel for inner in module.normalizer.modules)
    module.kernel.zero_()  # the weights are those of the convolutions inside
    assert module.forward(wave(2, 7, 7)).isfinite().all()


def test_division_by_what_there_is() -> None:
    """Where all is zero the deviation counts as the threshold, and nothing goes back through it."""
    input = torch.zeros(1, 7, 7, dtype=torch.float64)
    module = nn.SpatialDivisiveNormalization(1, torch.ones(3, 3, dtype=torch.float64), 0.5, 2)
    assert not module.forward(input).any()
    same(module.backward(input, torch.ones_like(input)), torch.full_like(input, 0.5))


# ---- conversion


@pytest.mark.parametrize(
    ("module", "size", "name"),
    [
        (nn.SpatialMaxPooling(3, 2, 2, 2, 1, 1), (2, 3, 7, 7), "MaxPool2d"),
        (nn.SpatialDilatedMaxPooling(2, 2, 1, 1, 0, 0, 2, 2), (2, 3, 7, 7), "MaxPool2d"),
        (nn.VolumetricMaxPooling(2, 2, 2).ceil(), (2, 3, 5, 5, 5), "MaxPool3d"),
        (nn.SpatialAveragePooling(2, 3), (2, 3, 5, 5), "AvgPool2d"),
        (nn.SpatialAveragePooling(1, 1, 2, 2).ceil(), (2, 3, 4, 4), "SpatialAveragePooling"),
        (nn.SpatialMaxPooling(1, 1, 2, 2).ceil(), (2, 3, 4, 4), "SpatialMaxPooling"),
        (nn.VolumetricAveragePooling(2, 2, 2), (2, 3, 5, 5, 5), "AvgPool3d"),
        (nn.SpatialAdaptiveMaxPooling(2, 3), (2, 3, 5, 5), "AdaptiveMaxPool2d"),
        (nn.SpatialAdaptiveAveragePooling(2, 3), (2, 3, 5, 5), "AdaptiveAvgPool2d"),
        (nn.SpatialZeroPadding(1, -1), (2, 3, 5, 5), "ZeroPad2d"),
        (nn.SpatialReflectionPadding(1), (2, 3, 5, 5), "ReflectionPad2d"),
        (nn.SpatialReplicationPadding(1), (2, 3, 5, 5), "ReplicationPad2d"),
        (nn.VolumetricReplicationPadding(1), (2, 3, 5, 5, 5), "ReplicationPad3d"),
        (nn.PixelShuffle(2), (2, 8, 3, 3), "PixelShuffle"),
        (nn.UpSampling(2), (2, 3, 4, 4), "Upsample"),
        (nn.SpatialUpSamplingNearest(2), (2, 3, 4, 4), "UpsamplingNearest2d"),
        (nn.SpatialCrossMapLRN(5), (2, 7, 4, 4), "LocalResponseNorm"),
        (nn.SpatialCrossMapLRN(4), (2, 7, 4, 4), "SpatialCrossMapLRN"),
        (nn.SpatialBatchNormalization(3), (2, 3, 4, 4), "BatchNorm2d"),
        (nn.TemporalMaxPooling(2), (2, 5, 3), "FramesMaxPool1d"),
    ],
    ids=str,
)
def test_layer_of_pytorch(module: nn.Module, size: tuple[int, ...], name: str) -> None:
    """torch.nn has an equal, and it is taken, except where it does not give the numbers of Torch7."""
    network = to_native(module, wave(*size))
    assert type(network).__name__ == name
    module.evaluate()
    torch.testing.assert_close(network(wave(*size)), module.forward(wave(*size)), equal_nan=True)


def test_random_windows_are_converted() -> None:
    network = to_native(nn.VolumetricFractionalMaxPooling(2, 2, 2, 3, 4, 5), wave(1, 2, 9, 9, 9))
    assert network(wave(1, 2, 9, 9, 9)).shape == (1, 2, 5, 4, 3)


def test_upsampling_in_single_precision_is_that_of_pytorch() -> None:
    network = to_native(nn.SpatialUpSamplingBilinear(3), wave(2, 3, 4, 4).float())
    assert type(network).__name__ == "UpsamplingBilinear2d"


# ---- what is refused

REFUSED: list[tuple[Callable[[], Any], tuple[int, ...], str]] = [
    (lambda: nn.TemporalMaxPooling(4), (3, 2), "planes as large as the window"),
    (lambda: nn.SpatialMaxPooling(2, 2), (4, 4), "a 3-D or 4-D tensor"),
    (lambda: nn.SpatialMaxPooling(2, 2, 1, 1, 2, 2), (1, 4, 4), "padding of at most half the window"),
    (lambda: nn.SpatialDilatedMaxPooling(2, 2, 1, 1, 2, 2, 4, 4), (1, 9, 9), "padding of at most half"),
    (lambda: nn.SpatialMaxPooling(5, 5), (1, 4, 4), "planes as large as the window"),
    (lambda: nn.SpatialMaxPooling(2, 2, 0, 0), (1, 4, 4), "windows and strides of 1 or more"),
    (lambda: nn.SpatialAveragePooling(2, 2), (1, 1, 1, 4, 4), "a 3-D or 4-D tensor"),
    (lambda: nn.VolumetricMaxPooling(2, 2, 2), (4, 4, 4), "a 4-D or 5-D tensor"),
    (lambda: nn.SpatialFractionalMaxPooling(2, 2, 3, 3), (1, 4, 4), "an input larger than output and window"),
    (lambda: nn.FeatureLPPooling(4, 1, 2, True), (2, 3), "4 features or more"),
    (lambda: nn.SpatialZeroPadding(-2, -1), (1, 3, 3), "planes of which something is left"),
    (lambda: nn.SpatialReflectionPadding(3), (1, 3, 3), "less than the corresponding input dimension"),
    (lambda: nn.PixelShuffle(2), (6, 3, 3), "a multiple of 4 planes"),
    (lambda: nn.UpSampling(2), (3, 4, 4), "a 4-D or 5-D tensor"),
    (lambda: nn.UpSampling({"oheight": 5, "owidth": 5}, "linear"), (1, 2, 3, 3, 3), "planes, as there is no"),
    (lambda: nn.SpatialCrossMapLRN(5), (4, 4), "a 3-D or 4-D tensor"),
    (lambda: nn.SpatialBatchNormalization(3), (2, 4, 5, 5), "with 3 elements in dimension 2"),
    (lambda: nn.SpatialBatchNormalization(3), (3, 5, 5), "a 4-D tensor"),
]


@pytest.mark.parametrize(("make", "size", "expected"), REFUSED)
def test_refused_input(make: Callable[[], Any], size: tuple[int, ...], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        make().forward(wave(*size))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.SpatialMaxUnpooling(nn.SpatialMaxPooling(2, 2, 1, 1)),
        lambda: nn.SpatialMaxUnpooling(nn.SpatialDilatedMaxPooling(2, 2)),
        lambda: nn.SpatialFractionalMaxPooling(1, 2, 3, 3),
        lambda: nn.SpatialFractionalMaxPooling(2, 2, 0.5, 1.5),
        lambda: nn.FeatureLPPooling(17, 1, 2, True),
        lambda: nn.SpatialUpSamplingNearest(0.5),
        lambda: nn.UpSampling(1.5),
        lambda: nn.UpSampling(Table.from_python({"owidth": 2, "oheight": 2})),
        lambda: nn.SpatialSubtractiveNormalization(1, torch.ones(2, 3)),
        lambda: nn.SpatialDivisiveNormalization(1, torch.ones(3, 3, 3)),
    ],
)
def test_refused_argument(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match="expected"):
        make()


def test_unpooling_of_another_size() -> None:
    pooling = nn.SpatialMaxPooling(2, 2)
    module = nn.SpatialMaxUnpooling(pooling)
    with pytest.raises(InputError):
        module.forward(wave(1, 2, 2))
    pooling.forward(wave(1, 4, 4))
    with pytest.raises(InputError, match="the size of the indices"):
        module.forward(wave(1, 2, 3))


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: nn.SpatialFractionalMaxPooling(2, 2, 3, 3), (2, 3, 8, 8)),
        (lambda: nn.VolumetricFractionalMaxPooling(2, 2, 2, 0.5, 0.6, 0.7), (2, 3, 9, 8, 7)),
    ],
    ids=("planes", "volumes"),
)
def test_windows_that_stay_are_converted(make: Any, size: tuple[int, ...]) -> None:
    module = make().fixPoolingRegions()
    output = module.forward(wave(*size))
    network = to_native(module)
    assert torch.equal(network(wave(*size)), output)
    assert torch.equal(network(wave(*size)), network(wave(*size)))
    assert network(wave(1, *size[1:])).shape[1:] == output.shape[1:]
