"""What is measured, against what, and which ratios are the targets."""

from dataclasses import dataclass, replace

ALL_CORES = 0
TWO_PROCESSES = "strokelesion, two processes"


@dataclass(frozen=True)
class Candidate:
    """One program at one kind of work.

    Attributes:
        name: as the table shows it.
        module: the program, in this package.
        arguments: its command line after the folder of the material.
        python: whose interpreter runs it, a name for `--python`.
        quick: further arguments that make it short, for trying the suite out.
        processes: as how many processes torch's launcher starts it; they divide the threads among them.
    """

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    python: str = "strokelesion"
    quick: tuple[str, ...] = ()
    processes: int = 1


@dataclass(frozen=True)
class Case:
    """One kind of work and its candidates, the project's first: ratios are to that one.

    Attributes:
        part: input, training, inference or ceiling.
        name: as the table shows it.
        figure: what is compared.
        more_is_better: whether a larger figure is the better one.
        threads: of each candidate; 0 is as many as there are cores.
        repeats: how often everybody has a turn.
        candidates: in turn.
    """

    part: str
    name: str
    figure: str
    more_is_better: bool
    threads: int
    repeats: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Target:
    """How many times better than a peer the project shall be; without a peer, what its figure shall stay below.

    Attributes:
        ours: which candidate of the project; None is the first of the case.
    """

    case: str
    figure: str
    least: float
    peer: str | None = None
    ours: str | None = None


def training(network: str, repeats: int, bfloat16: bool = False) -> Case:
    """Return the training of one network."""
    peers = [Candidate("Keras", "training_keras", (network, "single"), "keras", ("4",))]
    if bfloat16:
        peers.append(Candidate("Keras, bfloat16", "training_keras", (network, "bfloat16"), "keras", ("4",)))
    ours = Candidate("strokelesion", "training_strokelesion", (network,), quick=("4",))
    halves = replace(ours, name=TWO_PROCESSES, processes=2)
    return Case("training", f"training, {network}", "epoch_slices_per_s", True, ALL_CORES, repeats, (ours, halves, *peers))


def applied(name: str, *arguments: str) -> Candidate:
    """Return the project's inference."""
    return Candidate(name, "inference_strokelesion", arguments)


def nnunet(what: str, configuration: str) -> Candidate:
    """Return nnU-Net's inference."""
    return Candidate(f"nnU-Net, {configuration}", "inference_nnunet", (what, configuration), "nnunetv2", ("2",))


CASES = (
    Case(
        "input",
        "input, one thread",
        "slices_per_s",
        True,
        1,
        3,
        (
            Candidate("strokelesion", "input_strokelesion"),
            Candidate("MONAI, dictionary chain", "input_monai"),
            Candidate("MONAI, fused chain", "input_monai", ("fused",)),
            Candidate("batchgeneratorsv2", "input_batchgenerators", python="batchgeneratorsv2"),
            Candidate("TorchIO", "input_torchio", python="torchio"),
        ),
    ),
    training("resunet", 2, bfloat16=True),
    training("unet", 1),
    training("segnet", 1),
    Case(
        "inference",
        "network alone",
        "scan_s",
        False,
        ALL_CORES,
        2,
        (
            applied("strokelesion, ResUNet", "network", "pretrained", "axial"),
            applied("strokelesion, ResUNet, two planes", "network", "pretrained", "axial,coronal"),
            applied("strokelesion, U-Net", "network", "unet"),
            applied("strokelesion, SegNet", "network", "segnet"),
            nnunet("network", "2d"),
            nnunet("network", "3d_fullres"),
        ),
    ),
    Case(
        "inference",
        "file to file",
        "scan_s",
        False,
        ALL_CORES,
        2,
        (
            applied("strokelesion", "file", "pages"),
            applied("strokelesion, no pages", "file", "no_pages"),
            nnunet("file", "2d"),
            nnunet("file", "3d_fullres"),
        ),
    ),
    Case(
        "inference",
        "file to file, registered before",
        "scan_s",
        False,
        ALL_CORES,
        3,
        (applied("strokelesion, with pages", "file", "registered"),),
    ),
    Case("ceiling", "ceiling", "product_bfloat16_gflops", True, ALL_CORES, 1, (Candidate("this machine", "ceiling"),)),
)

TARGETS = (
    Target("input, one thread", "slices_per_s", 3, "MONAI, dictionary chain"),
    Target("input, one thread", "slices_per_s", 1.5, "batchgeneratorsv2"),
    *(
        Target(f"training, {network}", "epoch_slices_per_s", 2, "Keras", ours)
        for network in ("resunet", "unet", "segnet")
        for ours in ("strokelesion", TWO_PROCESSES)
    ),
    *(Target(f"training, {network}", "data_percent", 3) for network in ("resunet", "unet", "segnet")),
    Target("training, resunet", "epoch_slices_per_s", 0.9, "strokelesion", TWO_PROCESSES),
    Target("network alone", "scan_s", 20, "nnU-Net, 3d_fullres"),
    Target("network alone", "peak_gib", 5, "nnU-Net, 3d_fullres"),
    Target("file to file, registered before", "scan_s", 15),
)
