"""Classes of other projects, beyond the golden models; the numbers and texts are those that Torch7 gave."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchfile
from golden import same

import t7compat
from converters import to_native
from t7compat import InputError, Table, TorchObject, mersenne, nn, registry
from t7compat.contrib import char_rnn, opennmt, torch_rnn


def randn(*size: int) -> torch.Tensor:
    """`torch.randn`"""
    return mersenne.normal_(torch.empty(size, dtype=torch.float64))


# ---- classes of one name


def both() -> Table:
    """The two classes that are called nn.LSTM."""
    own = torch_rnn.LSTM(3, 4)
    return Table(own, nn.LSTM(3, 4), nn.Sequential().add(own), own)


def test_classes_of_one_name_are_told_by_their_fields() -> None:
    assert nn.LSTM is not torch_rnn.LSTM
    saved = t7compat.dumps(both())
    found = t7compat.loads(saved)
    assert [type(module) for module in found] == [torch_rnn.LSTM, nn.LSTM, nn.Sequential, torch_rnn.LSTM]
    assert found[1] is found[4] is found[3].get(1)
    assert t7compat.dumps(found) == saved


def test_an_object_inside_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_namesakes", {})

    @t7compat.register("my.Class", told_by="mark")
    class Told(nn.Module):
        """One of two."""

    first = TorchObject("my.Class", 1, mark=True, inside=Table())
    first.inside[1] = first
    found = t7compat.loads(t7compat.dumps(Table(first, TorchObject("my.Class", 1), first)))
    assert [type(value) for value in found] == [Told, TorchObject, Told]
    assert found[1].inside[1] is found[1] is found[3]
    with pytest.raises(ValueError, match=r"my\.Class is .*Told already"):
        t7compat.register("my.Class", told_by="mark")(nn.Module)


def test_classes_of_one_name_from_torchfile(tmp_path: Any) -> None:
    t7compat.save(tmp_path / "both.t7", both())
    found = t7compat.from_torchfile(torchfile.load(str(tmp_path / "both.t7"), use_list_heuristic=False))
    assert [type(module) for module in found] == [torch_rnn.LSTM, nn.LSTM, nn.Sequential, torch_rnn.LSTM]
    assert found[1] is found[3].get(1) is found[4]


# ---- char-rnn


def test_one_hot_has_no_gradient() -> None:
    module, input = char_rnn.OneHot(4), torch.tensor([2.0, 4.0], dtype=torch.float64)
    for _ in range(2):
        assert module.forward(input).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
        assert module.backward(input, module.output).shape == (0,)
    with pytest.raises(InputError, match=r"expected indices from 1 to 4, got 5"):
        module.forward(torch.tensor([5]))


# ---- torch-rnn

OPTIONS = ("model_type", "wordvec_size", "rnn_size", "num_layers", "dropout", "batchnorm")
MODELS: dict[int, dict[str, Any]] = {  # by seed
    seed: dict(zip(OPTIONS, values, strict=True))
    for seed, *values in (
        (11, "lstm", 7, 9, 3, 0.25, 0),
        (12, "lstm", 5, 6, 2, 0.5, 1),
        (13, "rnn", 6, 8, 2, 0, 1),
    )
}
TEXTS = {
    11: (
        "abc\na.b\ncd bdaededdd d dcdeedeeeadddd. d",
        "addddabcbab\ndbcbaddebd\nd.\na.\n  b.b .ee .",
        "ddddd\n\n\n\n\n\n\n\n\n\n \n             ",
        "e.bde dbdebd bedbb ecdddd\n deeaddddedee ddedbec cddeedddeddc",
    ),
    12: (
        "abc.a.c.cd\ncda d dde\ne.ece  d \neaddce.\nd",
        "acdddabcbac.dbcbbccdbc.c. a.  db.b .dd .",
        "dccccccccccccccccccccccccccccc",
        "e.bc \ncbc bc.b.cbb. bccdd..c\n.acccc.c  .cc db c.bcc dccc dcc",
    ),
    13: (
        "abc.a\nc.e\n\ncdae\n\ndde\n .ec .\nd\n\n\nadcee\n\nd",
        "ace\n\nacbdad.ecbdaee\ncc.e\n a.\ndec.c .e\n .",
        "d.\nd.\nd.\nd.\nd.\nd.\nd.\nd.\nd.\nd.\n",
        "e. d.\ndae\nad.c.dad.\ncde\n\n\n\n .\nacdee\n\n\n\n\ndd\n\na\nc.dbe\n\n e\n\ndbe",
    ),
}
SAMPLING: dict[int, dict[str, Any]] = {  # by seed
    8: {"length": 40, "start_text": "abc"},
    9: {"length": 40},
    10: {"length": 30, "sample": 0, "start_text": "d"},
    12: {"length": 60, "temperature": 0.5, "start_text": "e."},
}
# The sums of the sizes of the outputs and of all gradients so far, in three forwards that follow each other
SUMS = {
    11: ((33.414329528808594, 51.0887451171875, 88.67355346679688),
         (217.2749948501587, 452.089515209198, 675.5573773384094)),
    12: ((139.95846557617188, 127.59901428222656, 194.4227294921875),
         (2266.715087890625, 2458.323022842407, 2565.825096130371)),
    13: ((156.68927001953125, 178.387451171875, 201.77748107910156),
         (1085.575756072998, 1777.082082748413, 2276.619409561157)),
}  # fmt: skip


def language_model(seed: int) -> Any:
    t7compat.manualSeed(seed)
    model = nn.LanguageModel({"idx_to_token": list("abcde \n."), **MODELS[seed]}).float()
    for parameter in model.parameters()[0]:
        parameter.mul_(2)
    return model


@pytest.mark.parametrize("seed", MODELS)
def test_language_model_writes_what_torch7_writes(seed: int) -> None:
    model = language_model(seed)
    model.evaluate()
    for text, (draw, options) in zip(TEXTS[seed], SAMPLING.items(), strict=True):
        t7compat.manualSeed(draw)
        assert model.sample(options) == text


@pytest.mark.parametrize("seed", MODELS)
def test_language_model_remembers(seed: int) -> None:
    """Also across a file; the dropout masks are drawn as by Torch7."""
    model = language_model(seed)
    model.evaluate()
    t7compat.manualSeed(12)
    model.sample(SAMPLING[12])
    model.training()
    model.zeroGradParameters()
    for i, (output, gradient) in enumerate(zip(*SUMS[seed], strict=True), 1):
        tokens = mersenne.random_(torch.empty(3, 4 + i, dtype=torch.long), 1, 8)
        t7compat.manualSeed(i)
        scores = model.forward(tokens)
        assert scores.abs().sum().item() == pytest.approx(output, rel=1e-5)
        model.backward(tokens, randn(*scores.shape).float())
        total = sum(gradient.abs().sum().item() for gradient in model.parameters()[1])
        assert total == pytest.approx(gradient, rel=1e-5)
        model = t7compat.loads(t7compat.dumps(model))


@pytest.mark.parametrize("kind", [torch_rnn.LSTM, torch_rnn.VanillaRNN])
def test_state_before_a_sequence(kind: Any) -> None:
    """What is given has a gradient; and the converted layer takes it, too."""
    layer, x = kind(3, 4), randn(2, 5, 3)
    layer.forward(x[:, :2])
    states = [vars(layer)["cell"][:, -1]] if kind is torch_rnn.LSTM else []
    states.append(layer.output[:, -1].clone())
    layer.remember_states = True
    rest = layer.forward(x[:, 2:])
    given = Table(*states, x[:, 2:])
    same(layer.forward(given), rest)
    gradients = layer.backward(given, rest)
    assert [gradient.shape for gradient in gradients] == [value.shape for value in given]
    same(to_native(layer, given)(tuple(given))[0], rest)
    layer.resetStates()
    same(layer.forward(x)[:, 2:], rest)
    with pytest.raises(InputError, match=r"h0: expected a batch of 2, got torch.DoubleTensor of size 3x4"):
        layer.forward(Table(randn(3, 4), x))


def test_tokens_are_characters_or_bytes() -> None:
    options = MODELS[13] | {"idx_to_token": ["a", "é", "\udcc3", "\udcb6"]}
    model = nn.LanguageModel(options)
    assert model.encode_string("éa").tolist() == [2, 1]
    assert model.encode_string("aö").tolist() == [1, 3, 4]
    assert model.decode_string(torch.tensor([1, 3, 4, 2])) == "aöé"
    with pytest.raises(InputError, match=r"expected characters of the vocabulary, got 'b'"):
        model.encode_string("ab")
    with pytest.raises(InputError, match=r"expected the model_type lstm or rnn, got 'gru'"):
        nn.LanguageModel(options | {"model_type": "gru"})


# ---- fast-neural-style


def test_instance_normalization_of_two_times() -> None:
    images = randn(2, 3, 4, 5)
    module = nn.InstanceNormalization(3)
    usual = torch.nn.InstanceNorm2d(3, affine=True).double()
    usual.load_state_dict(module.native_state())
    scaled = images / (1 + 1e-5) ** 0.5 * module.weight[:, None, None]
    same(module.forward(images), scaled)
    module.bn = nn.SpatialBatchNormalization(6)
    same(module.forward(images), scaled)
    same(to_native(module)(images), scaled)
    module.bn.running_mean.fill_(0.5)  # by a version of nn that took the statistics of the image
    assert module.normalizes
    same(module.forward(images), usual(images))
    assert isinstance(to_native(module), torch.nn.InstanceNorm2d)
    module.normalizes = False
    same(t7compat.loads(t7compat.dumps(module)).forward(images), scaled)


def test_total_variation() -> None:
    images, gradOutput = randn(2, 3, 4, 5).requires_grad_(), randn(2, 3, 4, 5)
    inner = images[..., :-1, :-1]
    below, right = images[..., 1:, :-1], images[..., :-1, 1:]
    penalty = 0.3 / 2 * ((inner - below).square() + (inner - right).square()).sum()
    module = nn.TotalVariation(0.3)
    same(module.forward(images.detach()), images.detach())
    same(module.backward(images.detach(), gradOutput), gradOutput + torch.autograd.grad(penalty, images)[0])


def test_gram_matrix() -> None:
    x = randn(2, 3, 4, 5)
    products = torch.einsum("bnhw,bmhw->bnm", x, x)
    same(nn.GramMatrix(False).forward(x), products)
    same(nn.GramMatrix().forward(x[0]), products[0] / 60)


@pytest.mark.parametrize(
    ("seed", "loss_type", "agg_type", "loss", "gradient", "first"),
    [
        (41, "L2", "gram", 0.0483934442068275, 0.1373670440092879, [0, -6.698085987553463e-05]),
        (42, "SmoothL1", "mean", 0.037754723953199176, 0.22253681470722514,
         [0.000109227967481551, -0.00012148714436290296]),
    ],
)  # fmt: skip
def test_perceptual_criterion(
    seed: int, loss_type: str, agg_type: str, loss: float, gradient: float, first: list[float]
) -> None:
    t7compat.manualSeed(seed)
    layers = [nn.SpatialConvolution(3, 4, 3, 3), nn.ReLU(True)]
    inner = nn.Sequential().add(nn.SpatialConvolution(4, 5, 3, 3)).add(nn.Tanh())
    cnn = nn.Sequential().extend(*layers, inner, nn.SpatialConvolution(5, 2, 3, 3), nn.Tanh())
    criterion = nn.PerceptualCriterion(
        Table(
            cnn=cnn,
            loss_type=loss_type,
            agg_type=agg_type,
            content_layers=Table("3-1"),
            content_weights=Table(0.7),
            style_layers=Table("2", "3-2", "4"),
            style_weights=Table(2, 3, 0.5),
            deepdream_layers=Table("3-2"),
            deepdream_weights=Table(0.01),
        )
    )
    content, style, images = randn(2, 3, 9, 9), randn(1, 3, 9, 9), randn(2, 3, 9, 9)
    target = {"content_target": content, "style_target": style}
    assert criterion.forward(images, target) == pytest.approx(loss, rel=1e-9)
    gradInput = criterion.backward(images, target)
    assert gradInput.abs().sum().item() == pytest.approx(gradient, rel=1e-9)
    assert gradInput[0, 0, 0, :2].tolist() == pytest.approx(first, rel=1e-6)
    assert len(cnn.modules) == 6  # without what comes behind the last loss


# ---- OpenNMT


def test_word_embedding_may_stay_as_it_is() -> None:
    words, gradOutput = torch.tensor([1, 3, 3]), torch.ones(3, 4).double()
    module = opennmt.WordEmbedding(nn.LookupTable(5, 4, opennmt.PAD))
    around = nn.Sequential().add(module)

    def learnt() -> list[float]:
        module.zeroGradParameters()
        around.forward(words)
        around.backward(words, gradOutput)
        return [] if module.parameters() is None else module.net.gradWeight.sum(1).tolist()

    module.net.gradWeight.zero_()
    assert learnt() == [0, 0, 8, 0, 0]
    module.preTrainedVecSize = 3
    module.fixEmbeddings("pretrained")
    assert learnt() == [0, 0, 2, 0, 0]
    module.fixEmbeddings(True)
    assert learnt() == []
    assert around.getParameters()[0].numel() == 0
    module.fixEmbeddings(False)
    assert learnt() == [0, 0, 8, 0, 0]


def test_variational_dropout_keeps_its_mask() -> None:
    module, x = opennmt.VariationalDropout(0.5), torch.ones(4, 6).double()
    t7compat.manualSeed(3)
    first = module.forward(x).clone()
    assert 0 < first.count_nonzero() < 24
    same(module.forward(x), first)
    same(module.backward(x, 2 * x), 2 * first)
    with pytest.raises(InputError, match=r"expected torch.DoubleTensor of size 4x6 as in the steps before"):
        module.forward(x[:2])
    module.clearState()
    assert not torch.equal(module.forward(x), first)
    module.evaluate()
    same(module.forward(x), x)


def test_generator_takes_the_first_of_a_table() -> None:
    heads = nn.ConcatTable().add(nn.Linear(3, 5)).add(nn.Linear(3, 2))
    module, x = opennmt.Generator(heads), randn(4, 3)
    words, features = module.forward(Table(x, torch.tensor([1, 2, 3, 4])))
    same(module.forward(x), Table(words, features))
    assert module.backward(Table(x, None), Table(words, features)).shape == x.shape


def test_positions_end_with_the_sentence() -> None:
    module = opennmt.PositionEmbedding(2, 3, 2)
    lengths = torch.tensor([5, 2])
    output = module.forward(Table(randn(2, 5, 7), lengths))
    same(output, module.weight[torch.tensor([[1, 2, 3, 3, 3], [0, 0, 0, 1, 2]])])


def test_join_replicate() -> None:
    module, one, several = opennmt.JoinReplicateTable(1, 2, 2), randn(2, 1, 4), randn(2, 3, 5)
    output = module.forward(Table(one, several))
    same(output, torch.cat((one.expand(2, 3, 4), several), 2))
    same(module.backward(Table(one, several), output)[1], one * 3)


def test_bridge_to_nothing_and_batches() -> None:
    assert opennmt.Bridge().forward(Table(randn(2, 3))) is None
    encoder = opennmt.Encoder().add(nn.Linear(2, 2))
    assert len(encoder.parameters()[0]) == 2
    with pytest.raises(InputError, match=r"onmt.Encoder: it takes OpenNMT's batches"):
        encoder.forward(randn(1, 2))


def test_negative_zero_of_lua_pads_nothing() -> None:
    """As MaskedSoftmax has it for the longest sentence of a batch."""
    x = randn(4)
    same(nn.Padding(1, -0.0, 1, 0).forward(x), x)
