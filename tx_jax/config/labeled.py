"""The configuration of fine-tuning data: from labeled files to the batch."""

import dataclasses
from typing import Literal

from tx_jax.config.checks import require


@dataclasses.dataclass(frozen=True)
class LabeledDataConfig:
    """The data that a model is fine-tuned on. Lengths are in tokens, special tokens included.

    A source is a file or glob, several of them, comma-separated, or `tfds:NAME#SPLIT`.

    Attributes:
      train, validation, test: a source each. Without `validation`, `validation_fraction` of the training examples are
        held out; `test` may be empty.
      more_splits: more splits to evaluate on, each NAME=SOURCE: mismatched=dev_mismatched.tsv.
      folds: if not 0, the training examples are divided into so many parts, whatever the seed, for cross-validation.
      fold: the part that is held out, from 0.
      format: format of the files; "auto": detected from their content.
      columns: names of the columns, if a table's first line does not give them.
      delimiter: tables: the separator of columns; "": detected, one of , ; | and tab. "\\t" is a tab too.
      quote: tables: the character around texts that contain delimiters or line breaks; "none": quotes mean nothing; "":
        the double quote, or none in TSV.
      comment: CoNLL's columns: lines that begin with it followed by white space, or consist of it, are skipped; "":
        there are no comments.
      null_values: texts that, like an empty one, mean a missing value: ("NA", "nan"). They apply to the columns of
        text, choices and label.
      bad_lines: what to do with lines that have more or fewer fields than the table has columns, or no text or label:
        refuse the file, or skip them and report how many.
      text: the text column, or the two columns of a pair. Tagging: the column of the words; question answering: those
        of the question and the context; multiple choice: the text that all choices continue.
      choices: multiple choice: the columns of the choices.
      label: the label column; for multiple choice, the number of the right choice, from 0.
      label_separator: task multi_label: the separator between a text's labels, if they are not a JSON list.
      class_weights: how much each label counts in the loss, rows LABEL=WEIGHT; or ("balanced",): labels that are rare
        in training count more. For the tasks classification and multi_label.
      labels: in the order of the model's outputs; empty: those of the training data, sorted.
      label_map: for a run that starts from a model with other names for the same labels, OLD=NEW for each label that
        has another name in the data; the head keeps their rows.
      decimal: regression: the decimal separator of numbers given as text: "." or ",".
      metrics: what evaluation reports besides the loss, names in `tasks/scores.py`, for question answering in
        `tasks/question_answering.py`. If empty, those usual for the task; for tagging, entity F1 and related metrics
        for labels such as B-PER, I-PER and O, accuracy for others.
      label_pieces: tagging: which pieces of a word get its label.
      stride: question answering: number of tokens that neighboring windows of a long context share.
      max_question_length: longer questions are truncated.
      max_answer_length: longer spans are not considered as answers.
      n_best: number of answers kept for each question.
      unanswerable: whether some questions have no answer (SQuAD 2.0).
      null_threshold: "no answer" is predicted if it scores better than the best span by more than this.
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
    folds: int = 0
    fold: int = 0
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
        """Where the training data comes from."""
        return self.train

    @property
    def evaluation_splits(self) -> dict[str, str]:
        """The source of each split to evaluate on; "" for examples held out from the training data."""
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
        require(self.folds == 0 or self.folds >= 2, f"data.folds={self.folds} must be at least 2, or 0 for none")
        require(
            0 <= self.fold < (self.folds or self.fold + 1),
            f"data.fold={self.fold} must be from 0 to {self.folds - 1}, as data.folds={self.folds}",
        )
        for split in self.more_splits:
            name, _, source = split.partition("=")
            require(
                name.isidentifier() and bool(source) and name not in ("train", "validation", "test"),
                f"data.more_splits: {split!r} must be NAME=SOURCE, with a name other than train, validation and test",
            )
        names = [split.partition("=")[0] for split in self.more_splits]
        require(len(set(names)) == len(names), f"data.more_splits={self.more_splits} has the same name twice")
        self._check_reading()
        for name in ("columns", "choices", "labels", "metrics", "null_values"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), f"data.{name}={values} has the same value twice")
        for entry in self.label_map:
            require("=" in entry, f"data.label_map: {entry!r} must be OLD=NEW, such as 'LABEL_0=negative'")
        require(len(self.choices) != 1, f"data.choices={self.choices} must name at least two columns, or none")

    def _check_reading(self) -> None:
        delimiter, quote = self.delimiter.replace("\\t", "\t"), self.quote
        one = len(delimiter) <= 1 and not set(delimiter) & set("\r\n")
        require(one, f"data.delimiter={delimiter!r} must be one character, or \\t for a tab")
        one = quote == "none" or (len(quote) <= 1 and not set(quote) & set("\r\n"))
        require(one, f'data.quote={quote!r} must be one character, or "none"')
        require(not quote or quote != delimiter, f"data.quote={quote!r} is the delimiter too")
        require(not set(self.comment) & set(" \t\r\n"), f"data.comment={self.comment!r} must not contain white space")
        tables = ("auto", "csv", "tsv")
        for name, formats in {"delimiter": tables, "quote": tables, "comment": ("auto", "conll")}.items():
            value = getattr(self, name)
            require(
                not value or self.format in formats, f"data.{name}={value!r} means nothing in data.format={self.format}"
            )
        tabs = self.format != "tsv" or delimiter in ("", "\t")
        require(tabs, f"data.format=tsv has tabs between its columns, not data.delimiter={delimiter!r}: give csv")
