"""The keys of further pretraining."""

import pytest

from tx_jax.config.further import further_config
from tx_jax.errors import InputError


def test_bad_values_say_what_is_wrong():
    with pytest.raises(InputError, match="source is empty"):
        further_config({"source": ""})
    for given in ("--config=x.py", "x.py y.py", "x.py 'y"):
        with pytest.raises(InputError, match="downstream="):
            further_config({"source": "x", "downstream": given})
    with pytest.raises(InputError, match="needs a source"):
        further_config({})


def test_a_fine_tuning_has_seeds_unless_it_is_given_some():
    """Of a flag that is given twice the last one counts."""
    given = "configs/glue.py:cola --config.data.train='my texts.tsv' --seeds=1,2"
    config = further_config({"source": "x", "downstream": given})
    first, *others = (
        "--config=configs/glue.py:cola",
        "--seeds=0,1,2",
        "--config.data.train=my texts.tsv",
        "--seeds=1,2",
    )
    assert config.fine_tuning == (first, *others)
    assert further_config({"source": "x"}).fine_tuning == ()
