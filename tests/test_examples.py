"""The examples print what the same programs in Lua print in Torch7, and their pages quote both."""

from __future__ import annotations

import functools
import importlib.util
import re
import runpy
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from command import t7convert
from golden import cases, same
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import t7compat
from converters import interpreter
from t7compat import Table, mersenne, nn

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.lua"))  # distributed.py is tested elsewhere
PAGES = sorted(EXAMPLES.glob("*.md"))
# How to run an example in little time; the file in output/ it compares with, and how many lines of that
RUNS: dict[str, tuple[list[str], str, int | None]] = {
    "charlm": (["--iterations", "60", "--size", "32"], "charlm_short", None),
    "cosine": (["--iterations", "60"], "cosine", 10),
}
NUMBER = re.compile(r"(-?\d+\.\d+)")


@functools.cache
def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run an example as a user does; what it prints."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def as_printed(got: str, want: str) -> None:
    """Raise AssertionError unless the texts are equal, the last digit of a number not counted."""
    assert NUMBER.sub("0.0", got) == NUMBER.sub("0.0", want)
    for mine, theirs in zip(NUMBER.findall(got), NUMBER.findall(want), strict=True):
        digits = len(theirs.partition(".")[2])
        assert float(mine) == pytest.approx(float(theirs), abs=1.01 * 10**-digits, rel=0)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sample"])  # that one is below
def test_prints_what_torch7_prints(name: str, run: Callable[..., str]) -> None:
    arguments, output, lines = RUNS.get(name, ([], name, None))
    got = run(name, *arguments).splitlines()
    want = (EXAMPLES / "output" / f"{output}.txt").read_text().splitlines()
    as_printed("\n".join(got[:lines]), "\n".join(want[:lines]))


# ---- the training loops of the examples on the models and data of Torch7


def song_losses(trace: Table) -> list[float]:
    data, config = trace.data, trace.config
    if data.songs is not None:
        inputs, targets = data.songs, data.labels
    else:
        inputs = data.input.split(config.window or len(data.input))[: config.forget_every or 1]
        targets = [data.target] * len(inputs)
    return example("songs").train(trace.model, inputs, targets, trace.iterations, config.learningRate)


def item_losses(trace: Table) -> list[float]:
    data, config = trace.data, trace.config
    return example("next_item").train(
        trace.model, data.dataset, data.offsets, config.rho, trace.iterations, config.learningRate
    )


def cosine_losses(trace: Table) -> list[float]:
    cosine, wave, rho = example("cosine"), trace.data.sequence, trace.config.rho
    losses = cosine.train(
        trace.model, wave, trace.data.offsets, rho, trace.iterations, trace.config.learningRate
    )
    predictions = cosine.continued(trace.model, wave[:rho], len(trace.predictions))
    same(predictions, trace.predictions, "predictions")
    return losses


def step_losses(trace: Table) -> list[float]:
    rho, rate = trace.config.rho, trace.config.learningRate
    windows = list(zip(trace.data.inputs.split(rho), trace.data.targets.split(rho), strict=True))
    train = example("steps").train_step_by_step
    return [train(trace.model, *windows[i % len(windows)], rate) for i in range(trace.iterations)]


def length_losses(trace: Table) -> list[float]:
    batches = [(batch.input, batch.target) for batch in trace.data]
    return example("lengths").train(trace.model, batches, trace.iterations, trace.config)


LOSSES = {
    "songs_online": song_losses,
    "songs_batch": song_losses,
    "songs_stacked": song_losses,
    "songs_remember": song_losses,
    "lm_recurrent": item_losses,
    "lm_lstm": item_losses,
    "cosine": cosine_losses,
    "recursor_steps": step_losses,
    "maskzero_lengths": length_losses,
}
TRACES = {case.stem: case for case in cases("traces") if case.stem in LOSSES}


