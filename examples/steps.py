"""What comes next?  A recurrent network called word by word, and the same in a Sequencer."""

import torch

import t7compat
from t7compat import nn

WORDS = {1: "row", 2: "your", 3: "boat"}
SIZE = 8  # of the state
SONG = [1, 1, 1, 2, 3, 1, 1, 1, 2, 3, 1]  # row row row your boat row ...
inputs = [torch.tensor([word]) for word in SONG[:-1]]  # batches of one word
targets = [torch.tensor([word]) for word in SONG[1:]]


def network(words, size):
    """One step: h' = sigmoid(embedding of the word + W h + b), and from it the next word."""
    transition = (
        nn.Sequential()  # takes the table {word, h}
        .add(nn.ParallelTable().add(nn.LookupTable(words, size)).add(nn.Linear(size, size)))
        .add(nn.CAddTable())
        .add(nn.Sigmoid())
    )
    return (
        nn.Sequential()
        .add(nn.Recurrence(transition, size, 0))  # 0: a sample of a batch is a number
        .add(nn.Linear(size, words))
        .add(nn.LogSoftMax())
    )


def train_step_by_step(rnn, inputs, targets, rate):
    """One step of gradient descent, for which the network is called word by word; returns the loss."""
    criterion, outputs, loss = nn.ClassNLLCriterion(), [], 0
    for t in range(len(inputs)):
        outputs.append(rnn.forward(inputs[t]))
        loss += criterion.forward(outputs[t], targets[t])
    for t in reversed(range(len(inputs))):
        rnn.backward(inputs[t], criterion.backward(outputs[t], targets[t]))
    rnn.updateParameters(rate)
    rnn.zeroGradParameters()
    rnn.forget()  # the next forward is step 1
    return loss


def train_sequence(rnn, inputs, targets, rate):
    """The same for a Sequencer."""
    criterion = nn.SequencerCriterion(nn.ClassNLLCriterion())
    outputs = rnn.forward(inputs)
    loss = criterion.forward(outputs, targets)
    rnn.backward(inputs, criterion.backward(outputs, targets))
    rnn.updateParameters(rate)
    rnn.zeroGradParameters()
    return loss


def main():
    """Train both, look at the steps, and let the network sing."""
    t7compat.manualSeed(1)
    net = network(len(WORDS), SIZE)
    net.zeroGradParameters()
    sequencer = nn.Sequencer(net.clone())
    recursor = nn.Recursor(net, len(inputs))  # as many steps back at most
    print("loss   step by step   in a Sequencer")
    for i in range(1, 121):
        by_step = train_step_by_step(recursor, inputs, targets, 0.3)
        at_once = train_sequence(sequencer, inputs, targets, 0.3)
        if i % 20 == 0:
            print(f"{i:4d}   {by_step:12.6f}   {at_once:14.6f}")

    print("word -> next   probability   state")
    recurrence = net.get(1)
    for t in range(5):
        probabilities = recursor.forward(inputs[t]).exp()
        word, following = SONG[t], SONG[t + 1]
        x, y, z = recurrence.outputs[t + 1][0, :3]
        print(
            f"{WORDS[word]:4} -> {WORDS[following]:4}   {probabilities[0, following - 1]:11.3f}"
            f"   {x:.2f} {y:.2f} {z:.2f} ..."
        )

    recursor.evaluate()
    recursor.forget()
    word, sung = torch.tensor([1]), []
    for _ in range(15):
        sung.append(WORDS[word.item()])
        word = recursor.forward(word).argmax(1) + 1  # PyTorch counts from 0
    print(" ".join(sung))


if __name__ == "__main__":
    main()
