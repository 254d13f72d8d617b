"""The three networks: parameter counts of the Keras study, any slice size, gradients everywhere, seeds, half precision."""

import pytest
import torch
import torch.nn.functional as F
from monai.inferers import SimpleInferer

from strokelesion.networks import ResUNet, SegNet, UNet, precision
from strokelesion.networks.precision import MixedPrecisionInferer
from strokelesion.networks.resunet import ResidualStage, UpwardStage

NETWORKS = {"unet": UNet, "segnet": SegNet, "segnet indices": lambda: SegNet(unpooling="indices"), "resunet": ResUNet}
BF16_TOLERANCE = 0.05  # of the logits' standard deviation; bfloat16 has 8 bits of precision


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]().eval()


@pytest.mark.parametrize(
    ("name", "trainable", "with_statistics"),
    [("unet", 7_759_587, 7_759_587), ("segnet", 10_184_067, 10_189_955), ("resunet", 3_255_107, 3_260_483)],
)
def test_parameters_count_as_in_the_keras_study(name, trainable, with_statistics):
    network = NETWORKS[name]()
    assert sum(p.numel() for p in network.parameters()) == trainable
    statistics = sum(b.numel() for key, b in network.named_buffers() if "num_batches" not in key)
    assert trainable + statistics == with_statistics


@pytest.mark.parametrize("size", [(192, 224), (33, 50), (1, 7), (64, 32)])
def test_any_slice_size_goes_in_and_comes_out(network, size):
    with torch.no_grad():
        assert network(torch.rand(2, 1, *size)).shape == (2, 3, *size)


def test_padding_leaves_legal_sizes_alone(network):
    x = torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        assert torch.equal(network(x), network.logits(x))


def test_all_weights_receive_gradients(network):
    network.train()(torch.rand(2, 1, 32, 64)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_a_stage_of_the_decoder_does_what_upsampling_and_concatenation_do():
    torch.manual_seed(0)
    stage = UpwardStage(12 + 8, 8).double()
    for module in stage.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.bias)
    coarse, skip = torch.rand(2, 12, 5, 9).double(), torch.rand(2, 8, 10, 18).double()
    coarse.requires_grad_(), skip.requires_grad_()
    beside = torch.cat([F.interpolate(coarse, scale_factor=2.0, mode="nearest"), skip], dim=1)
    sources = [coarse, skip, *stage.parameters()]
    outcomes = [ResidualStage.forward(stage, beside), stage(coarse, skip)]
    plain, joined = ([out, *torch.autograd.grad(out.square().sum(), sources)] for out in outcomes)
    torch.testing.assert_close(joined, plain)


def test_slices_of_a_batch_do_not_see_each_other(network):
    x = torch.rand(3, 1, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-3, atol=1e-4)


def test_logits_keep_the_scale_of_the_input(network):
    """The U-Net of the Keras study has no normalization: a bad start would shrink its signal to nothing."""
    with torch.no_grad():
        spread = network.train()(torch.rand(2, 1, 64, 96)).std()
    assert 0.01 < spread < 10


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_seed_gives_the_same_weights(name):
    def draw():
        torch.manual_seed(7)
        return NETWORKS[name]().state_dict()

    first, second = draw(), draw()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_volumes_and_wrong_channels_are_refused_with_the_shape(network):
    with pytest.raises(ValueError, match=r"\(1, 1, 8, 9, 7\).*VolumeInferer"):
        network(torch.rand(1, 1, 8, 9, 7))
    with pytest.raises(ValueError, match=r"\(1, 2, 8, 9\)"):
        network(torch.rand(1, 2, 8, 9))


def test_an_unknown_unpooling_names_the_choices():
    with pytest.raises(ValueError, match="nearest, indices"):
        SegNet(unpooling="bilinear")


def test_too_few_channels_are_refused():
    with pytest.raises(ValueError, match="at least 1 and at least 2"):
        ResUNet(out_channels=1)


@pytest.mark.parametrize("name", ["unet", "segnet", "resunet"])
def test_half_precision_predicts_almost_the_same_and_returns_single(name, monkeypatch):
    """SegNet's indices are left out: where two pixels of noise almost tie, rounding sends the value to the other."""
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    torch.manual_seed(0)
    network = NETWORKS[name]().train()  # before training, only batch statistics keep the signal's size
    x = torch.rand(2, 1, 64, 96)
    with torch.no_grad():
        single = MixedPrecisionInferer(SimpleInferer(), amp=False, device="cpu")(x, network)
        half = MixedPrecisionInferer(SimpleInferer(), amp=True, device="cpu")(x, network)
    assert half.dtype == torch.float32
    assert torch.equal(single, network(x))
    assert 0 < (half - single).abs().mean() < BF16_TOLERANCE * single.std()


def test_half_precision_is_left_out_where_the_device_is_not_faster_with_it(monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    network, x = ResUNet().eval(), torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        assert torch.equal(MixedPrecisionInferer(SimpleInferer(), amp=True, device="cpu")(x, network), network(x))


@pytest.mark.parametrize(("amp", "device", "uses"), [(True, "cuda:1", True), (True, "cpu", False), (False, "cuda", False)])
def test_engines_use_half_precision_on_cuda_only(amp, device, uses):
    assert precision.uses_cuda_amp(amp, device) is uses
