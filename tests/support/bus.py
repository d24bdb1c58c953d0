"""Fixtures: a real nats-server, and both buses behind one port."""
