"""Tokens: minting, storing, proving."""
