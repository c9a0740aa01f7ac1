"""The protocol buffers of spbroker."""
