"""Measured speeds, and what they are kept by."""

import math
from dataclasses import replace

from kapp import cli, records
from kapp.papers import ratusznik
from kapp.reproduction import rates
from kapp.reproduction.paper_rows import run_settings
from kapp.reproduction.plan import load_dataset
from kapp.reproduction.rates import Rates

ROWS = {row.name: row for row in ratusznik.ROWS}


def settings(shared, name: str = "linear_3 on labels"):
    return rates.supervised(run_settings(ROWS[name], 0, shared))


def test_a_network_is_measured_by_real_steps(shared):
    own = settings(replace(shared, precision="float32"))  # the policy of the other tests of this process
    values = rates.measure(cli.as_json(own), "this machine")
    measured = records.from_json(Rates, values, "the test")
    assert all(0 < rate < math.inf for rate in (measured.train, measured.score, measured.start))
    dataset = load_dataset(own.dataset, own.data)
    key = rates.key(own, dataset, "this machine")
    assert measured.key == key
    assert rates.read(key, shared.data_dir) is None
    rates.write(measured, shared.data_dir)
    assert rates.read(key, shared.data_dir) == measured


def test_what_a_speed_depends_on(shared):
    own = settings(shared)
    dataset = load_dataset(own.dataset, own.data)
    key = rates.key(own, dataset, "this machine")
    longer = replace(own, seed=3, hparams=replace(own.hparams, epochs=300, schedule="cosine"))
    assert rates.key(longer, dataset, "this machine") == key
    assert settings(shared, "linear_3 from teacher_1") == own  # its logits are looked up
    for other in (
        settings(replace(shared, widths={"linear_3": 0.5})),
        settings(replace(shared, precision="float32")),
        settings(replace(shared, scale="short")),  # other batches, and the full width
        settings(shared, "linear_4 on labels"),
    ):
        assert rates.key(other, dataset, "this machine") != key
    assert rates.key(own, dataset, "another machine") != key


def test_pooling_without_a_norm_is_kept(shared):
    """Its p is infinite, which JSON doesn't have."""
    own = settings(shared, "teacher_1 on labels")
    key = rates.key(own, load_dataset(own.dataset, own.data), "this machine")
    rates.write(Rates(1.0, 2.0, 3.0, key), shared.data_dir)
    assert rates.read(key, shared.data_dir) == Rates(1.0, 2.0, 3.0, key)
