"""Roles and what they grant: the YAML language, its model, and its compilation against a catalog."""
