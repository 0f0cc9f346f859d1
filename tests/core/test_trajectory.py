"""What a run leaves behind: identities, coordinates, files."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest
import torch
from partners import gaussian, randn, rel
from safetensors import SafetensorError
from safetensors.torch import save_file

import painters.files
from painters import Frames, Levels, Trajectory, solve
from painters.files import replacing
from painters.schedules import flow, vp_linear


def run(n: int = 6, seeds: tuple[int, ...] | None = (3, 4), **options) -> Trajectory:
    g, levels = gaussian([4.0, 1.0, 0.1], seed=1), Levels.of(vp_linear(), n)
    return solve(g, randn(2, 3, seed=2), levels, seeds=seeds, progress=False, **options)


# identities


def test_state_is_made_of_its_estimate_and_its_noise() -> None:
    t = run()
    a, s = t.levels.alpha[:-1, None, None], t.levels.sigma[:-1, None, None]
    assert rel(a * t.x0 + s * t.eps, t.x[:-1]) < 1e-12
    assert torch.equal(t.final, t.x[-1])


def test_noise_of_the_exact_solution_has_its_closed_form() -> None:
    """eps_hat = sigma c / sqrt(v_t v_T) mode by mode (mean removed), constant in a null direction."""
    g = gaussian([4.0, 0.3, 0.0], seed=5, mean=0.0)
    t = g.trajectory(randn(2, 3, seed=6), Levels.of(vp_linear(), 9))
    c = t.x[0] @ g.U
    a, s = t.levels.alpha[:-1, None, None], t.levels.sigma[:-1, None, None]
    v = a**2 * g.lam + s**2
    assert rel(t.eps @ g.U, s * c / (v * v[:1]).sqrt()) < 1e-10
    assert rel(t.eps @ g.U[:, 2], (c[:, 2] / s[0, 0, 0]).expand(9, 2)) < 1e-10


def test_coordinates_change_states_and_not_estimates() -> None:
    t = run()
    ve = t.to("ve")
    assert torch.equal(ve.x0, t.x0)
    assert rel(ve.x, t.x / t.levels.alpha[:, None, None]) < 1e-12
    assert rel(ve.eps, t.eps) < 1e-9  # the noise has unit variance in every coordinate system
    back = ve.to("flow").to("vp")
    assert rel(back.x, t.x) < 1e-12 and rel(back.levels.sigma, t.levels.sigma) < 1e-12


def test_fenceposts_are_enforced() -> None:
    levels = Levels.of(flow(), 3)
    with pytest.raises(ValueError, match="4 levels need 4 states and 3 endpoint estimates, got 3 and 3"):
        Trajectory(levels, torch.zeros(3, 1, 2), torch.zeros(3, 1, 2), nfe=3)
    with pytest.raises(ValueError, match="got 4 and 4"):
        Trajectory(levels, torch.zeros(4, 1, 2), torch.zeros(4, 1, 2), nfe=3)


@pytest.mark.parametrize("wrong", [torch.zeros(3, 2, 2), torch.zeros(3, 1, 3), torch.zeros(3, 1)])
def test_estimates_of_another_batch_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="are of one batch"):
        Trajectory(Levels.of(flow(), 3), torch.zeros(4, 1, 2), wrong, nfe=3)


def test_seeds_are_whole_numbers_one_for_each_sample() -> None:
    levels, x, x0 = Levels.of(flow(), 3), torch.zeros(4, 2, 2), torch.zeros(3, 2, 2)
    with pytest.raises(ValueError, match="3 seeds for a batch of 2"):
        Trajectory(levels, x, x0, nfe=3, seeds=(1, 2, 3))
    with pytest.raises(ValueError, match="seeds are whole numbers"):
        Trajectory(levels, x, x0, nfe=3, seeds=(1, 0.5))  # type: ignore[arg-type]


def test_projected_frames_have_no_noise_and_no_other_coordinates() -> None:
    t = run(save=Frames(fn=lambda frame: frame[:, :1]))
    assert t.x.shape == (7, 2, 1)
    with pytest.raises(ValueError, match="leave out Frames"):
        _ = t.eps
    with pytest.raises(ValueError, match="leave out Frames"):
        t.to("ve")


def test_a_trajectory_shows_itself_in_one_line() -> None:
    assert repr(run()) == ("Trajectory(heun: x (7, 2, 3), x0 (6, 2, 3), sigma/alpha 157.4 -> 0, nfe 11, seeds 3, 4)")
    many = repr(Trajectory(Levels.of(flow(), 1), torch.zeros(2, 99, 1), torch.zeros(1, 99, 1), 0, tuple(range(99))))
    assert "\n" not in many and len(many) < 140


def test_numbers_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    t = run()
    t.x0[2, 1, 0] = float("nan")
    with pytest.raises(ValueError, match="x0 would hold NaN"):
        t.save(tmp_path / "t.safetensors")
    assert not list(tmp_path.iterdir())


def test_joined_runs() -> None:
    g, levels, x = gaussian([4.0, 1.0], seed=7), Levels.of(vp_linear(), 5), randn(5, 2, seed=8)
    whole = solve(g, x, levels, seeds=range(5), progress=False)
    parts = [solve(g, x[i : i + 2], levels, seeds=range(i, min(i + 2, 5)), progress=False) for i in (0, 2, 4)]
    joined = Trajectory.join(parts)
    assert rel(joined.x, whole.x) < 1e-12 and rel(joined.x0, whole.x0) < 1e-12
    assert joined.seeds == whole.seeds == (0, 1, 2, 3, 4) and joined.nfe == whole.nfe
    assert Trajectory.join([parts[0], solve(g, x[:1], levels, progress=False)]).seeds is None
    with pytest.raises(ValueError, match="these differ: solver heun and ddim, nfe 9 and 5"):
        Trajectory.join([whole, solve(g, x, levels, solver="ddim", progress=False)])
    with pytest.raises(ValueError, match="at least one Trajectory"):
        Trajectory.join([])
    with pytest.raises(ValueError, match="same levels"):
        Trajectory.join([whole, solve(g, x, Levels.of(vp_linear(), 4), progress=False)])


# files


@pytest.mark.parametrize("seeds", [(3, 4), None])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, seeds: tuple[int, ...] | None) -> None:
    t = run(seeds=seeds, save=Frames(every=2, dtype=torch.float16))
    path = t.save(tmp_path / "new folder" / "run.safetensors")
    back = Trajectory.load(str(path))
    for key in ("x", "x0"):
        assert torch.equal(getattr(back, key), getattr(t, key)) and getattr(back, key).dtype == torch.float16
    assert torch.equal(back.levels.alpha, t.levels.alpha) and torch.equal(back.levels.sigma, t.levels.sigma)
    assert (back.levels.origin, back.nfe, back.seeds, back.meta) == (t.levels.origin, t.nfe, seeds, t.meta)
    assert os.listdir(path.parent) == ["run.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_trajectory_that_is_a_view_can_be_saved(tmp_path: Path) -> None:
    t = run()
    strided = Trajectory(t.levels, t.x.transpose(1, 2), t.x0.transpose(1, 2), t.nfe)
    assert torch.equal(Trajectory.load(strided.save(tmp_path / "t.safetensors")).x, strided.x)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    path = run().save(tmp_path / "run.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="is damaged or is not a trajectory"):
        Trajectory.load(path)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    four = {key: torch.zeros(3) for key in ("alpha", "sigma", "x", "x0")}
    good = '{"origin": "x", "nfe": 1, "seeds": null, "meta": {}}'
    for tensors, header in (
        ({"weight": torch.zeros(3)}, None),
        (four, None),
        (four, "{not json"),
        (four, "[]"),
        (four, "{}"),
        ({"alpha": torch.zeros(3)}, good),
        (four, good),
    ):
        save_file(tensors, path, metadata=None if header is None else {"painters.trajectory": header})
        with pytest.raises(ValueError, match="is damaged or is not a trajectory"):
            Trajectory.load(path)
    path.write_bytes(b"\x00" * 4096)
    with pytest.raises(ValueError, match="is damaged or is not a trajectory"):
        Trajectory.load(path)
    with pytest.raises(FileNotFoundError, match="there is no trajectory at"):
        Trajectory.load(tmp_path / "missing.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no trajectory at"):
        Trajectory.load(tmp_path)


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write to .*; choose another folder"):
        run().save(file / "run.safetensors")
    assert file.read_text() == "in the way"


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"cannot write to .*; choose another folder"):
        run().save(tmp_path / "run.safetensors")


@pytest.fixture
def tiny_disk():
    """No file of this process may grow beyond 2,000 bytes: the system's own error of a write that finds no room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, tiny_disk: None) -> None:
    path = run(n=2, seeds=None).save(tmp_path / "run.safetensors")
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"could not write .*nothing was changed there"):
        run(n=60).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run.safetensors"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("No space left on device: unexpected pos 64 vs 0\nFrame #0: ..."),
        KeyboardInterrupt(),
    ],
)
def test_an_interrupted_write_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def half(tensors, path, metadata) -> None:
        Path(path).write_bytes(b"half of it")
        raise error

    path = run().save(tmp_path / "run.safetensors")
    before = path.read_bytes()
    monkeypatch.setattr(painters.files, "save_file", half)
    said = OSError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(said) as caught:
        run(n=9).save(path)
    if said is OSError:
        assert "could not write" in str(caught.value) and "No space left on device" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run.safetensors"]
    with pytest.raises(said):
        run().save(tmp_path / "fresh" / "run.safetensors")
    assert os.listdir(tmp_path / "fresh") == []


def test_replacing_takes_the_place_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path and temporary != path and temporary.suffix == ".txt"
        temporary.write_text("new")
        assert path.read_text() == "old"
        reader = path.open()
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]
    with reader:
        assert reader.read() == "old"  # the old file was unlinked, not written into
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("worse")
        _ = 1 / 0
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]
