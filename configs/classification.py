"""Fine-tuning on texts with labels of your own: a file with the columns `text` and `label` needs nothing else.

    python -m experiments.train --config=configs/classification.py --config.data.train=texts.csv --workdir=runs/texts
    python -m experiments.predict --workdir=runs/texts --input=new.csv --output=labeled.csv

A table, JSON lines, a JSON list or parquet, also compressed: the content tells which, not the name; where they differ,
the start of the training says so. Other columns: --config.data.text="('title', 'body')" (two are a pair), and
--config.data.label=topic. A number to predict: --config.task=regression. Several labels of each text, as
a JSON list or with a sign between them: --config.task=multi_label --config.data.label_separator="|". Another model:
--config.start_from=FOLDER_OR_NAME.

Without --config.data.validation a tenth of the examples of every label is held out. The values are those that the paper
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
    c.data.train = "texts.csv"  # or several, with commas; globs; tfds:NAME#SPLIT
    c.data.validation = ""  # empty: hold out validation_fraction of the training examples
    c.data.test = ""
    c.data.more_splits = ()  # others to evaluate on: ("mismatched=dev_mismatched.tsv",)
    c.data.validation_fraction = 0.1
    c.data.format = "auto"  # told by the content; or csv, tsv, jsonl, json, parquet, conll, conllu, squad
    c.data.columns = ()  # the names of the columns, where a table's first line does not give them
    c.data.delimiter = ""  # of a table; empty: found out
    c.data.quote = ""  # of a table: what stands around texts with delimiters in them; or none
    c.data.comment = ""  # of CoNLL's columns: what lines that are comments begin with
    c.data.null_values = ()  # texts that mean that there is no value: ("NA", "nan")
    c.data.bad_lines = "error"  # or skip: lines with another number of fields than columns, or without text or label
    c.data.text = ("text",)  # two: a pair
    c.data.label = "label"
    c.data.labels = ()  # in the order of the model's outputs; empty: those of the training data, sorted
    c.data.label_map = ()  # of a model to start from that has other names for the labels: ("LABEL_0=negative", ...)
    c.data.decimal = "."  # or ",": in the numbers of regression
    c.data.choices = ()
    c.data.label_separator = ""  # of texts with several labels (task multi_label), where they are no JSON list
    c.data.class_weights = ()  # rows LABEL=WEIGHT, or ("balanced",): rare labels count more in the loss
    c.data.metrics = ()  # empty: macro_f1 and accuracy; of several labels macro_f1, micro_f1 and label_f1 (of each); of
    # numbers pearson and spearman. Others of labels: f1 (of the second of two), mcc
    c.data.sequence_length = 128
    c.data.read_ahead = 4
    c.data.label_pieces = "first"  # tagging
    c.data.stride = 128  # question answering, as all that follows
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
    c.training.final_eval_batches = 0  # of each split, at the end; 0: all, -1: no evaluation then
    c.training.checkpoint_every = 0
    c.training.keep_last = 1
    c.training.keep_best = 1
    c.training.best_metric = "auto"  # the first of the metrics

    return bert_base.with_variant(c, variant, smoke=smoke)


def smoke(c: ConfigDict) -> None:
    """The same task in small: from the model of `make quickstart`, a few steps, in seconds on a CPU."""
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
