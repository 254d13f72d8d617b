"""The three networks: parameter counts of the Keras study, any slice size, gradients everywhere, seeds."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from strokelesion.networks import ResUNet, SegNet, UNet
from strokelesion.networks.fused_upsampling import UpsamplingConv2d

NETWORKS = {"unet": UNet, "segnet": SegNet, "segnet indices": lambda: SegNet(unpooling="indices"), "resunet": ResUNet}
NETWORKS |= {"unet normalized": lambda: UNet(batch_norm=True)}


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


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_fused_convolution_equals_upsampling_concatenation_and_convolution(kernel):
    torch.manual_seed(0)
    fused, plain = (layer(12 + 8, 6, kernel, padding=kernel // 2).double() for layer in (UpsamplingConv2d, nn.Conv2d))
    plain.load_state_dict(fused.state_dict())
    coarse, skip = torch.rand(2, 12, 5, 9).double().requires_grad_(), torch.rand(2, 8, 10, 18).double().requires_grad_()
    beside = torch.cat([F.interpolate(coarse, scale_factor=2.0, mode="nearest"), skip], dim=1)
    outcomes = []
    for layer, output in ((fused, fused((coarse, skip))), (plain, plain(beside))):
        outcomes.append([output, *torch.autograd.grad(output.square().sum(), [coarse, skip, *layer.parameters()])])
    torch.testing.assert_close(*outcomes)


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
