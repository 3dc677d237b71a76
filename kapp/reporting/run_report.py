"""The report of one run: report.md, with its figures."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kapp import records
from kapp.data import validation_overlap
from kapp.records import RunResult
from kapp.reporting import differences, figures, tables
from kapp.reporting.markdown import (
    Block,
    BulletList,
    Figure,
    Heading,
    Paragraph,
    escape,
    link,
    to_markdown,
)
from kapp.reporting.tables import format_si, format_value, interval, percent
from kapp.run_folder import Run

NO_TEACHER = "The weight of the distillation loss is 0: the teacher had no influence."


def write(run: Run) -> None:
    """Writes the report of one network, with its curves and its confusion matrix."""
    result = run.result
    title = f"{result.model} on {result.dataset}"
    if result.phase:
        title += f", {tables.PHASES[result.phase]} from {result.source}"
    _write(
        run,
        [
            Heading(title, 1),
            _plain(
                f"{result.model}, {format_si(result.parameters)} parameters, classifies "
                f"{test_accuracy(result)} of {result.test_images:,} test images correctly after "
                f"{result.epochs} epochs on labels."
            ),
            Paragraph(_selection(run)),
            *map(_plain, filter(None, [overlap_sentences(result)])),
            Heading("Results"),
            _results(result),
            Heading("Training"),
            _curves(run, title),
            *_confusion(run, title),
            *_settings(run),
        ],
    )


def write_distillation(run: Run, baseline: Run | None, teachers: Sequence[Run]) -> None:
    """Writes the report of one distillation, with Ratusznik et al.'s figures 1 to 3 and the confusion matrix.

    Args:
        run: the distilled student.
        baseline: the same student trained on labels.
        teachers: the teachers that have a run; a .keras file has none.
    """
    result = run.result
    runs = [*([baseline] if baseline else []), run, *teachers]
    frame = tables.rows(each.folder for each in runs)
    title = f"{result.model} from {' + '.join(result.teachers)}"
    figures.bars(frame, run.figure("accuracies"), result.dataset)
    training: list[Block]
    if baseline:
        training = [
            Figure("figures/loss.png", "Loss distilled (left) and on labels, Ratusznik et al.'s figure 2"),
            Paragraph("The two losses have different units: compare their shapes, not their values."),
            Figure("figures/accuracy.png", "Accuracy distilled (left) and on labels, their figure 3"),
        ]
        for quantity in ("loss", "accuracy"):
            draw_pair(run, baseline, quantity, run.figure(quantity))
    else:
        training = [_curves(run, describe(run))]
    _write(
        run,
        [
            Heading(f"{title}, on {result.dataset}", 1),
            _plain(_distilled_accuracies(run, baseline, teachers)),
            *([_plain(_difference(run, baseline))] if baseline else []),
            *map(_plain, filter(None, [_labels(run, baseline)])),
            *([Paragraph(NO_TEACHER)] if run.config.settings.get("distill_weight") == 0 else []),
            Paragraph(_selection(run)),
            *map(_plain, filter(None, [overlap_sentences(result)])),
            Heading("Comparison"),
            *tables.comparison_blocks(frame),
            Figure("figures/accuracies.png", "Test accuracies, as in Ratusznik et al.'s figure 1"),
            Heading("Training"),
            *training,
            Heading("Results of the student"),
            _results(result),
            *_confusion(run, title),
            *_settings(run),
            *_runs(runs, run.folder),
        ],
    )


def write_transfer(run: Run, probe: Run, scratch: Run | None) -> None:
    """Writes the report of one transfer, with Hu 2018's figures 1 to 3 and the confusion matrix.

    Args:
        run: the fine-tuned network, whose report it is.
        probe: the linear probe that it started from.
        scratch: the same network trained on the target alone.
    """
    result = run.result
    runs = [*([scratch] if scratch else []), probe, run]
    title = f"{result.model} from {result.source} to {result.dataset}"
    draw_phases(run, probe, scratch, run.figure("phases"))
    accuracies = [f"{_phase(each)} {test_accuracy(each.result)}" for each in runs]
    _write(
        run,
        [
            Heading(title, 1),
            Paragraph(f"Test accuracy, n = 1 seed each: {'; '.join(accuracies)}."),
            *([_plain(_difference(run, scratch))] if scratch else []),
            Paragraph(_selection(run)),
            *map(_plain, filter(None, [overlap_sentences(result)])),
            Heading("Comparison"),
            Paragraph("As Hu 2018's table 4, which calls the linear probe phase 1 and fine-tuning phase 2:"),
            *tables.comparison_blocks(tables.rows(each.folder for each in runs)),
            Heading("Training"),
            Figure("figures/phases.png", "Accuracy per epoch of each phase, as in Hu 2018's figures 1 to 3"),
            *([Paragraph(_first_epochs(run, probe, scratch))] if scratch and has_validation(result) else []),
            Heading("Results of fine-tuning"),
            _results(result),
            *_confusion(run, title),
            *_settings(run),
            *_runs(runs, run.folder),
        ],
    )


def describe(run: Run) -> str:
    """Returns the model of a run and what it learned from, in words."""
    result = run.result
    if result.phase:
        return f"{result.model} from {result.source} to {result.dataset}, {tables.PHASES[result.phase]}"
    if not result.teachers:
        return f"{result.model} on labels"
    return f"{result.model} from {_supervision(run)}"


def test_accuracy(result: RunResult) -> str:
    """Returns the test accuracy with its 95% interval: "55.1% (54.1 to 56.1)"."""
    return interval(result.test_accuracy, *result.test_interval)


def has_validation(result: RunResult) -> bool:
    """Returns whether images were held out to select the network by."""
    return result.validation_images > 0


def overlap_sentences(result: RunResult) -> str:
    """Returns whether the teachers or the source of a run were trained on its validation images.

    "" where that doesn't apply, or where a run of an earlier version didn't record it.
    """
    if not result.validation_overlap or not has_validation(result):
        return ""
    role: Literal["teacher", "source"] = "teacher" if result.teachers else "source"
    names = result.teachers or (result.source or "",)
    warning = validation_overlap.warning(role, names, result.validation_overlap, result.validation_images)
    return warning or f"No {role} was trained on the validation images."


def draw_pair(distilled: Run, labels: Run, quantity: str, path: Path) -> None:
    """Draws "loss" or "accuracy" of a distilled student and of the same one on labels, side by side."""
    titles = (f"from {_supervision(distilled)}", "on labels (cross-entropy)")
    parts = [(title, each.metrics()) for title, each in zip(titles, (distilled, labels))]
    result = distilled.result
    figures.side_by_side(parts, quantity, path, result.model, has_validation(result))


def draw_phases(run: Run, probe: Run, scratch: Run | None, path: Path) -> None:
    """Draws the accuracies of a linear probe, of fine-tuning and of training from scratch, side by side."""
    result = run.result
    parts = [(_phase(each), each.metrics()) for each in (probe, run, *([scratch] if scratch else []))]
    title = f"{result.model} from {result.source} to {result.dataset}"
    figures.side_by_side(parts, "accuracy", path, title, has_validation(result))


def _plain(text: str) -> Paragraph:
    """A paragraph of plain text."""
    return Paragraph(escape(text))


def _write(run: Run, blocks: Sequence[Block]) -> None:
    run.write_report(to_markdown(blocks))


def _supervision(run: Run) -> str:
    loss = run.setting("distillation_loss", str)
    return f"{' + '.join(run.result.teachers)} ({loss})"


def _phase(run: Run) -> str:
    phase = run.result.phase
    return tables.PHASES[phase] if phase else "from scratch"


def _selection(run: Run) -> str:
    result = run.result
    if has_validation(result) and "last_epoch" in (run.config.settings.get("code_variants") or ()):  # type: ignore[operator]
        return (
            f"The network is that of the last epoch, {result.epochs}, as in Hu 2018's code: the validation "
            "images selected nothing. The test images were scored once, at the end."
        )
    if has_validation(result):
        return (
            f"The network is that of epoch {format_value(result.best_epoch)} of {result.epochs}, the best on "
            "validation images; the test images were scored once, at the end."
        )
    return (
        f"The network is that of the last epoch, {result.epochs}: no image was held out for selection. The "
        "curves are of the test images, as in Hu 2018; they selected nothing."
    )


def _distilled_accuracies(run: Run, baseline: Run | None, teachers: Sequence[Run]) -> str:
    student = f"{run.result.model} learned from {' + '.join(run.result.teachers)}: "
    distilled = f"{test_accuracy(run.result)} distilled"
    if baseline:
        student += f"{test_accuracy(baseline.result)} on labels, {distilled} (n = 1 seed each)"
    else:
        student += f"{distilled} (n = 1 seed; no run on labels to compare with)"
    others = [f"teacher {each.result.model} {test_accuracy(each.result)}" for each in teachers]
    return "; ".join([student, *others]) + "."


def _labels(run: Run, baseline: Run | None) -> str:
    """How many training images have labels, and what the baseline was trained on; "" where all have."""
    result = run.result
    if result.labeled_images in (None, result.train_images):
        return ""
    sentences = [f"{result.labeled_images:,} of the {result.train_images:,} training images have a label."]
    if result.unlabeled_images:
        sentences += [f"{result.unlabeled_images:,} were added without labels."]
    sentences += ["The student matches its teacher on all of them. The teacher may have used more labels."]
    if baseline:
        steps = ", as many gradient steps as the student"
        sentences += [
            f"The baseline is trained on {baseline.result.train_images:,} images for "
            f"{baseline.result.epochs} epochs{'' if run.config.settings.get('baseline_epochs') else steps}."
        ]
    return " ".join(sentences)


def _difference(run: Run, baseline: Run) -> str:
    """The paired comparison of a run with its baseline on the test images, and how else the two differ."""
    comparison = differences.compare_runs(run, baseline)
    if comparison is None:
        return differences.NO_TEST
    settings = [tables.merged(each) for each in (run, baseline)]
    changed = []
    for name in tables.TRAINING:
        values = [format_value(each[name]) or "none" for each in settings if name in each]
        if len({*values}) > 1:
            changed += [f"{name.replace('_', ' ')} ({' and '.join(values)})"]
    also = f" The two also differ in {', '.join(changed)}." if changed else ""
    names = ("Fine-tuning", "training from scratch")
    if run.result.teachers:
        names = ("Distillation", "training on labels")
    return f"{differences.describe(comparison, *names)} {differences.ONE_SEED}{also}"


def _first_epochs(run: Run, probe: Run, scratch: Run) -> str:
    """When each phase first reached the best validation accuracy of the network from scratch."""
    goal = scratch.result.val_accuracy
    assert goal is not None  # images were held out
    sentences = [f"The best validation accuracy from scratch is {percent(goal)}."]
    for name, each in (("The linear probe", probe), ("Fine-tuning", run)):
        epochs = [row["epoch"] for row in each.metrics_rows() if row["val_accuracy"] >= goal]
        sentences += [f"{name} {f'reaches it in epoch {epochs[0]:.4g}' if epochs else 'never reaches it'}."]
    return " ".join(sentences)


def _results(result: RunResult) -> Block:
    labeled = result.labeled_images
    return tables.pairs(
        {
            "training images with labels": None
            if labeled in (None, result.train_images)
            else f"{labeled:,} of {result.train_images:,}",
            "test accuracy (95% interval)": test_accuracy(result),
            "validation accuracy": None if result.val_accuracy is None else percent(result.val_accuracy),
            "test loss (cross-entropy, nats)": f"{result.test_loss:.3f}",
            "expected calibration error": f"{result.calibration_error:.3f}",
            "training images per second": f"{result.train_images_per_second:,.0f}",
            "minutes in total": f"{result.seconds / 60:.1f}",
        }
    )


def _curves(run: Run, title: str) -> Block:
    figures.curves(run.metrics(), run.figure("curves"), title, has_validation(run.result))
    return Figure("figures/curves.png", "Loss and accuracy per epoch")


def _confusion(run: Run, title: str) -> list[Block]:
    figures.confusion(run.confusion(), run.figure("confusion"), f"{title}: test images")
    return [Heading("Confusion matrix"), Figure("figures/confusion.png", "Confusion matrix")]


def _settings(run: Run) -> list[Block]:
    result = run.result
    names = ("precision", "scoring_precision", "backend", "device", "commit")
    computed = {name: getattr(result, name) for name in names}
    return [
        Heading("Settings"),
        tables.pairs({**records.to_json(run.config), **computed}),
        Paragraph(
            "[config.json](config.json) contains all of them: `--config` runs it again. "
            "[environment.json](environment.json) contains versions and the data's checksum, "
            "[metrics.csv](metrics.csv) every epoch."
        ),
    ]


def _runs(runs: Sequence[Run], folder: Path) -> list[Block]:
    """The runs that the report in `folder` compares, with relative links."""
    paths = [Path(os.path.relpath(run.folder, folder)).as_posix() for run in runs]
    items = [
        f"{escape(describe(run))}: {link(run.folder.name or path, path)}" for run, path in zip(runs, paths)
    ]
    return [Heading("The runs"), BulletList(items)]
