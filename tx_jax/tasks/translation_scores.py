"""BLEU (Papineni et al. 2002) and chrF (Popović 2015) by sacrebleu (Post 2018), with the signatures that say how."""

from collections.abc import Sequence

from tx_jax.config.translation import METRICS
from tx_jax.errors import InputError


def scores(
    translations: Sequence[str], references: Sequence[str], metrics: Sequence[str] = METRICS
) -> tuple[dict[str, float], list[str]]:
    """The corpus scores, from 0 to 100, and a line for each as sacrebleu writes it, its signature first.

    Raises:
      InputError: sacrebleu is missing, or there are not as many translations as references.
    """
    try:
        from sacrebleu.metrics import BLEU, CHRF
    except ImportError:
        raise InputError("BLEU and chrF are computed by sacrebleu, which is missing: pip install sacrebleu") from None
    if len(translations) != len(references):
        raise InputError(f"{len(translations):,} translations cannot be compared with {len(references):,} references")
    values, lines = {}, []
    for name in metrics:
        metric = {"bleu": BLEU, "chrf": CHRF}[name]()
        score = metric.corpus_score(list(translations), [list(references)])
        values[name] = float(score.score)
        lines.append(score.format(signature=str(metric.get_signature())))
    return values, lines
