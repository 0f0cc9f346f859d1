"""Writing files so that an interruption leaves no half of one, and two processes lose nothing of each other."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success it takes the place of ``path`` in one step.

    Raises ``OSError`` with one sentence if the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    except OSError as error:
        raise OSError(f"cannot write to {path.parent}: {error.strerror}; choose another folder") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, SafetensorError, RuntimeError) as error:
        # A full disk reaches Python as an OSError from files, but safetensors and torch.save raise what they call it.
        why = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise OSError(f"could not write {path}: {why}; nothing was changed there") from error
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], *, about: Mapping[str, Any] | None = None) -> Path:
    """Write tensors as safetensors, whole or not at all, with each value of ``about`` as JSON in the header.

    Raises ``ValueError`` if a number is not finite, as nothing that is read from such a file could be trusted, and
    ``OSError`` as :func:`replacing` does.
    """
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    if wrong := [name for name, value in stored.items() if not bool(torch.isfinite(value).all())]:
        raise ValueError(f"{path} was not saved: {', '.join(wrong)} would hold NaN or infinite values")
    header = {name: json.dumps(value) for name, value in (about or {}).items()}
    with replacing(path) as temporary:
        save_file(stored, temporary, metadata=header or None)
    return Path(path)


@contextlib.contextmanager
def locked(path: str | Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a file or folder while it is read, changed and written; another process waits until it is free.

    Raises ``ValueError`` instead of waiting if ``wait`` is false, ``OSError`` with one sentence if nothing can be
    written there.
    """
    path = Path(path)
    # A hidden file beside it, which stays: were it removed, a process that waits for it would hold one of no name.
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise ValueError(f"another process works on {path}: wait for it, or name another place") from error
    except OSError as error:
        raise OSError(f"cannot write to {path.parent}: {error.strerror}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def claim(out: str | Path, made_of: Mapping[str, Any]) -> None:
    """Write what the work in a folder is made of as its ``run.json``; ``ValueError`` if the one there differs.

    ``made_of``: settings, and fingerprints of weights and data, JSON-serialisable.
    """
    path = Path(out) / "run.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON: choose another folder") from error
        wanted = json.loads(json.dumps(dict(made_of)))
        if other := [f"{key} {found.get(key)!r}" for key in wanted if found.get(key) != wanted[key]]:
            raise ValueError(f"{out} holds another run ({', '.join(other)}): choose another folder, or delete this one")
        return
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(dict(made_of), indent=2) + "\n")
