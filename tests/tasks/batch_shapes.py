"""What the tests of the tasks share."""

import jax


def assert_shapes_agree(task, without_data):
    """Of a real batch of every phase, and what the configuration alone tells of it."""
    for phase in task.config.training_phases:
        real = task.batches("train", batch_size=phase.batch_size, repeat=True, phase=phase).batch_at(phase.start)
        # As they arrive on the device, where NumPy's float64 would be float32.
        expected = {name: (x.shape, jax.dtypes.canonicalize_dtype(x.dtype)) for name, x in real.items()}
        assert {name: (x.shape, x.dtype) for name, x in without_data.batch_shapes(phase).items()} == expected
