"""Generated code of `spbroker.v1`: `python proto/generate.py`."""
