"""Migrations of the schema, run by `tintype migrate` and before every start."""
