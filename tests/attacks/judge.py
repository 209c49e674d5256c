"""Did a case end as it says? README.md in this folder describes its fields."""

from __future__ import annotations

import json
import re
import struct
from typing import TYPE_CHECKING

from tests.kit.comparison import difference

if TYPE_CHECKING:
    from tests.attacks.stage import Case, Played
    from tests.kit.outcome import Outcome

NUMBERS = (987654321, 876543219, 765432198, 654321987)
"""What numbers of other tenants, of hidden columns and of hidden tables are."""
TEXTS = re.compile(
    # plain, as hexadecimal, backwards, as base64 in three phases, the numbers and their neighbours, as UTF-16
    rb"canary|43414e415259|63616e617279|yranac|Q0FOQVJZ|NBTkFSW|DQU5BUl"
    rb"|98765432\d|87654321\d|7654321[89]\d|7654322[0-8]\d|65432198[789]|\x00C\x00A\x00N\x00A\x00R\x00Y",
    re.IGNORECASE,
)
LOGIN_REFUSED = {"57P01", "28P01", "28000"}


def canary_in(received: bytes) -> str | None:
    """Find what should never have come, in any encoding that a client could ask for."""
    found = TEXTS.search(received)
    if found is not None:
        return repr(received[max(0, found.start() - 40) : found.end() + 40])
    for number in NUMBERS:
        digits = struct.pack(">3h", number // 10**8, number // 10**4 % 10**4, number % 10**4)  # a binary numeric's
        if struct.pack(">i", number) in received or digits in received:
            return f"{number} in binary"
    return None


def verdict(case: Case, proxied: Played, native: Played | None) -> str | None:
    """Say why a case failed; None when it ended as it should."""
    canary = canary_in(proxied.received)
    if canary is not None:
        return f"canary: {canary}"
    return (
        _what_was_said(case, proxied)
        or _how_it_ended(case, proxied, native)
        or _what_was_expected(case, proxied, native)
    )


def _what_was_said(case: Case, proxied: Played) -> str | None:
    text = "\n".join(outcome.text for outcome in proxied.outcomes)
    for pattern in case.get("forbid", ()):
        found = re.search(pattern, text, re.IGNORECASE)
        if found is not None:
            return f"forbidden {pattern!r}: {text[max(0, found.start() - 40) : found.end() + 40]!r}"
    required = case.get("require", ())
    if required and not any(re.search(pattern, text, re.IGNORECASE) for pattern in required):
        return f"nothing matches {required}: {text[:200]!r}"
    return None


def _how_it_ended(case: Case, proxied: Played, native: Played | None) -> str | None:
    may_end = case.get("may_close", False) or case["expect"].startswith("deny:") or not proxied.was_let_in
    for number, outcome in enumerate(proxied.outcomes, 1):
        code = outcome.sqlstate or ""
        if outcome.ended == "hang" or (outcome.ended == "closed" and not case.get("may_close")):
            return f"step {number}: {outcome.ended}"
        if outcome.ended == "fatal" and not may_end and code not in LOGIN_REFUSED:
            return f"step {number}: FATAL {outcome.summary}"
        theirs = native.outcomes[number - 1].sqlstate if native and number <= len(native.outcomes) else None
        if code.startswith("XX") and not (theirs or "").startswith("XX"):
            return f"step {number}: internal error {outcome.summary}"
        if outcome.errors and not re.fullmatch("[0-9A-Z]{5}", code):
            return f"step {number}: no SQLSTATE in {outcome.errors}"
    return None


def _what_was_expected(case: Case, proxied: Played, native: Played | None) -> str | None:
    if not proxied.was_let_in and case["expect"] == "no-canary":
        return None
    for number, (step, outcome) in enumerate(zip(case["steps"], proxied.outcomes, strict=False), 1):
        reason = _judge(step.get("expect", "anything"), outcome)
        if reason is not None:
            return f"step {number}: {reason}"
    if case["expect"] == "same-as-native":
        assert native is not None
        reason = difference(proxied.outcomes, native.outcomes, is_ordered=case.get("ordered", False))
    else:
        reason = _judge(case["expect"], proxied.outcomes[-1])
    was_refused = any(outcome.sqlstate in case.get("ok_deny", ()) for outcome in proxied.outcomes)
    return None if was_refused else reason


def _judge(expect: str, outcome: Outcome) -> str | None:
    kind, _, rest = expect.partition(":")
    match kind:
        case "anything" | "no-canary":
            return None
        case "ok":
            return outcome.summary if outcome.errors or outcome.ended else None
        case "deny":
            return None if outcome.sqlstate in rest.split(",") else f"expected {expect}, got {outcome.summary}"
        case "rows":
            want = sorted((tuple(row) for row in json.loads(rest)), key=repr)
            got = sorted(outcome.results[-1].rows, key=repr) if outcome.results else None
            return None if got == want and not outcome.errors else f"expected {expect}, got {outcome.summary}"
    raise AssertionError(f"unknown expectation {expect}")
