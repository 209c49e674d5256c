from __future__ import annotations

from pathlib import Path

import pytest

from pgfaucet.config import AuditConfig, PoolConfig, ServerConfig, TcpAddress, TokensConfig, UnixAddress
from pgfaucet.policy.loader import PolicyErrors, load
from pgfaucet.policy.model import Limits
from tests.kit.policy_files import DIRECTORY, SHOP, agent, load_text, orders, role_of, said_about


def said_about_directory(directory: Path) -> list[str]:
    with pytest.raises(PolicyErrors) as raised:
        load(directory, environ={})
    return [str(problem) for problem in raised.value.problems]


# -- files


def test_every_yaml_and_yml_directly_in_the_directory_is_read(tmp_path: Path):
    (tmp_path / "a.yaml").write_text(SHOP)
    (tmp_path / "b.yml").write_text("roles: {reader: {database: shop}}")
    assert list(load(tmp_path).policy.roles) == ["reader"]


@pytest.mark.parametrize("name", [".hidden.yaml", "old.yaml.bak", "notes.txt", "below/c.yaml"])
def test_other_files_are_not_read(tmp_path: Path, name: str):
    (tmp_path / "a.yaml").write_text(SHOP)
    (tmp_path / "below").mkdir()
    (tmp_path / name).write_text("roles: {reader: {database: shop}}")
    assert load(tmp_path).policy.roles == {}


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path):
    gone = tmp_path / "gone"
    assert said_about_directory(gone) == [
        f"{gone}: cannot be read: No such file or directory; name a directory with policy files"
    ]


def test_a_directory_without_policy_files_is_an_error(tmp_path: Path):
    assert said_about_directory(tmp_path) == [
        f"{tmp_path}: holds no *.yaml or *.yml file; name a directory with policy files"
    ]


def test_a_file_that_is_not_utf_8_is_an_error_at_its_line(tmp_path: Path):
    (tmp_path / "a.yaml").write_bytes(b"# one\n# caf\xe9\n")
    assert said_about_directory(tmp_path) == [f"{tmp_path}/a.yaml:2:1: this is not UTF-8; save the file as UTF-8 text"]


def test_a_byte_order_mark_is_skipped(tmp_path: Path):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + SHOP.encode())
    assert list(load(tmp_path).config.databases) == ["shop"]


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path):
    (tmp_path / "a.yaml").write_bytes(b"#" * (4 << 20) + b"\n[")
    assert said_about_directory(tmp_path) == [f"{tmp_path}/a.yaml:1:1: this file has more than 4 MB; split it"]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "roles:\ntests:\n", "null\n"])
def test_a_file_or_section_may_be_empty(text: str):
    assert load_text(text).policy.roles == {}


@pytest.mark.parametrize("text", ["- roles", "roles", "[]"])
def test_a_file_that_is_not_a_mapping_says_how_to_begin(text: str):
    assert said_about(text) == ["a.yaml:1:1: this is not a mapping; begin with one of server, databases, roles, tests"]


def test_all_problems_of_all_files_are_said_at_once_in_their_order():
    said = said_about("rols: {}\ntest: []\n", rest="servr: {}\n")
    assert [line.partition(":")[0] for line in said] == ["a.yaml", "a.yaml", "z.yaml"]


# -- keys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rols: {}", 'a.yaml:1:1: unknown key "rols"; did you mean "roles"?'),
        ("version: 1", 'a.yaml:1:1: unknown key "version"; use one of databases, roles, server, tests'),
        ("server: {lisen: 1}", 'a.yaml:1:10: unknown key "lisen"; did you mean "listen"?'),
        ("server: {audit: {durabilty: batch}}", 'a.yaml:1:18: unknown key "durabilty"; did you mean "durability"?'),
        (
            "databases:\n  d: {dsn: postgresql://h/d, passwd: x}",
            'a.yaml:2:30: unknown key "passwd"; did you mean "password"?',
        ),
        (agent("table: {}"), 'a.yaml:4:5: unknown key "table"; did you mean "tables"?'),
        (orders("filter: a = 1"), 'a.yaml:6:9: unknown key "filter"; did you mean "row_filter"?'),
        (orders("Select: true"), 'a.yaml:6:9: unknown key "Select"; did you mean "select"?'),
        (agent("limits: {row: 5}"), 'a.yaml:4:14: unknown key "row"; did you mean "rows"?'),
        ("tests: [{role: x, alow: [select 1]}]", 'a.yaml:1:19: unknown key "alow"; did you mean "allow"?'),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_known_one(text: str, said: str):
    assert said in said_about(text)


