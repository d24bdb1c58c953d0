"""What the trainers reach on real data, and the report of it."""
