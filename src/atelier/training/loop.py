"""The one training loop: resumable, with a scale-free weight average and numbers at every power of two."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from atelier.provenance import hardware
from atelier.training.recipes import Pace
from painters.files import locked, replacing

WEIGHTS = ("network", "average", "optimiser")
FACTS = ("hardware", "fingerprint", "step", "seconds", "log", "snapshots")
"""What a run's state holds: states in use have these very keys."""
Loss = Callable[[Any, int], Tensor]
"""(network, step k) -> losses (B,) of the batch of step k.

Step k draws everything random from a generator seeded by (seed, k), see :func:`generator`, so that a resumed run
repeats exactly what an uninterrupted one does.
"""


def run_folder(name: str) -> Path:
    """Return where the state of a run is kept: ``$PAINTERS_RUNS/NAME``, or ``~/.cache/painters/runs/NAME``."""
    root = os.environ.get("PAINTERS_RUNS") or Path.home() / ".cache" / "painters" / "runs"
    return Path(root) / name


@dataclass(frozen=True)
class Session:
    """Where and how far a training is taken: nothing here shapes the weights.

    ``steps``: where to stop, by default where the recipe says. State is saved every ``save_every`` seconds.
    """

    folder: Path
    steps: int | None = None
    device: str = "cpu"
    save_every: float = 120.0
    progress: bool = True

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"training takes at least one step, got --steps {self.steps}")


