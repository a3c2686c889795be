"""When two lists of labels are the same, and names that a user gives."""

import pytest

from tx_jax.data.labeled.label_names import Matched, default_names, listed, match, rename
from tx_jax.errors import InputError


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        (("b", "a"), ("a", "b"), Matched(("b", "a"))),
        # Published models of MNLI and SST-2, and the files of these tasks.
        (
            ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"),
            ("entailment", "neutral", "contradiction"),
            Matched(
                ("contradiction", "neutral", "entailment"),
                "CONTRADICTION for contradiction, NEUTRAL for neutral, ENTAILMENT for entailment",
            ),
        ),
        (("a", "B"), ("a", "b"), Matched(("a", "b"), "B for b")),
        (("0", "1"), ("1.0", "0.0"), Matched(("0.0", "1.0"), "0 for 0.0, 1 for 1.0")),
        # A list that tells labels apart by their case alone is compared as it is.
        (("a", "A"), ("A", "a"), Matched(("a", "A"))),
        (("a", "b"), ("A", "a"), None),
        (("LABEL_0", "LABEL_1"), ("0", "1"), Matched(("0", "1"), "LABEL_0 for 0, LABEL_1 for 1")),
        (("LABEL_0", "LABEL_1"), ("LABEL_1", "LABEL_0"), Matched(("LABEL_0", "LABEL_1"))),
        (("LABEL_0", "LABEL_1"), ("no", "yes"), None),
        (("LABEL_0", "LABEL_1"), ("1", "2"), None),
        (("LABEL_0", "yes"), ("0", "yes"), None),
        (("a", "b"), ("a", "b", "c"), None),
        (("a", "b", "c"), ("a", "b"), None),
        (("a", "b"), ("not a", "b"), None),
    ],
)
def test_the_same_labels(model, data, expected):
    assert match(model, data) == expected
    assert match(model, data[::-1]) == expected


def test_a_file_may_lack_labels_of_the_model():
    assert match(("NO", "YES", "MAYBE"), ["yes"], some=True) == Matched(("NO", "yes", "MAYBE"), "YES for yes")
    assert match(("LABEL_0", "LABEL_1"), ["1"], some=True) == Matched(("0", "1"), "LABEL_1 for 1")
    assert match(("no", "yes"), ["yes", "perhaps"], some=True) is None


def test_names_are_given():
    assert rename(default_names(3), ["LABEL_2=good", "LABEL_0=bad"], option="x") == ("bad", "LABEL_1", "good")
    assert rename(("a=b", "a"), ["a=b=c", "a=d"], option="x") == ("c", "d")
    assert rename(("a", "b"), ["a=b", "b=a"], option="x") == ("b", "a")
    assert rename(("a", "b"), [], option="x") == ("a", "b")


@pytest.mark.parametrize(
    ("label_map", "said"),
    [
        (["POSITVE=yes"], r"label_map: 'POSITVE=yes' must be OLD=NEW.*POSITIVE, NEGATIVE\. Did you mean 'POSITIVE'\?"),
        (["POSITIVE"], "must be OLD=NEW"),
        (["POSITIVE="], "does not change the name 'POSITIVE'"),
        (["POSITIVE=POSITIVE"], "does not change the name 'POSITIVE'"),
        (["POSITIVE=a", "POSITIVE=b"], "'POSITIVE' gets two names, 'a' and 'b'"),
        (["POSITIVE=NEGATIVE"], "two labels would be called 'NEGATIVE'"),
    ],
)
def test_names_that_make_no_sense(label_map, said):
    with pytest.raises(InputError, match=said):
        rename(("POSITIVE", "NEGATIVE"), label_map, option="label_map")


def test_long_lists_are_cut():
    assert listed("abc") == "a, b, c"
    assert listed([str(i) for i in range(150)]) == "0, 1, 2, 3, 4, 5, ... (150 in all)"
