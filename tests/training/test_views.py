"""Training in views that never come again: mixed labels, cached teacher logits, exact resume."""

import dataclasses

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Augmentation, pipelines
from kapp.errors import ConfigError, KappError
from kapp.training import Distiller, Learner, TeacherLogits, loop
from kapp.training.linear_probe import LinearProbe, replace_head, should_cache
from tests.data.test_views import on_backend, reference_views
from tests.helpers import untimed_metrics
from tests.training.helpers import hparams, new_run, predict, softmax, state_of, to_numpy

SEED = 3
MIXED = Augmentation(1, mixup=0.8, cutmix=1.0)
ALL = Augmentation(1, True, 0.3, 0.2, 0.5, 0.4, 0.5, 0.8, 1.0)


@pytest.fixture(scope="module")
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}")  # 160 to train on, 40 for validation, 50 to test


def network(seed: int = 1, notation: str = "4c-mp-d0.3-3fc") -> keras.Model:
    return models.build(notation, 3, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, seed=seed)


def plan_of(dataset, augmentation=ALL, epoch: int = 0) -> dict:
    return pipelines.epoch_batch(dataset.train.samples, SEED, epoch, augmentation)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_loss_has_both_labels_by_their_shares(streamed, tiny_npz):
    dataset = data.load(f"npz:{tiny_npz}", streamed=streamed)
    plan, model = plan_of(dataset, MIXED), network()
    views, share = reference_views(plan, dataset.images, MIXED)
    learner = Learner(model, dataset, MIXED)
    columns = on_backend(pipelines.with_images(plan, dataset.images if streamed else None))
    batch = learner.preprocess_batch((columns,))
    np.testing.assert_allclose(to_numpy(batch.inputs), views, atol=1e-3)
    logits = predict(model, to_numpy(batch.inputs))
    loss = to_numpy(learner.per_sample_loss(batch, keras.ops.convert_to_tensor(logits.astype("float32"))))
    own, partner = (dataset.labels[plan[name]] for name in ("sample", "partner_sample"))
    targets = share[:, None] * np.eye(3)[own] + (1 - share)[:, None] * np.eye(3)[partner]
    np.testing.assert_allclose(loss, -(targets * np.log(softmax(logits))).sum(axis=1), rtol=1e-4, atol=1e-5)
    # The accuracy counts the label of the larger part.
    clear = np.abs(share - 0.5) > 1e-3
    np.testing.assert_array_equal(to_numpy(batch.labels)[clear], np.where(share > 0.5, own, partner)[clear])


