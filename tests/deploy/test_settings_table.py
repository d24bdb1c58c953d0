"""The README and the help list the settings that the code reads."""

from bus.settings import describe
from deploy.settings_table import all_settings, as_markdown, find_unknown
from server.settings import Settings
from tests.support.script import ROOT
from workers.embed.settings import EmbedSettings


def test_the_readme_has_the_table_that_the_code_writes() -> None:
    """When this fails, put what ``python -m deploy.settings_table`` prints into the README."""
    assert as_markdown() in (ROOT / "README.md").read_text()


def test_every_setting_of_every_process_is_listed_once_and_described() -> None:
    listed = [setting.variable for setting in all_settings()]

    assert len(set(listed)) == len(listed)
    for settings in (Settings, EmbedSettings):
        assert {setting.variable for setting in describe(settings)} <= set(listed)
    assert [] == [setting.variable for setting in all_settings() if not setting.description]


def test_a_misspelt_setting_is_found() -> None:
    assert ["TOWHEE_API_PROT"] == find_unknown(["TOWHEE_API_PROT", "TOWHEE_API_PORT", "PATH"])
