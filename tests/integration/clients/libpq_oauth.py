"""libpq of PostgreSQL 18 with OAUTHBEARER: LIBPQ CONNINFO BEARER prints the session's user, and what libpq was told to ask for.

The token comes from a hook, as in a program that gets it by itself; no provider is asked.
"""

import ctypes
import sys

BEARER_TOKEN = 1  # PQAUTHDATA_OAUTH_BEARER_TOKEN


class Request(ctypes.Structure):
    """PGoauthBearerRequest of libpq-fe.h."""

    _fields_ = [
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("start", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    ]


HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Request))


def main(library: str, conninfo: str, bearer: str) -> None:
    libpq = ctypes.CDLL(library)
    for name in ("PQconnectdb", "PQexec"):
        getattr(libpq, name).restype = ctypes.c_void_p
    for name in ("PQerrorMessage", "PQgetvalue"):
        getattr(libpq, name).restype = ctypes.c_char_p
    token = bearer.encode()

    @HOOK
    def hook(kind, _, request):
        if kind != BEARER_TOKEN:
            return 0
        print(request.contents.openid_configuration.decode(), request.contents.scope.decode())
        request.contents.token = token
        return 1

    libpq.PQsetAuthDataHook(hook)
    connection = ctypes.c_void_p(libpq.PQconnectdb(conninfo.encode()))
    if libpq.PQstatus(connection) != 0:
        print(libpq.PQerrorMessage(connection).decode())
        return
    result = ctypes.c_void_p(libpq.PQexec(connection, b"select distinct tenant_id from orders"))
    print(libpq.PQgetvalue(result, 0, 0).decode())
    libpq.PQfinish(connection)


main(*sys.argv[1:])
