"""The loop: what was interrupted repeats what was not, and no state is lost, mixed up, or saved with NaN."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from atelier.training import loop
from atelier.training.loop import Run, Session, Training, fit
from atelier.training.recipes import Pace


def build():
    torch.manual_seed(0)
    return torch.nn.Conv2d(1, 2, 3)


def loss(network, k):
    x = torch.randn(4, 1, 5, 5, generator=loop.generator(0, k))
    return (network(x) - x[:, :, 1:-1, 1:-1]).square().flatten(1).mean(1)


TINY = Training("tiny", Pace(steps=20, warmup=5, learning_rate=1e-2), build, loss, {"data": "a", "sizes": (1, 2)})


def session(folder, steps=None, **options):
    return Session(folder, steps, progress=False, **options)


def weights(run):
    return torch.cat([p.flatten() for p in (*run.network.parameters(), *run.average.parameters())])


def test_a_resumed_run_repeats_an_uninterrupted_one(tmp_path):
    training = replace(TINY, snapshot=lambda run: {"seen": 4 * run.step})
    whole = fit(training, session(tmp_path / "whole", 12))
    fit(training, session(tmp_path / "parts", 7))
    parts = fit(training, session(tmp_path / "parts", 12))
    assert torch.equal(weights(whole), weights(parts)) and parts.step == 12 and parts.seconds > 0
    assert parts.snapshots == [{"step": 8, "images": 512, "seen": 32}] and parts.hardware == loop.hardware("cpu")
    kept = torch.load(tmp_path / "parts" / "average-8.pt", weights_only=True)
    assert set(kept) == set(parts.average.state_dict())


def test_a_state_holds_what_it_always_held(tmp_path):
    fit(TINY, session(tmp_path, 1))
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert list(state) == [
        "network", "average", "optimiser", "hardware", "fingerprint", "step", "seconds", "log", "snapshots",
    ]  # fmt: skip
    assert state["fingerprint"] == {"data": "a", "sizes": [1, 2]}


def test_the_card_names_the_hardware_of_every_stretch_of_training(tmp_path, monkeypatch):
    fit(TINY, session(tmp_path, 2))
    monkeypatch.setattr(loop, "hardware", lambda device: "another machine")
    for steps in (3, 4):
        run = fit(TINY, session(tmp_path, steps))
    assert run.hardware.endswith(", then another machine") and run.hardware.count("then") == 1


def test_other_data_or_another_recipe_in_the_same_folder_is_refused(tmp_path):
    fit(TINY, session(tmp_path, 2))
    before = (tmp_path / "state.pt").read_bytes()
    for other in ({"data": "b", "sizes": (1, 2)}, {"data": "a", "sizes": (1, 3)}):
        with pytest.raises(ValueError, match=r"another training .* name another folder"):
            fit(replace(TINY, fingerprint=other), session(tmp_path, 2))
    with pytest.raises(ValueError, match="data was a, and is b"):
        wider = replace(TINY, fingerprint={"data": "b"}, build=lambda: torch.nn.Conv2d(1, 3, 3))
        fit(wider, session(tmp_path, 2))
    assert (tmp_path / "state.pt").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_inside_a_step_ends_the_run_after_it(tmp_path, number):
    """In the midst of step 5 the weights belong to no step; what is saved is the state after it."""

    def interrupted(network, k):
        if k == 5:
            signal.raise_signal(number)
        return loss(network, k)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        fit(replace(TINY, loss=interrupted), session(tmp_path / "parts", 9))
    assert signal.getsignal(number) is before
    assert torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["step"] == 6
    resumed = fit(TINY, session(tmp_path / "parts", 9))
    assert torch.equal(weights(resumed), weights(fit(TINY, session(tmp_path / "whole", 9))))


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, also where a shell has started the tests in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_signal_acts_at_once(tmp_path, interruptible):
    def twice(network, k):
        if k == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return loss(network, k)

    with pytest.raises(KeyboardInterrupt):
        fit(replace(TINY, loss=twice), session(tmp_path, 9))
    assert not (tmp_path / "state.pt").exists()


def test_training_works_in_a_thread_where_no_signal_arrives(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(fit(TINY, session(tmp_path, 2))))
    thread.start()
    thread.join()
    assert found[0].step == 2


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    """The second, in another process, is told so, and leaves the first one's folder alone."""
    code = (
        "import sys, time; from painters.files import locked\n"
        "with locked(sys.argv[1], wait=False): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="another process works on"):
            fit(TINY, session(tmp_path, 2))
        assert not (tmp_path / "state.pt").exists()
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    for _ in range(50):  # the lock goes with the process
        with contextlib.suppress(ValueError):
            assert fit(TINY, session(tmp_path, 2)).step == 2
            return
        time.sleep(0.1)
    pytest.fail("the lock outlived its process")


def test_a_damaged_state_is_named_and_left_alone(tmp_path):
    fit(TINY, session(tmp_path, 1))
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="cannot be resumed"):
        fit(TINY, session(tmp_path, 2))
    assert path.stat().st_size == 900


