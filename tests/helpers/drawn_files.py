"""Files of one corrected mask as the usual programs write them; each takes labels, affine, folder and stem of the scan."""

import gzip

import itk
import nibabel as nib
import numpy as np

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_fsleyes(labels, affine, folder, stem):
    """FSLeyes keeps the type of what it loaded, such as float32, here with the axes in another order and direction."""
    image = nib.Nifti1Image((labels > 0).astype(np.float32), affine)
    nib.save(image.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]])), folder / f"{stem}_corrected.nii.gz")


def write_itk(values, affine, path):
    """ITK writes both forms of NIfTI; its arrays run along z, y, x, and its millimeters are LPS."""
    image = itk.image_from_array(np.ascontiguousarray(values.transpose(2, 1, 0)))
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(edges.tolist())
    image.SetOrigin((LPS @ affine)[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array((LPS @ affine)[:3, :3] / edges))
    itk.imwrite(image, str(path), compression=True)


def write_itksnap(labels, affine, folder, stem):
    """ITK-SNAP writes labels as 16-bit numbers."""
    write_itk(labels.astype(np.uint16), affine, folder / f"{stem}-segmentation.nii.gz")


def write_slicer(labels, affine, folder, stem):
    """3D Slicer writes the box around the segments with their names; the labels are of its own choice."""
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in np.nonzero(labels))
    start = [part.start for part in box]
    origin = (LPS @ affine @ [*start, 1])[:3]
    vector = "({})".format
    columns = " ".join(vector(",".join(f"{x:.17g}" for x in column)) for column in (LPS @ affine)[:3, :3].T)
    extent = " ".join(str(edge) for part in box for edge in (0, part.stop - part.start - 1))
    segments = [
        f"Segment{number}_{key}:={text}"
        for number, (value, name) in enumerate({7: "main lesion", 4: "Sub-lesion"}.items())
        for key, text in (("ID", f"Segment_{number}"), ("Name", name), ("LabelValue", value), ("Layer", 0), ("Extent", extent))
    ]
    values = np.choose(labels[box], [0, 7, 4]).astype(np.uint8)
    header = [
        "NRRD0004", "type: unsigned char", "dimension: 3", "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, values.shape))}", f"space directions: {columns}", "kinds: domain domain domain",
        "encoding: gzip", f"space origin: {vector(','.join(f'{x:.17g}' for x in origin))}", *segments,
        "Segmentation_MasterRepresentation:=Binary labelmap",
        f"Segmentation_ReferenceImageExtentOffset:={' '.join(map(str, start))}",
    ]  # fmt: skip
    content = "\n".join(header).encode() + b"\n\n" + gzip.compress(values.tobytes(order="F"))
    (folder / f"{stem}.seg.nrrd").write_bytes(content)


def write_of_255(labels, affine, folder, stem):
    """Many programs write 0 and 255, under the name of BIDS."""
    image = nib.Nifti1Image(np.where(labels > 0, 255, 0).astype(np.uint8), affine)
    nib.save(image, folder / f"{stem.removesuffix('_T1w')}_label-lesion_mask.nii.gz")


def write_monai_label(labels, affine, folder, stem):
    """MONAI Label keeps the name of the scan, in a folder `final`, with the labels of the model."""
    (folder / "final").mkdir()
    write_itk(labels.astype(np.uint8), affine, folder / f"final/{stem}.nii.gz")


def write_finer(labels, affine, folder, stem):
    """A mask drawn on a finer grid of the same scan."""
    finer = affine @ nib.affines.from_matvec(np.eye(3) / 2, [-0.25] * 3)
    fine = np.kron(labels, np.ones((2, 2, 2))).astype(np.int16)
    nib.save(nib.Nifti1Image(fine, finer), folder / f"{stem} drawn at half.nii")


PROGRAMS = [write_fsleyes, write_itksnap, write_slicer, write_of_255, write_monai_label, write_finer]
