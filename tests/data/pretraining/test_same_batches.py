"""Batches are bit for bit those of earlier versions: a resumed run goes on with the data that it would have had."""

import json

from tests.golden import batches


def test_batches_are_those_of_earlier_versions():
    expected = json.loads(batches.PATH.read_text(encoding="utf-8"))
    found = dict(batches.digests())
    assert found.keys() == expected.keys()
    assert {name for name, digest in found.items() if digest != expected[name]} == set()
