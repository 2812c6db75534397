"""Ray's Jobs REST API in front of a Dask cluster, which has no way in but Python.

    python -m tidemill_trainer.bridge --port 8787 --scheduler tcp://HOST:8786 --folder STATE [--token-file F]

A job is a driver process here (`tidemill_trainer.dask_run`), in a group of its own, which has the command
run by a worker. What is known of a job stands in `STATE/ID.json`: a bridge that is started again answers for the jobs of
the one before, and says of those whose driver is gone that they failed.
"""

import argparse
import hmac
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .contract import replace, to_json, write_once

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
LONGEST_BODY = 1 << 20


class Jobs:
    """The jobs of one bridge; every method may be called from any thread."""

    def __init__(self, folder: Path, scheduler: str, most: int):
        self.folder, self.scheduler, self.most = folder, scheduler, most
        self.lock = threading.Lock()
        self.drivers: dict[str, subprocess.Popen] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.json"):
            job = json.loads(path.read_text())
            if job["status"] not in ENDED:
                self.kill(job.get("pid"))
                self.end(job, "FAILED", None, "the bridge was started anew")

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def read(self, name: str) -> dict | None:
        try:
            return json.loads(self.path(name).read_text())
        except FileNotFoundError:
            return None

    def end(self, job: dict, status: str, code: int | None, message: str) -> None:
        job.update(status=status, driver_exit_code=code, message=message, end_time=int(time.time() * 1000))
        replace(self.path(job["submission_id"]), to_json(job))

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def submit(self, asked: dict) -> tuple[int, dict | str]:
        entrypoint, name = asked.get("entrypoint"), asked.get("submission_id") or f"job_{uuid.uuid4().hex}"
        if not isinstance(entrypoint, str) or not entrypoint.strip():
            return 400, "entrypoint: a command line is required"
        if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
            return 400, "submission_id: letters, digits, - and _"
        job = {
            "submission_id": name,
            "entrypoint": entrypoint,
            "status": "PENDING",
            "message": "",
            "metadata": asked.get("metadata") or {},
            "driver_exit_code": None,
            "start_time": int(time.time() * 1000),
            "end_time": None,
            "memory": asked.get("entrypoint_memory") or 0,
        }
        if not write_once(self.path(name), to_json(job)):
            return 409, f"job {name} already exists"
        threading.Thread(target=self.drive, args=(job,), daemon=True).start()
        return 200, {"job_id": name, "submission_id": name}

    def drive(self, job: dict) -> None:
        name = job["submission_id"]
        while True:
            with self.lock:
                if (self.read(name) or job)["status"] in ENDED:
                    return
                if sum(d.poll() is None for d in self.drivers.values()) < self.most:
                    break
            time.sleep(0.1)
        command = [sys.executable, "-m", "tidemill_trainer.dask_run", "--scheduler", self.scheduler]
        command += ["--name", name, "--", *shlex.split(job["entrypoint"])]
        with self.lock:
            if (self.read(name) or job)["status"] in ENDED:
                return
            with open(self.log(name), "wb") as log:
                driver = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            self.drivers[name] = driver
            job.update(status="RUNNING", pid=driver.pid)
            replace(self.path(name), to_json(job))
        code = driver.wait()
        self.kill(driver.pid)
        with self.lock:
            now = self.read(name)
            if now and now["status"] not in ENDED:
                tail = self.logs(name)[-2_000:]
                status = "SUCCEEDED" if code == 0 else "FAILED"
                self.end(now, status, code, "" if code == 0 else tail)

    def logs(self, name: str) -> str:
        try:
            return self.log(name).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stop(self, name: str) -> tuple[int, dict | str]:
        with self.lock:
            job = self.read(name)
            if job is None:
                return 404, f"there is no job {name}"
            if job["status"] in ENDED:
                return 200, {"stopped": False}
            self.end(job, "STOPPED", None, "stopped")
            driver = self.drivers.get(name)
        if driver is not None:
            # SIGTERM first: the driver tells the worker. Then the whole group, for a child that ignores it.
            try:
                os.killpg(driver.pid, signal.SIGTERM)
                driver.wait(3)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
            self.kill(driver.pid)
        return 200, {"stopped": True}

    @staticmethod
    def kill(pid: int | None) -> None:
        try:
            if pid:
                os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def delete(self, name: str) -> tuple[int, dict | str]:
        with self.lock:
            job = self.read(name)
            if job is None:
                return 404, f"there is no job {name}"
            if job["status"] not in ENDED:
                return 500, f"job {name} has not ended"
            self.path(name).unlink(missing_ok=True)
            self.log(name).unlink(missing_ok=True)
            self.drivers.pop(name, None)
        return 200, {"deleted": True}

    def close(self) -> None:
        with self.lock:
            for driver in self.drivers.values():
                if driver.poll() is None:
                    self.kill(driver.pid)


