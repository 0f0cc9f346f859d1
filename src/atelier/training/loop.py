"""The one training loop: resumable, with a scale-free weight average and numbers at every power of two."""

from __future__ import annotations

import contextlib
import json
import math
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm.auto import tqdm

from painters.files import replacing

Loss = Callable[[torch.nn.Module, int], tuple[Tensor, Tensor | None]]
"""(network, step k) -> losses (B,) of the batch of step k, and their times (B,) in 0 ... 999 if they have any.

Step k draws everything random from a generator seeded by (seed, k), see :func:`generator`, so that a resumed run
repeats exactly what an uninterrupted one does.
"""


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
    def new(
        cls,
        build: Callable[[], torch.nn.Module],
        device: str,
        *,
        fingerprint: Mapping[str, Any],
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> Run:
        """Return an untrained run; ``build`` returns the network as its seed initialises it. ``betas`` are Adam's.

        ``fingerprint`` says what the weights are made of besides the number of steps: data, recipe and seed, as JSON
        can hold them. A state of another fingerprint is not continued.
        """
        network, average = (build().to(device, memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(network.parameters(), betas=betas)
        return cls(network, average.requires_grad_(False), optimiser, hardware(device), as_json(fingerprint))

    def save(self, path: Path) -> None:
        """Write the state to ``path``, whole or not at all. Raises ``FloatingPointError`` if a weight is not finite."""
        if not all(bool(value.isfinite().all()) for value in self.network.parameters()):
            raise FloatingPointError(
                f"a weight became infinite or NaN before step {self.step}, and that state was not saved: "
                "lower the learning rate, or use float32"
            )
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "hardware": self.hardware,
            "fingerprint": self.fingerprint,
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
            "snapshots": self.snapshots,
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Restore a state written by :meth:`save`; ``ValueError`` if it is damaged or made of something else."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            other = differences(state["fingerprint"], self.fingerprint)
        except Exception as error:
            raise ValueError(f"{path} cannot be resumed ({error}); move it away to start afresh") from error
        if other:
            raise ValueError(
                f"{path} is the state of another training ({other}): name another folder, or move it away to start "
                "afresh"
            )
        try:
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except Exception as error:
            raise ValueError(f"{path} cannot be resumed ({error}); move it away to start afresh") from error
        same = state["hardware"].endswith(self.hardware)
        self.hardware = state["hardware"] if same else f"{state['hardware']}, then {self.hardware}"
        self.step, self.seconds = state["step"], state["seconds"]
        self.log, self.snapshots = state["log"], state["snapshots"]


def hardware(device: str) -> str:
    """Return one line about what the run was made on."""
    if device.startswith("cuda"):
        return f"1 x {torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def generator(seed: int, k: int) -> torch.Generator:
    """Return the generator of step k of the run with this seed."""
    return torch.Generator().manual_seed(seed * 1_000_003 + k)


def stratified_times(n: int, draw: torch.Generator) -> Tensor:
    """Return ``n`` training times (n,) in 0 ... 999, one from each n-th of the range, in random order."""
    strata = (torch.randperm(n, generator=draw) + torch.rand(n, generator=draw)) / n
    return (strata * 1000).long().clamp(max=999)


def fit(
    run: Run,
    loss: Loss,
    *,
    steps: int,
    folder: Path,
    learning_rate: Callable[[int], float],
    gamma: float = 6.94,
    name: str = "training",
    save_every: float = 120.0,
    progress: bool = True,
    on_snapshot: Callable[[Run], None] | None = None,
) -> Run:
    """Train ``run`` (from ``folder/state.pt`` if there is one) until ``steps``; ``run.average`` holds the weights.

    State is saved every ``save_every`` seconds, at the end, and on Ctrl-C or SIGTERM, which end a run between two
    steps. The average weighs step i by i^``gamma``, so that a run may stop, or go on, anywhere. At powers of two from 8
    the averaged weights are kept as ``average-STEP.pt`` and ``on_snapshot(run)`` is called. Raises
    ``FloatingPointError`` if the loss or a weight is not finite; the saved state is then the last good one. Raises
    ``ValueError`` if the state there is of another fingerprint, or another process trains in ``folder``.
    """
    state = folder / "state.pt"
    window: list[tuple[Tensor, Tensor | None]] = []
    with alone(folder), _between_steps() as asked_to_stop:
        if state.is_file():
            run.load(state)
        saved = time.monotonic()
        with tqdm(total=steps, initial=run.step, desc=name, disable=not progress, mininterval=5) as bar:
            while run.step < steps and not asked_to_stop():
                began = time.monotonic()
                window.append(_step(run, loss, learning_rate(run.step), gamma))
                bar.update()
                if run.step % 64 == 0:
                    bar.set_postfix(loss=f"{_log(run, window):.4f}")
                if run.step >= 8 and run.step & (run.step - 1) == 0:
                    if on_snapshot:
                        on_snapshot(run)
                    with replacing(folder / f"average-{run.step}.pt") as path:
                        torch.save(run.average.state_dict(), path)
                run.seconds += time.monotonic() - began
                if time.monotonic() - saved > save_every:
                    saved = time.monotonic()
                    run.save(state)
        run.save(state)
        if run.step < steps:
            raise KeyboardInterrupt
    return run


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process. Raises ``ValueError`` if another one holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"another process works in {folder}: wait for it, or name another folder") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _between_steps() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C or SIGTERM came: a step cut in two leaves weights of no step at all.

    The second signal acts at once; nothing is saved then.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals only ever reach the main thread
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

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


def as_json(value: Any) -> Any:
    """Return ``value`` as it comes back from JSON (tuples as lists), so that it compares equal to what was saved."""
    return json.loads(json.dumps(value))


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say in which entries two fingerprints differ, empty if in none."""
    keys = [key for key in dict.fromkeys([*found, *wanted]) if found.get(key) != wanted.get(key)]
    return "; ".join(f"{key} was {found.get(key)}, and is {wanted.get(key)}" for key in keys)


def _step(run: Run, loss: Loss, rate: float, gamma: float) -> tuple[Tensor, Tensor | None]:
    """One gradient step and one step of the average; returns losses and times of the batch."""
    losses, t = loss(run.network, run.step)
    run.optimiser.param_groups[0]["lr"] = rate
    run.optimiser.zero_grad(set_to_none=True)
    losses.mean().backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 1.0)
    run.optimiser.step()
    run.step += 1
    _average(run, gamma)
    return losses.detach(), t


@torch.no_grad()
def _average(run: Run, gamma: float) -> None:
    """Power-function average: after k steps the weights of step i count as i^gamma."""
    weight = 1 - (1 - 1 / run.step) ** (gamma + 1)
    for mean, value in zip(run.average.parameters(), run.network.parameters()):
        mean.lerp_(value, weight)


def _log(run: Run, window: list[tuple[Tensor, Tensor | None]]) -> float:
    """Add the mean loss since the last entry, in all and in ten bands of t, to the log; returns it."""
    loss = torch.cat([losses for losses, _ in window]).cpu()
    times = [t for _, t in window if t is not None]
    window.clear()
    mean = float(loss.mean())
    if not math.isfinite(mean):
        raise FloatingPointError(
            f"the loss became {mean} before step {run.step}: lower the learning rate, or use float32"
        )
    entry: dict[str, Any] = {"step": run.step, "loss": round(mean, 5)}
    if times:
        band = torch.div(torch.cat(times).cpu(), 100, rounding_mode="floor")
        entry["by_time"] = [
            round(float(loss[band == b].mean()), 5) if bool((band == b).any()) else None for b in range(10)
        ]
    run.log.append(entry)
    return mean
