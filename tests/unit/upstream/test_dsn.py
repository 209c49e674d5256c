from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgfaucet.upstream.dsn import DsnError, Host, parse_dsn, password_from_file

SECRET = "hunter2"
NAME = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    """No PG* variable and no ~/.pgpass of whoever runs the tests."""
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def passfile(tmp_path):
    def write(*lines, mode=0o600):
        path = tmp_path / "passfile"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(mode)
        return path

    return write


def refusal(text: str) -> str:
    with pytest.raises(DsnError) as raised:
        parse_dsn(text)
    return str(raised.value)


# -- where -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hosts", "database"),
    [
        ("postgresql://u@db.internal:6000/shop", [("db.internal", 6000)], "shop"),
        ("postgres://u@db/shop", [("db", 5432)], "shop"),
        ("postgresql://u@db", [("db", 5432)], "u"),
        ("postgresql://u@db?sslmode=disable", [("db", 5432)], "u"),
        ("postgresql://u@db/?sslmode=disable", [("db", 5432)], "u"),
        ("postgresql://u@/shop", [("localhost", 5432)], "shop"),
        ("postgresql://u@a:1,b:2,c/shop", [("a", 1), ("b", 2), ("c", 5432)], "shop"),
        ("postgresql://u@[::1]:6000/shop", [("::1", 6000)], "shop"),
        ("postgresql://u@[fe80::1],[::1]:2/shop", [("fe80::1", 5432), ("::1", 2)], "shop"),
        ("postgresql:///shop?host=db&port=6000&user=u", [("db", 6000)], "shop"),
        ("postgresql://u@%2Frun%2Fpg:6000/shop", [("/run/pg", 6000)], "shop"),
        ("postgresql://u@/shop?host=/run/pg", [("/run/pg", 5432)], "shop"),
        ("postgresql://u@db/my%20shop", [("db", 5432)], "my shop"),
        ("postgresql://u@db/shop#1", [("db", 5432)], "shop#1"),
        ("host=db port=6000 user=u dbname=shop", [("db", 6000)], "shop"),
        ("host=a,b port=1,2 user=u dbname=shop", [("a", 1), ("b", 2)], "shop"),
        ("host=a,b port=6000 user=u dbname=shop", [("a", 6000), ("b", 6000)], "shop"),
        ("host=/run/pg user=u", [("/run/pg", 5432)], "u"),
        ("  user = u\n host = 'db'  ", [("db", 5432)], "u"),
    ],
)
def test_hosts_and_database_are_found_in_every_form(text, hosts, database):
    target = parse_dsn(text)
    assert [(host.name, host.port) for host in target.hosts] == hosts
    assert (target.user, target.database) == ("u", database)


def test_what_the_string_leaves_open_is_asked_of_the_environment(monkeypatch):
    for name, value in (("PGHOST", "db"), ("PGPORT", "6000"), ("PGUSER", "u"), ("PGPASSWORD", SECRET)):
        monkeypatch.setenv(name, value)
    target = parse_dsn("dbname=shop")
    assert (target.hosts, target.user, target.password) == ((Host("db", 6000),), "u", SECRET)
    assert parse_dsn("host=x port=1 user=v password=mine").password == "mine"


def test_a_socket_directory_is_told_apart_from_a_name():
    assert Host("/run/pg", 6000).is_socket
    assert Host("/run/pg", 6000).socket_path == "/run/pg/.s.PGSQL.6000"
    assert not Host("db", 6000).is_socket


def test_an_abstract_socket_starts_with_a_zero_byte():
    assert Host("@run", 6000).is_socket
    assert Host("@run", 6000).socket_path == "\0run/.s.PGSQL.6000"


# -- options -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["uri", "keywords"])
def test_every_option_is_taken(form):
    options = {
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.crt",
        "sslcert": "/etc/me.crt",
        "sslkey": "/etc/me.key",
        "channel_binding": "require",
        "connect_timeout": "3",
        "application_name": "faucet",
        "target_session_attrs": "primary",
        "passfile": "/etc/pass",
    }
    pairs = [f"{name}={value}" for name, value in options.items()]
    target = parse_dsn(f"postgresql://u@h/d?{'&'.join(pairs)}" if form == "uri" else f"user=u {' '.join(pairs)}")
    assert {name: getattr(target, name) for name in options} == options | {"connect_timeout": 3.0}


