"""Opens as many connections as the system lets it, ten thousand at most, and holds them until its input
ends: a third says nothing, a third has sent half a request, a third waits after an answer."""

import resource
import socket
import sys

host, port = sys.argv[1].rsplit(":", 1)
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
wanted = min(10_000, hard - 200)
held = []
for n in range(wanted):
    connection = socket.create_connection((host, int(port)), timeout=30)
    held.append(connection)
    if n % 3 == 1:
        connection.sendall(b"POST /v2/models/shop/infer HTTP/1.1\r\nHost: shop\r\nContent-Le")
    elif n % 3 == 2:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: shop\r\n\r\n")
for connection in held[2::3]:
    assert connection.recv(4096).startswith(b"HTTP/1.1 200"), "no answer"
print(len(held), flush=True)
sys.stdin.read()
