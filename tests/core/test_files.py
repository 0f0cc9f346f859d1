"""Files of which two processes lose nothing."""

import multiprocessing
import os
import time

import pytest

from painters.files import locked, replacing


def count(path, times):
    """Read a number, wait, and write the next."""
    for _ in range(times):
        with locked(path):
            number = int(path.read_text())
            time.sleep(0.01)
            path.write_text(str(number + 1))


def test_two_processes_take_turns(tmp_path):
    path = tmp_path / "number"
    path.write_text("0")
    other = multiprocessing.get_context("fork").Process(target=count, args=(path, 20))
    other.start()
    count(path, 20)
    other.join()
    assert path.read_text() == "40"


def hold(path, begun, seconds):
    with locked(path):
        begun.set()
        time.sleep(seconds)


def test_a_process_waits_however_long_another_takes(tmp_path):
    fork = multiprocessing.get_context("fork")
    begun, path = fork.Event(), tmp_path / "number"
    other = fork.Process(target=hold, args=(path, begun, 1.5))
    other.start()
    assert begun.wait(30)
    with locked(path):
        other.join(30)
    assert other.exitcode == 0


def test_what_another_holds_is_refused_in_one_sentence_if_asked(tmp_path):
    with locked(tmp_path / "run"), pytest.raises(ValueError, match="another process works on"):
        locked(tmp_path / "run", wait=False).__enter__()
    with locked(tmp_path / "run", wait=False):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"cannot write to .*; choose another folder"):
        locked(tmp_path / "run").__enter__()


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write to .*file: .*; choose another folder"):
        locked(tmp_path / "file" / "run").__enter__()


def test_a_path_may_be_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with replacing("new/place.txt") as temporary:
        temporary.write_text("done")
        assert temporary.suffix == ".txt" and list(tmp_path.glob("new/*.txt")) == [temporary.resolve()]
    with locked("new/place.txt"):
        assert (tmp_path / "new" / ".place.txt.lock").is_file()
    assert (tmp_path / "new" / "place.txt").read_text() == "done"
    assert (tmp_path / "new" / "place.txt").stat().st_mode & 0o777 == 0o644
