"""Half precision calls the same voxels lesion as single precision does, with the weights that ship."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.inferers import SimpleInferer

from strokelesion.networks import ResUNet, precision
from strokelesion.networks.neighbors import with_neighbors
from strokelesion.networks.onnx_runtime import OnnxNetwork, missing_packages
from strokelesion.networks.precision import MixedPrecisionInferer
from strokelesion.pipeline.checkpoints import load_weights
from strokelesion.pipeline.phantom_anatomy import Stroke, render

NEIGHBORS = 2
INFARCT = Stroke(center_mm=(44, -8, 18), aspect=(0.8, 1.4, 1.1), volume_ml=40, darkness=0.8, rim_mm=2)
LEAST_DICE = 0.99


@pytest.fixture(scope="module")
def shipped(pytestconfig):
    network = ResUNet(in_channels=2 * NEIGHBORS + 1)
    return load_weights(network, pytestconfig.rootpath / "bundles/weights/resunet.safetensors", {}).eval()


@pytest.fixture(scope="module")
def slices():
    """Six slices of 1 mm, with their neighbors, through the infarct of a phantom."""
    image, (mask,) = render([INFARCT], 2.0, 1.0, np.random.default_rng(0), np.random.default_rng(1))
    middle = int(mask.sum(axis=(0, 1)).argmax())
    slab = torch.from_numpy(image)[None, None, ..., middle - 2 : middle + 3]
    fine = F.interpolate(slab / slab[slab > 10].median(), scale_factor=2.0, mode="trilinear")
    positions = torch.arange(2, fine.shape[-1] - 2)
    return with_neighbors(fine, torch.stack([torch.zeros_like(positions), positions], dim=1), NEIGHBORS)


def lesion(network, slices, half=False):
    with torch.no_grad():
        return MixedPrecisionInferer(SimpleInferer(), enabled=half)(slices, network).argmax(dim=1) > 0


def dice(one, other):
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


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


def test_bfloat16_calls_the_same_voxels_lesion(shipped, slices):
    single, half = (lesion(shipped, slices, half) for half in (False, True))
    assert single.float().mean() > 0.01
    assert dice(single, half) >= LEAST_DICE


@pytest.mark.skipif(bool(missing_packages()), reason="needs the extra onnx")
def test_onnx_runtime_calls_the_same_voxels_lesion(shipped, slices):
    assert dice(lesion(shipped, slices), lesion(OnnxNetwork(shipped), slices)) > 0.9999