def test_the_distillation_loss_has_no_part_in_it(dataset):
    """Only the label part mixes labels; the teacher sees the mixed image."""
    teacher, student = network(), network(9, "8fc-3fc")
    distiller = Distiller(teacher, student, dataset, MIXED)
    distiller.compile("sgd", distillation_loss="prob_mse", label_weight=0.25)
    plan = plan_of(dataset, MIXED)
    batch = distiller.preprocess_batch((on_backend(plan),))
    images = to_numpy(batch.inputs)
    logits, other = predict(student, images), predict(teacher, images)
    np.testing.assert_allclose(to_numpy(batch.teacher_logits), other, rtol=1e-3, atol=1e-4)
    _, share = reference_views(plan, dataset.images, MIXED)
    targets = share[:, None] * np.eye(3)[dataset.labels[plan["sample"]]]
    targets += (1 - share)[:, None] * np.eye(3)[dataset.labels[plan["partner_sample"]]]
    expected = 0.75 * ((softmax(logits) - softmax(other)) ** 2).mean(axis=1)
    expected -= 0.25 * (targets * np.log(softmax(logits))).sum(axis=1)
    loss = distiller.per_sample_loss(batch, keras.ops.convert_to_tensor(logits.astype("float32")))
    np.testing.assert_allclose(to_numpy(loss), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", ["dkd", "nkd"])
def test_a_loss_that_needs_one_label_is_refused_for_mixed_images(loss, dataset):
    distiller = Distiller(network(), network(9, "8fc-3fc"), dataset, MIXED)
    with pytest.raises(ConfigError, match=f"--distillation-loss {loss} needs one label per image"):
        distiller.compile("sgd", distillation_loss=loss)
    unmixed = Distiller(network(), network(9, "8fc-3fc"), dataset, Augmentation(1, hue=0.1))
    unmixed.compile("sgd", distillation_loss=loss)


@pytest.mark.parametrize("augmentation", [ALL, Augmentation(1, brightness=0.3, random_erasing=0.5)])
def test_cached_logits_are_the_live_ones_within_float16(augmentation, dataset, tmp_path):
    cache = TeacherLogits(network(), dataset, augmentation, folder=tmp_path)
    live = Distiller(network(), network(9, "8fc-3fc"), dataset, augmentation)
    for epoch in (0, 1):
        sample, logits = cache.get_epoch(SEED, epoch, 160)
        plan = plan_of(dataset, augmentation, epoch)
        np.testing.assert_array_equal(sample, plan["sample"])
        images = to_numpy(live.network_inputs(on_backend(plan)))
        expected = predict(network(), images)
        assert logits.dtype == np.float16
        np.testing.assert_allclose(logits, expected, rtol=2**-10, atol=1e-4)
        unchanged = predict(network(), dataset.images[sample])
        assert np.abs(logits - unchanged).max() > 0.1


def test_each_epoch_has_its_own_file_of_one_row_per_position(dataset, tmp_path):
    cache = TeacherLogits(network(), dataset, ALL, folder=tmp_path)
    assert cache.get_epoch(SEED, 0, 100)[1].shape == (100, 3)
    files = sorted(file.relative_to(cache.folder).as_posix() for file in cache.folder.rglob("*.npy"))
    assert files == ["seed_3/epoch_0000.npy"]
    rows = np.load(cache.folder / files[0])
    assert rows.shape == (160, 4)
    assert (rows[:100, -1] != 0).all()
    assert (rows[100:] == 0).all()  # positions of the incomplete last batch
    first = cache.get_epoch(SEED, 0, 160)[1]
    cache._networks = None  # nothing is computed again: for another student, or with another batch size
    cache._model = None
    np.testing.assert_array_equal(cache.get_epoch(SEED, 0, 160)[1], first)
    assert cache.size(0) == 250 * 4 * 2
    assert cache.size(7) == (250 + 7 * 160) * 4 * 2


def test_seeds_and_settings_share_nothing(dataset, tmp_path):
    cache = TeacherLogits(network(), dataset, ALL, folder=tmp_path)
    assert (cache.get_epoch(0, 0, 160)[1] != cache.get_epoch(1, 0, 160)[1]).any()
    others = [Augmentation(1), Augmentation(1, hue=0.1), Augmentation(1, hue=0.2), Augmentation(1, mixup=0.1)]
    folders = {TeacherLogits(network(), dataset, each, folder=tmp_path).folder for each in others}
    assert len(folders | {cache.folder}) == 5


def test_the_order_of_flips_has_its_own_logits(dataset, tmp_path):
    """Of the same positions, whose images are mirrored in other epochs."""
    alternating = dataclasses.replace(MIXED, flip_order="alternating")
    expected = TeacherLogits(network(), dataset, alternating, folder=tmp_path / "own").get_epoch(SEED, 0, 160)
    TeacherLogits(network(), dataset, MIXED, folder=tmp_path / "shared").get_epoch(SEED, 0, 160)
    found = TeacherLogits(network(), dataset, alternating, folder=tmp_path / "shared").get_epoch(SEED, 0, 160)
    np.testing.assert_array_equal(found[1], expected[1])
    # A row of views that repeat is a view: the order doesn't matter.
    orders = [Augmentation(1), Augmentation(1, flip_order="alternating")]
    assert len({TeacherLogits(network(), dataset, each, folder=tmp_path).folder for each in orders}) == 1


def test_a_changed_bit_of_an_epoch_is_noticed(dataset, tmp_path):
    cache = TeacherLogits(network(), dataset, ALL, folder=tmp_path)
    cache.get_epoch(SEED, 0, 160)
    file = cache.folder / "seed_3" / "epoch_0000.npy"
    np.load(file, mmap_mode="r+")[7, 1] ^= 1 << 9
    with pytest.raises(KappError, match=f"teacher logits in {file} are damaged"):
        cache.get_epoch(SEED, 0, 160)


def test_other_training_images_than_those_of_the_cache_are_refused(dataset, tmp_path):
    distiller = Distiller(TeacherLogits(network(), dataset, ALL, folder=tmp_path), network(9, "8fc-3fc"))
    with pytest.raises(ConfigError, match="for all training images of the data set"):
        distiller.fit_callbacks(samples=dataset.train.samples[:20], batch_size=5, seed=0, steps=4)


def distiller_of(kind: str, dataset, folder, student) -> Learner:
    if kind == "labels":
        return Learner(student, dataset, ALL)
    teacher = network(1, "8fc-3fc")
    if kind == "cached":
        teacher = TeacherLogits(teacher, dataset, ALL, folder=folder)
    return Distiller(teacher, student, dataset, ALL)


def trained(kind, dataset, folder, stops=(None,)):
    """A run of two epochs that is interrupted at `stops`, each time resumed by a new Learner."""
    run = new_run(folder / "run")
    for stop in stops:
        learner = distiller_of(kind, dataset, folder, network(9, "6c-mp-d0.3-8fc-3fc"))
        settings = {} if kind == "labels" else {"distillation_loss": "kl", "label_weight": 0.2}
        learner.compile(keras.optimizers.SGD(0.05, momentum=0.9), **settings)
        loop.fit(learner, dataset, run, hparams(epochs=2, batch_size=25), seed=SEED, stop_epoch=stop)
    return run, state_of(learner.network)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["labels", "cached"])
