"""Networks out of model files: known ones are built, and nothing else is imported or run."""

import sys

import pytest
from model_files import CHANNELS, RESUNET, write_model
from refusals import refusal
from stand_ins import DarkIsLesion

from strokelesion.networks import UserError
from strokelesion.pipeline.models.application import brain_network
from strokelesion.pipeline.models.architecture import build_network

CODE = "$__import__('os').mkdir('intruder')"


@pytest.mark.parametrize(
    "definition",
    [
        {"_target_": "os.mkdir", "path": "intruder"},
        {"_target_": CODE},
        {"_target_": RESUNET, "channels": {"_target_": "os.mkdir", "path": "intruder"}},
        {"_target_": RESUNET, "channels": [{"_target_": "os.mkdir", "path": "intruder"}]},
        {"_target_": RESUNET, "channels": CODE},
        {"_target_": RESUNET, "channels": [CODE]},
        {"_target_": RESUNET, "channels": "@planes"},
        {"_target_": RESUNET, "channels": "%/etc/passwd"},
        {"_target_": RESUNET, "_mode_": "callable"},
        {"_target_": RESUNET, "_requires_": CODE},
        {"channels": CHANNELS},
        {"_target_": "strokelesion.networks.user_error.UserError"},
        {"_target_": "strokelesion.networks.inferers.has_fast_bfloat16"},
        {"_target_": "strokelesion.networks.resunet.torch.load", "f": "intruder"},
        {"_target_": "strokelesion.networks.NextYearsNet"},
        # A path may lead through a known package to a class that is not of it; some networks of MONAI load weights by default.
        {"_target_": "monai.networks.nets.unet.torch.jit.ScriptModule"},
        {"_target_": "monai.networks.nets.unet.nn.Linear", "in_features": 3, "out_features": 3},
        {"_target_": "monai.networks.nets.EfficientNetBN", "model_name": "efficientnet-b0"},
        {"_target_": "monai.networks.nets.DenseNet121", "spatial_dims": 2, "pretrained": True},
    ],
)
def test_a_definition_of_a_network_runs_nothing(definition, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^best.pt asks for the network .*; allowed are|which is not installed"):
        build_network(definition, "best.pt")
    assert not list(tmp_path.rglob("intruder"))


def test_a_class_of_elsewhere_is_neither_imported_nor_run_unless_the_bundle_names_it(
    run_command, phantom_dir, tmp_path, monkeypatch
):
    (tmp_path / "lurking.py").write_text("from stand_ins import DarkIsLesion\nclass Network(DarkIsLesion): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = write_model(tmp_path / "dark.pt", DarkIsLesion(), "lurking.Network", {"rim_px": 1})

    def infer(**options):
        scan, masks = str(next(phantom_dir.rglob("*t1w*"))), str(tmp_path / "masks")
        run_command("inference", "resunet", scans=scan, output_dir=masks, weights=path, pages=False, **options)

    asked = f"{path} asks for the network {{'_target_': 'lurking.Network', 'rim_px': 1}}; allowed are classes "
    for message in (
        refusal(infer),
        refusal(infer, network_def={"_target_": "stand_ins.DarkIsLesion"}),
        refusal(brain_network, path, "cpu"),
    ):
        assert message.startswith(asked)
        assert "name its class as network_def in the bundle file" in message
    assert "lurking" not in sys.modules
    assert not (tmp_path / "masks").exists()
    infer(network_def={"_target_": "lurking.Network"})
    assert list((tmp_path / "masks").rglob("*_mask.nii.gz"))
