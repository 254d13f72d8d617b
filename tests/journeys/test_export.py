"""The command `export`: the ONNX file computes what the model computes, for slices of any legal size."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from model_files import write_model

from strokelesion.networks import ResUNet
from strokelesion.pipeline.runtime.errors import user_error


def test_an_exported_model_computes_the_same_and_describes_itself(run_command, tmp_path):
    torch.manual_seed(3)
    network = ResUNet(in_channels=3, channels=(16, 32)).eval()
    arguments = {"in_channels": 3, "out_channels": 3, "channels": [16, 32]}
    path = write_model(tmp_path / "best.pt", network, "strokelesion.networks.ResUNet", arguments, neighbors=1)
    run_command("export", "unet", weights=path, output_dir=str(tmp_path / "out"))
    session = onnxruntime.InferenceSession(tmp_path / "out/resunet.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 32, 48), (2, 3, 64, 80)):
        slices = torch.randn(shape)
        with torch.no_grad():
            expected = network(slices).numpy()
        (found,) = session.run(None, {"slices": slices.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)
    about = json.loads((tmp_path / "out/resunet.json").read_text())
    assert about["network"] == {"_target_": "strokelesion.networks.ResUNet", **arguments}
    assert about["protocol"]["neighbors"] == 1


def test_the_pretrained_model_is_exported_by_default_and_needs_a_folder(run_command, tmp_path):
    run_command("export", "segnet", output_dir=str(tmp_path / "out"))
    assert json.loads((tmp_path / "out/resunet.json").read_text())["protocol"]["planes"] == ["axial", "coronal"]
    with pytest.raises(RuntimeError) as error:
        run_command("export", "segnet")
    assert "--output_dir is missing" in str(user_error(error.value))
