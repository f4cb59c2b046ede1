"""Fixtures of the pipelines' tests: a fresh database of each kind, and tiny trained models."""

import uuid
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, make_url, text

from pipelines.settings import with_driver


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """Address of an empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server = make_url(with_driver(request.getfixturevalue("postgres_url")))
    name = f"sequela_{uuid.uuid4().hex[:12]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(scope="session")
def line(tmp_path_factory):
    """A simulated cohort and two tiny models trained on it, one of which has learned nothing."""
    from tests.pipelines.small_line import train_line  # mlflow and torch are slow to import and not always needed

    return train_line(tmp_path_factory.mktemp("line"))


@pytest.fixture
def register(line):
    """Registers one of the line's models as the next version of a name."""
    from pipelines.publish import Publication

    def publish(name, trained, *, cohorts=(line.cohort_folder,)):
        config = replace(line.config, name=name)
        with Publication(config, line.settings, cohorts=cohorts) as publication:
            return publication.register(trained)

    return publish
