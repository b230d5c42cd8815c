"""HTTP beside gRPC, of the same core: `tenclip serve --http-port`. Needs tenclip[http].

    protocol.py        connections: uvicorn's HTTP/1.1 with time limits and JSON for what is no HTTP
    server.py          the port: sockets, TLS, the orderly end
    app.py             the routes
    endpoint.py        what every request gets: id, token, gate, status, log line, metrics
    problems.py        errors as RFC 9457 problem details
    call.py, body.py   one request and its answer; its body in pieces
    options.py, form.py  what is asked for: query, JSON, form fields
    recognition.py     /v1: predictions, features, models
    open_inference.py, tensor_json.py  /v2: the Open Inference Protocol over REST
    openapi.py, docs_page.py  /openapi.json and /docs

Nothing of it is imported where there is no HTTP port.
"""

from __future__ import annotations

from importlib.util import find_spec

from tenclip_api.errors import MissingDependency

_PACKAGES = ("starlette", "uvicorn", "h11", "python_multipart")


def check_installed() -> None:
    """Raises MissingDependency without the packages of tenclip[http]."""
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingDependency(f"--http-port needs {package}: pip install 'tenclip[http]'")
