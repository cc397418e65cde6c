"""The catalogue: which models exist here, what each can do and needs, and named styles."""
