"""Views beyond crops and flips: what is drawn, and each image against NumPy and SciPy, on this backend."""

import keras
import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from kapp.data import Augmentation, pipelines, sampling
from kapp.data.augmentation import augment_batch, label_share
from kapp.errors import ConfigError
from kapp.run_folder import ADDED_SETTINGS
from tests.helpers import crop_and_flip

SHAPE = (12, 9, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, *SHAPE)).astype(np.uint8)
ALL = Augmentation(2, True, 0.3, 0.2, 0.5, 0.4, 0.5, 0.8, 1.0)
VIEWS = {
    "crop_scale": Augmentation(2, crop_scale=0.3),
    "hue": Augmentation(2, hue=0.5),
    "saturation": Augmentation(2, saturation=0.9),
    "brightness": Augmentation(2, brightness=0.6),
    "random_erasing": Augmentation(0, random_erasing=0.7),
    "mixup": Augmentation(2, mixup=0.4),
    "cutmix": Augmentation(2, cutmix=1.0),
    "all": ALL,
}


def params_of(augmentation: Augmentation, count: int = 20_000, epoch: int = 0) -> dict[str, np.ndarray]:
    values = sampling.view_params(3, epoch, count, augmentation)
    return dict(zip(sampling.PARAMS, values.T.astype(float), strict=True))


def reference_view(image: np.ndarray, view: int, params: dict, augmentation: Augmentation) -> np.ndarray:
    """One image by itself, float64: cropped, flipped, zoomed, recolored and erased."""
    height, width, _ = image.shape
    x = crop_and_flip(image, view, augmentation.crop_padding, augmentation.flip).astype(float)
    if augmentation.crop_scale < 1:
        rows, columns = (
            (np.arange(size) + 0.5) * params["zoom"] + params[f"zoom_{side}"] * size - 0.5
            for size, side in ((height, "top"), (width, "left"))
        )
        places = np.meshgrid(rows, columns, indexing="ij")
        channels = [
            ndimage.map_coordinates(c, places, order=1, mode="nearest") for c in np.moveaxis(x, -1, 0)
        ]
        x = np.stack(channels, axis=-1)
    if augmentation.hue or augmentation.saturation or augmentation.brightness:
        angle = np.arctan2(params["chroma_sin"] * np.sqrt(3), params["chroma_cos"])
        saturation = np.hypot(params["chroma_sin"] * np.sqrt(3), params["chroma_cos"])
        gray = x.mean(axis=-1, keepdims=True)
        turned = Rotation.from_rotvec(angle * np.ones(3) / np.sqrt(3)).apply((x - gray).reshape(-1, 3))
        x = np.clip(params["brightness"] * (gray + saturation * turned.reshape(x.shape)), 0, 255)
    if augmentation.random_erasing:
        x[inside("erased", params, height, width)] = x.mean(axis=(0, 1))
    return x


def inside(name: str, params: dict, height: int, width: int) -> tuple[slice, slice]:
    """The pixels whose centers lie in a rectangle."""
    edges = [params[f"{name}_{side}"] for side in ("top", "bottom", "left", "right")]
    rows, columns = (
        slice(*np.ceil(np.array(pair) * size - 0.5).astype(int))
        for pair, size in ((edges[:2], height), (edges[2:], width))
    )
    return rows, columns


def reference_views(batch: dict, images: np.ndarray, augmentation: Augmentation):
    """All images of a batch of indices, one by one, and how much of each is the image itself."""
    views, shares = [], []
    for i in range(len(batch["sample"])):
        params = dict(zip(sampling.PARAMS, batch["params"][i].astype(float)))
        view = reference_view(images[batch["sample"][i]], batch["view"][i], params, augmentation)
        share = 1.0
        if augmentation.mixes:
            others = dict(zip(sampling.PARAMS, batch["partner_params"][i].astype(float)))
            image = images[batch["partner_sample"][i]]
            partner = reference_view(image, batch["partner_view"][i], others, augmentation)
            share = params["mix_weight"]
            view = share * view + (1 - share) * partner
            pasted = inside("pasted", params, *image.shape[:2])
            view[pasted] = partner[pasted]
            share *= 1 - view[..., 0][pasted].size / view[..., 0].size
        views.append(view)
        shares.append(share)
    return np.stack(views), np.array(shares)


def on_backend(batch: dict) -> dict:
    return {name: keras.ops.convert_to_tensor(column) for name, column in batch.items()}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", VIEWS)
