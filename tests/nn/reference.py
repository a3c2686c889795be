"""The layers once more, in NumPy and float64, written from the papers' formulas."""

import math

import numpy as np

erf = np.vectorize(math.erf)

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def dense(p: dict, x: np.ndarray) -> np.ndarray:
    return x @ p["kernel"] + p.get("bias", 0)


def layer_norm(p: dict, x: np.ndarray, eps: float) -> np.ndarray:
    return p["scale"] * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) + p.get("bias", 0)


def attention(p: dict, x: np.ndarray, context: np.ndarray, num_heads: int, mask: np.ndarray) -> np.ndarray:
    """MultiHead(x, context, context), head by head (Vaswani et al. 2017, section 3.2.2).

    `mask` [B, T or 1, S]: keys that count.
    """
    q, k, v = dense(p["query"], x), dense(p["key"], context), dense(p["value"], context)
    width = x.shape[-1] // num_heads
    heads = []
    for h in range(num_heads):
        columns = slice(h * width, (h + 1) * width)
        scores = q[..., columns] @ k[..., columns].swapaxes(-1, -2) / math.sqrt(width)
        heads.append(softmax(np.where(mask, scores, -np.inf)) @ v[..., columns])
    return dense(p["out"], np.concatenate(heads, axis=-1))


def mlp(p: dict, x: np.ndarray, activation: str) -> np.ndarray:
    """FFN(x) (ibid., section 3.3), gated where there is a gate (Shazeer 2020, equation 6)."""
    h = ACTIVATIONS[activation](dense(p["wi"], x))
    return dense(p["wo"], h * dense(p["gate"], x) if "gate" in p else h)


def block(p: dict, x: np.ndarray, cfg, mask: np.ndarray, memory: np.ndarray = None, memory_mask=None) -> np.ndarray:
    """LayerNorm(x + Sublayer(x)) (ibid., section 3.1), or x + Sublayer(LayerNorm(x)) (Radford et al. 2019)."""
    sublayers = {
        "attention": lambda y: attention(p["attention"], y, y, cfg.num_heads, mask),
        "cross_attention": lambda y: attention(p["cross_attention"], y, memory, cfg.num_heads, memory_mask),
        "mlp": lambda y: mlp(p["mlp"], y, cfg.activation),
    }
    for name, sublayer in sublayers.items():
        if name not in p:
            continue
        if cfg.norm_position == "post":
            x = layer_norm(p[f"{name}_norm"], x + sublayer(x), cfg.layer_norm_eps)
        else:
            x = x + sublayer(layer_norm(p[f"{name}_norm"], x, cfg.layer_norm_eps))
    return x


def sinusoid(position: int, dim: int) -> np.ndarray:
    """PE(position) (ibid., section 3.5), component by component."""
    pe = np.zeros(dim)
    for i in range(dim // 2):
        pe[2 * i] = math.sin(position / 10_000 ** (2 * i / dim))
        pe[2 * i + 1] = math.cos(position / 10_000 ** (2 * i / dim))
    return pe


def encoder_decoder(p: dict, cfg, source, source_valid, target, target_valid) -> tuple[np.ndarray, np.ndarray]:
    """The encoder's output and the logits of the Transformer (ibid., section 3); one table for all three uses."""

    def embed(tokens):
        positions = np.stack([sinusoid(t, cfg.dim) for t in range(tokens.shape[1])])
        return p["embeddings"]["token"]["embedding"][tokens] * math.sqrt(cfg.dim) + positions

    def stack(layers, x, depth, *masks):
        for i in range(depth):
            x = block(layers[f"layer_{i}"], x, cfg, *masks)
        return x if cfg.norm_position == "post" else layer_norm(layers["final_norm"], x, cfg.layer_norm_eps)

    memory = stack(p["encoder"], embed(source), cfg.num_layers, source_valid[:, None])
    not_later = np.tril(np.ones((target.shape[1],) * 2, bool))
    mask = not_later & target_valid[:, None]
    hidden = stack(p["decoder"], embed(target), cfg.num_decoder_layers, mask, memory, source_valid[:, None])
    return memory, hidden @ p["embeddings"]["token"]["embedding"].T
