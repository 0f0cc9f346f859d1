"""Where a model is found: bundled with the package, in a local folder, or on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from painters.models.folders import NOT_YET, kind_of_folder, no_weights, wants_half, weight_files
from painters.models.precision import Precision
from painters.models.registry import BUNDLED, bundled, card_of, instead, published


def find(name: str | Path, precision: Precision, pickled: bool, access: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a model and, for one from the hub, where it came from.

    ``name``: a bundled or published name, an existing folder, or a hub id "owner/name", downloaded once and then read
    from the cache; ``access`` holds huggingface_hub's ``revision`` and ``token``. Where an id is gone, the mirrors on
    its card are tried in order, unless a revision is asked for. Raises ``FileNotFoundError`` or ``ValueError`` with one
    sentence, naming a bundled model to use instead.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    ours = (*bundled(), *published())
    folder = BUNDLED / name if str(name) in ours else Path(name)
    if folder.is_dir():
        return folder, {}
    if isinstance(name, Path) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(
            f"{_no_folder(name)}: give a bundled name ({', '.join(ours)}), a folder, or a hub id 'owner/name'"
        )
    card = card_of(name)
    other = instead(latent=card is not None and card.kind != "pixel")
    if card is not None and not card.served:
        raise ValueError(f"{name} ({card.note}) cannot be loaded: {NOT_YET}; {other}")
    others = (card.id, *card.mirrors) if card and access.get("revision") is None else ()
    addresses = list(dict.fromkeys([name, *others]))
    for repository in addresses:
        try:
            folder = _download(repository, precision, pickled, other, access)
        except RepositoryNotFoundError:
            continue
        if repository != name:
            warnings.warn(f"the hub has no model {name!r} any more: {repository!r} was loaded", stacklevel=3)
        origin = {"source": repository, "revision": folder.name}
        return folder, origin if card is None else {"id": card.id, "licence": card.licence, "note": card.note} | origin
    mirrors = f", nor {' or '.join(addresses[1:])}" if addresses[1:] else ""
    raise FileNotFoundError(
        f"{_no_folder(name)}, and the hub has no model {name!r}{mirrors}: check the spelling, or {other}"
    )


def _no_folder(name: str | Path) -> str:
    """The beginning of an error's sentence: that there is no such folder, and which there are beside it."""
    above = Path(name).parent
    beside = sorted(path.name for path in above.iterdir() if path.is_dir()) if above.is_dir() else []
    told = f" ({above} holds {', '.join(beside[:8])})" if beside and above != Path() else ""
    return f"there is no model or folder {str(name)!r} here{told}"


def _download(repository: str, precision: Precision, pickled: bool, other: str, access: dict[str, Any]) -> Path:
    """Fetch what loading needs: configurations, then, if the model is served, one set of weights for each part.

    Raises huggingface_hub's ``RepositoryNotFoundError`` if it is not there; every other failure is one sentence.
    """
    import huggingface_hub

    with _sentences(repository, other):
        try:
            found = huggingface_hub.model_info(repository, files_metadata=True, **access)
        except Exception:
            # without the hub, what was fetched before will do
            with contextlib.suppress(Exception):
                return Path(huggingface_hub.snapshot_download(repository, local_files_only=True, **access))
            raise
    files = {file.rfilename: file.size or 0 for file in found.siblings or []}
    small = [path for path in files if _is_configuration(path)]
    with _sentences(repository, other):
        folder = Path(huggingface_hub.snapshot_download(repository, allow_patterns=small, **access))
    latent = kind_of_folder(folder, repository) == "latent"
    weights = needed_weights(files, latent=latent, precision=precision, pickled=pickled)
    if weights is None:
        raise no_weights(repository, latent=latent)
    with _sentences(repository, other):
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=[*small, *weights], **access))


@contextlib.contextmanager
def _sentences(repository: str, other: str) -> Iterator[None]:
    """Turn a failure of the hub, other than a missing repository, into one sentence."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise FileNotFoundError(
            f"{repository!r} is gated: accept its licence on the hub and run 'hf auth login' or pass token=, or {other}"
        ) from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f"{repository!r} has no such revision: check its commits, or {other}") from error
    except RepositoryNotFoundError:
        raise
    except Exception as error:
        raise FileNotFoundError(
            f"{_no_folder(repository)}, and it could not be fetched from the hub ({type(error).__name__}): check the "
            f"spelling and the network, or {other}"
        ) from error


def needed_weights(
    files: Mapping[str, int], *, latent: bool, precision: Precision, pickled: bool = False
) -> list[str] | None:
    """Return the weight files of a repository that loading needs, given all its files and their sizes in bytes.

    One set for each of UNet, text encoder and VAE; nothing of a safety checker, no second precision, no single-file
    checkpoint. UNet and text encoder are taken in fp16 if they will run in half precision, the VAE only if there is
    nothing else. ``None`` if a part has no weights that may be read.
    """
    unet = "unet" if any(path.startswith("unet/") for path in files) else ""
    inside: dict[str, dict[str, int]] = {unet: {}, "text_encoder": {}, "vae": {}}
    for path, size in files.items():
        folder, _, name = path.rpartition("/")
        if folder in inside:
            inside[folder][name] = size
    half = wants_half(inside[unet], precision, pickled=pickled)
    chosen: list[str] = []
    for part in (unet, "text_encoder", "vae") if latent else (unet,):
        names, _ = weight_files(inside[part], half=half and part != "vae", pickled=pickled)
        if not names:
            return None
        chosen += [f"{part}/{name}" if part else name for name in names]
    return chosen


def _is_configuration(path: str) -> bool:
    """Whether a file of a repository is one of the small ones that say what the model is."""
    folder, _, name = path.rpartition("/")
    if folder == "tokenizer":
        return name.endswith((".json", ".txt"))
    if folder in ("", "scheduler", "unet", "vae", "text_encoder"):
        return name in ("config.json", "model_index.json", "scheduler_config.json", "card.json", "moments.safetensors")
    return False
