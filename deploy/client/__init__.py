"""Commands that a person runs against any server, over HTTP alone."""