@pytest.mark.parametrize("stem", TRACES)
def test_trains_as_torch7_does(stem: str) -> None:
    trace = TRACES[stem].load()
    losses = torch.tensor(LOSSES[stem](trace), dtype=torch.float64)
    torch.testing.assert_close(losses, trace.losses, rtol=1e-8, atol=0)
    same(trace.model.parameters()[0], trace.params_final, "parameters at the end")


def song_network(words: int, size: int, layers: int, *split: int) -> nn.Module:
    lstms = [nn.Sequencer(nn.LSTM(size, size)) for _ in range(layers)]
    return example("songs").acceptor(nn.SplitTable(*split), *lstms, words=words, size=size)


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {  # from the sizes of the first layer's weight
    "songs_online": lambda words, size: song_network(words, size, 1, 1),
    "songs_batch": lambda words, size: song_network(words, size, 1, 1, 3),
    "songs_stacked": lambda words, size: song_network(words, size, 2, 1, 3),
    "lm_lstm": lambda items, size: example("next_item").lstm(items, size, 5),
    "cosine": lambda size, _: example("cosine").network(size),
    "recursor_steps": lambda words, size: nn.Recursor(example("steps").network(words, size), 5),
}


@pytest.mark.parametrize("stem", sorted(NETWORKS.keys() & TRACES.keys()))
def test_network_is_that_of_torch7(stem: str) -> None:
    trace = TRACES[stem].load()
    assert str(NETWORKS[stem](*trace.model.parameters()[0][1].shape)) == trace.tostring


# ---- sequences of different lengths


def as_torch(cell: nn.Module) -> torch.nn.LSTM:
    """The layer of torch.nn with the weights of a FastLSTM, whose gates are i, g, f, o."""
    layer = torch.nn.LSTM(cell.inputSize, cell.outputSize, dtype=torch.float64)
    values = (cell.i2g.weight, cell.o2g.weight, cell.i2g.bias, torch.zeros_like(cell.i2g.bias))
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), values, strict=True):
            parameter.copy_(torch_gates(value))
    return layer


def torch_gates(value: torch.Tensor) -> torch.Tensor:
    i, g, f, o = value.chunk(4)
    return torch.cat((i, f, g, o))


@pytest.mark.parametrize("whole", [False, True], ids=["Sequencer(FastLSTM)", "SeqLSTM"])
def test_mask_zero_is_pack_padded_sequence(whole: bool) -> None:
    t7compat.manualSeed(7)
    steps, lengths, inputs, outputs = 6, [4, 1, 6, 3], 5, 3
    x = mersenne.normal_(torch.zeros(steps, len(lengths), inputs).double())
    g = mersenne.normal_(torch.zeros(steps, len(lengths), outputs).double())
    for b, length in enumerate(lengths):
        x[: steps - length, b] = g[: steps - length, b] = 0
    seq = nn.SeqLSTM(inputs, outputs)
    cell = seq.toFastLSTM()
    layer = as_torch(cell)
    network = seq.maskZero() if whole else nn.Sequencer(cell.maskZero(1))
    network.zeroGradParameters()
    output, gradInput = network.forward(x), network.backward(x, g)
    cell = seq.toFastLSTM() if whole else cell

    behind = torch.zeros_like(x)  # PyTorch pads behind
    for b, length in enumerate(lengths):
        behind[:length, b] = x[steps - length :, b]
    behind.requires_grad_()
    packed = pack_padded_sequence(behind, torch.tensor(lengths), enforce_sorted=False)
    theirs, _ = pad_packed_sequence(layer(packed)[0])
    torch.stack([(theirs[:n, b] * g[steps - n :, b]).sum() for b, n in enumerate(lengths)]).sum().backward()

    close = functools.partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
    for b, length in enumerate(lengths):
        close(output[steps - length :, b], theirs[:length, b].detach())
        close(gradInput[steps - length :, b], behind.grad[:length, b])
        assert not output[: steps - length, b].any()
        assert not gradInput[: steps - length, b].any()
    close(torch_gates(cell.i2g.gradWeight), layer.weight_ih_l0.grad)
    close(torch_gates(cell.o2g.gradWeight), layer.weight_hh_l0.grad)
    close(torch_gates(cell.i2g.gradBias), layer.bias_ih_l0.grad)


