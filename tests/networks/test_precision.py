"""Half precision calls the same voxels lesion as single precision does, with the pretrained model."""

import pytest
import torch
from lesion_network import NEIGHBORS, dice, pretrained_network, slab_with_lesion
from monai.inferers import SimpleInferer

from strokelesion.networks import precision
from strokelesion.networks.neighbors import with_neighbors
from strokelesion.networks.onnx_runtime import OnnxNetwork, missing_packages
from strokelesion.networks.precision import MixedPrecisionInferer

LEAST_DICE = 0.99


@pytest.fixture(scope="module")
def pretrained():
    return pretrained_network()


@pytest.fixture(scope="module")
def slices():
    """Six slices of 1 mm, with their neighbors, through the infarct of a phantom."""
    fine = slab_with_lesion(2, 3)
    positions = torch.arange(2, fine.shape[-1] - 2)
    return with_neighbors(fine, torch.stack([torch.zeros_like(positions), positions], dim=1), NEIGHBORS)


def lesion(network, slices, half=False):
    inferer = MixedPrecisionInferer(SimpleInferer(), amp=half, device="cpu")
    inferer.enabled = half  # on processors without fast bfloat16, too
    with torch.no_grad():
        return inferer(slices, network).argmax(dim=1) > 0


@pytest.mark.parametrize(
    ("device", "machine", "supported", "units", "fast"),
    [
        ("cpu", "x86_64", True, True, True),
        ("cpu", "x86_64", True, False, False),  # plain AVX512, which imitates bfloat16
        ("cpu", "AMD64", False, False, False),
        ("cpu", "aarch64", True, False, True),
        ("cuda", "x86_64", True, True, False),
    ],
)
def test_bfloat16_is_fast_where_the_processor_has_units_for_it(device, machine, supported, units, fast, monkeypatch):
    monkeypatch.setattr(precision.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    for ability in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, ability, lambda: units)
    assert precision.has_fast_bfloat16(torch.device(device)) is fast


@pytest.mark.parametrize(("amp", "fast"), [(True, True), (True, False), (False, True)])
def test_bfloat16_is_used_where_it_is_wanted_and_fast(amp, fast, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: fast)
    assert MixedPrecisionInferer(SimpleInferer(), amp, "cpu").enabled is (amp and fast)


def test_bfloat16_calls_the_same_voxels_lesion(pretrained, slices):
    single, half = (lesion(pretrained, slices, half) for half in (False, True))
    assert single.float().mean() > 0.01
    assert dice(single, half) >= LEAST_DICE


@pytest.mark.skipif(bool(missing_packages()), reason="needs the extra onnx")
def test_onnx_runtime_calls_the_same_voxels_lesion(pretrained, slices):
    assert dice(lesion(pretrained, slices), lesion(OnnxNetwork(pretrained), slices)) > 0.9999
