"""`spbroker demo`: four providers on one machine, one order, and proofs that its packets arrive."""
