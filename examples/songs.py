"""Old song or new?  Acceptors: the last state of an LSTM that has read the words decides."""

import torch

import t7compat
from t7compat import nn

SONGS = [  # two old ones, two new ones, in lines of five words
    ["should old acquaintance be forgot", "and never brought to mind", "should old acquaintance be forgot"],
    ["twinkle twinkle little star how", "i wonder what you are", "up above the world so"],
    ["push the button get fries", "push the button get more", "push it till it breaks"],
    ["my phone is my friend", "my friend is my phone", "hey phone hey friend hey"],
]
SIZE = 6  # of a word's vector and of the state

vocabulary: dict[str, int] = {}  # words become numbers, counted from 1
rows = [
    [vocabulary.setdefault(word, len(vocabulary) + 1) for word in " ".join(song).split()] for song in SONGS
]
WORDS = len(vocabulary)
songs = torch.tensor(rows)  # 4 songs x 15 words
old = torch.tensor([[1.0], [1.0], [0.0], [0.0]]).double()  # 4 songs x 1


def acceptor(split, *layers, words=WORDS, size=SIZE):
    """A network from words to the probability of an old song."""
    model = nn.Sequential()
    model.add(nn.LookupTable(words, size))  # words to vectors
    model.add(split)  # a tensor to a table of steps
    for layer in layers:
        model.add(layer)
    model.add(nn.SelectTable(-1))  # the last state
    model.add(nn.Linear(size, 1)).add(nn.Sigmoid())
    return model


def train(model, inputs, targets, iterations, rate=0.5):
    """Gradient descent on the inputs in turn; returns the losses."""
    criterion, losses = nn.BCECriterion(), []
    for i in range(iterations):
        k = i % len(inputs)
        if k == 0:
            model.forget()  # another round: matters only if the model remembers
        output = model.forward(inputs[k])
        losses.append(criterion.forward(output, targets[k]))
        model.zeroGradParameters()
        model.backward(inputs[k], criterion.backward(output, targets[k]))
        model.updateParameters(rate)
    print("  loss at every 10th step:", *[f"{loss:.4f}" for loss in losses[9::10]])
    return losses


def show(line, predictions):
    """Print what the network thinks, beside the line that it has read last."""
    for song, prediction in zip(SONGS, predictions, strict=True):
        print(f"  {prediction.item():.3f}  {song[line]}")


def one_by_one():
    """Sequences as vectors."""
    print("One song at a time")
    first_lines = songs[:, :5]
    model = acceptor(nn.SplitTable(1), nn.Sequencer(nn.LSTM(SIZE, SIZE)))
    train(model, first_lines, old, 40)
    show(0, [model.forward(line).clone() for line in first_lines])


def batched():
    """Sequences as columns of a matrix."""
    print("All songs at once")
    batch = songs[:, :5].t()  # 5 words x 4 songs
    model = acceptor(nn.SplitTable(1, 3), nn.Sequencer(nn.LSTM(SIZE, SIZE)))
    train(model, [batch], [old], 40)
    show(0, model.forward(batch))


def stacked():
    """The states of one layer are the inputs of the next."""
    print("Two layers, with dropout between them")
    batch = songs[:, :5].t()
    model = acceptor(
        nn.SplitTable(1, 3),
        nn.Sequencer(nn.LSTM(SIZE, SIZE)),
        nn.Sequencer(nn.Dropout(0.2)),
        nn.Sequencer(nn.LSTM(SIZE, SIZE)),
    )
    train(model, [batch], [old], 100)
    model.evaluate()  # from here on without dropout
    show(0, model.forward(batch))


def remembering():
    """Long sequences in parts: the state goes on from one to the next."""
    print("Line by line, with memory")
    model = acceptor(nn.SplitTable(1, 3), nn.Sequencer(nn.LSTM(SIZE, SIZE)))
    model.remember("both")  # in training and in evaluation
    lines = songs.t().split(5)  # 3 lines of 5 words x 4 songs
    train(model, lines, [old, old, old], 60)
    model.evaluate()  # this forgets as well
    for k, line in enumerate(lines):
        show(k, model.forward(line))
    remembered = model.forward(lines[0]).clone()
    model.forget()
    afresh = model.forward(lines[0])
    print(f"  what came before changes a prediction by up to {(remembered - afresh).abs().max():.3f}")


def main():
    """All of it."""
    t7compat.manualSeed(1)
    one_by_one()
    batched()
    stacked()
    remembering()


if __name__ == "__main__":
    main()
