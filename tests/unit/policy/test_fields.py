"""What each value of a policy file may be, and what is said when it is not."""

from __future__ import annotations

import pytest

from tests.kit.policy_files import SHOP, agent, load_text, orders, role_of, said_about

DSN = "databases:\n  d:\n    dsn: postgresql://h/d\n"


@pytest.mark.parametrize(("text", "truth"), [("true", True), ("True", True), ("TRUE", True), ("false", False)])
def test_a_flag_is_true_or_false(text: str, truth: bool):
    assert role_of(agent(f"require_where: {text}")).require_where is truth


@pytest.mark.parametrize("text", ["yes", "on", "1", "y", "off"])
def test_no_other_word_is_a_flag(text: str):
    assert said_about(agent(f"require_where: {text}")) == [
        f'a.yaml:4:20: "{text}" is neither true nor false; write true or false'
    ]


@pytest.mark.parametrize(
    ("text", "columns"),
    [("true", True), ("false", False), ("[id, note]", ("id", "note")), ("[]", False), ("[true]", ("true",))],
)
def test_columns_are_all_none_or_a_list(text: str, columns: object):
    assert role_of(orders(f"select: {text}")).tables[0].select == columns


def test_one_column_without_brackets_is_an_error_that_shows_the_brackets():
    assert said_about(orders("select: status")) == [
        'a.yaml:6:17: "status" is neither true nor false nor a list of columns; write true, false, or [status]'
    ]