def test_defaults_are_those_of_libpq_with_a_deadline():
    target = parse_dsn("user=u")
    assert (target.sslmode, target.channel_binding, target.target_session_attrs) == ("prefer", "prefer", "any")
    assert target.connect_timeout > 0
    assert parse_dsn("user=u connect_timeout=0").connect_timeout > 0
    assert target.password is None


def test_ssl_true_means_require():
    assert parse_dsn("postgresql://u@h/d?ssl=true").sslmode == "require"


def test_the_system_authorities_are_trusted_for_names_only():
    assert parse_dsn("user=u sslrootcert=system").sslmode == "verify-full"
    assert "verify-full" in refusal("user=u sslrootcert=system sslmode=require")
    assert "verify-full" in refusal("postgresql://u@h/d?sslmode=prefer&sslrootcert=system")


# -- escapes -----------------------------------------------------------------------------------------------------------------------


@given(NAME, NAME, NAME)
def test_a_uri_takes_any_text_percent_encoded(user, password, database):
    target = parse_dsn(f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@h/{quote(database, safe='')}")
    assert (target.user, target.password, target.database) == (user, password, database)
    again = parse_dsn(f"postgresql://h/?user={quote(user, safe='')}&password={quote(password, safe='')}")
    assert (again.user, again.password) == (user, password)


@given(NAME, NAME)
def test_a_keyword_takes_any_text_in_quotes(user, password):
    quoted = [text.replace("\\", "\\\\").replace("'", "\\'") for text in (user, password)]
    target = parse_dsn("user='{}' password='{}'".format(*quoted))
    assert (target.user, target.password) == (user, password)


@given(st.text(string.ascii_letters + string.digits + "!#$*+,-.;=?^_`{|}~", min_size=1))
def test_a_password_needs_escapes_only_for_what_separates(password):
    assert parse_dsn(f"postgresql://u:{password}@h/d").password == password
    assert parse_dsn(f"postgresql://u@h/d?password={password}").password == password


def test_a_keyword_value_may_escape_a_blank():
    assert parse_dsn(r"user=u password=a\ b\\c").password == r"a b\c"


# -- refusals ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no user"),
        ("postgresql://h/d", "names no user"),
        ("mysql://u@h/d", "postgresql://"),
        ("just words", "keyword=value"),
        ("user='u", "keyword=value"),
        ("user=u colour=red", '"colour" is not supported'),
        ("postgresql://u@h/d?options=-cx%3D1", '"options" is not supported'),
        ("postgresql://u@h/d?sslmode", "name=value"),
        ("user=u sslmode=on", "sslmode must be one of"),
        ("user=u channel_binding=maybe", "channel_binding must be one of"),
        ("user=u target_session_attrs=fast", "target_session_attrs must be one of"),
        ("user=u connect_timeout=soon", "connect_timeout must be"),
        ("user=u connect_timeout=\N{SUPERSCRIPT TWO}", "connect_timeout must be"),
        ("user=u connect_timeout=-1", "connect_timeout must be"),
        ("user=u host=a,b,c port=1,2", "2 ports for 3 hosts"),
        ("user=u port=0", "port"),
        ("user=u port=65536", "port"),
        ("postgresql://u@h:x/d", "port"),
        ("postgresql://u%00x@h/d", "%"),
        ("postgresql://u:100%@h/d", "%25"),
        ("postgresql://u:%ff@h/d", "UTF-8"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(text, why):
    assert why in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{SECRET}/x@h/d",
        f"postgresql://u:x/{SECRET}@h/d",
        f"postgresql://u:x@{SECRET}@h/d",
        f"postgresql://u:{SECRET}%@h/d",
        f"postgresql://u:{SECRET}@h:x/d",
        f"postgresql://u:{SECRET}@h/d?sslmode=on",
        f"user=u password={SECRET} sslmode=on",
        f"user=u password='{SECRET}",
    ],
)
def test_no_refusal_shows_a_password(text):
    assert SECRET not in refusal(text)