@dataclass(frozen=True)
class Training:
    """What the loop needs to know of one training.

    ``build`` returns the network as its seed initialises it. ``fingerprint`` says what the weights are made of besides
    the number of steps: data, recipe and seed. ``snapshot`` returns the numbers to be kept at powers of two. ``betas``
    are Adam's.
    """

    name: str
    pace: Pace
    build: Callable[[], torch.nn.Module]
    loss: Loss
    fingerprint: Mapping[str, Any]
    snapshot: Callable[[Run], dict[str, Any]] | None = None
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass
class Run:
    """The state of one training run, saved whole so that an interrupted run continues bit for bit."""

    network: torch.nn.Module
    average: torch.nn.Module
    optimiser: torch.optim.Optimizer
    hardware: str
    fingerprint: dict[str, Any]
    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def new(cls, training: Training, device: str) -> Run:
        """Return the untrained run of a training."""
        network, average = (training.build().to(device, memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(network.parameters(), betas=training.betas)
        # as JSON gives it back, tuples as lists: so it compares equal to what was saved
        made_of = json.loads(json.dumps(training.fingerprint))
        return cls(network, average.requires_grad_(False), optimiser, hardware(device), made_of)

    def check(self) -> None:
        """Raise ``FloatingPointError`` if a weight is not finite."""
        if not all(bool(value.isfinite().all()) for value in self.network.parameters()):
            raise FloatingPointError(
                f"a weight became infinite or NaN before step {self.step}, and that state was not saved: "
                "lower the learning rate, or use float32"
            )

    def save(self, path: Path) -> None:
        """Write the state to ``path``, whole or not at all. Raises ``FloatingPointError`` if a weight is not finite."""
        self.check()
        state = {key: getattr(self, key).state_dict() for key in WEIGHTS} | {key: getattr(self, key) for key in FACTS}
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Restore a state written by :meth:`save`; ``ValueError`` if it is damaged or made of something else."""
        other = ""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            other = differences(state["fingerprint"], self.fingerprint)
            if not other:  # else the weights have other shapes, and the error would be about these
                for key in WEIGHTS:
                    getattr(self, key).load_state_dict(state[key])
        except Exception as error:
            raise ValueError(f"{path} cannot be resumed ({error}); move it away to start afresh") from error
        if other:
            raise ValueError(
                f"{path} is the state of another training ({other}): name another folder, or move it away to start "
                "afresh"
            )
        same = state["hardware"].endswith(self.hardware)
        self.hardware = state["hardware"] if same else f"{state['hardware']}, then {self.hardware}"
        self.step, self.seconds = state["step"], state["seconds"]
        self.log, self.snapshots = state["log"], state["snapshots"]


def generator(seed: int, k: int) -> torch.Generator:
    """Return the generator of step k of the run with this seed."""
    return torch.Generator().manual_seed(seed * 1_000_003 + k)


def stratified_times(n: int, draw: torch.Generator) -> Tensor:
    """Return ``n`` training times (n,) in 0 ... 999, one from each n-th of the range, in random order.

    Losses differ a hundredfold between times: with independent times the gradient would follow which ones a batch met.
    """
    strata = (torch.randperm(n, generator=draw) + torch.rand(n, generator=draw)) / n
    return (strata * 1000).long().clamp(max=999)


def fit(training: Training, session: Session) -> Run:
    """Train (or continue ``state.pt`` of the session's folder) until the steps are done; return the run.

    ``run.average`` holds the weights to use: it weighs step i by i^gamma, so that a run may stop, or go on, anywhere.
    State is saved by the clock, at the end, and on Ctrl-C or SIGTERM, which end a run between two steps. At powers of
    two from 8 the averaged weights are kept as ``average-STEP.pt`` and measured. Raises
    ``FloatingPointError`` if the loss or a weight is not finite; the saved state is then the last good one. Raises
    ``ValueError`` if the state there is of another fingerprint, or another process trains in that folder.
    """
    folder, pace = session.folder, training.pace
    state, steps = folder / "state.pt", session.steps or pace.steps
    window: list[Tensor] = []
    with locked(folder, wait=False), _between_steps() as asked_to_stop:
        run = Run.new(training, session.device)
        if state.is_file():
            run.load(state)
        saved, options = time.monotonic(), {"disable": not session.progress, "mininterval": 5}
        with tqdm(total=steps, initial=run.step, desc=training.name, **options) as bar:
            while run.step < steps and not asked_to_stop():
                began = time.monotonic()
                window.append(_step(run, training.loss, pace))
                bar.update()
                if run.step % 64 == 0:
                    bar.set_postfix(loss=f"{_log(run, window):.4f}")
                if run.step >= 8 and run.step & (run.step - 1) == 0:
                    _snapshot(run, training, folder)
                run.seconds += time.monotonic() - began
                if time.monotonic() - saved > session.save_every:
                    saved = time.monotonic()
                    run.save(state)
        run.save(state)
        if run.step < steps:
            raise KeyboardInterrupt
    return run


def _snapshot(run: Run, training: Training, folder: Path) -> None:
    """Keep the averaged weights of this step, and numbers."""
    run.check()
    if training.snapshot:
        seen = {"step": run.step, "images": run.step * training.pace.batch}
        run.snapshots.append(seen | training.snapshot(run))
    with replacing(folder / f"average-{run.step}.pt") as path:
        torch.save(run.average.state_dict(), path)


@contextlib.contextmanager
def _between_steps() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C or SIGTERM came: a step cut in two leaves weights of no step at all.

    The second signal acts at once; nothing is saved then.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals only ever reach the main thread
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: object) -> None:
        came.append(number)
        signal.signal(number, before[number])

    try:
        for number in before:
            signal.signal(number, note)
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say in which entries two fingerprints differ, empty if in none."""
    keys = [key for key in dict.fromkeys([*found, *wanted]) if found.get(key) != wanted.get(key)]
    return "; ".join(f"{key} was {found.get(key)}, and is {wanted.get(key)}" for key in keys)


def _step(run: Run, loss: Loss, pace: Pace) -> Tensor:
    """One gradient step and one step of the average; returns the losses of the batch."""
    losses = loss(run.network, run.step)
    run.optimiser.param_groups[0]["lr"] = pace.rate(run.step)
    run.optimiser.zero_grad(set_to_none=True)
    losses.mean().backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
    run.optimiser.step()
    run.step += 1
    _average(run, pace.ema_gamma)
    return losses.detach()


@torch.no_grad()
def _average(run: Run, gamma: float) -> None:
    """Power-function average: after k steps the weights of step i count as i^gamma.

    Unlike an exponential one it forgets the first steps at any length, and needs no choice of how long it looks back.
    """
    weight = 1 - (1 - 1 / run.step) ** (gamma + 1)
    for mean, value in zip(run.average.parameters(), run.network.parameters()):
        mean.lerp_(value, weight)


def _log(run: Run, window: list[Tensor]) -> float:
    """Add the mean loss since the last entry to the log; returns it."""
    mean = float(torch.cat(window).mean())
    window.clear()
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"the loss became {mean} before step {run.step}: lower the learning rate, or use float32"
        )
    run.log.append({"step": run.step, "loss": round(mean, 5)})
    return mean