@pytest.mark.parametrize(
    ("keys", "place", "said"),
    [
        ("inherits: base", "4:15", 'this is the text "base" where a list is expected; write it in brackets, as in [one, two]'),
        ("functions: [a, a]", "4:20", '"a" is written twice; keep one'),
        ("functions: [[a]]", "4:17", "this is a list where a name is expected; write one name"),
        ("search_path: [{a: b}]", "4:19", "this is a mapping where a name is expected; write one name"),
        ("tables: [orders]", "4:5", "this is a list where a mapping is expected; write it as KEY: VALUE, indented below"),
        ("tables: {orders: true}", "4:22", 'this is the text "true" where a mapping is expected; write it as KEY: VALUE, indented below'),
        ("description: [a]", "4:5", "this is a list where one value is expected; write a single value"),
        ("explain: of", "4:14", '"of" is not known here; did you mean "off"?'),
        ("access: none", "4:13", '"none" is not known here; use one of full, policy'),
        ("statements: [listn]", "4:18", '"listn" is not a statement kind; did you mean "listen"?'),
        ("limits: {rows: 0}", "4:20", '"0" is not a whole number above 0; write it as in 1000'),
        ("limits: {rows: 1e3}", "4:20", '"1e3" is not a whole number above 0; write it as in 1000'),
        ("limits: {bytes: 64}", "4:21", '"64" is not a size; write it as in 64KB or 16MB'),
        ("limits: {rate: 50}", "4:20", '"50" is not a rate; write it as in 50/s or 600/m'),
        ("limits: {statement_bytes: 2MB}", "4:31", '"2MB" is not a size of at most 1MB; write it as in 64KB'),
        ("limits: {connections: many}", "4:27", '"many" is not a whole number above 0; write it as in 1000'),
        ("description:", "4:5", '"description" has no value; write one, or remove it'),
        ("settings: {statement_timeout: }", "4:16", '"statement_timeout" has no value; write one, or remove it'),
    ],
)  # fmt: skip
def test_a_wrong_value_of_a_role_says_where_what_and_what_to_do(keys: str, place: str, said: str):
    assert said_about(agent(keys)) == [f"a.yaml:{place}: {said}"]


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("server: 5", "1:9", 'this is the text "5" where a mapping is expected; write it as KEY: VALUE, indented below'),
        ("server: {listen: []}", "1:10", "this list is empty; name at least one address, or remove the key"),
        ("server: {tokens: {max_ttl: 24}}", "1:28", '"24" is not a time with its unit; write it as in 500ms, 5s, 10m, 1h or 7d'),
        ("server: {tokens: {store: tokens.db}}", "1:26", "this is no place for tokens; write sqlite:FILE or postgresql://USER@HOST/DATABASE"),
        ("server: {tokens: {store: 'postgresql://'}}", "1:26", "this is no place for tokens; write sqlite:FILE or postgresql://USER@HOST/DATABASE"),
        ("server: {tokens: {store: 'sqlite:'}}", "1:26", "this is no place for tokens; write sqlite:FILE or postgresql://USER@HOST/DATABASE"),
        ("server: {audit: {durability: sync}}", "1:30", '"sync" is not known here; did you mean "async"?'),
        ("server: {audit: {params: hashed}}", "1:26", '"hashed" is not known here; did you mean "hash"?'),
        ("server: {audit: {file: ''}}", "1:24", "this has no value; write one, or remove the key"),
        ("server: {audit: {sinks: [{to: 'ftp://x'}]}}", "1:31", "this is no place for audit records; write stdout, file:PATH, syslog:/dev/log, syslog:tcp://HOST:PORT, postgresql://... or https://..."),
        ("server: {audit: {sinks: [{to: 'http://example.com/'}]}}", "1:31", "this is no place for audit records; write stdout, file:PATH, syslog:/dev/log, syslog:tcp://HOST:PORT, postgresql://... or https://..."),
        ("server: {audit: {sinks: [{to: stdout, what: nothing}]}}", "1:45", '"nothing" is not known here; use one of all, checkpoints, records'),
        ("server: {audit: {sinks: [{to: stdout, format: spans}]}}", "1:47", "spans goes over HTTP only; write to: https://..., or another format"),
        ("server: {audit: {sinks: [{to: stdout, format: otlp}]}}", "1:47", "otlp goes over HTTP only; write to: https://..., or another format"),
        ("server: {audit: {rotate: {size: 5}}}", "1:33", '"5" is not a size; write it as in 64KB or 16MB'),
        ("server: {sso: [{issuer: i, audience: a, jwks: 'http://example.com', roles: {}}]}", "1:47", "keys must come over https or from a file; write https://HOST/PATH, or file:PATH"),
        ("server: {sso: [{issuer: i, audience: a, jwks: 'https://i', roles: {}, algorithms: [HS256]}]}", "1:84", '"HS256" is not an algorithm for SSO; use RS256, ES256, EdDSA'),
        ("server: {sso: [{issuer: i, audience: a, jwks: 'https://i', roles: {}, algorithms: []}]}", "1:71", "this list is empty; name at least one algorithm, or remove the key"),
        ("server: {sso: [{issuer: pgfaucet, audience: a, jwks: 'file:a', roles: {}}]}", "1:25", 'issuer "pgfaucet" is there already; keep one, or name another'),
        ("server: {throttle: {spared: [everywhere]}}", "1:21", "this is no network; write 10.0.0.0/8, 2001:db8::/32, or local"),
        ("server: {throttle: {failures: 0}}", "1:31", '"0" is not a whole number above 0; write it as in 1000'),
        ("databases: {d: {dsn: 'postgresql://u@h/d', password: x, password_file: y}}", "1:72", "password and password_file are both written; keep one"),
        ("server: {sso: [{issuer: i, audience: a, jwks: 'file:a', roles: {}}, {issuer: i, audience: a, jwks: 'file:a', roles: {}}]}", "1:78", 'issuer "i" is there already; keep one, or name another'),
        ("server: {sso: [{audience: a, jwks: 'file:a', roles: {}}]}", "1:16", 'the key "issuer" is missing; write it'),
        ("server: {workers: many}", "1:19", '"many" is not a whole number from 0 to 256; write it as in 1'),
        ("server: {admin: unix:/run}", "1:17", '"unix:/run" is not an address; write HOST:PORT, as in 127.0.0.1:6432'),
        ("server: {tls: {cert: c}}", "1:10", 'the key "key" is missing; write it'),
    ],
)  # fmt: skip
def test_a_wrong_value_of_the_server_says_where_what_and_what_to_do(text: str, place: str, said: str):
    assert said_about(text) == [f"a.yaml:{place}: {said}"]


