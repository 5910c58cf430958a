"""How does a cosine go on?  FastLSTM with NormStabilizer, which then runs on its own predictions."""

import argparse

import torch

import t7compat
from t7compat import mersenne, nn

RHO, BATCH, SIZE = 10, 80, 20
wave = torch.linspace(0, 200, 500, dtype=torch.float64).cos()  # a period has about 16 points


def network(size, strength=1):
    """From each point to the next one; a table of steps."""
    return nn.Sequencer(
        nn.Sequential()
        .add(nn.Linear(1, size))
        .add(nn.FastLSTM(size, size))
        .add(nn.NormStabilizer(strength))  # keeps the norm of the state from drifting
        .add(nn.Linear(size, 1))
        .add(nn.HardTanh())
    )


def window(wave, places, rho):
    """`rho` points from each of the places, which move on, and the point behind them."""
    inputs = []
    for _ in range(rho):
        inputs.append(wave[places - 1].view(-1, 1))
        places += 1
        places[places > len(wave)] = 1
    return inputs, wave[places - 1].view(-1, 1)


def train(model, wave, places, rho, iterations, rate, momentum=0):
    """Gradient descent with a loss at the last step only; returns the losses."""
    criterion, losses = nn.MSECriterion(), []
    gradOutputs = [wave.new_zeros(len(places), 1) for _ in range(rho)]
    for i in range(1, iterations + 1):
        inputs, target = window(wave, places, rho)
        outputs = model.forward(inputs)
        losses.append(criterion.forward(outputs[rho], target))  # outputs is a Table: the last is number rho
        gradOutputs[-1] = criterion.backward(outputs[rho], target)
        model.zeroGradParameters()
        model.backward(inputs, gradOutputs)
        model.updateGradParameters(momentum)
        model.updateParameters(rate)
        if i % 30 == 0:
            print(f"iteration {i:3d}   loss {losses[-1]:.6f}")
    return losses


def continued(model, start, count):
    """`count` points: the given ones, and then predictions, each made from the `rho` points before it."""
    rho = len(start)
    points = torch.cat([start, start.new_empty(count - rho)])
    model.evaluate()
    for t in range(rho, count):
        inputs = points[t - rho : t].view(rho, 1, 1)  # a tensor goes in as well as a table
        points[t] = model.forward(inputs)[-1].item()
    return points


def plot(path, losses, predicted, wave):
    """Draw the prediction beside the cosine, and the losses."""
    from matplotlib import pyplot

    figure, (top, bottom) = pyplot.subplots(2, figsize=(9, 6), height_ratios=(3, 2), layout="constrained")
    points = range(1, len(predicted) + 1)
    top.plot(points, wave[: len(predicted)], color="0.75", linewidth=4, label="cosine")
    top.plot(points[:RHO], predicted[:RHO], "o", color="black", markersize=4, label="given")
    top.plot(points[RHO:], predicted[RHO:], ".-", color="tab:red", label="predicted from predictions")
    top.set(title="FastLSTM continues a cosine", xlabel="point", ylabel="value", ylim=(-1.2, 1.7))
    top.legend(loc="upper center", ncols=3, frameon=False)
    bottom.plot(range(1, len(losses) + 1), losses, color="tab:blue")
    bottom.set(xlabel="iteration", ylabel="training loss", yscale="log")
    for axes in (top, bottom):
        axes.margins(x=0.01)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    print(f"wrote {path}")


def main(arguments=None):
    """Train, predict, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=300, help="of training")
    parser.add_argument("--plot", metavar="PNG", help="draw the prediction (needs matplotlib)")
    options = parser.parse_args(arguments)

    t7compat.manualSeed(1)
    model = network(SIZE, 0.1)
    print(model)
    places = mersenne.random_(torch.empty(BATCH, dtype=torch.long), len(wave))
    losses = train(model, wave, places, RHO, options.iterations, 0.3, 0.9)

    predicted = continued(model, wave[:RHO], 120)
    print("point   predicted    cosine")
    for t in range(20, 121, 20):
        print(f"{t:5d}   {predicted[t - 1]:9.4f}   {wave[t - 1]:7.4f}")
    errors = (predicted - wave[:120]).abs()
    print(f"farthest from the cosine: {errors.max():.4f}")
    if options.plot:
        plot(options.plot, losses, predicted, wave)


if __name__ == "__main__":
    main()
