"""The command is a contract: names, exit statuses, one JSON object as the last line."""

import json
import subprocess
import sys

import pytest

from models.disclaimer import DISCLAIMER_EN
from pipelines.cli import COMMANDS, main


def test_every_command_explains_itself_and_carries_the_disclaimer(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert stopped.value.code == 0
        text = " ".join(capsys.readouterr().out.split())
        assert DISCLAIMER_EN in text
        assert "--json" in text


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["train"], ["prepare", "nowhere", "x", "--out", "y"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: sequela" in capsys.readouterr().err


def test_a_refusal_exits_with_1_and_says_why_on_stderr_and_in_json(tmp_path, capsys):
    status = main(["prepare", "challenge2012", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--json"])
    output = capsys.readouterr()
    assert status == 1
    assert "sequela: " in output.err
    assert "refused" in json.loads(output.out.splitlines()[-1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "challenge2012"],
        ["prepare", "challenge2012", "PLACE", "--mapping", "m.toml"],
        ["prepare", "synthetic", "--stays", "many"],
        ["prepare", "csv", "PLACE", "PLACE"],
    ],
)
def test_arguments_that_do_not_go_together_are_wrong_usage(arguments, tmp_path, capsys):
    given = [str(tmp_path) if a == "PLACE" else a for a in arguments]
    assert main([*given, "--out", str(tmp_path / "out"), "--json"]) == 2
    assert "refused" in json.loads(capsys.readouterr().out.splitlines()[-1])


def test_an_override_without_a_value_is_wrong_usage(tmp_path, capsys):
    config = tmp_path / "run.toml"
    config.write_text('name = "a"\n[task]\noutcome = "b"\n', encoding="utf-8")
    assert main(["train", str(tmp_path), "--config", str(config), "--set", "seed"]) == 2
    assert "--set must be key=value" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_a_place_where_no_answer_can_be_written_is_refused_before_the_work(command, tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for out in (tmp_path, tmp_path / "file" / "below"):
        assert main([command, "models:/none/1", str(tmp_path / "cohort"), "--out", str(out)]) == 1
        assert "sequela: out must " in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_refusal_and_no_traceback(tmp_path, capsys):
    config, cohort = tmp_path / "run.toml", tmp_path / "cohort"
    assert main(["prepare", "synthetic", "--stays", "3", "--out", str(cohort), "--quiet"]) == 0
    config.write_text('name = "a"\n[task]\noutcome = "in_hospital_death"\n', encoding="utf-8")
    arguments = ["train", str(cohort), "--config", str(config), "--folder", str(config / "below"), "--json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
        assert main(arguments) == 1
    output = capsys.readouterr()
    assert str(config / "below") in output.err
    assert "files must be readable" in json.loads(output.out.splitlines()[-1])["refused"]


def test_a_tracking_address_of_no_kind_is_a_refusal_and_no_traceback(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense:address")
    assert main(["score", "models:/none/1", str(tmp_path), "--out", str(tmp_path / "out.parquet")]) == 69
    assert "check MLFLOW_TRACKING_URI" in capsys.readouterr().err


def test_the_list_of_commands_needs_no_heavy_import():
    code = (
        "import sys; from pipelines.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [["train", "PLACE"], ["tune", "PLACE", "--out", "best.toml"], ["retrain"], ["schedule", "--cron", "0 2 * * *"]],
)
def test_a_mistake_in_the_configuration_is_told_before_the_heavy_imports(command, tmp_path):
    (tmp_path / "run.toml").write_text("name = 'x'\n[task]\noutcome = 'death'\n[network]\ncel = 'gru'\n")
    arguments = [a.replace("PLACE", str(tmp_path)) for a in command] + ["--config", str(tmp_path / "run.toml")]
    code = (
        "import sys; from pipelines.cli import main\n"
        f"status = main({arguments!r})\n"
        "heavy = {'mlflow', 'pytorch_lightning', 'lightgbm', 'optuna', 'apscheduler'} & set(sys.modules)\n"
        "sys.exit(f'{status} {heavy}' if heavy or status != 1 else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cel" in done.stderr


def test_an_unforeseen_error_exits_with_70_and_without_its_own_text(monkeypatch, capsys):
    from pipelines.commands import score

    secret = "patient Smith, potassium 7.9"

    def fall_over(*_: object) -> dict:
        raise KeyError(secret)

    monkeypatch.setattr(score, "run", fall_over)
    assert main(["score", "models:/x/1", "cohort", "--out", "x.parquet", "--json"]) == 70
    output = capsys.readouterr()
    assert "Smith" not in output.out + output.err
    assert "KeyError" in output.err
