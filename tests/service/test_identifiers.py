import uuid
from concurrent.futures import ThreadPoolExecutor

from service.identifiers import new_id


def test_identifiers_are_random_uuids_and_none_is_given_twice_even_to_threads():
    with ThreadPoolExecutor(8) as pool:
        made = [i for part in pool.map(lambda _: [new_id() for _ in range(2000)], range(8)) for i in part]
    assert len(set(made)) == len(made)
    assert {(uuid.UUID(i).version, uuid.UUID(i).variant) for i in made} == {(4, uuid.RFC_4122)}
    assert all(str(uuid.UUID(i)) == i for i in made)
