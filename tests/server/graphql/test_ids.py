"""Global ids."""

import base64
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidInput
from server.graphql import ids


@given(st.sampled_from(["User", "EmbeddingJob"]), st.uuids())
def test_an_id_says_what_it_was_made_of(type_name: str, object_id: UUID) -> None:
    encoded = ids.encode(type_name, object_id)

    assert ids.GlobalId(type_name, object_id) == ids.decode(encoded, ("id",))
    assert object_id == ids.decode_as(type_name, encoded, ("id",))


@given(st.text())
def test_what_is_no_id_is_refused_with_its_path(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ids.decode(text, ("input", "fileIds", "2"))

    assert ("input", "fileIds", "2") == refused.value.path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "File",
        "=",
        "\ud800",
        "A" * 10_000,
        base64.b64encode(b"File:" + b"0" * 31).decode(),
        "RmlsZTo",
        "5",
    ],
)
def test_some_things_that_are_no_ids(text: str) -> None:
    with pytest.raises(InvalidInput):
        ids.decode_as("File", text, ("id",))


def test_the_id_of_something_else_is_refused() -> None:
    with pytest.raises(InvalidInput, match="File"):
        ids.decode_as("File", ids.encode("ApiKey", uuid4()), ("id",))


def test_the_plain_uuid_of_the_rest_face_is_understood_where_the_type_is_known() -> None:
    file_id = uuid4()

    assert file_id == ids.decode_as("File", str(file_id), ("id",))
