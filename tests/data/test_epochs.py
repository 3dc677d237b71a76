import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kapp.data.epochs import Views, stratified, table

seeds = st.integers(0, 2**32 - 1)
EIGHT = ([0, 3, 7, 5, 1, 2, 6, 4], [43, 72, 138, 93, 138, 10, 40, 117])


@given(seed=seeds, epoch=st.integers(0, 10_000), samples=st.integers(1, 500), shift=st.integers(0, 5))
@settings(deadline=None)
def test_every_epoch_shows_every_sample_once_in_a_view_that_exists(seed, epoch, samples, shift):
    views = Views(shift)
    order, view = table(seed, epoch, samples, views)
    assert sorted(order) == list(range(samples))
    assert view.shape == (samples,)
    assert view.min() >= 0
    assert view.max() < views.count


def test_seed_and_epoch_alone_decide_the_table():
    one, same = table(7, 3, 1000, Views()), table(7, 3, 1000, Views())
    assert all((a == b).all() for a, b in zip(one, same))
    for other in (table(7, 4, 1000, Views()), table(8, 3, 1000, Views())):
        assert (one.order != other.order).mean() > 0.9
        assert (one.view != other.view).mean() > 0.9


def test_the_table_is_the_one_that_earlier_runs_saw():
    """A run resumed under another NumPy must go on with the same images."""
    order, view = table(seed=0, epoch=0, samples=8, views=Views())
    assert (order.tolist(), view.tolist()) == EIGHT


def test_all_162_views_are_seen_about_as_often():
    counts = np.bincount(table(0, 0, 162_000, Views()).view, minlength=162)
    assert len(counts) == 162
    # Poisson around 1,000: a chi-squared of 161 degrees of freedom, five standard deviations up
    assert ((counts - 1000) ** 2 / 1000).sum() < 161 + 5 * (2 * 161) ** 0.5


@pytest.mark.parametrize(("views", "count"), [(Views(), 162), (Views(5), 242), (Views(0, flip=False), 1)])
def test_how_many_views_there_are(views, count):
    assert views.count == count
    assert views.decode(views.identity) == (0, views.shift, views.shift)
    assert len({views.decode(view) for view in range(count)}) == count


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    cut=st.floats(0, 1),
    seed=seeds,
)
@settings(deadline=None)
def test_every_prefix_of_a_stratified_order_is_in_proportion(counts, cut, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = stratified(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    taken = round(cut * len(labels))
    held = np.bincount(labels[order[:taken]], minlength=len(counts))
    share = np.array(counts) / len(labels)
    # Rounding leaves half an image a class, here and in what the others leave; ties one more.
    assert (np.abs(held - taken * share) <= 1.5 + len(counts) / 2 * share).all()


def test_the_seed_decides_the_split():
    labels = np.arange(1000) % 10
    assert (stratified(labels, 0) == stratified(labels, 0)).all()
    assert (stratified(labels, 0) != stratified(labels, 1)).mean() > 0.9
