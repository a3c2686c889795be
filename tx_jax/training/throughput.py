"""Tokens per second and the share of the devices' peak that they amount to."""

import re

# Dense bf16 peak (fp16 for the V100) of one JAX device in FLOP/s, from the makers' data sheets. Before v4 a TPU device
# is one core of two.
PEAK_FLOPS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40": 181e12,
    "NVIDIA L40S": 362e12,
    "Tesla V100": 125e12,
}


def peak_flops(device_kind: str) -> float | None:
    """The peak of a device by the longest name in the table whose words its kind begins with; None if there is none."""
    known = [name for name in PEAK_FLOPS if re.match(rf"{name}(?![A-Za-z0-9])", device_kind)]
    return PEAK_FLOPS[max(known, key=len)] if known else None


def model_flops_utilization(
    tokens_per_second: float, flops_per_token: float, device_kind: str, num_devices: int
) -> float | None:
    """MFU (Chowdhery et al. 2022, appendix B): observed over peak model FLOP/s, or None where the peak isn't known.

    Theirs counts all parameters and full attention; show ours with `models.registry.FLOPS_FORMULA`.
    """
    peak = peak_flops(device_kind)
    return tokens_per_second * flops_per_token / (peak * num_devices) if peak else None