def test_no_repr_shows_a_password():
    assert SECRET not in repr(parse_dsn(f"postgresql://u:{SECRET}@h/d"))


@given(st.text(max_size=40) | st.text(max_size=40).map("postgresql://".__add__))
def test_any_text_is_a_target_or_a_refusal(text):
    try:
        assert parse_dsn(text).hosts
    except DsnError as error:
        assert str(error)  # noqa: PT017 - anything else raised fails the test


# -- passwords ---------------------------------------------------------------------------------------------------------------------


def test_a_password_of_its_own_stands_in_for_every_other(monkeypatch, passfile):
    monkeypatch.setenv("PGPASSWORD", "environment")
    monkeypatch.setenv("PGPASSFILE", str(passfile("*:*:*:*:file")))
    text = "postgresql://u:string@h/d"
    host = Host("h", 5432)
    assert parse_dsn(text, password="own").password_for(host) == "own"
    assert parse_dsn(text).password_for(host) == "string"
    assert parse_dsn("postgresql://u@h/d").password_for(host) == "environment"
    monkeypatch.delenv("PGPASSWORD")
    assert parse_dsn("postgresql://u@h/d").password_for(host) == "file"


def test_the_password_file_is_the_named_one_or_that_of_the_environment_or_of_home(monkeypatch, passfile, tmp_path):
    host = Host("h", 5432)
    named = passfile("*:*:*:*:named")
    home = tmp_path / ".pgpass"
    home.write_text("*:*:*:*:home\n")
    home.chmod(0o600)
    assert parse_dsn(f"user=u passfile={named}").password_for(host) == "named"
    assert parse_dsn("user=u").password_for(host) == "home"
    monkeypatch.setenv("PGPASSFILE", str(named))
    assert parse_dsn("user=u").password_for(host) == "named"


def test_each_host_has_its_own_line(passfile):
    target = parse_dsn(
        f"postgresql://u@a,b:6000/shop?passfile={passfile('a:5432:shop:u:for-a', 'b:6000:shop:u:for-b')}"
    )
    assert [target.password_for(host) for host in target.hosts] == ["for-a", "for-b"]


def test_a_socket_is_localhost_in_the_password_file(passfile):
    path = passfile("localhost:*:*:*:local")
    assert parse_dsn(f"user=u passfile={path}").password_for(Host("/run/pg", 5432)) == "local"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("h:5432:shop:u:pw", "pw"),
        ("*:*:*:*:pw", "pw"),
        ("h:5432:shop:u:", ""),
        (r"h:5432:shop:u:p\:w\\", r"p:w" + "\\"),
        ("other:5432:shop:u:pw", None),
        ("h:5433:shop:u:pw", None),
        ("h:5432:shop2:u:pw", None),
        ("h:5432:shop:v:pw", None),
        ("h:5432:shop:u", None),
        ("#*:*:*:*:pw", None),
        ("", None),
    ],
)
def test_a_line_of_the_password_file_must_match_in_every_field(passfile, line, found):
    assert password_from_file(passfile(line), "h", 5432, "shop", "u") == found


def test_the_first_line_that_matches_counts(passfile):
    assert password_from_file(passfile("x:*:*:*:no", "h:*:*:*:first", "*:*:*:*:second"), "h", 1, "d", "u") == "first"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_password_file_that_others_can_read_is_ignored(passfile, mode):
    assert password_from_file(passfile("*:*:*:*:pw", mode=mode), "h", 1, "d", "u") is None


def test_a_password_file_that_cannot_be_read_has_no_password(tmp_path):
    assert password_from_file(tmp_path / "none", "h", 1, "d", "u") is None
    binary = tmp_path / "binary"
    binary.touch(mode=0o600)
    binary.write_bytes(b"*:*:*:*:\xff\xfe\n")
    assert password_from_file(binary, "h", 1, "d", "u") is None
