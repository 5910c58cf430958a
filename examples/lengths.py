"""Which language counts like this?  Words of different lengths in one batch, by MaskZero."""

import torch

import t7compat
from t7compat import nn, optim

LANGUAGES = {
    "English": "one two three four five six seven eight nine ten eleven twelve",
    "German": "eins zwei drei vier fuenf sechs sieben acht neun zehn elf zwoelf",
    "French": "un deux trois quatre cinq six sept huit neuf dix onze douze",
}
LETTERS, SIZE, LONGEST = 26, 10, 6


def padded(word, length):
    """The letters of a word as numbers, behind zeros up to the given length."""
    return torch.tensor([0] * (length - len(word)) + [ord(letter) - 96 for letter in word])


def batch():
    """Steps x words: letters, and the language at each step (any class where there is no letter)."""
    letters, languages = [], []
    for language, words in enumerate(LANGUAGES.values(), 1):
        for word in words.split():
            letters.append(padded(word, LONGEST))
            languages.append(torch.full((LONGEST,), language))
    return torch.stack(letters, 1), torch.stack(languages, 1)


def network(letters, embed, size, classes):
    """From letters to the log-probabilities of the classes at each step; all zeros where there is none."""
    model = nn.Sequential()
    model.add(nn.LookupTableMaskZero(letters, embed))  # 0 becomes a vector of zeros
    model.add(nn.SplitTable(1))
    model.add(nn.Sequencer(nn.LSTM(embed, size).maskZero(1)))  # a vector of zeros resets the state
    model.add(nn.Sequencer(nn.MaskZero(nn.Linear(size, classes), 1)))
    model.add(nn.Sequencer(nn.MaskZero(nn.LogSoftMax(), 1)))
    return model


def train(model, batches, iterations, config):
    """Minimise by optim.adam on (input, targets) pairs in turn; returns the losses."""
    criterion = nn.SequencerCriterion(nn.MaskZeroCriterion(nn.ClassNLLCriterion(), 1))
    parameters, gradients = model.getParameters()
    losses = []

    def evaluate(_):
        gradients.zero_()
        output = model.forward(input)
        loss = criterion.forward(output, target)
        model.backward(input, criterion.backward(output, target))
        return loss, gradients

    for i in range(1, iterations + 1):
        input, target = batches[(i - 1) % len(batches)]
        _, loss = optim.adam(evaluate, parameters, config)
        losses.append(loss[1])
        if i % 10 == 0:
            print(f"iteration {i:2d}   loss per step {loss[1] / len(target):.4f}")
    return losses


def main():
    """Train, count what is recognised, and follow some words letter by letter."""
    t7compat.manualSeed(1)
    input, languages = batch()
    model = network(LETTERS, SIZE, SIZE, len(LANGUAGES))
    train(model, [(input, list(languages))], 60, {"learningRate": 0.05})

    model.evaluate()
    last = model.forward(input)[LONGEST]  # every word ends at the last step
    right = (last.argmax(1) + 1 == languages[-1]).sum()
    print(f"{right} of {input.shape[1]} words are recognised")
    in_batch = last[12 + 12 + 10].clone()  # onze

    for word in ("sieben", "nineteen", "dixneuf"):
        print(word)
        outputs = model.forward(padded(word, len(word)).view(-1, 1))
        for t, output in enumerate(outputs, 1):
            guesses = zip(LANGUAGES, output[0].exp(), strict=True)
            print(f"  {word[:t]:8}  " + "  ".join(f"{language} {p:.2f}" for language, p in guesses))
    alone = model.forward(padded("onze", 4).view(-1, 1))[4][0]
    print(f"alone or behind zeros, the difference is {(alone - in_batch).abs().max():.6f}")


if __name__ == "__main__":
    main()