def handler(jobs: Jobs, token: str | None):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def answer(self, status: int, body: dict | list | str) -> None:
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def allowed(self) -> bool:
            given = self.headers.get("Authorization", "")
            if token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                return True
            self.close_connection = True
            self.answer(403 if given else 401, "a valid bearer token is required")
            return False

        def route(self, method: str) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdigit() or int(length) > LONGEST_BODY:
                self.close_connection = True
                return self.answer(413, "the body is too long")
            body = self.rfile.read(int(length))
            if not self.allowed():
                return None
            parts = self.path.split("?")[0].strip("/").split("/")
            if method == "GET" and parts == ["api", "version"]:
                return self.answer(200, {"version": "4", "tidemill_bridge": "0.1.0", "scheduler": jobs.scheduler})
            if parts[:2] != ["api", "jobs"]:
                return self.answer(404, "no such path")
            rest = parts[2:]
            if method == "POST" and not rest:
                try:
                    asked = json.loads(body)
                except ValueError:
                    return self.answer(400, "the body is no JSON")
                if not isinstance(asked, dict):
                    return self.answer(400, "the body is no object")
                return self.answer(*jobs.submit(asked))
            if method == "GET" and len(rest) == 1:
                job = jobs.read(rest[0])
                return self.answer(200, job) if job else self.answer(404, f"there is no job {rest[0]}")
            if method == "GET" and len(rest) == 2 and rest[1] == "logs":
                return self.answer(200, {"logs": jobs.logs(rest[0])})
            if method == "POST" and len(rest) == 2 and rest[1] == "stop":
                return self.answer(*jobs.stop(rest[0]))
            if method == "DELETE" and len(rest) == 1:
                return self.answer(*jobs.delete(rest[0]))
            return self.answer(404, "no such path")

        def do_GET(self) -> None:
            self.route("GET")

        def do_POST(self) -> None:
            self.route("POST")

        def do_DELETE(self) -> None:
            self.route("DELETE")

        def log_message(self, *_) -> None:
            pass

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8787, help="0 for a free one, which is printed")
    parser.add_argument("--scheduler", required=True, help="tcp://HOST:PORT of the Dask scheduler")
    parser.add_argument("--folder", default="bridge", help="where the state of jobs is kept")
    parser.add_argument("--token-file", help="a file with the token that clients must send")
    parser.add_argument("--most", type=int, default=4, help="drivers at once")
    given = parser.parse_args()
    token = Path(given.token_file).read_text().strip() if given.token_file else None
    if token is None and given.host not in ("127.0.0.1", "localhost", "::1"):
        parser.error(f"{given.host} can be reached by others, and whoever can runs commands here: give --token-file")
    jobs = Jobs(Path(given.folder), given.scheduler, given.most)
    server = ThreadingHTTPServer((given.host, given.port), handler(jobs, token))
    server.daemon_threads = True
    print(f"http://{given.host}:{server.server_port}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        jobs.close()


if __name__ == "__main__":
    main()
