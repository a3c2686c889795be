"""`experiments.generate` as a user runs it: on a run of a small GPT."""

import json

import numpy as np
import pytest

from tests import programs
from tests.conftest import write_corpus
from tests.convert import folders
from tests.models import small
from tx_jax import tree
from tx_jax.convert import model_dir
from tx_jax.convert.model_dir import Model


def run(module, *arguments, **options):
    return programs.run(f"experiments.{module}", *map(str, arguments), **options)


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt")
    write_corpus(folder / "text.txt", documents=60)
    made = run(
        "prepare",
        f"--source={folder / 'text.txt'}",
        f"--store={folder / 'store'}",
        "--tokenizer_kind=gpt2_bpe",
        "--vocab_size=300",
        "--validation_fraction=0.2",
    )
    assert made.returncode == 0, made.stderr
    done = run(
        "train",
        "--config=configs/gpt2_small.py:smoke",
        f"--config.data.store={folder / 'store'}",
        "--config.model.vocab_size=300",
        "--config.model.num_layers=1",
        "--config.training.num_steps=4",
        f"--workdir={folder / 'run'}",
    )
    assert done.returncode == 0, done.stderr
    assert f"experiments.generate --model={folder / 'run'}" in done.stdout
    return folder / "run"


def test_a_prompt_is_continued_and_a_seed_gives_the_same_text(gpt):
    arguments = [f"--model={gpt}", "--prompt=abcd", "--max_new_tokens=8", "--seed=3"]
    first, again = run("generate", *arguments), run("generate", *arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("abcd")
    assert len(first.stdout) > len("abcd\n")
    assert first.stdout == again.stdout
    assert run("generate", *arguments[:-1], "--seed=4").stdout != first.stdout


def test_a_file_of_prompts(gpt, tmp_path):
    """In their order, whatever their lengths; each is what it is alone."""
    prompts = ["abcd efgh ijab " * 3, "a", "bcde fghi"]
    (tmp_path / "in.txt").write_text("\n".join(prompts) + "\n")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    options = ["--max_new_tokens=6", "--num_return_sequences=2", "--seed=1"]
    for name in ("in.txt", "in.jsonl"):
        done = run(
            "generate", f"--model={gpt}", f"--input={tmp_path / name}", f"--output={tmp_path / name}.out", *options
        )
        assert done.returncode == 0, done.stderr
    text = (tmp_path / "in.txt.out").read_text()
    assert text == (tmp_path / "in.jsonl.out").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [(row["number"], row["sample"], row["prompt"]) for row in rows] == [
        (number, sample, prompt) for number, prompt in enumerate(prompts) for sample in (0, 1)
    ]
    assert {"text", "finish", "score", "tokens", "log_probs"} <= rows[0].keys()
    asked = run("generate", f"--model={gpt}", "--max_new_tokens=6", "--seed=1", stdin="\n" + "\n".join(prompts) + "\n")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith(prompts[0] + rows[0]["text"])


BAD = [
    (["--prompt=", "--max_new_tokens=3"], "error: prompt 0 is empty"),
    (["--prompt=a", "--top_p=0"], "error: --top_p=0.0 must be above 0"),
    (["--prompt=a", "--temperature=-1"], "error: --temperature=-1.0 must not be negative"),
    (["--prompt=a", "--num_beams=301"], "error: num_beams=301 exceeds the vocabulary of 300 tokens"),
    (["--prompt=a b", "--input=x", "--output=y"], "error: --input and --prompt both give prompts"),
    (["--input=missing.txt", "--output=y.jsonl"], "error: missing.txt is not a file"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input(gpt, arguments, message):
    done = run("generate", f"--model={gpt}", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_models_that_cannot(tmp_path):
    """An encoder, and a decoder that only classifies; a decoder does not translate."""
    encoder = folders.write(tmp_path / "encoder", folders.wordpiece(), heads=("masked_lm",))
    decoder = {"architecture": "decoder", "norm_position": "pre", "num_segments": 0, "embedding_norm": False}
    changes = {"activation": "gelu_tanh", "heads": ("sequence_classification",), "num_layers": 1, "mlp_dim": 128}
    shape = small.config(**decoder, **changes, scale_residual_init=True)
    params = {path: np.asarray(x) for path, x in tree.flatten(small.params(shape)).items()}
    model_dir.save(Model(shape, params, folders.wordpiece(), None), tmp_path / "decoder")
    for module, model, said in (
        (
            "generate",
            encoder,
            "error: an encoder, which sees the text on both sides, cannot generate: fill in masks with",
        ),
        ("translate", encoder, f"error: {encoder} is no encoder-decoder, but an encoder: it cannot translate"),
        (
            "generate",
            tmp_path / "decoder",
            "error: the model has no trained causal_lm head to generate with (model.heads=",
        ),
    ):
        done = run(module, f"--model={model}", "--prompt=word1" if module == "generate" else "--text=word1")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == 1


def test_files_that_are_not_text(gpt, tmp_path):
    (tmp_path / "in.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    (tmp_path / "gap.txt").write_text("a\n\nb\n")
    (tmp_path / "other.jsonl").write_text('{"text": "a"}\n')
    for name, message in (
        ("in.txt", "line 1, byte 3: not valid UTF-8"),
        ("gap.txt", "gap.txt, line 2 is empty"),
        ("other.jsonl", "line 1 has no text with the key 'prompt'"),
    ):
        done = run("generate", f"--model={gpt}", f"--input={tmp_path / name}", f"--output={tmp_path / 'out'}")
        assert done.returncode == 2
        assert message in done.stderr
