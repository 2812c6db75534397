"""Reads a manifest by the models of the official Kubernetes client: each document must come back as it is, so
that no field is unknown, misspelt or of another type.

kubernetes.py MANIFEST PORT
"""

import json
import sys

# This file has the name of the package.
sys.path.pop(0)

import yaml
from kubernetes import client

MODELS = {
    ("apps/v1", "StatefulSet"): "V1StatefulSet",
    ("v1", "Service"): "V1Service",
    ("policy/v1", "PodDisruptionBudget"): "V1PodDisruptionBudget",
}
api = client.ApiClient(client.Configuration())


def round_trip(document):
    model = MODELS[(document["apiVersion"], document["kind"])]
    read = api.deserialize(json.dumps(document), model, "application/json")
    return api.sanitize_for_serialization(read)


documents = list(yaml.safe_load_all(open(sys.argv[1])))
port = int(sys.argv[2])
kinds = [document["kind"] for document in documents]
assert kinds == ["StatefulSet", "Service", "Service", "PodDisruptionBudget"], kinds
for document in documents:
    back = round_trip(document)
    assert back == document, f"{document['kind']}: {json.dumps(document, indent=1)}\n{json.dumps(back, indent=1)}"

# A field that is none must be found: else the check above would be none.
broken = json.loads(json.dumps(documents[0]))
broken["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
assert round_trip(broken) != broken

run, service, headless, budget = documents
pod = run["spec"]["template"]
labels = pod["metadata"]["labels"]
for selector in (run["spec"]["selector"]["matchLabels"], service["spec"]["selector"], headless["spec"]["selector"],
                 budget["spec"]["selector"]["matchLabels"]):
    assert selector == labels, selector
container = pod["spec"]["containers"][0]
ports = {p["name"]: p["containerPort"] for p in container["ports"]}
assert ports == {"http": port}, ports
assert f"--serve=0.0.0.0:{port}" in container["args"], container["args"]
for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
    assert container[probe]["httpGet"]["port"] == "http"
    print(container[probe]["httpGet"]["path"])
mounted = {mount["name"] for mount in container["volumeMounts"]}
there = {v["name"] for v in pod["spec"]["volumes"]} | {v["metadata"]["name"] for v in run["spec"]["volumeClaimTemplates"]}
assert mounted == there, (mounted, there)
assert run["spec"]["serviceName"] == headless["metadata"]["name"] and headless["spec"]["clusterIP"] == "None"
for argument in container["args"]:
    print(argument)
