"""A play, letter by letter: a language model of characters that writes on by itself."""

import argparse
from pathlib import Path

import torch

import t7compat
from t7compat import mersenne, nn, optim

PLAY = Path(__file__).parents[1] / "fixtures" / "text" / "coriolanus.txt"
STEPS, BATCH = 50, 32


def encode(text):
    """The text as numbers, and the characters that they stand for, in the order of their first use."""
    symbols = "".join(dict.fromkeys(text))
    return torch.tensor([symbols.index(symbol) + 1 for symbol in text]), symbols


def network(symbols, size):
    """From characters to the log-probabilities of the next one."""
    model = nn.Sequential()
    model.add(nn.LookupTable(symbols, size))  # steps x batch -> steps x batch x size
    model.add(nn.SeqLSTM(size, size))
    model.add(nn.Sequencer(nn.Linear(size, symbols)))
    model.add(nn.Sequencer(nn.LogSoftMax()))
    model.remember("both")  # each window goes on where the last one ended
    return model


def on(model, tensor):
    """The tensor on the device of the network."""
    return tensor.to(model.parameters()[0][1].device)


def columns(numbers, count):
    """Characters x columns, each column a part of the text; and the same, one character later."""
    height = (len(numbers) - 1) // count
    return [part[: height * count].view(count, height).t() for part in (numbers, numbers[1:])]


def train(model, numbers, iterations, config):
    """Minimise the loss per character by optim.adam, window after window; returns the losses."""
    criterion = nn.SequencerCriterion(nn.ClassNLLCriterion()).type(model.type())
    input, target = columns(on(model, numbers), BATCH)
    parameters, gradients = model.getParameters()
    windows, losses, mean = len(input) // STEPS, [], None
    model.training()

    def evaluate(_):
        gradients.zero_()
        output = model.forward(x)
        loss = criterion.forward(output, y)
        model.backward(x, criterion.backward(output, y))
        gradients.clamp_(-5, 5)
        return loss / STEPS, gradients

    for i in range(iterations):
        k = i % windows
        if k == 0:
            model.forget()  # back at the top of the columns
        x, y = (part[k * STEPS : (k + 1) * STEPS] for part in (input, target))
        _, loss = optim.adam(evaluate, parameters, config)
        losses.append(loss[1])
        mean = losses[-1] if mean is None else 0.95 * mean + 0.05 * losses[-1]
        if (i + 1) % -(-iterations // 10) == 0:
            print(f"iteration {i + 1:4d}   loss per character {mean:.4f}", flush=True)
    return losses


def sample(model, symbols, length, temperature):
    """Text that the network writes, each character drawn from the probabilities of the network."""
    model.evaluate()
    model.forget()
    number, text = max(symbols.find("\n"), 0) + 1, ""
    for _ in range(length):
        logProbabilities = model.forward(on(model, torch.tensor([[number]]))).view(-1).double().cpu()
        number = mersenne.multinomial(logProbabilities.div(temperature).softmax(0), 1).item()
        text += symbols[number - 1]
    return text


def main(arguments=None):
    """Train or load, save, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--text", type=Path, default=PLAY, help="what to learn")
    parser.add_argument("--size", type=int, default=128, help="of the vectors of characters and of the state")
    parser.add_argument("--iterations", type=int, default=400, help="of training")
    parser.add_argument("--type", default="torch.DoubleTensor", help="of the parameters")
    parser.add_argument("--save", help="write the trained network to this .t7 file")
    parser.add_argument("--load", help="do not train: take the network from this .t7 file")
    parser.add_argument("--length", type=int, default=300, help="of the text that it writes")
    parser.add_argument("--temperature", type=float, default=0.7, help="lower is safer, higher is bolder")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    options = parser.parse_args(arguments)

    t7compat.manualSeed(options.seed)
    if options.load:
        checkpoint = t7compat.load(options.load)
    else:
        numbers, symbols = encode(options.text.read_text())
        if len(numbers) <= STEPS * BATCH:
            parser.error(f"{options.text}: expected more than {STEPS * BATCH} characters")
        model = network(len(symbols), options.size).type(options.type)
        train(model, numbers, options.iterations, {"learningRate": 0.005})
        checkpoint = t7compat.Table(model=model, symbols=symbols)
    if options.save:
        checkpoint.model.clearState()
        t7compat.save(options.save, checkpoint)
    print(sample(checkpoint.model, checkpoint.symbols, options.length, options.temperature))


if __name__ == "__main__":
    main()
