"""TLS with and without a client certificate, by Python's own client."""

import http.client
import ssl
import sys

address, folder = sys.argv[1:]


def ask(path, certificate=None, authority="server-ca"):
    context = ssl.create_default_context(cafile=f"{folder}/{authority}.pem")
    if certificate:
        context.load_cert_chain(f"{folder}/{certificate}.pem", f"{folder}/{certificate}-key.pem")
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
    connection.request("GET", path)
    return connection.getresponse().status


assert ask("/v2", "client") == 200
assert ask("/healthz") == 200
assert ask("/v2") == 401
try:
    status = ask("/v2", "stranger")
except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
    pass
else:
    raise AssertionError(f"a certificate of another authority got {status}")
try:
    ask("/healthz", authority="client-ca")
except ssl.SSLError:
    pass
else:
    raise AssertionError("the server has a certificate of its authority")
host, port = address.rsplit(":", 1)
plain = http.client.HTTPConnection(host, int(port), timeout=20)
try:
    plain.request("GET", "/healthz")
    status = plain.getresponse().status
except (http.client.HTTPException, ConnectionError):
    pass
else:
    raise AssertionError(f"plain HTTP got {status}")
print("all is well")
