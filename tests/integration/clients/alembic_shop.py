"""Lets Alembic compare models with what is there, through the DSN in argv[1]; prints what it would change as JSON."""

import json
import sys

from alembic.autogenerate import api, compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine

engine = create_engine(sys.argv[1])
with engine.connect() as connection:
    there = MetaData()
    there.reflect(connection)
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    seen = {
        "tables": sorted(there.tables),
        "same": [repr(change) for change in compare_metadata(context, there)],
    }
    Table("api_keys", there, Column("id", Integer, primary_key=True), Column("secret", Text))
    there.tables["notes"].append_column(Column("secret", Text))
    seen["hidden"] = [
        str(change[0]) + " " + str(getattr(change[-1], "name", "")) for change in compare_metadata(context, there)
    ]
    seen["script"] = api.render_python_code(api.produce_migrations(context, there).upgrade_ops)
print(json.dumps(seen))
