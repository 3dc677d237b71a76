"""A run folder becomes the page that people read, its report.md, with its figures."""

from collections.abc import Sequence

from kapp.reporting import figures, tables
from kapp.reporting.page import (
    draw_paired,
    draw_phases,
    image,
    link_to,
    page,
    results,
    selected,
    selection,
    settings,
    test_accuracy,
    words_of,
)
from kapp.reporting.tables import plain
from kapp.runs import Run


def run_page(run: Run) -> str:
    """The report of one network trained on labels; draws its curves and confusion matrix."""
    result = run.result
    name = f"{result['model']} on {result['dataset']}"
    if "phase" in result:
        name += f", {result['phase']} from {result['source']}"
    figures.curves(run.metrics(), run.figure("curves"), name, selected(result))
    figures.confusion(run.confusion(), run.figure("confusion"), f"{name}: test images")
    return page(
        f"# {name}",
        f"{result['model']}, {tables.amount(result['parameters'])} parameters, names "
        f"{test_accuracy(result)} of {result['test_images']:,} test images correctly after "
        f"{result['epochs']} epochs on labels.",
        selection(result),
        "## Results",
        results(result),
        "## Training",
        image("Loss and accuracy by epoch", "figures/curves.png"),
        "## Which classes are taken for which",
        image("Confusion matrix", "figures/confusion.png"),
        *settings(run),
    )


def distill_page(run: Run, baseline: Run | None, teachers: Sequence[Run]) -> str:
    """The report of one distillation; draws paper D's figures 1 to 3 and the confusion matrix.

    Args:
        run: the distilled student.
        baseline: the same student trained on labels, where there is one.
        teachers: those of the teachers that have a run; a .keras file has none.
    """
    result = run.result
    runs = [*([baseline] if baseline else []), run, *teachers]
    frame = tables.rows([each.folder for each in runs])
    source = " + ".join(result["teachers"])
    name = f"{result['model']} from {source}"
    figures.bars(frame, run.figure("accuracies"), result["dataset"])
    figures.confusion(run.confusion(), run.figure("confusion"), f"{name}: test images")
    teaching = [f"teacher {each.result['model']} {test_accuracy(each.result)}" for each in teachers]
    return page(
        f"# {name}, on {result['dataset']}",
        "; ".join([_headline(run, baseline), *teaching]) + ".",
        *([_verdict(run, baseline)] if baseline else []),
        *(
            ["With a label weight of 1 no teacher had a part in it."]
            if result.get("label_weight") == 1
            else []
        ),
        selection(result),
        "## Comparison",
        tables.comparison(frame),
        image("Test accuracies, as in paper D's figure 1", "figures/accuracies.png"),
        "## Training",
        *_learning(run, baseline),
        "## Results of the student",
        results(result),
        "## Which classes are taken for which",
        image("Confusion matrix", "figures/confusion.png"),
        *settings(run),
        "## The runs",
        "\n".join(f"- {words_of(each)}: {link_to(each, run.folder)}" for each in runs),
    )


def transfer_page(run: Run, phase1: Run, scratch: Run | None) -> str:
    """The report of one transfer; draws paper A's figures 1 to 3 and the confusion matrix.

    Args:
        run: of phase 2, whose report it is.
        phase1: of phase 1.
        scratch: the same network trained on the target alone, where there is one.
    """
    result = run.result
    runs = [*([scratch] if scratch else []), phase1, run]
    name = f"{result['model']} from {result['source']} to {result['dataset']}"
    draw_phases(run, phase1, scratch, run.figure("phases"))
    figures.confusion(run.confusion(), run.figure("confusion"), f"{name}: test images")
    shown = [f"{words} {test_accuracy(each.result)}" for words, each in zip(_phase_words(runs), runs)]
    return page(
        f"# {name}",
        f"Test accuracy, n = 1 seed each: {'; '.join(shown)}.",
        *([_gain(run, scratch)] if scratch else []),
        selection(result),
        "## Comparison",
        "As paper A's table 4:",
        tables.comparison(tables.rows([each.folder for each in runs])),
        "## Training",
        image("Accuracy by epoch of each phase, as in paper A's figures 1 to 3", "figures/phases.png"),
        *([_pace(runs)] if scratch and selected(result) else []),
        "## Results of phase 2",
        results(result),
        "## Which classes are taken for which",
        image("Confusion matrix", "figures/confusion.png"),
        *settings(run),
        "## The runs",
        "\n".join(f"- {words_of(each)}: {link_to(each, run.folder)}" for each in runs),
    )


