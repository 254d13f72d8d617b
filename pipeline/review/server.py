"""Serve a results folder to the browser of this machine: the pages of `segment`, which then save decisions and masks.

Only who knows the token in the address can do so, see `request_checks.py`. A scan is looked up by its name in a table made at
the start; nothing that the browser sends becomes part of a path.
"""

import gzip
import math
import re
import secrets
import socket
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from strokelesion.networks import UserError
from strokelesion.pipeline.derivatives.result_names import MASK
from strokelesion.pipeline.derivatives.scan_images import path_in
from strokelesion.pipeline.derivatives.scan_pages import COHORT_PAGE, PAGE
from strokelesion.pipeline.review.decisions import STATUSES, Decision, read_decisions
from strokelesion.pipeline.review.request_checks import Guard, RefusedError, as_labels, as_object, longest_gzip, read_body
from strokelesion.pipeline.review.saving import OutdatedError, Reviewed, find_reviewed, read_labels
from strokelesion.pipeline.runtime.derived_files import sha256_of_files
from strokelesion.pipeline.runtime.errors import reason
from strokelesion.pipeline.runtime.files import remove_parts

HOST = "127.0.0.1"
TOKEN_BYTES = 24
# A half-written file of this age was left by a killed process.
LONGEST_SAVE_S = 600
LONGEST_JSON, LONGEST_NOTE = 4000, 500
INITIALS = re.compile(r"[^\W_][\w.-]{0,7}")


def review(folder: str | Path, port: int = 0, opens: bool = False) -> None:
    """Serve a results folder until the process is interrupted, and print the address.

    Args:
        folder: Folder that `segment` has written.
        port: Port of this machine; 0 takes a free one.
        opens: Whether to open the address in a browser.

    Raises:
        UserError: The folder has no pages or no masks, or the port is in use.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    app = make_app(Path(folder), token)
    with listening(port) as listener:
        address = f"http://{HOST}:{listener.getsockname()[1]}/{token}/"
        print(f"Open {address}\nThe address is secret: whoever has it can change the review. Stop with Ctrl+C.", flush=True)
        if opens:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])


def listening(port: int) -> socket.socket:
    """Return a socket that listens on a port of this machine only."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"--port got {port}: {error.strerror}; expected a free port. Name another, or leave --port out."
        ) from None
    return listener


def make_app(folder: Path, token: str) -> Starlette:
    """Return the application that serves a results folder under a token.

    Raises:
        UserError: The folder has no pages or no masks.
    """
    served = Served(folder)
    routes = [
        Route("/", served.show_list),
        Route(f"/{COHORT_PAGE}", served.show_list),
        Route("/pages/{scan}.html", served.show_scan),
        Route("/review", served.list_states),
        Route("/review/{scan}", served.decide, methods=["PUT"]),
        Route("/labels/{scan}", served.send_labels, methods=["GET"]),
        Route("/labels/{scan}", served.correct, methods=["PUT"]),
    ]
    handlers = {RefusedError: refuse_request, UserError: explain, OSError: explain}
    app = Starlette(routes=[Mount("/{token}", routes=routes)], exception_handlers=handlers)
    app.add_middleware(Guard, token=token)
    return app


async def refuse_request(_: Request, error: Exception) -> Response:
    """Answer a request that is refused."""
    assert isinstance(error, RefusedError)
    return JSONResponse({"message": str(error), "state": error.state}, error.status)


async def explain(_: Request, error: Exception) -> Response:
    """Answer a request that failed because of a file."""
    return JSONResponse({"message": reason(error)}, 500)


