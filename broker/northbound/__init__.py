"""The API that customers and upper SPs call."""
