"""The store: everything durable goes through here, and only here is SQL written."""
