import multiprocessing
import socket
import time

import pytest
from small_studies import SPACE, Curve

from recog.tuning import lost_trials, storage
from recog.tuning.lost_trials import describe_running, owner, requeue
from recog.tuning.storage import quiet_optuna, rows_of


@pytest.fixture(autouse=True)
def _quiet():
    with quiet_optuna():
        yield


def test_a_process_is_named_by_its_machine_number_and_start():
    assert owner().count("/") == 2


def test_a_trial_of_a_process_that_was_killed_is_run_again(study_of):
    study, search = study_of(Curve(), num_trials=3)
    list(search.trials())
    trial = study.ask()
    trial.suggest_float("scratch/optim.lr", 0.1, 10.0, log=True)
    host = study.get_trials(deepcopy=False)[0].user_attrs["owner"].partition("/")[0]
    trial.set_user_attr("owner", f"{host}/{2**22 + 1}/1")  # no process has this number: pid_max is 2^22
    requeue(study)
    requeue(study)  # once
    again = study.get_trials(deepcopy=False)[-1]
    assert again.state.name == "WAITING"
    assert again.system_attrs["fixed_params"] == trial.params
    assert [each.state.name for each in study.get_trials(deepcopy=False)].count("WAITING") == 1


def test_a_trial_that_kills_its_processes_has_failed(study_of):
    study, search = study_of(Curve(), num_trials=1)
    list(search.trials())
    study.enqueue_trial({"scratch/optim.lr": 2.0})
    for _ in range(2):
        trial = study.ask()
        trial.suggest_float("scratch/optim.lr", 0.1, 10.0, log=True)
        trial.set_user_attr("owner", f"{owner().partition('/')[0]}/{2**22 + 1}/1")
        requeue(study)
    rows = rows_of(study, SPACE)
    assert (rows[-1].state, rows[-1].settings) == ("failed", {"optim.lr": 2.0})
    assert rows[-1].reason == "its process was killed 2 times, perhaps for lack of memory"
    assert len(rows) == 2  # the default, and this one


class Stuck(Curve):
    """Stays in its third trial until its process is killed."""

    def __init__(self, told):
        super().__init__()
        self._told = told

    def run(self, config, report, *, deadline):
        if len(self.configs) == 2:
            report(1, 0.1)
            self._told.send("stuck")
            time.sleep(600)
        return super().run(config, report, deadline=deadline)


def kill_in_a_trial(study_of, path, *, before=lambda: None):
    """A process takes part in the study until it is in its third trial; then `before` is called and it gets SIGKILL."""
    context = multiprocessing.get_context("fork")  # with the data that this process has read
    ours, theirs = context.Pipe(duplex=False)

    def work():
        _, search = study_of(Stuck(theirs), path=path, num_trials=5)
        list(search.trials())

    process = context.Process(target=work)
    process.start()
    assert ours.poll(60)
    before()
    process.kill()
    process.join()


def check_the_lost_trial_ran_again(study, search):
    (lost,) = (trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "RUNNING")
    list(search.trials())
    rows = rows_of(study, SPACE)
    assert len(rows) == 5
    assert all(row.state in ("done", "pruned") for row in rows)
    assert study.get_trials(deepcopy=False)[lost.number].state.name == "FAIL"
    again = next(row for row in rows if row.number > lost.number)
    assert {f"scratch/{name}": value for name, value in again.settings.items()} == lost.params


def test_a_killed_process_of_this_machine_loses_its_trial_to_another_one(study_of, tmp_path):
    path = tmp_path / "journal.log"
    study, search = study_of(Curve(), path=path, num_trials=5)
    kill_in_a_trial(study_of, path)
    check_the_lost_trial_ran_again(study, search)


@pytest.mark.slow
def test_a_killed_process_of_another_machine_is_noticed_by_its_heartbeat(study_of, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "HEARTBEAT_S", 1)
    monkeypatch.setattr(storage, "GRACE_S", 2)
    where = f"sqlite:///{tmp_path / 'study.db'}"
    with monkeypatch.context() as there:
        there.setattr(lost_trials.socket, "gethostname", lambda: "elsewhere")  # whose processes are not looked up here
        kill_in_a_trial(study_of, where)
    time.sleep(4)
    check_the_lost_trial_ran_again(*study_of(Curve(), path=where, num_trials=5))


def test_a_process_of_another_machine_that_falls_silent_loses_its_trial_of_a_journal(study_of, tmp_path, monkeypatch):
    monkeypatch.setattr(lost_trials, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(lost_trials, "GRACE_S", 1)
    path = tmp_path / "journal.log"
    study, search = study_of(Curve(), path=path, num_trials=5)

    def look_on():
        time.sleep(1.5)
        assert requeue(study) == []  # it is alive
        assert describe_running(study) == ["trial 2 is run by a process on elsewhere"]

    with monkeypatch.context() as there:
        there.setattr(lost_trials.socket, "gethostname", lambda: "elsewhere")
        kill_in_a_trial(study_of, path, before=lambda: there.undo() or look_on())
    time.sleep(1.5)
    assert describe_running(study) == ["trial 2 is run by a process on elsewhere, silent for 2s"]
    check_the_lost_trial_ran_again(study, search)
    assert requeue(study) == []


def test_trials_that_run_again_are_named(study_of):
    study, _ = study_of(Curve(), num_trials=1)
    study.enqueue_trial({"scratch/optim.lr": 2.0})
    trial = study.ask()
    trial.set_user_attr("owner", f"{owner().partition('/')[0]}/{2**22 + 1}/1")
    host = socket.gethostname()
    assert requeue(study) == [
        f"trial 0 ended without a result, as its process on {host} was killed or fell silent; it runs again unless that was so "
        "before"
    ]
    assert describe_running(study) == []


class TakenOver(Curve):
    """Its second trial is taken over by another process while it runs."""

    def __init__(self, take_over):
        super().__init__()
        self._take_over = take_over

    def run(self, config, report, *, deadline):
        if len(self.configs) == 1:
            self._take_over()
        return super().run(config, report, deadline=deadline)


def test_a_process_whose_trial_was_taken_over_goes_on_with_the_next_one(study_of):
    import optuna

    def take_over():
        other, _ = study_of(Curve())
        other.tell(1, state=optuna.trial.TrialState.FAIL)
        lost_trials.run_again(other, other.get_trials()[1])

    study, search = study_of(TakenOver(take_over), num_trials=4)
    list(search.trials())
    rows = rows_of(study, SPACE)
    assert [row.number for row in rows[:2]] == [0, 2]
    assert len(rows) == 4
    assert all(row.state in ("done", "pruned") for row in rows)
    assert rows[1].settings == {
        name.partition("/")[2]: value for name, value in study.get_trials()[1].params.items() if "/" in name
    }
