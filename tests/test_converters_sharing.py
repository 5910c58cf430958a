"""Recurrent layers that share weights share them in the converted network, too."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import same
from test_converters_states import branches, chain, graph, steps_of

import t7compat
from converters import convert, to_native
from converters.child import output_of
from t7compat import cudnn, nn
from t7compat.contrib import torch_rnn

pytestmark = pytest.mark.usefixtures("kept_interpreter")


def twin(module: nn.Module, *names: str) -> nn.Module:
    """A clone with common parameters, by default all of them."""
    return module.clone(*(names or ("weight", "bias", "gradWeight", "gradBias")))


def pair(first: nn.Module, *names: str) -> nn.Module:
    return chain(first, nn.Tanh(), twin(first, *names))


def masked() -> Any:
    layer = nn.SeqLSTM(4, 4)
    layer.maskzero = True
    return layer


def skipping() -> nn.Module:
    layer = cudnn.GRU(4, 4, 2)
    layer.inputMode = "CUDNN_SKIP_INPUT"
    layer.reset()
    return layer


def in_a_graph() -> nn.Module:
    first = nn.SeqLSTM(4, 4)
    return graph(first, twin(first), chain(nn.Tanh(), twin(first)), last=nn.CAddTable())


def side_by_side() -> nn.Module:
    first = steps_of(nn.FastLSTM(4, 4))
    return chain(branches(nn.ConcatTable(), first, twin(first)), nn.CAddTable())


NETWORKS = {
    "SeqLSTM": lambda: pair(nn.SeqLSTM(4, 4)),
    "SeqLSTM, the weight alone": lambda: pair(nn.SeqLSTM(4, 4), "weight", "gradWeight"),
    "SeqLSTM, the bias alone": lambda: pair(nn.SeqLSTM(4, 4), "bias", "gradBias"),
    "SeqLSTM in a graph": in_a_graph,
    "SeqLSTM with masks": lambda: pair(masked()),
    "SeqLSTMP": lambda: pair(nn.SeqLSTMP(4, 6, 4)),
    "SeqGRU": lambda: pair(nn.SeqGRU(4, 4)),
    "FastLSTM": lambda: pair(steps_of(nn.FastLSTM(4, 4))),
    "FastLSTM side by side": side_by_side,
    "GRU": lambda: pair(steps_of(nn.GRU(4, 4))),
    "LSTM": lambda: pair(steps_of(nn.LSTM(4, 4))),
    "cudnn.LSTM": lambda: pair(cudnn.LSTM(4, 4, 2), "weight", "gradWeight"),
    "cudnn.GRU without a first matrix": lambda: pair(skipping(), "weight", "gradWeight"),
    "torch-rnn": lambda: pair(torch_rnn.LSTM(4, 4)),
    "nothing": lambda: chain(nn.SeqLSTM(4, 4), nn.SeqLSTM(4, 4), steps_of(nn.GRU(4, 4))),
}


def count(module: nn.Module) -> int:
    """The number of parameters of a Torch network, shared ones once."""
    tensors, _ = module.parameters()
    return sum({tensor.data_ptr(): tensor.numel() for tensor in tensors}.values())


def count_native(network: torch.nn.Module, without: str) -> int:
    return sum(value.numel() for name, value in network.named_parameters() if without not in name)


@pytest.mark.parametrize("name", NETWORKS)
def test_shared_weights_stay_shared(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = NETWORKS[name]()
    module.evaluate()
    # what torch.nn has beside the Torch parameters: a second bias, of zeros; the identity as a matrix
    besides = "weight_ih_l0" if "without" in name else "none" if "cudnn" in name else "bias_hh"
    t7compat.save(tmp_path / "shared_model.t7", module)
    (report,) = convert(tmp_path / "shared_model.t7").networks
    assert report.verification.outcome == "verified"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shared_model", raising=False)
    importlib.invalidate_caches()
    x = torch.randn(5, 2, 4, dtype=torch.float64)
    wanted = module.forward(x)
    file = importlib.import_module("shared_model")
    assert [line for line in str(file.__doc__).splitlines() if "load()" in line] == ["    network = load()"]
    loaded = file.load()
    for network in (loaded, to_native(module)):
        assert count_native(network, besides) == count(module)
        assert len([name for name, _ in network.named_parameters() if "bias_hh_l0" in name]) <= 2
        same(output_of(network, x).detach(), wanted)
