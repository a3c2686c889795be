"""BERT base (Devlin et al. 2018): 12 layers, 768 wide, 110M parameters; masked LM and next sentence.

    python -m experiments.prepare --source='text/*.txt' --store=data/bert --vocab_size=30522 --lowercase
    python -m experiments.train --config=configs/bert_base.py --config.data.store=data/bert --workdir=runs/bert

As in the paper, 90% of the steps are at length 128 and 10% at 512; held-out data stays at 128. With
--config.phases.steps="()" all are at 128, and --config.training.num_steps may be any number.

`:smoke` is a small version for a CPU:

    python -m experiments.train --config=configs/bert_base.py:smoke --workdir=runs/smoke

Hardware: 4 Cloud TPUs in pod configuration (16 chips), 4 days (paper, A.2).
Published: GLUE test average 79.6 (paper). Not yet run here.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    c = ConfigDict()
    c.task = "masked_lm"  # or causal_lm, distillation, classification, ...: see tx_jax/tasks/registry.py
    c.seed = 0
    c.start_from = ""  # a run directory, a converted model or a Hugging Face model, which also gives the model's shape
    c.start_fresh = False  # take only the shape and the tokenizer from start_from

    c.model = ConfigDict()
    c.model.architecture = "encoder"  # or decoder, encoder_decoder
    c.model.vocab_size = 30522
    c.model.dim = 768
    c.model.num_layers = 12
    c.model.num_heads = 12
    c.model.mlp_dim = 3072
    c.model.max_length = 512
    c.model.num_segments = 2
    c.model.activation = "gelu"  # the erf form, as in the published checkpoints' configuration
    c.model.norm_position = "post"
    c.model.layer_norm_eps = 1e-12
    c.model.dropout = 0.1
    c.model.attention_dropout = 0.1
    c.model.init_stddev = 0.02
    c.model.heads = ("masked_lm", "next_sentence")
    c.model.dtype = "bfloat16"
    c.model.remat = "none"  # "block" keeps only each layer's input for the backward pass; "dots" also matrix products
    c.model.attention = "auto"  # or the implementation: xla; cudnn on NVIDIA GPUs; splash, rows, relative on TPUs
    c.model.num_labels = 2
    c.model.num_decoder_layers = 0
    c.model.embedding_dim = 0  # 0: dim
    c.model.embedding_norm = True
    c.model.embedding_scale = False
    c.model.decoder_embeddings = False  # BART: True
    c.model.first_norm = False  # mBART: True
    c.model.position_embedding = "learned"  # or sinusoidal, sinusoidal_halves (Marian), rotary, none
    c.model.position_offset = 0  # RoBERTa: 2
    c.model.pooler = "tanh"
    c.model.classifier_transform = False  # ModernBERT: True
    c.model.classifier_pooling = "first"  # or mean
    c.model.classifier_dropout = -1.0  # -1: dropout
    c.model.use_bias = True
    c.model.gated_mlp = False
    c.model.tie_embeddings = True
    c.model.output_bias = False  # of a causal LM; Marian: True
    c.model.scale_residual_init = False
    c.model.initial_attention = ()
    c.model.relative_attention = ()  # DeBERTa: ("c2p", "p2c")
    c.model.relative_distance = 0
    c.model.relative_buckets = 0
    c.model.relative_norm = False
    c.model.share_relative_projections = False
    c.model.key_bias = True
    c.model.conv_kernel = 0
    c.model.conv_activation = "tanh"
    c.model.enhanced_mask_decoder = False
    c.model.rotary_theta = 10_000.0
    c.model.local_window = 0
    c.model.local_rotary_theta = 10_000.0
    c.model.global_every = 1

    c.data = ConfigDict()
    c.data.store = "data/bert"  # or several, to mix: "data/en,data/es"
    c.data.sequence_length = 128
    # pairs, sentence_pairs, full_sentences, doc_sentences, packed_documents; chunks for causal models
    c.data.packing = "pairs"
    c.data.pair_separators = 1  # RoBERTa has 2: <s> A </s></s> B </s>
    c.data.short_sequence_probability = 0.1
    c.data.mask_rate = 0.15
    c.data.mask_rate_end = 0.0  # the rate changes linearly to this over the first mask_rate_steps steps
    c.data.mask_rate_steps = 0
    c.data.max_predictions = 20
    c.data.mask_unit = "token"  # whole_word, span
    c.data.span_probability = 0.2  # of SpanBERT's geometric distribution of span lengths, in words
    c.data.span_max_words = 10
    c.data.replace_with_mask = 0.8
    c.data.replace_with_random = 0.1
    c.data.selective_words = ""  # a file with one word a line: mask only these
    c.data.selective_share = 1.0  # of the sequences; the others are masked at random
    c.data.selective_rate_of = "occurrences"  # of these words, or "tokens" (all): what mask_rate is a share of
    c.data.masking = "static"
    c.data.dupe_factor = 10
    c.data.mixture_weights = ()  # of several stores, such as (0.7, 0.3); empty: by size to the power mixture_alpha
    c.data.mixture_alpha = 1.0  # XLM-R: 0.3
    # Training batches to skip, such as "7,100-120", to get past a loss spike: delete the checkpoints from some steps
    # before the spike on, and the continued run skips these batches.
    c.data.skip_batches = ""
    c.data.read_ahead = 4

    c.optimizer = ConfigDict()
    c.optimizer.learning_rate = 1e-4
    c.optimizer.warmup_steps = 10_000
    c.optimizer.warmup_share = 0.0  # not 0: warm up for this share of all steps, instead of warmup_steps
    c.optimizer.schedule = "linear"  # or cosine, inverse_sqrt, constant
    c.optimizer.final_share = 0.0  # of the peak, at the end of a linear or cosine schedule
    c.optimizer.beta1 = 0.9
    c.optimizer.beta2 = 0.999
    c.optimizer.eps = 1e-6
    c.optimizer.weight_decay = 0.01
    c.optimizer.no_decay = ("bias$", "norm/scale$")
    c.optimizer.clip_norm = 1.0
    c.optimizer.frozen = ()  # paths of parameters that do not train: ("^embeddings/", "encoder/layer_[0-5]/")
    c.optimizer.rate_scale = ()  # shares of the learning rate by path: ("^pooler/=10",)
    c.optimizer.layer_decay = 1.0  # each layer's learning rate is that of the layer above times this

    c.training = ConfigDict()
    c.training.num_steps = 1_000_000
    c.training.num_epochs = 0.0  # not 0: the length of fine-tuning in epochs, instead of num_steps
    c.training.batch_size = 256
    c.training.accumulation_steps = 1
    c.training.log_every = 100
    c.training.eval_every = 10_000
    c.training.eval_batch_size = 256
    c.training.eval_batches = 100
    c.training.checkpoint_every = 10_000
    c.training.keep_last = 2
    c.training.keep_best = 1
    c.training.best_metric = "masked_lm_loss"
    c.training.patience = 0  # not 0: early stopping after so many evaluations in a row without improvement
    c.training.final_eval_batches = 0  # fine-tuning only: see classification.py
    c.training.stall_seconds = 40  # end the run after so many seconds without a batch; 0: never
    c.training.trackers = ()  # ("wandb",) or ("trackio",), besides metrics.jsonl and TensorBoard
    # Skip at most so many updates in a row whose loss or gradient is not finite, then end; 0: end at the first.
    c.training.max_skipped_updates = 10

    # One value per phase; empty: the value in data or training. Held-out data keeps the lengths in data.
    c.phases = ConfigDict()
    c.phases.steps = (900_000, 100_000)  # empty: one phase
    c.phases.sequence_length = (128, 512)
    c.phases.max_predictions = (20, 77)
    c.phases.batch_size = (256, 256)
    c.phases.accumulation_steps = ()  # such as (1, 4), where only long batches need parts

    c.lora = ConfigDict()  # freezes the model in start_from, and trains low-rank products added to its kernels
    c.lora.rank = 0  # 0: no LoRA
    c.lora.alpha = 16.0
    c.lora.dropout = 0.0  # on the adapters' input
    c.lora.targets = ("attention/(query|value)/kernel$",)  # paths of kernels
    c.lora.also_train = ()  # paths of parameters that train in full, besides the pooler and classifiers

    # A student with fewer layers learns from the model in start_from, its teacher.
    c.distillation = ConfigDict()
    c.distillation.layers = 0  # 0: no distillation
    c.distillation.teacher_layers = 0  # this and the next are filled in from the teacher
    c.distillation.teacher_segments = 0
    c.distillation.temperature = 2.0
    c.distillation.soft_weight = 5.0
    c.distillation.masked_lm_weight = 2.0
    c.distillation.cosine_weight = 1.0

    c.mesh = ConfigDict()
    c.mesh.data = -1  # splits examples; -1: all devices that are left
    c.mesh.fsdp = 1  # splits examples, parameters, gradients and optimizer state
    c.mesh.tensor = 1  # splits attention heads, MLP and vocabulary
    c.mesh.context = 1  # splits long sequences along their length

    return with_variant(c, variant, smoke=smoke)


def with_variant(c: ConfigDict, variant: str, **variants) -> ConfigDict:
    """The configuration, changed by the function in `variants` with this name; unchanged for an empty name."""
    if variant and variant not in variants:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(variants)}")
    if variant:
        variants[variant](c)
    return c


def measured(values: dict[str, dict], split: str = "validation", **more) -> list[dict]:
    """Rows of `get_expected`, by metric: what three seeds reached here."""
    here = {"source": "measured here", "hardware": "2 cores of an AMD EPYC", "seeds": 3}
    return [{"split": split, "metric": metric, **value, **here, **more} for metric, value in values.items()]


def one_phase(c: ConfigDict) -> None:
    """All steps have the sequence length and batch size in `data` and `training`."""
    for key in c.phases:
        c.phases[key] = ()


def smoke(c: ConfigDict) -> None:
    """A small version: trains on a CPU in seconds, on the store of `make quickstart`."""
    c.model.vocab_size = 2048
    c.model.dim = 32
    c.model.num_layers = 2
    c.model.num_heads = 2
    c.model.mlp_dim = 64
    c.model.dtype = "float32"
    c.data.store = "data/quickstart"
    c.data.sequence_length = 32
    c.data.max_predictions = 5
    c.optimizer.warmup_share = 0.25
    c.training.num_steps = 20
    c.training.batch_size = 8
    c.training.log_every = 5
    c.training.eval_every = 10
    c.training.eval_batch_size = 8
    c.training.eval_batches = 2
    c.training.checkpoint_every = 10
    one_phase(c)
