"""Models by name. The Hub itself is not asked: what its client would answer is put in place."""

import fnmatch

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tests.convert import folders
from tx_jax.convert import from_hf, hub
from tx_jax.errors import InputError


@pytest.fixture
def answer(monkeypatch):
    asked = {}

    def put(result):
        def snapshot_download(name, **options):
            asked.update(options, name=name)
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return asked

    return put


def test_a_model_is_fetched_with_its_commit_and_without_pickles(answer, tmp_path):
    snapshot = tmp_path / "models--a--b/snapshots/0123abc"
    snapshot.parent.mkdir(parents=True)
    asked = answer(folders.write(snapshot))
    folder, commit = hub.fetch("a/b", "main")
    assert (asked["name"], asked["revision"], commit) == ("a/b", "main", "0123abc")
    model, _ = from_hf.read(folder, name="a/b", revision=commit)
    assert (model.source.name, model.source.revision) == ("a/b", "0123abc")

    def allowed(name):
        return any(fnmatch.fnmatch(name, pattern) for pattern in asked["allow_patterns"])

    assert all(map(allowed, ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "spiece.model"]))
    assert all(map(allowed, ["vocab.txt", "vocab.json", "merges.txt", "tokenizer.json"]))
    assert not any(
        map(
            allowed,
            [
                "pytorch_model.bin",
                "model.fp16.safetensors",
                "tf_model.h5",
                "flax_model.msgpack",
                "model.py",
                "rust_model.ot",
            ],
        )
    )


def test_a_model_of_pickles_only(answer, tmp_path):
    folder = folders.write(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    answer(folder)
    with pytest.raises(InputError, match=r"someone/beto has no model\.safetensors, and pickles") as caught:
        hub.fetch("someone/beto")
    assert 't.BertForPreTraining.from_pretrained("someone/beto").save_pretrained("beto-safetensors")' in str(
        caught.value
    )


def test_a_model_in_another_precision_only_is_one_without_weights(answer, tmp_path):
    folder = folders.write(tmp_path / "a")
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")
    answer(folder)
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        hub.fetch("someone/beto")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LocalEntryNotFoundError("Got: ConnectError\nmore"), r"cannot be fetched from .* \(Got: ConnectError\)"),
        (ConnectionError("no route"), r"\(no route\): give a folder, or try again where there is network"),
        (OSError("disk full"), "disk full"),
    ],
)
def test_what_the_network_answers_is_one_line(answer, error, said):
    answer(error)
    with pytest.raises(InputError, match=said) as caught:
        hub.fetch("a/b", "v1")
    assert "at revision 'v1'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_model_or_revision(answer):
    # Their constructors want the answer of the server, which differs from version to version.
    for kind in (hub.RepositoryNotFoundError, hub.RevisionNotFoundError):
        answer(kind.__new__(kind))
        with pytest.raises(InputError, match="the Hugging Face Hub has no model 'a/b' at revision 'v1'"):
            hub.fetch("a/b", "v1")


@pytest.mark.parametrize("name", ["a/b/c", "/nowhere/at all", "..", "a b"])
def test_what_is_no_name(name):
    with pytest.raises(InputError, match="is neither a folder nor a name on the Hugging Face Hub"):
        hub.fetch(name)
