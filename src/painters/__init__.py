"""painters: how diffusion models paint, and why. Exact theory beside trained models."""

from painters.levels import Levels
from painters.models import load
from painters.sampling import noise, solve
from painters.theory import Gaussian, Mixture, Moments, PointCloud
from painters.trajectory import Frames, Trajectory

__version__ = "0.1.0"
__all__ = ["Frames", "Gaussian", "Levels", "Mixture", "Moments", "PointCloud", "Trajectory", "load", "noise", "solve"]
