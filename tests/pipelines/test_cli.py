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
