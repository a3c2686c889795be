"""Converts models from and to Hugging Face transformers' format: config.json, safetensors, tokenizer files.

    python -m experiments.convert --from_hf=dccuchile/bert-base-spanish-wwm-cased --out=models/beto
    python -m experiments.convert --from_hf=downloads/bert --out=models/bert --heads=masked_lm,next_sentence
    python -m experiments.convert --model=runs/bert --to_hf=export/bert

--to_hf also writes a model card, README.md with the header that the Hub reads: what the model was trained on, how, and
what it reached. --language=es names the language of the text there.

--from_hf takes a folder, or a name to download from the Hugging Face Hub. --model takes a run directory or a model that
--out wrote. If anything about the input is wrong, nothing is written. Pickles are never loaded.
"""

import sys

from absl import flags

from experiments import command_line

FROM_HF = flags.DEFINE_string("from_hf", None, "A Hugging Face model: a folder, or a name on the Hub.")
OUT = flags.DEFINE_string("out", None, "Folder for the converted model; it must not exist yet.")
HEADS = flags.DEFINE_list("heads", None, "Heads to give the model; those it lacks are initialized. Default: its own.")
NUM_LABELS = flags.DEFINE_integer("num_labels", None, "Number of labels of a classification head.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", None, "Random seed for heads that are initialized; default 0.")
REVISION = flags.DEFINE_string("revision", None, "For a model on the Hub: a branch, tag or commit.")
MODEL = flags.DEFINE_string("model", None, "A run directory, or a converted model.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Another name for --model.")
TO_HF = flags.DEFINE_string("to_hf", None, "Folder for the model in transformers' format; it must not exist yet.")
STEP = flags.DEFINE_integer("step", None, "For a run directory: the checkpoint's step; default: the newest.")
DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "float16", "bfloat16"], "Dtype of the weights in --to_hf; default: that of their source."
)

MODEL_TYPE = flags.DEFINE_string(
    "model_type", None, "Model type for --to_hf if several fit: bert, roberta, xlm-roberta, ...; default: its source's."
)
LANGUAGE = flags.DEFINE_list("language", None, "For the model card of --to_hf: codes such as es, or en,de.")

READING = {"out": OUT, "heads": HEADS, "num_labels": NUM_LABELS, "revision": REVISION, "seed": SEED}
WRITING = {"to_hf": TO_HF, "step": STEP, "dtype": DTYPE, "model_type": MODEL_TYPE, "language": LANGUAGE}


def main(argv: list[str]) -> int:
    if MODEL.value and CHECKPOINT.value:
        command_line.fail("--model and --checkpoint both name the model: give one of them")
    if bool(FROM_HF.value) == bool(MODEL.value or CHECKPOINT.value):
        command_line.fail("give either --from_hf and --out, or --model and --to_hf; see --help")
    here, there = (READING, WRITING) if FROM_HF.value else (WRITING, READING)
    mode, target = ("from_hf", "out") if FROM_HF.value else ("checkpoint" if CHECKPOINT.value else "model", "to_hf")
    if not here[target].value:
        command_line.fail(f"--{mode} needs --{target}: where the result goes")
    if stray := [name for name, flag in there.items() if flag.value is not None]:
        command_line.fail(f"--{stray[0]} makes no sense with --{mode}")
    read() if FROM_HF.value else write()
    return 0


def read() -> None:
    """--from_hf -> --out."""
    from experiments.next_steps import after_converting
    from tx_jax.convert import from_hf, model_dir
    from tx_jax.files import check_free, path_of
    from tx_jax.runs.open_model import locate

    check_free(path_of(OUT.value, "--out"))
    place = locate(FROM_HF.value, revision=REVISION.value)
    if place.kind in ("converted model", "run directory"):
        command_line.fail(f"{place.name} is a {place.kind}: give it as --model, with --to_hf")
    model, report = from_hf.read(
        place.folder,
        heads=HEADS.value,
        num_labels=NUM_LABELS.value,
        name=place.source,
        revision=place.revision,
        seed=SEED.value or 0,
    )
    model_dir.save(model, path_of(OUT.value, "--out"))
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    show(
        f"{FROM_HF.value} -> {OUT.value}",
        {
            "family": model.source.model_type,
            "revision": place.revision or "",
            "parameters": count(model),
            "heads read": ", ".join(report.heads_read) or "none",
            "initialised": ", ".join(report.initialised) or "nothing",
            "dtype": f"{model.source.dtype} in the source, float32 here",
            "ignored": listing(report.ignored),
            "left out": listing(report.left_out),
            "tokenizer": tokenizer(model),
        },
    )
    untrained = "masked_lm" in model.untrained
    if command := after_converting(model.config, model.tokenizer, untrained, path_of(OUT.value, "--out")):
        print(f"next: {command}")


def write() -> None:
    """--model -> --to_hf."""
    from tx_jax.convert import to_hf
    from tx_jax.files import check_free, is_local, path_of, write_atomically
    from tx_jax.reports import facts, model_card
    from tx_jax.runs.open_model import locate, open_model

    model_card.check_languages(LANGUAGE.value or ())
    folder = path_of(TO_HF.value, "--to_hf")
    check_free(folder)
    name = MODEL.value or CHECKPOINT.value
    if locate(name).kind.startswith("Hugging Face"):
        command_line.fail(f"{name} is a Hugging Face model: give it as --from_hf, with --out")
    model = open_model(name, step=STEP.value)
    data = model.experiment and model.experiment.data
    run = facts.read(model.place.folder, path_of(name, "--model").name) if model.experiment else None
    for warning in to_hf.warnings(model, model_type=MODEL_TYPE.value):
        print(f"warning: {warning}", file=sys.stderr)
    written = to_hf.write(
        model,
        folder,
        dtype=DTYPE.value,
        model_type=MODEL_TYPE.value,
        length=getattr(data, "sequence_length", None),
        separators=getattr(data, "pair_separators", None),
    )
    card = model_card.text(model, folder.resolve().name, written, run, LANGUAGE.value or ())
    write_atomically(folder / "README.md", card)
    show(
        f"{name} -> {TO_HF.value}",
        {
            "class": written,
            "parameters": count(model),
            "heads": ", ".join(model.config.heads) or "none",
            "tokenizer": tokenizer(model),
        },
    )
    if is_local(folder):
        print(f"next: transformers.{written}.from_pretrained({TO_HF.value!r})")


def count(model) -> str:
    return f"{sum(x.size for x in model.params.values()):,}"


def tokenizer(model) -> str:
    return f"{model.tokenizer.vocab_size:,} tokens" if model.tokenizer else "no tokenizer files"


def listing(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def show(title: str, rows: dict[str, str]) -> None:
    from rich.table import Table

    from experiments.display import make_console

    table = Table(show_header=False, title=title)
    for key, value in rows.items():
        if value:
            table.add_row(key, value)
    make_console().print(table)


if __name__ == "__main__":
    command_line.run(main)
