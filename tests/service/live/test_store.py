"""What every store promises, on SQLite and on PostgreSQL."""

import asyncio
import contextlib

import pytest

from service.live.sqlite_store import SqliteStore
from service.live.store import CachedState, ConflictError, Entry, Kept, StoreError
from tests.service.live.stores import SECRET, opened, own_schema


@pytest.fixture(params=["sqlite", "postgres"])
def make_store(request, tmp_path):
    """Makes stores over the same, at first empty, data."""
    if request.param == "sqlite":
        yield lambda: SqliteStore(tmp_path / "stays.db")
        return
    from service.live.postgres_store import PostgresStore

    with own_schema(request.getfixturevalue("postgres_url")) as url:
        yield lambda: PostgresStore(url)


def with_store(make_store, work):
    async def open_and_work():
        async with opened(make_store()) as store:
            await work(store)

    asyncio.run(open_and_work())


def kept(scope=b"s" * 32, *, body=b"b" * 32, at_s=100.0, content=b'{"risk": 0.1}'):
    return Kept(scope, body, 200, content, at_s)


async def conflicts(write):
    with contextlib.suppress(ConflictError):
        await write
        return False
    return True


def test_a_created_stay_is_found_with_its_first_entry(make_store):
    async def work(store):
        made = await store.create("a", b"first", at_s=5.5, secret=SECRET)
        assert await store.head("a") == made
        assert (made.stay_id, made.version, made.created_s, made.updated_s, made.secret) == ("a", 1, 5.5, 5.5, SECRET)
        assert await store.entries(made.number) == [Entry(1, 5.5, b"first")]
        assert await store.count() == 1

    with_store(make_store, work)


def test_an_unknown_stay_has_no_head_entries_state_or_answer(make_store):
    async def work(store):
        assert await store.head("nobody") is None
        assert await store.entries(99) == []
        assert await store.load_state(99, "k") is None
        assert await store.kept(b"s" * 32) is None
        assert await store.delete(99) is False
        assert await store.page() == []

    with_store(make_store, work)


def test_a_stay_is_created_once(make_store):
    async def work(store):
        made = await store.create("a", b"first", at_s=1, secret=SECRET)
        assert await conflicts(store.create("a", b"other", at_s=2, secret=SECRET))
        assert await store.entries(made.number) == [Entry(1, 1.0, b"first")]

    with_store(make_store, work)


def test_entries_are_numbered_without_a_gap_and_read_from_any_version(make_store):
    async def work(store):
        made = await store.create("a", b"1", at_s=1, secret=SECRET)
        for version in range(1, 5):
            await store.append(made.number, version, b"%d" % (version + 1), at_s=version + 1)
        assert await store.entries(made.number, after=3) == [Entry(4, 4.0, b"4"), Entry(5, 5.0, b"5")]
        found = await store.head("a")
        assert (found.version, found.updated_s, found.created_s) == (5, 5.0, 1.0)

    with_store(make_store, work)


@pytest.mark.parametrize("version", [0, 1, 3])
def test_an_entry_that_builds_on_another_version_is_refused_and_changes_nothing(make_store, version):
    async def work(store):
        made = await store.create("a", b"1", at_s=1, secret=SECRET)
        await store.append(made.number, 1, b"2", at_s=2)
        assert await conflicts(store.append(made.number, version, b"x", at_s=3, kept=kept()))
        assert [e.payload for e in await store.entries(made.number)] == [b"1", b"2"]
        assert await store.kept(kept().scope) is None

    with_store(make_store, work)


def test_of_many_writers_on_one_version_exactly_one_wins(make_store):
    async def work(store):
        made = await store.create("a", b"1", at_s=1, secret=SECRET)
        lost = await asyncio.gather(*(conflicts(store.append(made.number, 1, b"%d" % i, at_s=2)) for i in range(20)))
        assert lost.count(False) == 1
        winner = await store.entries(made.number, after=1)
        assert [e.payload for e in winner] == [b"%d" % lost.index(False)]

    with_store(make_store, work)


def test_writers_of_many_stays_are_all_served(make_store):
    async def work(store):
        made = await asyncio.gather(*(store.create(f"s{i}", b"1", at_s=1, secret=SECRET) for i in range(300)))
        assert len({head.number for head in made}) == 300
        for version in (1, 2):
            await asyncio.gather(*(store.append(h.number, version, b"n%d" % h.number, at_s=2) for h in made))
        for head in made[::50]:
            assert [e.payload for e in await store.entries(head.number, after=1)] == [b"n%d" % head.number] * 2
        assert await store.count() == 300

    with_store(make_store, work)


