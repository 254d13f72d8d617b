"""MONAI Label's own server and app serve the packaged bundle; its answer over REST is the mask of `inference`.

Its environment is its own, because it needs numpy below 2. Set MONAI_LABEL_PYTHON to the interpreter of an environment with
MONAI Label and this package, or the test installs one: minutes, and 4 GB.
"""

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
import uuid
import venv
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
from built_wheel import PIP, build_wheel, clean_environment, run
from checkout import BUNDLES, ROOT
from phantom_scan import phantom_scan

NAME = "strokelesion_mri_segmentation"
PATIENCE_S = 300
pytestmark = pytest.mark.slow


def installed_packages():
    """Return what the documentation tells to install besides this package."""
    page = (ROOT / "docs/integrations.md").read_text()
    (line,) = re.findall(r"^pip install (.*monailabel.*)$", page, flags=re.MULTILINE)
    return [word.strip('"') for word in line.split() if word != "."]


@pytest.fixture(scope="module")
def label_python(tmp_path_factory):
    """The interpreter of an environment with MONAI Label and the wheel of this checkout."""
    if given := os.environ.get("MONAI_LABEL_PYTHON"):
        return Path(given)
    source, wheels, folder = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "label"))
    wheel = build_wheel(source, wheels)
    venv.create(folder, symlinks=True, with_pip=True)
    python = folder / "bin/python"
    words = [str(word) for word in (python, *PIP, "install", "--quiet", *installed_packages(), wheel)]
    ended = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"MONAI Label cannot be installed here: {ended.stderr[-300:]}")
    return python


@pytest.fixture
def scan(tmp_path):
    head = phantom_scan(2.0)
    path = tmp_path / "scans/sub-01_T1w.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(head["image"][0].numpy(), head["image"].affine.numpy()), path)
    return path


@pytest.fixture
def address(label_python, tmp_path):
    """The address of a server with the packaged bundle, as docs/integrations.md starts it."""
    app = tmp_path / "apps/monaibundle"
    shutil.copytree(label_python.parents[1] / "monailabel/sample-apps/monaibundle", app)
    monai.bundle.run(
        run_id="package", config_file=str(BUNDLES / "resunet.json"), logging_file=False, output_dir=str(app / "model")
    )
    (tmp_path / "studies").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [label_python, ROOT / "tests/helpers/label_server.py", "start_server", "--app", app, "--studies", "studies"]
    words += ["--conf", "models", NAME, "--conf", "sam2", "false", "--conf", "skip_trainers", "true"]
    words += ["--host", "127.0.0.1", "--port", port]
    environment = {**clean_environment(), "BUNDLE_DOWNLOAD_SRC": "ngc"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(list(map(str, words)), cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        yield wait_for(f"http://127.0.0.1:{port}", server, tmp_path / "server.log")
    finally:
        server.terminate()
        server.wait()


def wait_for(address, server, log):
    """Return the address once the server answers there."""
    for _ in range(PATIENCE_S):
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{address}/info/") as answer:
                assert NAME in answer.read().decode()
            return address
        except OSError:
            time.sleep(1)
    raise AssertionError(log.read_text()[-3000:])


def post_scan(address, scan):
    """Send a scan to the model and return the label map that comes back."""
    mark = uuid.uuid4().hex
    head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{scan.name}"\r\n\r\n'
    body = head.encode() + scan.read_bytes() + f"\r\n--{mark}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    request = urllib.request.Request(f"{address}/infer/{NAME}?output=image", data=body, headers=headers)
    with urllib.request.urlopen(request) as answer:
        received = scan.with_name("received.nii.gz")
        received.write_bytes(answer.read())
    return nib.load(received)


def test_the_server_answers_with_the_mask_of_inference(label_python, address, scan, tmp_path):
    version = run(label_python, "-c", "import numpy; print(numpy.__version__)", folder=tmp_path)
    assert version.startswith("1.26.")
    found = post_scan(address, scan)
    options = {"scans": str(scan), "output_dir": str(tmp_path / "own"), "pages": False, "results::register": "$None"}
    monai.bundle.run(run_id="inference", config_file=str(BUNDLES / "resunet.json"), logging_file=False, device="cpu", **options)
    own = nib.load(next((tmp_path / "own").rglob("*_label-lesion_mask.nii.gz")))
    np.testing.assert_allclose(found.affine, own.affine, atol=1e-4)
    expected = np.asarray(own.dataobj) > 0
    assert expected.any()
    np.testing.assert_array_equal(np.asarray(found.dataobj) > 0, expected)