def test_the_merge_key_of_yaml_is_not_read():
    assert said_about("roles:\n  agent:\n    <<: {database: shop}\n")[0] == (
        "a.yaml:3:5: merge keys (<<) are not read; write the keys out, or use inherits"
    )


# -- names


@pytest.mark.parametrize(("section", "entry"), [("role", "{database: shop}"), ("database", "{dsn: postgresql://h/d}")])
def test_a_name_defined_in_two_files_names_both_places(section: str, entry: str):
    text = f"{section}s:\n  twice: {entry}\n"
    said = said_about(text, rest=f"# comment\n{text}")
    assert f'z.yaml:3:3: {section} "twice" is written at a.yaml:2:3 already; rename or remove one' in said


def test_a_name_defined_twice_in_one_file_names_both_places():
    text = "roles:\n  agent: {database: shop}\n  agent: {database: shop}\n"
    assert said_about(text) == [
        'a.yaml:3:3: the key "agent" is written twice; it stands at a.yaml:2:3 already; keep one'
    ]


def test_the_server_is_in_one_file_only():
    assert said_about("server: {workers: 1}", rest="\nserver: {workers: 1}") == [
        "z.yaml:2:1: server is written at a.yaml:1:1 already; keep one"
    ]


def test_the_second_definition_does_not_replace_the_first_and_nothing_is_loaded():
    with pytest.raises(PolicyErrors):
        load_text(agent("access: full"), rest=SHOP + agent(""))


@pytest.mark.parametrize("name", ['""', '" "', r'"a\x07"'])
def test_a_name_has_visible_characters(name: str):
    said = said_about(f"roles:\n  {name}: {{database: shop}}\n")
    assert said == ["a.yaml:2:3: this name is empty or holds control characters; rename it"]


def test_the_name_of_a_database_fits_into_postgresqls_names():
    assert said_about(f"databases:\n  {'ä' * 32}: {{dsn: postgresql://h/d}}") == [
        "a.yaml:2:3: this name has more than 63 bytes; shorten it"
    ]


@pytest.mark.parametrize("section", ["role", "database"])
def test_a_name_without_keys_says_what_to_write(section: str):
    assert said_about(f"{section}s:\n  empty:\n", rest="") == [
        f'a.yaml:2:3: {section} "empty" has no value; write its keys indented below'
    ]


@pytest.mark.parametrize("section", ["roles", "databases"])
def test_roles_and_databases_are_mappings(section: str):
    assert f"a.yaml:1:1: {section} is not a mapping; write each as NAME: and its keys indented below" in said_about(
        f"{section}:\n  - agent\n"
    )


def test_tests_are_a_list():
    assert said_about("tests: {role: agent}") == ["a.yaml:1:1: tests is not a list; begin each test with - role: NAME"]


# -- server and databases


def test_without_a_word_about_the_server_the_defaults_hold():
    assert load_text("").config.server == ServerConfig(
        tokens=TokensConfig("sqlite:/p/tokens.db", 86_400.0),
        audit=AuditConfig(Path("/p/audit.jsonl"), Path("/p/audit.key"), "batch", "hash"),
        listen=(TcpAddress("127.0.0.1", 6432),),
        tls=None,
        workers=1,
        admin=None,
    )


def test_a_database_needs_a_dsn_and_has_defaults_for_the_rest():
    database = load_text("").config.databases["shop"]
    assert database.dsn == "postgresql://svc@localhost/shop"
    assert database.password is None
    assert database.pool == PoolConfig("transaction", 20, 0, 300.0, 3_600.0, 10.0)


