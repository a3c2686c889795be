"""Further pretraining of a masked LM on the text of a domain, with words of the domain as new tokens.

    python -m experiments.further_pretrain --config=configs/further_pretrain.py --workdir=runs/covid \\
        --config.start_from=google-bert/bert-base-uncased --config.source='covid/*.txt' \\
        --config.new_tokens=covid,coronavirus --config.similar.covid=virus,pandemic

The learning rate is the highest of those recommended for BERT's fine-tuning (Devlin et al. 2018, A.3). `:smoke` is a
small version, `:mini` one that learns something (python -m experiments.reproduce further_mini). Not yet run on a
published model here.
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    c.source = ""  # text of the domain, as for experiments.prepare --source
    c.new_tokens = ""  # word,word or a file with one word per line
    c.similar = ""  # word=similar,similar;word=similar or a file; also --config.similar.WORD=similar,similar
    c.validation_fraction = 0.05  # of the documents, held out
    c.occurrences = 100  # how many occurrences of each new word the report looks at, at most
    # To fine-tune before and after: "configs/classification.py --config.data.train=texts.csv --seeds=0,1,2,3,4"
    c.downstream = ""

    # The shape is that of the model in start_from. Its pooler, if it has one, is carried along for later fine-tunings.
    c.model.heads = ("masked_lm", "pooled")
    c.data.packing = "full_sentences"
    c.data.sequence_length = 128
    c.data.max_predictions = 20
    c.data.masking = "dynamic"
    c.optimizer.learning_rate = 5e-5
    c.optimizer.warmup_share = 0.06
    c.training.num_steps = 2000
    c.training.batch_size = 32
    c.training.log_every = 20
    c.training.eval_every = 200
    c.training.eval_batch_size = 32
    c.training.eval_batches = 0
    c.training.checkpoint_every = 200
    bert_base.one_phase(c)
    return bert_base.with_variant(c, variant, mini=mini, smoke=smoke)


def get_expected(variant: str = "") -> list[dict]:
    """Of mini, on tinyshakespeare, from a run of `make quickstart-long`: before, its loss there is 5.27 to 5.35."""
    values = {
        "masked_lm_loss": {"value": 3.011, "deviation": 0.071},
        "masked_lm_accuracy": {"value": 0.396, "deviation": 0.005},
    }
    return bert_base.measured(values) if variant == "mini" else []


def mini(c: ConfigDict) -> None:
    """The model of `make quickstart-long` learns Shakespeare, and three of his words, in a minute or two on a CPU."""
    c.start_from = "runs/quickstart_long"
    c.new_tokens = "thou,hath,romeo"
    c.similar = "thou=you;hath=has,have"
    c.data.sequence_length = 64
    c.data.max_predictions = 10
    c.optimizer.learning_rate = 1e-3
    c.training.num_steps = 1500
    c.training.eval_every = 500
    c.training.checkpoint_every = 500


def smoke(c: ConfigDict) -> None:
    """A small version: a few steps on short sequences."""
    bert_base.smoke(c)
