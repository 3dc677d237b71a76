"""Pages say what the rows say, and point to files that are there."""

import re
from pathlib import Path

import pandas as pd
import pytest

from kapp.errors import WrongValue
from kapp.reporting import pages, summary, tables


def unpadded(page: str) -> str:
    return re.sub(" +", " ", page)


def assert_links_hold(page: str, folder: Path, least: int):
    """Every link and image of `page`, read in `folder`, leads somewhere; a picture is not empty."""
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) >= least
    for link in links:
        assert not Path(link).is_absolute()
        assert (folder / link).exists(), link
        assert not link.endswith(".png") or (folder / link).stat().st_size > 5_000


def complete(run):
    """Add the files that the training floor leaves, to be linked to."""
    run.write_environment({})
    return run


@pytest.fixture
def three(make_run):
    """A student distilled, the same on labels, the teacher."""
    return (
        complete(make_run("d", "linear_3", 0.582, teachers=["deep_resnet"])),
        make_run("b", "linear_3", 0.551),
        make_run("t", "deep_resnet", 0.902),
    )


def test_run_page_tells_the_outcome_and_shows_it(make_run):
    run = complete(make_run("a", "linear_3", 0.5512))
    page = pages.run_page(run)
    assert_links_hold(page, run.folder, 5)
    headline = page.split("\n\n")[1]
    assert "linear_3, 10.5M parameters, names 55.1% (54.1 to 56.1) of 10,000 test images" in headline
    assert "epoch 31 of 40" in page
    for name, value in {
        "test accuracy (95% interval)": "55.1% (54.1 to 56.1)",
        "validation accuracy": "55.5%",
        "test loss (cross-entropy, nats)": "1.234",
        "expected calibration error": "0.068",
        "training, images per second": "12,346",
        "minutes in all": "12.6",
        "backend": "tensorflow",
        "commit": "0123abc",
        "recipe": "train",
    }.items():
        assert f"| {name} | {value} |" in unpadded(page)


def test_distill_page_compares_with_labels_and_teacher(three):
    run, baseline, teacher = three
    page = pages.distill_page(run, baseline, [teacher])
    assert_links_hold(page, run.folder, 10)
    assert (
        "linear_3 learned from deep_resnet: 55.1% on labels, 58.2% distilled (+3.1 points, n = 1 seed "
        "each); teacher deep_resnet 90.2% (89.6 to 90.8)."
    ) in page
    assert "The 95% intervals do not overlap." in page
    assert "one seed each cannot settle it" in page
    assert "Beside the teaching" not in page
    assert tables.comparison(tables.rows([baseline.folder, run.folder, teacher.folder])) in page
    assert "[b](../b)" in page
    assert "[t](../t)" in page


def test_distill_page_says_when_the_images_do_not_settle_it(make_run):
    run = complete(make_run("d", "linear_3", 0.556, teachers=["x"], epochs=60))
    page = pages.distill_page(run, make_run("b", "linear_3", 0.551), [])
    assert "(+0.5 points" in page
    assert "The 95% intervals overlap" in page
    assert "did not help" not in page
    assert "the two runs differ in epochs (40 on labels, 60 distilled)." in page
    assert_links_hold(page, run.folder, 8)


def test_distill_page_says_when_it_did_not_help(make_run):
    run = complete(make_run("d", "linear_3", 0.5, teachers=["deep_resnet"]))
    page = pages.distill_page(run, make_run("b", "linear_3", 0.551), [])
    assert "(-5.1 points" in page
    assert "Distillation did not help here. The 95% intervals do not overlap." in page


def test_distill_page_says_when_no_teacher_had_a_part(make_run):
    said = "With a label weight of 1 no teacher had a part in it."
    for weight, expected in ((1.0, True), (0.9, False)):
        run = make_run(f"student-{weight}", teachers=["deep_resnet"], label_weight=weight)
        assert (said in pages.distill_page(run, None, [])) == expected


def test_distill_page_without_baseline_and_with_a_teacher_from_a_file(make_run):
    run = complete(make_run("d", "linear_3", 0.582, teachers=["mine", "deep_resnet"]))
    teacher = make_run("t", "deep_resnet", 0.902)
    page = pages.distill_page(run, None, [teacher])
    assert "linear_3 learned from mine + deep_resnet: 58.2% (57.2 to 59.2) distilled" in page
    assert "no run on labels to compare with" in page
    assert "figures/curves.png" in page
    assert "figures/loss.png" not in page
    assert_links_hold(page, run.folder, 7)


