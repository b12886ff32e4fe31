"""Pages: what the relay answers itself, off the hot path: health, the list of models, and an error for all other paths.

FastAPI's; nothing here goes upstream.
"""

import time
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from relay import ask, endpoints, routing
from relay.call import Relay
from relay.call.readiness import readiness
from relay.errors import InternalError, MethodNotAllowed, RelayError, UnknownUrl
from relay.keys import Key, authenticate
from relay.routing import Circumstances

_READ = ["GET", "HEAD"]  # load balancers like to look by HEAD
_MODELS = ("/v1/models", "/models", "/openai/v1/models", "/openai/models")


def pages(relay: Callable[[], Relay], alarms: Callable[[], list[str]], started: int) -> FastAPI:
    """The application; `relay()` gives the running relay, `alarms()` what is wrong; `started`: seconds since 1970."""
    app = FastAPI(title="relay", docs_url=None, redoc_url=None, openapi_url=None)

    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz() -> Response:
        found = readiness(relay(), alarms())
        return Response(msgspec.json.encode(found), 200 if found.ready else 503, media_type="application/json")

    async def models(request: Request) -> Response:
        caller = _caller(relay(), request)
        names = relay().setup.routes.names(caller.models, frozenset(caller.tags))
        return JSONResponse({"object": "list", "data": [_model(name, started) for name in names]})

    async def model(request: Request, name: str) -> Response:
        caller = _caller(relay(), request)
        found = relay().setup.routes.plan(name, caller.models)
        routing.served(routing.plan(found.alias, name, Circumstances(frozenset(caller.tags))))
        return JSONResponse(_model(name, started))

    app.add_api_route("/healthz", healthz, methods=_READ)
    app.add_api_route("/readyz", readyz, methods=_READ)
    for path in _MODELS:
        app.add_api_route(path, models, methods=_READ)
        app.add_api_route(path + "/{name:path}", model, methods=_READ)
    app.add_exception_handler(RelayError, _answer_fault)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_fault)
    return app


def _caller(relay: Relay, request: Request) -> Key:
    """Raises Unauthorized, BadRequest."""
    brought = ask.credential([(name.lower(), value) for name, value in request.headers.raw])
    if brought is None:
        raise ask.ambiguous()
    return authenticate(relay.keyring, brought, time.time())


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "relay"}


def _error(fault: RelayError, headers: dict[str, str] | None = None) -> Response:
    own = {name.decode(): value.decode() for name, value in fault.headers()}
    return Response(fault.body(), fault.status, (headers or {}) | own, "application/json")


async def _answer_fault(_request: Request, fault: Exception) -> Response:
    return _error(fault if isinstance(fault, RelayError) else InternalError("The relay failed to answer this."))


async def _answer_http(request: Request, fault: Exception) -> Response:
    """Starlette's own refusals, in OpenAI's shape."""
    place = f"{request.method} {request.url.path}"
    headers = dict(fault.headers or {}) if isinstance(fault, HTTPException) else {}
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    if endpoints.match(path) or path == endpoints.TEXT.name.encode():
        headers["allow"] = "POST"  # what is relayed never comes here by POST
    if "allow" in {name.lower() for name in headers}:
        return _error(MethodNotAllowed(f"Not allowed: {place}."), headers)
    return _error(
        UnknownUrl(f"Unknown request URL: {place}. The relay serves /v1/…, /chat/stream, /healthz and /readyz.")
    )
