"""The PostgreSQL frontend/backend protocol as pure functions over bytes. No I/O."""
