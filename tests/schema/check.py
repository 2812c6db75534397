"""What a JSON Schema says of TOML files: one JSON object, file name to errors."""

import json
import sys
import tomllib

from jsonschema import Draft7Validator

schema = json.load(open(sys.argv[1], "rb"))
Draft7Validator.check_schema(schema)
validator = Draft7Validator(schema)
said = {}
for file in sys.argv[2:]:
    document = tomllib.load(open(file, "rb"))
    said[file] = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
print(json.dumps(said))
