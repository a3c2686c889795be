"""Folders that cannot be read, each with what is said about it; and how one is written."""

import json
import os
import shlex
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.convert import folders
from tx_jax.convert import from_hf, hf_folder, to_hf
from tx_jax.errors import InputError


@pytest.fixture
def bert(tmp_path):
    return folders.write(tmp_path / "bert")


@pytest.fixture
def sharded(bert):
    return folders.shard(bert)


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        from_hf.read(path)
    return str(caught.value)


def weights(path):
    return path / hf_folder.SINGLE


def first_shard(path):
    return sorted(path.glob("model-*.safetensors"))[0]


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "h5", "msgpack", "ckpt"])
def test_no_pickle_is_opened_but_the_command_that_converts_it_is_given(bert, suffix):
    weights(bert).rename(bert / f"pytorch_model.{suffix}")
    said = refused(bert, rf"\.{suffix} files are never loaded")
    command = shlex.split(said[said.index("python -c") :])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "the command", "exec")
    assert f't.BertForPreTraining.from_pretrained("{bert}"' in command[2]
    assert ("from_tf" in command[2]) == (suffix in ("h5", "ckpt"))
    assert ("from_flax" in command[2]) == (suffix == "msgpack")


def test_sharded_pickles_are_recognised(bert):
    weights(bert).rename(bert / "pytorch_model-00001-of-00002.bin")
    refused(bert, r"\.bin files are never loaded")


@pytest.mark.parametrize("name", ["Bert'); import os; os.system('x", "bert", ["a"], 3])
def test_the_command_holds_nothing_of_an_untrusted_config(bert, name):
    weights(bert).rename(bert / "pytorch_model.bin")
    folders.configure(bert, architectures=[name])
    assert "t.AutoModel.from_pretrained" in refused(bert, "never loaded")


def test_no_weights_at_all(bert):
    weights(bert).unlink()
    refused(bert, r"holds no weights: neither model\.safetensors nor model\.safetensors\.index\.json")


def test_no_folder_and_no_config(tmp_path, bert):
    refused(tmp_path / "none", "there is no folder")
    (bert / "config.json").unlink()
    refused(bert, r"is no whole Hugging Face model: it lacks config\.json")


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_damaged_config(bert, text):
    (bert / "config.json").write_text(text, encoding="latin-1")
    refused(bert, r"config\.json (is not valid JSON|holds no table)")


def test_a_config_nested_beyond_reason(bert):
    (bert / "config.json").write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    assert len(refused(bert, r"config\.json is not valid JSON").splitlines()) == 1


def damaged(data, how):
    header = struct.unpack("<Q", data[:8])[0]
    if how == "empty":
        return b""
    if how == "cut in the header":
        return data[: header // 2]
    if how == "cut in the values":
        return data[:-100]
    if how == "more than the header says":
        return data + b"0123"
    if how == "header longer than the file":
        return struct.pack("<Q", len(data)) + data[8:]
    if how == "huge header":
        return struct.pack("<Q", 2**60) + data[8:]
    if how == "header no JSON":
        return data[:8] + b"?" + data[9:]
    text = json.loads(data[8 : 8 + header])
    tensor = text["bert.pooler.dense.bias"]
    if how == "offsets beyond the file":
        tensor["data_offsets"][1] += 10**12
    elif how == "offsets backwards":
        tensor["data_offsets"].reverse()
    elif how == "shape unlike the offsets":
        tensor["shape"] = [10**9]
    new = json.dumps(text).encode()
    return struct.pack("<Q", len(new)) + new + data[8 + header :]


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "cut in the header",
        "cut in the values",
        "more than the header says",
        "header longer than the file",
        "huge header",
        "header no JSON",
        "offsets beyond the file",
        "offsets backwards",
        "shape unlike the offsets",
    ],
)
def test_a_damaged_file(bert, how):
    weights(bert).write_bytes(damaged(weights(bert).read_bytes(), how))
    refused(bert, r"model\.safetensors is no safetensors file: truncated or damaged \(")


def test_a_pointer_of_git_lfs_is_recognised(bert):
    weights(bert).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(bert, "run `git lfs pull`")


@pytest.mark.parametrize("name", ["/etc/passwd", "../other/model.safetensors", "a/../../x", "..\\x"])
def test_an_index_may_not_lead_out_of_the_folder(sharded, name):
    folders.index(sharded, lambda places: places.update({"bert.pooler.dense.bias": name}))
    refused(sharded, "lies outside it: refused")


def test_an_index_may_not_name_what_no_file_can_be_called(sharded):
    folders.index(sharded, lambda places: places.update({"bert.pooler.dense.bias": "a\0b"}))
    assert len(refused(sharded, r"names the file 'a\\x00b': refused").splitlines()) == 1


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_nor_may_a_link(bert, tmp_path, file):
    (bert / file).rename(tmp_path / file)
    (bert / file).symlink_to(tmp_path / file)
    refused(bert, "lies outside it: refused")


