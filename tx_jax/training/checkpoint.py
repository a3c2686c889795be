"""Checkpoints of a run: asynchronous, sharded, the last few and the best. Orbax stands behind this small interface."""

from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from tx_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints in one directory. Use as a context manager: leaving it waits for what is still being written."""

    def __init__(
        self,
        directory: Path,
        *,
        keep_last: int = 1,
        keep_best: int = 0,
        best_metric: str = "",
        read_only: bool = False,
    ):
        """
        Args:
          keep_last: how many of the newest are kept.
          keep_best: how many more are kept, those with the best `best_metric` among the checkpoints that have it.
          best_metric: a metric's name; one that ends in "loss" is better when lower, any other when higher.
          read_only: changes nothing on disk, so that a run in progress may be read.
        """
        policies = [LatestN(keep_last)]
        if keep_best:
            policies.append(
                BestN(
                    n=keep_best,
                    get_metric_fn=lambda metrics: metrics[best_metric],
                    reverse=best_metric.endswith("loss"),  # the best is sorted last
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            item_handlers=ocp.PyTreeCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy(policies),
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                create=not read_only,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps that can be restored, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, metrics: dict[str, float] | None = None) -> None:
        """Starts writing the state; returns as soon as it is copied from the devices. `metrics` rank it."""
        self._manager.save(int(state.step), args=ocp.args.PyTreeSave(state), metrics=metrics)

    def wait(self) -> None:
        """Returns once every started save is on disk; raises what went wrong in one."""
        self._manager.wait_until_finished()

    def restore(self, step: int, target: TrainState) -> TrainState:
        """The state at a step.

        Args:
          target: a tree of `jax.ShapeDtypeStruct`s with shardings: each array is placed as they say, on whatever
            devices there are now.
        """
        return self._restore(step, target, partial=False)

    def restore_params(self, step: int, target: Any) -> Any:
        """The parameters alone, placed as `target` says; the optimizer's state is not read."""
        return self._restore(step, {"params": target}, partial=True)["params"]

    def _restore(self, step: int, target: Any, *, partial: bool) -> Any:
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        return self._manager.restore(
            step, args=ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=partial)
        )
