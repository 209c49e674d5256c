"""SQL as trees: parse, resolve against a role's world, rewrite, print, verify. No I/O."""
