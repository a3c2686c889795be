"""Adapts a masked LM to the text of a domain: adds its words as tokens, trains on, exports and reports.

    python -m experiments.further_pretrain --config=configs/further_pretrain.py --workdir=runs/covid \\
        --config.start_from=google-bert/bert-base-uncased --config.source='covid/*.txt' \\
        --config.new_tokens=covid,coronavirus --config.similar.covid=virus,pandemic

Each step is a command that can be run alone; this one prints what it runs and skips steps whose result already exists.
To redo a step, remove its result and all later ones. WORKDIR will hold start/ (the model with the new tokens), store/
(the text), run/ (the training), huggingface/ (the model in transformers' format) and report/.

If you have texts with labels, the report can say whether all this helps to classify them. The same fine-tuning, with
the same seeds, then starts from the original model and from the adapted one (downstream/):

    --config.downstream='configs/classification.py --config.data.train=texts.csv'

A classifier on the adapted model starts with the pooler of --config.start_from, which is carried along unchanged. If
that model has none, like many masked LMs, the pooler is newly initialized.

The exit code is that of the step that failed, or 0. Run the command again to continue.
"""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from experiments import command_line
from experiments.steps import run_step
from experiments.word_lists import one_argument_each, read_words
from tx_jax.config.further import FURTHER_KEYS, further_config
from tx_jax.files import path_of

CONFIG = config_flags.DEFINE_config_file("config", help_string="Default: configs/further_pretrain.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes.")


def main(argv: list[str]) -> int:
    values = CONFIG.value.to_dict()
    config = further_config(values)
    if not WORKDIR.value or not values["start_from"]:
        command_line.fail("needed: --workdir and --config.start_from, the model to adapt; see --help")
    workdir, words = path_of(WORKDIR.value, "--workdir"), ",".join(read_words(config.new_tokens))
    start, store, run = workdir / "start", workdir / "store", workdir / "run"
    ours = tuple(f"--config.{key}=" for key in (*FURTHER_KEYS, "start_from", "data.store"))
    given = [argument for argument in ARGUMENTS if argument.startswith("--config") and not argument.startswith(ours)]
    downstream, report = workdir / "downstream", workdir / "report/report.json"

    def fine_tuning(name: str, model: str | Path) -> dict[Path, tuple[str, ...]]:
        if not config.downstream:
            return {}
        folder = downstream / name
        command = ("train", *config.fine_tuning, f"--config.start_from={model}", f"--workdir={folder}")
        return {folder / "seeds.json": command}

    before, after = fine_tuning("original", values["start_from"]), fine_tuning("after", run)
    steps = {
        **before,  # first, so that its errors show at once
        start / "model.json": (
            "add_tokens",
            f"--model={values['start_from']}",
            f"--new_tokens={words}",
            f"--similar={config.similar}",
            f"--out={start}",
        ),
        store / "meta.json": (
            "prepare",
            f"--source={config.source}",
            f"--tokenizer={start / 'tokenizer'}",
            f"--validation_fraction={config.validation_fraction}",
            f"--store={store}",
        ),
        run / "DONE": (
            "train",
            *given,
            f"--config.start_from={start}",
            f"--config.data.store={store}",
            f"--workdir={run}",
        ),
        workdir / "huggingface/config.json": (
            "convert",
            f"--checkpoint={run}",
            f"--to_hf={workdir / 'huggingface'}",
        ),
        **after,
        report: (
            "domain_report",
            f"--original={values['start_from']}",
            f"--before={start}",
            f"--after={run}",
            f"--words={words}",
            f"--occurrences={config.occurrences}",
            f"--downstream={downstream if config.downstream else ''}",
            f"--out={workdir / 'report'}",
        ),
    }
    workdir.mkdir(parents=True, exist_ok=True)
    for result, (name, *arguments) in steps.items():
        command = ["python", "-m", f"experiments.{name}", *arguments]
        if _is_made(result, (*before, *after) if result == report else ()):
            print(f"{result} exists: skipping {command[2]}", flush=True)
            continue
        print(f"\n$ {shlex.join(command)}", flush=True)
        if code := run_step([sys.executable, *command[1:]]):
            return code
    return 0


def _is_made(result: Path, sources: Iterable[Path]) -> bool:
    """Whether the result exists and is not older than its sources."""
    return result.exists() and all(source.stat().st_mtime <= result.stat().st_mtime for source in sources)


if __name__ == "__main__":
    ARGUMENTS = one_argument_each(sys.argv[1:])  # absl removes the flags that it knows from sys.argv
    if not any(argument.startswith("--config=") for argument in ARGUMENTS):
        ARGUMENTS.insert(0, "--config=configs/further_pretrain.py")
    sys.argv[1:] = ARGUMENTS
    command_line.run(main)
