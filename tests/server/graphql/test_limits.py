"""Large documents are refused by work that grows with their text and not with what they would unfold to."""

import pytest
from graphql import parse
from hypothesis import given
from hypothesis import strategies as st

from server.graphql.config import QueryLimits
from server.graphql.limits import find_excess, measure, scan

LIMITS = QueryLimits()


def doubled_fragments(levels: int) -> str:
    """A document of a few hundred tokens that unfolds to 2 ** levels fields."""
    fragments = [
        f"fragment F{level} on Query {{ ...F{level + 1} ...F{level + 1} }}" for level in range(levels)
    ]
    return "\n".join(["{ ...F0 }", *fragments, f"fragment F{levels} on Query {{ __typename }}"])


def test_an_ordinary_query_is_within_all_limits() -> None:
    document = "query Q($n: Int) { pipelines(first: $n) { edges { node { name } } } }"

    assert scan(document, LIMITS).excess is None
    assert find_excess(parse(document), LIMITS) is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{ a }" + " " * 32_000, "characters"),
        ("{" * 61 + "a" + "}" * 61, "open brackets"),
        ("[" * 61, "open brackets"),
        ("{ " + "a " * 3000 + "}", "tokens"),
        ("# comment\n" * 3001, "tokens"),
    ],
)
def test_what_the_scan_refuses(document: str, said: str) -> None:
    excess = scan(document, LIMITS).excess

    assert excess is not None
    assert said in excess


@pytest.mark.parametrize(
    "quoted",
    [
        '"' + "{" * 100 + '"',
        '"\\"' + "{" * 100 + '"',
        '"""' + "{[(" * 100 + '"""',
        '"""a \\""" "" ' + "{" * 100 + '"""',
        "# " + "{" * 100 + "\n",
    ],
)
def test_brackets_inside_strings_and_comments_are_text(quoted: str) -> None:
    assert scan(f'{{ a(b: {quoted} "") }}', LIMITS).excess is None


@pytest.mark.parametrize("after", ['"a" ', '"""a""" ', '"" ', '"""""" ', "# a\n"])
def test_brackets_after_a_string_count_again(after: str) -> None:
    assert scan(after + "{" * 61, LIMITS).excess is not None


@pytest.mark.parametrize(
    "unit", ['"', '"""', '"\\', '""" \\""" ', "\\", "#", '"""a"', "{ }", "-", "...", "é"]
)
def test_the_scan_reads_no_text_twice(unit: str) -> None:
    """The regular expression matches at most once for each character, whatever strings are left open."""
    limits = QueryLimits(characters=10**6, tokens=10**6, brackets=10**6)
    text = unit * (30_000 // len(unit))

    scanned = scan(text, limits)

    assert scanned.tokens <= len(text)


@given(st.text(alphabet='"\\#{}[]()\n a!1.-é', max_size=200))
def test_any_text_can_be_scanned(text: str) -> None:
    assert scan(text, LIMITS).tokens <= len(text)


def test_doubled_fragments_are_measured_once_each() -> None:
    document = parse(doubled_fragments(20))

    measured = measure(document)

    assert 2**19 < measured.fields
    assert 42 == measured.visited
    assert "fields" in (find_excess(document, LIMITS) or "")


def test_fragments_that_spread_themselves_are_left_to_validation() -> None:
    document = parse("{ ...A } fragment A on Query { ...B ...A } fragment B on Query { ...A }")

    assert find_excess(document, LIMITS) is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{ " + " ".join(f"a{n}: viewer {{ id }}" for n in range(51)) + " }", "aliases"),
        ("{ ...F } fragment F on Query { " + " ".join(f"a{n}: viewer" for n in range(51)) + " }", "aliases"),
        ("{ " + " ".join(f"a{n}" for n in range(1501)) + "}", "fields"),
        ("{ " + "a " * 283 + "}", "of the same name"),
        ("{ " + "b { ...F } " * 10 + "} fragment F on Query { " + "a " * 283 + "}", "fields"),
        ("{ ...F } fragment F on Query { " + "a { b } " * 201 + "}", "of the same name"),
        ("{ a " + "@skip(if: true) " * 21 + "}", "directives"),
        ("query " + "@a " * 21 + "{ a }", "directives"),
        ("query (" + "$a: Int @a " * 21 + ") { a }", "directives"),
        ("fragment F on Query " + "@a " * 21 + "{ a } { ...F }", "directives"),
        ("{ a " * 17 + "}" * 17, "levels"),
        ("query (" + " ".join(f"$v{n}: Int" for n in range(51)) + ") { a }", "variables"),
        ("{ a } " + " ".join(f"fragment F{n} on Query {{ a }}" for n in range(51)), "fragments"),
        (" ".join(f"query Q{n} {{ a }}" for n in range(11)), "operations"),
        ("mutation { " + "logOut " * 11 + "}", "mutations"),
        ("mutation { ...F } fragment F on Mutation { " + "logOut " * 11 + "}", "mutations"),
    ],
)
def test_what_the_measure_refuses(document: str, said: str) -> None:
    excess = find_excess(parse(document), LIMITS)

    assert excess is not None
    assert said in excess


def test_a_fragment_counts_at_each_of_its_spreads() -> None:
    document = parse("{ ...F a { ...F } } fragment F on Query { x: b @skip(if: true) c { d } }")

    measured = measure(document)

    assert (2, 7, 2, 3) == (measured.aliases, measured.fields, measured.directives, measured.depth)
