"""Refuse requests that no page of the review server sends: without its token, from elsewhere, too long, or no label map.

The pages may not send anything elsewhere, whatever is in them: see `HEADERS`.
"""

import hmac
import json
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import JSONResponse

HOSTS = ("127.0.0.1", "localhost")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self' data: blob:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RefusedError(Exception):
    """A request that is refused: status of HTTP, words for the user, and the current state of the scan if it has changed."""

    def __init__(self, status: int, message: str, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.state = status, state


class Guard:
    """Let requests through that know the token and come from a page of this server; add the headers of all answers."""

    def __init__(self, app: Any, token: str) -> None:
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "http" and (words := self.objection(Request(scope))):
            return await JSONResponse({"message": words}, 403, HEADERS)(scope, receive, send)

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((key.lower().encode(), HEADERS[key].encode()) for key in HEADERS)]
            await send(message)

        await self.app(scope, receive, send_guarded)

    def objection(self, request: Request) -> str:
        """Return why a request is refused; "" if it is not."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if re.sub(r":\d+$", "", host) not in HOSTS:
            return "This server answers to the address of this machine only."
        if origin not in (None, f"http://{host}") or request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return "This server answers to its own pages only."
        given = "".join(request.scope["path"].split("/")[1:2]).encode()
        return "" if hmac.compare_digest(given, self.token) else "The token in the address is missing or wrong."


def longest_gzip(size: int) -> int:
    """Return the largest number of bytes that a label map of so many voxels needs in gzip."""
    return size + size // 1000 + 1000


async def read_body(request: Request, longest: int) -> bytes:
    """Return the body of a request; one that is longer is refused as soon as that is known."""
    too_long = RefusedError(
        413, f"Got more than {longest} bytes, which is more than a mask of this scan can need. Nothing was saved."
    )
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > longest:
        raise too_long
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > longest:
            raise too_long
    return bytes(body)


def as_object(body: bytes) -> Mapping[str, Any]:
    """Return a JSON object."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise RefusedError(400, "Got no JSON object.")
    return given


def as_labels(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return a label map `(X, Y, Z)` from its voxels in gzip; what has another size or other values is refused."""
    size = math.prod(shape)
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        voxels = unpack.decompress(packed, size + 1)
    except zlib.error as error:
        raise RefusedError(400, f"Got no label map in gzip ({error}).") from None
    labels = np.frombuffer(voxels, np.uint8)
    if len(labels) != size or not unpack.eof or labels.max(initial=0) > 2:
        raise RefusedError(400, f"Got no label map of {size} voxels with the values 0, 1 and 2. Nothing was saved.")
    return labels.reshape(shape, order="F")
