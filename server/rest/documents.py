"""How OpenAPI describes bodies that a handler reads by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
)


def json_body(
    body_type: type[msgspec.Struct], *, fields: Mapping[str, Reference | Schema] | None = None
) -> type[Operation]:
    """Describe a JSON body, for handlers that decode the bytes themselves.

    Args:
        body_type: what it is decoded as.
        fields: those that its types say too little of.
    """
    schema = struct_schema(body_type)
    schema.properties = {**(schema.properties or {}), **(fields or {})}
    content = {"application/json": OpenAPIMediaType(schema=schema)}
    return _operation(RequestBody(content=content, required=True))


def file_form(field: str) -> type[Operation]:
    """Describe a multipart form with one file."""
    schema = Schema(
        type=OpenAPIType.OBJECT,
        properties={field: Schema(type=OpenAPIType.STRING, content_media_type="application/octet-stream")},
        required=[field],
    )
    content = {"multipart/form-data": OpenAPIMediaType(schema=schema)}
    return _operation(RequestBody(content=content, required=True))


def _operation(body: RequestBody) -> type[Operation]:
    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            self.request_body = body

    return WithBody


def struct_schema(body_type: type[msgspec.Struct]) -> Schema:
    """Turn msgspec's JSON schema of a struct into Litestar's object for the same."""
    _, components = msgspec.json.schema_components([body_type])
    return _convert(components[body_type.__name__], components)


def _convert(schema: dict[str, Any], components: dict[str, dict[str, Any]]) -> Schema:
    if "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    return Schema(
        type=schema.get("type"),
        title=schema.get("title"),
        description=schema.get("description"),
        default=schema.get("default"),
        enum=schema.get("enum"),
        items=_convert(schema["items"], components) if isinstance(schema.get("items"), dict) else None,
        any_of=[_convert(one, components) for one in schema["anyOf"]] if "anyOf" in schema else None,
        properties={name: _convert(one, components) for name, one in schema["properties"].items()}
        if "properties" in schema
        else None,
        required=schema.get("required"),
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        exclusive_minimum=schema.get("exclusiveMinimum"),
        exclusive_maximum=schema.get("exclusiveMaximum"),
        max_length=schema.get("maxLength"),
    )
