"""What a subject knows of the data of its model."""

from dataclasses import replace

from partners import gaussian

from atelier.data import scenes
from atelier.subject import Subject, subject


def test_data_that_nobody_has_at_hand_are_none():
    known = subject("scenes-sd", device="cpu")
    assert known.model is not None
    strange = replace(known, model=replace(known.model, card={"training": {"data": "of somebody else"}}))
    assert strange.data(2) is None and strange.pictures(2) is None
    g = gaussian([1.0])
    assert Subject("no model", g, g, (1,), lambda n: None, abs).data(2) is None  # type: ignore[arg-type, return-value]


def test_data_are_the_encoded_pictures():
    known = subject("scenes-sd", device="cpu")
    assert known.model is not None
    data, drawn = known.data(2, test=False), scenes.render(scenes.sample(2, scenes.TRAIN_SEEDS.start), 64)
    assert data is not None and data.shape == (2, *known.shape)
    assert float((known.decode(data) - drawn / 255).abs().mean()) < 0.02
