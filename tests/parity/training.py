"""The same initial weights, the same 100 batches of real text, no dropout, AdamW: the losses here and in PyTorch.

    python -m tests.parity.training       # exit code 1 where any step's loss differs by more than 1e-3 of it

BERT (masked LM + next sentence, Devlin et al. 2018) and GPT-2, on the text that every Python carries. PyTorch's part is
transformers' BertForPreTraining and GPT2LMHeadModel with torch.optim.AdamW. Needs torch and transformers.
"""

import pathlib
import sys
import tempfile

import jax
import numpy as np
import torch

from configs import bert_base
from tests.parity import theirs
from tx_jax import tree
from tx_jax.config import ExperimentConfig, from_config_dict
from tx_jax.convert import to_hf
from tx_jax.convert.model_dir import Model
from tx_jax.data.corpus.prepare import PrepareConfig, prepare
from tx_jax.data.corpus.sources import SourceConfig
from tx_jax.tasks.pretraining import Pretraining
from tx_jax.tasks.registry import open_task
from tx_jax.training import optimizer
from tx_jax.training.state import TrainState
from tx_jax.training.step import jit_train_step

STEPS = 100
MAX_RELATIVE = 1e-3


def bert(store: pathlib.Path) -> ExperimentConfig:
    """The paper's optimizer, with a warmup that 100 steps can hold."""
    c = bert_base.get_config("smoke")
    c.model.update(vocab_size=2048, dim=128, num_layers=4, num_heads=4, mlp_dim=512, max_length=64)
    c.model.update(dropout=0.0, attention_dropout=0.0)
    c.data.update(store=str(store / "wordpiece"), sequence_length=64, max_predictions=10)
    c.optimizer.update(learning_rate=1e-3, warmup_steps=10)
    c.training.update(num_steps=STEPS, batch_size=16)
    return from_config_dict(c)


def gpt2(store: pathlib.Path) -> ExperimentConfig:
    """nanoGPT's optimizer."""
    c = bert_base.get_config("smoke")
    c.task = "causal_lm"
    c.model.update(vocab_size=2048, dim=128, num_layers=4, num_heads=4, mlp_dim=512, max_length=64)
    c.model.update(dropout=0.0, attention_dropout=0.0, architecture="decoder", num_segments=0, activation="gelu_tanh")
    c.model.update(norm_position="pre", layer_norm_eps=1e-5, heads=("causal_lm",))
    c.model.update(embedding_norm=False, scale_residual_init=True)
    c.data.update(store=str(store / "bytes"), sequence_length=64, packing="chunks")
    c.optimizer.update(learning_rate=1e-3, warmup_steps=10, schedule="cosine", beta2=0.95, eps=1e-8, weight_decay=0.1)
    c.training.update(num_steps=STEPS, batch_size=16)
    return from_config_dict(c)


def our_losses(config: ExperimentConfig, task: Pretraining, params: dict, batches: list[dict]) -> list[float]:
    """Before each update."""
    adam = optimizer.Optimizer(config)
    state = TrainState(np.int32(0), params, adam.init(params))
    step = jit_train_step(config, task.objective, adam)
    losses = []
    for batch in batches:
        state, metrics = step(state, batch, jax.random.key(0))
        losses.append(metrics["loss"].mean())
    return losses


def their_losses(config: ExperimentConfig, params: dict, batches: list[dict]) -> list[float]:
    """By PyTorch: gradient clipping, AdamW with our learning rates, weight decay where we have it."""
    flat = {path: np.asarray(x) for path, x in tree.flatten(params).items()}
    with tempfile.TemporaryDirectory() as folder:
        name = to_hf.write(Model(config.model, flat, None, None), pathlib.Path(folder) / "model")
        model = theirs.load(pathlib.Path(folder) / "model", name).train()
    settings = config.optimizer
    no_decay = [
        p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name or "ln_" in name
    ]
    decay = [p for p in model.parameters() if all(p is not other for other in no_decay)]
    adam = torch.optim.AdamW(
        [{"params": decay, "weight_decay": settings.weight_decay}, {"params": no_decay, "weight_decay": 0.0}],
        lr=1.0,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
    )
    schedule = optimizer.make_schedule(settings, STEPS)
    losses = []
    for i, batch in enumerate(batches):
        for group in adam.param_groups:
            group["lr"] = float(schedule(i))
        loss = their_loss(model, config, batch)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        adam.step()
        losses.append(float(loss.detach()))
    return losses


def their_loss(model: torch.nn.Module, config: ExperimentConfig, batch: dict) -> torch.Tensor:
    """The model's own loss, from labels in its form."""
    tokens = torch.from_numpy(np.array(batch["tokens"])).long()
    valid = torch.from_numpy(np.array(batch["valid"])).long()
    if "causal_lm" in config.model.heads:
        logits = model(input_ids=tokens, attention_mask=valid).logits
        targets = torch.from_numpy(np.array(batch["targets"])).long()
        targets[torch.from_numpy(np.array(batch["target_weights"])) == 0] = -100
        return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
    labels = np.full(batch["tokens"].shape, -100)
    rows, columns = np.nonzero(batch["masked_weights"])
    labels[rows, batch["masked_positions"][rows, columns]] = batch["masked_targets"][rows, columns]
    return model(
        input_ids=tokens,
        attention_mask=valid,
        token_type_ids=torch.from_numpy(np.array(batch["segments"])).long(),
        labels=torch.from_numpy(labels),
        next_sentence_label=torch.from_numpy(np.array(batch["next_sentence_labels"])).long(),
    ).loss


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, kind in (("wordpiece", "wordpiece"), ("bytes", "byte_bpe")):
            source = SourceConfig(specs=("embedded",))
            prepare(PrepareConfig(store=root / name, source=source, vocab_size=2048, tokenizer_kind=kind))
        for name, config in (("BERT", bert(root)), ("GPT-2", gpt2(root))):
            task = open_task(config)
            params = jax.jit(task.objective.init)(jax.random.key(0))
            source = task.batches("train", batch_size=config.training.batch_size, repeat=True)
            batches = [source.batch_at(i) for i in range(STEPS)]
            theirs_ = their_losses(config, params, batches)
            ours_ = our_losses(config, task, params, batches)
            differences = [abs(a - b) / b for a, b in zip(ours_, theirs_, strict=True)]
            worst = max(worst, *differences)
            print(
                f"{name}: {STEPS} steps, loss {ours_[0]:.4f} -> {ours_[-1]:.4f} here, {theirs_[-1]:.4f} in PyTorch; ",
                end="",
            )
            print(f"largest relative difference {max(differences):.1e}, at step {int(np.argmax(differences)) + 1}")
    sys.exit(f"more than {MAX_RELATIVE}" if worst > MAX_RELATIVE else 0)


if __name__ == "__main__":
    main()
