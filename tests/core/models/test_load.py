"""Loading: bundled names, local folders in diffusers layout, and every mistake in one sentence."""

import json
import shutil

import numpy as np
import pipelines
import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DModel,
)
from partners import rel

import painters
from painters import Levels
from painters.models import bundled, registry
from painters.models.precision import LARGE, choose_device, choose_dtype
from painters.schedules import Schedule, edm, flow, vp_linear


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
    DDPMPipeline(network, DDPMScheduler(prediction_type="v_prediction", clip_sample=False)).save_pretrained(
        tmp_path / "ddpm"
    )
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
    made = scheduler(beta_schedule="scaled_linear", prediction_type=prediction, clip_sample=False)
    DDPMPipeline(network, made).save_pretrained(tmp_path)
    model = painters.load(tmp_path, device="cpu")
    assert model.prediction == prediction
    expected = made.alphas_cumprod.double().sqrt()
    torch.testing.assert_close(model.schedule.table()[0], expected)
    assert model.shape == (1, 8, 8) and model.classes == () and model.moments is None
    assert model.card == {"unfollowed": {"timestep_spacing": "leading"}}


def test_a_flow_matching_scheduler_is_read_with_its_shift(network, tmp_path):
    DDPMPipeline(network, DDPMScheduler(clip_sample=False)).save_pretrained(tmp_path)
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


def test_foreign_folders_are_named_as_such(pipeline, tmp_path):
    (pipeline / "vqvae").mkdir()
    with pytest.raises(ValueError, match=r"is a DDPMPipeline: .* use a bundled model instead"):
        painters.load(pipeline)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"not a diffusers folder: .* use a bundled model instead"):
        painters.load(tmp_path / "empty", prediction="epsilon", schedule=vp_linear())
    (tmp_path / "empty" / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="should hold a JSON object"):
        painters.load(tmp_path / "empty")


def test_a_pipeline_in_one_folder_is_read(pipeline, tmp_path):
    """As the first pipelines of diffusers were saved: no unet/ and no scheduler/."""
    old = shutil.copytree(pipeline / "unet", tmp_path / "old")
    shutil.copy(pipeline / "scheduler" / "scheduler_config.json", old)
    shutil.copy(pipeline / "model_index.json", old)
    assert painters.load(old, device="cpu").prediction == "v_prediction"


def test_sharded_weights_are_read(network, pipeline):
    plain = painters.load(pipeline, device="cpu")
    shutil.rmtree(pipeline / "unet")
    network.save_pretrained(pipeline / "unet", max_shard_size="10KB")
    assert len(list((pipeline / "unet").glob("*.safetensors"))) > 1
    sharded = painters.load(pipeline, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(plain.network.parameters(), sharded.network.parameters()))


# pipelines of diffusers


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_images_are_those_of_the_ddim_pipeline(tmp_path, prediction):
    """Same noise, same image; the pipeline draws its noise itself, so its generator is drawn from first."""
    scheduler = DDIMScheduler(clip_sample=False, prediction_type=prediction)
    theirs = DDIMPipeline(pipelines.unet(), scheduler)
    theirs.save_pretrained(tmp_path)
    theirs.set_progress_bar_config(disable=True)
    model = painters.load(tmp_path, device="cpu")
    noise = torch.randn((3, *model.shape), generator=torch.Generator().manual_seed(5))
    levels = Levels.from_scheduler(scheduler, 20)
    run = painters.solve(model.denoiser(), levels.start(noise), levels, solver="ddim", progress=False)
    images = theirs(3, generator=torch.Generator().manual_seed(5), num_inference_steps=20, output_type="np").images
    ours = model.decode(run.final).permute(0, 2, 3, 1)
    assert float(ours.std()) > 0.2
    assert rel(ours, torch.from_numpy(images)) < 1e-4
    final = noise
    for t in theirs.scheduler.timesteps:
        final = theirs.scheduler.step(theirs.unet(final, t).sample, t, final).prev_sample
    assert rel(run.final, final.detach()) < 1e-4


