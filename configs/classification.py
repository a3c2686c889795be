"""Fine-tuning on your own labeled texts: a file with the columns `text` and `label` is all you need.

    python -m experiments.train --config=configs/classification.py --config.data.train=texts.csv --workdir=runs/texts
    python -m experiments.predict --workdir=runs/texts --input=new.csv --output=labeled.csv

The file is a table, JSON lines, a JSON list or parquet, possibly compressed. The content decides which, not the name;
where they differ, training says so at its start. Other columns: --config.data.text="('title', 'body')" (a pair), and
--config.data.label=topic. A number to predict: --config.task=regression. Several labels for each text,
as a JSON list or with a separator: --config.task=multi_label --config.data.label_separator="|". Another model:
--config.start_from=FOLDER_OR_NAME.

Without --config.data.validation a tenth of each label's examples is held out. The values are among those that the paper
recommends (Devlin et al. 2018, A.3: batch size 16 or 32, learning rate 5e-5, 3e-5 or 2e-5, 2 to 4 epochs).

`:smoke` takes a few steps on a CPU, from the model of `make quickstart`.
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    bert_base.one_phase(c)
    c.start_from = "google-bert/bert-base-uncased"
    c.task = "classification"  # multi_label: several labels; regression: a number
    c.model.heads = ("sequence_classification",)

    c.data = ConfigDict()
    c.data.train = "texts.csv"  # or several, comma-separated; globs; tfds:NAME#SPLIT
    c.data.validation = ""  # empty: hold out validation_fraction of the training examples
    c.data.test = ""
    c.data.more_splits = ()  # more splits to evaluate on: ("mismatched=dev_mismatched.tsv",)
    c.data.validation_fraction = 0.1
    c.data.folds = 0  # cross-validation, as experiments.sweep --folds does it: number of parts
    c.data.fold = 0  # the part that is held out
    c.data.format = "auto"  # detected from the content; or csv, tsv, jsonl, json, parquet, conll, conllu, squad
    c.data.columns = ()  # names of the columns, if a table's first line does not give them
    c.data.delimiter = ""  # tables: the separator of columns; empty: detected
    c.data.quote = ""  # tables: the character around texts that contain delimiters; or none
    c.data.comment = ""  # CoNLL's columns: the start of comment lines
    c.data.null_values = ()  # texts that mean a missing value: ("NA", "nan")
    c.data.bad_lines = "error"  # or skip: lines with the wrong number of fields, or without a text or label
    c.data.text = ("text",)  # two: a pair
    c.data.label = "label"
    c.data.labels = ()  # in the order of the model's outputs; empty: those of the training data, sorted
    c.data.label_map = ()  # if the start model names the labels differently: ("LABEL_0=negative", ...)
    c.data.decimal = "."  # or ",": the decimal separator of regression's numbers
    c.data.choices = ()
    c.data.label_separator = ""  # task multi_label: between the labels of a text, if they are not a JSON list
    c.data.class_weights = ()  # rows LABEL=WEIGHT, or ("balanced",): rare labels count more in the loss
    # Empty: macro_f1 and accuracy; multi_label: macro_f1, micro_f1, label_f1 (for each label); regression: pearson,
    # spearman. Also f1 (for the second of two labels) and mcc.
    c.data.metrics = ()
    c.data.sequence_length = 128
    c.data.read_ahead = 4
    c.data.label_pieces = "first"  # tagging
    c.data.stride = 128  # this and the following keys: question answering
    c.data.max_question_length = 64
    c.data.max_answer_length = 30
    c.data.n_best = 20
    c.data.unanswerable = False
    c.data.null_threshold = 0.0

    c.optimizer.learning_rate = 2e-5
    c.optimizer.warmup_share = 0.1
    c.training.num_epochs = 3.0
    c.training.batch_size = 32
    c.training.eval_batch_size = 64
    c.training.log_every = 50
    c.training.eval_every = 0  # at the end of every epoch
    c.training.eval_batches = 0  # all
    c.training.final_eval_batches = 0  # batches of each split in the final evaluation; 0: all, -1: no final evaluation
    c.training.checkpoint_every = 0
    c.training.keep_last = 1
    c.training.keep_best = 1
    c.training.best_metric = "auto"  # the first of the metrics

    return bert_base.with_variant(c, variant, smoke=smoke)


def smoke(c: ConfigDict) -> None:
    """A small version: a few steps from the model of `make quickstart`, in seconds on a CPU."""
    c.start_from = "runs/quickstart"
    c.model.dtype = "float32"
    c.data.sequence_length = 32
    c.training.num_epochs = 0.0
    c.training.num_steps = 20
    c.training.batch_size = 8
    c.training.log_every = 5
    c.training.eval_every = 10
    c.training.eval_batch_size = 8
    c.training.eval_batches = 2
    c.training.checkpoint_every = 10
