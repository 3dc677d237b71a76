"""The loss leaves out labels that there aren't; the rest of the training is as with them."""

import keras
import numpy as np
import pytest

from kapp import data, models
from kapp.data import Augmentation, pipelines
from kapp.errors import ConfigError
from kapp.training import Distiller, Learner, TeacherLogits, loop
from tests.data.test_unlabeled import EXTRA
from tests.data.test_views import on_backend
from tests.helpers import untimed_metrics
from tests.training.helpers import hparams, new_run, predict, softmax, to_numpy

AUGMENTATION = Augmentation(1)


@pytest.fixture
def dataset(tiny_npz):
    return data.load(f"npz:{tiny_npz}").hide_labels(60).add_unlabeled(EXTRA)  # 60 of 190 have labels


def network(seed: int = 1, notation: str = "8fc-3fc") -> keras.Model:
    return models.build(notation, 3, image_shape=(8, 8, 3), mean=[120] * 3, std=[60] * 3, seed=seed)


def distiller_of(dataset, teacher=None, augmentation=AUGMENTATION, **settings) -> Distiller:
    distiller = Distiller(teacher or network(), network(9), dataset, augmentation)
    distiller.compile(
        keras.optimizers.SGD(0.05), **{"distillation_loss": "kl", "label_weight": 0.3, **settings}
    )
    return distiller


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("augmentation", [AUGMENTATION, Augmentation(1, mixup=1.0)])
def test_the_label_part_is_0_without_a_label(dataset, augmentation, weighted):
    distiller = distiller_of(
        dataset, augmentation=augmentation, distill_weight=0.5, distillation_loss="prob_mse"
    )
    plan = pipelines.epoch_batch(dataset.train.samples, 3, 0, augmentation)
    weight = np.linspace(0, 2, 190).astype("float32") if weighted else None
    data = (on_backend(plan), None, keras.ops.convert_to_tensor(weight)) if weighted else (on_backend(plan),)
    batch = distiller.preprocess_batch(data)
    images = to_numpy(batch.inputs)
    student, teacher = softmax(predict(network(9), images)), softmax(predict(network(), images))
    labels = dataset.labels[plan["sample"]]
    targets = np.where(labels[:, None] >= 0, np.eye(3)[labels], 0)
    if augmentation.mixes:
        partners, share = dataset.labels[plan["partner_sample"]], plan["params"][:, 10].astype(float)[:, None]
        targets = share * targets + (1 - share) * np.where(partners[:, None] >= 0, np.eye(3)[partners], 0)
    expected = 0.5 * ((student - teacher) ** 2).mean(axis=1) - 0.3 * (targets * np.log(student)).sum(axis=1)
    weights = weight if weighted else np.ones(190)
    loss = distiller.batch_loss(batch, training=False)
    np.testing.assert_allclose(float(to_numpy(loss)), (weights * expected).mean(), rtol=2e-3)
    if not augmentation.mixes:
        right = weights[labels >= 0] * (student.argmax(axis=1) == labels)[labels >= 0]
        found = float(to_numpy(distiller.accuracy.result()))
        assert found == pytest.approx(right.sum() / weights[labels >= 0].sum(), rel=1e-4)


def test_only_the_labels_in_use_change_the_training(dataset, tmp_path):
    """A hidden label has no effect, whatever it was; a label in use has one."""
    rows = []
    for i, changed in enumerate((None, dataset.train.samples[70], dataset.train.samples[7])):
        labels = data_with(dataset, changed)
        run = new_run(tmp_path / str(i))
        loop.fit(distiller_of(labels), labels, run, hparams(batch_size=19), seed=3)
        rows.append(untimed_metrics(run))
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


def data_with(dataset, changed):
    """The data set, where before its labels were hidden that of the sample `changed` was another one."""
    source = dataset.source
    labels = source.labels.copy()
    if changed is not None:
        labels[changed] = (labels[changed] + 1) % 3
    parts = (
        data.Split(source.images, labels, p.samples) for p in (source.train, source.validation, source.test)
    )
    other = data.Dataset("tiny", source.images, labels, source.classes, *parts)
    return other.hide_labels(60).add_unlabeled(EXTRA)


def test_a_batch_without_any_label_trains(dataset):
    learner = Learner(network(), dataset, AUGMENTATION)
    learner.compile("sgd")
    batches = pipelines.train_batches(dataset.train.samples[60:], 13, seed=0, augmentation=AUGMENTATION)
    history = learner.fit(batches, steps_per_epoch=5, shuffle=False, verbose=0).history
    assert history["loss"] == [0.0]
    assert history["accuracy"] == [0.0]


@pytest.mark.parametrize("loss", ["dkd", "nkd"])
def test_a_loss_that_needs_every_label_is_refused(loss, dataset):
    with pytest.raises(ConfigError, match=f"--distillation-loss {loss} needs the label of every image"):
        distiller_of(dataset, distillation_loss=loss)


def test_teacher_logits_are_cached_for_added_images_and_shared_with_hidden_labels(
    dataset, tiny_npz, tmp_path
):
    plain = data.load(f"npz:{tiny_npz}")
    folders = [
        TeacherLogits(network(), each, AUGMENTATION, folder=tmp_path).folder
        for each in (plain, plain.hide_labels(60), dataset, plain.add_unlabeled(EXTRA[::-1]))
    ]
    assert folders[0] == folders[1]
    assert len({*folders}) == 3
    rows = []
    for kind in ("live", "cached"):
        teacher = network()
        if kind == "cached":
            teacher = TeacherLogits(teacher, dataset, AUGMENTATION, folder=tmp_path)
        run = new_run(tmp_path / kind)
        loop.fit(distiller_of(dataset, teacher), dataset, run, hparams(), seed=3)
        rows.append(run.metrics_rows())
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(*([row[column] for row in each] for each in rows), rtol=2e-3)