def _headline(run: Run, baseline: Run | None) -> str:
    result = run.result
    lead = f"{result['model']} learned from {' + '.join(result['teachers'])}: "
    after = tables.percent(result["test_accuracy"])
    if baseline is None:
        return f"{lead}{test_accuracy(result)} distilled (n = 1 seed; no run on labels to compare with)"
    before = baseline.result["test_accuracy"]
    gain = 100 * (result["test_accuracy"] - before)
    return (
        f"{lead}{tables.percent(before)} on labels, {after} distilled ({gain:+.1f} points, n = 1 seed each)"
    )


def _verdict(run: Run, baseline: Run) -> str:
    """What may be concluded from two single runs: little, and said so."""
    taught, labels = run.result, baseline.result
    sentences = _compared("Distillation", taught, labels)
    changed = [
        f"{key.replace('_', ' ')} ({plain(labels[key]) or 'none'} on labels, "
        f"{plain(taught[key]) or 'none'} distilled)"
        for key in tables.TRAINING
        if key in labels and key in taught and labels[key] != taught[key]
    ]
    if changed:
        sentences += [f"Beside the teaching, the two runs differ in {', '.join(changed)}."]
    return " ".join(sentences)


def _gain(run: Run, scratch: Run) -> str:
    """The same of phase 2 and the network from scratch."""
    after, before = run.result, scratch.result
    gain = 100 * (after["test_accuracy"] - before["test_accuracy"])
    return " ".join(
        [
            f"Phase 2 is {gain:+.1f} points from training on {after['dataset']} alone "
            f"({before['epochs']} epochs).",
            *_compared("Transfer", after, before),
        ]
    )


def _compared(what: str, after: dict, before: dict) -> list[str]:
    (low, high), (low_before, high_before) = after["test_interval"], before["test_interval"]
    sentences = []
    if after["test_accuracy"] <= before["test_accuracy"]:
        sentences += [f"{what} did not help here."]
    if low <= high_before and low_before <= high:
        sentences += ["The 95% intervals overlap: these test images alone do not tell the two apart."]
    else:
        sentences += ["The 95% intervals do not overlap."]
    return [
        *sentences,
        "They count the luck of the test images, not of the seed: one seed each cannot settle it.",
    ]


def _pace(runs: Sequence[Run]) -> str:
    """When each phase first did as well on validation images as the network from scratch ever did."""
    scratch, *phases = runs
    goal = scratch.result["val_accuracy"]
    sentences = [f"From scratch the best validation accuracy was {tables.percent(goal)}."]
    for words, phase in zip(("Phase 1", "Phase 2"), phases):
        reached = [row["epoch"] for row in phase.epochs() if row["val_accuracy"] >= goal]
        sentences += [
            f"{words} had it after epoch {reached[0]:.4g}." if reached else f"{words} never had it."
        ]
    return " ".join(sentences)


def _phase_words(runs: Sequence[Run]) -> list[str]:
    return [each.result.get("phase", "from scratch") for each in runs]


def _learning(run: Run, baseline: Run | None) -> list[str]:
    """Paper D's figures 2 and 3, or the student's own curves where there is nothing beside it."""
    if baseline is None:
        figures.curves(run.metrics(), run.figure("curves"), words_of(run))
        return [image("Loss and accuracy by epoch", "figures/curves.png")]
    for quantity in ("loss", "accuracy"):
        draw_paired(run, baseline, quantity, run.figure(quantity))
    return [
        image("Loss distilled (left) and on labels, paper D's figure 2", "figures/loss.png"),
        "The two losses have different units: compare their shapes, not their heights.",
        image("Accuracy distilled (left) and on labels, paper D's figure 3", "figures/accuracy.png"),
    ]
