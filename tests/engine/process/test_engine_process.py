"""The server as a child process, with small programs in the place of vLLM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from engine.errors import EngineError, InputError
from engine.process.engine_process import PARENT_VARIABLE, WEIGHTS_ROOT_VARIABLE, EngineProcess
from engine.process.ports import check_port, check_socket

PYTHON = sys.executable

DIES = """
print("loading weights")
print("RuntimeError: no memory left", file=sys.stderr)
sys.exit(3)
"""

TALKS_AND_DIES = """
for number in range(100):
    print(f"line {number}")
sys.exit(0)
"""

SILENT = """
time.sleep(3600)
"""

TELLS_ITS_PLUGINS = """
pathlib.Path("plugins").write_text(os.environ["VLLM_PLUGINS"])
"""

# Not ready at once, and with a child that ends at nothing but SIGKILL, as vLLM's workers do.
SERVES = """
import http.server, json, socket
child = os.fork()
if not child:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)
    os._exit(0)
pathlib.Path("started.json").write_text(json.dumps(
    {"pid": os.getpid(), "child": child, "arguments": sys.argv[1:], "environment": dict(os.environ)}
))
asked = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        ready = self.path == "/ready" and len(asked) > 2
        self.send_response(200 if ready else 503)
        if "--nameless" not in sys.argv:
            self.send_header("X-Jostle-Server", os.environ["JOSTLE_SERVER"])
        self.end_headers()
    def log_message(self, *_):
        pass
    def address_string(self):
        return "somebody"  # at a UNIX socket there is no name to look up
port = int(next(a for a in sys.argv if a.startswith("--port=")).split("=")[1])
uds = next((a.split("=")[1] for a in sys.argv if a.startswith("--uds=")), None)
class Server(http.server.HTTPServer):
    address_family = socket.AF_UNIX if uds else socket.AF_INET
    def server_bind(self):
        self.socket.bind(self.server_address)
server = Server(uds or ("127.0.0.1", port), Handler)
certificate = next((a.split("=")[1] for a in sys.argv if a.startswith("--ssl-certfile=")), None)
if certificate:
    import ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(autouse=True)
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(WEIGHTS_ROOT_VARIABLE, raising=False)


