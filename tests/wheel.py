"""The wheel as a user has it: built, installed into a fresh environment, and used in an empty folder.

    make wheel-test

It needs a package index, and takes minutes: pretrains, fine-tunes and generates with the small forms of the recipes.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXTS = "label,text\n" + "".join(f"{i % 2},{'good' if i % 2 else 'bad'} number {i}\n" for i in range(40))
SENTENCE = "the river runs past the old mill and the road to the town where people sell bread, fish and paper"
WORDS = SENTENCE.split()
CORPUS = "\n\n".join(
    "\n".join(" ".join(WORDS[(i * j + k) % len(WORDS)] for k in range(3 + j % 6)) + "." for j in range(1, 9))
    for i in range(1, 121)
)
IN_PYTHON = """
import sys, tx_jax
c = tx_jax.get_config("bert_base:smoke")
c.data.store, c.model.vocab_size = "store", 128
c.training.update(num_steps=2, eval_every=0, checkpoint_every=2, keep_best=0)
tx_jax.train(c, "python", progress=False)
assert tx_jax.load("python").fill_mask("a [MASK].")
for name in ("experiments", "configs", "tests", "config"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} is a top-level name")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel = _built(folder)
        top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
        assert top == {"tx_jax", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}, top
        _do(sys.executable, "-m", "venv", folder / "venv")
        bin_ = folder / "venv/bin"
        _do(bin_ / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
        (folder / "work").mkdir()
        _use(bin_, folder / "work")
    print("The wheel installs and runs.")


def _built(folder: Path) -> Path:
    """The wheel, built from a copy, so that nothing is left in the clone."""
    _do("cp", "-r", *(ROOT / name for name in ("tx_jax", "experiments", "configs")), folder)
    _do("cp", *(ROOT / name for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")), folder)
    _do(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder / 'dist'}", folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def _use(bin_: Path, work: Path) -> None:
    (work / "texts.csv").write_text(TEXTS)
    (work / "corpus.txt").write_text(CORPUS)

    def tx_jax(*arguments: str) -> str:
        return _do(bin_ / "tx-jax", *arguments, cwd=work)

    assert "tx-jax prepare" in tx_jax("prepare", "--help")
    tx_jax("prepare", "--source=corpus.txt", "--store=store", "--vocab_size=100")
    small = "--config.data.store=store", "--config.model.vocab_size=128"
    shown = tx_jax("train", "--config=bert_base:smoke", *small, "--workdir=bert")
    assert "Next: tx-jax fill_mask" in shown, shown
    fine_tuning = "--config.start_from=bert", "--config.data.train=texts.csv", "--workdir=texts"
    tx_jax("train", "--config=configs/classification.py:smoke", *fine_tuning)
    tx_jax("predict", "--workdir=texts", "--input=texts.csv", "--output=predicted.csv")
    assert "prediction" in (work / "predicted.csv").read_text().partition("\n")[0]
    chunks = "--tokenizer_kind=gpt2_bpe", "--sentences=verbatim", "--vocab_size=300"
    tx_jax("prepare", "--source=corpus.txt", *chunks, "--store=bytes")
    tx_jax("train", "--config=gpt2_small:smoke", "--config.data.store=bytes", "--workdir=gpt")
    assert tx_jax("generate", "--model=gpt", "--prompt=good", "--max_new_tokens=5")
    _do(bin_ / "python", "-c", IN_PYTHON, cwd=work)


def _do(*command: object, cwd: Path | None = None) -> str:
    print("$", *command, flush=True)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
