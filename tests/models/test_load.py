"""Loading: bundled names, local folders in diffusers layout, and every mistake in one sentence."""

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel

import painters
from painters.levels import vp_linear
from painters.models import bundled, registry


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip


@pytest.fixture
def pipeline(network, tmp_path):
    """A DDPM pipeline saved as diffusers saves it."""
    DDPMPipeline(network, DDPMScheduler(prediction_type="v_prediction")).save_pretrained(tmp_path / "ddpm")
    return tmp_path / "ddpm"


def test_every_bundled_model_loads_paints_and_states_its_losses():
    assert bundled()
    for name in bundled():
        model = painters.load(name, device="cpu")
        levels = model.levels(3)
        x = levels.start(painters.noise([0], model.shape))
        run = painters.solve(model.denoiser(), x, levels, progress=False)
        assert run.final.shape == (1, *model.shape)
        loss = model.card["loss"]
        assert len(loss["loss"]) == len(loss["gaussian_loss"]) == len(loss["alpha"]) == len(loss["sigma"])
        assert model.card["name"] == name
        assert model.card["training"]["licence"] and model.card["training"]["data_licence"]


def test_the_bundled_moments_are_those_the_card_was_measured_with():
    model = painters.load("fashion-ddpm", device="cpu")
    g = model.moments
    assert g is not None
    torch.testing.assert_close(g.U.T @ g.U, torch.eye(len(g.lam), dtype=torch.float64), atol=1e-12, rtol=0)
    assert bool((g.lam.diff() <= 0).all()) and g.rest >= 0
    loss = model.card["loss"]
    for alpha, sigma, measured in zip(loss["alpha"], loss["sigma"], loss["gaussian_loss"]):
        assert g.mmse((alpha, sigma)) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("scheduler", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_prediction_type_and_schedule_are_read_from_the_folder(network, tmp_path, scheduler, prediction):
    made = scheduler(beta_schedule="scaled_linear", prediction_type=prediction)
    DDPMPipeline(network, made).save_pretrained(tmp_path)
    model = painters.load(tmp_path, device="cpu")
    assert model.prediction == prediction
    expected = made.alphas_cumprod.double().sqrt()
    torch.testing.assert_close(model.schedule.table()[0], expected)
    assert model.shape == (1, 8, 8) and model.classes == () and model.moments is None and model.card == {}


def test_a_flow_matching_scheduler_is_read_with_its_shift(network, tmp_path):
    DDPMPipeline(network, DDPMScheduler()).save_pretrained(tmp_path)
    shutil.rmtree(tmp_path / "scheduler")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(tmp_path / "scheduler")
    model = painters.load(tmp_path, device="cpu")
    assert model.prediction == "flow_prediction"
    assert model.levels(4).sigma[1] == pytest.approx(3 * 0.75 / (1 + 2 * 0.75))


def test_a_bare_unet_needs_prediction_and_schedule(network, tmp_path):
    network.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="prediction="):
        painters.load(tmp_path)
    model = painters.load(tmp_path, prediction="epsilon", schedule=vp_linear(), device="cpu")
    assert model.prediction == "epsilon"


def test_an_unknown_prediction_type_is_an_error_not_a_guess(pipeline):
    path = pipeline / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prediction_type": "velocity"}))
    with pytest.raises(ValueError, match="velocity"):
        painters.load(pipeline)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(FileNotFoundError, match="fashion-ddpm"):
        painters.load("no-such-model")


@pytest.mark.parametrize(
    ("failure", "says"),
    [("RepositoryNotFoundError", "check the spelling"), ("GatedRepoError", "gated"), (None, "check the network")],
)
def test_hub_failures_are_one_sentence_with_a_way_out(monkeypatch, failure, says):
    import huggingface_hub
    from huggingface_hub import errors

    def fail(*_, **__):
        if failure is None:
            raise ConnectionError("no route to host")
        cls = getattr(errors, failure)
        error = cls.__new__(cls)
        Exception.__init__(error, "from the hub")
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(FileNotFoundError, match=says) as caught:
        painters.load("somebody/some-model")
    assert "fashion-ddpm" in str(caught.value) and "\n" not in str(caught.value)


def test_a_hub_model_is_loaded_from_the_folder_the_hub_gives(monkeypatch, pipeline):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(pipeline))
    assert painters.load("somebody/some-model", device="cpu").prediction == "v_prediction"
    assert asked == ["somebody/some-model"]


def test_truncated_weights_are_reported(pipeline):
    path = pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read"):
        painters.load(pipeline)


def test_pickled_weights_are_refused(pipeline):
    weights = pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(FileNotFoundError, match="safetensors"):
        painters.load(pipeline)


def test_weights_of_another_network_are_refused(pipeline):
    path = pipeline / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layers_per_block": 2}))
    with pytest.raises(ValueError, match="weights"):
        painters.load(pipeline)


def test_latent_pipelines_and_foreign_folders_are_named_as_such(pipeline, tmp_path):
    (pipeline / "vae").mkdir()
    with pytest.raises(ValueError, match="pixel-space"):
        painters.load(pipeline)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="not a diffusers folder"):
        painters.load(tmp_path / "empty", prediction="epsilon", schedule=vp_linear())


def test_damaged_moments_are_reported(pipeline):
    (pipeline / "moments.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ValueError, match="damaged"):
        painters.load(pipeline)


def test_classes_by_name_index_and_list():
    model = painters.load("fashion-ddpm", device="cpu")
    assert model.denoiser("Bag").condition.tolist() == [8]
    assert model.denoiser(["bag", 0]).condition.tolist() == [8, 0]
    assert model.denoiser().condition.tolist() == [10]
    with pytest.raises(ValueError, match="Ankle boot"):
        model.denoiser("hat")
    with pytest.raises(ValueError, match="prompt"):
        model.denoiser(guidance=3.0)


def test_an_unconditional_model_takes_no_prompt(pipeline):
    with pytest.raises(ValueError, match="unconditional"):
        painters.load(pipeline, device="cpu").denoiser("Bag")


def test_a_class_conditional_model_without_a_null_label_asks_for_a_prompt(tmp_path):
    network = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"), num_class_embeds=3,
    )  # fmt: skip
    DDPMPipeline(network, DDPMScheduler()).save_pretrained(tmp_path)
    model = painters.load(tmp_path, device="cpu")
    assert model.classes == ("0", "1", "2") and model.denoiser(2).condition.tolist() == [2]
    for wrong in ({}, {"prompt": 1, "guidance": 3.0}):
        with pytest.raises(ValueError, match="no class"):
            model.denoiser(**wrong)


def test_encode_undoes_decode_and_checks_the_shape():
    model = painters.load("fashion-ddpm", device="cpu")
    x = torch.rand(2, *model.shape) * 2 - 1
    torch.testing.assert_close(model.encode(model.decode(x)), x)
    with pytest.raises(ValueError, match="shape"):
        model.encode(torch.zeros(2, 3, 28, 28))


def test_half_precision_is_for_large_networks_on_a_gpu(monkeypatch):
    from painters.models.loading import LARGE, _dtype

    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert _dtype("auto", gpu, LARGE) is torch.float16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert _dtype("auto", gpu, LARGE) is torch.bfloat16
    assert _dtype("auto", gpu, LARGE - 1) is torch.float32
    assert _dtype("auto", cpu, LARGE) is torch.float32
    with pytest.raises(ValueError, match="float8"):
        _dtype("float8", cpu, 1)


def test_bundled_folders_hold_no_pickles():
    assert not [path for path in registry.BUNDLED.rglob("*") if path.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]