def test_a_write_that_conflicts_does_not_undo_those_beside_it(make_store):
    async def work(store):
        made = await asyncio.gather(*(store.create(f"s{i}", b"1", at_s=1, secret=SECRET) for i in range(10)))
        writes = [store.append(h.number, 1 if h.number % 2 else 7, b"2", at_s=2) for h in made]
        lost = await asyncio.gather(*(conflicts(write) for write in writes))
        assert lost == [h.number % 2 == 0 for h in made]
        assert [len(await store.entries(h.number)) for h in made] == [2 if h.number % 2 else 1 for h in made]

    with_store(make_store, work)


def test_an_answer_is_kept_with_its_entry_and_refuses_a_second_call(make_store):
    async def work(store):
        made = await store.create("a", b"1", at_s=100, secret=SECRET)
        await store.append(made.number, 1, b"2", at_s=100, kept=kept())
        assert await store.kept(kept().scope) == kept()
        assert await conflicts(store.append(made.number, 2, b"3", at_s=100, kept=kept(body=b"c" * 32)))
        assert len(await store.entries(made.number)) == 2
        assert await store.kept(kept().scope) == kept()

    with_store(make_store, work)


def test_a_creation_keeps_its_answer_too(make_store):
    async def work(store):
        await store.create("a", b"1", at_s=100, secret=SECRET, kept=kept())
        assert await store.kept(kept().scope) == kept()
        assert await conflicts(store.create("b", b"1", at_s=100, secret=SECRET, kept=kept()))
        assert await store.head("b") is None

    with_store(make_store, work)


def test_deletion_leaves_nothing_of_a_stay_and_its_number_is_never_used_again(make_store):
    async def work(store):
        made = await store.create("a", b"1", at_s=100, secret=SECRET, kept=kept())
        other = await store.create("b", b"1", at_s=100, secret=SECRET)
        await store.save_states([CachedState(made.number, "k", 1, b"state")])
        assert await store.delete(made.number) is True
        assert await store.delete(made.number) is False
        assert await store.head("a") is None
        assert await store.entries(made.number) == []
        assert await store.load_state(made.number, "k") is None
        assert await store.kept(kept().scope) is None
        assert await conflicts(store.append(made.number, 1, b"2", at_s=101))
        assert (await store.create("a", b"1", at_s=102, secret=SECRET)).number not in (made.number, other.number)
        assert await store.count() == 2

    with_store(make_store, work)


def test_a_store_says_which_stays_are_gone(make_store):
    async def work(store):
        made = [await store.create(name, b"", at_s=1.0, secret=SECRET) for name in "abc"]
        await store.delete(made[1].number)
        found = await store.gone([*(one.number for one in made), 1 << 40])
        assert sorted(found) == [made[1].number, 1 << 40]
        assert await store.gone([]) == []

    with_store(make_store, work)


def test_the_last_stay_s_number_is_not_used_again_after_it_and_a_restart(make_store):
    async def create_and_delete(store):
        numbers.append((await store.create("a", b"1", at_s=1, secret=SECRET)).number)
        await store.delete(numbers[-1])

    numbers = []
    with_store(make_store, create_and_delete)
    with_store(make_store, create_and_delete)
    assert numbers[0] != numbers[1]


def test_pages_follow_the_order_of_code_points_and_meet_no_stay_twice(make_store):
    names = ["10", "9", "A", "Z", "_", "a", "ä", "か", "～", "𝒳", "a b", "a/b"]

    async def work(store):
        for name in names:
            await store.create(name, b"1", at_s=1, secret=SECRET)
        seen, after = [], ""
        while page := await store.page(after=after, limit=5):
            seen += [head.stay_id for head in page]
            after = seen[-1]
        assert seen == sorted(names)

    with_store(make_store, work)


def test_a_newer_state_stands_and_every_key_has_its_own(make_store):
    async def work(store):
        number = (await store.create("a", b"1", at_s=1, secret=SECRET)).number
        await store.save_states([CachedState(number, "k", 3, b"three"), CachedState(number, "other", 1, b"one")])
        await store.save_states([CachedState(number, "k", 2, b"two")])
        assert await store.load_state(number, "k") == CachedState(number, "k", 3, b"three")
        await store.save_states([CachedState(number, "k", 4, b"four")])
        assert await store.load_state(number, "k") == CachedState(number, "k", 4, b"four")
        assert await store.load_state(number, "other") == CachedState(number, "other", 1, b"one")
        assert await store.load_state(number, "none") is None

    with_store(make_store, work)