def replace_python(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Whatever `python -m engine.server ...` is asked to do, it runs this instead."""
    program = folder / "python"
    program.write_text(f"#!{PYTHON}\nimport os, pathlib, signal, sys, time\n{code}")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(*pids: int) -> None:
    while any(map(alive, pids)):
        time.sleep(0.01)


def test_an_early_death_is_reported_with_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, DIES)
    log = tmp_path / "logs" / "engine.log"
    with EngineProcess.start("no-model", weights_root=None, log_file=log) as engine:
        with pytest.raises(EngineError) as caught:
            engine.wait_ready(600)
        assert not engine.running()
    message = str(caught.value)
    said = "RuntimeError: no memory left"
    assert message == f"the engine ended with code 3 while starting: {said} (log: {log})"
    assert "-m engine.server no-model --host=127.0.0.1" in log.read_text().splitlines()[0]


def test_only_what_this_start_has_logged_counts_and_code_0_is_a_failure_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, TALKS_AND_DIES)
    log = tmp_path / "engine.log"
    log.write_text("ValueError: of an older run\n")
    with EngineProcess.start("no-model", weights_root=None, log_file=log) as engine:
        with pytest.raises(EngineError, match="the engine ended with code 0") as caught:
            engine.wait_ready(600)
        assert engine.wait() == 0
    assert str(caught.value).endswith(f"while starting: line 99 (log: {log})")
    assert log.read_text().startswith("ValueError: of an older run\n$ "), "a log is appended to"


def test_without_a_log_the_death_is_reported_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    replace_python(monkeypatch, tmp_path, DIES)
    with (
        EngineProcess.start("no-model", weights_root=None) as engine,
        pytest.raises(EngineError, match=r"^the engine ended with code 3 while starting$"),
    ):
        engine.wait_ready(600)
    assert "no memory left" in capfd.readouterr().err


def test_a_context_longer_than_the_models_is_refused_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"max_position_embeddings": 2048}')
    replace_python(monkeypatch, tmp_path, SILENT)
    for flags in (["--max-model-len=4096"], ["--max_model_len", "4096"]):
        with pytest.raises(InputError) as caught:
            EngineProcess.start(str(model), weights_root=None, extra_args=flags)
        assert str(caught.value) == (
            "field '--max-model-len': is 4,096; the model's context holds 2,048 tokens "
            f"(max_position_embeddings in {model / 'config.json'})"
        )
    for flags in (["--max-model-len=2048"], ["--max-model-len=auto"], []):
        EngineProcess.start(str(model), weights_root=None, extra_args=flags).stop()


def test_an_engine_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_python(monkeypatch, tmp_path, SILENT)
    with EngineProcess.start("no-model", weights_root=None) as engine:
        with pytest.raises(
            EngineError, match=r"the engine was not ready after 0 s; JOSTLE_LIMITS="
        ):
            engine.wait_ready(0.1)
        assert engine.running()
    assert not engine.running()
    assert engine.wait() == -signal.SIGTERM


def test_ready_when_healthy_and_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, SERVES)
    waits: list[float] = []
    with EngineProcess.start(
        "the-model",
        weights_root=tmp_path / "runs",
        log_file=tmp_path / "engine.log",
        trust_remote_code=True,
        extra_args=["--dtype=float16", "--seed=3"],
    ) as engine:
        engine.wait_ready(600, waits.append)
        assert engine.running()
        started = json.loads((tmp_path / "started.json").read_text())
        assert alive(started["pid"])
        assert alive(started["child"])
    wait_until_gone(started["pid"], started["child"])
    assert waits == sorted(waits)
    assert waits

    arguments, environment = started["arguments"], started["environment"]
    assert arguments[:3] == ["-m", "engine.server", "the-model"]
    assert arguments[-2:] == ["--dtype=float16", "--seed=3"]
    assert "--trust-remote-code" in arguments
    assert sum(argument.startswith("--dtype") for argument in arguments) == 1
    assert engine.url.rsplit(":")[-1] == next(
        argument.split("=")[1] for argument in arguments if argument.startswith("--port=")
    )
    assert environment[PARENT_VARIABLE] == str(os.getpid())
    assert environment[WEIGHTS_ROOT_VARIABLE] == str(tmp_path / "runs")
    assert environment["VLLM_PLUGINS"].endswith("jostle")


def test_what_a_killed_server_leaves_behind_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, SERVES)
    engine = EngineProcess.start("the-model", weights_root=None, log_file=tmp_path / "engine.log")
    with engine:
        engine.wait_ready(600)
        started = json.loads((tmp_path / "started.json").read_text())
        os.kill(started["pid"], signal.SIGKILL)
        assert engine.wait() == -signal.SIGKILL
        assert alive(started["child"])
    wait_until_gone(started["child"])
    engine.stop()  # safe to call again
    assert WEIGHTS_ROOT_VARIABLE not in started["environment"]
    assert "--trust-remote-code" not in started["arguments"]


def test_a_server_that_does_not_listen_to_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    deaf = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\npathlib.Path({str(ready)!r}).touch()\n"
    replace_python(monkeypatch, tmp_path, deaf + SILENT)
    engine = EngineProcess.start("no-model", weights_root=None)
    while not ready.exists():
        time.sleep(0.01)
    engine.stop(timeout_s=0.1)
    assert engine.wait() == -signal.SIGKILL


@pytest.mark.parametrize(("flags", "seconds"), [([], 20), (["--shutdown-timeout", "120"], 140)])
def test_requests_in_flight_have_the_time_they_are_due(
    flags: list[str], seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float | None] = []
    wait = subprocess.Popen.wait

    def note(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        waited.append(timeout)
        return wait(self, timeout)

    replace_python(monkeypatch, tmp_path, SILENT)
    engine = EngineProcess.start("no-model", weights_root=None, extra_args=flags)
    monkeypatch.setattr(subprocess.Popen, "wait", note)
    engine.stop()
    assert waited[0] == seconds


def test_every_server_gets_a_port_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, SILENT)
    with (
        EngineProcess.start("no-model", weights_root=None) as one,
        EngineProcess.start("no-model", weights_root=None, host="0.0.0.0", port=4321) as other,
    ):
        assert one.url.startswith("http://127.0.0.1:")
        assert other.url == "http://127.0.0.1:4321", "the address to reach it, not to bind it"


@pytest.mark.parametrize(("host", "url"), [("::1", "[::1]"), ("::", "[::1]"), ("name", "name")])
def test_the_url_of_an_address(
    host: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, SILENT)
    with EngineProcess.start("no-model", weights_root=None, host=host, port=4321) as engine:
        assert engine.url == f"http://{url}:4321"


def test_the_answer_of_another_server_is_not_taken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, SERVES)
    with EngineProcess.start("no-model", weights_root=None) as first:
        first.wait_ready(20)
        port = int(first.url.rsplit(":")[-1])
        with pytest.raises(InputError, match=f"field '--port': port {port} of 127.0.0.1 is taken"):
            check_port(port)
        replace_python(monkeypatch, tmp_path, SILENT)
        with (
            EngineProcess.start("no-model", weights_root=None, port=port) as second,
            pytest.raises(InputError, match=f"field '--port': another server answers at .*{port}"),
        ):
            second.wait_ready(20)


def test_an_error_of_vllm_itself_is_no_other_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_python(monkeypatch, tmp_path, SERVES)
    with EngineProcess.start("no-model", weights_root=None, extra_args=["--nameless"]) as engine:
        deadline = time.monotonic() + 20
        while not engine.answers() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not engine.ready()
        with pytest.raises(InputError, match="another server answers"):
            engine.ready()


def test_a_server_that_speaks_tls_is_asked_by_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its certificate is of no authority, and in another name than that of loopback."""
    file = tmp_path / "server.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
        f"-subj /CN=elsewhere -keyout {file} -out {tmp_path}/certificate.pem".split(),
        check=True,
        capture_output=True,
    )
    with file.open("a") as both:
        both.write((tmp_path / "certificate.pem").read_text())
    replace_python(monkeypatch, tmp_path, SERVES)
    flags = [f"--ssl-certfile={file}"]
    with EngineProcess.start("no-model", weights_root=None, extra_args=flags) as engine:
        engine.wait_ready(20)
        assert engine.url.startswith("https://127.0.0.1:")
        assert engine.ready()