# ---- files and options


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path, wave = tmp_path / "cosine.png", example("cosine").wave
    example("cosine").plot(path, [1, 0.5], wave[:20] + 0.1, wave)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_character_model_writes_on_from_its_file(tmp_path: Path, run: Callable[..., str]) -> None:
    path = str(tmp_path / "play.t7")
    run("charlm", "--iterations", "2", "--size", "8", "--length", "1", "--save", path)
    once, again, other = (run("charlm", "--load", path, "--length", "40", "--seed", s) for s in "112")
    assert once == again != other
    cold = run("charlm", "--load", path, "--length", "40", "--temperature", "1e-3")
    assert len(set(cold)) < len(set(once))


def test_character_model_needs_text(tmp_path: Path, run: Callable[..., str]) -> None:
    (tmp_path / "short.txt").write_text("too short")
    with pytest.raises(SystemExit, match="2"):
        run("charlm", "--text", str(tmp_path / "short.txt"))


@pytest.mark.cuda
def test_character_model_on_cuda() -> None:
    charlm = example("charlm")
    numbers, symbols = charlm.encode(charlm.PLAY.read_text())
    t7compat.manualSeed(1)
    here = charlm.network(len(symbols), 16).float()
    there = here.clone().cuda()
    on_cpu, on_cuda = (charlm.train(m, numbers, 5, {"learningRate": 0.005}) for m in (here, there))
    assert on_cuda == pytest.approx(on_cpu, rel=1e-4)
    assert len(charlm.sample(there, symbols, 10, 0.7)) == 10


# ---- a converted checkpoint of char-rnn

