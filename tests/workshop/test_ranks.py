"""Shares of several processes: together they are the whole, whatever their number."""

import pytest

from atelier import ranks


@pytest.fixture
def process(monkeypatch):
    """Sets which process this is, and of how many."""

    def set_to(rank, world):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(world))

    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return set_to


def test_without_the_variables_one_process_has_everything(process):
    assert ranks.place() == (0, 1)
    assert ranks.share("abcde") == "abcde" and ranks.dealt("abc") == ["a", "b", "c"]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_shares_part_the_list_and_differ_by_one_at_most(process, world):
    parts, items = [], list(range(5))
    for rank in range(world):
        process(rank, world)
        assert ranks.place() == (rank, world)
        parts.append(ranks.share(items))
        assert sorted(ranks.dealt(items)) == items and ranks.dealt(items)[: len(parts[-1])] == parts[-1]
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("-1", "2"), ("0", "0"), ("0", "two"), ("", "1")])
def test_a_place_that_is_none_is_refused(process, rank, world):
    process(rank, world)
    with pytest.raises(ValueError, match="is none of WORLD_SIZE"):
        ranks.place()


def test_only_where_there_are_others_is_a_piece_of_work_held(process, tmp_path):
    with ranks.held(tmp_path / "alone"):
        assert list(tmp_path.iterdir()) == []
    process(1, 2)
    with ranks.held(tmp_path / "together"):
        assert [file.name for file in tmp_path.iterdir()] == [".together.lock"]
