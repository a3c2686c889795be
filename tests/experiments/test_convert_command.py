"""The entry point as a user runs it: a run's checkpoint out, in again, and what is said when it cannot be."""

import json

import numpy as np
import pytest

from tests.convert import folders
from tests.experiments import test_command_lines
from tx_jax import tree
from tx_jax.config import from_config_dict
from tx_jax.convert import from_hf, model_dir
from tx_jax.evaluation.fill_mask import fill_mask
from tx_jax.runs import trained
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training import loop


class Silent:
    def __getattr__(self, name):
        return lambda *_: None


@pytest.fixture(scope="module")
def run(tiny_store, tmp_path_factory):
    """A run of four steps, with checkpoints after two and four."""
    from configs import bert_base

    c = bert_base.get_config("smoke")
    c.model.vocab_size, c.model.num_layers = 200, 1
    c.data.store = str(tiny_store.path)
    c.training.num_steps, c.training.checkpoint_every, c.training.eval_every, c.training.keep_last = 4, 2, 0, 2
    config, workdir = from_config_dict(c), tmp_path_factory.mktemp("run")
    loop.train(config, MaskedLM(config, tiny_store), workdir, Silent())
    return workdir


def convert(*arguments):
    return test_command_lines.run("convert", *arguments)


def test_a_run_goes_out_and_comes_in_again(run, tmp_path):
    done = test_command_lines.executed("convert", f"--checkpoint={run}", f"--to_hf={tmp_path}/hf")
    assert done.returncode == 0, done.stderr
    assert "BertForPreTraining" in done.stdout
    assert {
        "config.json",
        "model.safetensors",
        "vocab.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    } <= {file.name for file in (tmp_path / "hf").iterdir()}
    assert "These are the parameters of step " in (tmp_path / "hf/README.md").read_text()
    done = convert(f"--from_hf={tmp_path}/hf", f"--out={tmp_path}/model")
    assert done.returncode == 0, done.stderr
    for words in ("bert", "masked_lm, next_sentence", "200 tokens", "nothing"):
        assert words in done.stdout
    original, again = trained.load(run), trained.load(tmp_path / "model")
    assert again.tokenizer.fingerprint == original.tokenizer.fingerprint
    before, after = tree.flatten(original.params), tree.flatten(again.params)
    assert before.keys() == after.keys()
    assert all((np.asarray(before[path]) == np.asarray(after[path])).all() for path in before)
    text = "abcd [MASK] efgh."
    assert fill_mask(original, text, top=3) == fill_mask(again, text, top=3)


def test_an_earlier_step_in_another_precision(run, tmp_path):
    done = convert(f"--checkpoint={run}", "--step=2", "--dtype=bfloat16", f"--to_hf={tmp_path}/hf")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "hf/config.json").read_text())["dtype"] == "bfloat16"
    early = np.asarray(trained.load(run, 2).params["pooler"]["kernel"])
    read = from_hf.read(tmp_path / "hf")[0].params["pooler/kernel"]
    np.testing.assert_allclose(read, early, rtol=2**-8)
    late = np.asarray(trained.load(run, 4).params["pooler"]["kernel"])
    assert np.abs(read - early).mean() < np.abs(read - late).mean()


def test_what_was_read_initialised_and_left_out_is_shown(tmp_path):
    path = folders.write(tmp_path / "hf", heads=("masked_lm",))
    done = convert(
        f"--from_hf={path}", f"--out={tmp_path}/model", "--heads=sequence_classification", "--num_labels=3", "--seed=5"
    )
    assert done.returncode == 0, done.stderr
    assert "pooler" in done.stdout
    assert "sequence_classification" in done.stdout
    assert "cls.predictions.bias" in done.stdout
    assert "no tokenizer files" in done.stdout
    model = model_dir.load(tmp_path / "model")
    assert model.config.num_labels == 3
    expected, _ = from_hf.read(path, heads=["sequence_classification"], num_labels=3, seed=5)
    assert all((model.params[key] == expected.params[key]).all() for key in model.params)
    done = convert(f"--checkpoint={tmp_path}/model", f"--to_hf={tmp_path}/again")
    assert done.returncode == 0, done.stderr
    assert "BertForSequenceClassification" in done.stdout
    assert "warning: sequence_classification is untrained" in done.stderr


