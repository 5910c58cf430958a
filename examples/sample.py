"""What comes after these letters?  A checkpoint of char-rnn that t7convert converted writes on."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import torch


def read(path):
    """What t7convert wrote: the network, the number of each letter, and the options of the training."""
    values = json.loads(path.read_text(encoding="utf-8"))
    sys.path.insert(0, str(path.parent))
    network = importlib.import_module(Path(values["protos"]["rnn"]["$network"]).stem).load()
    vocab = values["vocab"]
    pairs = vocab["$table"] if "$table" in vocab else vocab.items()  # a table if one of the letters is $
    return network, {key.encode(errors="surrogateescape"): number for key, number in pairs}, values["opt"]


def start(network, opt):
    """The states before the first letter: c1, h1, c2, h2, ... of an LSTM; h1, h2, ... of others."""
    count = opt["num_layers"] * (2 if opt["model"] == "lstm" else 1)
    zeros = torch.zeros(1, opt["rnn_size"], dtype=next(network.parameters()).dtype)
    return [zeros] * count


def step(network, number, states):
    """One letter further: the next states, and the log-probabilities of the letter after it."""
    *states, logProbabilities = network((torch.tensor([number]), *states))
    return states, logProbabilities[0]


def choose(logProbabilities, temperature):
    """The number of the next letter."""
    if temperature == 0:
        return logProbabilities.argmax().item() + 1
    return torch.multinomial((logProbabilities / temperature).softmax(0), 1).item() + 1


@torch.inference_mode()
def sample(network, states, prime, length, temperature):
    """What the network writes after the prime, in numbers, and its log-probability."""
    for number in prime:
        states, logProbabilities = step(network, number, states)
    numbers, likelihood = [], 0
    for _ in range(length):
        number = choose(logProbabilities, temperature)
        numbers.append(number)
        likelihood += logProbabilities[number - 1].item()
        states, logProbabilities = step(network, number, states)
    return numbers, likelihood


def main(arguments=None):
    """Read, and write on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="the .json file that t7convert wrote")
    parser.add_argument("--prime", default="a bad cab", help="the letters that come before")
    parser.add_argument("--length", type=int, default=40, help="of the text")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0,
        help="lower is safer, higher is bolder; 0 always takes the likeliest letter",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    options = parser.parse_args(arguments)

    network, vocab, opt = read(options.checkpoint)
    letters = {number: letter for letter, number in vocab.items()}
    text = options.prime.encode(errors="surrogateescape")
    prime = [vocab.get(text[i : i + 1]) for i in range(len(text))]  # a letter of char-rnn is a byte
    if not prime or None in prime:
        known = b"".join(sorted(vocab)).decode(errors="replace")
        parser.error(f"--prime: expected one or more of the letters {known!r}")

    torch.manual_seed(options.seed)
    numbers, likelihood = sample(network, start(network, opt), prime, options.length, options.temperature)
    text += b"".join(letters[number] for number in numbers)
    print(text.decode(errors="replace"))
    print(f"log-probability of what was written: {likelihood:.4f}")


if __name__ == "__main__":
    main()
