"""Recipes: what a training is made of stands in its state, and states in use must stay readable."""

import json

import pytest

from atelier.data.images import FASHION_CLASSES
from atelier.training.recipes import RECIPES, Pace

PACE = {
    "batch": 64,
    "learning_rate": 0.001,
    "warmup": 200,
    "decay_after": 1500,
    "ema_gamma": 6.94,
    "seed": 0,
}

AUTOENCODER = {
    "autoencoder": {
        "sample_size": 64,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 8,
        "block_out_channels": [16, 32, 64, 64],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "autoencoder_batch": 16,
    "kl_weight": 0.0001,
    "square_weight": 4.0,
    "worst_weight": 0.25,
    "worst_share": 0.05,
}

SCENES_SD = AUTOENCODER | {
    "network": {
        "sample_size": 8,
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": [64, 96],
        "layers_per_block": 1,
        "norm_num_groups": 16,
        "attention_head_dim": 4,
        "cross_attention_dim": 96,
        "down_block_types": ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2,
    },
    "text_encoder": {
        "hidden_size": 96,
        "intermediate_size": 384,
        "projection_dim": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 56,
    },
    "prediction": "v_prediction",
    "caption_dropout": 0.12,
    "caption_versions": 4,
}

FASHION_GAN = {
    "size": 28,
    "network": {"latent": 64, "channels": [96, 64, 32], "colours": 1, "side": 7},
    "penalty": 0.1,
}


def as_json(value):
    return json.loads(json.dumps(value))


def test_fingerprints_of_trainings_in_progress_stay_as_they_are():
    """Key by key: a change here orphans the states of trainings that took hours."""
    assert as_json(RECIPES["scenes-sd"].fingerprint(data="abc", autoencoder_weights="def")) == (
        SCENES_SD | PACE | {"data": "abc", "autoencoder_weights": "def"}
    )
    assert as_json(RECIPES["fashion-gan"].fingerprint(data="abc")) == (
        FASHION_GAN | PACE | {"batch": 32, "warmup": 100, "decay_after": 3000, "data": "abc"}
    )


def test_recipes_say_only_what_differs_from_the_one_they_are_like():
    whole, board, twin, own = (
        RECIPES[n] for n in ("fashion-ddpm", "fashion-checkerboard", "fashion-twin-eps", "pixels")
    )
    assert whole.kind.classes == board.kind.classes == list(FASHION_CLASSES) and whole.kind.null_label == 10
    assert (whole.kind.variant, board.kind.variant) == (None, "checkerboard") and board.pace == whole.pace
    assert twin.network == whole.network | {"block_out_channels": [16, 32, 32]} and twin.kind.prediction == "epsilon"
    assert twin.kind.moments is None and not twin.kind.classes and twin.pace.steps == 1024
    assert own.data == "folder" and own.network == whole.network and own.kind.null_label is None
    assert RECIPES["fashion-reader"].pace == RECIPES["scenes-latent-reader"].pace == RECIPES["scenes-reader"].pace


def test_every_field_that_shapes_the_weights_is_in_the_fingerprint_and_no_other():
    for recipe in RECIPES.values():
        found = recipe.fingerprint(data="abc")
        assert found["data"] == "abc" and found["network"] == recipe.network and found["seed"] == recipe.pace.seed
        assert not {"steps", "autoencoder_steps", "name", "title", "moments", "licence", "data_licence"} & set(found)


def test_the_learning_rate_rises_and_falls():
    pace = Pace(learning_rate=2.0, warmup=10, decay_after=100)
    assert pace.rate(0) == pytest.approx(0.2) and pace.rate(9) == pace.rate(100) == 2
    assert pace.rate(400) == pytest.approx(1)
