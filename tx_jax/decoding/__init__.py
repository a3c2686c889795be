"""Generation: decoders continue prompts, encoder-decoders translate. `generate` goes from text to text.

`steps` runs the model with its cache; `sampling` and `beam` are the compiled loops around it, `processors` what changes
the distribution that tokens are drawn from; `prompts` and `text` are their ends on the host.
"""

from tx_jax.decoding.generate import Generation, generate, stream
from tx_jax.decoding.options import Options

__all__ = ["Generation", "Options", "generate", "stream"]