# modules at hand


class Plain(torch.nn.Module):
    """A network of one weight that predicts a multiple of x, shifted by its time and by its label."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x, t, labels=None):
        shift = t / 1000 if labels is None else t / 1000 + labels
        flat = x.view(len(x), -1)  # a plain module may rely on the usual layout
        return self.dropout(self.weight * flat + shift.reshape(-1, 1).to(x)).view(x.shape)


def test_a_module_is_taken_with_its_schedule_prediction_and_shape():
    model = painters.load(Plain(), schedule=vp_linear(), prediction="v_prediction", shape=(2, 4, 4))
    assert model.shape == model.image_shape == (2, 4, 4) and model.device.type == "cpu"
    assert model.card == {"name": "Plain", "parameters": 1} and not model.network.training
    alpha, sigma = (float(v[700]) for v in model.schedule.table())
    x = painters.noise([0, 1], model.shape)
    assert rel(model.denoiser()(x, alpha, sigma), alpha * x - sigma * (0.5 * x + 0.7)) < 1e-5
    levels = model.levels(5)
    assert painters.solve(model.denoiser(), levels.start(x), levels, progress=False).final.shape == x.shape
    with pytest.raises(ValueError, match="unconditional"):
        model.denoiser(0)
    with pytest.raises(ValueError, match=r"shape \(2, 4, 4\), got \(3, 4, 4\)"):
        model.denoiser()(torch.zeros(1, 3, 4, 4), alpha, sigma)


def test_a_module_may_be_class_conditional():
    options = {"schedule": vp_linear(), "prediction": "sample", "shape": (1, 2, 2), "classes": ["sun", "moon"]}
    model = painters.load(Plain(), **options, null_label=2)
    x, level = torch.zeros(2, 1, 2, 2), [float(v[500]) for v in model.schedule.table()]
    estimate = model.denoiser(["moon", "0"], guidance=3.0)(x, *level)
    assert estimate[:, 0, 0, 0].tolist() == pytest.approx([0.5 + 2 + 3 * (1 - 2), 0.5 + 2 + 3 * (0 - 2)])
    assert float(model.denoiser()(x, *level).mean()) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="no class 'star'"):
        model.denoiser("star")
    with pytest.raises(ValueError, match="without a 'no class' label"):
        painters.load(Plain(), **options).denoiser()


def test_a_flow_module_is_asked_at_pure_noise():
    model = painters.load(Plain(), schedule=flow(), prediction="flow_prediction", shape=(1, 2, 2))
    x = painters.noise([0], model.shape)
    assert rel(model.denoiser()(x, 0.0, 1.0), x - (0.5 * x + 1.0)) < 1e-6


def test_a_diffusers_network_at_hand_says_its_own_shape_and_classes():
    network = pipelines.unet(classes=3)
    model = painters.load(network, schedule=vp_linear(), prediction="epsilon")
    assert model.shape == (2, 8, 8) and model.classes == ("0", "1", "2")
    x, (alpha, sigma) = painters.noise([0], model.shape), (float(v[500]) for v in vp_linear().table())
    eps = network(x, torch.tensor([500.0]), class_labels=torch.tensor([2])).sample.detach()
    assert rel(model.denoiser(2)(x, alpha, sigma), (x - sigma * eps) / alpha) < 1e-5


def test_a_module_stays_where_and_as_it_is_unless_told(device):
    module = Plain().double().to(device)
    options = {"schedule": vp_linear(), "prediction": "epsilon", "shape": (1, 2, 2)}
    model = painters.load(module, **options)
    assert model.dtype == torch.float64 and model.device.type == device.type
    assert module.weight.dtype == torch.float64 and module.weight.requires_grad
    assert painters.load(module, **options, dtype="float32").dtype == module.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "pass prediction="),
        ({"prediction": "epsilon"}, "schedule="),
        ({"prediction": "epsilon", "schedule": vp_linear()}, "pass shape="),
        ({"prediction": "velocity", "schedule": vp_linear(), "shape": (1, 2, 2)}, "not one of"),
        ({"prediction": "v_prediction", "schedule": flow(), "shape": (1, 2, 2)}, "'vp' schedule"),
        ({"prediction": "flow_prediction", "schedule": vp_linear(), "shape": (1, 2, 2)}, "'flow' schedule"),
        ({"prediction": "score", "schedule": flow(), "shape": (1, 2, 2)}, "ends in pure noise"),
        ({"prediction": "sample", "schedule": Schedule("mine", flow().at, "flow"), "shape": (1,)}, "give it a clock"),
        ({"prediction": "sample", "schedule": edm(), "shape": (1, 2.5)}, "whole numbers"),
        ({"prediction": "epsilon", "schedule": flow(), "shape": (1, 2, 2)}, "ends in pure noise"),
    ],
)
def test_what_a_module_does_not_say_is_asked_for(options, says):
    with pytest.raises(ValueError, match=says) as caught:
        painters.load(Plain(), **options)
    assert "\n" not in str(caught.value)


def test_a_text_to_image_network_alone_is_not_enough():
    with pytest.raises(ValueError, match="needs its text encoder"):
        painters.load(pipelines.text_unet(), schedule=vp_linear(), prediction="epsilon")


def test_classes_of_an_unconditional_network_are_refused(pipeline):
    with pytest.raises(ValueError, match="not class-conditional"):
        painters.load(pipeline, classes=["sun"])


def test_a_negative_prompt_is_for_text(pipeline):
    for name in (pipeline, "fashion-ddpm"):
        with pytest.raises(ValueError, match="only a text-to-image model takes a negative prompt"):
            painters.load(name, device="cpu").denoiser(negative="ugly", guidance=2.0)


# what is damaged


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


def test_labels_are_whole_numbers_of_any_make_and_no_bools():
    """A bool is a mask that was meant for something else, though Python counts it as 0 or 1."""
    model = painters.load("fashion-ddpm", device="cpu")
    for three in (3, "3", np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)):
        assert model.denoiser(three).condition.tolist() == [3]
    for several in (np.array([3, 8]), torch.tensor([3, 8]), [np.int64(3), torch.tensor(8)], (3, np.str_("Bag"))):
        assert model.denoiser(several).condition.tolist() == [3, 8]
    for wrong in (True, np.True_, [False], torch.tensor([True]), 3.0, np.float64(3), -1, 10, "²", np.array([[3]])):
        with pytest.raises(ValueError, match=r"there is no class .*: give 0 to 9, or one of T-shirt/top"):
            model.denoiser(wrong)


def test_an_unconditional_model_takes_no_prompt(pipeline):
    with pytest.raises(ValueError, match="unconditional"):
        painters.load(pipeline, device="cpu").denoiser("Bag")


def test_a_class_conditional_model_without_a_null_label_asks_for_a_prompt(tmp_path):
    network = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"), num_class_embeds=3,
    )  # fmt: skip
    DDPMPipeline(network, DDPMScheduler(clip_sample=False)).save_pretrained(tmp_path)
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
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert choose_dtype("auto", gpu, LARGE) is torch.float16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert choose_dtype("auto", gpu, LARGE) is torch.bfloat16
    assert choose_dtype("auto", gpu, LARGE - 1) is torch.float32
    assert choose_dtype("auto", cpu, LARGE) is torch.float32
    assert choose_dtype("bfloat16", cpu, 1) is choose_dtype(torch.bfloat16, gpu, LARGE) is torch.bfloat16
    with pytest.raises(ValueError, match="float8"):
        choose_dtype("float8", cpu, 1)


def test_each_process_of_a_machine_has_its_own_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "6")
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 2)
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK")
    assert choose_device("auto") == torch.device("cuda")


def test_bundled_folders_hold_no_pickles():
    assert not [path for path in registry.BUNDLED.rglob("*") if path.suffix in {".bin", ".pt", ".pkl", ".ckpt"}]
