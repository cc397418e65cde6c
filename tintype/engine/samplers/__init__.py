"""Samplers of our own: what each does is a table of numbers, so one call moves many pictures, each at its own step."""
