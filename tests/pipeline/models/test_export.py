"""The command `export`: the ONNX file computes what the model computes, for slices of any legal size."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from checkout import BUNDLES
from configured import configured
from model_files import write_model
from monai.networks.nets import AttentionUnet
from refusals import refusal
from torch import nn

from strokelesion.networks import ResUNet, SegNet, UNet, UserError
from strokelesion.pipeline.models import onnx_files

# Of the largest logit: single precision, summed in another order.
TOLERANCE = 1e-5
CHANNELS = (4, 8, 8)
NETWORKS = {
    "unet": lambda: UNet(3, channels=CHANNELS),
    "segnet": lambda: SegNet(3, channels=CHANNELS),
    "resunet": lambda: ResUNet(3, channels=CHANNELS),
    "a network of MONAI": lambda: AttentionUnet(2, 3, 3, channels=CHANNELS, strides=(2, 2)),
}


def trained(name):
    """A network with statistics as after training, so that folding them into convolutions is seen."""
    torch.manual_seed(3)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def assert_same_logits(model, network):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 32, 64), (5, 3, 96, 32)):
        slices = torch.rand(shape)
        with torch.no_grad():
            expected = network(slices)
        (found,) = session.run(None, {"slices": slices.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_slices_of_any_legal_size_gets_the_logits_of_torch(name):
    network = trained(name)
    assert_same_logits(onnx_files.to_onnx(network, 3), network)


def test_an_exported_model_describes_itself(run_command, tmp_path):
    network, arguments = trained("resunet"), {"in_channels": 3, "out_channels": 3, "channels": list(CHANNELS)}
    path = write_model(tmp_path / "best.pt", network, "strokelesion.networks.ResUNet", arguments, neighbors=1)
    run_command("export", "unet", weights=path, output_dir=str(tmp_path / "out"))
    assert_same_logits(tmp_path / "out/resunet.onnx", network)
    about = json.loads((tmp_path / "out/resunet.json").read_text())
    assert about["network"] == {"_target_": "strokelesion.networks.ResUNet", **arguments}
    assert about["protocol"]["neighbors"] == 1


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "PACKAGES", ("torch", "onnx_of_nowhere"))
    with pytest.raises(UserError, match=r"needs onnx_of_nowhere; install .*pip install 'strokelesion\[onnx\]'"):
        onnx_files.export_onnx(nn.Identity(), "best.pt", tmp_path)


def test_the_pretrained_model_is_exported_by_default_and_needs_a_folder(run_command, tmp_path):
    config = configured("segnet", "export", output_dir=str(tmp_path)).config
    assert Path(config["weights"]).samefile(BUNDLES / "weights/resunet.safetensors")
    assert "--output_dir is missing" in refusal(run_command, "export", "segnet")