def test_a_server_at_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_python(monkeypatch, tmp_path, SERVES)
    path = tmp_path / "s"
    with EngineProcess.start("no-model", weights_root=None, extra_args=[f"--uds={path}"]) as engine:
        engine.wait_ready(20)
        with pytest.raises(InputError, match=r"field '--uds': .*in use"):
            check_socket(path)
    check_socket(path)
    with pytest.raises(InputError, match="too long"):
        check_socket(tmp_path / ("x" * 200))


@pytest.mark.parametrize(
    ("given", "told"),
    [("other", "other,jostle"), ("jostle,other", "jostle,other"), ("", "jostle"), (",", "jostle")],
)
def test_plugins_of_the_user_are_kept(
    given: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", given)
    replace_python(monkeypatch, tmp_path, TELLS_ITS_PLUGINS)
    with EngineProcess.start("no-model", weights_root=None) as engine:
        engine.wait()
    assert (tmp_path / "plugins").read_text() == told


def test_plugins_that_nobody_names_are_those_of_vllm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those that add routes, be it under the name of another."""
    plugins = {
        "vllm.general_plugins": ("jostle", "an_architecture", "with_routes"),
        "vllm.platform_plugins": ("a_platform",),
        "vllm.endpoint_plugins": ("jostle", "with_routes", "routes"),
    }

    def found(group: str) -> list[EntryPoint]:
        return [EntryPoint(name, "a:b", group) for name in plugins.get(group, ())]

    monkeypatch.setattr("engine.process.engine_process.entry_points", found)
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    replace_python(monkeypatch, tmp_path, TELLS_ITS_PLUGINS)
    with EngineProcess.start("no-model", weights_root=None) as engine:
        engine.wait()
    assert (tmp_path / "plugins").read_text() == "a_platform,an_architecture,jostle"


def test_a_full_disk_is_told_with_the_log_s_name() -> None:
    told = r"^/dev/full: cannot be written: No space left on device"
    with pytest.raises(InputError, match=told):
        EngineProcess.start("no-model", weights_root=None, log_file=Path("/dev/full"))


def test_logits_are_no_log_probabilities() -> None:
    with pytest.raises(InputError, match="field '--logprobs-mode': scoring needs log-prob"):
        EngineProcess.start(
            "no-model", weights_root=None, extra_args=["--logprobs-mode=raw_logits"]
        )
