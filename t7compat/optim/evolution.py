"""Methods that need no gradient: differential evolution, and evolution with an adapted covariance matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t7compat import mersenne
from t7compat.errors import InputError
from t7compat.nested import to_text
from t7compat.nn.shapes import describe
from t7compat.optim.settings import Settings, optimiser
from t7compat.table import Table

Evaluate = Callable[[Tensor], Any]


@optimiser(gradients=False)
def de(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Tensor]:
    """Differential evolution.  Returns the best vector found, a new tensor, and a vector of all values.

    x tells only the size.  The random numbers are always those of the seed 1.
    config: popsize (10 for each number in x), scaleFactor, crossoverRate, maxFEs (evaluations: a multiple of
    popsize), minRegion (-30), maxRegion (30).
    """
    size = x.numel()
    popsize, evaluations = config.whole("popsize", 10 * size), config.whole("maxFEs")
    factor, rate = config.number("scaleFactor"), config.number("crossoverRate")
    if popsize < 3:
        raise InputError(f"de: popsize: expected 3 or more, got {popsize}")
    if evaluations < popsize or evaluations % popsize > 1:  # one more is never made, and stays 0
        raise InputError(f"de: maxFEs: expected a multiple of popsize ({popsize}), got {evaluations}")
    generator = mersenne.Generator(1)
    region = config.number("minRegion", -30), config.number("maxRegion", 30)
    population = generator.uniform_(torch.empty(popsize, size, dtype=x.dtype), *region)
    values = torch.zeros(evaluations, dtype=x.dtype)

    def judge(vectors: Tensor, start: int) -> Tensor:
        """The values of these vectors, which are the evaluations from number `start` on."""
        for i, vector in enumerate(vectors, start):
            values[i] = opfunc(vector.to(x.device))
        return values[start : start + popsize]

    fitness = judge(population, 0).clone()
    lowest, index = fitness.max(0)  # as in Torch7: it begins with the worst one
    best = population[index].clone()
    for start in range(popsize, evaluations - popsize + 1, popsize):
        children = [_child(generator, population, best, i, factor, rate) for i in range(popsize)]
        offspring = torch.stack(children)
        heights = judge(offspring, start)
        is_better = heights <= fitness
        population[is_better], fitness[is_better] = offspring[is_better], heights[is_better]
        height, index = heights.where(is_better, heights.new_tensor(math.inf)).min(0)
        if height < lowest:
            best, lowest = offspring[index].clone(), height
    return best.to(x.device), values.to(x.device)


def _child(
    generator: mersenne.Generator, population: Tensor, best: Tensor, i: int, factor: Any, rate: Any
) -> Tensor:
    """A child of the individual i: some of its numbers are those of the best, moved by a difference."""
    popsize, size = population.shape
    others: list[int] = []
    while len(others) < 2:
        other = generator.random(0, popsize - 1)
        if other != i and other not in others:
            others.append(other)
    # Torch7 compares this number, which should choose a coordinate, with that of the individual
    is_chosen = generator.random(0, size - 1) == i
    crosses = generator.uniform_(torch.empty(size, dtype=torch.float64)) < rate
    first, second = (population[other].double() for other in others)
    moved = best.double() + factor * (first - second)
    return torch.where(crosses | is_chosen, moved.to(population.dtype), population[i])


@optimiser(gradients=False)
def cmaes(opfunc: Evaluate, x: Tensor, config: Settings, state: Settings) -> tuple[Tensor, Table, int]:
    """Evolution with an adapted covariance matrix.

    Returns the best vector found, a new tensor; the value at x, the lowest of each generation and the lowest
    of all; and the number of evaluations.
    state has the options, as in Lua: sigma (step size), popsize (4 + 3 log n), maxEval (1000 n^2), ftarget,
    min_iterations (1), verb_disp (0: print every so many generations).
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise InputError(f"cmaes: x: expected a FloatTensor or DoubleTensor, got {describe(x)}")
    if x.numel() == 0:
        raise InputError("cmaes: x: expected at least one number")
    values = Table(opfunc(x))
    strategy = Strategy(x, state)
    while not (strategy.reasons() and strategy.generations >= state.whole("min_iterations", 1)):
        candidates = strategy.ask()
        strategy.tell(candidates, [opfunc(candidate.view_as(x)) for candidate in candidates])
        values.insert(strategy.fitness[0])
        strategy.display()
    strategy.display_end()
    values.insert(strategy.lowest)
    return strategy.best, values, strategy.evaluations