# It runs the program that is its second argument, which can import neither package of this project; what it
# prints goes to the file that is the first one
ALONE = """
import contextlib, runpy, sys
sys.modules["t7compat"] = sys.modules["converters"] = None
_, file, *sys.argv = sys.argv
with open(file, "w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
# What Torch7 printed for `th sample.lua charrnn_KIND.checkpoint.t7 -length 60` with these lines after
# `network:evaluate()`, which make a network that was never trained more decided:
#    local all = network:parameters()
#    for _, parameter in ipairs(all) do parameter:mul(8) end
#    all[#all]:zero()
DECIDED = {
    "lstm": "a bad cabaaaabbaabbbbbbbbbbbbbbbdabbdbbbdbbbbbbbbbbbbbbbbbbbdabbdbbbd\n"
    "log-probability of what was written: -67.6203\n",
    "gru": "a bad cab.bbbbbbbbbbbbbb.b.b.b.b.b.b.b.b.b.b.b.b.b..b.b..b..b..b..b..\n"
    "log-probability of what was written: -21.4534\n",
}


def char_rnn(kind: str) -> Path:
    return EXAMPLES.parent / "fixtures" / "golden" / "models" / f"charrnn_{kind}.checkpoint.t7"


def converted(checkpoint: Path, folder: Path) -> Path:
    result = t7convert(checkpoint, "-o", folder)
    assert result.exit_code == 0, result.output
    return folder / f"{checkpoint.stem.replace('.', '_')}.json"


def decided(kind: str) -> Table:
    checkpoint = t7compat.load(char_rnn(kind))
    parameters, _ = checkpoint.protos.rnn.parameters()
    for parameter in parameters:
        parameter.mul_(8)
    parameters[len(parameters)].zero_()
    return checkpoint


@pytest.fixture
def sampled(kept_interpreter: None, tmp_path: Path) -> Callable[..., Any]:
    """Run sample.py in another interpreter; gives what it prints, and what became of it."""

    def sampled(*arguments: Any) -> tuple[str, Any]:
        file = tmp_path / "printed"
        done = interpreter.run(ALONE, str(file), str(EXAMPLES / "sample.py"), *map(str, arguments))
        return file.read_text("utf-8"), done

    return sampled


@pytest.fixture
def written_on(sampled: Callable[..., Any]) -> Callable[..., str]:
    """Run sample.py, which has to succeed; gives what it prints."""

    def written_on(*arguments: Any) -> str:
        text, done = sampled(*arguments)
        assert done.returncode == 0, done.stderr
        return text

    return written_on


def test_char_rnn_writes_what_torch7_writes(written_on: Callable[..., str], tmp_path: Path) -> None:
    got = written_on(converted(char_rnn("lstm"), tmp_path))
    as_printed(got, (EXAMPLES / "output" / "sample.txt").read_text())


@pytest.mark.parametrize("kind", DECIDED)
def test_decided_char_rnn_writes_what_torch7_writes(
    kind: str, written_on: Callable[..., str], tmp_path: Path
) -> None:
    t7compat.save(tmp_path / f"{kind}.t7", decided(kind))
    got = written_on(converted(tmp_path / f"{kind}.t7", tmp_path), "--length", "60")
    as_printed(got, DECIDED[kind])


def test_char_rnn_with_letters_that_json_has_not(written_on: Callable[..., str], tmp_path: Path) -> None:
    checkpoint = decided("lstm")
    for old, new in {"b": "$", "d": "\udce9"}.items():
        checkpoint.vocab[new], checkpoint.vocab[old] = checkpoint.vocab[old], None
    checkpoint.protos.rnn.float()
    t7compat.save(tmp_path / "odd.t7", checkpoint)
    odd = str.maketrans("bd", "$\ufffd")
    got = written_on(converted(tmp_path / "odd.t7", tmp_path), "--length", "60", "--prime", "a $a\udce9 ca$")
    assert got.splitlines()[0] == DECIDED["lstm"].splitlines()[0].translate(odd)


@pytest.fixture(scope="module")
def gru(kept_interpreter: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(char_rnn("gru"), tmp_path_factory.mktemp("gru"))


def test_char_rnn_draws_with_a_seed(gru: Path, written_on: Callable[..., str]) -> None:
    once, again, other = (written_on(gru, "--temperature", "0.9", "--seed", s) for s in "112")
    assert once == again != other


def test_char_rnn_draws_from_the_tempered_probabilities() -> None:
    torch.manual_seed(1)
    p = torch.tensor([0.1, 0.2, 0.7])
    drawn = torch.tensor([example("sample").choose(p.log(), 0.5) for _ in range(4000)])
    torch.testing.assert_close(drawn.bincount()[1:] / 4000, p**2 / (p**2).sum(), atol=0.02, rtol=0)
    assert example("sample").choose(p.log(), 0) == 3


@pytest.mark.parametrize("prime", ["", "xyz"])
def test_char_rnn_needs_letters_that_it_knows(prime: str, gru: Path, sampled: Callable[..., Any]) -> None:
    _, done = sampled(gru, "--prime", prime)
    assert done.returncode == 2
    assert r"expected one or more of the letters '\n .abcd'" in done.stderr


# ---- the pages


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def quotes(text: str, block: str) -> bool:
    """Whether a text has these lines, at any depth."""
    return any(textwrap.indent(block, " " * depth) in text for depth in range(0, 13, 1))


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "README"], ids=lambda page: page.stem)
def test_page_quotes_the_programs(page: Path) -> None:
    sources = {
        "lua": page.with_suffix(".lua"),
        "python": page.with_suffix(".py"),
        "text": EXAMPLES / "output" / f"{page.stem}.txt",
    }
    found = blocks(page)
    assert {language for language, _ in found} == set(sources)
    assert [block for language, block in found if not quotes(sources[language].read_text(), block)] == []


def test_index_names_every_example() -> None:
    assert [page.stem for page in PAGES] == sorted(["README", *NAMES])
    index = (EXAMPLES / "README.md").read_text()
    assert [name for name in NAMES if f"({name}.md)" not in index] == []
    links: list[Any] = [link for page in PAGES for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())]
    assert [link for link in links if "://" not in link and not (EXAMPLES / link).exists()] == []
