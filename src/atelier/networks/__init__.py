"""Small networks that are no denoisers: readers of factors, and generators; those that come with the book."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from painters.models.registry import read_card

Network = TypeVar("Network", bound=torch.nn.Module)

BUNDLED = Path(__file__).parent / "bundled"


def shuffled(network: Network, *, seed: int = 0) -> Network:
    """Return a copy of a network with the entries of every weight shuffled within its tensor: a null.

    It has the sizes of a trained network and knows nothing.
    """
    copy, generator = deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in copy.parameters():
            flat = value.flatten()
            value.copy_(flat[torch.randperm(len(flat), generator=generator).to(flat.device)].reshape(value.shape))
    return copy


def bundled(kind: str) -> tuple[str, ...]:
    """Return the names of the bundled networks of a kind: those with a file ``KIND.safetensors``."""
    return tuple(sorted(path.parent.name for path in BUNDLED.glob(f"*/{kind}.safetensors")))


def load_network(
    kind: str, name: str | Path, build: Callable[[dict[str, Any]], Network]
) -> tuple[Network, dict[str, Any]]:
    """Return the network of a bundled name or a folder, frozen, in float32, and its card; ``build`` makes it from that.

    Raises ``FileNotFoundError`` or ``ValueError`` with one sentence saying what is wrong and what to do.
    """
    folder = BUNDLED / str(name) if str(name) in bundled(kind) else Path(name)
    path = folder / f"{kind}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {kind} {str(name)!r}: give a bundled one ({', '.join(bundled(kind)) or 'none'}), or a folder "
            "made by painters train"
        )
    card = read_card(folder)
    try:
        network = build(card)
        network.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"the {kind} {str(name)!r} is damaged ({first}): install the package again") from error
    return network.eval().requires_grad_(False), card
