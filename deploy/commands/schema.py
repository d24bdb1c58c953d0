"""`towhee-api schema`: the GraphQL schema as the code has it."""

import argparse
import os
import sys

from server.graphql.schema import print_schema


def run(_arguments: argparse.Namespace) -> int:
    """Print it."""
    sys.stdout.write(print_schema())
    return os.EX_OK
