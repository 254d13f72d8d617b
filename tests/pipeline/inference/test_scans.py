"""Scans found from a file, a folder or a glob; one bad scan does not stop the others."""

import threading
import weakref
from pathlib import Path

import pytest
import torch
from checkout import ROOT
from configured import configured
from ignite.engine import Events
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from refusals import refusal

from strokelesion.networks import ResUNet, UserError
from strokelesion.pipeline.finding.scans import common_folder, find_scans
from strokelesion.pipeline.inference.prediction import predict_scans
from strokelesion.pipeline.models.model_files import read_model

FILES = """a/T1.nii.gz a/T1_lesion.nii.gz a/T1_probabilities.nii.gz c/Lesionstudy_[7].NII.GZ b/T1.mha b/.hidden.nii b/notes.txt
bids/sub-01/anat/sub-01_T1w.nii.gz bids/sub-01/anat/sub-01_T2w.nii.gz
bids/derivatives/sub-01/anat/sub-01_desc-lesion_mask.nii.gz"""


@pytest.fixture
def folder(tmp_path):
    for name in FILES.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("scans", "found"),
    [
        ("a", ["a/T1.nii.gz"]),
        ("b", ["b/T1.mha"]),
        ("c", ["c/Lesionstudy_[7].NII.GZ"]),
        ("c/Lesionstudy_[7].NII.GZ", ["c/Lesionstudy_[7].NII.GZ"]),
        ("bids", ["bids/sub-01/anat/sub-01_T1w.nii.gz"]),
        ("a/T1.nii.gz", ["a/T1.nii.gz"]),
        ("*/T1*", ["a/T1.nii.gz", "a/T1_lesion.nii.gz", "a/T1_probabilities.nii.gz", "b/T1.mha"]),
    ],
)
def test_scans_are_found(folder, scans, found):
    assert [item["image"] for item in find_scans(folder / scans)] == [str(folder / name) for name in found]


def test_what_holds_no_scan_or_two_for_one_mask_is_refused(folder, run_command):
    for nothing in ("nowhere", "*.dcm"):
        with pytest.raises(UserError, match=r"found no scan at .*\.nii\.gz.*DICOM series\. Check --scans"):
            find_scans(folder / nothing)
    (folder / "b/T1.nii.gz").touch()
    with pytest.raises(UserError, match=r"T1\.mha and .*T1\.nii\.gz would write the same mask"):
        find_scans(folder / "b")
    assert find_scans(None) == []
    said = refusal(run_command, "inference", "resunet")
    assert "got no scans; expected a file, a folder or a glob: --scans /data/new" in said


@pytest.mark.parametrize(("participants", "found"), [("01", 1), ("sub-01,02", 3), (["2", "02"], 3), (10, 1), ((10, "01"), 2)])
def test_participants_narrow_a_bids_data_set(tmp_path, participants, found):
    names = ["sub-01/anat/sub-01_T1w", "sub-02/ses-1/anat/sub-02_ses-1_T1w", "sub-02/ses-2/anat/sub-02_ses-2_T1w"]
    for name in [*names, "sub-10/anat/sub-10_T1w", "sub-2/anat/sub-2_T1w"]:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f"{name}.nii.gz").touch()
    assert len(find_scans(tmp_path, participants)) == found


@pytest.mark.parametrize(("participants", "sessions", "found"), [(None, "1", 2), (None, "ses-1,2", 3), ("02", 2, 1)])
def test_sessions_narrow_a_bids_data_set(tmp_path, participants, sessions, found):
    for name in ("sub-01_ses-1", "sub-02_ses-1", "sub-02_ses-2", "sub-03"):
        (tmp_path / f"{name}_T1w.nii.gz").touch()
    assert len(find_scans(tmp_path, participants, sessions)) == found


def test_participants_without_a_scan_are_named(folder):
    with pytest.raises(UserError, match=r"1 labels have no scan:\s+sub-07\s+Expected labels of the folders sub-\*"):
        find_scans(folder / "bids", "01,07")


def test_the_pretrained_model_is_applied_unless_another_one_is_named(folder, tmp_path, monkeypatch):
    """Whichever bundle file is named: its own network and its own options are those of training."""
    monkeypatch.chdir(tmp_path)
    pretrained = read_model(ROOT / "bundles/weights/resunet.safetensors").description
    for bundle in ("resunet", "unet", "segnet"):
        parser = configured(bundle, "inference", scans=str(folder / "a"))
        config = parser.config
        assert Path(config["weights"]).samefile(ROOT / "bundles/weights/resunet.safetensors")
        assert config["network_def"] == pretrained.network
        assert isinstance(parser.get_parsed_content("network_def"), ResUNet)
        for name, value in pretrained.protocol:
            assert name == "mirror" or config[name] == (list(value) if isinstance(value, tuple) else value), (bundle, name)
        assert config["tta"] is pretrained.protocol.mirror
        for name, value in pretrained.decision:
            assert config[name] == value


