"""`towhee-api work embed`: one embedding worker."""

import argparse
import os

from deploy.environment import with_stack
from workers.embed.worker import main


def run(arguments: argparse.Namespace) -> int:
    """Compute embeddings until SIGTERM or SIGINT, then finish what has begun."""
    os.environ.update(with_stack(arguments))
    # A worker has no business with the database.
    os.environ.pop("DATABASE_URL", None)
    return main()
