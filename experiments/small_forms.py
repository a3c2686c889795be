"""The recipes that experiments.reproduce knows by name: small enough for a CPU."""

import dataclasses
from collections.abc import Mapping

EMBEDDED = ("--source=embedded", "--vocab_size=2048", "--validation_fraction=0.1")
SHAKESPEARE = "tinyshakespeare's input.txt, https://github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare"
COLA = "the raw files of cola_public_1.1.zip, https://nyu-mll.github.io/CoLA"
UD = "es_gsd-ud-dev.conllu and -test.conllu, https://github.com/UniversalDependencies/UD_Spanish-GSD"


@dataclasses.dataclass(frozen=True)
class Form:
    """A recipe, and how it is run.

    Attributes:
      config: of the training, FILE:VARIANT.
      says: what it is, in a line.
      command: the entry point that trains.
      prepare: arguments of experiments.prepare, or of prepare_pairs, for its store; (): it needs none.
      by: the entry point that makes the store.
      source: where to get what --source names; "": it needs none.
      data: keys that name files, and where to get them.
    """

    config: str
    says: str
    command: str = "train"
    prepare: tuple[str, ...] = ()
    by: str = "prepare"
    source: str = ""
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)


FORMS = {
    "quickstart": Form("configs/quickstart.py", "a BERT of 2 layers on text that Python carries", prepare=EMBEDDED),
    "quickstart_long": Form(
        "configs/quickstart.py:long", "the same from random attention, in seven times the steps", prepare=EMBEDDED
    ),
    "roberta_mini": Form(
        "configs/roberta_base.py:mini",
        "RoBERTa of 2 layers on the same text",
        prepare=(*EMBEDDED, "--tokenizer_kind=byte_bpe"),
    ),
    "gpt_mini": Form(
        "configs/gpt2_small.py:mini",
        "GPT of 3 layers on the same text",
        prepare=(*EMBEDDED, "--tokenizer_kind=gpt2_bpe"),
    ),
    "shakespeare": Form(
        "configs/shakespeare.py",
        "GPT of 6 layers on tinyshakespeare; --source=input.txt",
        prepare=(
            *("--tokenizer_kind=gpt2_bpe", "--vocab_size=512", "--sentences=verbatim", "--validation_fraction=0.1"),
        ),
        source=SHAKESPEARE,
    ),
    "cola_minilm": Form(
        "configs/glue.py:cola_minilm",
        "CoLA from all-MiniLM-L6-v2; --config.data.train=in_domain_train.tsv and so on",
        data={"data.train": COLA, "data.validation": COLA, "data.more_splits": COLA},
    ),
    "pos_minilm": Form(
        "configs/tagging.py:ud_pos_minilm",
        "Spanish parts of speech from all-MiniLM-L6-v2; --config.data.train=dev.conllu --config.data.test=test.conllu",
        data={"data.train": UD, "data.test": UD},
    ),
    "further_mini": Form(
        "configs/further_pretrain.py:mini",
        "quickstart_long's model on tinyshakespeare; --source=input.txt, --config.start_from=runs/quickstart_long",
        command="further_pretrain",
        source=SHAKESPEARE,
        data={"start_from": "a run of it: python -m experiments.reproduce quickstart_long, or make quickstart-long"},
    ),
}
