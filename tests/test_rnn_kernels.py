"""The kernels for the steps of recurrences on CUDA: their numbers, and what happens where they fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from golden import same

from t7compat import Table, nn
from t7compat.rnn import steps
from t7compat.table import map_leaves

STEPS, BATCH, INPUTS, HIDDEN = 7, 3, 5, 37
TYPES = {torch.float64: "torch.DoubleTensor", torch.float32: "torch.FloatTensor"}
CUDA_TYPES = {torch.float64: "torch.CudaDoubleTensor", torch.float32: "torch.CudaTensor"}
MODULES: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: nn.Sequencer(nn.LSTM(INPUTS, HIDDEN)),
    "LSTM without peepholes": lambda: nn.Sequencer(nn.LSTM(INPUTS, HIDDEN, None, False)),
    "LSTM with padding": lambda: nn.Sequencer(nn.LSTM(INPUTS, HIDDEN).maskZero(1)),
    "GRU": lambda: nn.Sequencer(nn.GRU(INPUTS, HIDDEN)),
    "GRU with padding": lambda: nn.Sequencer(nn.GRU(INPUTS, HIDDEN).maskZero(1)),
    "SeqLSTM with padding": lambda: nn.SeqLSTM(INPUTS, HIDDEN).maskZero(),
    "SeqLSTMP": lambda: nn.SeqLSTMP(INPUTS, 9, HIDDEN),
    "SeqGRU": lambda: nn.SeqGRU(INPUTS, HIDDEN),
}


def sweep(module: nn.Module, x: torch.Tensor, gradOutput: torch.Tensor) -> Table:
    """The output and all gradients."""
    module.zeroGradParameters()
    output = module.forward(x)
    return Table(output, module.backward(x, gradOutput), module.parameters()[1])


def test_kernels_give_the_numbers_of_pytorch() -> None:
    pytest.importorskip("triton", reason="Triton comes with PyTorch for CUDA only")
    script = Path(__file__).with_name("interpreted_kernels.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    child = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert child.returncode == 0, child.stderr


@pytest.mark.cuda
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_cuda_gives_the_numbers_of_the_cpu(name: str, dtype: torch.dtype, tolerance: float) -> None:
    pytest.importorskip("triton", reason="PyTorch without Triton")
    here = MODULES[name]().type(TYPES[dtype])
    there = here.clone().type(CUDA_TYPES[dtype])
    x, gradOutput = torch.randn(STEPS, BATCH, INPUTS), torch.randn(STEPS, BATCH, HIDDEN)
    x[0, 0] = x[2] = x[4, 1] = 0
    given = x.to(dtype), gradOutput.to(dtype)
    want, got = sweep(here, *given), sweep(there, *[value.cuda() for value in given])
    same(map_leaves(torch.Tensor.cpu, got), want, tolerances={dtype: tolerance})
    assert steps.best(steps.gru_reset, got[1]) is not steps.gru_reset, "no kernel was used"


def step_back(kernels: steps.Kernels) -> None:
    """Do a step by kernels, and check the numbers."""
    to_z, to_g, grad_h = torch.ones(2, 3), torch.ones(2, 3), torch.full((2, 3), 2.0)
    kernels.attempt(steps.gru_backward, contextlib.nullcontext(), to_z, to_g, grad_h)
    assert torch.equal(to_z, grad_h)
    assert torch.equal(to_g, grad_h)


def test_kernels_that_fail_are_given_up_once_and_for_all() -> None:
    kernels = steps.Kernels("t7compat.rnn.no_kernels")
    with pytest.warns(RuntimeWarning, match="without Triton's kernels: ModuleNotFoundError"):
        step_back(kernels)
    with warnings.catch_warnings(action="error"):
        step_back(kernels)


@pytest.mark.skipif(find_spec("triton") is not None, reason="Triton is there")
@pytest.mark.filterwarnings("error")
def test_nothing_is_said_where_triton_is_not_there() -> None:
    step_back(steps.Kernels(steps.KERNELS.name))


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton comes with PyTorch for CUDA only")
def test_kernels_that_cannot_be_launched_are_given_up() -> None:
    with pytest.warns(RuntimeWarning, match="without Triton's kernels"):
        step_back(steps.Kernels(steps.KERNELS.name))  # with tensors on the CPU