def test_what_the_files_say_of_the_server_is_taken():
    server = load_text("""
        server:
          listen: ["[::1]:7000", unix:/run/pgfaucet]
          tls: {cert: tls.crt, key: /etc/tls.key}
          workers: 1
          tokens: {store: sqlite:state/tokens.db, max_ttl: 90m}
          audit: {file: log/audit.jsonl, key: k, durability: strict, params: none}
          admin: localhost:7070
    """).config.server
    assert server.listen == (TcpAddress("::1", 7000), UnixAddress(Path("/run/pgfaucet"), 6432))
    assert server.tls is not None
    assert (server.tls.cert, server.tls.key, server.tls.required) == (DIRECTORY / "tls.crt", Path("/etc/tls.key"), True)
    assert server.tokens == TokensConfig("sqlite:/p/state/tokens.db", 5_400.0)
    assert server.audit == AuditConfig(DIRECTORY / "log/audit.jsonl", DIRECTORY / "k", "strict", "none")
    assert server.admin == TcpAddress("localhost", 7070)


def test_what_the_files_say_of_a_pool_is_taken():
    pool = "{mode: session, size: 5, min: 5, idle_timeout: 30s, max_lifetime: 2h, wait_timeout: 500ms}"
    databases = load_text(
        "", rest=f"databases: {{d: {{dsn: postgresql://h/d, password: p, pool: {pool}}}}}"
    ).config.databases
    assert databases["d"].pool == PoolConfig("session", 5, 5, 30.0, 7_200.0, 0.5)
    assert databases["d"].password == "p"


def test_a_pool_keeps_no_more_connections_than_it_may_have():
    assert said_about("databases:\n  d: {dsn: postgresql://h/d, pool: {size: 2, min: 3}}\n") == [
        "a.yaml:2:51: min is 3, more than size, 2; lower min or raise size"
    ]


def test_a_database_without_a_dsn_is_an_error():
    assert said_about("databases:\n  d: {password: x}\n") == ['a.yaml:2:6: the key "dsn" is missing; write it']


@pytest.mark.parametrize("dsn", ["localhost", "mysql://u:hunter2@h/d"])
def test_what_is_not_a_dsn_is_refused_without_being_shown(dsn: str):
    said = said_about(f"databases:\n  d: {{dsn: {dsn}}}\n")
    assert said == ["a.yaml:2:12: this is not a connection string; write postgresql://USER@HOST:PORT/DATABASE"]


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (
            "listen: 0.0.0.0:6432",
            (
                "a.yaml:2:11: 0.0.0.0:6432 can be reached from other machines without TLS;"
                " write tls: {cert: FILE, key: FILE}, or listen on 127.0.0.1"
            ),
        ),
        (
            "listen: [127.0.0.1:1, db.example:6432]",
            (
                "a.yaml:2:3: db.example:6432 can be reached from other machines without TLS;"
                " write tls: {cert: FILE, key: FILE}, or listen on 127.0.0.1"
            ),
        ),
        (
            "{listen: '[::]:1', tls: {cert: c, key: k, required: false}}",
            "a.yaml:2:55: TLS must be required: [::]:1 can be reached from other machines; write required: true, or remove it",
        ),
    ],
)
def test_tokens_never_cross_a_network_in_clear_text(server: str, said: str):
    assert said_about(f"server:\n  {server}\n") == [said]


@pytest.mark.parametrize(
    "server",
    [
        "listen: [localhost:6432, 127.0.0.2:1, unix:/run/pgfaucet]",
        "{listen: 127.0.0.1:6432, tls: {cert: c, key: k, required: false}}",
        "{listen: 0.0.0.0:6432, tls: {cert: c, key: k}}",
    ],
)
def test_tls_is_asked_for_only_where_others_can_listen(server: str):
    assert load_text(f"server:\n  {server}\n").config.server.listen


def test_listen_on_the_command_line_stands_in_for_the_files():
    server = load_text("server: {listen: 0.0.0.0:1}", listen="127.0.0.1:7000").config.server
    assert server.listen == (TcpAddress("127.0.0.1", 7000),)


@pytest.mark.parametrize("listen", ["0.0.0.0:7000", "7000"])
def test_a_mistake_in_listen_on_the_command_line_names_the_option(listen: str):
    (said,) = said_about("", listen=listen)
    assert said.startswith("--listen: ")
    assert "; write" in said


# -- roles and tests


