"""Attention whose scores are never stored: one function, and the rules of which keys a query sees, and how well."""
