import socket
from threading import Thread

import pytest

from sinks.store import StoreUnavailable, open_store

TLS_HANDSHAKE = b"\x16\x03"
PASSWORD = "hunter2"


@pytest.mark.parametrize(("scheme", "begins"), [("https", TLS_HANDSHAKE), ("http", b"POST")])
def test_a_server_is_spoken_to_as_its_address_says(scheme: str, begins: bytes) -> None:
    heard: list[bytes] = []

    def answer_nothing(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return  # the test is over
            with connection:
                heard.append(connection.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=answer_nothing, args=(listening,), daemon=True).start()
        url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(StoreUnavailable, match="cannot open the store"):
            open_store(url, user="u", password=PASSWORD, database="d")
        listening.shutdown(socket.SHUT_RDWR)

    assert heard
    assert all(said.startswith(begins) for said in heard)
    assert scheme == "http" or not any(b"Authorization" in said for said in heard)
