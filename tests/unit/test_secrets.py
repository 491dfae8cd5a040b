"""Where a process has its secrets from."""

from pathlib import Path

import pytest

from services.generator.settings import SECRET_PREFIX
from shared.errors import ConfigError
from shared.secrets import read_secrets


def test_secrets_come_from_variables_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file \n")
    environment = {
        "TIDEGATE_SECRET_SHOP_PASSWORD": "from a variable",
        "TIDEGATE_SECRET_API_KEY_FILE": str(tmp_path / "key"),
        "TIDEGATE_MAX_USERS": "5",
    }
    assert read_secrets(SECRET_PREFIX, environment) == {"shop_password": "from a variable", "api_key": "from a file "}


def test_a_file_that_cannot_be_read_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TIDEGATE_SECRET_KEY_FILE=.*nowhere: No such file"):
        read_secrets(SECRET_PREFIX, {"TIDEGATE_SECRET_KEY_FILE": str(tmp_path / "nowhere")})
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ConfigError, match="the file is empty"):
        read_secrets(SECRET_PREFIX, {"TIDEGATE_SECRET_KEY_FILE": str(tmp_path / "key")})


def test_a_secret_given_twice_is_refused_without_telling_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hidden")
    with pytest.raises(ConfigError, match="leave one of them out") as refused:
        read_secrets(
            SECRET_PREFIX, {"TIDEGATE_SECRET_KEY": "hidden", "TIDEGATE_SECRET_KEY_FILE": str(tmp_path / "key")}
        )
    assert "hidden" not in str(refused.value)
