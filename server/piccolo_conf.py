"""What the `piccolo` command reads: ``PICCOLO_CONF=server.piccolo_conf piccolo shell run``.

The server itself opens its database from its settings and never imports this.
"""

import os

from server.database import LazyEngine

DB = LazyEngine(config={"dsn": os.environ.get("DATABASE_URL", "postgresql:///towhee")})
