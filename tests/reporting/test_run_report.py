"""The report of a run contains its numbers and links to files that exist."""

import re

import pytest

from kapp.reporting import differences, figures, run_report, tables
from tests.reporting.helpers import add_predictions, assert_links_exist, cells


def values(text: str, heading: str) -> dict[str, str]:
    """The table of names and values below `heading`."""
    return {row[""]: row["value"] for row in cells(text.split(f"## {heading}\n")[1])}


def distillation(run, baseline, teachers=()) -> str:
    run_report.write_distillation(run, baseline, list(teachers))
    return run.report_file.read_text(encoding="utf-8")


def transfer(run, probe, scratch) -> str:
    run_report.write_transfer(run, probe, scratch)
    return run.report_file.read_text(encoding="utf-8")


@pytest.fixture
def three(make_run):
    """A distilled student, the same on labels, and the teacher; with predictions."""
    runs = (
        make_run("d", "linear_3", 0.582, teachers=["deep_resnet"]),
        make_run("b", "linear_3", 0.551),
        make_run("t", "deep_resnet", 0.902),
    )
    for run in runs:
        add_predictions(run)
    return runs


def test_the_report_of_a_run(make_run):
    run = make_run("a", "linear_3", 0.5512)
    run_report.write(run)
    text = run.report_file.read_text(encoding="utf-8")
    assert_links_exist(text, run.folder, 5)
    title, headline, *_ = text.split("\n\n")
    assert title == "# linear_3 on cifar10"
    assert "linear_3, 10.5M parameters, classifies 55.1% (54.1 to 56.1) of 10,000 test images" in headline
    assert "epoch 31 of 40" in text
    assert values(text, "Results") == {
        "test accuracy (95% interval)": "55.1% (54.1 to 56.1)",
        "validation accuracy": "55.5%",
        "test loss (cross-entropy, nats)": "1.234",
        "expected calibration error": "0.068",
        "training images per second": "12,346",
        "minutes in total": "12.6",
    }
    settings = {"recipe": "train", "width": "1", "backend": "tensorflow", "commit": "0123abc"}
    assert settings.items() <= values(text, "Settings").items()


def test_the_report_says_what_selected_and_scored_the_network(make_run):
    changes = {"precision": "mixed_bfloat16", "scoring_precision": "float32", "code_variants": ["last_epoch"]}
    run = make_run("a", "base_c", 0.8, **changes)
    run_report.write(run)
    text = run.report_file.read_text(encoding="utf-8")
    assert "that of the last epoch, 40, as in Hu 2018's code: the validation images selected nothing" in text
    settings = {"precision": "mixed_bfloat16", "scoring precision": "float32"}
    assert settings.items() <= values(text, "Settings").items()


def test_a_distillation_is_compared_with_labels_and_teacher(three):
    run, baseline, teacher = three
    text = distillation(run, baseline, [teacher])
    assert text.startswith("# linear_3 from deep_resnet, on cifar10\n")
    assert_links_exist(text, run.folder, 10)
    assert (
        "linear_3 learned from deep_resnet: 55.1% (54.1 to 56.1) on labels, 58.2% (57.2 to 59.2) distilled "
        "(n = 1 seed each); teacher deep_resnet 90.2% (89.6 to 90.8)."
    ) in text
    sentences = differences.describe(
        differences.compare_runs(run, baseline), "Distillation", "training on labels"
    )
    assert "+3.1 points" in sentences
    assert ": significant" in sentences
    assert f"{sentences} {differences.ONE_SEED}\n" in text
    assert tables.comparison(tables.rows([baseline.folder, run.folder, teacher.folder])) in text
    assert "[b](../b)" in text
    assert "[t](../t)" in text


def test_curves_of_a_distillation_without_validation_images_are_of_test_images(make_run, drawn):
    changes = {"validation_images": 0, "val_accuracy": None, "epochs": 3}
    run, baseline = make_run("d", teachers=["x"], **changes), make_run("b", **changes)
    distillation(run, baseline)
    labels = [line.get_label() for figure in drawn for axes in figure.axes for line in axes.lines]
    assert labels.count(figures.TEST_LABEL) == 4  # loss and accuracy, distilled and on labels
    assert "validation" not in labels


def test_a_distillation_that_is_not_significantly_different_and_trained_for_longer(make_run):
    run, baseline = (
        make_run("d", "linear_3", 0.552, teachers=["x"], epochs=60),
        make_run("b", "linear_3", 0.551),
    )
    for each in (run, baseline):
        add_predictions(each)
    text = distillation(run, baseline)
    assert "+0.1 points" in text
    assert "not significant at the 5% level" in text
    assert "The two also differ in epochs (60 and 40)." in text
    assert_links_exist(text, run.folder, 8)