def test_a_run_resumes_exactly_even_with_streamed_images(kind, tiny_npz, tmp_path):
    resident, streamed = (data.load(f"npz:{tiny_npz}", streamed=each) for each in (False, True))
    whole, state = trained(kind, resident, tmp_path / "whole")
    resumed, other = trained(kind, streamed, tmp_path / "resumed", stops=(1, None))
    assert untimed_metrics(resumed) == untimed_metrics(whole)
    for one, two in zip(state, other, strict=True):
        np.testing.assert_array_equal(one, two)


def test_cached_logits_train_as_live_teachers_do(dataset, tmp_path):
    live, cached = (trained(kind, dataset, tmp_path / kind)[0].metrics_rows() for kind in ("live", "cached"))
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose([r[column] for r in cached], [r[column] for r in live], rtol=2e-3)


def test_features_are_not_cached(dataset):
    split = replace_head(network(), 3)
    assert should_cache(split, dataset, Augmentation(0), epochs=1000)
    assert not should_cache(split, dataset, Augmentation(0, hue=0.1), epochs=1000)
    with pytest.raises(ConfigError, match="for crops and flips only"):
        LinearProbe(split, dataset, Augmentation(0, hue=0.1), cache_features=True)


def test_color_is_refused_for_gray_images(tmp_path):
    images = {name: np.zeros((30, 8, 8), np.uint8) for name in ("x_train", "x_test")}
    labels = {name: np.arange(30) % 2 for name in ("y_train", "y_test")}
    np.savez(tmp_path / "gray.npz", **images, **labels)
    gray = data.load(f"npz:{tmp_path / 'gray.npz'}")
    with pytest.raises(ConfigError, match="--hue and --saturation are for RGB images"):
        Learner(models.build("8fc-2fc", **gray.model_arguments), gray, Augmentation(1, saturation=0.5))