def test_what_a_role_does_not_say_is_closed():
    role = role_of(agent("tables: {orders: {}}"))
    (table,) = role.tables
    assert (table.select, table.insert, table.update, table.delete, table.truncate) == (False,) * 5
    assert (role.functions, role.statements, role.settings, role.allow_set) == ((), (), {}, ())
    assert (role.search_path, role.require_where, role.explain) == (("public",), False, "safe")
    assert (role.mode, role.access) == ("enforce", "policy")
    assert role.limits == Limits(None, None, None, 65_536, None, None, None)


def test_what_a_role_says_is_taken():
    role = role_of(
        agent("""
        description: Works on orders
        search_path: [hr, public]
        tables:
          orders: {select: [id, note], insert: true, delete: true, truncate: true, row_filter: a = 1, check: a = 2}
          hr.salaries: {select: true, preset: {a: "1"}, mask: {note: "''"}}
        functions: [public.order_total]
        statements: [temp, copy]
        settings: {statement_timeout: 5s}
        allow_set: [Work_Mem]
        limits: {rows: 10, bytes: 64MB, statement_bytes: 1KB, connections: 2, rate: 60/m}
        require_where: true
        explain: full
        """)
    )
    orders_grant, salaries = role.tables
    assert (orders_grant.select, orders_grant.insert, orders_grant.update) == (("id", "note"), True, False)
    assert (orders_grant.delete, orders_grant.truncate) == (True, True)
    assert (orders_grant.row_filter, orders_grant.check) == ("a = 1", "a = 2")
    assert (salaries.name, salaries.preset, salaries.mask) == ("hr.salaries", {"a": "1"}, {"note": "''"})
    assert (role.description, role.search_path) == ("Works on orders", ("hr", "public"))
    assert (role.functions, role.statements) == (("public.order_total",), ("temp", "copy"))
    assert (role.settings, role.allow_set) == ({"statement_timeout": "5s"}, ("work_mem",))
    assert role.limits == Limits(10, None, 64 << 20, 1024, 2, 1.0, None)
    assert (role.require_where, role.explain) == (True, "full")


def test_a_role_and_a_table_know_where_they_stand():
    role = role_of(orders("row_filter: a = 1"))
    assert str(role.source) == "/p/a.yaml:2:3"
    assert str(role.tables[0].source) == "/p/a.yaml:5:7"
    assert str(role.tables[0].expression_sources["row_filter"]) == "/p/a.yaml:6:21"


def test_a_database_that_is_not_there_is_an_error_with_the_nearest_one():
    assert said_about("roles: {agent: {database: shp}}") == [
        'a.yaml:1:17: database "shp" is not under databases; did you mean "shop"?'
    ]


def test_a_test_of_a_role_that_is_not_there_is_an_error_with_the_nearest_one():
    assert said_about(agent("") + "tests:\n  - {role: agnt, allow: [select 1]}\n") == [
        'a.yaml:5:12: role "agnt" does not exist; did you mean "agent"?'
    ]


def test_a_test_becomes_a_value_with_claims_as_text():
    text = agent("") + 'tests: [{role: agent, claims: {tenant: 042, b: true}, allow: [a], deny: {b: "42501"}}]'
    (test,) = load_text(text.replace("[a]", "[select 1]")).policy.tests
    assert (test.role, test.claims) == ("agent", {"tenant": "042", "b": "true"})
    assert (test.allow, test.deny) == (("select 1",), (("b", "42501"),))


# -- version


def test_the_version_says_what_is_granted_not_how_it_is_written():
    one = load_text(agent("description: One\ntables: {orders: {select: true}}")).policy.version
    other = load_text('# moved\nroles: {agent: {tables: {orders: {"select": True}}, database: shop}}\n').policy.version
    assert one == other


@pytest.mark.parametrize(
    "keys",
    [
        "tables: {orders: {select: [id]}}",
        "tables: {orders: {select: true, row_filter: a = 1}}",
        "tables: {orders: {select: true}}\nlimits: {rows: 1}",
        "tables: {orders: {select: true}}\nexplain: full",
    ],
)
def test_the_version_changes_with_whatever_is_granted(keys: str):
    before = load_text(agent("tables: {orders: {select: true}}")).policy.version
    assert load_text(agent(keys)).policy.version != before
