"""`towhee-api work train`: one train worker."""

import argparse
import os

from deploy.environment import with_stack
from workers.train.service.worker import main


def run(arguments: argparse.Namespace) -> int:
    """Train, and look at data sets, until SIGTERM or SIGINT, then hand over what has begun."""
    os.environ.update(with_stack(arguments))
    # A worker has no business with the database.
    os.environ.pop("DATABASE_URL", None)
    return main()
