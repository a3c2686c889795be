import numpy as np
import pytest

from tx_jax.data.labeled.labels import classes_of, folds_of, hold_out, label_ids, labels_of, numbers, rare_labels
from tx_jax.errors import InputError


def test_labels_are_sorted_and_numbers_as_such():
    assert labels_of(["pos", "neg", "pos", "neg"]) == ("neg", "pos")
    assert labels_of(["10", "9", "-1", "9", "10", "-1"]) == ("-1", "9", "10")
    assert labels_of(["10.5", "9.5", "-1.25", "-10"]) == ("-10", "-1.25", "9.5", "10.5")
    assert labels_of([2.5, "10", -3, "1e1"]) == ("-3", "2.5", "10", "1e1")
    assert labels_of(["10", "9", "NA"]) == ("10", "9", "NA")
    assert labels_of([1, "1", True, True, 0, " 0"]) == ("0", "1", "true")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1.0, "1", "1.0", 0], ("0", "1")),
        ([1.0, 1, "0.0"], ("0.0", "1.0")),  # each as where it occurs first
        (["-2.0", -2, -2.0, 0], ("-2.0", "0")),
        ([-0.0, 0, 5], ("-0.0", "5")),
        (["True", True, "TRUE", "true", False, "false"], ("false", "True")),
        (["TRUE", "false"], ("false", "TRUE")),  # the order is not the spelling's
        (["01", "1", "1.10", "1.1", "1e0", "1.00", "+1"], ("+1", "01", "1", "1.00", "1e0", "1.1", "1.10")),
        (
            ["NA", "nan", "None", "na", "tRue", "true", "yes", "Yes"],
            ("NA", "None", "Yes", "na", "nan", "tRue", "true", "yes"),
        ),
        (["0", "no", "false"], ("0", "false", "no")),
    ],
)
def test_one_label_has_one_spelling(values, expected):
    labels = labels_of(values)
    assert labels == expected
    ids = label_ids(values, labels)
    assert sorted(set(ids.tolist())) == list(range(len(labels)))
    assert [labels_of(["#", value])[1] for value in labels] == list(labels)


def test_classes_of_labels():
    """Where no label is spelled in several ways, in the order of their texts, on which hold-outs have always stood."""
    for values in (["Unknown", "True", "False", "True"], ["10", "9", "1.50", "9"], [True, False, "x", True]):
        old = [str(value).lower() if isinstance(value, bool) else value for value in values]
        assert classes_of(values).tolist() == np.unique(old, return_inverse=True)[1].tolist()
    assert classes_of([1, "1.0", True, "TRUE", "a"]).tolist() == [0, 0, 2, 2, 1]


def test_runs_from_before_keep_their_labels():
    """Such a run may know "True" and "true" as two, and "1.0" beside "1": each value stays with the label it had."""
    old = ("1", "1.0", "True", "true")
    assert label_ids([1, "1.0", 1.0, "True", True, "true"], old).tolist() == [0, 1, 1, 2, 3, 3]
    with pytest.raises(InputError, match="does not know: 'TRUE', the first of them example 2"):
        label_ids(["True", "TRUE"], old)
    assert label_ids(["True", True, "TRUE", 0, "0.0"], ("0", "true")).tolist() == [1, 1, 1, 0, 0]


def test_labels_that_cannot_be_learned():
    assert rare_labels(["a", "a", "b", "b", "c"], ("a", "b", "c", "d")) == [
        "2 of 4 labels have fewer than two training examples: 'c' 1, 'd' 0"
    ]
    assert rare_labels(["a", "a"], ("a",)) == []
    assert rare_labels([1, "1.0", True, "True"], ("1", "true")) == []
    with pytest.raises(InputError, match="every example has the label 'a'"):
        labels_of(["a", "a"])


def test_label_ids():
    assert label_ids(["b", "a ", 1], ("a", "b", "1")).tolist() == [1, 0, 2]
    expected = (
        r"2 examples have a label .* not know: 'c', the first of them example 2; it knows a, b. A label .* data.labels"
    )
    with pytest.raises(InputError, match=expected):
        label_ids(["a", "c", "c"], ("a", "b"))


def test_numbers():
    assert numbers(["2.5", 3, "-1e-3", " .5"]).tolist() == [2.5, 3.0, np.float32(-1e-3), 0.5]
    for bad in ("high", None, "nan", "inf", True, "1_000", "1,000.5", "1e999"):
        with pytest.raises(InputError, match=r"example 2 has .* where regression needs a number; for classes"):
            numbers(["1", bad])


def test_numbers_with_a_decimal_comma():
    assert numbers(["2,5", 3, "-1,5e-3", "7"], decimal=",").tolist() == [2.5, 3.0, np.float32(-1.5e-3), 7.0]
    with pytest.raises(InputError, match=r"has '2,5' where .* a number with a decimal point, or .*decimal=,"):
        numbers(["2,5"])
    for bad in ("1.234", "1.234,5", "2,5,0"):  # thousand, or a fraction?
        with pytest.raises(InputError, match=r"needs a number with a decimal comma, as data\.decimal says"):
            numbers([bad], decimal=",")


def test_a_share_of_every_class_is_held_out():
    classes = np.repeat([3, 5, 9], [100, 37, 1])
    held = hold_out(len(classes), 0.2, seed=0, classes=classes)
    assert [int(held[classes == label].sum()) for label in (3, 5, 9)] == [20, 8, 0]
    np.testing.assert_array_equal(held, hold_out(len(classes), 0.2, seed=0, classes=classes))
    assert (held != hold_out(len(classes), 0.2, seed=1, classes=classes)).any()


@pytest.mark.parametrize("sizes", [[50], [1, 1, 48], [2, 2, 2, 2], [7, 3, 3, 1, 1]])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_no_class_loses_all_its_examples(sizes, fraction):
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    held = np.bincount(classes[hold_out(len(classes), fraction, seed=0, classes=classes)], minlength=len(sizes))
    sizes = np.array(sizes)
    capped = held == sizes - 1
    assert (held < sizes).all()
    assert (capped | (abs(held - fraction * sizes) <= 1)).all()
    assert capped.any() or held.sum() == round(fraction * sizes.sum())


def test_every_example_is_held_out_as_often():
    """Each of 20 in 1,000 draws of 5: binomial with mean 250 and deviation 13.7; 5 deviations are exceeded by one of
    the 20 with a probability of 1e-5, and the seeds are fixed."""
    counts = sum(hold_out(20, 0.25, seed).astype(int) for seed in range(1000))
    assert counts.sum() == 5000
    assert abs(counts - 250).max() < 5 * 13.7


def test_too_few_to_hold_out():
    for count, fraction in ((1, 0.5), (3, 0.1)):
        with pytest.raises(InputError, match=f"{count} examples are too few to hold out"):
            hold_out(count, fraction, seed=0)
    with pytest.raises(InputError, match="too few"):
        hold_out(3, 0.5, seed=0, classes=np.arange(3))


def test_folds_share_the_examples_of_every_label():
    classes = np.repeat([0, 1, 2], [31, 17, 5])
    parts = folds_of(53, 4, classes)
    sizes = np.stack([np.bincount(classes[parts == part], minlength=3) for part in range(4)])
    assert np.ptp(sizes, axis=0).max() <= 1
    assert np.ptp(sizes.sum(axis=1)) <= 1
    assert not np.array_equal(parts[:8], np.arange(8) % 4)  # drawn, not dealt in the order of the file
    np.testing.assert_array_equal(parts, folds_of(53, 4, classes))
    with pytest.raises(InputError, match="only 3 articles; give fewer folds"):
        folds_of(3, 4, unit="article")
