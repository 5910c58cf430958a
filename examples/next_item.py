"""The next item of a list: language models with nn.Recurrent and with nn.LSTM."""

import torch

import t7compat
from t7compat import mersenne, nn

ITEMS, SIZE, BATCH, RHO = 50, 20, 10, 5


def decoder(model, items, size):
    """Add the layers from states to the log-probabilities of items."""
    model.add(nn.Sequencer(nn.Linear(size, items)))
    model.add(nn.Sequencer(nn.LogSoftMax()))
    return model


def recurrent(items, size, rho):
    """h' = sigmoid(embedding of the item + W h + b)."""
    rnn = nn.Recurrent(size, nn.LookupTable(items, size), nn.Linear(size, size), nn.Sigmoid(), rho)
    return decoder(nn.Sequential().add(nn.Sequencer(rnn)), items, size)


def lstm(items, size, rho):
    """The same with a long short-term memory."""
    model = nn.Sequential()
    model.add(nn.Sequencer(nn.LookupTable(items, size)))
    model.add(nn.Sequencer(nn.LSTM(size, size, rho)))
    return decoder(model, items, size)


def window(order, places, rho):
    """Inputs and targets of `rho` steps from the places in the list, which move on."""
    inputs, targets = [], []
    for _ in range(rho):
        inputs.append(order[places - 1])
        places += 1
        places[places > len(order)] = 1
        targets.append(order[places - 1])
    return inputs, targets


def train(model, order, places, rho, iterations, rate):
    """Gradient descent on one window after another; returns the losses."""
    criterion, losses = nn.SequencerCriterion(nn.ClassNLLCriterion()), []
    model.zeroGradParameters()
    for i in range(1, iterations + 1):
        inputs, targets = window(order, places, rho)
        outputs = model.forward(inputs)
        losses.append(criterion.forward(outputs, targets))
        model.backward(inputs, criterion.backward(outputs, targets))
        model.updateParameters(rate)
        model.zeroGradParameters()
        if i % 50 == 0:
            print(f"  iteration {i:3d}   loss per step {losses[-1] / rho:.4f}")
    return losses


def hits(model, order, places, rho):
    """How many items of a window are the most probable ones."""
    inputs, targets = window(order, places, rho)
    outputs = model.forward(inputs)
    return sum(int((y.argmax(1) + 1 == target).sum()) for y, target in zip(outputs, targets, strict=True))


def main():
    """Train both and count what they know."""
    t7compat.manualSeed(1)
    order = mersenne.randperm(ITEMS)
    places = mersenne.random_(torch.empty(BATCH, dtype=torch.long), ITEMS)
    for name, make in {"nn.Recurrent": recurrent, "nn.LSTM": lstm}.items():
        model = make(ITEMS, SIZE, RHO)
        print(name)
        train(model, order, places.clone(), RHO, 150, 1)
        print(f"  {hits(model, order, places.clone(), RHO)} of {BATCH * RHO} next items are right")


if __name__ == "__main__":
    main()
