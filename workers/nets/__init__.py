"""Nets that own no loop, the closed table that builds them, and artifacts made of them."""
