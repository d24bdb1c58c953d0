"""Subjects have a family without ids, and wildcards mean what NATS means."""

import pytest

from bus import subjects


@pytest.mark.parametrize(
    ("subject", "family"),
    [
        (subjects.interactive("default"), "embed.interactive"),
        (subjects.embed_job("default", "1"), "job.embed"),
        (subjects.job_event("1"), "event.job"),
        (subjects.job_nudged("1"), "nudge.job"),
        (subjects.job_cancel("1"), "cancel.job"),
        (subjects.dead_letter(subjects.job_event("1")), "dead"),
        (subjects.inbox("replica-1"), "reply"),
        (subjects.JOB_CLAIM, "job.ask.claim"),
        (subjects.JOB_CLAIM_SEVERAL, "job.ask.claim_several"),
        (subjects.JOB_HEARTBEAT, "job.ask.heartbeat"),
        (subjects.ACCESS_REVOKED, "access.revoked"),
        (subjects.PIPELINES_ANNOUNCED, "registry.announced"),
        ("replying.1", "other"),
    ],
)
def test_a_family_never_holds_an_id(subject: str, family: str) -> None:
    assert family == subjects.family(subject)


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.>", "a.b", False),
    ],
)
def test_wildcards_match_as_the_server_does(pattern: str, subject: str, *, expected: bool) -> None:
    assert expected == subjects.matches(pattern, subject)
