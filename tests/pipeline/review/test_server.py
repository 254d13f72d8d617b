"""What the server of a review sends and saves; `tests/hostile/test_review_requests.py` sends what no page sends."""

import gzip
import shutil
import sys

import numpy as np
import pytest
from drawn_scan import SHAPE, drawn
from refusals import refusal
from reviewed_folder import contents, serving, the_scan, write_reviewed

from strokelesion.pipeline.console.command_line import main
from strokelesion.pipeline.derivatives.result_names import MASK
from strokelesion.pipeline.review import server
from strokelesion.pipeline.review.decisions import read_decisions
from strokelesion.pipeline.review.saving import MANUAL_MASK, read_labels

LABELS = drawn()[1].labels


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_reviewed(tmp_path_factory.mktemp("results") / "out", ["RAS", "LPS"])


@pytest.fixture
def folder(results, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(results, tmp_path / "out")


@pytest.fixture
def client(folder):
    with serving(folder) as client:
        yield client


def test_the_pages_are_those_of_the_folder_and_may_send_nothing_elsewhere(client, folder):
    for path, file in (("", "index.html"), ("index.html", "index.html"), ("pages/sub-LPS.html", "pages/sub-LPS.html")):
        answer = client.send("GET", path)
        assert (answer.status, answer.body) == (200, (folder / file).read_bytes())
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["connect-src"] == "'self' data: blob:"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_labels_come_as_they_are_saved(client, folder):
    answer = client.send("GET", "labels/sub-RAS")
    assert answer.headers["Content-Encoding"] == "gzip"
    voxels = np.frombuffer(gzip.decompress(answer.body), np.uint8).reshape(SHAPE, order="F")
    np.testing.assert_array_equal(voxels, LABELS)
    saved = client.put_labels(np.roll(LABELS, 1, axis=0), note=" two  words ").json
    assert (saved["status"], saved["initials"], saved["note"]) == ("corrected", "AB", "two words")
    np.testing.assert_array_equal(read_labels(the_scan(folder)), np.roll(LABELS, 1, axis=0))
    voxels = np.frombuffer(gzip.decompress(client.send("GET", "labels/sub-RAS").body), np.uint8)
    np.testing.assert_array_equal(voxels, np.roll(LABELS, 1, axis=0).ravel(order="F"))


def test_a_decision_is_saved_and_shown_and_an_older_version_is_told_what_is_there_now(client, folder):
    old = client.state()["version"]
    assert client.put_decision(status="rejected", note="moved").json["status"] == "rejected"
    assert read_decisions(folder)["sub-RAS"].note == "moved"
    assert client.state("sub-LPS")["status"] == "pending"
    before = contents(folder)
    for answer in (client.put_decision(version=old), client.put_labels(LABELS, version=old)):
        assert answer.status == 409
        assert "Nothing was saved" in answer.json["message"]
        assert answer.json["state"] == client.state()
    assert contents(folder) == before


def test_a_mask_that_changed_after_the_decision_is_marked(client, folder):
    client.put_decision()
    assert client.state()["is_outdated"] is False
    the_scan(folder).path(MANUAL_MASK).write_bytes(the_scan(folder).path(MASK).read_bytes() + b"\0")
    assert client.state()["is_outdated"] is True


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"initials": ""}, "the initials ''"),
        ({"initials": "A B"}, "the initials 'A B'"),
        ({"initials": "nine_long"}, "the initials"),
        ({"note": "n" * 501}, "a note of 501 characters"),
        ({"note": "bell \a"}, "that can be printed"),
        ({"status": "fine"}, "the status 'fine'"),
    ],
)
def test_a_decision_that_no_table_could_hold_is_refused_with_what_is_allowed(changes, words, client, folder):
    before = contents(folder)
    answer = client.put_decision(**changes)
    assert answer.status == 400
    assert words in answer.json["message"]
    assert "allowed are" in answer.json["message"]
    assert contents(folder) == before


def test_a_disk_that_refuses_is_told_to_the_page(client, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("strokelesion.pipeline.review.saving.write_manual", full)
    answer = client.put_labels(LABELS)
    assert answer.status == 500
    assert "No space left on device" in answer.json["message"]


def test_scans_without_a_page_and_folders_without_pages_are_refused(client, folder):
    (folder / "pages/sub-RAS.html").unlink()
    assert client.send("GET", "pages/sub-RAS.html").status == 404
    (folder / "index.html").unlink()
    assert "has no index.html" in refusal(server.make_app, folder, "token")


def test_a_port_in_use_is_refused(folder, client):
    assert f"--port got {client.port}" in refusal(server.review, folder, client.port)


def test_the_command_serves_on_this_machine_only_and_opens_the_address(folder, monkeypatch, capsys):
    opened, served = [], []
    monkeypatch.setattr(server.webbrowser, "open", opened.append)
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda _, sockets: served.extend(s.getsockname()[0] for s in sockets))
    main(["review", str(folder), "--open"])
    assert served == ["127.0.0.1"]
    assert opened[0] in capsys.readouterr().out
    assert len(opened[0].split("/")[3]) >= 32


def test_missing_packages_are_named_with_how_to_install_them(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "strokelesion.pipeline.review.server", None)
    monkeypatch.delattr("strokelesion.pipeline.review.server")
    with pytest.raises(SystemExit):
        main(["review", str(folder)])
    assert "pip install -c constraints.txt '.[review]'" in capsys.readouterr().err


def test_the_command_takes_no_options_of_others(folder, capsys):
    with pytest.raises(SystemExit):
        main(["review", str(folder), "--threshold", "0.5"])
    assert "allowed are --port and --open" in capsys.readouterr().err
