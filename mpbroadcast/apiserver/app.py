"""The edge of the API server: who may ask, how much, how slowly; every error as a Status. Runs in: the server.

A server on loopback can be reached by every web page in a browser on the same machine, so what comes from a page is
refused: requests with an ``Origin``, and ones for a host name that is not this machine's (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from mpbroadcast.apiserver.output import encode
from mpbroadcast.apiserver.status import ApiError, bad_request, internal_error, method_not_allowed, unknown_path
from mpbroadcast.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BODY_LIMIT", "Edge", "answering", "error_response", "http_exception", "read_body"]

_log: Final = logging.getLogger(__name__)

BODY_LIMIT: Final = 3 * 1024 * 1024
"""Bytes of a request's body, as in the real server."""

_BODY_SECONDS: Final = 30.0  # in which a body must have come
_SWALLOW_SECONDS: Final = 5.0  # for the rest of a body that is refused
_SWALLOW_LIMIT: Final = 32 * 1024 * 1024  # bytes of it
_CLOSE: Final = {"Connection": "close"}  # where a body may not have been read to its end
_SEND_SECONDS: Final = 60.0  # in which a client must take a piece of an answer
_OPEN_PATHS: Final = {"/healthz", "/livez", "/readyz"}  # for probes, which have no token


def error_response(error: ApiError) -> Response:
    """Return the answer that is an error."""
    return Response(encode(error.body()), error.code, error.headers, "application/json")


def http_exception(_: Request, error: Exception) -> Response:
    """Answer for Starlette's own errors: no such path, no such method."""
    code = getattr(error, "status_code", 500)
    return error_response(method_not_allowed() if code == 405 else unknown_path())


def answering(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Turn every exception of an endpoint into an answer; nobody outside ever sees a traceback."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ApiError as error:
            return error_response(error)
        except StoreError as error:
            _log.error("%s", error)
            return error_response(internal_error(str(error)))
        except RecursionError:
            return error_response(bad_request("the request is nested too deeply"))
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception:  # noqa: BLE001 - a fault of this program; the next request may work
            _log.exception("a request could not be answered")
            return error_response(internal_error("a fault of this server; its log says more"))

    return answer


async def read_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        ApiError: 408 if it comes too slowly, 413 if it is too large, 415 if it is compressed.
    """
    chunks = request.stream()
    if request.headers.get("content-encoding", "identity").lower() not in {"", "identity"}:
        await _swallow(chunks)
        raise ApiError(415, "UnsupportedMediaType", "compressed request bodies are not supported", headers=_CLOSE)
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in chunks:
                body += chunk
                if len(body) > BODY_LIMIT:
                    break
    except TimeoutError:
        message = f"the body of the request did not come within {_BODY_SECONDS:.0f} seconds"
        raise ApiError(408, "Timeout", message, headers=_CLOSE) from None
    if len(body) > BODY_LIMIT:
        await _swallow(chunks)
        message = f"Request entity too large: limit is {BODY_LIMIT}"
        raise ApiError(413, "RequestEntityTooLarge", message, headers=_CLOSE)
    return bytes(body)


async def _swallow(chunks: AsyncIterator[bytes]) -> None:
    """Let a client finish sending what nobody wants, within reason: else it may never see why it was refused."""
    swallowed = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SWALLOW_SECONDS):
            async for chunk in chunks:
                swallowed += len(chunk)
                if swallowed > _SWALLOW_LIMIT:
                    return


def _is_this_machine(host: str) -> bool:
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Edge:
    """What stands between the network and the API; an ASGI application around another.

    Args:
        app: the API.
        token: what every request must carry, or None.
        loopback: whether only this machine may be asked for, by its own names.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, loopback: bool) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a websocket: refused by not accepting it
        headers = dict(scope["headers"])
        refused = self._refused(scope["path"], headers)
        app = self._app if refused is None else error_response(refused)
        try:
            await app(scope, receive, _impatient(send))
        except (TimeoutError, ClientDisconnect, OSError):
            _log.debug("a client went away or did not read")

    def _refused(self, path: str, headers: dict[bytes, bytes]) -> ApiError | None:
        host = headers.get(b"host", b"localhost").decode("latin-1")
        if self._loopback and not _is_this_machine(host):
            return ApiError(403, "Forbidden", "this server answers on this machine only, for names such as localhost")
        if b"origin" in headers:
            return ApiError(403, "Forbidden", "this server does not answer to web pages")
        if self._token is None or path in _OPEN_PATHS:
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return None
        return ApiError(401, "Unauthorized", "Unauthorized")


def _impatient(send: Send) -> Callable[[Message], Awaitable[Any]]:
    """Give up a client that does not take its answer: it would keep it in this server's memory."""

    async def impatient_send(message: Message) -> None:
        async with asyncio.timeout(_SEND_SECONDS):
            await send(message)

    return impatient_send
