"""Where keys come from, and when a server must have some."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.keys import Keys, check_exposure, client_keys, is_loopback, read_keys


def test_no_keys() -> None:
    keys = read_keys({})
    assert keys == Keys()
    assert not keys.opens("")
    assert not keys.opens_admin("")


def test_keys_from_variables_and_files(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("admin-secret\n")
    keys = read_keys({"VLLM_API_KEY": "secret", "JOSTLE_ADMIN_KEY_FILE": str(file)})
    assert keys.opens("secret")
    assert not keys.opens("admin-secret")
    assert keys.opens_admin("admin-secret")
    assert not keys.opens_admin("secret")
    assert "secret" not in repr(keys)


def test_keys_that_vllm_was_given_as_arguments() -> None:
    keys = read_keys({"VLLM_API_KEY": "unused"}, ["one", "two"])
    assert [keys.opens(key) for key in ("one", "two", "unused")] == [True, True, False]


def test_keys_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"VLLM_API_KEY.*leave one out"):
        read_keys({"VLLM_API_KEY": "a", "JOSTLE_API_KEY_FILE": "b"})
    with pytest.raises(InputError, match=r"JOSTLE_ADMIN_KEY.*the same"):
        read_keys({"VLLM_API_KEY": "a", "JOSTLE_ADMIN_KEY": "a"})
    with pytest.raises(InputError, match=r"nowhere.*cannot be read"):
        read_keys({"JOSTLE_API_KEY_FILE": "nowhere"})


def test_an_empty_key_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" \n")
    with pytest.raises(InputError, match="is empty"):
        read_keys({"JOSTLE_API_KEY_FILE": str(tmp_path / "key")})


@pytest.mark.parametrize("key", ["abc\n", " abc", "a\nbc", "schlüssel", "\udcff"])
@pytest.mark.parametrize("variable", ["VLLM_API_KEY", "JOSTLE_ADMIN_KEY", "JOSTLE_API_KEY"])
def test_keys_that_no_header_carries(key: str, variable: str) -> None:
    with pytest.raises(InputError, match=f"'{variable}': is no key: ") as told:
        client_keys({variable: key})
    assert key not in str(told.value)
    if variable != "JOSTLE_API_KEY":
        with pytest.raises(InputError, match=f"'{variable}': is no key: "):
            read_keys({variable: key})
    for given in ({"api": key}, {"admin": key}):
        with pytest.raises(InputError, match="is no key: "):
            client_keys({}, **given)


def test_a_key_file_of_no_ascii(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("schlüssel\n", encoding="utf-8")
    with pytest.raises(InputError, match="'JOSTLE_API_KEY_FILE': is no key"):
        read_keys({"JOSTLE_API_KEY_FILE": str(tmp_path / "key")})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        (None, False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
    ],
)
def test_a_network_needs_a_key(host: str | None, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    check_exposure(host, read_keys({"VLLM_API_KEY": "a"}), {})
    if loopback:
        check_exposure(host, Keys(), {})
    else:
        with pytest.raises(InputError, match="needs an API key"):
            check_exposure(host, Keys(), {})


@pytest.mark.parametrize("variable", ["VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING"])
def test_routes_for_developers_stay_off(variable: str) -> None:
    check_exposure("localhost", Keys(), {variable: "0"})
    with pytest.raises(InputError, match=f"{variable}.*unset it"):
        check_exposure("localhost", Keys(), {variable: "1"})


def test_what_a_client_sends(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("admin\n")
    assert client_keys({}).api is None
    environ = {"VLLM_API_KEY": "server", "JOSTLE_ADMIN_KEY_FILE": str(file)}
    keys = client_keys(environ)
    assert (keys.api, keys.admin) == ("server", "admin")
    assert "server" not in repr(keys)
    environ["JOSTLE_API_KEY"] = "client"
    assert client_keys(environ).api == "client"
    keys = client_keys(environ, "given", "too")
    assert (keys.api, keys.admin) == ("given", "too")
