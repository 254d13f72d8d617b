"""What processes of torch's launcher do together on one GPU, for `test_cuda.py`.

    python -m torch.distributed.run --standalone --nproc_per_node=2 tests/helpers/gpu_ranks.py gloo FOLDER '{"device": …}'

With nccl one process; gloo lets two share the GPU. They are put in a group before the command starts, which leaves it as it is.
What they find is written to FOLDER/found_RANK.json; the run of `training` lies in FOLDER/run.
"""

import copy
import json
import os
import sys
import warnings
from pathlib import Path

import ignite.distributed as idist
import monai.bundle
import torch
from checkout import ROOT
from torch import distributed, nn

from strokelesion.networks import ResUNet
from strokelesion.pipeline.runtime import processes as ranks

OPTIONS = {"spacing_mm": 4, "intensities": "tissue", "epochs": 2}


def main():
    backend, out, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device(options["device"], 0) if options["device"] == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(backend if device.type == "cuda" else "gloo")
    ranks.show_to_ignite()
    found = {"backend": distributed.get_backend()}
    found["mean"] = ranks.mean(torch.tensor([1.0, 2.0], device=device) + rank).tolist()
    found["sum"] = float(idist.all_reduce(3.0))
    found |= spread_network(device, rank, count)
    (out / f"found_{rank}.json").write_text(json.dumps(found))
    # `ranks.join` finds the group.
    monai.bundle.run(
        "training",
        config_file=str(ROOT / "bundles/resunet.json"),
        logging_file=False,
        **{**options, **OPTIONS, "batch_size": 8 // count, "run_dir": str(out / "run")},
    )


def spread_network(device, rank, count):
    """Take one step of a network that all processes train, and compare it with one process that sees all batches."""
    torch.manual_seed(0)
    network = ResUNet(channels=(4, 8, 16)).to(device)
    alone = copy.deepcopy(network)
    batches = torch.rand(count, 4, 1, 32, 48).to(device)
    world = idist.get_world_size
    if count == 1:  # as if there were more, so that the one takes their way
        idist.get_world_size = lambda: 2
    trained = ranks.spread(network)
    idist.get_world_size = world
    trained(batches[rank]).square().mean().backward()
    alone(batches.flatten(0, 1)).square().mean().backward()
    pairs = list(zip(network.parameters(), alone.parameters(), strict=True))
    largest = max(float(other.grad.abs().max()) for _, other in pairs)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)]
    statistics = zip(network.buffers(), alone.buffers(), strict=True)
    with torch.no_grad():
        for one, _ in pairs:
            one -= 0.1 * one.grad
    return {
        "norms": len(norms),
        "synchronized_norms": sum(isinstance(module, nn.SyncBatchNorm) for module in network.modules()),
        "plain_norms": sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()),
        "gradient_error": max(float((one.grad - other.grad).abs().max()) for one, other in pairs) / largest,
        "statistics_error": max(float((one.double() - other.double()).abs().max()) for one, other in statistics),
        "weights": sum(float(one.detach().double().sum()) for one, _ in pairs),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