def test_masks_filled_by_an_untrained_head_come_with_a_warning(tmp_path):
    path = folders.write(tmp_path / "hf", folders.wordpiece(), heads=("pooled",))
    convert(f"--from_hf={path}", f"--out={tmp_path}/model", "--heads=masked_lm")
    done = test_command_lines.run("fill_mask", f"--workdir={tmp_path}/model", "--text=word1 [MASK]")
    assert done.returncode == 0, done.stderr
    assert "warning: masked_lm is untrained" in done.stderr


def test_warnings_do_not_stop_it(tmp_path):
    def spoil(x):
        x["bert.pooler.dense.bias"][0] = np.nan

    path = folders.change(folders.write(tmp_path / "hf"), spoil)
    done = convert(f"--from_hf={path}", f"--out={tmp_path}/model")
    assert done.returncode == 0
    assert done.stderr == "warning: NaN or infinity in bert.pooler.dense.bias\n"


BAD = {
    "nothing": ([], "give either --from_hf and --out, or --model and --to_hf"),
    "both": (["--from_hf=a", "--checkpoint=b"], "give either"),
    "no out": (["--from_hf={tmp}/hf"], "--from_hf needs --out"),
    "two models": (["--checkpoint=a", "--model=b", "--to_hf={tmp}/x"], "both name the model"),
    "no to_hf": (["--checkpoint={tmp}"], "--checkpoint needs --to_hf"),
    "stray flag": (["--from_hf={tmp}/hf", "--out={tmp}/x", "--step=3"], "--step makes no sense with --from_hf"),
    "seed to write": (["--checkpoint={tmp}", "--to_hf={tmp}/x", "--seed=3"], "--seed makes no sense with --checkpoint"),
    "Hugging Face as checkpoint": (["--checkpoint={tmp}/hf", "--to_hf={tmp}/x"], "give it as --from_hf, with --out"),
    "converted model as source": (["--from_hf={tmp}/model", "--out={tmp}/x"], "give it as --model, with --to_hf"),
    "run as source": (["--from_hf={tmp}/run", "--out={tmp}/x"], "run is a run directory: give it as --model"),
    "unknown dtype": (["--checkpoint={tmp}", "--to_hf={tmp}/x", "--dtype=int8"], "dtype"),
    "revision of a folder": (["--from_hf={tmp}/hf", "--out={tmp}/x", "--revision=main"], "is a local folder"),
    "taken": (["--from_hf={tmp}/hf", "--out={tmp}/hf"], "exists and is not empty"),
    "no run": (["--checkpoint={tmp}", "--to_hf={tmp}/x"], "is not a run directory"),
    "no network": (["--from_hf=someone/model", "--out={tmp}/x"], "cannot be fetched from the Hugging Face Hub"),
    "no name": (["--from_hf=some/where/else", "--out={tmp}/x"], "neither a folder nor a name"),
    "unknown head": (["--from_hf={tmp}/hf", "--out={tmp}/x", "--heads=mlm"], "no head 'mlm' here"),
    "pickle": (["--from_hf={tmp}/pickle", "--out={tmp}/x"], "python -c 'import transformers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_error_with_exit_code_2(name, tmp_path):
    folders.write(tmp_path / "hf")
    folders.write(tmp_path / "pickle")
    model_dir.save(folders.model(), tmp_path / "model")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text('{"model": {}, "training": {}}')
    (tmp_path / "pickle/model.safetensors").rename(tmp_path / "pickle/pytorch_model.bin")
    arguments, said = BAD[name]
    done = convert(*(a.format(tmp=tmp_path) for a in arguments))
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert not (tmp_path / "x").exists()


def test_tensors_that_do_not_fit_are_listed_and_nothing_is_written(tmp_path):
    path = folders.change(folders.write(tmp_path / "hf"), lambda x: {k: v for k, v in x.items() if "query" not in k})
    done = convert(f"--from_hf={path}", f"--out={tmp_path}/model")
    assert done.returncode == 2
    first, *lines, advice = done.stderr.splitlines()
    assert "must be those of one model" in advice
    assert first.startswith("error: the files hold ")
    assert len(lines) == 4
    assert all(line.startswith("- missing: bert.encoder.layer.") for line in lines)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hf"]


def test_help_teaches():
    done = convert("--help")
    assert done.returncode == 0
    assert "python -m experiments.convert --from_hf=" in done.stdout
