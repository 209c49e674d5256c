"""`pgfaucet demo`: a PostgreSQL of its own, a sample shop, the proxy in front of it and a guided tour. Never used in production."""
