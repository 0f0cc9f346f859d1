"""painters: how diffusion models paint, and why. Exact theory beside trained models."""

from typing import TYPE_CHECKING, Any

from painters.levels import Levels
from painters.models import load
from painters.models.record import moments_of, record
from painters.sampling import noise, solve, teleport
from painters.theory import Gaussian, Mixture, Moments, PointCloud
from painters.trajectory import Frames, Trajectory

__version__ = "0.1.0"
__all__ = [
    "Frames", "Gaussian", "Levels", "Mixture", "Moments", "PaintersScheduler", "PointCloud", "Trajectory", "load",
    "moments_of", "noise", "record", "solve", "teleport",
]  # fmt: skip

if TYPE_CHECKING:
    from painters.models.scheduler import PaintersScheduler


def __getattr__(name: str) -> Any:
    if name == "PaintersScheduler":  # of all names here the one that needs diffusers
        from painters.models.scheduler import PaintersScheduler

        return PaintersScheduler
    raise AttributeError(f"painters has no {name}")
