"""Drives pgcli's own completion refresh and executor through the DSN in argv[1]; prints what it learnt as JSON."""

import json
import sys

import psycopg
from pgcli.pgexecute import PGExecute
from pgspecial.main import PGSpecial

executor = PGExecute(dsn=sys.argv[1])
special = PGSpecial()


def run(sql):
    found = []
    for title, rows, headers, status, _, is_success, _ in executor.run(sql, special, on_error_resume=True):
        found.append(
            [str(title), [list(map(str, row)) for row in rows or []], list(headers or []), str(status), is_success]
        )
    return found


def refused(sql):
    try:
        run(sql)
    except psycopg.Error as error:
        return error.sqlstate


seen = {
    "schemata": list(executor.schemata()),
    "tables": sorted(map(list, executor.tables())),
    "views": sorted(map(list, executor.views())),
    "columns": sorted([column[1], column[2]] for column in executor.table_columns()),
    "keys": sorted([key.parenttable, key.childtable] for key in executor.foreignkeys()),
    "databases": executor.databases(),
    "types": sorted(map(list, executor.datatypes())),
    "functions": sorted(str(function.func_name) for function in executor.functions()),
    "rows": run("select id, body from notes order by id"),
    "described": run("\\d notes"),
    "listed": run("\\dt"),
    "hidden": refused("select * from api_keys"),
    "after": run("select count(*) from notes"),
}
print(json.dumps(seen))