@pytest.mark.parametrize(
    ("pool", "column", "said"),
    [
        ("mode: statement", 18, '"statement" is not known here; use one of session, transaction'),
        ("size: 0", 18, '"0" is not a whole number from 1 to 10000; write it as in 1'),
        ("min: -1", 17, '"-1" is not a whole number from 0 to 10000; write it as in 1'),
        ("wait_timeout: 0s", 26, '"0s" is not a time with its unit; write it as in 500ms, 5s, 10m, 1h or 7d'),
    ],
)
def test_a_wrong_value_of_a_pool_says_where_what_and_what_to_do(pool: str, column: int, said: str):
    assert said_about(f"{DSN}    pool: {{{pool}}}\n") == [f"a.yaml:4:{column}: {said}"]


def test_every_item_of_a_list_that_is_wrong_is_said():
    said = said_about("server:\n  listen: ['*:1', 127.0.0.1, unix:run]\n")
    assert [line.split(": ")[0] for line in said] == ["a.yaml:2:12", "a.yaml:2:19", "a.yaml:2:30"]


def test_a_sqlstate_has_five_characters():
    text = agent("") + 'tests:\n  - {role: agent, deny: {select 1: "4250"}}\n'
    assert said_about(text) == [
        'a.yaml:5:36: "4250" is not a SQLSTATE; write its five characters in quotes, as in "42501"'
    ]


def test_a_test_needs_a_role():
    assert said_about("tests:\n  - allow: [select 1]\n") == ['a.yaml:2:5: the key "role" is missing; write it']


def test_a_test_of_nothing_is_an_error():
    assert said_about(agent("") + "tests:\n  - role: agent\n") == [
        "a.yaml:5:5: this test tests nothing; write allow: [SQL] or deny: {SQL: SQLSTATE}"
    ]


def test_the_value_of_a_setting_may_be_empty():
    assert role_of(agent("settings: {app.name: ''}")).settings == {"app.name": ""}


def test_an_empty_password_is_none():
    loaded = load_text("databases: {d: {dsn: postgresql://h/d, password: ''}}", rest=SHOP)
    assert loaded.config.databases["d"].password is None


def test_places_are_absolute_and_lists_may_be_one_text():
    text = """\
server:
  audit: {sinks: [{to: "file:copies/a.jsonl", what: checkpoints}, {to: stdout, format: ocsf}], rotate: {size: 1MB, every: 1d}}
  sso:
    - {issuer: "https://i/", audience: one, jwks: "file:keys.json", roles: {a: agent}, claims: {tenant: org}, max_ttl: 1h}
    - {issuer: "https://j/", audience: [one, two], jwks: "https://j/keys", role_claim: role, roles: {a: agent}, algorithms: [EdDSA]}
"""
    server = load_text(text).config.server
    directory = server.audit.file.parent
    assert [(sink.to, sink.what, sink.format) for sink in server.audit.sinks] == [
        (f"file:{directory}/copies/a.jsonl", "checkpoints", "json"),
        ("stdout", "all", "ocsf"),
    ]
    assert (server.audit.rotate_bytes, server.audit.rotate_seconds) == (1 << 20, 86_400.0)
    first, second = server.sso
    assert (first.audience, first.jwks, first.role_claim, first.max_ttl) == (
        ("one",),
        directory / "keys.json",
        "groups",
        3600.0,
    )
    assert (first.claims, first.algorithms) == ({"tenant": "org"}, ("RS256", "ES256", "EdDSA"))
    assert (second.audience, second.jwks, second.algorithms) == (("one", "two"), "https://j/keys", ("EdDSA",))
