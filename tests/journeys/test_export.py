"""The command `export`: the ONNX file computes what the model computes, for slices of any legal size."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from checkout import BUNDLES
from configured import configured
from model_files import CHANNELS, RESUNET, small_resunet, write_model
from refusals import refusal


def test_an_exported_model_computes_the_same_and_describes_itself(run_command, tmp_path):
    network = small_resunet(in_channels=3).eval()
    arguments = {"in_channels": 3, "out_channels": 3, "channels": CHANNELS}
    path = write_model(tmp_path / "best.pt", network, RESUNET, arguments, neighbors=1)
    run_command("export", "unet", weights=path, output_dir=str(tmp_path / "out"))
    session = onnxruntime.InferenceSession(tmp_path / "out/resunet.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 32, 48), (2, 3, 64, 80)):
        slices = torch.randn(shape)
        with torch.no_grad():
            expected = network(slices).numpy()
        (found,) = session.run(None, {"slices": slices.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)
    about = json.loads((tmp_path / "out/resunet.json").read_text())
    assert about["network"] == {"_target_": RESUNET, **arguments}
    assert about["protocol"]["neighbors"] == 1


def test_the_pretrained_model_is_exported_by_default_and_needs_a_folder(run_command, tmp_path):
    config = configured("segnet", "export", output_dir=str(tmp_path)).config
    assert Path(config["weights"]).samefile(BUNDLES / "weights/resunet.safetensors")
    assert "--output_dir is missing" in refusal(run_command, "export", "segnet")
