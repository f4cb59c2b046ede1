"""Connections that never send a request do not stay."""

import asyncio
import socket

import uvicorn

from service.protocol import ResearchProtocol

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


class Impatient(ResearchProtocol):
    """Waits a fifth of a second for a head."""

    head_timeout_s = 0.2


async def answer(scope, receive, send):
    """Answers after longer than a head may take."""
    await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def exchange(*parts):
    """What comes back, until the connection is closed, on sending the parts one after the other."""
    config = uvicorn.Config(answer, log_config=None, lifespan="off", ws="none", http=Impatient)
    config.load()
    state = uvicorn.Server(config).server_state
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Impatient(config, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.1)
        received = await asyncio.wait_for(reader.read(), timeout=4)
        writer.close()
    return received


def test_a_head_that_does_not_arrive_ends_the_connection():
    assert asyncio.run(exchange(HEAD)) == b""
    assert asyncio.run(exchange()) == b""


def test_a_slow_answer_is_waited_for_and_the_next_head_again_is_not():
    received = asyncio.run(exchange(HEAD + b"\r\n", HEAD))
    assert received.count(b"200 OK") == 1


async def whole_answer_s():
    """Seconds until an answer in two parts has come, to a sender that confirms what it receives late."""
    config = uvicorn.Config(two_parts, log_config=None, lifespan="off", ws="none", http=ResearchProtocol)
    config.load()
    state = uvicorn.Server(config).server_state
    loop = asyncio.get_running_loop()
    # As `service.server` listens: a socket made by hand, for which asyncio sets no option.
    listening = socket.create_server(("127.0.0.1", 0))
    server = await loop.create_server(lambda: ResearchProtocol(config, state, {}), sock=listening)
    took = []
    async with server:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        for _ in range(5):
            began = loop.time()
            writer.write(HEAD + b"\r\n")
            await reader.readuntil(b"done")
            took.append(loop.time() - began)
        writer.close()
    return min(took[1:])


async def two_parts(scope, receive, send):
    """Answers at once; head and body are written apart."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})


def test_an_answer_does_not_wait_until_its_head_is_confirmed():
    assert asyncio.run(whole_answer_s()) < 0.03