def nan_at(step):
    def bad(network, k):
        return loss(network, k) * (float("nan") if k == step else 1.0)

    return replace(TINY, loss=bad)


@pytest.mark.parametrize(("step", "save_every"), [(4, 0.0), (4, 1e9), (7, 1e9)])
def test_nan_is_never_saved_and_the_last_good_state_is_kept(tmp_path, step, save_every):
    """Not by the clock, not at the end, and not as the averaged weights of step 8."""
    fit(TINY, session(tmp_path, 2))
    with pytest.raises(FloatingPointError, match="learning rate"):
        fit(nan_at(step), session(tmp_path, 9, save_every=save_every))
    good = torch.load(tmp_path / "state.pt", weights_only=True)
    assert good["step"] == (step if save_every == 0 else 2)
    assert all(value.isfinite().all() for value in good["network"].values())
    assert not (tmp_path / "average-8.pt").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    """A loss of infinity may leave finite weights, as clipping makes the gradient zero."""
    run = Run.new(TINY, "cpu")
    run.step = 64
    with pytest.raises(FloatingPointError, match="the loss became inf before step 64"):
        loop._log(run, [torch.tensor([1.0, float("inf")])])


def test_a_full_disk_is_one_sentence_and_keeps_the_last_state(tmp_path):
    """A limit on the size of files fails in torch.save as a full disk does."""
    fit(TINY, session(tmp_path, 1))
    before = (tmp_path / "state.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match=r"could not write .*state.pt") as caught:
            fit(TINY, session(tmp_path, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "state.pt").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.pt"]


def test_no_step_at_all_is_refused_before_any_work(tmp_path):
    for steps in (0, -1):
        with pytest.raises(ValueError, match="at least one step"):
            Session(tmp_path / "run", steps)
    assert not os.listdir(tmp_path)


def test_the_average_weighs_step_i_by_its_power():
    run = Run.new(TINY, "cpu")
    parameters = list(run.network.parameters())
    mean = total = 0.0
    for step in range(1, 60):
        run.step = step
        parameters[0].data.fill_(float(step))
        loop._average(run, gamma=3.0)
        mean, total = mean + step**3.0 * step, total + step**3.0
    assert float(next(run.average.parameters()).flatten()[0]) == pytest.approx(mean / total, rel=0.05)


def test_times_are_stratified():
    t = loop.stratified_times(50, loop.generator(0, 3))
    assert torch.equal((t // 20).sort().values, torch.arange(50)) and not torch.equal(t, t.sort().values)


def test_the_log_holds_the_mean_loss_since_its_last_entry(tmp_path):
    frozen = replace(TINY, pace=replace(TINY.pace, learning_rate=0.0))
    run = fit(frozen, session(tmp_path, 128))
    means = torch.stack([loss(run.network, k).mean() for k in range(128)])
    assert [entry["step"] for entry in run.log] == [64, 128]
    assert [entry["loss"] for entry in run.log] == pytest.approx(means.reshape(2, 64).mean(1).tolist(), abs=2e-5)
