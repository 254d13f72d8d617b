"""The pretrained lesion network, and a lesion of the phantom for it to find."""

from checkout import BUNDLES

from strokelesion.pipeline.cohorts.phantom_anatomy import Stroke
from strokelesion.pipeline.models.application import load_weights
from strokelesion.pipeline.models.architecture import build_network
from strokelesion.pipeline.models.model_files import read_model

NEIGHBORS = 2
INFARCT = Stroke(center_mm=(44, -8, 18), aspect=(0.8, 1.4, 1.1), volume_ml=40, darkness=0.8, rim_mm=2)


def pretrained_network():
    """The pretrained lesion network, as its file defines it."""
    path = BUNDLES / "weights/resunet.safetensors"
    model = read_model(path)
    assert model.description.protocol.neighbors == NEIGHBORS
    return load_weights(build_network(model.description.network, path), model, path).eval()


def dice(one, other):
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
