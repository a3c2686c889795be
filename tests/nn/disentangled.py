"""DeBERTa once more, in NumPy and float64, pair by pair: from the paper, and its source (microsoft/DeBERTa)."""

import math

import numpy as np

from tests.nn import reference


def bucket(distance: int, buckets: int, max_distance: int) -> int:
    """The scalar formula of make_log_bucket_position (deberta/da_utils.py)."""
    middle = buckets // 2
    if abs(distance) <= middle:
        return distance
    steps = math.log(abs(distance) / middle) / math.log((max_distance - 1) / middle) * (middle - 1)
    return int(math.copysign(math.ceil(steps) + middle, distance))


def row(query: int, key: int, cfg) -> int:
    """delta(query, key) (He et al. 2020, equation 3): 0 far before the query's right, 2k - 1 far to its left."""
    distance, span = query - key, cfg.relative_buckets or cfg.relative_distance
    if cfg.relative_buckets:
        distance = bucket(distance, cfg.relative_buckets, cfg.relative_distance)
    return 0 if distance <= -span else 2 * span - 1 if distance >= span else distance + span


def attention(p: dict, x: np.ndarray, context: np.ndarray, table: np.ndarray, cfg, valid: np.ndarray) -> np.ndarray:
    """Equation 4 (ibid.) for every pair of a query and a key; x asks, the context answers."""
    shared = cfg.share_relative_projections
    q, k, v = (reference.dense(p[name], y) for name, y in (("query", x), ("key", context), ("value", context)))
    terms = 1 + len(cfg.relative_attention)
    if "c2p" in cfg.relative_attention:
        relative_k = reference.dense(p["key" if shared else "relative_key"], table)
    if "p2c" in cfg.relative_attention:
        relative_q = reference.dense(p["query" if shared else "relative_query"], table)
    y = np.zeros_like(x)
    length, width = x.shape[1], cfg.dim // cfg.num_heads
    for b in range(len(x)):
        for h in range(cfg.num_heads):
            c = slice(h * width, (h + 1) * width)
            scores = np.full((length, length), -np.inf)
            for i in range(length):
                for j in np.flatnonzero(valid[b]):
                    score = q[b, i, c] @ k[b, j, c]
                    if "c2p" in cfg.relative_attention:
                        score += q[b, i, c] @ relative_k[row(i, j, cfg), c]
                    if "p2c" in cfg.relative_attention:
                        # delta(j, i) of the paper is taken from the key; its source mirrors it: the same row.
                        score += k[b, j, c] @ relative_q[row(i, j, cfg), c]
                    scores[i, j] = score / math.sqrt(terms * width)
            y[b, :, c] = reference.softmax(scores) @ v[b, :, c]
    return reference.dense(p["out"], y)


def encoder(p: dict, cfg, tokens: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last layer's output and the masked LM's logits from the enhanced mask decoder (section 3.2)."""
    norm = lambda name, room, y: reference.layer_norm(room[name], y, cfg.layer_norm_eps)  # noqa: E731
    table = p["encoder"]["relative"]["embedding"]
    if cfg.relative_norm:
        table = norm("norm", p["encoder"]["relative"], table)

    def block(layer: dict, context: np.ndarray, queries: np.ndarray) -> np.ndarray:
        attended = attention(layer["attention"], queries, context, table, cfg, valid)
        y = norm("attention_norm", layer, queries + attended)
        return norm("mlp_norm", layer, y + reference.mlp(layer["mlp"], y, cfg.activation))

    embeddings = p["embeddings"]["token"]["embedding"]
    outputs = [norm("norm", p["embeddings"], embeddings[tokens])]
    for i in range(cfg.num_layers):
        outputs.append(block(p["encoder"][f"layer_{i}"], outputs[-1], outputs[-1]))
        if i == 0 and cfg.conv_kernel:
            outputs[-1] = convolution(p["encoder"]["convolution"], outputs[0], outputs[1], cfg, valid)
    # EnhancedMaskDecoder.emd_context_layer: the last layer twice, on its own input, asked with absolute positions.
    queries = outputs[-2] + p["mask_decoder_position"]["embedding"][: tokens.shape[1]]
    for _ in range(2):
        queries = block(p["encoder"][f"layer_{cfg.num_layers - 1}"], outputs[-2], queries)
    head = p["masked_lm"]
    h = norm("norm", head, reference.ACTIVATIONS[cfg.activation](reference.dense(head["transform"], queries)))
    return outputs[-1], h @ embeddings.T + head["bias"]


def convolution(p: dict, x: np.ndarray, layer: np.ndarray, cfg, valid: np.ndarray) -> np.ndarray:
    """LayerNorm(layer + activation(conv(x))), token by token; padding and what lies beyond the ends is nothing."""
    activation = {"tanh": np.tanh, **reference.ACTIVATIONS}[cfg.conv_activation]
    y = np.tile(p["bias"], (*x.shape[:2], 1))
    for b in range(len(x)):
        for t in range(x.shape[1]):
            for w in range(cfg.conv_kernel):
                s = t + w - cfg.conv_kernel // 2
                if 0 <= s < x.shape[1] and valid[b, s]:
                    y[b, t] += x[b, s] @ p["kernel"][w]
    return reference.layer_norm(p["norm"], layer + activation(y), cfg.layer_norm_eps)
