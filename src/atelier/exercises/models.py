"""Solutions and inputs of the exercises of the page models."""

from .learning import variances_and_level
from .task import Task


def excess(lam, alpha, sigma):
    left = lam * sigma**2 / (alpha**2 * lam + sigma**2)
    return lam.sum() / left.sum()


TASKS = (Task("ex-models-rule", "the excess of the mean", excess, variances_and_level),)
