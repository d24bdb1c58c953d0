"""Fixtures: an object store in a temporary folder."""
