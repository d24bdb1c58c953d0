"""Settings are read once, completely, and a wrong one is named."""

from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from bus.settings import Count, LogLevel, Port, Seconds, Setting, SettingsError, describe, load


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One field of every kind."""

    nats_url: Annotated[str, Meta(pattern="^nats://.", examples=["nats://host"], description="The bus.")]
    port: Annotated[Port, Meta(description="The port.")] = 8000
    wait_s: Seconds = 1.5
    hosts: tuple[str, ...] = ("a", "b")
    is_loud: bool = False
    secret_file: Path | None = None
    ratio: float | None = None
    entries: Count = 1_000_000
    log_level: LogLevel = "INFO"


REQUIRED = {"NATS_URL": "nats://here"}


def test_what_is_not_set_has_its_default() -> None:
    assert Sample(nats_url="nats://here") == load(Sample, REQUIRED)


def test_a_variable_without_a_value_counts_as_not_set() -> None:
    assert Sample(nats_url="nats://here") == load(Sample, {**REQUIRED, "TOWHEE_API_PORT": ""})


def test_every_kind_of_value_is_read_from_its_text() -> None:
    expected = Sample(
        nats_url="nats://here",
        port=1,
        wait_s=0.5,
        hosts=("x", "[::1]"),
        is_loud=True,
        secret_file=Path("/run/secret"),
        ratio=0.25,
        entries=7,
        log_level="ERROR",
    )

    actual = load(
        Sample,
        REQUIRED
        | {
            "TOWHEE_API_PORT": " 1 ",
            "TOWHEE_API_WAIT_S": "0.5",
            "TOWHEE_API_HOSTS": "x, [::1],",
            "TOWHEE_API_IS_LOUD": "true",
            "TOWHEE_API_SECRET_FILE": "/run/secret",
            "TOWHEE_API_RATIO": "0.25",
            "TOWHEE_API_ENTRIES": "7",
            "TOWHEE_API_LOG_LEVEL": "ERROR",
        },
    )

    assert expected == actual


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NATS_URL", "", "NATS_URL is not set: it must be a text, like nats://host"),
        ("NATS_URL", "http://x", "NATS_URL must be a text, like nats://host"),
        ("TOWHEE_API_PORT", "0", "TOWHEE_API_PORT must be a whole number, at least 1, at most 65535"),
        ("TOWHEE_API_PORT", "65536", "TOWHEE_API_PORT must be a whole number, at least 1, at most 65535"),
        ("TOWHEE_API_PORT", "http", "TOWHEE_API_PORT must be a whole number, at least 1, at most 65535"),
        ("TOWHEE_API_WAIT_S", "nan", "TOWHEE_API_WAIT_S must be a number, above 0, at most 315360000"),
        ("TOWHEE_API_RATIO", "inf", "TOWHEE_API_RATIO must be a number"),
        ("TOWHEE_API_IS_LOUD", "maybe", "TOWHEE_API_IS_LOUD must be true or false"),
        ("TOWHEE_API_LOG_LEVEL", "LOUD", "TOWHEE_API_LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable_and_what_it_must_be(
    variable: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Sample, {**REQUIRED, variable: value})

    assert (variable, message) == (caught.value.variable, str(caught.value))


def test_a_refusal_never_repeats_the_value_which_may_hold_a_password() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Sample, {"NATS_URL": "http://me:hunter2@host"})

    assert "hunter2" not in str(caught.value)


def test_the_description_lists_every_field_with_its_default() -> None:
    lines = list(describe(Sample))

    assert Setting(variable="NATS_URL", default=None, description="The bus.") == lines[0]
    assert Setting(variable="TOWHEE_API_PORT", default="8000", description="The port.") == lines[1]
    assert ["", "1.5", "a,b", "false", "", "", "1000000", "INFO"] == [
        "",
        *(line.default for line in lines[2:]),
    ]


@given(
    st.integers(1, 65535),
    st.floats(min_value=1e-6, max_value=1e8),
    st.lists(st.from_regex("[a-z0-9.:]+", fullmatch=True), max_size=4).map(tuple),
    st.booleans(),
)
def test_a_value_survives_being_written_as_a_variable(
    port: int, wait_s: float, hosts: tuple[str, ...], is_loud: bool
) -> None:
    environ = REQUIRED | {
        "TOWHEE_API_PORT": str(port),
        "TOWHEE_API_WAIT_S": repr(wait_s),
        "TOWHEE_API_HOSTS": ",".join(hosts),
        "TOWHEE_API_IS_LOUD": str(is_loud),
    }

    loaded = load(Sample, environ)

    assert (port, wait_s, hosts or ("a", "b"), is_loud) == (
        loaded.port,
        loaded.wait_s,
        loaded.hosts,
        loaded.is_loud,
    )
