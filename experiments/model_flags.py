"""The flags of commands that use a model: which model, and what its data contains. `reading_flags` has those that say
how to read a file."""

from typing import Any

from absl import flags

from experiments import command_line
from tx_jax.files import path_of

flags.disclaim_key_flags()  # they count as the entry point's own, so that its --help shows them

DATA_FLAGS = ("text", "choices", "label", "label_separator", "sequence_length", "unanswerable", "decimal")


def define_model(what: str = "a run directory, a converted model, a Hugging Face folder, or a name on its Hub") -> None:
    flags.DEFINE_string("model", None, f"The model: {what}.")
    flags.DEFINE_string("workdir", None, "Another name for --model, for run directories.")


def define_languages() -> tuple[flags.FlagHolder[str | None], flags.FlagHolder[str | None]]:
    """The flags of the languages of pairs: of the source and of the target."""
    return (
        flags.DEFINE_string("source_language", None, "Of a tokenizer with several: the source's, such as en_XX."),
        flags.DEFINE_string("target_language", None, "The target's, such as ro_RO, or fra for Marian."),
    )


def define_data(*, labeled: bool = False) -> None:
    """Each flag is named after a key of `data` in the configuration; if it is not given, the run's value is used.

    Args:
      labeled: whether the labels of the data are read.
    """
    if labeled:
        flags.DEFINE_enum("decimal", None, [".", ","], "Regression: the decimal separator of the numbers.")
    flags.DEFINE_list(
        "text",
        None,
        "The text column, or the two of a pair, comma-separated; for tagging the words, for QA question,context.",
    )
    flags.DEFINE_list("choices", None, "Multiple choice: the columns of the choices.")
    flags.DEFINE_string("label", None, "The label column.")
    flags.DEFINE_string("label_separator", None, "Separator between the labels of a text that has several.")
    flags.DEFINE_integer("sequence_length", None, "Length of a row in tokens, special tokens included.", lower_bound=8)
    flags.DEFINE_bool("unanswerable", None, "Question answering: some questions have no answer (SQuAD 2.0).")
    flags.DEFINE_list(
        "label_map", [], "New names for the model's labels: comma-separated OLD=NEW, such as LABEL_0=negative."
    )


def model_name() -> str:
    """The model that --model or --workdir names. Ends the process if neither or both are given."""
    model, workdir = flags.FLAGS.model, flags.FLAGS.workdir
    if model and workdir:
        command_line.fail(f"--model={model} and --workdir={workdir} both name the model: give one of them")
    if not model and not workdir:
        command_line.fail("--model is needed (or --workdir): what experiments.train or experiments.convert made, ...")
    if workdir and not path_of(workdir, "--workdir").is_dir():
        command_line.fail(f"--workdir={workdir} is not a run directory: there is no such folder")
    return model or workdir


def data_options() -> dict[str, Any]:
    """The keys of `data` that are given as flags."""
    values = {name: flags.FLAGS[name].value for name in DATA_FLAGS if name in flags.FLAGS}
    given = {name: value for name, value in values.items() if value is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
