import subprocess
import sys
from pathlib import Path

import tx_jax


def test_text_and_data_run_without_jax_and_tensorflow():
    folder = Path(tx_jax.__file__).parent
    # The loader is left out: it reads ahead with Grain, which brings JAX.
    names = [
        f"tx_jax.{package}.{path.stem}" for package in ("text", "data") for path in (folder / package).glob("*.py")
    ]
    names = sorted(name.removesuffix(".__init__") for name in names if not name.endswith(".loader"))
    script = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
print([name for name in ("jax", "tensorflow", "torch", "tensorflow_datasets") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
