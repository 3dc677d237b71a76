import json
import math

import pytest

from kapp import records
from kapp.errors import KappError
from kapp.records import RunConfig, RunResult, Trial
from tests.example_records import CONFIG, RESULT, config


@pytest.mark.parametrize(
    "record",
    [
        CONFIG,
        RESULT,
        config(rates=[0.1, 0.01], code_variants=["corner"], scratch_epochs=None),
        Trial(3, {"learning_rate": 0.01}, epochs=8, run=3, score=0.5, status="finished"),
    ],
)
def test_a_record_is_read_as_it_was_written(record, tmp_path):
    records.write(record, tmp_path / "record.json")
    assert records.read(type(record), tmp_path / "record.json", "") == record


def test_config_json_is_flat_and_has_no_infinity():
    values = records.to_json(config(pooling_norm=math.inf))
    assert values["model"] == "linear_3"
    assert values["pooling_norm"] == "inf"
    json.dumps(values, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_accuracy": "high"}, "test_accuracy is str, not float"),
        ({"epochs": 1.5}, "epochs is float, not int"),
        ({"epochs": True}, "epochs is bool, not int"),
        ({"flops": "many"}, "flops: 'many' is of a wrong type"),
        ({"test_interval": [0.1]}, "test_interval has 1 entries, not 2"),
        ({"phase": "phase 1"}, "phase: 'phase 1' is of a wrong type"),
        ({"status": "done"}, "status is 'done', not one of 'finished'"),
        ({"hyperparameters": []}, "hyperparameters is list, not"),
        ({"extra": 1}, "extra is unknown"),
    ],
)
def test_a_value_of_a_wrong_type_is_named(changes, message):
    with pytest.raises(KappError, match=f"result.json is damaged .*{message}"):
        records.from_json(RunResult, {**records.to_json(RESULT), **changes}, "result.json")


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "{}", '{"recipe": ', "\x00"])
def test_a_file_of_another_shape_is_refused_with_the_way_out(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(KappError, match="config.json is damaged.* Start again"):
        records.read(RunConfig, tmp_path / "config.json", "Start again.")


def test_a_missing_key_a_missing_file_and_bad_utf8_are_refused(tmp_path):
    values = records.to_json(RESULT)
    del values["seed"]
    with pytest.raises(KappError, match="seed is missing"):
        records.from_json(RunResult, values, "result.json")
    with pytest.raises(KappError, match="missing"):
        records.read(RunResult, tmp_path / "gone.json", "")
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(KappError, match="damaged"):
        records.read(RunResult, tmp_path / "bad.json", "")
