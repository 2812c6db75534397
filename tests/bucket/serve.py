"""A server that speaks as S3 does, with one bucket. It prints its address, then obeys commands, a JSON array a
line, and answers each with a line; it ends with its input."""

import json
import sys

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "tidemill"
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
address = f"http://{host}:{port}"
client = boto3.client(
    "s3", endpoint_url=address, region_name="eu-central-1", aws_access_key_id="test", aws_secret_access_key="test"
)
client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})


def keys(prefix):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return sorted(found["Key"] for page in pages for found in page.get("Contents", []))


def read(key):
    return client.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode()


def bend(key):
    """Changes the last byte of an object."""
    body = bytearray(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    body[-1] ^= 1
    client.put_object(Bucket=BUCKET, Key=key, Body=bytes(body))
    return key


def away():
    server.stop()
    return address


def back():
    """At the same address, with what it held."""
    global server
    server = ThreadedMotoServer(ip_address=host, port=port, verbose=False)
    server.start()
    return address


print(json.dumps(address), flush=True)
commands = {"keys": keys, "read": read, "bend": bend, "away": away, "back": back}
for line in sys.stdin:
    name, *arguments = json.loads(line)
    print(json.dumps(commands[name](*arguments)), flush=True)
server.stop()
