"""The worker: takes jobs, calls a provider, stores what comes back."""
