"""Fixtures shared by all tests; each lives in the file that knows its subject."""

pytest_plugins = [
    "tests.support.accounts",
    "tests.support.bus",
    "tests.support.database",
    "tests.support.embedding",
    "tests.support.embedding_app",
    "tests.support.graphql",
    "tests.support.objects",
    "tests.support.photos",
    "tests.support.rest",
    "tests.support.s3",
    "tests.support.script",
    "tests.support.spans",
    "tests.support.stack",
    "tests.support.trained",
]
