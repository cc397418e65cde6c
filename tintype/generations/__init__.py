"""Generations: what a person asked for, from the request to the finished pictures."""
