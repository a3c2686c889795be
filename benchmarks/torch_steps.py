"""The same models in `transformers`, and their train step in PyTorch, as a user would write it.

Three forms: as it comes (eager), compiled by `torch.compile`, and both with our trick, that the masked-LM head computes
the logits of the masked positions only. Attention is what `transformers` chooses by itself (PyTorch's
scaled_dot_product_attention).
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import torch_device, torch_synchronize


def their_model(config: Any, params: dict[str, np.ndarray]) -> Any:
    """The `transformers` model of an experiment, with our parameters."""
    import torch
    import transformers

    from tx_jax.convert import to_hf
    from tx_jax.convert.model_dir import Model

    values, tensors = to_hf.convert(Model(config.model, params, None, None))
    kind = getattr(transformers, values["architectures"][0])
    model = kind(kind.config_class.from_dict(values))
    found = model.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in tensors.items()}, strict=False)
    tied = {
        "cls.predictions.decoder.weight",
        "cls.predictions.decoder.bias",
        "lm_head.weight",
        "lm_head.decoder.weight",
    }
    missing = set(found.missing_keys) - tied - {"lm_head.decoder.bias"}
    if missing or found.unexpected_keys:
        raise ValueError(f"the models differ: missing {sorted(missing)}, unexpected {found.unexpected_keys}")
    model.tie_weights()
    return model.to(torch_device()).train()


class TheirStep:
    """One step of AdamW with clipping; a call runs it and waits for it.

    Args:
      params: our parameters by path.
      dtype: "float32", or "bfloat16" for autocast.
      gathered: whether the masked-LM head sees only the masked positions.
      compiled: whether `torch.compile` compiles the forward and backward pass.
    """

    def __init__(
        self,
        config: Any,
        params: dict[str, np.ndarray],
        batch: dict[str, np.ndarray],
        dtype: str,
        *,
        gathered: bool,
        compiled: bool,
    ):
        import torch

        settings, device = config.optimizer, torch_device()
        model = their_model(config, params)
        named = list(model.named_parameters())
        plain = [
            x
            for name, x in named
            if name.endswith("bias") or "LayerNorm" in name or "layer_norm" in name or "ln_" in name
        ]
        decayed = [x for _, x in named if all(x is not other for other in plain)]
        self._model, self._clip = model, settings.clip_norm
        self._adam = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=settings.learning_rate / 1000,  # of the warmup; it takes no time
            betas=(settings.beta1, settings.beta2),
            eps=settings.eps,
            fused=True,
        )
        self._inputs = {name: torch.from_numpy(np.ascontiguousarray(x)).to(device) for name, x in batch.items()}
        loss = (gathered_loss if gathered else default_loss)(model, batch)
        self._loss = torch.compile(loss) if compiled else loss
        self._precision: Callable[[], Any] = (
            (lambda: torch.autocast(device, dtype=torch.bfloat16)) if dtype == "bfloat16" else contextlib.nullcontext
        )

    def loss(self) -> Any:
        """The loss on the batch, a tensor."""
        with self._precision():
            return self._loss(self._inputs)

    def first_loss(self) -> float:
        """The loss on the batch, before any step."""
        return float(self.loss().detach())

    def __call__(self) -> None:
        import torch

        self._adam.zero_grad(set_to_none=True)
        loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        self._adam.step()
        torch_synchronize()


def default_loss(model: Any, batch: dict[str, np.ndarray]) -> Callable[[dict], Any]:
    """The model's own loss, from labels in its form: logits at every position."""
    import torch

    if "targets" in batch:
        return lambda x: (
            model(input_ids=x["tokens"].long(), attention_mask=x["valid"].long(), labels=x["tokens"].long()).loss
        )
    rows = np.arange(len(batch["tokens"]))[:, None]
    labels = np.full(batch["tokens"].shape, -100, np.int64)
    labels[rows, batch["masked_positions"]] = batch["masked_targets"]
    fixed = {"labels": torch.from_numpy(labels).to(torch_device())}
    if "next_sentence_labels" in batch:
        fixed["next_sentence_label"] = torch.from_numpy(batch["next_sentence_labels"]).long().to(torch_device())

    def loss(x: dict) -> Any:
        return model(**_encoder_inputs(x, batch), **fixed).loss

    return loss


def gathered_loss(model: Any, batch: dict[str, np.ndarray]) -> Callable[[dict], Any]:
    """The same loss, whose masked-LM head computes logits of the masked positions only. Not for causal models."""
    import torch

    def loss(x: dict) -> Any:
        cross_entropy, pairs = torch.nn.functional.cross_entropy, "next_sentence_labels" in batch
        body = model.bert if pairs else model.roberta
        output = body(**_encoder_inputs(x, batch))
        hidden = output.last_hidden_state
        places = x["masked_positions"].long()[:, :, None].expand(-1, -1, hidden.shape[-1])
        logits = (model.cls.predictions if pairs else model.lm_head)(hidden.gather(1, places))
        total = cross_entropy(logits.flatten(0, 1).float(), x["masked_targets"].long().flatten())
        if pairs:
            scores = model.cls.seq_relationship(output.pooler_output)
            total = total + cross_entropy(scores.float(), x["next_sentence_labels"].long())
        return total

    return loss


def _encoder_inputs(x: dict, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    inputs = {"input_ids": x["tokens"].long(), "attention_mask": x["valid"].long()}
    return inputs | ({"token_type_ids": x["segments"].long()} if "next_sentence_labels" in batch else {})
