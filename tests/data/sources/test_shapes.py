import numpy as np
import pytest

from kapp.data.sources import shapes

KINDS = list(shapes.CLASSES)


@pytest.fixture(scope="module")
def drawn():
    return {kind: (shapes.draw(kind, 2000, 0), shapes.draw(kind, 1000, 1)) for kind in KINDS}


def nearest_mean_accuracy(features, train, test):
    """Test accuracy of the classifier that predicts the class of the nearest mean feature."""
    (x, y), (x_test, y_test) = train, test
    x, x_test = features(x), features(x_test)
    means = np.stack([x[y == label].mean(axis=0) for label in range(10)])
    distances = np.linalg.norm(x_test[:, None] - means, axis=-1)
    return (distances.argmin(axis=1) == y_test).mean()


def mean_color(images):
    return images.mean(axis=(1, 2))


def form(images):
    """Area and outline of the pixels that differ from the median color."""
    pixels = images.astype(np.int16)
    figure = np.abs(pixels - np.median(pixels, axis=(1, 2), keepdims=True)).max(axis=-1) > 60
    outline = [(np.diff(figure, axis=axis) != 0).mean(axis=(1, 2)) for axis in (1, 2)]
    return np.stack([figure.mean(axis=(1, 2)), sum(outline)], axis=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_types_of_images_and_labels(kind, drawn):
    images, labels = drawn[kind][0]
    assert (images.shape, images.dtype) == ((2000, 32, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((2000,), np.int32)
    assert (images.min(), images.max()) == (0, 255), "values use the full range"


def test_every_kind_has_ten_different_classes():
    assert KINDS == ["shapes", "near", "far"]
    assert len({name for names in shapes.CLASSES.values() for name in names}) == 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [0, 1, 50, shapes.BLOCK, shapes.BLOCK + 7])
def test_fewer_images_are_the_first_of_more(kind, count, drawn):
    images, labels = shapes.draw(kind, count, 0)
    np.testing.assert_array_equal(images, drawn[kind][0][0][:count])
    np.testing.assert_array_equal(labels, drawn[kind][0][1][:count])


@pytest.mark.parametrize("kind", KINDS)
def test_all_images_of_two_seeds_are_different(kind, drawn):
    (images, _), (others, _) = drawn[kind]
    assert len({image.tobytes() for image in (*images, *others)}) == 3000


@pytest.mark.parametrize("kind", KINDS)
def test_every_ten_labels_contain_each_class_once_in_random_order(kind, drawn):
    tens = drawn[kind][0][1].reshape(-1, 10)
    np.testing.assert_array_equal(np.sort(tens, axis=1), np.tile(np.arange(10), (200, 1)))
    assert len({tuple(ten) for ten in tens}) > 190


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_color_does_not_identify_the_class(kind, drawn):
    assert nearest_mean_accuracy(mean_color, *drawn[kind]) < 0.14  # chance 0.1, standard error 0.0095


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_identifies_the_class(kind, drawn):
    assert nearest_mean_accuracy(form, *drawn[kind]) > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_every_pattern_has_an_inside_and_an_outside(kind):
    v, u = np.mgrid[-2:2:200j, -2:2:200j]
    for name, pattern in shapes.PATTERNS[kind].items():
        inside = pattern(u, v) < 0
        assert 0.02 < inside.mean() < 0.98, name
        if kind != "far":
            assert np.hypot(u, v)[inside].max() < 1.4, f"{name} exceeds the unit disc"


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match=r"'nera'.*'near'.*Accepted: shapes, near, far"):
        shapes.draw("nera", 10, 0)


@pytest.mark.parametrize(("count", "seed"), [(-1, 0), (10, -1)])
def test_negative_counts_and_seeds_are_refused(count, seed):
    with pytest.raises(ValueError, match=f"received {count} and {seed}"):
        shapes.draw("shapes", count, seed)
