"""Products with a Jacobian that block Krylov needs, beside plain subspace iteration, at equal accuracy.

    python benchmarks/krylov.py [--model fashion-ddpm] [--k 6] [--width 2] [--accuracy 0.1 0.03] [--no-whole]

Both search the leading k singular directions of the same map, from random directions (cold) or from the data's PCs
(warm). A sweep of subspace iteration costs k products J v and k products J^T u; a block of Krylov as many as it is
wide, which may be fewer, because it keeps what it has multiplied before. They are stopped where every residual
|J^T u - s v| is at most so many times its singular value s, which both know without a reference. Prints the products
needed and their ratios; a number with > was not reached. Products are not seconds: a narrow block multiplies less at
once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

import painters
from atelier.landscape.jacobian import with_graph
from atelier.linalg import singular
from atelier.manifold import SamplerMap, step_map
from atelier.subject import Subject, subject

Product = Callable[[Tensor], Tensor]


def worst(basis: Tensor, images: Tensor, pulled: Tensor, k: int) -> float:
    """Return the largest of the k residuals |J^T u - s v|/s in the span of ``basis`` (m, D).

    ``images`` (m, D') are J basis and ``pulled`` (m, D) are J^T J basis, in rows.
    """
    _, values, mix = torch.linalg.svd(images.T, full_matrices=False)
    right, back = mix[:k] @ basis, mix[:k] @ pulled / values[:k, None]
    return float(((back - values[:k, None] * right).norm(dim=1) / values[:k]).max())


def krylov(push: Product, pull: Product, start: Tensor, blocks: int, k: int) -> list[float]:
    """Return the accuracy after 1, 2, ... blocks of :func:`atelier.linalg.singular`, each computed once.

    The space of fewer blocks is the first part of that of more, so what one search multiplied tells them all. It is
    infinite where the blocks have fewer than ``k`` directions.
    """
    basis: list[Tensor] = []
    images: list[Tensor] = []
    pulled: list[Tensor] = []

    def pushed(v: Tensor) -> Tensor:
        basis.append(v.double())
        images.append(push(v).double())
        return images[-1].to(v)

    def pulling(u: Tensor) -> Tensor:
        pulled.append(pull(u).double())
        return pulled[-1].to(u)

    singular(pushed, pulling, start, blocks=blocks)
    found = []
    for b in range(1, blocks + 1):
        parts = torch.cat(basis[:b]), torch.cat(images[:b]), torch.cat(pulled[:b])
        found.append(worst(*parts, k) if len(parts[0]) >= k else float("inf"))
    return found


def subspace(push: Product, pull: Product, start: Tensor, sweeps: int) -> Iterator[float]:
    """Yield the accuracy after 1, 2, ... sweeps v <- orth(J^T J v), the usual way in the field."""
    basis = torch.linalg.qr(start.double().T).Q.T
    for _ in range(sweeps):
        images = push(basis.to(start)).double()
        pulled = pull(images.to(start)).double()
        yield worst(basis, images, pulled, len(start))
        basis = torch.linalg.qr(pulled.T).Q.T


def needed(errors: Sequence[float], accuracy: float) -> int | None:
    """Return how many sweeps reach the accuracy, or ``None``."""
    return next((i + 1 for i, error in enumerate(errors) if error <= accuracy), None)


def race(run: SamplerMap, start: Tensor, width: int, most: int, accuracies: Sequence[float]) -> list[str]:
    """Return for each accuracy the products of either method and their ratio, in words."""
    k, shape = len(start), start.shape[1:]

    def push(v: Tensor) -> Tensor:
        return run.push(v.reshape(-1, *shape)).flatten(1)

    def pull(u: Tensor) -> Tensor:
        return run.pull(u.reshape(-1, *shape)).flatten(1)

    ours = krylov(push, pull, start[:width].flatten(1), most * k // (3 * width), k)
    plain: list[float] = []
    for error in subspace(push, pull, start.flatten(1), most):
        plain.append(error)
        if error <= min(accuracies):
            break
    words = []
    for accuracy in accuracies:
        a, b = needed(ours, accuracy), needed(plain, accuracy)
        fast = f"{2 * width * a}" if a else f">{2 * width * len(ours)}"
        slow = f"{2 * k * b}" if b else f">{2 * k * len(plain)}"
        ratio = "-" if a is None else f"{'' if b else '>'}{k * (b or len(plain)) / (width * a):.1f}"
        words.append(f"{fast:>5} {slow:>6} {ratio:>6}")
    return words


def maps(s: Subject, steps: int, *, whole: bool) -> dict[str, SamplerMap]:
    """Return the one-step maps of a run at three levels, and the whole map."""
    levels = s.levels(steps, spacing="even")
    x = levels.start(painters.noise([0], s.shape))
    run = painters.solve(s.denoise, x, levels, solver="dpmpp2m", progress=False)
    denoise = with_graph(s.denoise)
    found: dict[str, SamplerMap] = {}
    for ratio in (3.0, 1.0, 0.3):
        i = int((levels.ratio[:-1].log() - torch.tensor(ratio).log()).abs().argmin())
        found[f"one step, sigma/alpha {float(levels.ratio[i]):.2g}"] = step_map(denoise, run.x[i, 0], levels[i])
    return found | ({f"whole map, {steps} steps": SamplerMap(denoise, x[0], levels)} if whole else {})


def main(argv: Sequence[str] | None = None) -> None:
    """Print the race for every map and start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="fashion-ddpm")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--k", type=int, default=6, help="directions looked for")
    parser.add_argument("--width", type=int, default=2, help="directions in a block of Krylov, at most k")
    parser.add_argument("--steps", type=int, default=12, help="steps of the run")
    parser.add_argument("--most", type=int, default=30, help="most sweeps of subspace iteration; Krylov: a third")
    parser.add_argument("--accuracy", type=float, nargs="+", default=[0.1, 0.03], help="largest residual over value")
    parser.add_argument("--no-whole", action="store_true", help="leave the whole map out")
    options = parser.parse_args(argv)
    s = subject(options.model, device=options.device)
    generator = torch.Generator().manual_seed(1)
    starts = {
        "cold": torch.randn(options.k, *s.shape, generator=generator),
        "warm": s.gaussian.U[:, : options.k].T.reshape(options.k, *s.shape).float().cpu(),
    }
    print(f"{s.name}, k = {options.k}, blocks of {options.width}")
    print("products: block Krylov, subspace iteration, ratio; for each accuracy")
    print(f"{'':36s}" + "  ".join(f"{f'residual {a:.0%}':>19s}" for a in options.accuracy))
    for name, run in maps(s, options.steps, whole=not options.no_whole).items():
        for how, start in starts.items():
            words = race(run, start, options.width, options.most, options.accuracy)
            print(f"{name + ', ' + how:36s}" + "  ".join(words), flush=True)


if __name__ == "__main__":
    main()
