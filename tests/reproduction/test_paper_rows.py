"""From rows of the papers to the settings of runs."""

from dataclasses import replace

import pytest

from kapp import cli
from kapp.errors import ConfigError
from kapp.papers import hu, ratusznik
from kapp.recipes import distill, train, transfer
from kapp.reproduction import paper_rows
from kapp.reproduction.paper_rows import TABLES, pick, run_settings
from kapp.reproduction.schedule import MODULES, task_arguments

ROWS = {row.name: row for row in (*ratusznik.ROWS, *hu.ROWS)}


def test_rows_are_picked_by_parts_of_their_names_and_by_wildcards():
    def names(*patterns: str) -> set[str]:
        return {row.name for row in pick(TABLES, patterns)}

    assert len(names()) == len(ROWS)
    assert names("linear_3") == {
        "linear_3 on labels",
        "linear_3 from teacher_1",
        "linear_3 from deep_resnet",
    }
    assert names("conv_1 on labels") == {"conv_1 on labels"}
    assert names("linear_? on *") == {"linear_3 on labels", "linear_4 on labels"}
    assert (
        names("PROBE", "table")
        if False
        else names("PROBE")
        == {
            "all_cnn_c linear probe, class1",
            "all_cnn_c linear probe, class2",
        }
    )
    assert {row.name for row in pick(["ratusznik:6"], ())} == {"deep_linear on labels"}


def test_wrong_names_are_refused_with_the_right_ones():
    with pytest.raises(ConfigError, match="unknown row 'linear_5'.* Accepted: conv_1 on labels, conv_1 from"):
        pick(["ratusznik:3"], ["linear_5"])
    with pytest.raises(ConfigError, match="unknown row 'deep_linear'"):  # of another table
        pick(["ratusznik:3"], ["deep_linear"])
    with pytest.raises(ConfigError, match="unknown table 'ratusznik:7'.*ratusznik:3"):
        paper_rows.check_tables(["hu:3", "ratusznik:7"])


def test_widths_by_network():
    networks = ["deep_resnet", "all_cnn_c", "base_c"]
    assert paper_rows.parse_widths(["deep_resnet=0.5"], networks) == {"deep_resnet": 0.5}
    assert paper_rows.parse_widths(["*_c=0.5", "base_c=1"], networks) == {"all_cnn_c": 0.5, "base_c": 1.0}
    for flag, message in (
        ("deep_resnet", "must be NETWORK=WIDTH"),
        ("deep_resnet=half", "must be NETWORK=WIDTH"),
        ("deep_resnet=0", "must be NETWORK=WIDTH"),
        ("deep_resnt=0.5", "unknown network 'deep_resnt'. Did you mean 'deep_resnet'"),
    ):
        with pytest.raises(ConfigError, match=message):
            paper_rows.parse_widths([flag], networks)


@pytest.mark.parametrize("scale", ["paper", "short", "small"])
@pytest.mark.parametrize("name", ROWS)
def test_a_run_is_sent_to_a_worker_unchanged(name, scale, shared):
    settings = run_settings(ROWS[name], 1, replace(shared, scale=scale, widths={"deep_resnet": 0.5}))
    arguments = task_arguments(settings)
    config_type = MODULES[arguments["recipe"]].Config
    config = cli.parse(config_type, cli.as_flags(config_type, arguments["config"], "the test"))
    assert config.resolved() == settings


def test_a_row_on_labels(shared):
    settings = run_settings(ROWS["deep_resnet on labels"], 2, replace(shared, widths={"deep_resnet": 0.5}))
    assert isinstance(settings, train.Settings)
    assert (settings.model, settings.seed, settings.network.width) == ("deep_resnet", 2, 0.5)
    assert settings.data.validation_images is None


def test_a_distilled_row_has_the_teacher_of_seed_0_at_its_own_width(shared):
    widths = {"deep_resnet": 0.5, "conv_1": 0.25}
    settings = run_settings(ROWS["conv_1 from deep_resnet"], 2, replace(shared, widths=widths))
    assert isinstance(settings, distill.Settings)
    teacher, baseline = settings.needed_runs
    assert (teacher.model, teacher.seed, teacher.network.width) == ("deep_resnet", 0, 0.5)
    assert (baseline.model, baseline.seed, baseline.network.width) == ("conv_1", 2, 0.25)
    other = run_settings(ROWS["linear_3 from deep_resnet"], 0, replace(shared, widths=widths))
    assert other.needed_runs[0] == teacher
    assert other.needed_runs[1].network.width == 0.125  # of the scale


def test_the_rows_of_hu_have_his_split_and_rates(shared):
    shared = replace(shared, scale="paper", hu_validation_images=1000, targets=("shapes:near", "shapes:far"))
    settings = run_settings(ROWS["base_b on labels"], 0, shared)
    assert settings.data.validation_images == 1000
    assert settings.hparams.rates == (0.1, 0.05, 0.01, 0.001)
    assert (settings.hparams.learning_rate, settings.hparams.milestones) == (0.1, (200, 250, 300))

    tuning = run_settings(ROWS["all_cnn_c fine-tuning, class2"], 0, shared)
    assert isinstance(tuning, transfer.Settings)
    assert (tuning.source, tuning.target) == (shared.dataset, ("shapes:far",))
    assert tuning.data.validation_images == 0  # 5,000 to train on
    assert tuning.fine_tuning[0].rates == tuning.linear_probe[0].rates == (0.025, 0.01, 0.005, 0.001)
    assert run_settings(ROWS["all_cnn_c linear probe, class2"], 0, shared) == tuning
    source, scratch = tuning.needed_runs
    assert source == run_settings(ROWS["all_cnn_c on labels"], 0, shared)
    assert source.hparams.rates == (0.005, 0.001, 0.0005, 0.0001)
    assert scratch == run_settings(ROWS["all_cnn_c from scratch, class2"], 0, shared)
    assert (scratch.dataset, scratch.hparams.rates) == ("shapes:far", (0.025, 0.01, 0.005, 0.001))


def test_a_modern_schedule_has_no_printed_rates(shared):
    settings = run_settings(ROWS["base_b on labels"], 0, replace(shared, scale="short"))
    assert (settings.hparams.schedule, settings.hparams.rates) == ("cosine", ())


def test_hu_holds_out_a_fiftieth():
    assert (hu.validation_images(50_000), hu.validation_images(12_500), hu.validation_images(20)) == (
        1000,
        250,
        1,
    )
