"""What no client should do: too much, too slowly, malformed. Kina answers with the right code, keeps within its memory, and
others notice nothing. Only to the kina that this suite started, on loopback, in bounded numbers."""

import contextlib
import json
import socket
import time

from checks import has, same, until
from world import Endpoint

MIB = 1024 * 1024
CLUSTERS = "/apis/kina.dev/v1alpha1/clusters"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


def raw(api, text, seconds=20):
    """Bytes on a connection, and what comes back until it is closed."""
    with api.connect(seconds) as connection:
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(text if isinstance(text, bytes) else text.encode())
            while chunk := connection.recv(65536):
                answer += chunk
        return answer.decode(errors="replace")


def code(answer):
    return int(answer.split(" ", 2)[1]) if answer.startswith("HTTP/1.1 ") else None


def status_of(api, method, path, body=None, headers=()):
    """The code of an answer, which has to be a Status that says the same."""
    found, text = api.ask(method, path, body, headers)
    answer = json.loads(text)
    same((answer["kind"], answer["code"]), ("Status", found))
    return found


def bodies(api):
    big = b'{"metadata":{"name":"big"},"data":{"a":"' + b"x" * (3 * MIB) + b'"}}'
    same(status_of(api, "POST", CONFIGMAPS, big), 413)
    # Without a length it is noticed on the way.
    head = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = raw(api, head.encode() + (b"%x\r\n" % MIB + b"x" * MIB + b"\r\n") * 4 + b"0\r\n\r\n")
    if answer:
        same(code(answer), 413)
    almost = b'{"metadata":{"name":"big"},"data":{"a":"' + b"x" * (2 * MIB) + b'"}}'
    same(api.ask("POST", CONFIGMAPS, almost)[0] in (201, 422), True)
    api.ask("DELETE", f"{CONFIGMAPS}/big")
    deep = "[" * 100_000 + "]" * 100_000
    same(status_of(api, "POST", CONFIGMAPS, '{"metadata":{"name":"deep"},"data":' + deep + "}"), 400)
    yaml = {"Content-Type": "application/yaml"}
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for number in range(12):
        bomb += f"a{number}: &a{number} [" + ", ".join([f"*a{number - 1}" if number else "*a"] * 10) + "]\n"
    same(status_of(api, "POST", CONFIGMAPS, bomb, yaml), 400)
    packed = {"Content-Encoding": "gzip"}
    same(status_of(api, "POST", CONFIGMAPS, b"\x1f\x8b\x08\0\0\0\0\0", packed) in (400, 415), True)


def patches(api):
    same(api.ask("POST", CONFIGMAPS, {"metadata": {"name": "patched"}, "data": {"a": "x" * 1000}})[0], 201)
    path, kind = f"{CONFIGMAPS}/patched", {"Content-Type": "application/json-patch+json"}
    many = [{"op": "test", "path": "/data/a", "value": "x"}] * 10_001
    same(status_of(api, "PATCH", path, many, kind), 413)
    # Each copy doubles: 1 KB would be a terabyte.
    double = [{"op": "copy", "from": "/data", "path": f"/data/{number}"} for number in range(30)]
    same(status_of(api, "PATCH", path, double, kind) in (413, 422), True)
    same(status_of(api, "PATCH", path, "{}", kind), 400)
    same(status_of(api, "PATCH", path, "{}", {"Content-Type": "text/plain"}), 415)
    same(api.ask("DELETE", path)[0], 200)


def malformed_requests(api):
    same(status_of(api, "POST", CONFIGMAPS, "{"), 400)
    same(status_of(api, "POST", CONFIGMAPS, "{}", {"Content-Type": "text/html"}), 415)
    same(status_of(api, "POST", CONFIGMAPS, "[1]"), 400)
    same(status_of(api, "POST", CONFIGMAPS, b'{"metadata":{"name":"\xff"}}'), 400)
    same(status_of(api, "POST", CONFIGMAPS, b"k8s\0\xff\xff", {"Content-Type": "application/vnd.kubernetes.protobuf"}), 400)
    same(status_of(api, "GET", f"{CONFIGMAPS}?color=red"), 400)
    same(status_of(api, "GET", f"{CONFIGMAPS}?limit=many"), 400)
    same(status_of(api, "GET", f"{CONFIGMAPS}?labelSelector=%2C%2C("), 400)
    same(status_of(api, "GET", CONFIGMAPS, None, {"Accept": "text/html"}), 406)
    same(status_of(api, "PUT", CONFIGMAPS, "{}"), 405)
    same(status_of(api, "BREW", CONFIGMAPS), 405)
    for path in ["/api/v1/namespaces/default/%2e%2e/configmaps", "/api/v1/namespaces/../../etc/passwd", "/%00", "/api/v1/x/y/z/a/b"]:
        same(status_of(api, "GET", path), 404)
    same(api.ask("GET", "//api//v1//namespaces//default//configmaps")[0], 200)
    for text in ["nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\xff" * 100 + b"\r\n\r\n"]:
        same(code(raw(api, text)) in (400, 505, None), True)
    head = "GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 100_000 + "\r\n\r\n"
    same(code(raw(api, head)) in (431, None), True)
    both = f"POST {CONFIGMAPS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    same(code(raw(api, both + "zz\r\n\r\n")) in (400, None), True)