def test_each_image_is_that_of_numpy(name, streamed):
    augmentation, samples = VIEWS[name], np.arange(40, dtype=np.int32)
    batch = pipelines.epoch_batch(samples, 5, 1, augmentation)
    expected, share = reference_views(batch, IMAGES, augmentation)
    tensors = on_backend(pipelines.with_images(batch, IMAGES if streamed else None))
    resident = None if streamed else keras.ops.convert_to_tensor(IMAGES)
    views = augment_batch(tensors, augmentation, resident)
    assert keras.backend.standardize_dtype(views.dtype) == "float32"
    views = keras.ops.convert_to_numpy(views)
    np.testing.assert_allclose(views, expected, atol=1e-3)  # of 255
    changed = crop_and_flip(IMAGES[batch["sample"][0]], batch["view"][0], augmentation.crop_padding, True)
    assert any((view != changed).any() for view in views[:8])
    found = keras.ops.convert_to_numpy(label_share(tensors["params"], *SHAPE[:2]))
    np.testing.assert_allclose(found, share, atol=1e-6)


def test_a_third_of_a_circle_turns_red_into_green():
    params = sampling.view_params(0, 0, 1, Augmentation(hue=0.1))
    angle = 2 * np.pi / 3
    params[0, sampling.PARAMS.index("chroma_cos")] = np.cos(angle)
    params[0, sampling.PARAMS.index("chroma_sin")] = np.sin(angle) / np.sqrt(3)
    batch = {
        "view": np.array([Augmentation().identity], np.int32),
        "image": np.array([[[[200, 0, 0], [0, 150, 0], [70, 70, 70]]]], np.uint8),
        "params": params,
    }
    views = keras.ops.convert_to_numpy(augment_batch(on_backend(batch), Augmentation(hue=0.1)))
    np.testing.assert_allclose(views[0, 0], [[0, 200, 0], [0, 0, 150], [70, 70, 70]], atol=1e-4)


def test_gray_images_get_another_brightness_and_no_color():
    images, augmentation = IMAGES[..., :1], Augmentation(0, False, brightness=0.5)
    batch = pipelines.epoch_batch(np.arange(40, dtype=np.int32), 0, 0, augmentation)
    views = augment_batch(on_backend(batch), augmentation, keras.ops.convert_to_tensor(images))
    brightness = batch["params"][:, sampling.PARAMS.index("brightness")]
    expected = np.clip(images[batch["sample"]] * brightness[:, None, None, None].astype(float), 0, 255)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(views), expected, atol=1e-3)
    augmentation.check_image_shape((8, 8, 1))
    with pytest.raises(ConfigError, match=r"for RGB images, not for images of \(8, 8, 1\)"):
        Augmentation(hue=0.1).check_image_shape((8, 8, 1))


def test_what_is_drawn_has_the_range_and_the_distribution_of_its_setting():
    params = params_of(ALL)
    uniform = {
        "area": (params["zoom"] ** 2, 0.3, 1.0),
        "hue": (np.arctan2(params["chroma_sin"] * np.sqrt(3), params["chroma_cos"]) / (2 * np.pi), -0.2, 0.2),
        "saturation": (np.hypot(params["chroma_sin"] * np.sqrt(3), params["chroma_cos"]), 0.5, 1.5),
        "brightness": (params["brightness"], 0.6, 1.4),
    }
    for name, (values, low, high) in uniform.items():
        assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-3, name
    for side in ("top", "left"):
        assert params[f"zoom_{side}"].min() >= 0
        assert (params[f"zoom_{side}"] + params["zoom"]).max() <= 1 + 1e-4
    is_blended = params["mix_weight"] < 1
    assert is_blended.mean() == pytest.approx(0.5, abs=0.02)
    assert stats.kstest(params["mix_weight"][is_blended], stats.beta(0.8, 0.8).cdf).pvalue > 1e-3
    pasted = params["pasted_bottom"] - params["pasted_top"]
    assert pasted[is_blended].max() == 0
    assert pasted[~is_blended].min() >= 0
    for name in ("erased", "pasted"):
        for low, high in (("top", "bottom"), ("left", "right")):
            assert params[f"{name}_{low}"].min() >= 0
            assert params[f"{name}_{high}"].max() <= 1


def test_the_pasted_area_is_that_of_beta():
    """Its part outside of the image is cut off: rectangles that touch no edge are whole."""
    params = params_of(Augmentation(cutmix=300.0), 50_000)
    edges = [params[f"pasted_{side}"] for side in ("top", "bottom", "left", "right")]
    height, width = edges[1] - edges[0], edges[3] - edges[2]
    whole = (edges[0] > 0) & (edges[1] < 1) & (edges[2] > 0) & (edges[3] < 1)
    assert whole.sum() > 2000
    np.testing.assert_allclose(height[whole], width[whole], atol=1e-4)
    area = (height * width)[whole]
    assert area.mean() == pytest.approx(0.5, abs=0.01)
    assert area.std() == pytest.approx(stats.beta(300, 300).std(), rel=0.1)


