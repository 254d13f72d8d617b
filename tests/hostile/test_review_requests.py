"""The server of a review refuses what no page of its own sends, and then writes nothing; a killed save leaves a whole mask."""

import gzip
import json
import shutil
import socket

import crashing
import numpy as np
import pytest
from drawn_scan import SHAPE, drawn
from reviewed_folder import TOKEN, contents, put_body, serving, the_scan, write_reviewed

from strokelesion.pipeline.derivatives.result_names import MASK
from strokelesion.pipeline.review.decisions import read_decisions
from strokelesion.pipeline.review.saving import MANUAL_MASK, read_labels

LABELS = drawn()[1].labels
GIGABYTE = 10**9
PATHS = ("", "index.html", "pages/sub-RAS.html", "review", "labels/sub-RAS")
UP = (
    "..",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "..\\..",
    "/etc/passwd",
    "sub-RAS/../../x",
    "sub-RAS%00",
    ".",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_reviewed(tmp_path_factory.mktemp("results") / "out")


@pytest.fixture(scope="module")
def client(folder):
    with serving(folder) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_written(folder):
    before = contents(folder.parent)
    yield
    assert contents(folder.parent) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://localhost.evil.example:8000"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Sec_Fetch_Site": "cross-site"},
    ],
    ids=str,
)
def test_other_origins_and_names_of_this_machine_are_refused_with_the_right_token(headers, client):
    for path in PATHS:
        assert client.send("GET", path, **headers).status in (400, 403), path
    for path, body in (("review/sub-RAS", json.dumps(decision(client))), put_body(client, LABELS)):
        assert client.send("PUT", path, body, **headers).status in (400, 403), path


def decision(client):
    return {"version": client.state()["version"], "status": "accepted", "initials": "AB", "note": ""}


def test_the_same_requests_are_answered_where_they_come_from_a_page_of_the_server(client):
    for host in ("127.0.0.1", "localhost"):
        here = {"Host": f"{host}:{client.port}", "Origin": f"http://{host}:{client.port}", "Sec_Fetch_Site": "same-origin"}
        assert [client.send("GET", path, **here).status for path in PATHS] == [200] * len(PATHS)


@pytest.mark.parametrize("token", ["", "t0keN", TOKEN[:-1], TOKEN + "x", "..", "%00", "ü".encode().hex()])
def test_without_the_token_nothing_is_answered_not_even_that_a_scan_is_there(token, client):
    for method in ("GET", "PUT", "POST", "DELETE", "OPTIONS"):
        for path in (*PATHS, "labels/no-scan"):
            answer = client.send(method, f"/{token}/{path}", b"", whole_path=True)
            assert (answer.status, set(answer.json)) == (403, {"message"}), (method, path)
            assert TOKEN.encode() not in answer.body


@pytest.mark.parametrize("up", UP)
def test_no_parameter_leads_out_of_the_table_of_scans(up, client):
    for path in ("pages/{}.html", "pages/{}", "review/{}", "labels/{}", "{}", "{}/index.html"):
        assert client.send("GET", path.format(up)).status in (307, 403, 404, 405), path
    given = json.dumps(decision(client))
    for path, body in (("review/{}", given), ("labels/{}", gzip.compress(b"\0"))):
        assert client.send("PUT", path.format(up), body).status in (307, 403, 404, 405), path
    for key in ("version", "initials", "shape"):
        path, body = put_body(client, LABELS, **{key: up})
        assert client.send("PUT", path, body).status in (400, 409), key


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"\xff", b"[" * 3900, b'{"status": ["accepted"]}', b'{"status": null}', b'{"status": "accepted"}'],
)
def test_decisions_that_are_none_are_refused(body, client):
    assert client.send("PUT", "review/sub-RAS", body).status == 400


@pytest.mark.parametrize(
    ("labels", "changes"),
    [
        (LABELS[:-1], {"shape": f"{SHAPE[0] - 1},{SHAPE[1]},{SHAPE[2]}"}),
        (LABELS[:-1], {}),
        (np.pad(LABELS, 1), {}),
        (LABELS.transpose(1, 0, 2), {"shape": f"{SHAPE[1]},{SHAPE[0]},{SHAPE[2]}"}),
        (LABELS.astype(np.uint16), {}),
        (LABELS + 1, {}),
        (LABELS, {"shape": ""}),
        (LABELS, {"shape": "1e9,1,1"}),
        (np.zeros(100 * LABELS.size, np.uint8), {}),
    ],
)
def test_masks_of_another_shape_or_with_other_values_are_refused(labels, changes, client):
    assert client.put_labels(labels, **changes).status == 400


@pytest.mark.parametrize("body", [b"", b"no gzip", gzip.compress(LABELS.tobytes())[:-9]], ids=["empty", "text", "cut"])
def test_bodies_that_are_no_whole_gzip_are_refused(body, client):
    path, _ = put_body(client, LABELS)
    assert client.send("PUT", path, body).status == 400


@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize("path", ["labels/sub-RAS", "review/sub-RAS"])
def test_an_upload_of_a_gigabyte_is_refused_early(path, is_declared, client):
    """Declared, before its first byte; undeclared, as soon as it is longer than any mask of the scan. It never ends."""
    whole = put_body(client, LABELS)[0] if "labels" in path else path
    length = f"Content-Length: {GIGABYTE}" if is_declared else "Transfer-Encoding: chunked"
    begin = b"" if is_declared else 2 * (b"10000\r\n" + bytes(0x10000) + b"\r\n")
    with (
        socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection,
        connection.makefile("rb") as answer,
    ):
        connection.sendall(f"PUT /{TOKEN}/{whole} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n\r\n".encode() + begin)
        assert b" 413 " in answer.readline()


def test_a_page_of_hostile_notes_and_initials_gets_them_as_json_only(client):
    answer = client.put_decision(initials="<b>", note="</script><script>alert(1)</script>")
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """A folder with a manual mask, the mask that another save writes, and the number of its changes of files."""
    out = write_reviewed(tmp_path_factory.mktemp("killed") / "out")
    crashing.carry_out("correct", out, None)
    inputs = shutil.copytree(out, out.with_name("before"))
    changes = crashing.carry_out("correct", out, None)
    return inputs, the_scan(out).path(MANUAL_MASK).read_bytes(), changes


def test_a_save_that_is_killed_at_any_change_of_a_file_leaves_the_old_mask_or_the_new_one(corrected, tmp_path):
    before, new, changes = corrected
    old, automatic = (the_scan(before).path(file).read_bytes() for file in (MANUAL_MASK, MASK))
    assert changes > 10
    seen = set()
    for moment in range(1, changes + 1):
        out = shutil.copytree(before, tmp_path / str(moment) / "out")
        assert crashing.carry_out("correct", out, None, killed_at=moment) is None
        scan = the_scan(out)
        mask = scan.path(MANUAL_MASK).read_bytes()
        assert mask in (old, new)
        assert scan.path(MASK).read_bytes() == automatic
        assert read_decisions(out)["sub-RAS"].status == "corrected"
        shift = 1 if mask == old else 2
        np.testing.assert_array_equal(read_labels(scan) > 0, np.roll(LABELS, shift, axis=0) > 0)
        seen.add(mask == new)
        assert crashing.carry_out("correct", out, None)  # the next save works
    assert seen == {True, False}
