"""The networks computed by ONNX Runtime: logits as torch's but for rounding, chosen where it is fit and faster."""

import pytest
import torch
from monai.inferers import SliceInferer
from torch import nn

from strokelesion.networks import ResUNet, SegNet, UNet, UserError, onnx_runtime
from strokelesion.networks.onnx_runtime import OnnxNetwork, exported, missing_packages, on_engine
from strokelesion.pipeline.models.exports import RememberedExports

needs_packages = pytest.mark.skipif(bool(missing_packages()), reason="needs the extra onnx")
NETWORKS = {"unet": UNet, "segnet": SegNet, "resunet": ResUNet}
# Of the largest logit: single precision, summed in another order.
TOLERANCE = 1e-5


def small(name):
    torch.manual_seed(0)
    network = NETWORKS[name](in_channels=3, channels=(4, 8, 8))
    for module in network.modules():  # statistics as after training, so that folding them into convolutions is seen
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@needs_packages
@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_slices_of_any_size_gets_the_logits_of_torch(name):
    network = small(name)
    other = OnnxNetwork(network)
    for size in [(1, 32, 48), (5, 40, 24), (2, 17, 33)]:
        slices = torch.rand(size[0], 3, *size[1:])
        with torch.no_grad():
            expected = network(slices)
        assert (other(slices) - expected).abs().max() < TOLERANCE * expected.abs().max()


@needs_packages
def test_a_whole_scan_goes_through_it_as_through_torch():
    network, volume = small("resunet"), torch.rand(1, 3, 24, 40, 5)
    inferer = SliceInferer(roi_size=[32, 32], spatial_dim=2, sw_batch_size=4)
    with torch.no_grad():
        expected = inferer(volume, network)
        found = inferer(volume, on_engine(network, "onnx", "cpu", bfloat16=True).eval())
    assert (found - expected).abs().max() < TOLERANCE * expected.abs().max()


@needs_packages
def test_the_same_weights_are_exported_once_and_others_anew(tmp_path):
    made = []

    def export(network):
        made.append(network)
        return exported(network)

    remembered, network = RememberedExports(tmp_path / "onnx", export), small("unet")
    first = OnnxNetwork(network, remembered)
    again = OnnxNetwork(small("unet"), remembered)
    assert len(made) == 1
    slices = torch.rand(1, 3, 16, 16)
    assert torch.equal(first(slices), again(slices))
    with torch.no_grad():
        network.classifier.bias += 1
    assert not torch.equal(OnnxNetwork(network, remembered)(slices), first(slices))
    assert len(made) == 2


@pytest.mark.parametrize(
    ("engine", "device", "bfloat16", "installed", "chosen"),
    [
        ("auto", "cpu", False, True, True),
        ("auto", "cpu", True, True, False),
        ("auto", "cpu", False, False, False),
        ("auto", "cuda", False, True, False),
        ("torch", "cpu", False, True, False),
        ("onnx", "cpu", True, True, True),
    ],
)
def test_it_is_chosen_where_it_is_asked_for_or_the_faster_one(engine, device, bfloat16, installed, chosen, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "missing_packages", lambda: [] if installed else ["onnx"])
    monkeypatch.setattr(onnx_runtime, "OnnxNetwork", lambda network, export: "onnx")
    network = small("unet")
    assert on_engine(network, engine, device, bfloat16) is ("onnx" if chosen else network)


def test_what_it_cannot_compute_stays_with_torch_and_is_refused_where_asked_for():
    network = nn.Identity()
    assert on_engine(network, "auto", "cpu", bfloat16=False) is network
    with pytest.raises(UserError, match="got onnx with Identity on cpu; allowed are this project's networks on the cpu"):
        on_engine(network, "onnx", "cpu", bfloat16=False)
    with pytest.raises(UserError, match=r"got onnx with UNet on cuda.*--device cpu or --engine torch"):
        on_engine(small("unet"), "onnx", "cuda", bfloat16=False)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(onnx_runtime, "PACKAGES", ("torch", "onnx_of_nowhere"))
    with pytest.raises(UserError, match=r"needs onnx_of_nowhere; install .*pip install 'strokelesion\[onnx\]'"):
        on_engine(small("unet"), "onnx", "cpu", bfloat16=False)
