"""From files with labels to the batch."""

import dataclasses
from typing import Literal

from tx_jax.config.checks import require


@dataclasses.dataclass(frozen=True)
class LabeledDataConfig:
    """What a model is fine-tuned on. Lengths in tokens, specials included.

    A source is a file or glob, several with commas between them, or `tfds:NAME#SPLIT`.

    Attributes:
      train, validation, test: a source each. Without `validation`, `validation_fraction` of the training examples are
        held out; `test` may be empty.
      more_splits: others to evaluate on, each NAME=SOURCE: mismatched=dev_mismatched.tsv.
      format: of the files; "auto" tells by what is in them.
      columns: names of the columns, where a table's first line does not give them.
      delimiter: of a table: what separates its columns; "": found out, among , ; | and tab. "\\t" is a tab too.
      quote: of a table: what stands around texts with delimiters or line breaks in them; "none": nothing does; "": the
        double quote, of TSV nothing.
      comment: of CoNLL's columns: lines that begin with it and a white space, or are nothing else, are left out; "":
        there are none.
      null_values: what else than nothing means that there is no value: ("NA", "nan"). In the columns of text, choices
        and label.
      bad_lines: those with another number of fields than a table has columns, and those without a text or a label:
        refuse the file, or leave them out and say how many.
      text: the column of the text, or the two columns of a pair. Tagging: the column of the words; question answering:
        those of the question and the context; multiple choice: that of what all choices continue.
      choices: multiple choice: the columns of the choices.
      label: the column of the label; of a multiple choice, the number of the right one, from 0.
      label_separator: task multi_label: what stands between the labels of a text, where they are no JSON list.
      class_weights: how much each label counts in the loss, rows LABEL=WEIGHT; or ("balanced",): labels that are rare
        in training count more. For the tasks classification and multi_label.
      labels: in the order of the model's outputs; empty: those of the training data, sorted.
      label_map: of a run that starts from a model with other names for the same labels, OLD=NEW for each label that the
        data calls otherwise: its head keeps their rows.
      decimal: regression: what is between the whole and the fraction of a number in a text: "." or ",".
      metrics: what evaluation reports beside the loss, names of `tasks/scores.py`; question answering: of
        `tasks/question_answering.py`; tagging, empty: entity F1 and what goes with it for labels such as B-PER, I-PER
        and O, accuracy for others.
      label_pieces: tagging: which pieces of a word learn its label.
      stride: question answering: tokens that neighboring windows of a long context share.
      max_question_length: longer questions are cut.
      max_answer_length: longer spans are no answers.
      n_best: answers kept of each question.
      unanswerable: whether some questions have no answer (SQuAD 2.0).
      null_threshold: how much better than the best span "no answer" must score, to be given.
    """

    train: str
    validation: str
    text: tuple[str, ...]
    label: str
    sequence_length: int
    read_ahead: int
    metrics: tuple[str, ...]
    test: str = ""
    more_splits: tuple[str, ...] = ()
    validation_fraction: float = 0.1
    format: Literal["auto", "csv", "tsv", "jsonl", "json", "parquet", "conll", "conllu", "squad"] = "auto"
    columns: tuple[str, ...] = ()
    delimiter: str = ""
    quote: str = ""
    comment: str = ""
    null_values: tuple[str, ...] = ()
    bad_lines: Literal["error", "skip"] = "error"
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    label_map: tuple[str, ...] = ()
    label_separator: str = ""
    class_weights: tuple[str, ...] = ()
    decimal: Literal[".", ","] = "."
    label_pieces: Literal["first", "all"] = "first"
    stride: int = 128
    max_question_length: int = 64
    max_answer_length: int = 30
    n_best: int = 20
    unanswerable: bool = False
    null_threshold: float = 0.0

    @property
    def source(self) -> str:
        """Where the training data is from."""
        return self.train

    @property
    def evaluation_splits(self) -> dict[str, str]:
        """The source of each split to evaluate on; "" for examples that are held out of the training data."""
        given = {"validation": self.validation} | ({"test": self.test} if self.test else {})
        return given | {name: source for name, _, source in (split.partition("=") for split in self.more_splits)}

    def __post_init__(self):
        require(bool(self.train), "data.train is empty: give the file to learn from, --config.data.train=texts.csv")
        require(self.sequence_length >= 8, f"data.sequence_length={self.sequence_length} must be at least 8")
        require(1 <= len(self.text) <= 2, f"data.text={self.text} must name one column, or two for pairs")
        for name in ("read_ahead", "n_best", "max_question_length", "max_answer_length"):
            value = getattr(self, name)
            require(value >= 1, f"data.{name}={value} must be at least 1")
        require(self.stride >= 0, f"data.stride={self.stride} must not be negative")
        fraction = self.validation_fraction
        require(
            bool(self.validation) or 0 < fraction < 1, f"data.validation_fraction={fraction} must be between 0 and 1"
        )
        for split in self.more_splits:
            name, _, source = split.partition("=")
            require(
                name.isidentifier() and bool(source) and name not in ("train", "validation", "test"),
                f"data.more_splits: {split!r} must be NAME=SOURCE, with another name than train, validation and test",
            )
        names = [split.partition("=")[0] for split in self.more_splits]
        require(len(set(names)) == len(names), f"data.more_splits={self.more_splits} has a name twice")
        self._check_reading()
        for name in ("columns", "choices", "labels", "metrics", "null_values"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"data.{name}={values} has one twice")
        for entry in self.label_map:
            require("=" in entry, f"data.label_map: {entry!r} must be OLD=NEW, such as 'LABEL_0=negative'")
        require(len(self.choices) != 1, f"data.choices={self.choices} must be at least two columns, or none")

    def _check_reading(self) -> None:
        delimiter, quote = self.delimiter.replace("\\t", "\t"), self.quote
        one = len(delimiter) <= 1 and not set(delimiter) & set("\r\n")
        require(one, f"data.delimiter={delimiter!r} must be one character, or \\t for a tab")
        one = quote == "none" or (len(quote) <= 1 and not set(quote) & set("\r\n"))
        require(one, f'data.quote={quote!r} must be one character, or "none"')
        require(not quote or quote != delimiter, f"data.quote={quote!r} is the delimiter too")
        require(not set(self.comment) & set(" \t\r\n"), f"data.comment={self.comment!r} must have no white space in it")
        tables = ("auto", "csv", "tsv")
        for name, formats in {"delimiter": tables, "quote": tables, "comment": ("auto", "conll")}.items():
            value = getattr(self, name)
            require(
                not value or self.format in formats, f"data.{name}={value!r} is nothing to data.format={self.format}"
            )
        tabs = self.format != "tsv" or delimiter in ("", "\t")
        require(tabs, f"data.format=tsv has tabs between its columns, not data.delimiter={delimiter!r}: give csv")
