"""`python -m broker.cli` is `spbroker`."""

from __future__ import annotations

from broker.cli import main

if __name__ == "__main__":
    main()