class Strategy:
    """The distribution that `cmaes` adapts: mean, step size sigma, covariance matrix C = B diag(D^2) B^T.

    https://www.lri.fr/~hansen/barecmaes2.html
    """

    def __init__(self, x: Tensor, state: Settings) -> None:
        n = self.n = x.numel()
        self.sigma, self.target = state.number("sigma"), state["ftarget"]
        self.size = state.whole("popsize", 4 + math.floor(3 * math.log(n)))
        self.limit, self.verbose = state.number("maxEval", 1e3 * n**2), state.whole("verb_disp", 0)
        if self.size < 2:
            raise InputError(f"cmaes: popsize: expected 2 or more, got {self.size}")
        if self.target is not None:
            self.target = state.number("ftarget")
        parents = self.size / 2  # Torch7 does not round it
        weights = math.log(parents + 0.5) - np.log(np.arange(1, math.floor(parents) + 1))
        weights = weights / weights.sum()
        self.weights = torch.from_numpy(weights).to(x)
        self.mass = mass = weights.sum() ** 2 / (weights**2).sum()
        self.cc = (4 + mass / n) / (n + 4 + 2 * mass / n)
        self.cs = (mass + 2) / (n + mass + 5)
        self.c1 = 2 / ((n + 1.3) ** 2 + mass)
        self.cmu = min(1 - self.c1, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
        self.damps = 2 * mass / self.size + 0.3 + self.cs
        self.mean = x.detach().reshape(-1).clone()
        self.pc, self.ps, self.D = (torch.full_like(self.mean, fill) for fill in (0, 0, 1))
        self.B, self.C, self.inverse_root = (torch.diag(self.D) for _ in range(3))
        self.evaluations = self.decomposed_at = self.generations = self.best_at = 0
        self.lowest = math.inf
        self.best, self.fitness = self.mean.clone(), [math.inf]

    def ask(self) -> Tensor:
        """The next generation, drawn from the distribution.  (popsize, n)"""
        pause = self.size / (self.c1 + self.cmu) / self.n / 10
        if self.evaluations - self.decomposed_at > pause:
            self.decomposed_at = self.evaluations
            self.C = self.C.triu() + self.C.triu(1).T
            # not PyTorch's: up to 25 eigenvectors have the signs that they have in Torch7
            D, B = np.linalg.eigh(self.C.cpu().numpy(), UPLO="U")
            self.D, self.B = torch.from_numpy(np.sqrt(D)).to(self.mean), torch.from_numpy(B).to(self.mean)
            self.inverse_root = self.B @ torch.diag(1 / self.D) @ self.B.T
        z = mersenne.normal_(self.mean.new_empty(self.size, self.n)) * self.D
        return self.mean + z @ self.B.T * self.sigma

    def tell(self, candidates: Tensor, fitness: list[Any]) -> None:
        """Adapt the distribution to the values of these candidates."""
        n, cs, cc, mass, last = self.n, self.cs, self.cc, self.mass, self.mean
        self.evaluations += self.size
        self.generations += 1
        self.fitness, order = (part.tolist() for part in torch.tensor(fitness, dtype=torch.float64).sort())
        parents = candidates[order[: len(self.weights)]]
        if self.generations == 1 or self.fitness[0] < self.lowest:
            self.best, self.lowest, self.best_at = parents[0].clone(), self.fitness[0], self.evaluations
        self.mean = parents.T @ self.weights
        y = self.mean - last
        self.ps = self.ps - self.ps * cs + self.inverse_root @ y * (cs * (2 - cs) * mass) ** 0.5 / self.sigma
        length = self.ps.square().sum().item()
        bound = 1 - (1 - cs) ** (2 * self.evaluations / self.size)
        is_short = float(length / bound / n < 2 + 4 / (n + 1))
        self.pc = self.pc - self.pc * cc + y * ((cc * (2 - cc) * mass) ** 0.5 / self.sigma * is_short)
        c1a = self.c1 - (1 - is_short) * self.c1 * cc * (2 - cc)
        moves = (parents - last) / self.sigma
        spread = moves.T @ (moves * self.weights[:, None])
        self.C = self.C * (1 - c1a - self.cmu) + self.c1 * torch.outer(self.pc, self.pc) + self.cmu * spread
        self.sigma = self.sigma * np.exp(min(0.6, cs / self.damps * (length / n - 1) / 2))

    def reasons(self) -> dict[str, Any]:
        """Why to stop, if there is a reason."""
        if self.evaluations == 0:
            return {}
        greatest, least = self.D.max().item(), self.D.min().item()
        found = {
            "evals": (self.limit, self.evaluations >= self.limit),
            "ftarget": (self.target, self.target is not None and self.fitness[0] <= self.target),
            "condition": (1e7, greatest > 1e7 * least),
            "tolfun": (1e-12, self.fitness[-1] - self.fitness[0] < 1e-12),
            "tolx": (1e-11, self.sigma * greatest < 1e-11),
        }
        return {name: bound for name, (bound, holds) in found.items() if holds}

    def display(self) -> None:
        """Print a line about this generation, if it is time for one."""
        every, generation = self.verbose, self.generations
        if every == 0:
            return
        if generation == 1 or generation % (10 * every) == 0:
            print("evals:\t ax-ratio max(std)   f-value")
        if generation <= 2 or generation % every == 0:
            ratio = self.D.max().item() / np.float64(self.D.min().item())
            deviation = self.sigma * math.sqrt(self.C.diag().max().item())
            print(f"{self.evaluations}:  {ratio:6.1f} {deviation:8.1e} {to_text(self.fitness[0])}")

    def display_end(self) -> None:
        """Print why it ends, and what was found."""
        if self.verbose > 0:
            for name, bound in self.reasons().items():
                print("termination by", name, "=", to_text(bound), sep="\t")
            print("best f-value =", to_text(self.lowest), sep="\t")
            print("solution = ", self.best, sep="\n")
            at = to_text(self.best_at / self.size)
            print("best found at iteration: ", at, " , total iterations: ", self.generations, sep="\t")
