"""The pretrained lesion network, and slices of the phantom with a lesion for it to find."""

import torch.nn.functional as F
from checkout import BUNDLES
from phantom_scan import phantom_scan

from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.architecture import build_network
from strokelesion.pipeline.models.model_files import read_model

NEIGHBORS = 2


def pretrained_network():
    """The pretrained lesion network, as its file defines it."""
    path = BUNDLES / "weights/resunet.safetensors"
    model = read_model(path)
    assert model.description.protocol.neighbors == NEIGHBORS
    return load_weights(build_network(model.description.network, path), model, path).eval()


def slab_with_lesion(below, above):
    """Slices of 1 mm through the infarct of a phantom, `(1, 1, X, Y, 2 * (below + above))`, scaled on its tissue."""
    sample = phantom_scan(2.0)
    image, lesion = sample["image"][None].as_tensor(), sample["lesions"][0].as_tensor() > 0
    middle = int(lesion.sum(dim=(0, 1)).argmax())
    slab = image[..., middle - below : middle + above]
    return F.interpolate(slab / slab[slab > 10].median(), scale_factor=2.0, mode="trilinear")


def dice(one, other):
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