def test_the_links_of_the_hubs_cache_are_its_own(bert, tmp_path):
    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots/abc"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(bert.iterdir()):
        file.rename(cache / f"blobs/{number}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert from_hf.read(snapshot)[0].source.name == "abc"
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(tmp_path / "elsewhere.json")
    refused(snapshot, "lies outside it: refused")


def test_a_missing_shard(sharded):
    name = first_shard(sharded).name
    first_shard(sharded).unlink()
    refused(sharded, f"it lacks {name}")


def test_an_index_that_lies(sharded):
    folders.index(sharded, lambda places: places.update({"more": first_shard(sharded).name}))
    refused(sharded, "says that 'more' is in model-00001-of-0000.*, but it is not")
    folders.index(sharded, lambda places: places.pop("more"))
    folders.index(sharded, lambda places: places.pop("bert.pooler.dense.bias"))
    refused(sharded, "holds 'bert.pooler.dense.bias', which")


def test_an_index_without_a_table(sharded):
    (sharded / hf_folder.INDEX).write_text('{"weight_map": [1]}')
    refused(sharded, "its weight_map is no table of file names")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "t5"}, "model_type 't5', which is not supported: supported are bert"),
        ({"model_type": "bertt"}, "Did you mean 'bert'"),
        ({"model_type": None}, "has no model_type"),
        ({"model_type": ["bert"]}, "not supported"),
        ({"hidden_size": 30, "num_attention_heads": 4}, r"hidden_size=30 is not divisible by num_attention_heads=4"),
        ({"hidden_size": "32"}, r"hidden_size='32' must be of type int"),
        ({"hidden_size": True}, r"hidden_size=True must be of type int"),
        ({"hidden_size": 10**12}, rf"describes another model, with hidden_size={10**12}: the files hold 46 tensors"),
        ({"num_hidden_layers": 10**9}, rf"with num_hidden_layers={10**9}"),
        ({"max_position_embeddings": 10**9}, rf"with max_position_embeddings={10**9}"),
        ({"num_hidden_layers": 0}, r"num_hidden_layers=0 must be at least 1"),
        ({"num_hidden_layers": 3}, "16 missing"),
        ({"num_hidden_layers": 1}, "16 unused"),
        ({"vocab_size": 54}, r"~ bert\.embeddings\.word_embeddings\.weight: shape \(53, 32\), expected \(54, 32\)"),
        ({"hidden_act": "swish"}, r"hidden_act='swish' is not supported: only 'gelu', "),
        ({"hidden_act": ["gelu"]}, "is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key' is not supported"),
        ({"is_decoder": True}, "is_decoder=True is not supported"),
        ({"layer_norm_eps": -1}, r"layer_norm_eps=-1\.0 must be positive"),
        ({"hidden_dropout_prob": 1.5}, r"hidden_dropout_prob=1\.5 must be in"),
        ({"num_labels": "2"}, "num_labels='2' must be of type int"),
    ],
)
def test_a_config_that_cannot_be(bert, values, said):
    refused(folders.configure(bert, **values), said)


@pytest.mark.parametrize("architectures", [None, [], "BertModel", [3], ["SomethingElse"], {"a": 1}])
def test_the_class_in_config_json_is_only_a_hint(bert, architectures):
    folders.configure(bert, architectures=architectures)
    assert from_hf.read(bert)[0].config.heads == folders.PRETRAINING


def test_quantised_weights_are_refused(bert):
    folders.change(bert, lambda x: x.update({"bert.pooler.dense.bias": np.zeros(32, np.int8)}))
    refused(bert, r"bert\.pooler\.dense\.bias holds I8 values; only float64, float32, float16, bfloat16")


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(bert, tmp_path, monkeypatch):
    model, _ = from_hf.read(bert)
    before = {file.name: file.read_bytes() for file in bert.iterdir()}
    with pytest.raises(InputError, match="exists and is not empty"):
        to_hf.write(model, bert)
    assert {file.name: file.read_bytes() for file in bert.iterdir()} == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="exists and is not empty"):
        to_hf.write(model, tmp_path / "file")
    monkeypatch.setattr(hf_folder, "save_tensors", lambda *_: save_file({"a": np.zeros(1)}, tmp_path / "no/where"))
    with pytest.raises(Exception, match=r"No such file|os error 2"):
        to_hf.write(model, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bert", "file"]


def test_an_empty_folder_is_taken_and_others_may_read_what_is_written(bert, tmp_path):
    (tmp_path / "empty").mkdir()
    to_hf.write(from_hf.read(bert)[0], tmp_path / "empty")
    assert os.stat(tmp_path / "empty/model.safetensors").st_mode & 0o444 == 0o444


def test_shards_hold_each_tensor_once_and_keep_their_limit(tmp_path):
    model = folders.model()
    to_hf.write(model, tmp_path / "a", max_shard_bytes=20_000)
    index = json.loads((tmp_path / "a" / hf_folder.INDEX).read_text())
    files = sorted((tmp_path / "a").glob("model-*.safetensors"))
    assert set(index["weight_map"].values()) == {file.name for file in files}
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in model.params.values())
    assert all(file.stat().st_size < 20_000 + 5_000 for file in files)
    assert files[-1].name.endswith(f"-of-{len(files):05}.safetensors")
