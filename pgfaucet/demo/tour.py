"""The guided tour: real statements through real psql, each shown beside what it proves. Every step checks what it shows."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgfaucet.demo.psql import Answer, Psql
    from pgfaucet.demo.stage import Stage

TENANT: Final = 42
LABEL: Final = "agent:support-bot:run-1"
OTHERS_ORDER: Final = 1018  # Cedar Coffee's, 9815.00
OWN_ORDER: Final = 1002
ENDLESS: Final = "SELECT count(*) FROM generate_series(1, 20000000000) AS endless"


class Tour:
    """The steps, in the order of `run`; a step may rely on those before it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.screen = stage.screen
        self.direct = stage.direct()
        self.token = ""
        self.agent = self.direct  # until the first step has minted a token

    def run(self) -> bool:
        """Walk through every step; True when each behaved as it says."""
        self.token_is_a_password()
        self.allowed_query()
        self.filtered_query()
        self.hidden_table()
        self.refused_verb()
        self.update_stays_inside()
        self.error_oracle_is_silent()
        self.revocation_ends_the_session()
        self.everything_was_recorded()
        self.audit_cannot_be_edited()
        screen = self.screen
        screen.heading("The end")
        if screen.failed:
            screen.lines(f"did not behave: {what}" for what in screen.failed)
        screen.say(f"{screen.checked - len(screen.failed)} of {screen.checked} checks hold.")
        return not screen.failed

    # -- steps ---------------------------------------------------------------------------------------------------------------------

    def token_is_a_password(self) -> None:
        """Mint the token that the rest uses."""
        self.screen.heading("1. An agent gets a token instead of the database password")
        self.screen.say(
            "The token has one role, a claim (tenant 42, Birch Books), a label and an hour to live. Only its hash is stored."
            " To a client it is the password of an ordinary PostgreSQL connection."
        )
        command = (
            f"pgfaucet token create -c policies --role support-agent --claim tenant={TENANT} --ttl 60m --label {LABEL}"
        )
        self.screen.command("$", command)
        minted = self.stage.mint(role="support-agent", label=LABEL, tenant=TENANT)
        self.token = str(minted["token"])
        self.agent = self.stage.client(self.token)
        self.screen.output(shortened(self.token))
        self.screen.check("a token was minted", holds=self.token.startswith("fct_"))

    def allowed_query(self) -> None:
        """Show that plain SQL works."""
        self.screen.heading("2. What the role may read, it reads with plain SQL")
        answer = self.ask(
            self.agent,
            """
            SELECT o.id, c.name, o.status, o.total
            FROM orders o JOIN customers c ON c.id = o.customer_id
            ORDER BY o.id LIMIT 4
            """,
        )
        self.screen.check("the query was answered", holds=answer.sqlstate == "00000" and answer.row_count == 4)

    def filtered_query(self) -> None:
        """Show the same SQL with and without the proxy."""
        sql = "SELECT tenant_id, count(*) AS orders, sum(total) FROM orders GROUP BY tenant_id ORDER BY tenant_id"
        self.screen.heading("3. The same query, two answers")
        self.screen.say("First as the service user, straight to PostgreSQL; then as the agent, through pgfaucet.")
        whole = self.ask(self.direct, sql)
        own = self.ask(self.agent, sql)
        holds = whole.row_count == 3 and own.row_count == 1 and "42" in own.text and own.sqlstate == "00000"
        self.screen.check("three tenants in the table, one for the agent; the agent's SQL has no WHERE", holds=holds)

    def hidden_table(self) -> None:
        """Show that hidden and absent can't be told apart."""
        self.screen.heading("4. What the role may not see does not exist")
        self.screen.say("api_keys is there and no_such_table is not. The agent cannot tell which is which.")
        real = self.ask(self.direct, "SELECT count(*) FROM api_keys")
        hidden = self.ask(self.agent, "SELECT * FROM api_keys")
        absent = self.ask(self.agent, "SELECT * FROM no_such_table")
        same = hidden.text.replace("api_keys", "x") == absent.text.replace("no_such_table", "x")
        self.screen.check("the table is there", holds=real.sqlstate == "00000")
        self.screen.check(
            "both answers are 42P01, in the same words", holds=hidden.sqlstate == absent.sqlstate == "42P01" and same
        )

    def refused_verb(self) -> None:
        """Show a denial with its hint."""
        self.screen.heading("5. A verb that was not granted is refused, with a hint that helps")
        answer = self.ask(self.agent, f"DELETE FROM orders WHERE id = {OWN_ORDER}")
        self.screen.check("refused with 42501 (insufficient privilege)", holds=answer.sqlstate == "42501")
        left = self.direct.run(f"SELECT FROM orders WHERE id = {OWN_ORDER}")
        self.screen.check("the order is still there", holds=left.row_count == 1)

    def update_stays_inside(self) -> None:
        """Show an UPDATE that reaches for everything and gets the tenant's own rows."""
        self.screen.heading("6. An UPDATE cannot reach another tenant's rows")
        self.screen.say(
            f"Order {OTHERS_ORDER} belongs to Cedar Coffee. For the agent there is no such row; without WHERE it gets its own ten."
        )
        one = self.ask(self.agent, f"UPDATE orders SET note = 'mine now' WHERE id = {OTHERS_ORDER}")
        every = self.ask(self.agent, "UPDATE orders SET note = 'called back'")
        proof = self.ask(
            self.direct,
            "SELECT tenant_id, count(*) AS orders, count(*) FILTER (WHERE note = 'called back') AS changed\n"
            "FROM orders GROUP BY 1 ORDER BY 1",
        )
        changed = self.direct.run(
            f"SELECT FROM orders WHERE tenant_id <> {TENANT} AND note IN ('mine now', 'called back')"
        )
        self.screen.check(
            "UPDATE 0, then UPDATE 10", holds=one.text.endswith("UPDATE 0") and every.text.endswith("UPDATE 10")
        )
        self.screen.check("no other tenant's row changed", holds=changed.row_count == 0 and proof.sqlstate == "00000")

    def error_oracle_is_silent(self) -> None:
        """Show an injection that turns hidden values into errors, and gets nothing."""
        self.screen.heading("7. A query that asks by making errors learns nothing")
        self.screen.say(
            "It divides by zero exactly if somewhere an order of 9815.00 exists: one bit of Cedar Coffee's books per query."
        )
        sql = "SELECT id FROM orders WHERE 1 / (total - 9815.00) > 1"
        loud = self.ask(self.direct, sql)
        silent = self.ask(self.agent, sql)
        self.screen.check("straight to PostgreSQL the error gives it away (22012)", holds=loud.sqlstate == "22012")
        self.screen.check(
            "through pgfaucet: no error, no row", holds=silent.sqlstate == "00000" and silent.row_count == 0
        )

    def revocation_ends_the_session(self) -> None:
        """Revoke the token of a session that is busy."""
        self.screen.heading("8. A revoked token ends its sessions, also in the middle of a statement")
        minted = self.stage.mint(role="support-agent", label="agent:runaway", tenant=TENANT)
        runaway = self.stage.client(str(minted["token"]))
        self.screen.command("agent>", ENDLESS + ";")
        session = runaway.start(ENDLESS)
        started = wait_until(lambda: self.stage.statements_running("endless") > 0, 10)
        self.screen.command("$", "pgfaucet token revoke -c policies --label agent:runaway")
        done = self.stage.proxy.run_command(
            "token", "revoke", "-c", str(self.stage.policies), "--label", "agent:runaway"
        )
        self.screen.output(done.stdout + done.stderr)
        printed, seconds = session.wait(10)
        self.screen.command("agent>", "-- what the agent's psql printed")
        self.screen.output(printed)
        again = runaway.run("SELECT 1")
        upstream_idle = wait_until(lambda: self.stage.statements_running("endless") == 0, 2)
        self.screen.check(
            "the statement was running, and was cancelled in PostgreSQL too", holds=started and upstream_idle
        )
        self.screen.check(
            f"FATAL, {seconds:.1f} s after the revocation",
            holds="FATAL" in printed and done.returncode == 0 and seconds <= 1.0,
        )
        self.screen.check("the token opens no new session", holds="password authentication failed" in again.text)

    def everything_was_recorded(self) -> None:
        """Print the audit records of all the above."""
        self.screen.heading("9. Everything above is on record, the refusals too")
        self.screen.say(
            "From the audit log, with literals taken out. Each line there is JSON and carries the hash of the line before it."
        )
        statements = [record for record in self.stage.audit_records() if record["event"] == "statement"]
        self.screen.blank()
        self.screen.lines(audit_table(statements, self.screen.width - 2))
        self.screen.blank()
        decisions = {record["decision"] for record in statements}
        refused = {record["sqlstate"] for record in statements}
        self.screen.check(
            "allowed and refused statements are there",
            holds={"allow", "deny"} <= decisions and {"42P01", "42501"} <= refused,
        )
        queries = " ".join(str(record["query"]) for record in statements)
        leaked = self.token in self.stage.proxy.audit_file.read_text() or "9815" in queries or "called back" in queries
        self.screen.check("no token and no literal is", holds=not leaked)

    def audit_cannot_be_edited(self) -> None:
        """Verify the log, then a copy with one changed word."""
        self.screen.heading("10. The log proves that it was not edited")
        audit = self.stage.proxy.audit_file
        self.screen.command("$", "pgfaucet audit verify audit.jsonl")
        whole = self.stage.proxy.run_command("audit", "verify", str(audit))
        self.screen.output((whole.stdout + whole.stderr).replace(str(audit), "audit.jsonl"))
        forged = self.stage.proxy.state / "forged" / "audit.jsonl"
        shutil.copytree(audit.parent, forged.parent, ignore=shutil.ignore_patterns("tokens.db*", "forged"))
        forged.write_text(forged.read_text().replace('"DELETE"', '"SELECT"', 1))
        self.screen.command("$", 'sed -i \'0,/"DELETE"/s//"SELECT"/\' copy.jsonl; pgfaucet audit verify copy.jsonl')
        edited = self.stage.proxy.run_command("audit", "verify", str(forged))
        self.screen.output((edited.stdout + edited.stderr).replace(str(forged), "copy.jsonl"))
        self.screen.check("the log holds (exit code 0)", holds=whole.returncode == 0)
        self.screen.check("one changed word is found (exit code 1)", holds=edited.returncode == 1)

    # -- parts ---------------------------------------------------------------------------------------------------------------------

    def ask(self, psql: Psql, sql: str) -> Answer:
        """Show a statement, run it, show the answer."""
        self.screen.command("postgres>" if psql is self.direct else "agent>", sql.rstrip() + ";")
        answer = psql.run(sql)
        self.screen.output(answer.text)
        return answer


def shortened(token: str) -> str:
    """Return a token without its secret, as one would show it to somebody else."""
    public, _, _ = token.rpartition("_")
    return f"{public}_{'*' * 12}"


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition, at most so long; return whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def audit_table(records: list[dict[str, object]], width: int) -> list[str]:
    """Return the records as lines of a table."""
    lines = [f"{'seq':>4}  {'decision':<8}  {'sqlstate':<8}  {'rows':>4}  statement"]
    for record in records:
        query = " ".join(str(record["query"]).split())
        rows = record["row_count"] if record["row_count"] is not None else ""
        line = f"{record['seq']:>4}  {record['decision']:<8}  {record['sqlstate'] or '':<8}  {rows:>4}  {query}"
        lines.append(line if len(line) <= width else line[: width - 1] + "…")
    return lines
