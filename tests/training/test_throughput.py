import pytest

from tx_jax.training.throughput import model_flops_utilization, peak_flops


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("cpu", None),
        ("NVIDIA L400", None),
    ],
)
def test_peaks_go_by_whole_words(kind, peak):
    assert peak_flops(kind) == peak


def test_utilization_is_the_share_of_all_devices_peak():
    assert model_flops_utilization(1e6, 550e6, "TPU v4", 4) == pytest.approx(1e6 * 550e6 / (4 * 275e12))
    assert model_flops_utilization(1e6, 550e6, "cpu", 4) is None
