"""The only wiring: where the parts of a node meet."""
