"""Fixtures: a real PostgreSQL, and an empty migrated database for each test."""
