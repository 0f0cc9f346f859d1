"""One scheduler for pipelines of diffusers: it carries our solvers, and whoever watches them, into its own call.

A pipeline asks its scheduler for the times at which to call its network, and for the state to go on from. So whatever
the network is, the scheduler sees every state and every output, after guidance, and no code here knows an architecture.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, FrozenDict, register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from painters.denoiser import Prediction, column, endpoint
from painters.levels import Levels
from painters.models.adapters import kept
from painters.models.fitting import settled
from painters.models.folders import scheduler_from, training_of
from painters.models.moments import load_moments, save_moments
from painters.sampling.noise import STEPS
from painters.sampling.solve import chosen
from painters.sampling.solvers import Ask, Step
from painters.schedules import Schedule
from painters.theory.gaussian import Gaussian

MOMENTS = "moments.safetensors"
HALF = 2**-8
"""Half precision rounds times by at most this share of them."""
OURS = ("base", "solver", "start", "moments_file")
"""Its own settings; all others in its configuration are those of the scheduler in whose place it is."""

Watch = Callable[[int, Tensor, Step], Tensor]
"""``watch(i, x, step)``: the state at level i and the step made from it; returns the state to go on from."""


def named(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The configuration of a scheduler with its class, less what it may have taken over from one of ours."""
    theirs = {key: value for key, value in config.items() if key not in OURS}
    return theirs | {"_class_name": kind, "_use_default_values": sorted(theirs.get("_use_default_values", ()))}


def times_of(levels: Levels, scheduler: Any, schedule: Any) -> Tensor:
    """Return the time (N + 1,) at which the network is asked about each level, of those that its scheduler lists.

    That is where training saw the level: the others repeat a time (Heun, PNDM) or lie between two levels (KDPM2).
    Raises ``ValueError`` if none is near. About the last level, after which none is listed, it is asked there itself.
    """
    listed, trained = scheduler.timesteps, schedule.clock(levels.alpha, levels.sigma)
    off, nearest = (listed.double().cpu() - trained[:-1, None]).abs().min(1)
    if float(off.max()) > 1.5:  # schedulers round their times, or cut them to whole ones
        raise ValueError(f"a {type(scheduler).__name__} lists no time for level {int(off.argmax())}: take another one")
    return torch.cat([listed[nearest.to(listed.device)], trained[-1:].to(listed)])


