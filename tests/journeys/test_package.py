"""The command `package`: MONAI's own tools read, check, run and export the bundles, which segment as this package does."""

import json
import re
import shutil
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import onnxruntime
import pytest
import torch
from checkout import BUNDLES, ROOT
from lesion_network import dice
from model_files import write_small
from phantom_scan import phantom_scan
from refusals import refusal

from strokelesion.pipeline.models.application import PretrainedBrainExtractor
from strokelesion.pipeline.models.model_files import read_model

# MONAI's LoadImaged, the reader of packaged bundles, loads pydicom's plugins, of which one says so.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
SCHEMA = ROOT / "tests/helpers/metadata_schema.json"
NAMES = {"resunet": "strokelesion_mri_segmentation", "brain": "strokelesion_brain_mri_segmentation"}
PRETRAINED = {"resunet": "pretrained", "brain": "brain"}
DOCUMENTS = {"LICENSE", "docs/README.md", "docs/data_license.txt"}
CONFIGS = {"configs/inference.json", "configs/logging.conf", "configs/metadata.json"}
MODELS = {"models/model.pt", "models/model.json"}
MOST_EXPRESSIONS = 11
ONNX_TOLERANCE = 1e-4
SHAPE = (96, 128)


def package(bundle, folder, **options):
    monai.bundle.run(
        run_id="package", config_file=str(BUNDLES / f"{bundle}.json"), logging_file=False, output_dir=str(folder), **options
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the bundles of the pretrained models."""
    folder = tmp_path_factory.mktemp("packaged")
    for bundle, weights in PRETRAINED.items():
        package(bundle, folder, weights=weights)
    return folder


@pytest.fixture(params=NAMES)
def root(folder, request):
    return folder / NAMES[request.param]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A synthetic scan, as a file in a folder of its own."""
    head = phantom_scan(2.0)
    path = tmp_path_factory.mktemp("scans") / "sub-01_T1w.nii.gz"
    nib.save(nib.Nifti1Image(head["image"][0].numpy(), head["image"].affine.numpy()), path)
    return path, head


def config(root, name="inference"):
    return json.loads((root / f"configs/{name}.json").read_text())


def strings(content):
    if isinstance(content, dict | list):
        values = content.values() if isinstance(content, dict) else content
        return [word for value in values for word in strings(value)]
    return [content] if isinstance(content, str) else []


def test_a_bundle_is_complete_flat_and_has_no_paths_of_this_machine(root):
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    needs_brain = {"models/brain.safetensors"} if root.name == NAMES["resunet"] else set()
    assert found == DOCUMENTS | CONFIGS | MODELS | needs_brain
    words = strings(config(root))
    assert not [word for word in words if word.startswith("%") or str(BUNDLES) in word or "workflow" in word]
    assert sum(word.startswith("$") for word in words) <= MOST_EXPRESSIONS
    named = {reference for word in words for reference in re.findall(r"@(\w+)", word)}
    assert named <= {*config(root)}


@pytest.mark.filterwarnings("ignore:No hash value provided")
def test_the_metadata_obey_the_schema_and_name_the_requirements(root, tmp_path):
    """An existing schema file is not downloaded again."""
    copied = shutil.copy(SCHEMA, tmp_path / "schema.json")
    monai.bundle.verify_metadata(meta_file=str(root / "configs/metadata.json"), filepath=str(copied))
    about = config(root, "metadata")
    assert about["required_packages_version"].keys() >= {"strokelesion", "pytorch-ignite", "nibabel"}
    del about["network_data_format"]["outputs"]["pred"]["spatial_shape"]
    (tmp_path / "metadata.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="Failed validating"):
        monai.bundle.verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(copied))


def test_the_network_takes_and_gives_what_the_metadata_say_and_has_the_weights_of_the_model(root):
    files = {"meta_file": str(root / "configs/metadata.json"), "config_file": str(root / "configs/inference.json")}
    monai.bundle.verify_net_in_out("network_def", device="cpu", p=2, n=3, **files)
    network = monai.bundle.load(root.name, bundle_dir=root.parent, workflow_type="inference", device="cpu")
    weights = torch.load(root / "models/model.pt", weights_only=True)
    model = read_model(BUNDLES / f"weights/{'brain' if 'brain' in root.name else 'resunet'}.safetensors")
    assert json.loads((root / "models/model.json").read_text())["sha256"] == model.sha256
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name])
        assert torch.equal(tensor, model.weights[name])


