"""A study in PostgreSQL, from Debian's package, on a socket of the test's own."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest
from small_studies import SPACE, Curve

from recog.core.errors import ConfigError
from recog.tuning.storage import open_storage, rows_of

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def as_postgres():
    """Options that run a server as another user where the tests run as root, which PostgreSQL refuses."""
    if os.getuid():
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL refuses root, and there is no user postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The folder of the socket of a running server, which listens on no port."""
    pytest.importorskip("psycopg")
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    options = as_postgres()
    folder = Path("/tmp") / f"recog-pg-{os.getpid()}"  # a socket's path has at most 107 bytes
    folder.mkdir(mode=0o755)
    try:
        if options:
            os.chown(folder, options["user"], options["group"])
        data, run = folder / "data", {"check": True, "capture_output": True, "cwd": folder, **options}
        subprocess.run([PROGRAMS[-1] / "initdb", "-D", data, "-A", "trust", "-U", "me", "--no-sync"], **run)
        settings = f"-k {folder} -c listen_addresses='' -c fsync=off"
        subprocess.run(
            [PROGRAMS[-1] / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", settings, "start"], **run
        )
        try:
            yield folder
        finally:
            subprocess.run([PROGRAMS[-1] / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_two_processes_share_a_study_in_postgresql(server, study_of):
    where = f"postgresql+psycopg://me@/postgres?host={server}"
    runners = Curve(), Curve()
    (study, one), (_, two) = (study_of(runner, path=where, num_trials=8) for runner in runners)
    for search in (one, two, one, two):
        next(search.trials(), None)
    list(one.trials())
    rows = rows_of(study, SPACE)
    assert len(rows) == 8 == sum(len(runner.configs) for runner in runners)
    assert len({str(row.settings) for row in rows}) == 8
    best = max((row for row in rows if row.state == "done"), key=lambda row: row.score)
    assert best.plan == {"recipe": "scratch"}
    assert best.answers.startswith("hits 1 ")


@pytest.mark.slow
def test_a_server_that_is_not_there_is_one_sentence(tmp_path):
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError, match="cannot be used") as found:
        open_storage(f"postgresql+psycopg://me@/postgres?host={tmp_path}")
    assert "\n" not in str(found.value)
