"""The layers once more, in NumPy and float64, written from the papers' formulas."""

import math

import numpy as np

erf = np.vectorize(math.erf)

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def dense(p: dict, x: np.ndarray) -> np.ndarray:
    return x @ p["kernel"] + p["bias"]


def layer_norm(p: dict, x: np.ndarray, eps: float) -> np.ndarray:
    return p["scale"] * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) + p["bias"]


def attention(p: dict, x: np.ndarray, num_heads: int, valid: np.ndarray) -> np.ndarray:
    """MultiHead(x, x, x), head by head (Vaswani et al. 2017, section 3.2.2); `valid` [B, S]: keys that count."""
    q, k, v = (dense(p[name], x) for name in ("query", "key", "value"))
    width = x.shape[-1] // num_heads
    heads = []
    for h in range(num_heads):
        columns = slice(h * width, (h + 1) * width)
        scores = q[..., columns] @ k[..., columns].swapaxes(-1, -2) / math.sqrt(width)
        scores = np.where(valid[:, None, :], scores, -np.inf)
        heads.append(softmax(scores) @ v[..., columns])
    return dense(p["out"], np.concatenate(heads, axis=-1))


def block(p: dict, x: np.ndarray, cfg, valid: np.ndarray) -> np.ndarray:
    """LayerNorm(x + Sublayer(x)) (ibid., section 3.1), or x + Sublayer(LayerNorm(x)) (Radford et al. 2019)."""

    def mlp(y: np.ndarray) -> np.ndarray:
        return dense(p["mlp"]["wo"], ACTIVATIONS[cfg.activation](dense(p["mlp"]["wi"], y)))

    sublayers = (
        (p["attention_norm"], lambda y: attention(p["attention"], y, cfg.num_heads, valid)),
        (p["mlp_norm"], mlp),
    )
    for norm, sublayer in sublayers:
        if cfg.norm_position == "post":
            x = layer_norm(norm, x + sublayer(x), cfg.layer_norm_eps)
        else:
            x = x + sublayer(layer_norm(norm, x, cfg.layer_norm_eps))
    return x
