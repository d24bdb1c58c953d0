"""Messages survive the way through bytes, this release's and earlier ones'."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import codec
from bus.envelope import Message
from bus.errors import MalformedMessage, MessageTooLarge, UnknownMessage
from bus.messages import (
    AnyMessage,
    ClaimJob,
    EmbedNow,
    Input,
    JobNudged,
    ObjectInput,
    TextInput,
    VectorsComputed,
)
from bus.messages.embedding import decode_inputs, encode_inputs
from tests.support.messages import AT, examples

RECORDED = Path(__file__).parent / "recorded"
EXAMPLES = {str(type(example).__struct_config__.tag): example for example in examples()}
KNOWN_TAGS = {struct.__struct_config__.tag for struct in AnyMessage.__args__}


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.msgpack")), ids=lambda path: path.stem)
def test_recorded_bytes_are_still_read_as_what_they_were(path: Path) -> None:
    """A recording is never changed: processes of the previous release send exactly these bytes."""
    assert EXAMPLES[path.stem] == codec.decode(path.read_bytes())


def test_every_message_has_a_recording_and_an_example() -> None:
    """A new message is recorded with ``codec.encode`` of its example, once."""
    assert {path.stem for path in RECORDED.glob("*.msgpack")} == KNOWN_TAGS
    assert set(EXAMPLES) == KNOWN_TAGS


@pytest.mark.parametrize("tag", sorted(EXAMPLES))
def test_a_message_with_every_field_set_comes_back_equal(tag: str) -> None:
    assert EXAMPLES[tag] == codec.decode(codec.encode(EXAMPLES[tag]))


# Lone surrogates are no text; the codec refuses them, see below.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
COUNT = st.integers(min_value=0, max_value=2**63 - 1)


@given(request_id=TEXT, pipeline=TEXT, texts=st.lists(TEXT, max_size=20), first_index=COUNT, reply_to=TEXT)
def test_any_command_comes_back_equal(
    request_id: str, pipeline: str, texts: list[str], first_index: int, reply_to: str
) -> None:
    message = EmbedNow(
        request_id=request_id,
        pipeline=pipeline,
        inputs=[TextInput(text=text) for text in texts],
        first_index=first_index,
        reply_to=reply_to,
        deadline_at=AT,
    )

    assert message == codec.decode(codec.encode(message))


@given(
    vectors=st.binary(max_size=4096),
    truncated=st.lists(st.booleans(), max_size=50),
    tokens=st.lists(COUNT, max_size=50),
    compute_s=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
)
def test_any_vectors_come_back_equal(
    vectors: bytes, truncated: list[bool], tokens: list[int], compute_s: float
) -> None:
    message = VectorsComputed(
        request_id="r",
        first_index=0,
        count=1,
        dimension=1,
        vectors=vectors,
        truncated=truncated,
        tokens=tokens,
        compute_s=compute_s,
    )

    assert message == codec.decode(codec.encode(message))


@given(st.binary(max_size=300))
def test_bytes_that_are_no_message_are_refused_as_such(raw: bytes) -> None:
    with pytest.raises((MalformedMessage, UnknownMessage)):
        codec.decode(raw)


@given(st.data())
def test_a_message_cut_short_is_malformed(data: st.DataObject) -> None:
    raw = codec.encode(EXAMPLES["embedding.embed_now.v1"])
    length = data.draw(st.integers(min_value=0, max_value=len(raw) - 1))

    with pytest.raises(MalformedMessage):
        codec.decode(raw[:length])


def test_fields_of_a_newer_release_are_passed_over() -> None:
    newer = msgspec.msgpack.encode(
        {"tag": "jobs.nudged.v1", "id": "m", "at": AT, "job_id": "j", "seq": 1, "since": "yesterday"}
    )

    assert JobNudged(id="m", at=AT, job_id="j", seq=1) == codec.decode(newer)


def test_a_tag_of_a_newer_release_is_told_from_garbage() -> None:
    newer = msgspec.msgpack.encode({"tag": "jobs.nudged.v2", "id": "m"})

    with pytest.raises(UnknownMessage, match=r"jobs\.nudged\.v2"):
        codec.decode(newer)


@pytest.mark.parametrize(
    "fields",
    [{"tag": "jobs.nudged.v1"}, {"tag": "jobs.nudged.v1", "job_id": "j", "seq": "one"}, {"tag": 7}, {}, []],
)
def test_a_message_with_missing_or_wrong_fields_is_malformed(fields: object) -> None:
    with pytest.raises(MalformedMessage):
        codec.decode(msgspec.msgpack.encode(fields))


def test_a_message_may_have_256_kilobytes_and_no_more() -> None:
    def nudge(length: int) -> Message:
        return ClaimJob(id="m", at=AT, job_id="x" * length, worker_id="w")

    overhead = len(codec.encode(nudge(100_000))) - 100_000
    most = codec.MAX_MESSAGE_BYTES - overhead

    assert codec.MAX_MESSAGE_BYTES == len(codec.encode(nudge(most)))
    with pytest.raises(MessageTooLarge):
        codec.encode(nudge(most + 1))


def test_the_inputs_of_a_job_come_back_from_their_object() -> None:
    inputs: list[Input] = [
        TextInput(text="Gras"),
        ObjectInput(key="blobs/9f/9f86", media_type="image/png", byte_size=7),
    ]

    assert inputs == decode_inputs(encode_inputs(inputs))


def test_text_with_lone_surrogates_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="ClaimJob"):
        codec.encode(ClaimJob(job_id="\ud800", worker_id="w"))