@pytest.mark.filterwarnings("ignore")  # those of the exporters
def test_exported_networks_compute_what_the_network_computes(root, tmp_path):
    channels = config(root, "metadata")["network_data_format"]["inputs"]["image"]["num_channels"]
    files = {"meta_file": str(root / "configs/metadata.json"), "config_file": str(root / "configs/inference.json")}
    files |= {"ckpt_file": str(root / "models/model.pt"), "input_shape": [1, channels, *SHAPE]}
    monai.bundle.ckpt_export("network_def", filepath=str(tmp_path / "model.ts"), use_trace=True, **files)
    monai.bundle.onnx_export("network_def", filepath=str(tmp_path / "model.onnx"), **files)
    network = monai.bundle.load(root.name, bundle_dir=root.parent, workflow_type="inference", device="cpu").eval()
    slices = 2 * torch.rand(1, channels, *SHAPE)
    with torch.no_grad():
        expected = network(slices)
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(slices), expected, rtol=0, atol=ONNX_TOLERANCE)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: slices.numpy()})
    np.testing.assert_allclose(found, expected, rtol=0, atol=ONNX_TOLERANCE)


def segment(root, scan, masks):
    """Run a bundle on the folder of a scan; return the label map."""
    options = {"bundle_root": str(root), "dataset_dir": str(scan.parent), "output_dir": str(masks), "device": "cpu"}
    monai.bundle.run(config_file=str(root / "configs/inference.json"), logging_file=False, **options)
    return nib.load(masks / "sub-01_T1w_dseg.nii.gz")


def test_the_lesion_bundle_writes_the_mask_of_inference(folder, head, run_command, tmp_path):
    path, _ = head
    options = {"output_dir": str(tmp_path / "own"), "pages": False, "results::register": "$None"}
    monai.bundle.run(
        run_id="inference",
        config_file=str(BUNDLES / "resunet.json"),
        logging_file=False,
        device="cpu",
        scans=str(path),
        **options,
    )
    own = nib.load(next((tmp_path / "own").rglob("*_label-lesion_mask.nii.gz")))
    found = segment(folder / NAMES["resunet"], path, tmp_path / "bundle")
    assert np.asarray(own.dataobj).any()
    np.testing.assert_array_equal(np.asarray(found.dataobj) > 0, np.asarray(own.dataobj) > 0)
    np.testing.assert_allclose(found.affine, own.affine, atol=1e-6)


def test_the_brain_bundle_finds_the_brain(folder, head, tmp_path):
    """It uses half precision where the processor has it, which changes voxels at the surface."""
    path, scan = head
    found = np.asarray(segment(folder / NAMES["brain"], path, tmp_path).dataobj) > 0
    extract = PretrainedBrainExtractor(BUNDLES / "weights/brain.safetensors", None, "cpu")
    assert dice(found, extract(scan["image"])[0].numpy()) > 0.995


def test_the_bundle_of_an_own_model_has_its_training_in_place_of_the_model_card(run_command, tmp_path):
    weights = write_small(tmp_path / "own.safetensors", training={"loss": "dice", "seed": 7})
    run_command("package", "resunet", weights=weights, output_dir=str(tmp_path))
    root = tmp_path / NAMES["resunet"]
    text = (root / "docs/README.md").read_text()
    assert "- loss: dice" in text
    assert "SynthSeg" not in text
    assert not (root / "docs/data_license.txt").exists()
    assert not (root / "models/brain.safetensors").exists()  # a model with the intensities `tissue` needs no brain


def test_models_of_other_classes_and_missing_folders_are_refused(run_command, tmp_path):
    assert "3 classes; expected 2" in refusal(run_command, "package", "brain", output_dir=str(tmp_path))
    assert "--output_dir is missing" in refusal(run_command, "package", "resunet")
    assert not list(Path(tmp_path).glob("strokelesion*"))