def foreign_hosts(api):
    ask = lambda head: code(raw(api, f"{head}\r\nConnection: close\r\n\r\n"))
    same(ask("GET /version HTTP/1.1\r\nHost: localhost"), 200)
    same(ask("GET /version HTTP/1.1\r\nHost: evil.example"), 403)
    same(ask("GET /version HTTP/1.1\r\nHost: localhost.evil.example"), 403)
    same(ask("GET https://evil.example/version HTTP/1.1\r\nHost: localhost"), 403)
    same(ask("GET /version HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example"), 403)
    same(ask("GET /version HTTP/1.1\r\nHost: localhost\r\nHost: evil.example") in (400, 403), True)


def strangers(api):
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((api.host, api.port), timeout=20) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as stranger:
                stranger.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
                same(b"200 OK" in stranger.recv(65536), False)
        except (ssl.SSLError, ConnectionError):
            pass
    with socket.create_connection((api.host, api.port), timeout=20) as plain:
        with contextlib.suppress(ConnectionError):
            plain.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            same(b"200 OK" in plain.recv(65536), False)


def half_open(world, api):
    """More connections than there are places, with half a handshake and half a request; others go on."""
    before = world.open_files()
    with contextlib.ExitStack() as stack:
        for number in range(600):
            plain = stack.enter_context(socket.create_connection((api.host, api.port), timeout=20))
            if number % 2:
                with contextlib.suppress(OSError):
                    plain.sendall(b"\x16\x03\x01\x02\x00")
        began = time.monotonic()
        same(api.ask("GET", "/version")[0], 200)
        same(time.monotonic() - began < 3, True)
        for _ in range(100):
            known = stack.enter_context(api.connect())
            known.sendall(b"GET /version HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        same(api.ask("GET", "/version")[0], 200)
        world.kina("get", "clusters").ok()
        same(time.monotonic() - began < 5, True)
    if before is not None:
        until("what was open is closed", lambda: world.open_files() <= before + 10)


def slow_watchers(world, api):
    """A hundred that watch and never read, while 60 MiB are written; writers and readers go on, memory stays bounded."""
    same(api.ask("POST", CONFIGMAPS, {"metadata": {"name": "busy"}})[0], 201)
    path, kind = f"{CONFIGMAPS}/busy", {"Content-Type": "application/merge-patch+json"}
    before, slowest = world.resident(), 0
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            watcher = stack.enter_context(api.connect())
            watcher.sendall(f"GET {CONFIGMAPS}?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for number in range(300):
            began = time.monotonic()
            same(api.ask("PATCH", path, {"data": {"n": str(number), "a": "x" * 200_000}}, kind)[0], 200)
            slowest = max(slowest, time.monotonic() - began)
        after = world.resident()
        same(api.ask("GET", path)[0], 200)
    api.ask("DELETE", path)
    print(f"     (slowest write {slowest * 1000:.0f} ms; {before} MiB before, {after} MiB after)")
    if slowest > 5:
        raise AssertionError(f"a write took {slowest:.1f} s")
    # History of 8 MiB, and what the kernel and each connection keep.
    if before is not None and after - before > 256:
        raise AssertionError(f"{after - before} MiB more are resident")


def smoke(checks, world):
    own, toy = Endpoint(world.own, world.work), Endpoint(world.toy, world.work)
    for story, arguments in [
        (bodies, [toy]),
        (patches, [toy]),
        (malformed_requests, [toy]),
        (foreign_hosts, [own]),
        (foreign_hosts, [toy]),
        (strangers, [own]),
        (strangers, [toy]),
        (half_open, [world, own]),
        (half_open, [world, toy]),
        (slow_watchers, [world, toy]),
    ]:
        which = "Kina's own API" if own in arguments else "a simulated cluster"
        checks.check(f"{story.__name__.replace('_', ' ')}, {which}", lambda: story(*arguments))
    checks.check("all is as it was", lambda: has(own.ask("GET", CLUSTERS)[1].decode(), '"toy"'))
