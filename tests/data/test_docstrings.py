import doctest
import importlib

import pytest

MODULES = (
    "data.dataset data.sampling data.augmentation data.pipelines data.sources.shapes data.validation_overlap "
    "progress"
).split()


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(f"kapp.{name}")).failed == 0
