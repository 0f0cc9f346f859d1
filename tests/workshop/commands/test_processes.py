"""Several processes on one piece of work: dealt, killed midway, started again in another number, ended by the last."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import partners
import pipelines
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from PIL import Image
from safetensors.torch import load_file

import painters
from atelier.cli import main
from atelier.faster import bench, references
from atelier.ledger import measuring
from atelier.ledger.records import read
from atelier.ranks import place, share
from atelier.subject import Settings, Subject
from painters import Levels, files
from painters.models import moments
from painters.trajectory import Trajectory

needs_fork = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="its processes are forked: new ones import for long"
)


def _rank(rank, world, do, dies_at):
    """One process: ``do()``, but at its ``dies_at``-th file it is killed, as the file has no name yet."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    real, calls = os.replace, []

    def replace(*paths):
        calls.append(paths)
        if len(calls) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*paths)

    files.os.replace = replace
    os._exit(do())


def together(do, *, world=2, dies_at=None):
    """Run ``do`` in ``world`` processes at once and return how they ended; the last of them dies at a file."""
    context = multiprocessing.get_context("fork")
    dies = [None] * (world - 1) + [dies_at]
    running = [context.Process(target=_rank, args=(rank, world, do, dies[rank])) for rank in range(world)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    return [process.exitcode for process in running]


def written(folder):
    """When each file was written that is no hidden one."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("[!.]*") if path.is_file()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a pixel network of a few thousand weights, 2 x 8 x 8."""
    folder = tmp_path_factory.mktemp("tiny")
    network = pipelines.unet(in_channels=3, out_channels=3)
    DDPMPipeline(network, DDPMScheduler(clip_sample=False)).save_pretrained(str(folder))
    return str(folder)


# Shares


def test_shares_are_equal_and_together_the_whole(monkeypatch):
    for n in range(12):
        for world in range(1, 6):
            monkeypatch.setenv("WORLD_SIZE", str(world))
            shares = []
            for rank in range(world):
                monkeypatch.setenv("RANK", str(rank))
                shares.append(share(range(n)))
            assert [i for part in shares for i in part] == list(range(n))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_alone_has_everything(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert place() == (0, 1) and share([3, 1]) == [3, 1]


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("1", None), ("-1", "2"), ("a", "2"), ("0", "0")])
def test_a_place_that_is_none_is_one_sentence(rank, world, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    assert main(["moments", str(tmp_path), "--out", str(tmp_path / "m.safetensors")]) == 1
    error = capsys.readouterr().err.strip()
    assert f"RANK {rank!r} is none of WORLD_SIZE" in error and "\n" not in error
    assert not list(tmp_path.iterdir())


# painters sample


def sample(model, out, seeds="0-6"):
    options = ["--steps", "2", "--solver", "ddim", "--batch", "2", "--device", "cpu"]
    return main(["sample", model, "--seeds", seeds, *options, "--out", str(out)])


@needs_fork
@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_killed_painter_is_made_good_by_the_same_command(world, tiny, tmp_path, capfd):
    alone, out = tmp_path / "alone", tmp_path / "out"
    assert sample(tiny, alone) == 0
    # run.json, unless the other was first, then a trajectory and a picture of each of four seeds
    assert together(lambda: sample(tiny, out), dies_at=5) == [0, -9]
    before = written(out)
    assert len(list(out.glob("seed-*.png"))) < 7 and not (out / "sheet.png").exists()
    assert "images are not in" in capfd.readouterr().out
    assert together(lambda: sample(tiny, out), world=world) == [0] * world
    after = written(out)
    pictures = {path for path in before if path.name.endswith(".png")}
    assert pictures and all(after[path] == before[path] for path in pictures)
    assert {path.relative_to(out) for path in after} == {path.relative_to(alone) for path in written(alone)}
    for seed in range(7):
        name = f"trajectories/seed-{seed:05d}.safetensors"
        ours, theirs = Trajectory.load(out / name), Trajectory.load(alone / name)
        assert torch.equal(ours.x[0], theirs.x[0]) and ours.seeds == (seed,)
        assert torch.equal(ours.x[0], ours.levels.start(painters.noise([seed], ours.x.shape[2:])))
        assert partners.rel(ours.x, theirs.x) < 1e-4  # another batch around it
    assert together(lambda: sample(tiny, out), world=world) == [0] * world
    again = written(out)
    assert all(again[path] == after[path] for path in after if path.name != "sheet.png")


def test_only_the_first_process_shows_its_progress(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, shows in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        assert sample(tiny, tmp_path, "0-1") == 0
        assert ("painting" in capsys.readouterr().err) is shows


def test_more_processes_than_seeds_paint_each_seed_once(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank, there in (("2", 1), ("0", 1), ("1", 2)):
        monkeypatch.setenv("RANK", rank)
        assert sample(tiny, tmp_path, "0-1") == 0
        assert len(list(tmp_path.glob("seed-*.png"))) == there
    assert "2 images, " in capsys.readouterr().out


@pytest.mark.slow
def test_the_launcher_of_torch_deals(tiny, tmp_path):
    """The launcher itself, its two processes and gloo's port: 10 s of imports."""
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "atelier.cli"]
    options = ["--seeds", "0-2", "--steps", "1", "--solver", "ddim", "--device", "cpu", "--out", str(tmp_path)]
    run = subprocess.run([sys.executable, *launched, "sample", tiny, *options], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("3 images, ") >= 1 and len(list(tmp_path.glob("seed-*.png"))) == 3
    assert (tmp_path / "sheet.png").is_file()


# painters moments


def own_samples(model, out, n=9):
    options = ["--n", str(n), "--steps", "2", "--batch", "1", "--rank", "3", "--device", "cpu", "--out", str(out)]
    return main(["moments", "--samples", model, *options])


def equal(one, other):
    """Whether two files of moments hold the same numbers to the last bit, and say the same of their origin."""
    a, b = load_file(one), load_file(other)
    facts = [moments.load_moments(path)[1] for path in (one, other)]
    told = [{key: value for key, value in part.items() if key not in ("files", "first")} for part in facts]
    return told[0] == told[1] and a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@needs_fork
@pytest.mark.parametrize("world", [2, 3])
def test_own_samples_are_painted_once_and_merged_exactly(world, tiny, tmp_path, capfd):
    alone, out = tmp_path / "alone.safetensors", tmp_path / "out.safetensors"
    parts = tmp_path / "out.safetensors.parts"
    assert own_samples(tiny, alone) == 0
    assert together(lambda: own_samples(tiny, out), dies_at=3) == [0, -9]
    assert not out.exists() and "samples are not in" in capfd.readouterr().out
    assert list(parts.glob(".*.safetensors")), "what it was writing when it was killed"
    before = written(parts)
    assert together(lambda: own_samples(tiny, out), world=world) == [0] * world
    after = written(tmp_path)
    assert all(after[path] == before[path] for path in before)
    painted = Counter(int(i) for shard in parts.glob("[!.]*.safetensors") for i in load_file(shard)["seeds"])
    assert painted == Counter(range(10**6, 10**6 + 9))
    assert equal(out, alone)
    assert together(lambda: own_samples(tiny, out), world=world) == [0] * world
    assert written(tmp_path) == after and "is written" in capfd.readouterr().out
    assert own_samples(tiny, out) == 0 and equal(out, alone) and not parts.exists()  # a process alone clears up


def test_more_samples_are_added_to_those_that_are_there(tiny, tmp_path, monkeypatch):
    out, alone = tmp_path / "out.safetensors", tmp_path / "alone.safetensors"
    for n in (5, 9):
        for rank in ("0", "1"):
            monkeypatch.setenv("WORLD_SIZE", "2")
            monkeypatch.setenv("RANK", rank)
            assert own_samples(tiny, out, n) == 0
    monkeypatch.undo()
    assert own_samples(tiny, alone) == 0 and equal(out, alone)


@pytest.fixture
def pictures(tmp_path):
    """A folder of 30 pictures, 8 x 8, two more that cannot be read, and no picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    for name in ("03b.png", "29b.png", "words.txt"):
        (folder / name).write_text("no picture")
    return folder


def of_pictures(folder, out, *options):
    return main(["moments", str(folder), "--size", "4", *options, "--out", str(out)])


@needs_fork
@pytest.mark.parametrize("world", [2, 5])
def test_pictures_of_a_folder_are_read_once_and_merged_exactly(world, pictures, tmp_path, capfd):
    alone, out = tmp_path / "alone.safetensors", tmp_path / "out.safetensors"
    assert of_pictures(pictures, alone) == 0
    assert "3 files skipped" in capfd.readouterr().out
    assert together(lambda: of_pictures(pictures, out), dies_at=1) == [0, -9] and not out.exists()
    assert together(lambda: of_pictures(pictures, out), world=world) == [0] * world
    assert moments.load_moments(out)[1]["n"] == 30 and equal(out, alone)
    out.unlink()  # one dies as it writes the moments, unless it comes too late for that
    assert together(lambda: of_pictures(pictures, out), dies_at=1) in ([0, -9], [0, 0]) and equal(out, alone)
    before = written(tmp_path)
    capfd.readouterr()
    assert together(lambda: of_pictures(pictures, out), world=world) == [0] * world
    assert written(tmp_path) == before and capfd.readouterr().out.count("is written") == world
    Image.new("RGB", (8, 8)).save(pictures / "00.png")
    assert together(lambda: of_pictures(pictures, out)) == [1, 1]
    assert "holds another run (files " in capfd.readouterr().err and written(tmp_path).items() >= {
        path: when for path, when in before.items() if path.parent != pictures
    }.items()  # fmt: skip


def test_the_latents_of_pictures_are_dealt_too(pictures, tmp_path, monkeypatch):
    pipelines.stable_diffusion(tmp_path / "make").save_pretrained(str(tmp_path / "sd"))
    alone, out = tmp_path / "alone.safetensors", tmp_path / "out.safetensors"
    options = ("--size", "16", "--encode", str(tmp_path / "sd"), "--device", "cpu", "--n", "8")
    assert of_pictures(pictures, alone, *options) == 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert of_pictures(pictures, out, *options) == 0
    ours, theirs = (moments.load_moments(path)[0] for path in (out, alone))
    np.testing.assert_allclose(ours.mu, theirs.mu, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.lam, theirs.lam, rtol=1e-5)


def test_several_processes_read_folders_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert main(["moments", "owner/data", "--out", str(tmp_path / "m.safetensors")]) == 1
    assert "there is no folder owner/data" in capsys.readouterr().err and not list(tmp_path.iterdir())


# painters claims


@needs_fork
@pytest.mark.parametrize("world", [1, 2, 3])
def test_experiments_are_dealt_and_a_killed_one_is_measured_again(world, tmp_path, monkeypatch):
    ran, out = tmp_path / "ran.txt", tmp_path / "tiny.json"
    gaussian = partners.gaussian([4.0, 1.0, 0.5, 0.1])
    who = Subject("tiny", gaussian, gaussian, (1, 2, 2), Levels.of, lambda x: x, kind="gaussian")

    def experiment(name):
        def measure(who, settings):
            with ran.open("a") as file:
                file.write(f"{name} ")
            return {"x": 1}

        return measure

    names = "abcdefg"
    monkeypatch.setattr(measuring, "MEASURES", {name: experiment(name) for name in names})

    def claims():
        measuring.measure_model(who, Settings((0, 1), 5, "ci"), out, progress=False)
        return 0

    assert together(claims, dies_at=2) == [0, -9]  # of d, e, f, g the second: it was measured, and not written
    kept = read(out).measurements
    assert set(kept) == set("abcd") and sorted(ran.read_text().split()) == list("abcde")
    ran.write_text("")
    assert together(claims, world=world) == [0] * world
    found = read(out).measurements
    assert set(found) == set(names) and all(found[name] == kept[name] for name in kept)
    assert sorted(ran.read_text().split()) == list("efg")
    before = written(tmp_path)
    assert together(claims, world=world) == [0] * world and written(tmp_path) == before


# painters bench


@pytest.fixture
def rough(tmp_path, monkeypatch):
    """References on a rough grid, so that a benchmark takes seconds."""
    real = references.grid_of
    monkeypatch.setattr(references, "grid_of", lambda target, fine=1: real(target, fine)[:: 62 // fine])
    monkeypatch.setenv("PAINTERS_CACHE", str(tmp_path / "cache"))


@needs_fork
def test_a_benchmark_is_dealt_and_a_killed_process_is_made_good_by_the_others(tmp_path, monkeypatch, rough):
    out, log, real = tmp_path / "two.json", tmp_path / "log", bench.painted

    def noted(target, paint, nfe, seeds):
        with log.open("a") as lines:
            lines.write(f"{os.environ['RANK']}\n")
        return real(target, paint, nfe, seeds)

    monkeypatch.setattr(bench, "painted", noted)

    def measure(to=out):
        only = "ddim,DDIM,UniPC 2,heun"
        return main(
            ["bench", "--model", "mixture", "--nfe", "5,6", "--seeds", "0-7", "--only", only, "--json", str(to)]
        )

    assert together(measure, dies_at=14) == [0, -signal.SIGKILL]
    assert set(log.read_text().split()) == {"0", "1"}
    rows = {(r["sampler"], r["nfe"]): r["each"] for r in bench.read(out)["rows"]}
    assert together(lambda: measure(tmp_path / "one.json"), world=1) == [0]
    alone = {(r["sampler"], r["nfe"]): r["each"] for r in bench.read(tmp_path / "one.json")["rows"]}
    assert rows.keys() == alone.keys()
    assert all(np.allclose(rows[key], alone[key], rtol=1e-4) for key in alone)


@needs_fork
def test_two_processes_measure_nothing_twice(tmp_path, monkeypatch, rough):
    log, real = tmp_path / "log", bench.Sheet.put

    def put(sheet, row):
        with log.open("a") as lines:
            lines.write(f"{row['nfe']} {row['sampler']} {len(row['each'])}\n")
        real(sheet, row)

    monkeypatch.setattr(bench.Sheet, "put", put)
    options = ["--nfe", "5,6", "--seeds", "0-7", "--only", "ddim,DDIM,UniPC 2", "--json", str(tmp_path / "b.json")]
    assert together(lambda: main(["bench", "--model", "mixture", *options])) == [0, 0]
    made = Counter(log.read_text().splitlines())
    assert set(made.values()) == {1} and len(made) > 8
