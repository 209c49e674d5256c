"""The tamper-evident record of every statement and session."""
