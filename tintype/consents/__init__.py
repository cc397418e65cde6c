"""Statements that a person agreed to the use of their pictures, and what goes when one is revoked."""
