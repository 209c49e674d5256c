"""pgfaucet: a PostgreSQL proxy that parses, decides, rewrites and audits every statement."""
