"""A collector of traces in OpenTelemetry's own classes: OTLP/HTTP with protobuf, and OTLP/gRPC, each with and without TLS.

    otlp.py CERTIFICATE KEY

The first line that it prints is a JSON object of its ports; then each request is a line: the protocol, the header
`authorization`, and the spans as OTLP's JSON has them. Spans with a status 404 are refused.
"""

import base64
import json
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

certificate, key = sys.argv[1:3]
lock = threading.Lock()


def tell(line):
    with lock:
        print(json.dumps(line), flush=True)


def take(protocol, authorization, request):
    spans = MessageToDict(request, use_integers_for_enums=True)
    for resource in spans["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                # OTLP's JSON has ids in hexadecimal, protobuf's in base64.
                for name in ("traceId", "spanId", "parentSpanId"):
                    span[name] = base64.b64decode(span[name]).hex()
    tell({"protocol": protocol, "authorization": authorization, "spans": spans})
    refused = str(spans).count("'intValue': '404'")
    partial = messages.ExportTracePartialSuccess(rejected_spans=refused, error_message="not these")
    return messages.ExportTraceServiceResponse(partial_success=partial if refused else None)


class Traces(services.TraceServiceServicer):
    def __init__(self, protocol):
        self.protocol = protocol

    def Export(self, request, context):
        headers = dict(context.invocation_metadata())
        return take(self.protocol, headers.get("authorization"), request)


class Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/traces", self.path
        assert self.headers["Content-Type"] == "application/x-protobuf", self.headers
        request = messages.ExportTraceServiceRequest.FromString(body)
        answer = take(self.server.protocol, self.headers["authorization"], request).SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


ports = {}
for protocol in ("http", "https"):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Http)
    server.protocol = protocol
    if protocol == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    ports[protocol] = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
with open(key, "rb") as of_key, open(certificate, "rb") as of_certificate:
    credentials = grpc.ssl_server_credentials([(of_key.read(), of_certificate.read())])
for protocol in ("grpc", "grpcs"):
    server = grpc.server(ThreadPoolExecutor(2))
    services.add_TraceServiceServicer_to_server(Traces(protocol), server)
    secure = protocol == "grpcs"
    add = (lambda at: server.add_secure_port(at, credentials)) if secure else server.add_insecure_port
    ports[protocol] = add("127.0.0.1:0")
    server.start()
    # Kept, or it ends with the name.
    ports[protocol + " server"] = server
print(json.dumps({name: port for name, port in ports.items() if isinstance(port, int)}), flush=True)
# Until whoever started it goes away.
sys.stdin.read()
