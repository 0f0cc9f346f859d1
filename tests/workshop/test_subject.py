"""What a subject knows of the data of its model."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from partners import gaussian, randn

from atelier import subject as module
from atelier.data import scenes
from atelier.data.controls import checkerboard
from atelier.data.images import ImageData
from atelier.subject import Subject, levels_at, subject
from painters import Levels
from painters.models.registry import BUNDLED
from painters.schedules import vp_linear


@cache
def painted() -> Subject:
    return subject("scenes-sd", device="cpu")


def about(known: Subject, **training: str) -> Subject:
    """The same subject with a card that says other things of its training."""
    assert known.model is not None
    return replace(known, model=replace(known.model, card={"training": training}))


def small(**changed) -> Subject:
    g = gaussian([4.0, 1.0])
    levels = lambda n: Levels.of(vp_linear(), n)  # noqa: E731
    return replace(Subject("small", g, g, (1, 1, 2), levels, lambda x: x), **changed)


def test_data_that_nobody_has_at_hand_are_none(monkeypatch):
    strange = about(painted(), data="of somebody else")
    assert strange.data(2) is None and strange.pictures(2) is None
    assert small().data(2) is None and small().pictures(2) is None

    def nothing():
        raise FileNotFoundError

    monkeypatch.setattr(module.image_data, "fashion", nothing)
    assert about(painted(), data="fashion").pictures(2) is None


def test_data_are_the_encoded_pictures():
    known = painted()
    for test, seeds in ((False, scenes.TRAIN_SEEDS), (True, scenes.TEST_SEEDS)):
        data, drawn = known.data(2, test=test), scenes.render(scenes.sample(2, seeds.start), 64)
        assert data is not None and data.shape == (2, *known.shape)
        assert float((known.decode(data) - drawn / 255).abs().mean()) < 0.02


def test_clothes_are_the_first_of_their_part_and_a_control_has_them_changed(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    train, test = (torch.randint(0, 256, (n, 1, 28, 28), generator=draw, dtype=torch.uint8) for n in (600, 5))
    data = ImageData(train, test, torch.zeros(600), torch.zeros(5), source="fashion")
    monkeypatch.setattr(module.image_data, "fashion", lambda: data)
    plain, board = about(painted(), data="fashion"), about(painted(), data="fashion", variant="checkerboard")
    assert plain.variant is None and board.variant == "checkerboard" and small().variant is None
    for known, change in ((plain, lambda x: x), (board, checkerboard)):
        assert torch.equal(known.pictures(3), change(test[:3])) and torch.equal(known.pictures(9), change(test))
        assert torch.equal(known.pictures(9, test=False), change(train[:9]))
    pixels = subject("fashion-ddpm", device="cpu")
    states = pixels.data(600, test=False)
    assert states is not None
    torch.testing.assert_close(states, train / 127.5 - 1)


def test_sizes_of_states_and_of_pictures():
    known = painted()
    assert known.image_size == 64 and known.dim == math.prod(known.shape) and small().image_size == 2
    looked = known.look(torch.zeros(2, *known.shape))
    assert known.reader is not None and looked.shape == (2, *known.reader.shape)
    with pytest.raises(ValueError, match="small has no reader"):
        small().look(torch.zeros(1, 1, 1, 2))


def test_seeds_come_in_batches():
    seeds = tuple(range(3, 110))
    assert list(small().batches(seeds[:7], 3)) == [(3, 4, 5), (6, 7, 8), (9,)]
    assert [len(part) for part in small().batches(seeds)] == [50, 50, 7] and list(small().batches(())) == []


def test_levels_are_the_nearest_in_their_logarithm_each_once_and_noisy():
    levels = Levels(torch.ones(5).double(), torch.tensor([10.0, 3.0, 1.0, 0.3, 0.0]).double())
    assert levels_at(levels, [0.5, 0.6, 9.0, 1.1, 0.9]) == [0, 2, 3]
    assert levels_at(levels, [1.8, 1e-9]) == [1, 3], "between 1 and 3 lies their root, and no level is clean"


def test_a_run_starts_from_the_noise_of_its_seeds_and_a_record_is_of_the_network_alone():
    asked = []

    def record(**options):
        asked.append(options)
        return "the pipeline's run", None

    who = small(record=record)
    assert who.run([3], steps=4) == "the pipeline's run"
    assert asked == [{"seeds": [3], "steps": 4, "solver": "heun", "save": module.Frames()}]
    run = who.theory().run([5, 3], steps=60)
    assert len(asked) == 1 and run.seeds == (5, 3) and run.levels.steps == 60
    x = who.levels(60).start(module.noise([5, 3], who.shape))
    assert torch.equal(run.x[0], x)
    torch.testing.assert_close(
        run.final.double(), who.gaussian.flow(x.double(), frm=who.levels(60)[0]), rtol=0, atol=0.02
    )
    mean = who.mean_only()
    assert mean.kind == "mean" and mean.gaussian is who.gaussian
    torch.testing.assert_close(
        mean.denoise(randn(3, 1, 1, 2), 0.6, 0.8), who.gaussian.mu.reshape(1, 1, 2).expand(3, 1, 1, 2)
    )
    with pytest.raises(ValueError, match="small has no weights to shuffle"):
        who.shuffled()


def test_a_subject_is_named_by_its_card_and_says_whose_moments_it_has(monkeypatch):
    folder = subject(str(BUNDLED / "fashion-ddpm"), device="cpu")
    assert folder.name == "fashion-ddpm" and folder.moments == {} and folder.reader is not None
    model = folder.model
    assert model is not None and model.moments is not None
    card = model.card | {"moments": {"source": "its own samples", "n": 9, "circular": True, "rank": 3}}
    monkeypatch.setattr(module, "load", lambda *_, **__: replace(model, card=card))
    assert subject("any").name == "any" and subject("any").reader is not None
    assert subject("any").moments == {"source": "its own samples", "n": 9, "circular": True}
    g = replace(model.moments, lam=2 * model.moments.lam)
    given = subject("any", gaussian=g)
    assert given.gaussian is g and given.moments == {}
    assert subject("any", gaussian=g, prompt="Bag", moments={"n": 4}).moments == {"n": 4, "prompt": "Bag"}
    monkeypatch.setattr(module, "load", lambda *_, **__: replace(model, moments=None))
    for options, says in (
        ({"prompt": "boots"}, "under a prompt the data have other moments"),
        ({}, "comes without the moments"),
        ({"gaussian": gaussian([1.0, 2.0])}, "the moments have 2 dimensions and a state of any has 784"),
    ):
        with pytest.raises(ValueError, match=says):
            subject("any", **options)
