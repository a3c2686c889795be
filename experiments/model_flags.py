"""The flags of commands that use a model: which one, and what data for it holds. How a file is to be
read is told by `reading_flags`."""

from pathlib import Path
from typing import Any

from absl import flags

from experiments import command_line

flags.disclaim_key_flags()  # they count as the entry point's own, so that its --help shows them

DATA_FLAGS = ("text", "choices", "label", "label_separator", "sequence_length", "unanswerable", "decimal")


def define_model(what: str = "a run directory, a converted model, a Hugging Face folder, or a name on its Hub") -> None:
    flags.DEFINE_string("model", None, f"The model: {what}.")
    flags.DEFINE_string("workdir", None, "Another name of --model, for run directories.")


def define_data(*, labeled: bool = False) -> None:
    """Each has a key of `data` in the configuration as its name; where it is not given, that of the run holds.

    Args:
      labeled: whether the data has labels that are read.
    """
    if labeled:
        flags.DEFINE_enum("decimal", None, [".", ","], "Of regression: what stands before the fraction of a number.")
    flags.DEFINE_list(
        "text",
        None,
        "The column of the text, or the two of a pair, with a comma: the words of tagging, question and context.",
    )
    flags.DEFINE_list("choices", None, "Of multiple choice: the columns of the choices.")
    flags.DEFINE_string("label", None, "The column of the label.")
    flags.DEFINE_string("label_separator", None, "What stands between the labels of a text that has several.")
    flags.DEFINE_integer("sequence_length", None, "Tokens of a row, special ones included.", lower_bound=8)
    flags.DEFINE_bool("unanswerable", None, "Of question answering: whether some questions have no answer (SQuAD 2.0).")
    flags.DEFINE_list(
        "label_map", [], "Other names for labels of the model, OLD=NEW with commas between them: LABEL_0=negative."
    )


def model_name() -> str:
    """What --model or --workdir names. Ends the process where that is none, or two."""
    model, workdir = flags.FLAGS.model, flags.FLAGS.workdir
    if model and workdir:
        command_line.fail(f"--model={model} and --workdir={workdir} both name the model: give one of them")
    if not model and not workdir:
        command_line.fail("--model is needed (or --workdir): what experiments.train or experiments.convert made, ...")
    if workdir and not Path(workdir).is_dir():
        command_line.fail(f"--workdir={workdir} is not a run directory: there is no such folder")
    return model or workdir


def data_options() -> dict[str, Any]:
    """The keys of `data` that are given."""
    values = {name: flags.FLAGS[name].value for name in DATA_FLAGS if name in flags.FLAGS}
    given = {name: value for name, value in values.items() if value is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