class Served:
    """The answers about the scans of a results folder."""

    def __init__(self, folder: Path) -> None:
        """Make the table of scans.

        Raises:
            UserError: The folder has no pages or no masks.
        """
        self.folder, self.scans = folder, find_reviewed(folder)
        for place in {folder, *(scan.path(MASK).parent for scan in self.scans.values())}:
            remove_parts(place, older_than_s=LONGEST_SAVE_S)
        if not (folder / COHORT_PAGE).is_file():
            raise UserError(f"{folder} has no {COHORT_PAGE}; expected pages of the scans. Run `segment` with --pages true.")

    def named(self, request: Request) -> Reviewed:
        """Return the scan that a request names, from the table."""
        if (scan := self.scans.get(request.path_params["scan"])) is None:
            raise RefusedError(404, "There is no scan of this name.")
        return scan

    async def show_list(self, _: Request) -> Response:
        """Send the page of all scans."""
        return HTMLResponse((self.folder / COHORT_PAGE).read_bytes())

    async def show_scan(self, request: Request) -> Response:
        """Send the page of a scan."""
        page = path_in(self.folder, self.named(request).name, PAGE)
        if not page.is_file():
            raise RefusedError(404, "This scan has no page. Run `segment` with --pages true.")
        return HTMLResponse(page.read_bytes())

    async def list_states(self, _: Request) -> Response:
        """Send the decision about each scan, in the order of the table."""
        decisions = read_decisions(self.folder)
        return JSONResponse({name: state_of(scan, decisions.get(name, Decision())) for name, scan in self.scans.items()})

    async def decide(self, request: Request) -> Response:
        """Save a decision."""
        scan, given = self.named(request), as_object(await read_body(request, LONGEST_JSON))
        status = given.get("status")
        if status not in STATUSES:
            raise RefusedError(400, f"Got the status {status!r}; allowed are {', '.join(STATUSES)}.")
        return save(scan, lambda by: scan.decide(by["version"], status, by["initials"], by["note"]), given)

    async def send_labels(self, request: Request) -> Response:
        """Send the label map of the mask of record: one byte per voxel, the first axis fastest.

        A page asks for the version first: if somebody saves meanwhile, it cannot save what it read.
        """
        labels = read_labels(self.named(request))
        packed = gzip.compress(labels.tobytes(order="F"), compresslevel=1)
        return Response(packed, media_type="application/octet-stream", headers={"Content-Encoding": "gzip"})

    async def correct(self, request: Request) -> Response:
        """Save a corrected label map, sent as `send_labels` sends it, in gzip."""
        scan = self.named(request)
        image: Any = nib.load(scan.path(MASK))
        if (given := request.query_params.get("shape", "")) != ",".join(map(str, image.shape)):
            raise RefusedError(400, f"Got a mask of the shape {given[:40]}; allowed is {image.shape}. Load the page again.")
        labels = as_labels(await read_body(request, longest_gzip(math.prod(image.shape))), image.shape)
        return save(scan, lambda by: scan.correct(by["version"], labels, by["initials"], by["note"]), request.query_params)


def save(scan: Reviewed, write: Callable[[Mapping[str, str]], None], given: Mapping[str, Any]) -> Response:
    """Save with a function that takes version, initials and note, and send the new state."""
    by = {key: " ".join(str(given.get(key, "")).split()) for key in ("version", "initials", "note")}
    if not INITIALS.fullmatch(by["initials"]):
        raise RefusedError(400, f"Got the initials {by['initials']!r}; allowed are 1 to 8 letters and digits.")
    if len(by["note"]) > LONGEST_NOTE or not by["note"].isprintable():
        raise RefusedError(400, f"Got a note of {len(by['note'])} characters; allowed are {LONGEST_NOTE} that can be printed.")
    try:
        write(by)
    except OutdatedError as error:
        raise RefusedError(409, f"{error} Nothing was saved.", state_of(scan, scan.decision())) from None
    return JSONResponse(state_of(scan, scan.decision()))


def state_of(scan: Reviewed, decision: Decision) -> dict[str, Any]:
    """Return what a page shows of a decision, and its version."""
    known = {key: getattr(decision, key) for key in ("status", "initials", "date", "note")}
    state = scan.mask.stat()
    is_outdated = decision.mask_sha256 not in ("", sha256_once(scan.mask, state.st_size, state.st_mtime_ns))
    return {**known, "version": scan.version(decision), "is_outdated": is_outdated}


@lru_cache(maxsize=20_000)
def sha256_once(path: Path, _size: int, _changed_ns: int) -> str:
    """Return the SHA-256 of a file, read only once as long as size and time of the last change stay."""
    return sha256_of_files([path])