class PaintersScheduler(SchedulerMixin, ConfigMixin):
    """A scheduler for pipelines: ``pipe.scheduler = PaintersScheduler.like(pipe.scheduler, solver="dpmpp2m")``.

    The pipeline's own scheduler says what its network predicts, and computes times and levels from whatever the
    pipeline passes (steps, ``sigmas``, ``mu``, ``timesteps``); it is never stepped. The steps between these levels are
    those of a solver of ours; what it clips is not clipped.

    States are in the coordinates in which the network reads them, x = alpha x_0 + sigma eps with alpha^2 + sigma^2 = 1,
    or alpha + sigma = 1 for flow matching: the same whichever scheduler was there, nothing is scaled on the way to the
    network, and a run starts from unit noise (``init_noise_sigma`` 1).

    ``solver``: ``"ddim"``, ``"heun"``, ``"dpmpp2m"``, ``"ancestral"`` or ``"expint"``, with ``moments``, a Gaussian of
    the states, as its surrogate. ``start``: the level of the latents that the pipeline is given, from which it goes on
    (``latents=teleport(...)``). Heun lists every time at which it asks, as diffusers' own does; from pure noise
    it asks once less, and the answer to one call is not used. With a generator for each image the ancestral solver
    draws what :func:`painters.solve` draws for their seeds; where a pipeline passes none on (Flux, Stable Diffusion 3)
    torch's global one is drawn from.

    With ``"ddim"`` it equals ``FlowMatchEulerDiscreteScheduler``, and ``DDIMScheduler`` where the number of steps
    divides that of training: that one steps to t - T // n, and not to the next of its times. A copy has the levels that
    were set, and begins a run of its own. Raises ``ValueError`` for a scheduler whose levels are not known here.

    Not for pipelines that put stored states of their scheduler back into it (panoramas) or change its ``sigmas`` once
    they are set (Cosmos 2), and with Heun not for a run that two pipelines share (``denoising_end``), because they part
    it inside a step.
    """

    init_noise_sigma = 1.0

    @register_to_config
    def __init__(self, base: Mapping[str, Any], solver: str = "ddim", start: int = 0, moments_file: Any = None) -> None:
        self.base, kind = scheduler_from(base, "the configuration"), base["_class_name"]
        known = training_of(self.base)
        if known.schedule is None or self.base.config.get("invert_sigmas"):
            raise ValueError(f"the levels of a {kind} are not known here: a pipeline that needs it cannot be recorded")
        self.prediction: Prediction = settled(known, None, None, kind)[1]
        self.order, self.start, self.floor = 2 if solver == "heun" else 1, start, known.schedule.ends[1]
        self.solver, self.timesteps = chosen(solver, floor=self.floor), torch.empty(0)
        self.listed, self.begin, self.call, self.run = [0], None, None, None
        self.moments: Gaussian | None = None
        self.watch: Watch | None = None
        self.seeds: Sequence[int] | None = None

    @property
    def config(self) -> Any:
        """Its own settings, and those of the pipeline's own scheduler, which pipelines read, such as shifts.

        Schedulers of diffusers are made of it as of the configuration of the pipeline's own.
        """
        ours = {key: self._internal_dict[key] for key in OURS}
        return FrozenDict({**named(self.base.config, type(self).__name__), **ours})

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **options: Any) -> Any:
        """Make one of a :attr:`config`, or of that of a scheduler of diffusers where it names its class.

        It holds no moments: where it names a file of them, a run raises ``ValueError``.
        """
        kind = config.get("_class_name")
        config = config if kind == cls.__name__ else {"base": named(config, kind)}
        return super().from_config({key: config[key] for key in OURS if key in config}, return_unused_kwargs, **options)

    @classmethod
    def like(
        cls, scheduler: Any, *, solver: str = "ddim", moments: Gaussian | None = None, start: int = 0
    ) -> PaintersScheduler:
        """Return a scheduler of ours to take the place of one of diffusers, which is left as it is."""
        base = scheduler.base if isinstance(scheduler, cls) else scheduler
        config, file = named(base.config, type(base).__name__), None if moments is None else MOMENTS
        made = cls(base=config, solver=solver, start=start, moments_file=file)
        made.base = copy.deepcopy(base)  # with what was set on it since, such as a shift
        made.moments, made.solver = moments, chosen(solver, floor=made.floor, surrogate=moments)
        return made

    @classmethod
    def from_pretrained(cls, path: Any = None, subfolder: str | None = None, **options: Any) -> Any:
        """Read what :meth:`save_pretrained` wrote, moments included. The options are those of diffusers."""
        made: Any = super().from_pretrained(path, subfolder, **options)
        file = Path(path, subfolder or "", MOMENTS)
        if made.config["moments_file"] is None or not file.is_file():  # a run asks for what is missing
            return made
        return cls.like(made, solver=made.config["solver"], moments=load_moments(file)[0], start=made.start)

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **options: Any) -> None:
        """Write the configuration, and moments beside it as :func:`painters.models.moments.save_moments` does."""
        Path(save_directory, MOMENTS).unlink(missing_ok=True)  # of another scheduler
        if self.moments is not None:
            save_moments(self.moments, Path(save_directory, MOMENTS))
        super().save_pretrained(save_directory, push_to_hub, **options)

    def __getstate__(self) -> dict[str, Any]:
        # Of a run under way, whose solver is a generator, a copy has the levels and no step; nobody watches it.
        return self.__dict__ | {"watch": None, "call": self.begin, "run": None, "said": None, "state": None}

    def __getattr__(self, name: str) -> Any:
        # What else pipelines read, such as alphas_cumprod, is that of their own scheduler.
        base = self.__dict__.get("base")
        if base is None or not hasattr(base, name):
            raise AttributeError(f"a {type(self).__name__} has no {name!r}, nor has the scheduler in whose place it is")
        return getattr(base, name)

    def set_timesteps(
        self,
        num_inference_steps: Any = None,
        device: Any = None,
        sigmas: Any = None,
        mu: Any = None,
        timesteps: Any = None,
    ) -> None:
        """Set the levels of a run and list the times of its calls. Raises what the pipeline's own scheduler does.

        Raises ``ValueError`` also for what that does not take, for times that do not belong to its levels, and where
        the moments that belong to this scheduler were not loaded.
        """
        if self.moments is None and self.config["moments_file"] and self.config["solver"] == "expint":
            raise ValueError("the moments of this scheduler are missing: give them to PaintersScheduler.like again")
        given = {"sigmas": sigmas, "mu": mu, "timesteps": timesteps}
        given = {key: value for key, value in given.items() if value is not None}
        if wrong := given.keys() - inspect.signature(self.base.set_timesteps).parameters.keys():
            raise ValueError(f"a {type(self.base).__name__} does not support custom {min(wrong)}: take another one")
        self.base.set_timesteps(None if {"sigmas", "timesteps"} & given.keys() else num_inference_steps, **given)
        every, schedule = Levels.visited_by(self.base), cast(Schedule, training_of(self.base).schedule)
        if not 0 <= self.start < every.steps:
            raise ValueError(f"a run of {every.steps} steps cannot start at level {self.start}")
        times = times_of(every, self.base, schedule)
        self.levels, n = every[self.start :], every.steps - self.start
        listed = [i for i in range(n) for _ in range(self.order)][self.order - 1 :]  # of Heun: 0, 1, 1, 2, 2, ...
        # Heun's last step asks twice unless it is into sigma = 0.
        self.listed = [*listed, n] if self.order == 2 and self.levels.sigma[-1] > 0 else listed
        self.timesteps = times[self.start :][self.listed].to(device)
        if hasattr(self.base, "sigmas"):  # one for each time and one to end at, in the units of diffusers
            units = self.levels.sigma if schedule.coordinates == "flow" else self.levels.ratio
            self.sigmas = units[[*self.listed, n]].float()
        self.begin, self.call, self.run = None, None, None

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Set the call at which a run begins, as pipelines do that start from an image."""
        self.begin = self.call = begin_index

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """Return the state itself, which is in the coordinates of the network."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return alpha x_0 + sigma eps at the levels of these times of the run."""
        at = [self.listed[self._at(t)] for t in timesteps.flatten().tolist()]
        alpha, sigma = (column(part[at], noise).to(noise) for part in (self.levels.alpha, self.levels.sigma))
        return alpha * original_samples + sigma * noise

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """Return what :meth:`add_noise` does, under the name by which flow-matching pipelines call it."""
        return self.add_noise(sample, noise, timestep)

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        generator: Any = None,
        return_dict: bool = True,
        **others: Any,
    ) -> Any:
        """Return the next state that the network is asked about, and the endpoint estimate made of its output.

        ``sample``, (B, ...), is the state to go on from: the one returned last, or what the pipeline made of it.
        ``eta`` and ``use_clipped_model_output`` are what a ``DDIMPipeline`` always says: nothing is clipped here, and
        ``ValueError`` says that noise comes from the solver ``ancestral`` if ``eta`` is not 0. So it does of what else
        is not followed here, and of a timestep that is not the next one of the run.
        """
        if eta:
            raise ValueError(f'eta = {eta} adds noise, which solver="{self.config.solver}" does not: take "ancestral"')
        if others:
            raise ValueError(f"{min(others)} is not followed here: take the pipeline's own {type(self.base).__name__}")
        call = self._at(float(timestep)) if self.call is None else self.call
        due, given = self.timesteps[call : call + 1], torch.as_tensor(timestep)
        if not torch.isclose(due.to(given), given, rtol=HALF).any():
            raise ValueError(f"time {float(given):.6g} is not the next of this run, which takes each once in order")
        level, self.call = self.listed[call], call + 1
        x = sample.to(torch.promote_types(sample.dtype, torch.float32))
        alpha, sigma = self.levels.alpha[level], self.levels.sigma[level]
        x0 = endpoint(x, kept(model_output, sample).to(x.dtype), alpha, sigma, prediction=self.prediction)
        if self._asks(x, level, generator):  # else the answer is not needed
            self.said = cast(Any, self.run).send(x0)
            x = self.said.x
            if isinstance(self.said, Step):
                x = self.watch(self.reached, self.state, self.said) if self.watch else x
                self.reached += 1
        x, x0 = x.to(sample.dtype), x0.to(sample.dtype)
        return DDIMSchedulerOutput(prev_sample=x, pred_original_sample=x0) if return_dict else (x, x0)

    def _asks(self, x: Tensor, level: int, generator: Any) -> bool:
        """Bring the solver to its next question, the state at a step's end being x; whether it is about this level."""
        if self.run is None:
            self.run, self.reached = self.solver(x, self.levels[level:], self._seeds(generator, len(x))), level
            self.said, self.state = next(self.run), x
        elif isinstance(self.said, Step) and self.reached < self.levels.steps:
            self.said, self.state = self.run.send(x), x
        return isinstance(self.said, Ask) and self.said.level == self.levels[level]

    def _seeds(self, generator: Any, n: int) -> Sequence[int] | None:
        """The seeds of what a stochastic solver draws; for others no generator is touched."""
        if self.seeds is not None or self.config["solver"] != "ancestral":
            return self.seeds and [*self.seeds] * (n // len(self.seeds))  # DiT holds states twice under guidance
        if isinstance(generator, list):
            return [one.initial_seed() % STEPS for one in generator]
        return torch.randint(STEPS, (n,), generator=generator, device=getattr(generator, "device", "cpu")).tolist()

    def _at(self, time: float) -> int:
        """The call made at a time, of two the one that begins a step."""
        near = (self.timesteps.cpu().double() - time).abs()
        if not len(near) or float(near.min()) > HALF * max(1.0, abs(time)):
            raise ValueError(f"the time {time:.6g} is none of this run's: after set_timesteps, take one of timesteps")
        return int((near == near.min()).nonzero()[-1])