def test_dropped_states_are_gone_and_others_stay(make_store):
    async def work(store):
        first, second = [(await store.create(name, b"1", at_s=1, secret=SECRET)).number for name in "ab"]
        await store.save_states([CachedState(n, k, 1, b"x") for n in (first, second) for k in ("k", "l")])
        await store.drop_states([first, 999])
        assert [await store.load_state(first, k) for k in ("k", "l")] == [None, None]
        assert await store.load_state(second, "k") == CachedState(second, "k", 1, b"x")

    with_store(make_store, work)


def test_a_stay_that_is_gone_gets_no_state(make_store):
    async def work(store):
        number = (await store.create("a", b"1", at_s=1, secret=SECRET)).number
        await store.delete(number)
        await store.save_states([CachedState(number, "k", 1, b"late"), CachedState(12345, "k", 1, b"never was")])
        assert await store.load_state(number, "k") is None
        assert await store.load_state(12345, "k") is None

    with_store(make_store, work)


def test_purging_removes_old_answers_and_stays_and_names_the_stays(make_store):
    async def work(store):
        old = await store.create("old", b"1", at_s=10, secret=SECRET)
        changed = await store.create("changed", b"1", at_s=10, secret=SECRET)
        await store.append(changed.number, 1, b"2", at_s=50, kept=kept(b"1" * 32, at_s=50))
        await store.create("new", b"1", at_s=60, secret=SECRET, kept=kept(b"2" * 32, at_s=60))
        assert await store.purge(kept_before_s=55) == ()
        assert await store.kept(b"1" * 32) is None
        assert await store.kept(b"2" * 32) is not None
        assert await store.purge(kept_before_s=0, stays_before_s=50) == (old.number,)
        assert [head.stay_id for head in await store.page()] == ["changed", "new"]
        assert await store.entries(old.number) == []

    with_store(make_store, work)


def test_what_was_written_is_there_after_a_restart(make_store):
    async def write(store):
        made = await store.create("a", bytes(range(256)), at_s=1.25, secret=SECRET)
        await store.append(made.number, 1, b"", at_s=2.5, kept=kept())

    async def read(store):
        head = await store.head("a")
        assert (head.version, head.created_s, head.updated_s, head.secret) == (2, 1.25, 2.5, SECRET)
        assert await store.entries(head.number) == [Entry(1, 1.25, bytes(range(256))), Entry(2, 2.5, b"")]
        assert await store.kept(kept().scope) == kept()

    with_store(make_store, write)
    with_store(make_store, read)


def test_a_store_that_answers_passes_its_check(make_store):
    async def work(store):
        assert [await store.check() for _ in range(2)] == [None, None]

    with_store(make_store, work)


def test_a_file_that_was_taken_away_takes_no_write_until_it_is_back(tmp_path):
    path = tmp_path / "stays.db"

    async def work(store):
        made = await store.create("a", b"first", at_s=5.5, secret=SECRET)
        away = path.rename(tmp_path / "away.db")
        for write in (store.append(made.number, 1, b"second", at_s=6.0), store.check()):
            with pytest.raises(StoreError, match="put it back"):
                await write
        assert not path.exists()
        away.rename(path)
        await store.append(made.number, 1, b"second", at_s=6.0)
        path.rename(away)
        path.write_bytes(b"")  # another one in its place is not the one that was opened
        with pytest.raises(StoreError, match="put it back"):
            await store.append(made.number, 2, b"third", at_s=7.0)
        away.rename(path)
        assert [entry.payload for entry in await store.entries(made.number)] == [b"first", b"second"]

    with_store(lambda: SqliteStore(path), work)


def test_work_that_fails_in_an_unknown_way_fails_for_itself_and_the_next_is_done(tmp_path):
    async def work(store):
        made = await store.create("a", b"first", at_s=5.5, secret=SECRET)
        with pytest.raises(StoreError, match="OverflowError"):
            await store.append(1 << 70, 1, b"second", at_s=6.0)
        await asyncio.wait_for(store.append(made.number, 1, b"second", at_s=6.0), 10)

    with_store(lambda: SqliteStore(tmp_path / "stays.db"), work)