def test_summary_page_holds_every_run_and_pairs_the_curves(three, make_run, tmp_path):
    seed = make_run("b1", "linear_3", 0.561, seed=1)
    other = make_run("o", "linear_3", 0.3, teachers=["deep_resnet"], dataset="shapes:near", width=0.125)
    unfinished = make_run("u")
    (unfinished.folder / "result.json").unlink()
    runs = [*three, seed, other, unfinished]
    out = tmp_path / "reports" / "first"
    page = summary.summary_page(runs, out)

    assert (out / "README.md").read_text(encoding="utf-8") == page
    assert_links_hold(page, out, 5)
    frame = tables.rows([run.folder for run in runs])
    assert tables.comparison(frame) in page
    read = pd.read_csv(out / "rows.csv", keep_default_na=False)
    assert list(read["run"]) == ["d", "b", "t", "b1", "o"]
    assert list(read["test_accuracy"]) == list(frame["test_accuracy"])
    assert sorted(path.name for path in (out / "figures").iterdir()) == [
        "accuracies-cifar10.png",
        "accuracies-shapes_near.png",
        "accuracy-linear_3-cifar10-1-deep_resnet-prob_mse.png",
        "loss-linear_3-cifar10-1-deep_resnet-prob_mse.png",
    ]
    assert "| seed | 0, 1 |" in unpadded(page)
    assert "| dataset | cifar10, shapes:near |" in unpadded(page)


def test_summary_page_of_nothing_is_refused(tmp_path):
    with pytest.raises(WrongValue, match="no finished run"):
        summary.summary_page([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_page_is_text_for_the_run_to_write(three):
    run, baseline, teacher = three
    run.write_report(pages.distill_page(run, baseline, [teacher]))
    assert run.report_file.read_text(encoding="utf-8").startswith("# linear_3 from deep_resnet, on cifar10\n")


@pytest.fixture
def transferred(make_run):
    """Phase 2, phase 1 and the same network from scratch, on one small set."""

    def make(dataset="npz:near", accuracy=0.75, **changes):
        small = {"dataset": dataset, "epochs": 20, "best_epoch": 18, **changes}
        name = dataset.partition(":")[2]
        by = {**small, "recipe": "transfer", "source": "cifar10", "head": "linear"}
        return (
            complete(make_run(f"{name}-2", "all_cnn_c", accuracy, phase="phase 2", **by)),
            complete(make_run(f"{name}-1", "all_cnn_c", 0.52, phase="phase 1", **by)),
            complete(make_run(f"{name}-0", "all_cnn_c", 0.69, **small)),
        )

    return make


def test_transfer_page_compares_scratch_and_both_phases(transferred):
    whole, phase1, scratch = transferred()
    page = pages.transfer_page(whole, phase1, scratch)
    assert_links_hold(page, whole.folder, 6)
    assert (
        "from scratch 69.0% (68.1 to 69.9); phase 1 52.0% (51.0 to 53.0); phase 2 75.0% (74.1 to 75.8)."
        in page
    )
    assert "Phase 2 is +6.0 points from training on npz:near alone (20 epochs)." in page
    assert "The 95% intervals do not overlap." in page
    assert "From scratch the best validation accuracy was 69.4%." in page
    assert tables.comparison(tables.rows([scratch.folder, phase1.folder, whole.folder])) in page


def test_transfer_page_says_when_it_did_not_help(transferred):
    page = pages.transfer_page(*transferred(accuracy=0.68))
    assert "Phase 2 is -1.0 points" in page
    assert "Transfer did not help here. The 95% intervals overlap" in page


def test_transfer_page_without_scratch_and_without_validation_images(transferred):
    whole, phase1, _ = transferred(validation_images=0, val_accuracy=None)
    page = pages.transfer_page(whole, phase1, None)
    assert_links_hold(page, whole.folder, 5)
    assert "scratch" not in page
    assert "The network is that of the last epoch, 20: no image was held out to select by." in page
    assert "validation accuracy" not in page


def test_summary_page_draws_each_transfer(transferred, tmp_path):
    runs = [*transferred(), *transferred("npz:far", 0.6)]
    out = tmp_path / "summary"
    page = summary.summary_page(runs, out)
    assert_links_hold(page, out, 4)
    names = {path.name for path in (out / "figures").iterdir()}
    assert {f"phases-all_cnn_c-cifar10-npz_{part}-linear.png" for part in ("near", "far")} <= names
