"""Zips that are the same bytes for the same content."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files, by their names in the zip and in that order."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, data)
    return path


def pack(folder: Path, path: Path | None = None) -> Path:
    """Write a folder as a zip, beside it or elsewhere; all lies in one folder of the zip's name."""
    path = path or folder.with_suffix(".zip")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return write_zip(path, {f"{path.stem}/{file.relative_to(folder)}": file.read_bytes() for file in files})
