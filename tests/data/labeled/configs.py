"""The configuration of labeled data that tests start from."""

from tx_jax.config.labeled import LabeledDataConfig


def labeled(train="", **changes) -> LabeledDataConfig:
    values = {
        "train": str(train) or "unused.csv",
        "validation": "",
        "text": ("text",),
        "label": "label",
        "sequence_length": 16,
        "read_ahead": 1,
        "metrics": ("accuracy",),
    }
    return LabeledDataConfig(**values | changes)
