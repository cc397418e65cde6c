"""The HTTP door: routes, events, problems. Imports no ML library."""
