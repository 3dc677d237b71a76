"""Somebody's own pictures, as they come."""

import numpy as np
import pytest
from PIL import Image

from kapp.data import pictures
from kapp.errors import Failure, WrongValue


def test_png_and_jpeg_are_found_by_name(tmp_path):
    for name in ("b.JPG", "a.png", "c.jpeg", ".hidden.png", "notes.txt", "d.gif"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures.find(tmp_path)] == ["a.png", "b.JPG", "c.jpeg"]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(WrongValue, match="there is no folder"):
        pictures.find(tmp_path / "absent")
    with pytest.raises(WrongValue, match=r"holds no picture: kapp reads .png, .jpg, .jpeg"):
        pictures.find(tmp_path)


def test_a_picture_of_the_right_size_is_read_as_it_is(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    read = pictures.read(tmp_path / "a.png", (8, 6, 3))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, image)


def test_others_are_resized_whole(tmp_path):
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = (200, 100, 50)
    Image.fromarray(image).save(tmp_path / "a.png")
    read = pictures.read(tmp_path / "a.png", (8, 8, 3))
    assert read[:, :3].max() < 20
    np.testing.assert_allclose(read[:, 5:].mean(axis=(0, 1)), (200, 100, 50), atol=6)


def test_grey_transparent_and_turned_pictures(tmp_path):
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    assert (pictures.read(tmp_path / "grey.png", (8, 8, 3)) == 77).all()
    Image.new("RGB", (8, 8), (77, 77, 77)).save(tmp_path / "colour.png")
    assert (pictures.read(tmp_path / "colour.png", (8, 8, 1)) == 77).all()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (pictures.read(tmp_path / "clear.png", (8, 8, 3)) == 255).all()

    turned = Image.fromarray(np.repeat([[0] * 8, [255] * 8], 4, axis=0).astype(np.uint8))  # black above white
    notes = turned.getexif()
    notes[0x0112] = 3  # the camera was held upside down
    turned.save(tmp_path / "turned.jpg", exif=notes)
    read = pictures.read(tmp_path / "turned.jpg", (8, 8, 1))
    assert read[:3].min() > 240
    assert read[5:].max() < 15


@pytest.mark.parametrize("held", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n cut"])
def test_a_damaged_picture_is_named(tmp_path, held):
    (tmp_path / "bad.png").write_bytes(held)
    with pytest.raises(Failure, match=r"cannot read the picture .*bad.png.*Remove it"):
        pictures.read(tmp_path / "bad.png", (8, 8, 3))


def test_only_what_it_says_it_reads_is_decoded(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(Failure, match="cannot read"):
        pictures.read(tmp_path / "a.png", (8, 8, 3))


def test_grey_of_16_bits_keeps_its_shades(tmp_path):
    shades = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(shades).save(tmp_path / "a.png")
    read = pictures.read(tmp_path / "a.png", (8, 8, 1))
    np.testing.assert_array_equal(read[..., 0], shades >> 8)


def test_a_picture_of_two_channels_is_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(WrongValue, match="a picture has 3 channels, or 1 in grey: it can't be one of 2"):
        pictures.read(tmp_path / "a.png", (8, 8, 2))
