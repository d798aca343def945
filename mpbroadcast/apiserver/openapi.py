"""The OpenAPI documents that kubectl reads: version 2 as protobuf (before 1.27) and JSON, version 3 as JSON. Pure.

kubectl looks for the schema of what it sends, for ``explain``, and whether the server can check fields by itself (the
query parameter ``fieldValidation``).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from mpbroadcast.apiserver.schema import CORE_EVENT, DEFINITIONS, NEW_EVENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpbroadcast.apiserver.schema import Definition, Field

__all__ = ["PROTOBUF_V2", "PROTOBUF_V2_TYPES", "document_v2", "document_v2_protobuf", "document_v3", "index_v3"]

PROTOBUF_V2: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
PROTOBUF_V2_TYPES: Final = (PROTOBUF_V2, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
"""Both names that clients have for it."""

_INFO: Final = {"title": "Kubernetes", "version": "v1.36.2"}
_GROUPS: Final = {"api/v1": CORE_EVENT, "apis/events.k8s.io/v1": NEW_EVENT}
_METHODS: Final = {
    "events": {"get": "list", "post": "post", "delete": "deletecollection"},
    "events/{name}": {"get": "get", "put": "put", "patch": "patch", "delete": "delete"},
}
_WRITES: Final = {"post", "put", "patch"}
_PATCH_TYPES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


def _kind(definition: Definition) -> list[dict[str, str]]:
    assert definition.kind is not None
    return [dict(zip(("group", "version", "kind"), definition.kind, strict=True))]


def _field_schema(field: Field, prefix: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": field.description}
    if field.type in DEFINITIONS:
        # Beside a $ref nothing else is read, so version 3 wraps it.
        reference = {"$ref": f"{prefix}{field.type}"}
        return schema | ({"allOf": [reference], "default": {}} if prefix.startswith("#/components") else reference)
    schema["type"] = field.type
    if field.format:
        schema["format"] = field.format
    if field.texts:
        schema["additionalProperties"] = {"type": "string"}
    if field.type == "array":
        schema["items"] = {"type": "object"}
    return schema


def _schema(definition: Definition, prefix: str) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "description": definition.description,
        "properties": {name: _field_schema(field, prefix) for name, field in sorted(definition.fields.items())},
    }
    if definition.required:
        schema["required"] = list(definition.required)
    if definition.kind is not None:
        schema["x-kubernetes-group-version-kind"] = _kind(definition)
    return schema


def _schemas(prefix: str) -> dict[str, Any]:
    return {name: _schema(definition, prefix) for name, definition in DEFINITIONS.items()}


@cache
def document_v2() -> bytes:
    """Return the version 2 document as JSON; without paths, which nobody reads in this form."""
    return orjson.dumps({"swagger": "2.0", "info": _INFO, "paths": {}, "definitions": _schemas("#/definitions/")})


def index_v3() -> dict[str, Any]:
    """Return where the version 3 documents of the groups are."""
    return {"paths": {group: {"serverRelativeURL": f"/openapi/v3/{group}?hash=1"} for group in _GROUPS}}


@cache
def document_v3(group: str) -> bytes | None:
    """Return the version 3 document of a group such as ``api/v1``, or None."""
    if group not in _GROUPS:
        return None
    definition = DEFINITIONS[_GROUPS[group]]
    paths = {
        f"/{group}/namespaces/{{namespace}}/{path}": {
            method: _operation(method, action, definition) for method, action in methods.items()
        }
        for path, methods in _METHODS.items()
    }
    components = {"schemas": _schemas("#/components/schemas/")}
    return orjson.dumps({"openapi": "3.0.0", "info": _INFO, "paths": paths, "components": components})


def _operation(method: str, action: str, definition: Definition) -> dict[str, Any]:
    parameters = [("fieldValidation", "string"), ("dryRun", "string")] if method in _WRITES else []
    operation: dict[str, Any] = {
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kind(definition)[0],
        "parameters": [{"name": name, "in": "query", "schema": {"type": type_}} for name, type_ in parameters],
        "responses": {"200": {"description": "OK"}},
    }
    if method in _WRITES:
        types = _PATCH_TYPES if method == "patch" else ("application/json",)
        operation["requestBody"] = {"content": {type_: {} for type_ in types}}
    return operation


# Protobuf of gnostic's openapi.v2.Document: every field here is a length-delimited one (wire type 2).


def _message(fields: Iterable[tuple[int, str | bytes]]) -> bytes:
    parts = []
    for number, value in fields:
        content = value.encode() if isinstance(value, str) else value
        parts += [_varint(number << 3 | 2), _varint(len(content)), content]
    return b"".join(parts)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _named(name: str, value: bytes) -> bytes:
    return _message([(1, name), (2, value)])


def _schema_message(schema: dict[str, Any]) -> bytes:
    """Write ``Schema``; the numbers are its field numbers."""
    fields: list[tuple[int, str | bytes]] = []
    for number, key in ((1, "$ref"), (2, "format"), (4, "description")):
        if key in schema:
            fields.append((number, schema[key]))
    fields += [(19, name) for name in schema.get("required", ())]
    if "additionalProperties" in schema:
        fields.append((21, _message([(1, _schema_message(schema["additionalProperties"]))])))
    if "type" in schema:
        fields.append((22, _message([(1, schema["type"])])))
    if "items" in schema:
        fields.append((23, _message([(1, _schema_message(schema["items"]))])))
    if "properties" in schema:
        named = [(1, _named(name, _schema_message(value))) for name, value in schema["properties"].items()]
        fields.append((25, _message(named)))
    extension = "x-kubernetes-group-version-kind"
    if extension in schema:
        # An extension is YAML in a text, and JSON is YAML.
        fields.append((31, _named(extension, _message([(2, orjson.dumps(schema[extension]))]))))
    return _message(fields)


def _path_message(path: str, definition: Definition) -> bytes:
    """Write a path with the one thing that kubectl reads in paths: that a patch of this kind knows ``dryRun``."""
    query = _message([(2, "query"), (4, "dryRun"), (6, "string")])
    parameter = _message([(1, _message([(2, _message([(3, query)]))]))])
    kind = _named("x-kubernetes-group-version-kind", _message([(2, orjson.dumps(_kind(definition)[0]))]))
    return _named(path, _message([(8, _message([(8, parameter), (13, kind)]))]))


@cache
def document_v2_protobuf() -> bytes:
    """Return the version 2 document as the protobuf that kubectl before 1.27 reads."""
    schemas = [(1, _named(name, _schema_message(schema))) for name, schema in _schemas("#/definitions/").items()]
    info = _message([(1, _INFO["title"]), (2, _INFO["version"])])
    paths = [
        (2, _path_message(f"/{group}/namespaces/{{namespace}}/events/{{name}}", DEFINITIONS[name]))
        for group, name in _GROUPS.items()
    ]
    return _message([(1, "2.0"), (2, info), (8, _message(paths)), (9, _message(schemas))])