def outcomes_of(numbers, network=lambda image: image, load=None):
    """Predict images that are full of their numbers."""
    load = load or (lambda number: {"image": torch.full((1, 4, 5), float(number))})
    evaluator = SupervisedEvaluator(device="cpu", val_data_loader=[1], network=torch.nn.Identity())
    evaluator.inferer = lambda image, _: network(image)
    return predict_scans(evaluator, Dataset(list(numbers), load))


def test_each_scan_is_loaded_and_predicted_once_and_errors_stay_with_their_scan():
    loaded, predicted = [], []

    def load(number):
        loaded.append(number)
        if number == 2:
            raise OSError("cannot read 2")
        return {"image": torch.full((1, 4, 5), float(number))}

    outcomes = list(outcomes_of((1, 2, 3), lambda image: predicted.append(float(image.mean())) or image, load))
    assert loaded == [number for number, _ in outcomes] == [1, 2, 3]
    assert predicted == [1.0, 3.0]
    assert [isinstance(outcome, Exception) for _, outcome in outcomes] == [False, True, False]
    assert float(outcomes[2][1]["pred"].mean()) == 3
    assert list(outcomes_of(())) == []


def test_the_next_scan_is_loaded_while_one_is_computed_and_no_more():
    begun = [threading.Event() for _ in range(4)]

    def load(number):
        begun[number].set()
        return {"image": torch.full((1, 4, 5), float(number))}

    def network(image):
        number = int(image.mean())
        assert number == 3 or begun[number + 1].wait(timeout=600)
        assert not any(event.is_set() for event in begun[number + 2 :])
        return image

    assert [int(outcome["pred"].mean()) for _, outcome in outcomes_of(range(4), network, load)] == [0, 1, 2, 3]


def test_a_run_that_ends_before_it_loads_its_scan_leaves_the_next_one_its_own():
    evaluator = SupervisedEvaluator(device="cpu", val_data_loader=[1], network=torch.nn.Identity())
    evaluator.inferer = lambda image, _: image
    starts = iter([OSError("no start"), None, None])

    def start(_):
        if error := next(starts):
            raise error

    evaluator.add_event_handler(Events.STARTED, start)
    dataset = Dataset([1, 2, 3], lambda number: {"image": torch.full((1, 4, 5), float(number))})
    first, *others = [outcome for _, outcome in predict_scans(evaluator, dataset)]
    assert isinstance(first, OSError)
    assert [int(outcome["pred"].mean()) for outcome in others] == [2, 3]


def test_a_function_of_each_loaded_scan_is_computed_beside_the_network():
    began = threading.Event()
    evaluator = SupervisedEvaluator(device="cpu", val_data_loader=[1], network=torch.nn.Identity())
    evaluator.inferer = lambda image, _: image if began.wait(timeout=600) else None
    dataset = Dataset([1, 2], lambda number: {"image": torch.full((1, 4, 5), float(number))})
    beside = predict_scans(evaluator, dataset, lambda item: (began.set(), float(item["image"].mean())))
    assert [outcome["beside"].result()[1] for _, outcome in beside] == [1, 2]


@pytest.mark.parametrize(
    ("options", "is_registered"),
    [
        ({}, True),
        ({"positions": False}, False),
        ({"positions": False, "fill": True}, True),
        ({"positions": False, "mni": "fsl"}, True),
    ],
)
def test_a_brain_is_registered_only_where_an_output_needs_it(folder, tmp_path, options, is_registered):
    parser = configured("resunet", "inference", scans=str(folder / "a"), output_dir=str(tmp_path), **options)
    assert (parser.get_parsed_content("results").needed_register is not None) is is_registered


def test_nothing_is_held_of_scans_that_are_done():
    loaded = []

    def load(number):
        image = torch.full((1, 4, 5), float(number))
        loaded.append(weakref.ref(image))
        return {"image": image}

    for number, (_, outcome) in enumerate(outcomes_of([1] * 4, load=load)):
        assert isinstance(outcome, dict)
        assert all(reference() is None for reference in loaded[: number + 1])


def test_stopping_between_scans_and_ctrl_c_end_the_loading_too():
    loaded, before = [], threading.active_count()

    def load(number):
        loaded.append(number)
        return {"image": torch.zeros(1, 2, 2)}

    def interrupted(image):
        raise KeyboardInterrupt

    outcomes = outcomes_of(range(9), load=load)
    next(outcomes)
    outcomes.close()
    with pytest.raises(KeyboardInterrupt):
        list(outcomes_of(range(9), interrupted, load))
    assert loaded == [0, 1, 0, 1]
    assert threading.active_count() == before


def test_outputs_repeat_the_folders_below_the_common_one(folder):
    assert common_folder(find_scans(folder / "*/T1.*")) == str(folder)
    assert common_folder(find_scans(folder / "a/T1.nii.gz")) == str(folder / "a")
