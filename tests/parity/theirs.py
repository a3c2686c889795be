"""What transformers computes in a case, from a folder that `convert` wrote. Needs torch and transformers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import transformers

from tests.parity import ours

# Names of their outputs -> the heads that they are of.
LOGITS = {
    "prediction_logits": "masked_lm",
    "seq_relationship_logits": "next_sentence",
}


def load(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The model of a folder. Raises AssertionError where a tensor is missing, unexpected or misshapen."""
    kind = getattr(transformers, name)
    model, report = kind.from_pretrained(folder, output_loading_info=True, dtype=dtype, attn_implementation="eager")
    problems = {key: value for key, value in report.items() if value}
    assert not problems, (name, problems)
    return model.eval()


def outputs(model: torch.nn.Module, heads: tuple[str, ...], batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As `ours.outputs`."""
    with torch.no_grad():
        result = run(model, heads, batch, output_hidden_states=True)
    arrays = {name: value.numpy() for name, value in logits(result, heads).items()}
    if "pooled" in heads:
        arrays["pooled"] = result.pooler_output.numpy()
    return {"hidden": torch.stack(result.hidden_states).numpy(), **arrays}


def run(model: torch.nn.Module, heads: tuple[str, ...], batch: Mapping[str, np.ndarray], **kwargs: object):
    inputs = {"input_ids": batch["tokens"], "attention_mask": batch["valid"], "token_type_ids": batch["segments"]}
    tensors = {name: torch.from_numpy(np.asarray(x)).long() for name, x in inputs.items()}
    if model.config.model_type in ("distilbert", "modernbert", "gpt2"):
        del tensors["token_type_ids"]
    if "multiple_choice" in heads:
        tensors = {name: x.reshape(2, -1, x.shape[-1]) for name, x in tensors.items()}
    return model(**tensors, **kwargs)


def logits(result: object, heads: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Logits by head, in our shapes."""
    if "question_answering" in heads:
        return {"question_answering": torch.stack([result.start_logits, result.end_logits], dim=-1)}
    if set(heads) == {"masked_lm", "next_sentence"}:
        return {head: getattr(result, name) for name, head in LOGITS.items()}
    if heads in ((), ("pooled",)):
        return {}
    value = result.logits
    return {heads[0]: value.reshape(-1) if heads == ("multiple_choice",) else value}


def gradients(
    model: torch.nn.Module, heads: tuple[str, ...], batch: Mapping[str, np.ndarray]
) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of `ours.loss_and_gradients`, and its gradients by the names of their tensors."""
    model.zero_grad()
    found = logits(run(model, heads, batch), heads)
    loss = sum((x * torch.from_numpy(ours.waves(tuple(x.shape), batch))).sum() for x in found.values())
    loss.backward()
    return float(loss.detach()), {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
