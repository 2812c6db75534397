"""Reads a manifest by the models of the official Kubernetes client: each document must come back as it is, so
that no field is unknown, misspelt or of another type.

kubernetes.py MANIFEST PORT [PORT between processes]
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
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
}
api = client.ApiClient(client.Configuration())


def round_trip(document):
    model = MODELS[(document["apiVersion"], document["kind"])]
    read = api.deserialize(json.dumps(document), model, "application/json")
    return api.sanitize_for_serialization(read)


documents = list(yaml.safe_load_all(open(sys.argv[1])))
port = int(sys.argv[2])
between = int(sys.argv[3]) if len(sys.argv) > 3 else None
kinds = [document["kind"] for document in documents]
several = ["NetworkPolicy"] if between else []
assert kinds == ["StatefulSet", "Service", "Service", *several, "PodDisruptionBudget"], kinds
for document in documents:
    back = round_trip(document)
    assert back == document, f"{document['kind']}: {json.dumps(document, indent=1)}\n{json.dumps(back, indent=1)}"

# A field that is none must be found: else the check above would be none.
broken = json.loads(json.dumps(documents[0]))
broken["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
assert round_trip(broken) != broken

run, service, headless, *policies, budget = documents
pod = run["spec"]["template"]
labels = pod["metadata"]["labels"]
# What `--serve` answers is the first process's.
first = {"apps.kubernetes.io/pod-index": "0"} if between else {}
assert service["spec"]["selector"] == labels | first, service
selectors = [run["spec"]["selector"]["matchLabels"], headless["spec"]["selector"], budget["spec"]["selector"]["matchLabels"]]
for selector in selectors + [policy["spec"]["podSelector"]["matchLabels"] for policy in policies]:
    assert selector == labels, selector
container = pod["spec"]["containers"][0]
ports = {p["name"]: p["containerPort"] for p in container["ports"]}
assert ports == {"http": port} | ({"members": between} if between else {}), ports
assert f"--serve=0.0.0.0:{port}" in container["args"], container["args"]
if between:
    hosts = next(a.removeprefix("--hosts=") for a in container["args"] if a.startswith("--hosts="))
    name, within = run["metadata"]["name"], headless["metadata"]["name"]
    assert hosts.split(",") == [f"{name}-{i}.{within}:{between}" for i in range(run["spec"]["replicas"])], hosts
    given = {variable["name"]: variable["valueFrom"] for variable in container["env"]}
    index = given["PROCESS"]["fieldRef"]["fieldPath"]
    assert index == "metadata.labels['apps.kubernetes.io/pod-index']" and "--process=$(PROCESS)" in container["args"]
    assert all("secretKeyRef" in source for name, source in given.items() if name != "PROCESS"), given
    assert run["spec"]["podManagementPolicy"] == "Parallel" and headless["spec"]["publishNotReadyAddresses"]
else:
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "http"
        print(container[probe]["httpGet"]["path"])
mounted = {mount["name"] for mount in container["volumeMounts"]}
there = {v["name"] for v in pod["spec"]["volumes"]} | {v["metadata"]["name"] for v in run["spec"]["volumeClaimTemplates"]}
assert mounted == there, (mounted, there)
assert run["spec"]["serviceName"] == headless["metadata"]["name"] and headless["spec"]["clusterIP"] == "None"
for argument in container["args"]:
    print(argument)
