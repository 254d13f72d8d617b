"""The table of all options: type, range, unit, default, the commands that take the option, and one line of help.

Values come from the command line, from Python and from bundle files. `workflow.py` reads them, `option_checks.py` checks them
with `Settings`, and the checked values go into the running bundle. `option_table.py` writes `docs/options.md` from this table.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from strokelesion.networks.planes import PLANES
from strokelesion.pipeline.options.command_names import (
    APPLYING,
    COMPUTING,
    DOCTOR,
    EVALUATING,
    EXPERIMENTS,
    EXPORT,
    GROUP,
    INFERENCE,
    LABELED,
    LEARNING,
    PACKAGE,
    PREDICTING,
    RELEASE,
    REPORTING,
    SCORING,
    SEGMENTING,
    SYNTHESIS,
    TRAINING,
)
from strokelesion.pipeline.options.option_types import (
    About,
    Allowed,
    Count,
    Device,
    ExtentMm,
    Fold,
    Index,
    Part,
    Portion,
    PositiveShare,
    Seed,
    Seeds,
    ShareBelowOne,
    SpacingMm,
    SplitForm,
    Switch,
    Text,
    VolumeMl,
    Words,
    option,
    some_of,
)


class Settings(BaseModel):
    """Checked values of all options."""

    model_config = ConfigDict(extra="forbid", strict=True, validate_default=True)

    dataset_dir: Text | None = option(
        None,
        About(LABELED, "training", is_basic=True, default="the phantom"),
        "Folder of an ATLAS release or a BIDS data set, or of reviewed results.",
    )
    split: SplitForm = option("5-fold", About((TRAINING, EXPERIMENTS), "held_out"), "Division of the persons into parts.")
    fold: Fold = option(0, About((TRAINING,), "held_out", is_basic=True), "Part that is held out: a number, or a site's name.")
    split_seed: Seed = option(0, About((TRAINING, EXPERIMENTS), "held_out"), "Seed of the division into parts.")
    seed: Seed = option(0, About((TRAINING, SYNTHESIS), "training"), "Seed of the weights, the order and the augmentation.")
    sub_lesions: Literal["masks", "components"] = option(
        "masks",
        About((TRAINING, DOCTOR, EXPERIMENTS, SCORING), "held_out"),
        "Sub-lesions: as the data set's masks say, or all components but the largest.",
    )
    allow_empty: Switch = option(False, About(LABELED), "Accept masks without a lesion.")
    allow_gray: Switch = option(False, About(LABELED), "Accept masks with values between background and lesion.")
    scored: Literal["held_out", "all"] = option(
        "held_out", About((EVALUATING,)), "Scans to score: those that the model's training held out, or all."
    )
    intensities: Literal["brain", "tissue"] = option(
        "tissue",
        About(LEARNING, "protocol"),
        "Intensity scale: median tissue 1; or white matter 1 in a brain that is found first and cropped to.",
    )
    spacing_mm: SpacingMm = option(
        (1.0, 1.0, 1.0),
        About((*LEARNING, SYNTHESIS), "protocol", "mm", True),
        "Voxel size: three numbers, or one for all axes.",
    )
    slice_mm: ExtentMm = option(
        (192.0, 224.0), About(LEARNING, "protocol", "mm"), "Extent of the slices that the network sees."
    )
    crop_mm: ExtentMm | None = option(
        None, About(LEARNING, "protocol", "mm", default="whole slices"), "Extent of random windows of training slices."
    )
    planes: Annotated[tuple[str, ...], *some_of(*PLANES)] = option(
        ("axial",), About(LEARNING, "protocol"), "Planes of the slices; predictions are averaged over them."
    )
    neighbors: Annotated[int, Field(ge=0, le=8), Allowed("a whole number from 0 to 8")] = option(
        0, About(LEARNING, "protocol", "slices"), "Neighboring slices on each side, shown as channels."
    )
    run_dir: Text | None = option(
        None,
        About((TRAINING, EVALUATING, RELEASE, DOCTOR, SCORING), is_basic=True, default="`runs/<network>_<loss>`"),
        "Folder of a run.",
    )
    cache_dir: Text = option("runs/slices", About((TRAINING, RELEASE)), "Folder of prepared slices.")
    loss: Annotated[str, Allowed("a name of the bundle's section loss_functions")] = option(
        "cce_dice", About((TRAINING,), "training", is_basic=True), "Loss: cce, dice, or their sum cce_dice; also cce_lesion."
    )
    epochs: Count = option(100, About((TRAINING,), is_basic=True), "Number of epochs.")
    batch_size: Count = option(32, About((TRAINING,), "training", "slices", True), "Slices of a batch, in each process.")
    learning_rate: PositiveShare = option(0.001, About((TRAINING,), "training"), "Learning rate of Adam.")
    schedule: Literal["constant", "cosine"] = option(
        "constant", About((TRAINING,), "training"), "Learning rate over the epochs; cosine falls to zero."
    )
    slices: Literal["lesion", "brain", "all"] = option(
        "brain", About(LEARNING, "training"), "Slices to train on: with lesion, with brain, or all."
    )
    lesion_share: PositiveShare = option(0.5, About((TRAINING,), "training"), "Share of slices with lesion in an epoch.")
    evenness: Portion = option(0.0, About((TRAINING,), "training"), "0: slices with lesion count alike; 1: scans do.")
    epoch_slices: Count | None = option(
        None,
        About((TRAINING,), "training", "slices", default="all with lesion, and their share of others"),
        "Slices of an epoch, drawn with replacement where needed.",
    )
    val_interval: Count = option(1, About((TRAINING,), unit="epochs"), "Epochs between validations.")
    panel_interval: Count = option(5, About((TRAINING,), unit="epochs"), "Epochs between pictures in TensorBoard.")
    panel_scans: Index = option(4, About((TRAINING,), unit="scans"), "Number of scans pictured in TensorBoard.")
    num_workers: Index = option(
        0, About((TRAINING, RELEASE, SYNTHESIS), unit="processes"), "Processes that prepare scans; 0 uses threads."
    )
    resume: Switch = option(False, About((TRAINING,), is_basic=True), "Continue the run in run_dir.")
    init: Text | None = option(None, About((TRAINING,), default="random weights"), "Start from a file, or `pretrained`.")
    init_share: Portion = option(
        0.5, About((TRAINING,), "training"), "Share of the initial model in the weights of an adapted one (bundle adapt)."
    )
    compile: Switch = option(False, About((TRAINING,)), "Compile the training step; needs a C++ compiler.")
    amp: Switch = option(True, About((TRAINING, *PREDICTING)), "Half precision where the device has fast units for it.")
    device: Device = option(
        "auto",
        About((*COMPUTING, GROUP, DOCTOR), is_basic=True),
        "Device of the networks; auto takes a GPU where there is one.",
    )
    weights: Text | None = option(
        None,
        About(
            APPLYING,
            is_basic=True,
            default="inference and export: pretrained; evaluating: the run's last.pt; release: its best.pt",
        ),
        "Model to apply: a file, `pretrained` (lesions), or `brain` or `surface`, the pretrained models of the brain.",
    )
    threshold: PositiveShare | None = option(
        None, About((EVALUATING, *SEGMENTING), default="the model's"), "Least probability of lesion."
    )
    min_component_ml: VolumeMl | None = option(
        None, About((EVALUATING, *SEGMENTING), unit="ml", default="the model's"), "Smaller components are removed."
    )
    min_peak: Portion | None = option(
        None,
        About((EVALUATING, *SEGMENTING), default="the model's"),
        "Components whose highest probability is lower are removed.",
    )
    overlap: ShareBelowOne = option(
        0.25, About((TRAINING, *PREDICTING, GROUP)), "Overlap of windows where a slice takes several."
    )
    window_batch: Count | None = option(
        None, About((TRAINING, *PREDICTING), default="8, on GPUs 16"), "Slices that are computed at once."
    )
    tta: Switch | None = option(
        None,
        About((TRAINING, *PREDICTING, GROUP), default="the model's"),
        "Average each scan with its left-right mirror image.",
    )
    brain_weights: Text = option(
        "pretrained",
        About((*LEARNING, *PREDICTING, GROUP, SYNTHESIS)),
        "Model that finds the brain: a file, or `pretrained`.",
    )
    surface_weights: Text | None = option(
        None,
        About((*LEARNING, *PREDICTING, GROUP, SYNTHESIS), default="none"),
        "Model that refines the brain mask that networks see. `save_brain` always refines, with `pretrained` if none is named.",
    )
    prepare: Literal["none", "bias", "mni"] = option(
        "none", About((EVALUATING, *SEGMENTING)), "Before the network: correct the bias field, or register to MNI space."
    )
    scans: Text | None = option(
        None, About(SEGMENTING, is_basic=True, default="none: name it"), "File, folder, glob, BIDS data set or DICOM folder."
    )
    take: Literal["t1w", "all"] = option(
        "t1w",
        About(SEGMENTING),
        "Scans of a folder: those named T1w if there are any, and DICOM where there is nothing else; or all that may be a T1.",
    )
    participant: Annotated[Any, Allowed("labels of subjects, with commas")] = option(
        None, About(SEGMENTING, default="all"), "Subjects of a BIDS data set, with commas; in Python as text."
    )
    session: Annotated[Any, Allowed("labels of sessions, with commas")] = option(
        None, About(SEGMENTING, default="all"), "Sessions of a BIDS data set, with commas; in Python as text."
    )
    output_dir: Text | None = option(
        None,
        About(
            (INFERENCE, GROUP, RELEASE, EXPORT, PACKAGE, SYNTHESIS),
            is_basic=True,
            default="inference: masks; synthesis: synthetic; others: name it",
        ),
        "Folder of the results.",
    )
    save_probabilities: Switch = option(False, About((EVALUATING, *SEGMENTING)), "Write probabilities of lesion.")
    save_brain: Switch = option(False, About(SEGMENTING), "Write brain masks.")
    mni: Literal["none", "2009a", "fsl"] = option(
        "none",
        About(SEGMENTING),
        "Write results in MNI space, too. 2009a: MNI152NLin2009aSym; fsl: both that and MNI152NLin6Asym, the space of FSL.",
    )
    positions: Switch = option(
        True, About(SEGMENTING), "Register brains to MNI space for positions, hemispheres and tissues in the tables."
    )
    fill: Switch = option(False, About(SEGMENTING), "Write scans with filled lesions.")
    dicom_seg: Switch = option(False, About(SEGMENTING), "Write DICOM segmentations of scans from DICOM.")
    for_fmriprep: Text | None = option(
        None, About(SEGMENTING, default="none"), "Folder for masks under the names that fMRIPrep reads."
    )
    pages: Switch = option(True, About(SEGMENTING), "Write a page of each scan, and one of all scans.")
    atlas: Text | None = option(None, About(SEGMENTING, default="none"), "Label atlas in MNI space, on any grid.")
    atlas_labels: Text | None = option(None, About(SEGMENTING, default="none"), "Table of the atlas's regions.")
    rois: Text | None = option(
        None, About(SEGMENTING, default="none"), "Folder of regions in MNI space: a file each, binary or of probabilities."
    )
    overwrite: Switch = option(False, About(SEGMENTING), "Segment scans again that are done.")
    tables: Switch = option(
        True, About((INFERENCE,)), "Write tables and the page of all scans; if not, several runs may share the folder."
    )
    part: Part | None = option(None, About((INFERENCE,), default="all scans"), "Part of the scans, such as 3/16.")
    heads: Words = option(
        None, About((TRAINING, RELEASE, SYNTHESIS), default="none: name it"), "Folder or folders of label maps and T1 scans."
    )
    masks: Words = option(
        None,
        About((TRAINING, RELEASE, SYNTHESIS), default="procedural masks"),
        "Folder or folders of lesion masks in MNI space.",
    )
    material_dir: Text = option("runs/material", About((TRAINING, RELEASE, SYNTHESIS)), "Folder of prepared heads and masks.")
    side: Literal["training", "validation", "held_out"] = option(
        "held_out", About((SYNTHESIS,)), "Heads and masks to use: those for training, for validation, or held out."
    )
    synthetic_scans: Annotated[int, Field(ge=1, le=100_000), Allowed("a whole number from 1 to 100000")] = option(
        60, About((TRAINING, RELEASE, SYNTHESIS), "training", "scans"), "Synthetic scans to make, or to show in an epoch."
    )
    renewed_scans: Index = option(
        0, About((TRAINING, RELEASE), "training", "scans"), "Synthetic scans that are new in each epoch."
    )
    validation_scans: Count = option(24, About((TRAINING, RELEASE), "training", "scans"), "Synthetic scans to validate on.")
    lesion_free: Portion = option(
        0.1, About((TRAINING, RELEASE, SYNTHESIS), "training"), "Share of synthetic scans without lesion."
    )
    any_contrast: Portion = option(
        0.0, About((TRAINING, RELEASE), "training"), "Share of synthetic scans of any contrast, not T1."
    )
    scanner: Annotated[str, Allowed("a name of the table SCANNERS")] = option(
        "mixed", About((TRAINING, RELEASE, SYNTHESIS), "training"), "Model of the scanner of synthetic scans."
    )
    generator: Literal["standard", "shifted"] = option(
        "standard", About((SYNTHESIS,)), "Generator of synthetic scans; `shifted` makes scans to measure on, never to train on."
    )
    doctor_csv: Text | None = option(None, About((DOCTOR,), default="`<run_dir>/doctor.csv`"), "Table that doctor writes.")
    networks: Annotated[tuple[str, ...], *some_of("unet", "segnet", "resunet")] = option(
        "all", About((EXPERIMENTS,)), "Networks to compare."
    )
    losses: Annotated[tuple[str, ...], *some_of("cce", "dice", "cce_dice")] = option(
        "all", About((EXPERIMENTS,)), "Losses to compare."
    )
    folds: Words = option("all", About((EXPERIMENTS,)), "Parts that are held out in turn, with commas.")
    seeds: Seeds = option((0,), About((EXPERIMENTS,)), "Seeds of the trainings, all on one split, with commas.")
    runs_dir: Text = option("runs", About((EXPERIMENTS, REPORTING)), "Folder of the runs.")
    runs: Words = option(None, About((REPORTING,), default="all in `runs_dir`"), "Folders of runs, or globs.")
    report_dir: Text = option("report", About((EXPERIMENTS, REPORTING)), "Folder of the report.")
    shown: Text = option("best", About((REPORTING,)), "Experiment whose worst scans are shown.")
    predictions: Text | None = option(None, About((SCORING,), default="none: name it"), "Folder of predicted masks.")
    name: Text | None = option(None, About((SCORING,), default="none: name it"), "Name of the method that made the masks.")


OPTIONS: dict[str, About] = {
    name: field.json_schema_extra["about"]  # type: ignore[index,misc]
    for name, field in Settings.model_fields.items()
}


def options_of(command: str) -> list[str]:
    """Return the names of the options that a command takes."""
    return [name for name, about in OPTIONS.items() if command in about.commands]


def options_in(part: str) -> list[str]:
    """Return the names of the options that a part of a model's description records."""
    return [name for name, about in OPTIONS.items() if about.part == part]
