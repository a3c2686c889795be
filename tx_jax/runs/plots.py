"""The curves of a run as a picture."""

from pathlib import Path

from matplotlib.figure import Figure

from tx_jax.runs import metrics_log

PANELS = (("loss", "loss (nats)"), ("accuracy", "accuracy"))


def draw_losses(workdir: Path) -> Path:
    """Draws WORKDIR/loss.png from metrics.jsonl: losses and accuracies, training as lines, held-out data as dots."""
    records = metrics_log.read(workdir)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, (suffix, label) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        names = sorted({name for record in records for name in record if name.endswith(f"_{suffix}")})
        for colour, name in enumerate(names):
            for split, style in (("train", {"lw": 1, "alpha": 0.5}), ("validation", {"marker": "o", "ms": 4})):
                points = [(r["step"], r[name]) for r in records if r["split"] == split and name in r]
                if points:
                    where = "held-out" if split == "validation" else "training"
                    axes.plot(*zip(*points, strict=True), color=f"C{colour}", label=f"{_title(name)}, {where}", **style)
        axes.set(xlabel="step", ylabel=label)
        axes.grid(alpha=0.3)
        if names:
            axes.legend(fontsize="small")
    figure.suptitle(workdir.name)
    path = workdir / "loss.png"
    figure.savefig(path, dpi=110)
    return path


def _title(name: str) -> str:
    return name.rpartition("_")[0].replace("_", " ")
