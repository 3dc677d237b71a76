import struct

import numpy as np
import pytest
from PIL import Image

from kapp.data import image_files
from kapp.errors import ConfigError, KappError


def test_png_and_jpeg_files_are_found_by_name(tmp_path):
    for name in ("b.JPG", "a.png", "c.jpeg", ".hidden.png", "notes.txt", "d.gif"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_files.find(tmp_path)] == ["a.png", "b.JPG", "c.jpeg"]


def test_a_folder_without_image_files_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no folder"):
        image_files.find(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"contains no image files. kapp reads .png, .jpg, .jpeg"):
        image_files.find(tmp_path)


def test_an_image_of_the_right_size_is_not_changed(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    array = image_files.read(tmp_path / "a.png", (8, 6, 3))
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, image)
    assert image_files.size(tmp_path / "a.png") == (8, 6)


def test_other_sizes_are_resized_without_a_crop(tmp_path):
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = (200, 100, 50)
    Image.fromarray(image).save(tmp_path / "a.png")
    array = image_files.read(tmp_path / "a.png", (8, 8, 3))
    assert array[:, :3].max() < 20
    np.testing.assert_allclose(array[:, 5:].mean(axis=(0, 1)), (200, 100, 50), atol=6)


@pytest.mark.parametrize(
    ("mode", "color", "channels", "expected"),
    [("L", 77, 3, 77), ("RGB", (77, 77, 77), 1, 77), ("RGBA", (0, 0, 0, 0), 3, 255)],
)
def test_gray_color_and_transparent_images(tmp_path, mode, color, channels, expected):
    Image.new(mode, (8, 8), color).save(tmp_path / "a.png")
    assert (image_files.read(tmp_path / "a.png", (8, 8, channels)) == expected).all()


def test_the_exif_rotation_is_applied(tmp_path):
    image = Image.fromarray(np.repeat([[0] * 6, [255] * 6], 4, axis=0).astype(np.uint8))  # black above white
    exif = image.getexif()
    exif[0x0112] = 3  # rotated by 180 degrees
    image.save(tmp_path / "a.jpg", exif=exif)
    array = image_files.read(tmp_path / "a.jpg", (8, 6, 1))
    assert array[:3].min() > 240
    assert array[5:].max() < 15
    exif[0x0112] = 6  # rotated by 90 degrees
    image.save(tmp_path / "b.jpg", exif=exif)
    assert image_files.size(tmp_path / "b.jpg") == (6, 8)


def test_16_bit_gray_keeps_its_upper_bits(tmp_path):
    image = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(image).save(tmp_path / "a.png")
    array = image_files.read(tmp_path / "a.png", (8, 8, 1))
    np.testing.assert_array_equal(array[..., 0], image >> 8)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n cut"])
def test_the_message_names_a_damaged_file(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(KappError, match=r"cannot read the image file .*bad.png.*Remove it"):
        image_files.read(tmp_path / "bad.png", (8, 8, 3))
    with pytest.raises(KappError):
        image_files.size(tmp_path / "bad.png")


def test_damage_that_pil_does_not_expect_is_a_damaged_file(tmp_path):
    """A rotated image whose EXIF has text as its width: PIL raises struct.error."""
    orientation, width = (0x0112, 3, 1, b"\0\6\0\0"), (0x0100, 2, 4, b"abc\0")
    entries = b"".join(struct.pack(">HHI", *each[:3]) + each[3] for each in (orientation, width))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\2" + entries + b"\0\0\0\0"
    Image.new("RGB", (8, 8)).save(tmp_path / "bad.jpg", exif=exif)
    with pytest.raises(KappError, match=r"cannot read the image file .*bad\.jpg.*Remove it"):
        image_files.read(tmp_path / "bad.jpg", (8, 8, 3))


def test_other_formats_are_not_decoded(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(KappError):
        image_files.read(tmp_path / "a.png", (8, 8, 3))


def test_two_channels_are_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"1 channel \(gray\) or 3 \(RGB\), the model expects 2"):
        image_files.read(tmp_path / "a.png", (8, 8, 2))
