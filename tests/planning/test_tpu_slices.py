import importlib.util
import math

import pytest

from tx_jax.errors import InputError
from tx_jax.planning.tpu_slices import GENERATIONS, TpuSlice, find


@pytest.mark.parametrize(
    ("name", "generation", "shape"),
    [
        ("v4-8", "v4", (2, 2, 1)),  # 8 cores, 4 chips
        ("v4-128", "v4", (4, 4, 4)),
        ("v5p-8", "v5p", (2, 2, 1)),
        ("v5p-128", "v5p", (4, 4, 4)),
        ("v5litepod-16", "v5e", (4, 4)),
        ("v5e-16", "v5e", (4, 4)),
        ("v5e:4x4", "v5e", (4, 4)),
        ("v6e-8", "v6e", (2, 4)),
        ("v6e-1", "v6e", (1, 1)),
        ("v5p:4x4x12", "v5p", (4, 4, 12)),
    ],
)
def test_names_of_the_cloud_and_of_the_compiler(name, generation, shape):
    assert find(name) == TpuSlice(generation, shape)


@pytest.mark.parametrize("name", ["v4-4", "v5e-12", "v5e:3x3", "v4:2x4", "v5p:4x4x6", "v5p:0x4x4", "h100-8", ""])
def test_another_name_is_refused_with_those_that_there_are(name):
    with pytest.raises(InputError, match=r"Known: v4-N with N = 8, 16, .*v5litepod-N with N = 1, 4, 8, 16"):
        find(name)


def test_a_slice_tells_both_of_its_names():
    for generation, facts in GENERATIONS.items():
        for shape in facts.shapes:
            tpu_slice = find(f"{generation}:{shape}")
            assert find(tpu_slice.accelerator_type) == find(tpu_slice.name) == tpu_slice


def test_links_of_a_ring_are_twice_those_of_a_pair():
    """v4 has six links of 50 GB/s: a chip of a cube of four uses all, one of 2 x 2 x 1 has two neighbors."""
    assert find("v4-128").link_bandwidth == pytest.approx(300e9)
    assert find("v4-8").link_bandwidth == pytest.approx(100e9)
    # 4 x 4 of v5e is no ring: 12 links along each of two dimensions, seen from both ends, for 16 chips.
    assert find("v5e-16").link_bandwidth == pytest.approx(50e9 * 2 * 24 / 16)
    assert find("v5e-256").link_bandwidth == pytest.approx(200e9)
    assert find("v5e-1").link_bandwidth == 0


def test_without_libtpu_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install -e "\.\[plan\]"'):
        find("v5e-4").devices()


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason='needs libtpu: pip install -e ".[plan]"')
@pytest.mark.parametrize("name", ["v4-8", "v4-128", "v5litepod-1", "v5litepod-256", "v5p-8", "v6e-16", "v5p:4x4x12"])
def test_the_compiler_has_a_device_a_chip(name):
    tpu_slice = find(name)
    devices = tpu_slice.devices()
    assert len(devices) == math.prod(tpu_slice.shape)
    assert {device.platform for device in devices} == {"tpu"}
