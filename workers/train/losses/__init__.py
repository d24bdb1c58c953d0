"""Losses: pure functions in tables, one module a family. They know no net, no loop and no Towhee."""
