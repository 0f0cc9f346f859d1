"""Small networks that are no denoisers: readers of factors, and generators; those that come with the book."""

from pathlib import Path

BUNDLED = Path(__file__).parent / "bundled"


def bundled(kind: str) -> tuple[str, ...]:
    """Return the names of the bundled networks of a kind: those with a file ``KIND.safetensors``."""
    return tuple(sorted(path.parent.name for path in BUNDLED.glob(f"*/{kind}.safetensors")))
