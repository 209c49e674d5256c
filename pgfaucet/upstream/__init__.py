"""Connections to the real server: start-up, pool, catalog."""
