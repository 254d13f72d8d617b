"""Published Dice values of methods and of human tracers, each with its data and protocol.

The protocol changes Dice more than the method does. Dice by slice or by scan, a random split or a held-out center, and all
scans or selected scans are different quantities. A row is therefore added only with its protocol.
"""

from typing import NamedTuple

import pandas as pd

# Mean Dice of six tracers with each other and with themselves, Lo et al. 2023, doi:10.3389/fnimg.2022.1098604.
INTER_RATER_DICE = 0.727
INTRA_RATER_DICE = 0.839


class Published(NamedTuple):
    """One published result.

    Attributes:
        method: Method or human tracers.
        data: ATLAS release and number of scans, if published.
        protocol: Split and averaging.
        lesion: Lesion class: `main`, `sub`, or `all` if one mask holds every lesion.
        dice: Mean Dice as printed, or a range if a range was published.
        further: Other numbers of the same experiment.
        compare_with: Column of our scores with the same definition; empty if there is none.
        source: Paper, or authors who repeated the method.
    """

    method: str
    data: str
    protocol: str
    lesion: str
    dice: str
    further: str
    compare_with: str
    source: str


KERAS_STUDY = "the Keras study that this project grew from"
BY_SLICE = "2D, mean over slices with a lesion"
BY_SLICE_SUB = "2D, mean over slices; those without sub-lesion score 0, which caps a perfect model too"
WONG = "Wong et al. 2021, arXiv:2109.08791"
WONG_PROTOCOL = "212 scans for training, 27 for test, mean over patients"
LO = "Lo et al. 2023, doi:10.3389/fnimg.2022.1098604"
TRACERS = "six trained tracers"

PUBLISHED = (
    Published("human tracers, with themselves", "T1w after stroke", TRACERS, "all", ".839", "intraclass corr. .99", "dice", LO),
    Published("human tracers, with each other", "T1w after stroke", TRACERS, "all", ".727", "intraclass corr. .98", "dice", LO),
    Published("ResUNet", "R1.1", BY_SLICE, "main", ".5774", "", "keras_dice", KERAS_STUDY),
    Published("SegNet", "R1.1", BY_SLICE, "main", ".4563", "", "keras_dice", KERAS_STUDY),
    Published("U-Net", "R1.1", BY_SLICE, "main", ".1084", "", "keras_dice", KERAS_STUDY),
    Published("ResUNet", "R1.1", BY_SLICE_SUB, "sub", ".0113", "", "keras_dice", KERAS_STUDY),
    Published("SegNet", "R1.1", BY_SLICE_SUB, "sub", ".0003", "", "keras_dice", KERAS_STUDY),
    Published("U-Net", "R1.1", BY_SLICE_SUB, "sub", ".0076", "", "keras_dice", KERAS_STUDY),
    Published("X-Net", "R1.1", "5 folds, 2D slices of 224x192", "all", ".4867", "", "", "Qi et al. 2019, arXiv:1907.07000"),
    Published("D-UNet", "R1.1", "80/20 of scans", "all", ".5349 ± .276", "", "", "Zhou et al. 2021, arXiv:1908.05104"),
    Published("SPiN", "R1.2", WONG_PROTOCOL, "all", ".703", "", "dice", WONG),
    Published("X-Net", "R1.2", WONG_PROTOCOL, "all", ".639", "", "dice", WONG),
    Published("CLCI-Net", "R1.2", WONG_PROTOCOL, "all", ".599", "", "dice", WONG),
    Published("U-Net", "R1.2", WONG_PROTOCOL, "all", ".584", "", "dice", WONG),
    Published("D-UNet", "R1.2", WONG_PROTOCOL, "all", ".548", "", "dice", WONG),
    Published("nnU-Net v2", "R2.0, 655 scans", "3D, 5 folds", "all", ".636", "lesion F1 .549, HD95 23.3 mm", "dice", ""),
    Published(
        "ATLAS'22 winner", "R2.0, 655 scans", "3D ensemble, post-processing; cross-validation", "all", ".6465", "", "dice",
        "Huo et al. 2022, arXiv:2211.15486",
    ),
    Published(
        "ATLAS'22 winner", "R2.0, challenge's test set", "3D ensemble, post-processing; hidden truth", "all", ".6667",
        "lesion F1 .564", "atlas22_dice", "Huo et al. 2022, arXiv:2211.15486",
    ),
    Published(
        "nnU-Net, Dice + TopK10, 1000 epochs", "R3.0, 1452 scans", "3D, random folds", "all", ".656", "", "isles26_dice", "",
    ),
    Published(
        "nnU-Net, Dice + TopK10, 1000 epochs", "R3.0, 1452 scans", "3D, whole centers held out", "all", ".635",
        "official lesion F1 .579, volume error 6.28 ml", "isles26_dice", "",
    ),
    Published(
        "SynthStroke", "R2.1, 194 scans", "trained on synthetic scans only", "all", ".40 to .46", "", "dice",
        "Chalcroft et al. 2025, doi:10.59275/j.melba.2025-f3g6",
    ),
)  # fmt: skip


def tabulate_published() -> pd.DataFrame:
    """Return the published results, one row each, with the columns of `Published`."""
    return pd.DataFrame(PUBLISHED)
