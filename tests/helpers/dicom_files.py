"""DICOM series for tests, written by ITK: one file a slice, any grid."""

import locale

import itk
import numpy as np

MR = "1.2.840.10008.5.1.4.1.1.4"


def write_series(folder, volume, spacing_mm=(1.1, 1.2, 2.0), origin_mm=(5.0, -7.0, 9.0), direction=None, **tags):
    """Write a volume `(X, Y, Z)` of integers as a series with axial slices, in LPS.

    Args:
        folder: where the files go; several series may share it.
        volume: what the slices show.
        spacing_mm: size of a voxel.
        origin_mm: center of the first voxel.
        direction: axes of the volume as columns, `(3, 3)`.
        tags: `patient`, `number`, `description`, `modality`, `echo_time_ms`; a number of its own makes a series.
    """
    folder.mkdir(parents=True, exist_ok=True)
    direction = np.eye(3) if direction is None else np.asarray(direction)
    number = str(tags.get("number", 1))
    values = {
        "0008|0016": MR,
        "0008|0020": "20260102",
        "0008|0021": "20260102",
        "0008|0030": "120000",
        "0008|0060": tags.get("modality", "MR"),
        "0008|103e": tags.get("description", "t1_mprage"),
        "0010|0020": tags.get("patient", "P001"),
        "0018|0081": str(tags.get("echo_time_ms", 3.2)),
        "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
        "0020|000e": f"1.2.826.0.1.3680043.2.1125.1.{number}",
        "0020|0011": number,
        "0020|0037": "\\".join(f"{cosine:.8f}" for cosine in direction[:, :2].T.ravel()),
    }
    # ITK's writer leaves the process in the C locale, in which Python takes text files for ASCII.
    before = locale.setlocale(locale.LC_ALL)
    for index in range(volume.shape[2]):
        write_slice(folder / f"{number}_{index:04d}.dcm", volume[..., index], index, spacing_mm, origin_mm, direction, values)
    locale.setlocale(locale.LC_ALL, before)


def write_slice(path, pixels, index, spacing_mm, origin_mm, direction, values):
    """Write one slice."""
    position = np.asarray(origin_mm) + direction[:, 2] * index * spacing_mm[2]
    image = itk.image_from_array(np.ascontiguousarray(pixels.T[None], dtype=np.int16))
    image.SetSpacing(spacing_mm)
    image.SetOrigin(position)
    image.SetDirection(itk.matrix_from_array(direction))
    own = {"0008|0018": f"{values['0020|000e']}.{index + 1}", "0020|0013": str(index + 1)}
    own["0020|0032"] = "\\".join(f"{mm:.6f}" for mm in position)
    header = itk.MetaDataDictionary()
    for tag, value in (values | own).items():
        header[tag] = value
    image.SetMetaDataDictionary(header)
    dicom = itk.GDCMImageIO.New()
    dicom.KeepOriginalUIDOn()
    writer = itk.ImageFileWriter.New(Input=image, FileName=str(path), ImageIO=dicom, UseInputMetaDataDictionary=True)
    writer.Update()
