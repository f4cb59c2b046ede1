"""A TCP proxy before a real server, so that tests can cut and freeze the way to it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Proxy:
    """Passes bytes on until it is told otherwise.

    Args:
        host: where the server behind it listens.
        port: its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._pairs: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = True
        self._passing = asyncio.Event()
        self._answers_left: int | None = None

    async def __aenter__(self) -> Self:
        self._passing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()
        await self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def cut(self) -> None:
        """Resets every connection, and every new one."""
        self._open = False
        for writer in list(self._pairs):
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def mend(self) -> None:
        """Passes bytes on again."""
        self._open, self._answers_left = True, None
        self._passing.set()
        await asyncio.sleep(0.01)

    def freeze(self) -> None:
        """Keeps connections and lets no byte through."""
        self._passing.clear()

    def thaw(self) -> None:
        """Lets through again, what was held back first."""
        self._passing.set()

    def cut_after(self, *, answers: int) -> None:
        """Cuts everything once the server has sent so many more pieces, before the next is passed on."""
        self._answers_left = answers

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if not self._open:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._pairs |= {writer, there_writer}
        try:
            await asyncio.gather(
                self._pass(reader, there_writer, answers=False), self._pass(there_reader, writer, answers=True)
            )
        finally:
            self._pairs -= {writer, there_writer}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                await self._passing.wait()
                if answers and self._answers_left is not None:
                    if not self._answers_left:
                        await self.cut()
                        return
                    self._answers_left -= 1
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
