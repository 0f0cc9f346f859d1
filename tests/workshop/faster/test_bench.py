"""The benchmark: what a row says, screening, resuming, what is refused, and the table."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from worlds import GAUSSIAN, MIXTURE, on_law

from atelier.cli import main
from atelier.faster import bench as module
from atelier.faster.bench import Sheet, add_frechet, bench, painted, read, screened, summary, table, ways
from atelier.faster.targets import of_model
from atelier.subject import Subject
from painters.models import load
from painters.schedules import vp_linear

TARGET = on_law(MIXTURE, vp_linear(), gaussian=GAUSSIAN)
FEW = ["ddim, even", "DDIM, trailing", "UniPC 2 bh2, Karras", "DEIS 2, linspace", "DEIS 2, Karras"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """One place for the references of all these tests, which are the same."""
    monkeypatch.setenv("PAINTERS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def log(monkeypatch):
    """What is painted, in order; the run is interrupted before the one whose number is put into ``stop``."""
    done, stop, real = [], [], module.painted

    def noted(target, paint, nfe, seeds):
        if stop and len(done) == stop[0]:
            raise KeyboardInterrupt
        done.append((nfe, tuple(seeds)))
        return real(target, paint, nfe, seeds)

    monkeypatch.setattr(module, "painted", noted)
    return done, stop


def run(out, *, seeds=range(5), nfes=(5, 6), only=FEW, target=TARGET):
    return bench(target, nfes, list(seeds), out, only=only, progress=False).rows()


def test_a_row_says_what_was_measured(tmp_path):
    rows = run(tmp_path / "b.json")
    assert {(r["sampler"], r["nfe"]) for r in rows} == {(name, nfe) for name in FEW for nfe in (5, 6)}
    for r in rows:
        assert (
            r["model"] == "law"
            and len(r["each"]) == 5
            and r["ours"] == (r["sampler"] == "ddim, even")
            and not r["calibrated"]
        )
        assert r["error"] == pytest.approx(np.sqrt(np.mean(np.square(r["each"]))), rel=1e-3)
        assert r["low"] <= r["error"] <= r["high"] and r["median"] <= r["worst"] == max(r["each"])
    found = read(tmp_path / "b.json")
    assert found["model"] == "law" and found["reference"]["difference"] < 1e-5 and "commit" in found["provenance"]


def test_errors_are_distances_relative_to_the_size_of_all_references(tmp_path, monkeypatch):
    """Of three seeds in six dimensions; the references are drawn here, each of a size of its own."""
    exact = torch.randn(3, 6, generator=torch.Generator().manual_seed(1)).double() * torch.tensor([[1.0], [2.0], [5.0]])
    monkeypatch.setattr(module.References, "images", lambda *_, **__: exact)
    monkeypatch.setattr(module.References, "difference", lambda *_, **__: 0.0)
    seeds = [3, 0, 7]
    (row,) = run(tmp_path / "b.json", seeds=seeds, nfes=(5,), only=["ddim, even"])
    images = painted(TARGET, ways(TARGET, 5, ["ddim, even"])["ddim, even"][0], 5, seeds).numpy()
    size = np.sqrt(np.mean([np.vdot(one, one) for one in exact.numpy()]))
    assert row["each"] == pytest.approx([np.linalg.norm(a - b) / size for a, b in zip(images, exact.numpy())], rel=1e-4)


def test_the_peers_are_screened(tmp_path, monkeypatch, log):
    monkeypatch.setattr(module, "SCREEN", 2)
    monkeypatch.setattr(module, "KEEP", 1)
    rows = {r["sampler"]: r for r in run(tmp_path / "b.json", nfes=(6,))}
    assert len(rows["ddim, even"]["each"]) == 5
    best = screened(list(rows.values()), 6)
    assert {"DDIM, trailing", "UniPC 2 bh2, Karras"} < best and len(best) == 3
    assert all(len(r["each"]) == (5 if name in best else 2) for name, r in rows.items() if not r["ours"])
    assert sorted(seeds for _, seeds in log[0]) == sorted([(0, 1, 2, 3, 4), *[(0, 1)] * 4, *[(2, 3, 4)] * 3])


def made(sampler, each, *, nfe=6, ours=False, calibrated=False):
    return {"sampler": sampler, "nfe": nfe, "ours": ours, "calibrated": calibrated, "each": each, **summary(each)}


def test_eight_and_the_best_of_each_family_go_on_by_their_first_seeds():
    """A family is the first word of a name. What comes after the twelfth seed, and what is not finite, is no matter."""
    rows = [made(f"A {i}, even", [float(i + 1)] * 12 + [100.0 - i]) for i in range(9)]
    rows += [made("B, even", [30.0] * 12), made("B, Karras", [20.0] * 12), made("C 2", [*[1.0] * 11, None])]
    rows += [made("A 0, even", [0.1] * 12, nfe=5), made("ours", [0.1] * 12, ours=True)]
    rows += [made("D", [3.5] * 11 + [-3.5])]  # by root mean squares it is the fourth
    best = screened(rows[::-1], 6)
    assert best == {f"A {i}, even" for i in range(7)} | {"D", "B, Karras"}


def test_leaders_are_of_all_seeds_and_of_each_kind():
    rows = [made("one", [0.3, 0.3, 0.3]), made("two", [0.2, 0.2, 0.2]), made("few", [0.1, 0.1])]
    rows += [made("lost", [0.1, None, 0.1]), made("other", [0.1] * 3, nfe=5)]
    rows += [made("mine", [0.4] * 3, ours=True), made("better", [0.3, 0.3, 0.2], ours=True)]
    rows += [made("planned", [0.2] * 3, ours=True, calibrated=True)]
    found = {"rows": rows, "seeds": [0, 1, 2]}
    assert [r and r["sampler"] for r in module.leaders(found, 6)] == ["two", "better", "planned"]
    assert [r and r["sampler"] for r in module.leaders(found, 5)] == ["other", None, None]
    assert module.leaders(found, 7) == [None] * 3
    *_, five, six, plan = table(found).splitlines()
    assert six.startswith("| 6 | two | 0.2 [0.2, 0.2] | better | 0.271 [") and "| 1.35 [" in six
    assert plan.startswith("| 6 | two | 0.2 [0.2, 0.2] | planned, calibrated | 0.2 [0.2, 0.2] | 1.00 [1.00, 1.00]")
    assert "| 6 |" not in five


def test_a_summary_by_hand():
    found = summary([0.3, 0.1, 0.2, 0.6])
    assert found["error"] == pytest.approx((0.5 / 4) ** 0.5, rel=1e-4)
    assert found["median"] == 0.25 and found["worst"] == 0.6 and found["low"] < found["error"] < found["high"]
    assert summary([0.01, 0.01, 0.9])["low"] == 0, "an error is not negative"
    assert summary([0.123456789] * 3)["median"] == 0.12346


def test_progress_is_shown_where_it_is_asked_for(tmp_path, capsys):
    for shown in (True, False):
        bench(TARGET, [5], [0, 1], tmp_path / f"{shown}.json", only=["DDIM, trailing"], progress=shown)
        assert ("law, 5 calls" in capsys.readouterr().err) == shown


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_resuming_loses_and_repeats_nothing(tmp_path, monkeypatch, log, after):
    monkeypatch.setattr(module, "SCREEN", 2)
    monkeypatch.setattr(module, "KEEP", 1)
    done, stop = log
    whole = run(tmp_path / "whole.json", nfes=(6,))
    expected = list(done)
    done.clear()
    stop.append(after)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b.json", nfes=(6,))
    stop.clear()
    resumed = run(tmp_path / "b.json", nfes=(6,))
    assert done == expected
    order = [sorted(rows, key=lambda r: r["sampler"]) for rows in (whole, resumed)]
    assert order[0] == order[1]
    run(tmp_path / "b.json", nfes=(6,))
    assert done == expected


def test_rows_of_other_settings_are_refused_before_any_work(tmp_path, log):
    out = tmp_path / "b.json"
    run(out, seeds=range(2), nfes=(5,), only=["DDIM, trailing"])
    before, text = list(log[0]), out.read_text()
    for changed in ({"seeds": range(3)}, {"target": replace(TARGET, identity="others")}):
        with pytest.raises(ValueError, match="choose another file with --json"):
            run(out, nfes=(5,), only=["DDIM, trailing"], **({"seeds": range(2)} | changed))
    assert log[0] == before and out.read_text() == text


def test_what_is_not_finite_has_no_error_and_is_not_tried_again(tmp_path, monkeypatch):
    assert set(summary([0.1, None]).values()) == {None}
    out, tried = tmp_path / "b.json", []
    monkeypatch.setattr(module, "painted", lambda *_: tried.append(1) or torch.full((2, 6), torch.nan))
    for _ in range(2):
        (r,) = run(out, seeds=range(2), nfes=(6,), only=["DDIM, trailing"])
        assert r["each"] == [None, None] and r["error"] is None and len(tried) == 1
    assert table(read(out)).count("\n") == 1


def test_guidance_counts_two_for_everybody():
    target = replace(TARGET, calls=2)
    found = ways(target, 10)
    assert "ddim, even" in found and "UniPC 2 bh2, Karras" in found and "heun, even" in found
    assert painted(target, found["heun, even"][0], 10, range(2)).shape == (2, 6)  # it took 5 answers
    with pytest.raises(ValueError, match="takes 2 network calls: 5 cannot be done"):
        ways(target, 5)


def test_the_table_sets_the_best_side_by_side(tmp_path):
    run(tmp_path / "b.json")
    header, _, five, six = table(read(tmp_path / "b.json")).splitlines()
    assert header.count("|") == five.count("|") == 7 and five.startswith("| 5 |") and six.startswith("| 6 |")
    found = read(tmp_path / "b.json")
    best = min((r for r in found["rows"] if r["nfe"] == 5 and not r["ours"]), key=lambda r: r["error"])
    mine = next(r for r in found["rows"] if r["nfe"] == 5 and r["ours"])
    assert best["sampler"] in five and f"| {mine['error'] / best['error']:.2f} [" in five
    calibrated = mine | {"sampler": "planned", "calibrated": True, "error": 0.01}
    assert "| planned, calibrated | 0.01 [" in table(found | {"rows": [*found["rows"], calibrated]})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--model NAME"),
        (["--model", "nothing"], "nothing"),
        (["--table", "nowhere.json"], "nowhere.json"),
        (["--model", "gaussian", "--nfe", "5,0"], "whole number of at least 1"),
        (["--model", "gaussian", "--seeds", "0"], "at least 2 seeds"),
        (["--model", "gaussian", "--only", "magic"], "no sampler whose name has one of magic"),
    ],
)
def test_mistakes_are_one_sentence(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *arguments]) == 1
    error = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("painters: ")]
    assert len(error) == 1 and says in error[0]


def test_the_leading_rows_get_frechet_distances_and_no_others(tmp_path, monkeypatch):
    """Painters of the training pictures are as far from the test pictures as the training pictures themselves."""
    draw = torch.Generator().manual_seed(0)
    train, test = torch.randint(0, 256, (2, 80, 1, 28, 28), generator=draw, dtype=torch.uint8)
    monkeypatch.setattr(Subject, "pictures", lambda _, n, **options: (test if options.get("test", True) else train)[:n])
    monkeypatch.setattr(module, "ways", lambda *_: {"first": ("first's", {})})
    monkeypatch.setattr(module, "painted", lambda target, paint, nfe, seeds: train[list(seeds)] / 127.5 - 1)
    sheet = Sheet(tmp_path / "b.json", {"model": "fashion-ddpm", "made": "here", "seeds": [0, 1]})
    row = {"model": "fashion-ddpm", "nfe": 5, "ours": False, "calibrated": False, "each": [0.1, 0.2]}
    for name, error in (("second", 0.2), ("first", 0.1)):
        sheet.put(row | {"sampler": name, "error": error})  # of others: there is no leading row of ours
    add_frechet(sheet, of_model("fashion-ddpm", load("fashion-ddpm", device="cpu")), 80)
    rows = {r["sampler"]: r for r in sheet.rows()}
    assert rows["first"]["frechet"]["n"] == 80 and "frechet" not in rows["second"]
    assert rows["first"]["frechet"]["of_floor"] == pytest.approx(1, abs=1e-3) != rows["first"]["frechet"]["of_gaussian"]


def test_a_damaged_file_is_refused(tmp_path, capsys):
    (tmp_path / "b.json").write_text(json.dumps({"rows": []}))
    assert main(["bench", "--table", str(tmp_path / "b.json")]) == 1
    assert "no results file of painters bench" in capsys.readouterr().err


def test_the_command_measures_digits_and_prints_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [
        "--model",
        "gaussian",
        "--seeds",
        "0-2",
        "--nfe",
        "5",
        "--only",
        "DDIM,ddim",
        "--json",
        "g.json",
    ]
    assert main(["bench", *options]) == 0
    out = capsys.readouterr().out
    assert "everything is in g.json" in out and "| 5 | DDIM, " in out
    assert main(["bench", *options, "--frechet", "80"]) == 1
    assert "no Fréchet distance is known for gaussian" in capsys.readouterr().err


def test_numbers_of_calls_that_guidance_cannot_make_are_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(module, "target", lambda name, **_: replace(TARGET, calls=2))
    options = ["bench", "--model", "law", "--seeds", "0-2", "--only", "ddim", "--json", str(tmp_path / "g.json")]
    assert main([*options, "--nfe", "5,8,7"]) == 0
    assert "a step takes 2 calls: 5, 7 cannot be made and are left out" in capsys.readouterr().out
    assert {r["nfe"] for r in read(tmp_path / "g.json")["rows"]} == {8}
    assert main([*options, "--nfe", "8"]) == 0 and "cannot be made" not in capsys.readouterr().out
    assert main([*options, "--nfe", "5"]) == 1 and "5 cannot be done exactly" in capsys.readouterr().err
