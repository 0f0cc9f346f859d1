"""The exercises with code: their solutions pass, slips do not, and other code of the book agrees with them."""

import math
import re
from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest
import torch

import atelier.exercises
import painters as P
from atelier import variations
from atelier.exercises import Task, find, judge
from atelier.exercises.derivation import level
from atelier.gans import pullback
from atelier.learning.guidance import guided_gain
from atelier.manifold import walks

MODULES = [
    import_module(f"{atelier.exercises.__name__}.{found.name}") for found in iter_modules(atelier.exercises.__path__)
]
TASKS = [task for module in MODULES for task in getattr(module, "TASKS", ())]


def trial(label: str, seed: int = 99) -> tuple:
    """The task's solution and its arguments for one seed."""
    task = find(label)
    return task.reference, task.inputs(torch.Generator().manual_seed(seed))


def close(got, want, rtol=1e-9):
    torch.testing.assert_close(torch.as_tensor(got), torch.as_tensor(want), rtol=rtol, atol=1e-12, check_dtype=False)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.label)
def test_a_solution_passes_and_a_slip_does_not(task):
    def slip(*arguments):
        right = task.reference(*arguments)
        return tuple(1.001 * part for part in right) if isinstance(right, tuple) else 1.001 * right

    assert find(task.label) is task
    assert judge(task, task.reference).right
    assert judge(task, slip).says.startswith("not right yet")
    assert judge(task, lambda *arguments: None).says == "not written yet."


ONE, TWO, NAN = torch.tensor(2.0), torch.tensor([2.0, 2.0]), float("nan")


@pytest.mark.parametrize(
    ("want", "got", "says"),
    [
        (ONE, torch.zeros(0), r"returns the shape \(0,\), where one number"),
        (ONE, torch.full((3,), 2.0), r"the shape \(3,\), where one number"),
        (ONE, ONE[None], r"the shape \(1,\), where one number"),
        (ONE, [], r"the shape \(0,\)"),
        (ONE, (), r"the shape \(0,\)"),
        (ONE, ONE + 0j, "of complex64, where real"),
        (ONE, True, "of bool, where real"),
        (ONE, "2.0", "returns str of <U3, where real"),
        (ONE, {2.0}, "returns set of object"),
        (ONE, {"a": 2.0}, "returns dict of object"),
        (ONE, NAN, "Relative error inf"),
        (ONE, -math.inf, "Relative error inf"),
        (ONE, [[2.0], [2.0, 2.0]], "returns list of object"),
        (TWO, ONE, r"the shape \(\), where \(2,\)"),
        (TWO, TWO[None], r"the shape \(1, 2\)"),
        (TWO, torch.tensor([2.0, NAN]), "Relative error inf"),
        (TWO, [2.0, None], "of object, where real"),
        (TWO, TWO[:, None], r"the shape \(2, 1\)"),
        ((ONE, TWO), (ONE,), "returns tuple of 1, where a tuple of 2"),
        ((ONE, TWO), (ONE, TWO, TWO), "returns tuple of 3, where a tuple of 2"),
        ((ONE, TWO), [ONE, TWO], "returns list, where a tuple of 2"),
        ((ONE, TWO), TWO, "returns Tensor, where a tuple of 2"),
        ((ONE, TWO), (ONE, None), "not written yet"),
        ((ONE, TWO), (ONE, TWO[:0]), r"the shape \(0,\), where \(2,\)"),
        (torch.zeros(2), torch.zeros(0), r"the shape \(0,\)"),
    ],
)
def test_an_answer_of_another_kind_is_named_and_never_right(want, got, says):
    task = Task("ex-intro-kind", "kind", lambda: want, lambda generator: ())
    verdict = judge(task, lambda: got)
    assert not verdict.right and re.search(says, verdict.says), verdict.says


@pytest.mark.parametrize(
    ("want", "got"),
    [
        (2.0, ONE),
        (ONE, 2),
        (ONE, np.float32(2)),
        (TWO, [2, 2.0]),
        (TWO, (ONE, ONE)),
        (TWO, TWO.double()),
        (TWO, TWO.int()),
    ],
)
def test_an_answer_of_the_right_value_may_be_of_any_type_of_real_number(want, got):
    assert judge(Task("ex-intro-kind", "kind", lambda: want, lambda generator: ()), lambda: got).right


def test_the_exact_flow_and_its_steps():
    flow, (x, mu, U, lam, frm, to) = trial("ex-gaussian-flow")
    close(flow(x, mu, U, lam, frm, to), P.Gaussian(mu, U, lam).flow(x, frm=frm, to=to))
    keep, (x, fresh, mu, U, lam, here, k) = trial("ex-variations-keep")
    world = P.Gaussian(mu, U, lam)
    close(keep(x, fresh, mu, U, lam, here, k), variations.repaint(world, x, fresh, here, keep="outline", pcs=k))
    step, (lam, frm, to) = trial("ex-steps-step")
    angle = math.atan2(frm[1], frm[0] * math.sqrt(lam)) - math.atan2(to[1], to[0] * math.sqrt(lam))
    close(step(lam, frm, to), math.cos(angle))


def test_the_guided_gain():
    gain, (lam_u, lam_c, w, frm, to) = trial("ex-guidance-gain")
    close(gain(lam_u, lam_c, w, frm, to), guided_gain(lam_u, lam_c, w, frm=frm, to=to))


def test_products_with_a_jacobian():
    for label in ("ex-modes-product", "ex-manifold-jvp"):
        push, (f, x, v) = trial(label)
        close(push(f, x, v), (f(x + 1e-6 * v) - f(x - 1e-6 * v)) / 2e-6, rtol=1e-6)


def test_a_chain_of_steps_multiplies_the_roots():
    alpha = 1.0
    for beta in (betas := torch.tensor([0.1, 0.2, 0.05]).double()).tolist():
        alpha *= math.sqrt(1 - beta)
    close(torch.tensor(level(betas)), torch.tensor([alpha, math.sqrt(1 - alpha**2)]), rtol=1e-7)


def test_endpoints_of_any_scale():
    endpoints, _ = trial("ex-reverse-endpoint")
    x0, eps = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for got in endpoints(0.7 * x0 + 1.9 * eps, 0.7 * eps - 1.9 * x0, eps - x0, 0.7, 1.9):
        close(got, x0)


def test_the_homogeneity_of_metrics():
    homogeneity, (H,) = trial("ex-gans-homogeneity")
    close(homogeneity(H), pullback.between(pullback.homogeneity(H)).value, rtol=1e-6)


def test_the_turn_of_a_walk():
    turn, (U, lam, x, v) = trial("ex-manifold-turn")
    angle = turn(U, lam, x, v).reshape(1)
    ends = walks.line(x, v[None], torch.cat([-angle, angle]))[0] @ (U * lam.sqrt())
    close((ends[1] - ends[0]).norm(), (2 * lam.sum()).sqrt() / 2)
