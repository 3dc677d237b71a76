import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kapp.data.sampling import Augmentation, epoch_plan, hold_out, stratified_order

seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, epoch=st.integers(0, 10_000), samples=st.integers(1, 500), crop_padding=st.integers(0, 5))
def test_every_epoch_contains_every_sample_once_in_a_valid_view(seed, epoch, samples, crop_padding):
    augmentation = Augmentation(crop_padding)
    order, view = epoch_plan(seed, epoch, samples, augmentation)
    assert sorted(order) == list(range(samples))
    assert view.shape == (samples,)
    assert view.min() >= 0
    assert view.max() < augmentation.count


def test_the_plan_is_a_function_of_seed_and_epoch():
    one, same = epoch_plan(7, 3, 1000, Augmentation()), epoch_plan(7, 3, 1000, Augmentation())
    assert all((a == b).all() for a, b in zip(one, same))
    for other in (epoch_plan(7, 4, 1000, Augmentation()), epoch_plan(8, 3, 1000, Augmentation())):
        assert (one.order != other.order).mean() > 0.9
        assert (one.view != other.view).mean() > 0.9


def test_the_plan_never_changes():
    """A run that resumes with another version of NumPy must train on the same images."""
    order, view = epoch_plan(seed=0, epoch=0, num_samples=8, augmentation=Augmentation())
    assert order.tolist() == [0, 3, 7, 5, 1, 2, 6, 4]
    assert view.tolist() == [43, 72, 138, 93, 138, 10, 40, 117]


def test_alternating_flips_mirror_every_image_in_every_other_epoch():
    random, alternating = Augmentation(2), Augmentation(2, flip_order="alternating")
    flips = np.zeros((6, 1000), int)
    for epoch in range(6):
        drawn, plan = (epoch_plan(5, epoch, 1000, each) for each in (random, alternating))
        assert (plan.order == drawn.order).all()
        crops = [np.stack(alternating.decode(each.view)[1:]) for each in (drawn, plan)]
        assert (crops[0] == crops[1]).all()
        flips[epoch, plan.order] = plan.view // 25
    assert (flips[1:] == 1 - flips[:-1]).all()
    assert abs(flips[0].mean() - 0.5) < 0.07  # four standard deviations
    other = epoch_plan(6, 0, 1000, alternating)
    assert (flips[0, other.order] != other.view // 25).mean() > 0.4  # another seed begins otherwise
    unchanged = Augmentation(2, flip=False, flip_order="alternating")
    assert epoch_plan(5, 1, 1000, unchanged).view.max() < 25


def test_the_flip_order_is_no_property_of_a_view():
    """So cached teacher logits are shared."""
    one, other = Augmentation(), Augmentation(flip_order="alternating")
    assert one.settings == other.settings
    assert other.repeats


def test_all_162_views_are_about_equally_frequent():
    counts = np.bincount(epoch_plan(0, 0, 162_000, Augmentation()).view, minlength=162)
    assert len(counts) == 162
    # Poisson around 1,000: chi-squared with 161 degrees of freedom, plus five standard deviations.
    assert ((counts - 1000) ** 2 / 1000).sum() < 161 + 5 * (2 * 161) ** 0.5


@pytest.mark.parametrize(
    ("augmentation", "count"),
    [(Augmentation(), 162), (Augmentation(5), 242), (Augmentation(0, flip=False), 1)],
)
def test_the_views_are_all_different(augmentation, count):
    assert augmentation.count == count
    padding = augmentation.crop_padding
    assert augmentation.decode(augmentation.identity) == (0, padding, padding)
    assert len({augmentation.decode(view) for view in range(count)}) == count


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    cut=st.floats(0, 1),
    seed=seeds,
)
def test_every_prefix_of_a_stratified_order_is_in_proportion(counts, cut, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    order = stratified_order(labels, seed)
    assert sorted(order) == list(range(len(labels)))
    length = round(cut * len(labels))
    found = np.bincount(labels[order[:length]], minlength=len(counts))
    fractions = np.array(counts) / len(labels)
    # Rounding moves up to half an image per class, of this class and of the others; ties move one more.
    assert (np.abs(found - length * fractions) <= 1.5 + len(counts) / 2 * fractions).all()


counts = st.integers(0, 60)
limits = st.none() | st.integers(1, 80)


@given(first=counts, second=counts, first_limit=limits, second_limit=limits)
def test_held_out_samples_nest_and_are_never_trained_on(first, second, first_limit, second_limit):
    order = np.random.default_rng(0).permutation(60)
    splits = [hold_out(order, first, first_limit), hold_out(order, second, second_limit)]
    for (train, validation), held_out, limit in zip(splits, (first, second), (first_limit, second_limit)):
        assert not {*train} & {*validation}
        assert len(train) == min(60 - held_out, 60 if limit is None else limit)
        assert len(validation) == min(held_out, 60 if limit is None else max(1, limit // 4))
    for index in (0, 1):  # training samples, validation samples
        smaller, larger = sorted((split[index] for split in splits), key=len)
        assert {*smaller} <= {*larger}
    # A network never learned from the validation samples of a student that holds out as many or fewer.
    (train, validation), (_, others) = splits
    if len(others) <= len(validation):
        assert not {*train} & {*others}


@given(held_out=counts, limit=st.integers(1, 60))
def test_the_first_training_samples_are_the_same_whatever_is_held_out(held_out, limit):
    order = np.random.default_rng(0).permutation(60)
    train, _ = hold_out(order, held_out, limit)
    assert train.tolist() == order[: min(limit, 60 - held_out)].tolist()


def test_the_seed_determines_the_split():
    labels = np.arange(1000) % 10
    assert (stratified_order(labels, 0) == stratified_order(labels, 0)).all()
    assert (stratified_order(labels, 0) != stratified_order(labels, 1)).mean() > 0.9
