"""How OpenAPI describes what the trainers can be told."""

import msgspec
from litestar.openapi.spec import OpenAPIType, Schema

from bus.messages import (
    AutoencoderParameters,
    FineTuneParameters,
    GanParameters,
    RnnParameters,
    SemiSupervisedParameters,
)
from server.parameter_words import words_of
from server.problems import name_of
from server.rest.documents import struct_schema
from server.training_records import TrainerKind

_STRUCTS: dict[TrainerKind, type[msgspec.Struct]] = {
    TrainerKind.GAN: GanParameters,
    TrainerKind.AUTOENCODER: AutoencoderParameters,
    TrainerKind.RNN: RnnParameters,
    TrainerKind.SEMI_SUPERVISED: SemiSupervisedParameters,
    TrainerKind.FINE_TUNE: FineTuneParameters,
}


def trainer_schema() -> Schema:
    """Describe an object of exactly one field, a trainer's name, with its parameters."""
    return Schema(
        type=OpenAPIType.OBJECT,
        description="Which trainer, and what it is told. Exactly one field; `{}` takes its defaults.",
        properties={name_of(kind): parameters_schema(struct) for kind, struct in _STRUCTS.items()},
        min_properties=1,
        max_properties=1,
        additional_properties=False,
    )


def parameters_schema(struct: type[msgspec.Struct]) -> Schema:
    """Describe the fields of a struct in the words that there are for them."""
    words = words_of(struct)
    described = struct_schema(struct)
    properties = described.properties or {}
    # The tag says on the bus which trainer it is; here the name of the field does.
    described.properties = {name: schema for name, schema in properties.items() if name in words}
    for name, schema in described.properties.items():
        if isinstance(schema, Schema):
            schema.description = words[name]
    described.required = None
    described.additional_properties = False
    return described
