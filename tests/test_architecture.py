import pathlib

import pytest

from tests import architecture

ROOT = pathlib.Path(architecture.__file__).parents[1]


def test_the_house_stands():
    assert architecture.problems(ROOT) == []


def test_it_looks_at_every_file():
    """The floors name every room that exists, so a check of nothing would show."""
    rooms = {
        path.stem
        for path in (ROOT / "tx_jax").iterdir()
        if path.suffix in ("", ".py") and not path.name.startswith("__")
    }
    assert rooms <= architecture.FLOOR_OF.keys()
    assert {"nn", "models", "config"} <= rooms


BAD = [
    ("tx_jax/nn/a.py", "import tx_jax.models.encoder", ":1: nn imports tx_jax.models.encoder, which is above it"),
    ("tx_jax/nn/a.py", "from tx_jax import training", ":1: nn imports tx_jax.training, which is above it"),
    ("tx_jax/nn/a.py", "from ..models import encoder", ":1: nn imports tx_jax.models.encoder, which is above it"),
    ("tx_jax/nn/a.py", "def f():\n    import tx_jax.tasks", ":2: nn imports tx_jax.tasks, which is above it"),
    ("tx_jax/config.py", "from tx_jax.nn.mlp import MLP", ":1: config imports tx_jax.nn.mlp.MLP, which is above it"),
    ("tx_jax/__init__.py", "from experiments import train", ":1: api imports experiments.train, which is above it"),
    ("tx_jax/models/a.py", "from tx_jax import interpret", ":1: models imports tx_jax.interpret, which is above it"),
    ("tx_jax/training/a.py", "import experiments.train", ":1: training imports experiments.train, which is above it"),
    ("tx_jax/nn/a.py", "from tx_jax.data import pairs", "nn and data never meet, but it imports tx_jax.data.pairs"),
    ("tx_jax/data/a.py", "from tx_jax.nn import masks", "data and nn never meet, but it imports tx_jax.nn.masks"),
    (
        "tx_jax/runs/a.py",
        "from tx_jax.training import loop",
        ":1: runs imports tx_jax.training.loop, which is above it",
    ),
    ("tx_jax/training/a.py", "import tx_jax.planning.plan", "training imports tx_jax.planning.plan, which is above it"),
    ("tx_jax/hosts/a.py", "import tx_jax.tasks.base", ":1: hosts imports tx_jax.tasks.base, which is above it"),
    ("tx_jax/data/a.py", "import jax.numpy as jnp", ":1: data does without jax, but imports jax.numpy"),
    ("tx_jax/text/a.py", "from flax import struct", ":1: text does without jax, but imports flax.struct"),
    ("tx_jax/tasks/a.py", "import flax.linen as nn", ":1: only interpret, models, nn import flax.linen"),
    ("tx_jax/tasks/a.py", "from flax import linen", ":1: only interpret, models, nn import flax.linen"),
    ("tx_jax/tasks/a.py", "from flax.linen import Module", ":1: only interpret, models, nn import flax.linen"),
    ("experiments/a.py", "import flax.linen", ":1: only interpret, models, nn import flax.linen"),
    ("tx_jax/training/a.py", "from configs import bert_base", ":1: imports configs.bert_base"),
    ("tx_jax/nn/a.py", "import tests.nn", ":1: imports tests.nn"),
    ("configs/a.py", "import tx_jax", ":1: configs import ml_collections and configs only, not tx_jax"),
    ("configs/a.py", "import numpy as np", ":1: configs import ml_collections and configs only, not numpy"),
    ("tx_jax/nn/a.py", "x = 1\n" * 401, ": 401 lines, more than 400"),
    ("experiments/a.py", "x = 1\n" * 401, ": 401 lines, more than 400"),
    ("tx_jax/nn/utils.py", "", ": name the concept, not 'utils' or 'common'"),
    ("tx_jax/common/a.py", "", ": name the concept, not 'utils' or 'common'"),
    ("tx_jax/attic/a.py", "", ": the room 'attic' has no floor"),
]


@pytest.mark.parametrize(
    ("path", "source", "expected"), BAD, ids=[f"{path}-{source[:40]!r}" for path, source, _ in BAD]
)
def test_a_breach_is_found(tmp_path, path, source, expected):
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    found = architecture.problems(tmp_path)
    assert [text for text in found if text.startswith(path) and expected in text], found


GOOD = [
    ("tx_jax/nn/a.py", "import jax\nimport flax.linen as nn\nfrom tx_jax import config\nfrom tx_jax.nn import mlp\n"),
    ("tx_jax/nn/sub/a.py", "from ..mlp import MLP\nfrom . import b\nfrom ...config import TransformerConfig\n"),
    ("tx_jax/data/a.py", "import numpy as np\nimport jaxtyping\nfrom tx_jax.text import load\n"),
    ("tx_jax/models/a.py", "import flax.struct\nfrom tx_jax.nn import stack\n"),
    ("tx_jax/tasks/a.py", "import flax.struct\nimport flax.linen_like\nfrom tx_jax.data import pairs\n"),
    ("tx_jax/decoding.py", "import jax\nfrom tx_jax.models import encoder\nfrom tx_jax.tasks import base\n"),
    ("tx_jax/interpret/a.py", "import flax.linen as nn\n"),
    ("experiments/a.py", "from tx_jax.training import loop\nfrom experiments import display\n"),
    ("configs/a.py", "from ml_collections import ConfigDict\nfrom configs import bert_base\n" + "x = 1\n" * 401),
    ("tx_jax/nn/b.py", "x = 1\n" * 400),
]


def test_what_is_allowed_is_not_reported(tmp_path):
    for path, source in GOOD:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    assert architecture.problems(tmp_path) == []
