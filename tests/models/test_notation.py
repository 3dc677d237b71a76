import pytest

from kapp.errors import ConfigError
from kapp.models.notation import (
    AveragePooling,
    Convolution,
    Dense,
    Dropout,
    GlobalAveragePooling,
    Pooling,
    Relu,
    parse,
    scale,
    with_dropout,
)


def test_a_notation_is_parsed_word_by_word():
    assert parse("76c^2-mp-d0.2-1200fc-10fc") == (
        Convolution(76),
        Convolution(76),
        Pooling(2, 2),
        Dropout(0.2),
        Dense(1200),
        Dense(10),
    )


@pytest.mark.parametrize(
    ("word", "spec"),
    [
        ("96c5x5", Convolution(96, kernel_size=5)),
        ("96c/2", Convolution(96, strides=2)),
        ("192c3x3v", Convolution(192, padding=0)),
        ("96c5x5/2v", Convolution(96, kernel_size=5, strides=2, padding=0)),
        ("192cp3", Convolution(192, padding=3)),
        ("mp3x3/2", Pooling(3, 2)),
        ("mp3x3/2v", Pooling(3, 2, padded=False)),
        ("ap6x6", AveragePooling(6)),
        ("sd0.2", Dropout(0.2, channels=True)),
        ("relu", Relu()),
        ("mp3x3", Pooling(3, 3)),
        ("gap", GlobalAveragePooling()),
    ],
)
def test_words_for_the_papers_prose(word, spec):
    assert parse(f"{word}-10fc")[0] == spec


@pytest.mark.parametrize("word", ["64x", "c64", "64c3x5", "0fc", "64c^0", "d1.5", "", "64 c", "mp2"])
def test_a_wrong_word_is_refused_with_the_accepted_forms(word):
    with pytest.raises(ConfigError) as refusal:
        parse(f"64c-{word}-10fc")
    assert repr(word) in str(refusal.value)
    assert "64c^8" in str(refusal.value)


def test_a_notation_without_classes_is_refused():
    with pytest.raises(ConfigError, match="no layer for the classes"):
        parse("mp-gap")


def test_width_scales_all_layers_but_the_output_layer():
    assert scale(parse("64c-mp-640fc-10fc"), 0.5, classes=7) == (
        Convolution(32),
        Pooling(2, 2),
        Dense(320),
        Dense(7),
    )


def test_each_layer_keeps_at_least_one_unit():
    assert scale(parse("64c-10fc"), 1e-6, classes=10)[0] == Convolution(1)


def test_the_output_layer_may_precede_pooling():
    assert scale(parse("64c-10c1x1-gap"), 2, classes=5)[1] == Convolution(5, kernel_size=1)


@pytest.mark.parametrize(
    ("plain", "dropped"),
    [
        ("2048fc^2-10fc", "2048fc-d0.25-2048fc-d0.25-10fc"),
        ("64c-mp-640fc-10fc", "64c-mp-640fc-d0.25-10fc"),
        ("64c^2-gap-10fc", "64c^2-gap-d0.25-10fc"),
        ("96c^2-10c1x1-gap", "96c^2-d0.25-10c1x1-gap"),
        ("10fc", "d0.25-10fc"),
    ],
)
def test_dropout_is_added_after_each_hidden_layer_or_before_the_output_layer(plain, dropped):
    assert with_dropout(plain, 0.25) == dropped
    assert with_dropout(plain, 0) == with_dropout(plain, 0.00001) == plain


def test_a_second_dropout_is_refused():
    with pytest.raises(ConfigError, match="has dropout already"):
        with_dropout("d0.2-16fc-10fc", 0.1)