def test_the_erased_area_is_that_of_zhong():
    params = params_of(Augmentation(random_erasing=0.25), 40_000)
    height = params["erased_bottom"] - params["erased_top"]
    width = params["erased_right"] - params["erased_left"]
    is_erased = height > 0
    assert is_erased.mean() == pytest.approx(0.25, abs=0.01)
    fits = is_erased & (height < 1) & (width < 1)
    area, ratio = height[fits] * width[fits], height[fits] / width[fits]
    assert area.min() > 0.019
    assert area.max() < 0.401
    assert ratio.min() > 0.29
    assert ratio.max() < 1 / 0.29
    assert stats.kstest((height * width)[is_erased], "uniform", (0.02, 0.38)).statistic < 0.02


def test_the_numbers_never_change():
    """A run that resumes with another version of kapp must train on the same images."""
    row = sampling.view_params(seed=0, epoch=0, num_samples=3, augmentation=ALL)[1]
    bits = np.random.Philox(np.random.SeedSequence([0, 0, 1])).random_raw(45).reshape(15, 3)[:, 1]
    uniform = bits / 2.0**64
    found = dict(zip(sampling.PARAMS, row.astype(float)))
    assert found["zoom"] ** 2 == pytest.approx(0.3 + 0.7 * uniform[0], rel=1e-6)
    assert found["zoom_left"] == pytest.approx(uniform[2] * (1 - found["zoom"]), abs=1e-5)
    assert found["brightness"] == pytest.approx(0.6 + 0.8 * uniform[5], rel=1e-6)
    assert (found["erased_bottom"] > found["erased_top"]) == (uniform[6] < 0.5)
    assert (found["mix_weight"] < 1) == (uniform[11] < 0.5)
    if found["mix_weight"] < 1:
        assert found["mix_weight"] == pytest.approx(stats.beta(0.8, 0.8).ppf(uniform[12]), rel=1e-5)


def test_a_setting_changes_neither_the_order_nor_the_other_settings():
    samples = np.arange(50, dtype=np.int32)
    plain = pipelines.epoch_batch(samples, 1, 2, Augmentation(2))
    assert plain.keys() == {"sample", "view"}
    mixed = pipelines.epoch_batch(samples, 1, 2, Augmentation(2, mixup=1.0))
    every = pipelines.epoch_batch(samples, 1, 2, ALL)
    for batch in (mixed, every):
        np.testing.assert_array_equal(batch["sample"], plain["sample"])
        np.testing.assert_array_equal(batch["view"], plain["view"])
    one = params_of(Augmentation(brightness=0.4), 50)
    np.testing.assert_array_equal(one["brightness"], params_of(ALL, 50)["brightness"])
    assert (one["zoom"] == 1).all()
    assert (one["brightness"] != params_of(ALL, 50, epoch=1)["brightness"]).all()


def test_the_partner_is_the_next_position_of_the_plan_whatever_the_batch_size():
    samples = np.arange(100, 123, dtype=np.int32)
    plan = pipelines.epoch_batch(samples, 3, 0, ALL)
    assert (plan["partner_sample"] != plan["sample"]).all()
    for name in ("sample", "view", "params"):
        np.testing.assert_array_equal(plan[f"partner_{name}"], np.roll(plan[name], -1, axis=0))
    for batch_size in (4, 10):
        batches = iter(pipelines.train_batches(samples, batch_size, seed=3, augmentation=ALL))
        read = [next(batches)[0] for _ in range(len(samples) // batch_size)]
        for name, column in plan.items():
            found = np.concatenate([keras.ops.convert_to_numpy(batch[name]) for batch in read])
            np.testing.assert_array_equal(found, column[: len(found)])


def test_views_come_again_where_all_are_numbered():
    assert Augmentation(3, False).repeats
    assert Augmentation(3, False).settings == {"crop_padding": 3, "flip": False}
    for name, augmentation in VIEWS.items():
        assert not augmentation.repeats
        if name != "all":
            assert augmentation.settings.keys() == {"crop_padding", "flip", name}


def test_the_identity_of_older_runs_knows_what_is_off():
    off = {k: v for k, v in vars(Augmentation()).items() if k not in ("crop_padding", "flip")}
    assert off.items() <= ADDED_SETTINGS.items()
