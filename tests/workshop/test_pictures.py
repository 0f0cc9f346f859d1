"""One reader of pictures: every mode, every kind of damage, and what a folder holds besides pictures."""

import numpy as np
import pytest
from PIL import Image

from atelier import pictures
from atelier.pictures import caption, listed, read, read_each, sheet, told

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8)[:, :, None] * np.array([1, 2, 3], dtype=np.uint8)


def grey(path, channels=1):
    return read(path, size=8, channels=channels)


def test_transparency_is_laid_on_white(tmp_path):
    hidden = np.dstack([RAMP, np.zeros((8, 8), np.uint8)])  # colours that no viewer shows
    Image.fromarray(hidden, "RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(hidden[:, :, 2:], "LA").save(tmp_path / "la.png")
    palette = Image.fromarray(RAMP).quantize(8)
    palette.save(tmp_path / "palette.png", transparency=bytes(8))
    for name in ("rgba", "la", "palette"):
        for channels in (1, 3):
            assert (read(tmp_path / f"{name}.png", size=8, channels=channels) == 255).all(), name


def test_the_cameras_rotation_is_applied(tmp_path):
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "turned.png", size=8), upright.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_become_eight(tmp_path, kind):
    wide = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(wide).save(tmp_path / f"wide.{kind}")
    np.testing.assert_allclose(grey(tmp_path / f"wide.{kind}")[0], wide / 257, atol=0.51)


def test_a_dark_picture_of_sixteen_bits_stays_dark(tmp_path):
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "dark.png")
    assert grey(tmp_path / "dark.png").max() <= 1


def test_floats_are_shares_of_white_or_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "half.tif")
    assert abs(int(grey(tmp_path / "half.tif")[0, 0, 0]) - 128) <= 1
    Image.fromarray(np.full((8, 8), 90.0, np.float32)).save(tmp_path / "counts.tif")
    with pytest.raises(ValueError, match="its white is not known"):
        grey(tmp_path / "counts.tif")


def test_cmyk_and_animated_pictures(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=95)
    red = read(tmp_path / "print.jpg", size=8).reshape(3, -1).mean(1)
    assert red[0] > 200 > 60 > red[1:].max()
    frames = [Image.new("L", (8, 8), value) for value in (40, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert (grey(tmp_path / "moving.gif") == 40).all()


def test_what_a_folder_holds_besides_pictures_is_counted_and_named(tmp_path):
    for name in ("b", "a", "c", "d", "e"):
        Image.fromarray(RAMP).save(tmp_path / f"{name}.png")
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "d.png").write_text("no picture")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    Image.fromarray(RAMP).save(tmp_path / ".ipynb_checkpoints" / "a-checkpoint.png")
    for name in ("x.heic", "y.heic", "z.heic", "w.heic", "lonely.txt", ".DS_Store"):
        (tmp_path / name).write_text("")
    files, skipped = listed(tmp_path)
    arrays = dict(read_each(files, skipped, size=4))
    assert [file.name for file in arrays] == ["a.png", "b.png", "e.png"]
    assert all(pixels.shape == (3, 4, 4) for pixels in arrays.values())
    assert {file.relative_to(tmp_path).as_posix() for file in skipped} == {
        "c.png", "d.png", ".ipynb_checkpoints/a-checkpoint.png", "lonely.txt",
        "x.heic", "y.heic", "z.heic", "w.heic",
    }  # fmt: skip
    line = told(skipped).replace(f"{tmp_path}/", "")
    assert line.startswith("8 files skipped: ") and "\n" not in line and told({}) == ""
    assert "c.png, d.png (damaged, cut short, or no picture)" in line
    assert "lonely.txt, w.heic, x.heic and 2 more (no kind of picture that is read)" in line


def test_a_scan_too_large_is_named(tmp_path, monkeypatch):
    Image.fromarray(RAMP).save(tmp_path / "scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    assert read(tmp_path / "scan.png", size=8).shape == (3, 8, 8)  # below twice the limit, where Pillow warns
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match=r"scan.png cannot be read \(more than 0 million pixels"):
        read(tmp_path / "scan.png", size=8)


def test_the_sheet_of_a_run_is_not_read(tmp_path):
    for name in ("seed-00000.png", "sheet.png"):
        Image.fromarray(RAMP).save(tmp_path / name)
    assert len(listed(tmp_path)[0]) == 2  # somebody's own picture
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "trajectories").mkdir()
    (tmp_path / "trajectories" / "seed-00000.safetensors").write_text("")
    files, skipped = listed(tmp_path)
    assert [file.name for file in files] == ["seed-00000.png"]
    assert skipped == {tmp_path / "sheet.png": "the contact sheet of a run"}


def test_captions_with_and_without_a_byte_order_mark(tmp_path):
    for name in "abc":
        Image.fromarray(RAMP).save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_bytes("a house\n".encode("utf-8-sig"))
    (tmp_path / "b.txt").write_bytes("une forêt".encode())
    assert [caption(tmp_path / f"{name}.png") for name in "abc"] == ["a house", "une forêt", ""]
    (tmp_path / "c.txt").write_bytes("une forêt".encode("latin-1"))
    with pytest.raises(ValueError, match=r"caption .*c.txt is not text in UTF-8"):
        caption(tmp_path / "c.png")


def test_a_missing_folder_and_a_missing_picture(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        listed(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="there is no picture"):
        read(tmp_path / "nowhere.png", size=4)


def test_a_sheet_of_many_files_keeps_none_of_them_open(tmp_path, monkeypatch):
    paths = [pictures.save(Image.new("L", (2, 2), i), tmp_path / f"{i}.png") for i in range(40)]
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, hard))
    try:
        canvas = sheet(paths, columns=10, gap=0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert canvas.size == (20, 8) and canvas.getpixel((19, 7)) == 39


def test_a_sheet_enlarges_small_pictures_only_and_never_beyond_what_opens_anywhere():
    for size, n, want in ((64, 4, 2 * 192 + 2), (512, 1, 512), (28, 2500, 50 * 28 * 2 + 98)):
        assert sheet([Image.new("L", (size, size))] * n, side=140).width == want