def test_without_predictions_nothing_is_compared(make_run):
    run, baseline = make_run("d", "linear_3", 0.5, teachers=["deep_resnet"]), make_run("b", "linear_3", 0.551)
    text = distillation(run, baseline)
    assert text.count(differences.NO_TEST) == 1
    assert "points" not in text
    assert "significant" not in text


def test_the_report_says_whether_teachers_know_the_validation_images(make_run):
    for name, overlap, expected in (
        ("disjoint", (0, 0), "No teacher was trained on the validation images."),
        ("known", (0, 9000), "The teacher b was trained on 9,000 of the 10,000 validation images."),
        ("unknown", (None, 0), "It is unknown whether the teacher a was trained on the 10,000"),
    ):
        run = make_run(name, "linear_3", 0.5, teachers=["a", "b"], validation_overlap=overlap)
        text = distillation(run, None)
        assert text.index(expected) < text.index("## Comparison")
        assert ("too high" in text) == (name != "disjoint")
    for changes in ({}, {"validation_overlap": (None,), "validation_images": 0, "val_accuracy": None}):
        run = make_run(f"nothing-{len(changes)}", "linear_3", 0.5, teachers=["a"], **changes)
        assert "trained on the" not in distillation(run, None)


def test_a_distill_weight_of_zero_is_pointed_out(make_run):
    for weight, expected in ((0.0, True), (0.1, False)):
        run = make_run(f"student-{weight}", teachers=["deep_resnet"], distill_weight=weight)
        assert (run_report.NO_TEACHER in distillation(run, None)) == expected


def test_a_distillation_without_baseline_and_with_a_teacher_from_a_file(make_run):
    run = make_run("d", "linear_3", 0.582, teachers=["mine", "deep_resnet"])
    text = distillation(run, None, [make_run("t", "deep_resnet", 0.902)])
    assert "linear_3 learned from mine + deep_resnet: 58.2% (57.2 to 59.2) distilled" in text
    assert "no run on labels to compare with" in text
    assert "figures/curves.png" in text
    assert "figures/loss.png" not in text
    assert_links_exist(text, run.folder, 7)


@pytest.fixture
def transferred(make_run):
    """Fine-tuning, linear probe and the same network from scratch, on a small data set; with predictions."""

    def make(accuracy=0.75, **changes):
        target = {"dataset": "npz:near", "epochs": 20, "best_epoch": 18.0, **changes}
        from_source = {**target, "recipe": "transfer", "source": "cifar10", "head": "linear"}
        runs = (
            make_run("fine-tuned", "all_cnn_c", accuracy, phase="fine_tuning", **from_source),
            make_run("probe", "all_cnn_c", 0.52, phase="linear_probe", **from_source),
            make_run("scratch", "all_cnn_c", 0.69, **target),
        )
        for run in runs:
            add_predictions(run)
        return runs

    return make


def test_a_transfer_is_compared_with_training_from_scratch(transferred):
    run, probe, scratch = transferred()
    text = transfer(run, probe, scratch)
    assert_links_exist(text, run.folder, 6)
    assert (
        "from scratch 69.0% (68.1 to 69.9); linear probe 52.0% (51.0 to 53.0); "
        "fine-tuning 75.0% (74.1 to 75.8)."
    ) in text
    assert (
        differences.describe(differences.compare_runs(run, scratch), "Fine-tuning", "training from scratch")
        in text
    )
    assert "+6.0 points" in text
    assert "The best validation accuracy from scratch is 69.4%." in text
    assert tables.comparison(tables.rows([scratch.folder, probe.folder, run.folder])) in text
    assert "trained on the validation images" not in text  # the source is of other images


def test_a_source_that_knows_validation_images(transferred):
    run, probe, _ = transferred(validation_overlap=(30,))
    text = transfer(run, probe, None)
    assert "The source cifar10 was trained on 30 of the 10,000 validation images." in text
    assert "Do not choose between new networks by it." in text


@pytest.mark.parametrize(("accuracies", "expected"), [([0.5, 0.7, 0.8], "in epoch 2"), ([0.5], "never")])
def test_when_a_phase_reaches_the_accuracy_from_scratch(transferred, accuracies, expected):
    run, probe, scratch = transferred()
    rows = run.metrics_rows()
    run.write_metrics([{**row, "val_accuracy": value} for row, value in zip(rows, accuracies)])
    run.write_result(run.result)
    sentence = re.search(r"Fine-tuning [^.]*\.", transfer(run, probe, scratch).split("## Training")[1])
    assert expected in sentence[0]


def test_a_transfer_without_scratch_and_without_validation_images(transferred):
    run, probe, _ = transferred(validation_images=0, val_accuracy=None)
    text = transfer(run, probe, None)
    assert_links_exist(text, run.folder, 5)
    assert "scratch" not in text
    assert "The network is that of the last epoch, 20: no image was held out for selection." in text
    assert "validation accuracy" not in text
