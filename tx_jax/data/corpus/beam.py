"""The shares of a token store as an Apache Beam pipeline: for Dataflow, Flink or Spark, where no hosts are at hand.

The same functions as with processes of one's own do the work (`shares.py`), so the store is the same, bit for bit. Beam
hands out the shares, and gives one whose worker was lost to another, which makes it anew or, where it finds its
beginning, continues it. All workers must see the store's place: gs:// or s3://, or a disk that they share.
"""

import functools
from collections.abc import Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from tx_jax.data.corpus import shares
from tx_jax.data.corpus.config import PrepareConfig
from tx_jax.data.corpus.prepare import Prepared
from tx_jax.data.corpus.token_store import TokenStore


def prepare_with_beam(config: PrepareConfig, of: int, options: Sequence[str] = ()) -> Prepared:
    """Makes the token store `config.store` from so many shares.

    Args:
      options: Beam's own flags, such as --runner=DataflowRunner; without them it runs on this machine.

    Raises InputError as `shares.begin` does. What is raised in a worker comes as the runner passes it on.
    """
    if complete := shares.begin(config, of):
        return complete
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        made = (
            pipeline
            | "numbers" >> beam.Create(range(of))
            | "apart" >> beam.Reshuffle()
            | "shares" >> beam.Map(functools.partial(_share, config, of))
        )
        (
            made
            | "all of them" >> beam.combiners.Count.Globally()
            | "together" >> beam.Map(functools.partial(_together, config, of))
        )
    return Prepared(TokenStore.open(config.store).meta, was_complete=False)


def _share(config: PrepareConfig, of: int, number: int) -> None:
    shares.make_share(config, number, of)


def _together(config: PrepareConfig, of: int, made: int) -> None:
    assert made == of
    shares.put_together(config, of)
