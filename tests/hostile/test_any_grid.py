"""Any grid, type and format: the mask comes back on the scan's grid, with the volume that the same head has in RAS.

The network's voxels are as large as the head's: where they are larger than a lesion, its volume depends on where between its
slices those of the network happen to lie, and that is not a matter of how the head is stored.

`pytest -m slow tests/hostile/test_any_grid.py` draws 2,000 more heads.
"""

import itertools
import struct

import itk
import monai.bundle
import nibabel as nib
import numpy as np
import pytest
from checkout import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_files import write_model
from monai.data import Dataset
from monai.transforms import Spacingd
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from scipy.spatial.transform import Rotation
from stand_ins import DarkIsLesion

from strokelesion.pipeline.inference.new_scans import name_scans
from strokelesion.pipeline.inference.prediction import predict_scans
from strokelesion.pipeline.runtime.errors import user_error

VOLUME_TOLERANCE = 0.02
SLOPE_OFFSET = 112  # of scl_slope in a NIfTI header
AXIS_ORDERS = [
    np.array(list(zip(order, signs, strict=True)), dtype=float)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
NIFTI_TYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
ITK_TYPES = ["u1", "i2", "u2", "f4", "f8"]
FORMATS = ["nii", "nii.gz", "hdr", "analyze.hdr", "mha", "nrrd"]


@st.composite
def heads(draw):
    """A head as voxels in RAS, its voxel size, and how it is stored."""
    shape = [draw(st.integers(9, 14)) for _ in range(3)]
    shape[draw(st.integers(0, 2))] = draw(st.one_of(st.integers(1, 300), st.sampled_from([1, 2, 3, 300])))
    form = draw(st.sampled_from(FORMATS))
    types = {"mha": ITK_TYPES, "nrrd": ITK_TYPES, "analyze.hdr": ["u1", "i2", "i4", "f4", "f8"]}.get(form, NIFTI_TYPES)
    kind = np.dtype(draw(st.sampled_from(types)))
    most = 1e9 if kind.kind == "f" else min(1e9, np.iinfo(kind).max)
    return {
        "values": anatomy(shape, draw(st.floats(100, most))).astype(kind),
        "edges_mm": [round(draw(st.floats(0.2, 8)), 2) for _ in range(3)],
        "form": form,
        "order": AXIS_ORDERS[draw(st.integers(0, 47))],
        "turn_deg": draw(st.one_of(st.just((0.0, 0.0, 0.0)), st.tuples(*[st.floats(-40, 40)] * 3))),
        "endian": draw(st.sampled_from("<>")),
        "slope": draw(st.sampled_from([None, float("nan"), 0.0, 2.5])),
    }


def anatomy(shape, peak):
    """A bright box in air with a dark box inside, which is the lesion to the stand-in network."""
    values = np.zeros(shape)
    values[tuple(slice(min(1, size // 4), size - min(1, size // 4)) for size in shape)] = peak
    values[tuple(slice(size // 3, max(size // 3 + 1, 2 * size // 3)) for size in shape)] = peak // 4
    return values


def stored(head, path):
    """Write a head as it is said to be stored, and return its path."""
    affine = np.diag([*head["edges_mm"], 1.0])
    affine[:3, 3] = (-30, 20, 10)
    values = head["values"]
    if head["form"] != "analyze.hdr":  # which has no orientation
        affine[:3, :3] = Rotation.from_euler("xyz", head["turn_deg"], degrees=True).as_matrix() @ affine[:3, :3]
        affine = affine @ inv_ornt_aff(head["order"], values.shape)
        values = apply_orientation(values, head["order"])
    if head["form"] in ("mha", "nrrd"):
        edges_mm, flip = np.linalg.norm(affine[:3, :3], axis=0), np.diag([-1.0, -1, 1])
        image = itk.image_from_array(np.ascontiguousarray(values.T))
        image.SetSpacing(edges_mm)
        image.SetOrigin(flip @ affine[:3, 3])
        image.SetDirection(itk.matrix_from_array(flip @ (affine[:3, :3] / edges_mm)))
        itk.imwrite(image, str(path))
        return path
    made = {"hdr": nib.Nifti1Pair, "analyze.hdr": nib.AnalyzeImage}.get(head["form"], nib.Nifti1Image)
    header = made.header_class(endianness=head["endian"])
    header.set_data_dtype(values.dtype)
    image = made(values, None if head["form"] == "analyze.hdr" else affine, header)
    if head["form"] == "analyze.hdr":
        image.header.set_zooms(head["edges_mm"])
    nib.save(image, path)
    if head["slope"] is not None and head["form"] in ("nii", "hdr"):
        with path.open("r+b") as file:
            file.seek(SLOPE_OFFSET)
            file.write(struct.pack(head["endian"] + "f", head["slope"]))
    return path


@pytest.fixture(scope="module")
def segment(tmp_path_factory):
    """Segment one file with the stand-in network; returns the mask, or the words that refused the scan."""
    folder = tmp_path_factory.mktemp("grids")
    first = folder / "first.nii"
    nib.save(nib.Nifti1Image(anatomy((9, 9, 9), 100.0), np.eye(4)), first)
    model = write_model(folder / "dark.pt", DarkIsLesion(), "stand_ins.DarkIsLesion")
    options = {"scans": str(first), "output_dir": str(folder / "out"), "pages": False, "amp": False, "device": "cpu"}
    network = {"network_def": {"_target_": "stand_ins.DarkIsLesion"}, "weights": model}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config_file = str(ROOT / "bundles/resunet.json")
        workflow = monai.bundle.ConfigWorkflow(config_file, workflow_type="infer", logging_file=False, **options, **network)
        workflow.initialize()
        parts = ("evaluator", "dataset", "results", "place")
        evaluator, dataset, results, place = map(workflow.parser.get_parsed_content, parts)

    (resample,) = (step for step in place.transforms if isinstance(step, Spacingd))

    def run(path, edges_mm):
        resample.spacing_transform.pixdim = np.array(edges_mm)
        item = {"image": str(path)}
        ((_, outcome),) = predict_scans(evaluator, Dataset([item], dataset.transform))
        if isinstance(outcome, Exception):
            return str(user_error(outcome) or outcome)
        (name,) = name_scans([item], path.parent)
        results.write(name, item, outcome)
        return nib.load(results.path(name, "seg-lesions_dseg.nii.gz"))

    return run


def reference_of(head, segment, folder):
    """Segment the same voxels in RAS."""
    plain = {**head, "form": "nii", "order": AXIS_ORDERS[0], "turn_deg": (0, 0, 0), "endian": "<", "slope": None}
    if head["form"] == "analyze.hdr":  # taken to be stored from right to left
        plain["values"] = head["values"][::-1]
    return segment(stored(plain, folder / "reference.nii"), head["edges_mm"])


def check(head, segment, folder, reference=None):
    """Compare a head as it is stored with the same voxels in RAS."""
    reference = reference or reference_of(head, segment, folder)
    path = stored(head, folder / f"head.{head['form']}")
    shape, affine = grid_of(path)
    mask = segment(path, edges_in_ras_mm(affine))
    if isinstance(reference, str) or isinstance(mask, str):  # too little of it for a scale, in whatever order
        assert "is constant" in str(mask)
        assert "is constant" in str(reference)
        return
    assert mask.shape == shape
    np.testing.assert_allclose(mask.affine, affine, atol=1e-3)
    assert ml(mask) == pytest.approx(ml(reference), rel=VOLUME_TOLERANCE, abs=1e-9)


def edges_in_ras_mm(affine):
    """Return the edges of voxels once their axes are in the order of RAS; far turned heads take their axes in another one."""
    edges_mm = np.empty(3)
    edges_mm[io_orientation(affine)[:, 0].astype(int)] = np.linalg.norm(affine[:3, :3], axis=0).round(2)
    return edges_mm


def grid_of(path):
    """Return shape and RAS affine as the library of the format reads them."""
    if path.suffix not in (".mha", ".nrrd"):
        image = nib.load(path)
        return image.shape, image.affine
    image = itk.imread(str(path))
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return tuple(image.GetLargestPossibleRegion().GetSize()), np.diag([-1.0, -1, 1, 1]) @ affine


def ml(mask):
    """Return the volume of a mask."""
    return float((np.asarray(mask.dataobj) > 0).sum() * abs(np.linalg.det(mask.affine[:3, :3])) / 1000)


SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=40, deadline=None, suppress_health_check=SHARED, derandomize=True)
@given(head=heads())
def test_a_head_has_its_lesion_and_its_grid_however_it_is_stored(head, segment, tmp_path):
    check(head, segment, tmp_path)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=SHARED)
@given(head=heads())
def test_many_heads_have_their_lesions_however_they_are_stored(head, segment, tmp_path):
    check(head, segment, tmp_path)


def test_every_axis_order_gives_the_same_lesion(segment, tmp_path):
    head = {"values": anatomy((24, 20, 14), 100.0).astype("i2"), "edges_mm": [2.0, 3.0, 4.0], "form": "nii", "endian": "<"}
    head |= {"turn_deg": (10.0, -20.0, 15.0), "slope": None}
    reference = reference_of(head, segment, tmp_path)
    assert ml(reference) > 1
    for order in AXIS_ORDERS:
        check({**head, "order": order}, segment, tmp_path, reference)
