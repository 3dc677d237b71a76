import pytest

from kapp.errors import WrongValue
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
)


def test_a_paper_notation_is_read_word_by_word():
    assert parse("76c^2-mp-d0.2-1200fc-10fc") == (
        Convolution(76),
        Convolution(76),
        Pooling(2, 2),
        Dropout(0.2),
        Dense(1200),
        Dense(10),
    )


@pytest.mark.parametrize(
    ("word", "step"),
    [
        ("96c5x5", Convolution(96, kernel=5)),
        ("96c/2", Convolution(96, stride=2)),
        ("192c3x3v", Convolution(192, padding=0)),
        ("96c5x5/2v", Convolution(96, kernel=5, stride=2, padding=0)),
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
def test_what_the_papers_say_in_prose(word, step):
    assert parse(f"{word}-10fc")[0] == step


@pytest.mark.parametrize("word", ["64x", "c64", "64c3x5", "0fc", "64c^0", "d1.5", "", "64 c", "mp2"])
def test_a_wrong_word_is_quoted_with_the_accepted_forms(word):
    with pytest.raises(WrongValue) as refusal:
        parse(f"64c-{word}-10fc")
    assert repr(word) in str(refusal.value)
    assert "64c^8" in str(refusal.value)


def test_a_notation_without_classes_is_refused():
    with pytest.raises(WrongValue, match="no layer for the classes"):
        parse("mp-gap")


def test_width_scales_all_but_the_classes():
    assert scale(parse("64c-mp-640fc-10fc"), 0.5, classes=7) == (
        Convolution(32),
        Pooling(2, 2),
        Dense(320),
        Dense(7),
    )


def test_a_tiny_width_leaves_every_layer_at_least_one_unit():
    assert scale(parse("64c-10fc"), 1e-6, classes=10)[0] == Convolution(1)


def test_the_classes_may_stand_before_the_pooling():
    assert scale(parse("64c-10c1x1-gap"), 2, classes=5)[1] == Convolution(5, kernel=1)
