"""Training a small Stable Diffusion: first the autoencoder, then text encoder and denoiser together on its latents."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from atelier.data import scenes
from atelier.data.images import ImageData, to_unit
from atelier.data.images import folder as image_folder
from atelier.training.evaluation import denoising_loss
from atelier.training.loop import Run, fit, generator, stratified_times
from atelier.training.recipes import LatentRecipe, fingerprint
from painters.denoiser import target
from painters.files import replacing
from painters.levels import Levels, Schedule, scaled_linear
from painters.models.adapters import NetworkDenoiser
from painters.theory.gaussian import Gaussian
from painters.theory.moments import Moments


class TextToLatent(torch.nn.Module):
    """A text encoder and the denoiser it conditions, trained as one: (z_t, t, token ids) -> output."""

    def __init__(self, unet: torch.nn.Module, text_encoder: torch.nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, z: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Return the network's output (B, C, H, W) for latents z, times t (B,) and ``tokens`` (B, L)."""
        return self.unet(z, t, encoder_hidden_states=self.text_encoder(tokens)[0]).sample


@dataclass(frozen=True, eq=False)
class Latents:
    """Encoded pictures: posterior ``mean`` and ``std`` (n, C, H, W), and the factor that gives them unit variance."""

    mean: Tensor
    std: Tensor
    scale: float

    def clean(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Return scaled posterior means, the latents that the theory calls x_0."""
        return self.scale * self.mean[index]


def schedule_of(recipe: LatentRecipe) -> Schedule:
    """Return the noise schedule of Stable Diffusion, scaled-linear betas."""
    return scaled_linear()


def load_data(recipe: LatentRecipe, folder: str | Path | None = None) -> ImageData:
    """Return the recipe's scenes with their captions, or the reader's pictures in ``folder`` with theirs."""
    size = recipe.autoencoder["sample_size"]
    if folder is not None:
        return image_folder(folder, size=size, channels=recipe.autoencoder["in_channels"])
    return scenes.dataset(size, captions=recipe.caption_versions)


def build_autoencoder(recipe: LatentRecipe) -> torch.nn.Module:
    """Return the untrained autoencoder of a recipe, initialised from its seed."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(recipe.seed)
    return AutoencoderKL(**recipe.autoencoder)


def train_autoencoder(
    recipe: LatentRecipe,
    data: ImageData,
    *,
    folder: Path,
    steps: int | None = None,
    device: str = "cpu",
    save_every: float = 120.0,
    progress: bool = True,
) -> Run:
    """Train (or continue) the autoencoder on |decode(z) - x| plus a weak pull of z ~ q(z | x) towards N(0, I).

    Minimises, per image, with z sampled from q and e = decode(z) - x,

        mean |e| + c mean e^2 + w (sum of the largest |e|) / (how many they are) + k KL(q || N(0, I)) / dim z

    with c = ``square_weight``, w = ``worst_weight`` over the ``worst_share`` of values with the largest error, and
    k = ``kl_weight``. The mean |e| alone forgets what is small and rare: a door is one part in two hundred of a scene.
    """
    keys = ("autoencoder", "autoencoder_batch", "kl_weight", "square_weight", "worst_weight", "worst_share",
            "learning_rate", "warmup", "decay_after", "ema_gamma", "seed")  # fmt: skip
    made_of = fingerprint(recipe, data.digest())

    def loss(network: Any, k: int) -> tuple[Tensor, None]:
        draw = generator(recipe.seed, k)
        index = torch.randint(len(data.train), (recipe.autoencoder_batch,), generator=draw)
        x = to_unit(data.train[index]).to(device).contiguous(memory_format=torch.channels_last)
        posterior = network.encode(x).latent_dist
        eps = torch.randn(posterior.mean.shape, generator=draw).to(device)
        z = posterior.mean + posterior.std * eps
        error = (network.decode(z).sample - x).abs().flatten(1)
        worst = error.topk(round(recipe.worst_share * error.shape[1]), dim=1, sorted=False).values
        loss = error.mean(1) + recipe.square_weight * error.square().mean(1) + recipe.worst_weight * worst.mean(1)
        return loss + recipe.kl_weight * posterior.kl() / z[0].numel(), None

    return fit(
        Run.new(lambda: build_autoencoder(recipe), device, fingerprint={key: made_of[key] for key in (*keys, "data")}),
        loss,
        steps=steps or recipe.autoencoder_steps,
        folder=folder,
        learning_rate=recipe.rate,
        gamma=recipe.ema_gamma,
        name=f"{recipe.name}, autoencoder",
        save_every=save_every,
        progress=progress,
    )


def digest_of(network: torch.nn.Module) -> str:
    """Return a hash of a network's weights."""
    found = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        found.update(key.encode() + value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


def latents_of(autoencoder: Any, data: ImageData, folder: Path) -> tuple[Latents, Latents]:
    """Return the latents of training and test images, kept in ``folder/latents.safetensors`` for the next start.

    They are encoded anew if the autoencoder or the data is another.
    """
    path = folder / "latents.safetensors"
    made_of = {"autoencoder": digest_of(autoencoder), "data": data.digest()}
    if not path.is_file() or _header(path) != made_of:
        train = encode(autoencoder, data.train)
        test = encode(autoencoder, data.test, scale=train.scale)
        parts = {"train": train.mean, "train_std": train.std, "test": test.mean, "test_std": test.std}
        with replacing(path) as temporary:
            save_file(parts | {"scale": torch.tensor(train.scale)}, temporary, metadata=made_of)
    parts = load_file(path)
    scale = float(parts["scale"])
    return Latents(parts["train"], parts["train_std"], scale), Latents(parts["test"], parts["test_std"], scale)


def _header(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


@torch.no_grad()
def encode(autoencoder: Any, images: Tensor, *, scale: float | None = None, batch: int = 64) -> Latents:
    """Return the latents of uint8 ``images`` (n, C, H, W); ``scale`` defaults to one over their standard deviation."""
    device = next(autoencoder.parameters()).device
    means, stds = [], []
    for part in images.split(batch):
        posterior = autoencoder.encode(to_unit(part).to(device, memory_format=torch.channels_last)).latent_dist
        means.append(posterior.mean.cpu().contiguous())
        stds.append(posterior.std.cpu().contiguous())
    mean = torch.cat(means)
    return Latents(mean, torch.cat(stds), float(1 / mean.std()) if scale is None else scale)


def build_tokenizer(captions: Sequence[str], *, length: int) -> Any:
    """Return a CLIP tokenizer whose byte-pair vocabulary holds every word of ``captions`` as one token.

    Other words fall apart into shorter pieces, in the end single bytes, so that any prompt can be read.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    words = sorted({word for text in captions for word in text.lower().replace(",", " ").split()})
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    learner.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=50_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    )
    merges: Any = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def tokenize(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Return token ids (n, L), padded and truncated to the tokenizer's length as Stable Diffusion does it."""
    ids = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.to(torch.int32)


def training_tokens(tokenizer: Any, versions: Sequence[Sequence[str]], *, seed: int = 0) -> Tensor:
    """Return the captions of ``versions`` (V lists of n) as tokens (V, n, L), roughened like the prompts people type.

    In a third of the captions commas become "and" or vanish; in a third, up to three pieces of words that no caption
    uses are put in, so that the text encoder learns to pass over words it does not know.
    """
    draw = random.Random(seed)
    known = {token for text in versions[0] for token in tokenizer.tokenize(text)}
    strange = [token for token in tokenizer.get_vocab() if token not in known and not token.startswith("<|")]

    def roughen(text: str) -> str:
        if draw.random() < 1 / 3:
            text = text.replace(",", draw.choice([" and", ""]))
        if draw.random() < 1 / 3:
            words = text.split()
            for _ in range(draw.randint(1, 3)):
                words.insert(draw.randint(0, len(words)), draw.choice(strange).removesuffix("</w>"))
            text = " ".join(words)
        return text

    return torch.stack([tokenize(tokenizer, [roughen(text) for text in captions]) for captions in versions])


def build(recipe: LatentRecipe, tokenizer: Any) -> TextToLatent:
    """Return the untrained text encoder and denoiser of a recipe, initialised from its seed."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(recipe.seed)
    config = CLIPTextConfig(
        **recipe.text_encoder,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return TextToLatent(UNet2DConditionModel(**recipe.network), CLIPTextModel(config))


@dataclass(frozen=True, eq=False)
class Studio:
    """What the second stage works with: the trained autoencoder, its latents, tokenizer, and tokens (V, n, L)."""

    autoencoder: Run
    train: Latents
    test: Latents
    tokenizer: Any
    tokens: Tensor
    made_of: dict[str, str]


def prepare(recipe: LatentRecipe, data: ImageData, autoencoder: Run, *, folder: Path) -> Studio:
    """Return everything that training on latents needs, made from the trained autoencoder and the captions."""
    train, test = latents_of(autoencoder.average, data, folder)
    tokenizer = build_tokenizer(
        [text for version in data.captions for text in version], length=recipe.text_encoder["max_position_embeddings"]
    )
    tokens = training_tokens(tokenizer, data.captions, seed=recipe.seed)
    made_of = {"autoencoder_weights": digest_of(autoencoder.average), "data": data.digest()}
    return Studio(autoencoder, train, test, tokenizer, tokens, made_of)


def train(
    recipe: LatentRecipe,
    studio: Studio,
    *,
    folder: Path,
    steps: int | None = None,
    device: str = "cpu",
    save_every: float = 120.0,
    progress: bool = True,
    on_snapshot: Callable[[Run], None] | None = None,
) -> Run:
    """Train (or continue) text encoder and denoiser on latents and their captions.

    Minimises E|network(z_t, t, tokens) - target|^2 over uniform t, stratified over each batch, with a share of the
    captions replaced by the empty one. Resumable, and random draws per step, as in :func:`atelier.training.loop.fit`.
    """
    alpha, sigma = (v.float().to(device) for v in schedule_of(recipe).table())
    train, test, tokens = studio.train, studio.test, studio.tokens
    empty = tokenize(studio.tokenizer, [""])
    theory = references(train)

    def loss(network: Any, k: int) -> tuple[Tensor, Tensor]:
        draw = generator(recipe.seed, k)
        n = recipe.batch
        index = torch.randint(len(train.mean), (n,), generator=draw)
        version = torch.randint(len(tokens), (n,), generator=draw)
        posterior = train.mean[index] + train.std[index] * torch.randn((n, *train.mean.shape[1:]), generator=draw)
        eps = torch.randn(posterior.shape, generator=draw).to(device)
        t = stratified_times(n, draw).to(device)
        hidden = torch.rand(n, generator=draw) < recipe.caption_dropout
        prompt = torch.where(hidden[:, None], empty, tokens[version, index]).to(device).long()
        z0 = (train.scale * posterior).to(device)
        a, s = alpha[t].view(-1, 1, 1, 1), sigma[t].view(-1, 1, 1, 1)
        goal = target(z0, eps, a, s, prediction=recipe.prediction)
        return (network(a * z0 + s * eps, t, prompt) - goal).pow(2).flatten(1).mean(1), t

    def snapshot(run: Run) -> None:
        denoise = unconditional(run.average, recipe, studio.tokenizer, torch.device(device))
        levels = Levels.of(schedule_of(recipe), 12, spacing="logsnr")[:-1]
        measured = denoising_loss(denoise, test.clean(slice(512)), levels, references=theory)
        run.snapshots.append({"step": run.step, "images": run.step * recipe.batch} | measured)
        if on_snapshot:
            on_snapshot(run)

    return fit(
        Run.new(lambda: build(recipe, studio.tokenizer), device, fingerprint=fingerprint(recipe, **studio.made_of)),
        loss,
        steps=steps or recipe.steps,
        folder=folder,
        learning_rate=recipe.rate,
        gamma=recipe.ema_gamma,
        name=recipe.name,
        save_every=save_every,
        progress=progress,
        on_snapshot=snapshot,
    )


def references(latents: Latents) -> dict[str, Gaussian]:
    """Return the two denoisers every network is measured beside: the latents' Gaussian, and the constant mean."""
    gaussian = Gaussian.from_moments(Moments.stream(latents.clean().split(4096)))
    return {"gaussian": gaussian, "mean": Gaussian(gaussian.mu, gaussian.U[:, :0], gaussian.lam[:0], 0.0)}


@torch.no_grad()
def denoiser(network: torch.nn.Module, recipe: LatentRecipe, tokens: Tensor, device: torch.device) -> NetworkDenoiser:
    """Return a network in training as a denoiser for prompts given as ``tokens`` (1 or B, L)."""
    pair: Any = network
    condition = pair.text_encoder(tokens.to(device).long())[0]
    return NetworkDenoiser(
        lambda x, t, text: pair.unet(x, t, encoder_hidden_states=text).sample,
        schedule_of(recipe),
        recipe.prediction,
        device,
        condition=condition,
        channels_last=True,
    )


def unconditional(
    network: torch.nn.Module, recipe: LatentRecipe, tokenizer: Any, device: torch.device
) -> NetworkDenoiser:
    """Return a network in training as a denoiser for the empty prompt."""
    return denoiser(network, recipe, tokenize(tokenizer, [""]), device)
