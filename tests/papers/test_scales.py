"""What each scale makes of the papers' settings, as numbers written out."""

import pytest

from kapp.errors import ConfigError
from kapp.papers import hu, ratusznik, scales
from kapp.papers.hparams import HParams
from kapp.recipes import distill, train, transfer
from kapp.recipes.distill import TeacherFlags
from kapp.recipes.settings import NetworkFlags


def test_paper_is_what_the_papers_print():
    linear = train.Config(model="linear_3").resolved()
    assert linear.hparams == HParams(75, 32, "adam", 0.001)
    assert linear.network.width == 1
    assert linear.data.train_images is None
    distilled = distill.Config(teacher=("teacher_1",), student="shallow_resnet").resolved()
    assert distilled.hparams.epochs == 200
    assert distilled.teacher_training.teacher_epochs == (250,)
    assert scales.get("paper").changes(scales.KINDS) == []


def test_short_has_the_full_width_and_a_tenth_of_the_epochs_or_a_fifth():
    linear = train.Config(model="linear_3", scale="short").resolved()
    assert linear.hparams == HParams(15, 128, "adam", 0.002, schedule="cosine", warmup_epochs=1)
    assert (linear.network.width, linear.data.train_images) == (1, None)
    assert train.Config(model="teacher_1", scale="short").resolved().hparams.epochs == 25
    all_cnn = train.Config(model="all_cnn_c", scale="short").resolved()
    assert all_cnn.hparams == HParams(
        35, 128, "sgd", 0.05, weight_decay=0.001, schedule="cosine", warmup_epochs=2
    )
    distilled = distill.Config(teacher=("teacher_1",), student="conv_1", scale="short").resolved()
    # As long as the paper's, compared with labels: 300 to 75.
    assert (distilled.hparams.epochs, distilled.baseline_epochs) == (60, 15)
    phases = transfer.Config(scale="short").resolved()
    assert (phases.scratch_epochs, phases.phases.probe_epochs, phases.hparams.epochs) == (140, 20, 20)
    assert phases.source_training.source_epochs == 35


def test_small_is_narrow_and_has_few_images():
    small = distill.Config(scale="small").resolved()
    assert (small.hparams.epochs, small.baseline_epochs) == (20, 20)
    assert small.teacher_training.teacher_epochs == (20,)
    assert (small.width, small.teacher_training.teacher_width, small.data.train_images) == (
        0.125,
        0.125,
        4000,
    )
    phases = transfer.Config(scale="small").resolved()
    assert (phases.data.train_images, phases.source_training.source_images) == (800, 4000)
    assert phases.network.width == 0.125


@pytest.mark.parametrize("scale", ["paper", "short", "small"])
@pytest.mark.parametrize("row", [row for row in ratusznik.ROWS if row.teacher], ids=lambda row: row.name)
def test_a_distillation_shares_its_teacher_and_baseline_with_train(scale, row):
    """Else the same network would be trained twice."""
    settings = distill.Config(
        teacher=(row.teacher,),
        student=row.model,
        scale=scale,
        teacher_training=TeacherFlags(teacher_width=0.5),
    ).resolved()
    teacher = train.Config(model=row.teacher, scale=scale, network=NetworkFlags(width=0.5)).resolved()
    baseline = train.Config(model=row.model, scale=scale).resolved()
    assert settings.needed_runs == [teacher, baseline]


@pytest.mark.parametrize("scale", ["paper", "short", "small"])
def test_a_transfer_shares_its_source_with_train(scale):
    settings = transfer.Config(model="all_cnn_c", scale=scale, target=("cifar100:class1",)).resolved()
    source, scratch = settings.needed_runs
    assert source == train.Config(model="all_cnn_c", scale=scale).resolved()
    assert (scratch.dataset, scratch.model) == ("cifar100:class1", "all_cnn_c")


def test_the_source_of_a_transfer_has_its_own_split_and_rates():
    settings = transfer.Config(
        model="all_cnn_c",
        source_training=transfer.SourceFlags(
            source_validation_images=1000, source_rates=(0.005, 0.001, 0.0005, 0.0001)
        ),
    ).resolved()
    source, scratch = settings.needed_runs
    assert (source.data.validation_images, scratch.data.validation_images) == (1000, None)
    assert (source.hparams.learning_rate, source.hparams.rates) == (0.005, (0.005, 0.001, 0.0005, 0.0001))
    assert source.hparams.milestones == (200, 250, 300)
    assert (scratch.hparams.learning_rate, scratch.hparams.rates) == (0.05, ())


def test_a_flag_goes_before_the_scale():
    hparams = train.Config(scale="short").resolved().hparams
    assert hparams.schedule == "cosine"
    from kapp.recipes.settings import HParamFlags

    constant = train.Config(scale="short", hparams=HParamFlags(schedule="constant", epochs=7)).resolved()
    assert constant.hparams == HParams(7, 128, "adam", 0.002)
    steps = train.Config(scale="short", hparams=HParamFlags(schedule="multistep", epochs=7)).resolved()
    assert (steps.hparams.milestones, steps.hparams.warmup_epochs) == ((4, 5, 6), 0)


def test_a_code_variant_keeps_its_own_values_at_every_scale():
    network = NetworkFlags(code_variants=("schedule", "batch"))
    hparams = train.Config(model="all_cnn_c", scale="short", network=network).resolved().hparams
    assert hparams == HParams(35, 4, "sgd", 0.001, weight_decay=0.001)


def test_each_teacher_has_its_own_epochs():
    settings = distill.Config(teacher=("teacher_1", "conv_1")).resolved()
    assert [each.hparams.epochs for each in settings.needed_runs] == [250, 75, 75]
    one = distill.Config(teacher=("teacher_1", "conv_1"), teacher_training=TeacherFlags(teacher_epochs=(9,)))
    assert one.resolved().teacher_training.teacher_epochs == (9, 9)
    two = TeacherFlags(teacher_epochs=(9, 8))
    both = distill.Config(teacher=("teacher_1", "conv_1"), teacher_training=two).resolved()
    assert [each.hparams.epochs for each in both.needed_runs] == [9, 8, 75]
    with pytest.raises(ConfigError, match="--teacher-epochs has 2 values for 1 teachers"):
        distill.Config(teacher=("teacher_1",), teacher_training=two).check()


def test_an_unknown_scale_is_refused():
    with pytest.raises(ConfigError, match="unknown scale 'shrt'. Did you mean 'short'"):
        scales.get("shrt")


def test_every_network_of_hu_has_its_printed_rates_and_epochs():
    assert {row.epochs for row in hu.rows("3")} == {350}
    assert [row.accuracy for row in hu.rows("4")] == [0.6875, 0.6845, 0.5210, 0.3865, 0.7505, 0.7510]
