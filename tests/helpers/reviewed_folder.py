"""A results folder with pages of small drawn scans, as `segment` writes it, and requests to the server that reviews it."""

import gzip
import json
import threading
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import nibabel as nib
import numpy as np
import torch
import uvicorn
from drawn_scan import SHAPE, drawn
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from strokelesion.pipeline.derivatives.gathering import gather_results
from strokelesion.pipeline.derivatives.outputs import OUTPUTS
from strokelesion.pipeline.derivatives.provenance import read_sidecar
from strokelesion.pipeline.derivatives.result_names import SIDECAR, ScanName
from strokelesion.pipeline.derivatives.scan_images import ScanFolder
from strokelesion.pipeline.lesions.lesion_table import lesion_rows, scan_row
from strokelesion.pipeline.lesions.measuring import MeasuredScan
from strokelesion.pipeline.review.saving import find_reviewed
from strokelesion.pipeline.review.server import listening, make_app
from strokelesion.pipeline.runtime.files import write_json
from strokelesion.transforms import DecideLesionsd
from strokelesion.transforms.headers import mask_header

TOKEN = "t0ken"
TURN = nib.affines.from_matvec(Rotation.from_euler("xyz", (15, -10, 20), degrees=True).as_matrix(), (3, -5, 7))
# Axes and voxel sizes of the scans; the last one has other axes first, too.
AFFINES = {
    "RAS": np.array([[2.0, 0, 0, -40], [0, 2.5, 0, -50], [0, 0, 3, -30], [0, 0, 0, 1]]),
    "LPS": np.array([[-2.0, 0, 0, 40], [0, -2.5, 0, 50], [0, 0, 3, -30], [0, 0, 0, 1]]),
    "oblique": TURN @ np.array([[-2.0, 0, 0, 40], [0, -2.5, 0, 50], [0, 0, 3, -30], [0, 0, 0, 1]]),
    "PSR": np.array([[0, 0, 3.0, -40], [-2, 0, 0, 50], [0, 2.5, 0, -30], [0, 0, 0, 1]]),
}


def write_reviewed(folder: Path, names=("RAS",)) -> Path:
    """Write the results of scans that are named after their axes, each with a main and a sub-lesion; return the folder."""
    wanted = {"lesions": True, "pages": True}
    done = []
    for axes in names:
        name, affine = ScanName((("sub", axes),)), AFFINES[axes]
        image, segmented = drawn(affine)
        scan = MeasuredScan(
            item={},
            image=image,
            region=torch.ones(1, *SHAPE),
            probabilities=(probabilities := MetaTensor(torch.zeros(3, *SHAPE), affine=image.affine)),
            evidence=probabilities,
            header=mask_header(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), affine).header, affine),
            decide=DecideLesionsd("pred").decide,
            segmented=segmented,
            tables={"volumes": [scan_row(segmented)], "lesions": lesion_rows(segmented)},
            warnings=[],
        )
        files = ScanFolder(folder, name, [f"bids:raw:sub-{axes}/anat/sub-{axes}_T1w.nii.gz"], wanted)
        for output in OUTPUTS:
            if output.name in wanted:
                output.write(scan, files, True)
        write_json(files.path(SIDECAR), {"Sources": list(files.sources), "Warnings": [], "Tables": scan.tables})
        done.append((name, read_sidecar(files.path(SIDECAR))))
    gather_results(folder, wanted, done, {})
    return folder


class Client:
    """A client of a running server; `send` returns status, headers and body of the answer."""

    def __init__(self, port, token=TOKEN):
        self.port, self.token = port, token
        self.address = f"http://127.0.0.1:{port}/{token}/"

    def send(self, method, path, body=None, whole_path=False, **headers):
        """Send a request with further headers, whose names have `_` for `-`."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path if whole_path else f"/{self.token}/{path}", body, named)
        answer = connection.getresponse()
        with closing(connection):
            return Answer(answer.status, answer.headers, answer.read())

    def state(self, scan="sub-RAS"):
        """Return the state of a scan as the server tells it."""
        return self.send("GET", "review").json[scan]

    def put_labels(self, labels, scan="sub-RAS", **changes):
        """Save a label map as the page does, with changes of what goes with it."""
        return self.send("PUT", *put_body(self, labels, scan, **changes))

    def put_decision(self, scan="sub-RAS", **changes):
        """Save a decision as the page does, with changes of what it sends."""
        decision = {"version": self.state(scan)["version"], "status": "accepted", "initials": "AB", "note": "", **changes}
        return self.send("PUT", f"review/{scan}", json.dumps(decision))


def put_body(client, labels, scan="sub-RAS", **changes):
    """Return path and body of the request that saves a label map, with changes of what goes with it."""
    about = {"version": client.state(scan)["version"], "initials": "AB", "note": "", "shape": ",".join(map(str, SHAPE))}
    return f"labels/{scan}?{urlencode({**about, **changes})}", gzip.compress(labels.tobytes(order="F"))


class Answer(NamedTuple):
    """What a server answers."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self):
        """Return the body as JSON."""
        return json.loads(self.body)


@contextmanager
def serving(folder):
    """Serve a folder in a thread while the block runs; yield a client."""
    with listening(0) as listener:
        server = uvicorn.Server(uvicorn.Config(make_app(folder, TOKEN), log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Client(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def the_scan(folder, name="sub-RAS"):
    """Return a scan of a results folder."""
    return find_reviewed(folder)[name]


def contents(folder):
    """Return the content of all files below a folder, without the lock."""
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "lock" not in path.name
    }
