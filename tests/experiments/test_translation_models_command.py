"""A translation model from Hugging Face as a user goes: translate, convert, train further, write back."""

import dataclasses
import json

import numpy as np
import pytest

import tx_jax
from experiments.decoding_flags import say_suggested
from tests import programs
from tests.data.translation import pairs
from tests.golden import pair_tokenizers
from tests.models import small
from tests.parity.cases import SEQ2SEQ
from tx_jax import api, text, tree
from tx_jax.convert import to_hf
from tx_jax.convert.model_dir import Model, Source
from tx_jax.decoding import Options
from tx_jax.errors import InputError
from tx_jax.runs.open_model import open_model
from tx_jax.text import pair_forms


def run(module, *arguments, **options):
    return programs.run(f"experiments.{module}", *map(str, arguments), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Marian and an mBART-50 of a layer."""
    root = tmp_path_factory.mktemp("models")
    for name, kind in (("Marian", "marian"), ("mBART", "mbart50")):
        pair_tokenizers.write(kind, root / "tokenizer" / kind)
        tokenizer, (model_type, config) = text.load(root / "tokenizer" / kind), SEQ2SEQ[name]
        sizes = {"vocab_size": tokenizer.vocab_size, "num_layers": 1, "num_decoder_layers": 1, "dim": 16, "mlp_dim": 16}
        config = dataclasses.replace(config, **sizes, num_heads=2, max_length=64)
        params = {path: np.asarray(x) for path, x in tree.flatten(small.params(config)).items()}
        to_hf.write(Model(config, params, tokenizer, Source("", None, model_type, "float32", {})), root / kind)
    return root


def test_a_folder_translates_and_bad_languages_are_refused(folder):
    one, two = folder / "marian", folder / "mbart50"
    few = ("--text=The cat", "--num_beams=1", "--max_new_tokens=3")
    said = {"num_beams": 6, "max_length": 512, "no_repeat_ngram_size": 3, "length_penalty": 1.0}
    values = json.loads((one / "generation_config.json").read_text())
    (one / "generation_config.json").write_text(json.dumps(values | said))
    done = run("translate", f"--model={one}", "--target_language=spa", *few)
    assert (done.returncode, done.stderr.splitlines()) == (0, [
        "the model's generation_config.json suggests --num_beams=6: give what you want of it",
        "without a counterpart here, in its generation_config.json: no_repeat_ngram_size=3",
    ])  # fmt: skip
    assert len(done.stdout.splitlines()) == 1
    done = run("translate", f"--model={two}", "--target_language=ro_RU", *few)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --target_language=ro_RU is not among the languages that the tokenizer has")
    assert "Did you mean 'ru_RU'?" in done.stderr
    done = run("prepare_pairs", "--train=a,b", "--validation=a,b", f"--store={folder / 'no'}", "--source_language=de")
    assert done.returncode == 2
    assert "--source_language chooses among the languages of a --tokenizer" in done.stderr


def test_languages_in_python(folder, monkeypatch):
    monkeypatch.setattr(api.Model, "_decoded", lambda self, *asked: (self.tokenizer.pair_form, asked[1]))
    model = tx_jax.load(folder / "mbart50")
    form, text_ = model.translate("The cat", source_language="en_XX", target_language="ro_RO")
    assert (form.source_language, form.target_language, text_) == ("en_XX", "ro_RO", "The cat")
    with pytest.raises(InputError, match="ro_RU is not among the languages"):
        model.translate("The cat", target_language="ro_RU")


def test_the_form_of_a_store_must_be_that_of_the_model(folder):
    """A store whose tokenizer has lost the model's form, though its ids are the same."""
    specs = {name: pairs.write(folder, name, pairs.made(size)) for name, size in (("few", 30), ("held", 8))}
    text.load(folder / "tokenizer/mbart50").with_pair_form(pair_forms.PLAIN).save(folder / "plain")
    made = run(
        "prepare_pairs",
        f"--tokenizer={folder / 'plain'}",
        f"--train={specs['few']}",
        f"--validation={specs['held']}",
        f"--store={folder / 'plain_store'}",
    )
    assert made.returncode == 0, made.stderr
    done = run(
        "train",
        "--config=configs/multi30k.py:smoke",
        f"--config.start_from={folder / 'mbart50'}",
        f"--config.data.store={folder / 'plain_store'}",
        f"--workdir={folder / 'refused'}",
    )
    assert done.returncode == 2
    assert "was made for models whose pairs have another form ('plain', not 'mbart50'): prepare it again" in done.stderr
    assert not (folder / "refused").exists()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["marian", "mbart50"])
def test_a_model_is_trained_further_and_written_back(kind, folder):
    specs = {name: pairs.write(folder, name, pairs.made(size)) for name, size in (("train", 60), ("val", 8))}
    languages = ["--target_language=spa"] if kind == "marian" else ["--source_language=en_XX"]
    ours, store, workdir = (folder / f"{kind}_{name}" for name in ("ours", "store", "run"))
    assert run("convert", f"--from_hf={folder / kind}", f"--out={ours}").returncode == 0
    done = run(
        "prepare_pairs",
        f"--tokenizer={ours / 'tokenizer'}",
        f"--train={specs['train']}",
        f"--validation={specs['val']}",
        f"--store={store}",
        *languages,
    )
    assert done.returncode == 0, done.stderr
    assert f"--config.start_from={ours}" in done.stdout
    done = run(
        "train",
        "--config=configs/multi30k.py:smoke",
        f"--config.start_from={ours}",
        f"--config.data.store={store}",
        "--config.training.num_steps=8",
        "--config.training.eval_every=0",
        "--config.training.checkpoint_every=8",
        f"--workdir={workdir}",
    )
    assert done.returncode == 0, done.stderr
    assert run("convert", f"--model={workdir}", f"--to_hf={folder / kind}_back").returncode == 0
    before, after = open_model(ours), open_model(f"{folder / kind}_back")
    assert any((before.params[path] != x).any() for path, x in after.params.items())
    expected = {"marian": ("marian", "", "spa"), "mbart50": ("mbart50", "en_XX", "xh_ZA")}[kind]
    assert after.tokenizer.pair_form == expected
    config = json.loads((folder / f"{kind}_back/config.json").read_text())
    assert config["model_type"] == kind.removesuffix("50")
    assert 'pipeline_tag: "translation"' in (folder / f"{kind}_back/README.md").read_text()
    few = ("--text=The cat", "--max_new_tokens=3")
    one, two = (run("translate", f"--model={model}", *few) for model in (workdir, f"{folder / kind}_back"))
    assert (one.returncode, one.stdout) == (two.returncode, two.stdout) == (0, one.stdout)


def test_what_is_done_anyway_is_not_suggested(capsys):
    say_suggested({"temperature": 1.0, "top_k": 0, "top_p": 0.9}, Options())
    assert capsys.readouterr().err.endswith(" suggests --top_p=0.9: give what you want of it\n")
    say_suggested({"temperature": 1.0}, Options(temperature=0.5))
    assert "suggests --temperature=1.0:" in capsys.readouterr().err
