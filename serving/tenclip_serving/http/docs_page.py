"""/docs: the routes on one page of HTML, which needs no script, no font and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

from tenclip_api.errors import error_classes
from tenclip_client.report.html import Markup, tag
from tenclip_serving.http.options import VIDEO, options_of
from tenclip_serving.http.problems import status_of
from tenclip_serving.http.routes import Operation

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.1rem; margin-top: 2rem; border-top: 1px solid #8885; padding-top: 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9rem; }
pre { overflow-x: auto; padding: .6rem; background: #8882; border-radius: .3rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
:target { background: #fd04; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ABOUT = (
    f"Send a video as the part {VIDEO} of a form, or as the whole body, or name it by path or uri where the server "
    "allows that. Options go into fields of the form, the query, or a JSON object. A token goes into the header "
    "Authorization: Bearer TOKEN, seconds to wait into Request-Timeout. Errors are problem details (RFC 9457)."
)
_FIRST = f"curl -F {VIDEO}=@run.mp4 -F top_k=3 http://HOST:PORT/v1/predict"


def docs_page(operations: Iterable[Operation]) -> str:
    """The page, whole."""
    head = tag("head", tag("meta", charset="utf-8"), _viewport(), tag("title", "tenclip over HTTP"), _style())
    machine = tag("p", "For machines: ", tag("a", "openapi.json", href="openapi.json"))
    sections = [_section(operation) for operation in operations]
    body = tag(
        "body", tag("h1", "tenclip over HTTP"), tag("p", _ABOUT), tag("pre", _FIRST), machine, sections, _errors()
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _viewport() -> Markup:
    return Markup('<meta name="viewport" content="width=device-width, initial-scale=1">')


def _style() -> Markup:
    return Markup(f"<style>{_STYLE}</style>")  # as it is: its hash is in the policy


def _section(operation: Operation) -> Markup:
    types = ", ".join(operation.answers)
    parts = [
        tag("h2", tag("code", f"{operation.verb} {operation.path}")),
        tag("p", f"{operation.summary}. Answers {types}."),
    ]
    if operation.request is not None:
        rows = [
            tag("tr", tag("td", tag("code", o.name)), tag("td", ", ".join(o.choices) or o.kind))
            for o in options_of(operation.request).values()
        ]
        parts.append(tag("table", rows))
    return tag("section", parts)


def _errors() -> Markup:
    head = tag("tr", [tag("th", text) for text in ("Reason", "HTTP", "gRPC", "Meaning")])
    rows = [
        tag(
            "tr",
            tag("td", tag("code", reason)),
            tag("td", status_of(cls("")), class_="status"),
            tag("td", cls.grpc_status),
            tag("td", (cls.__doc__ or "").partition("\n")[0]),
            id=reason,
        )
        for reason, cls in sorted(error_classes().items())
    ]
    return tag("section", tag("h2", "Errors"), tag("table", head, rows))
