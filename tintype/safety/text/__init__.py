"""The floor under text checks: words and patterns in five languages, through the usual disguises, without a model."""
