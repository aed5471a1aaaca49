"""A workspace names directories, and none outside its root."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.engine.workspace import Workspace


def test_directories_have_the_names_of_the_api(tmp_path: Path) -> None:
    """Of the site and of a job; nothing is made."""
    workspace = Workspace(str(tmp_path), "site-1")
    job = tmp_path.resolve() / "job-1"
    assert workspace.get_root_dir() == str(tmp_path)
    assert workspace.get_startup_kit_dir() == str(tmp_path / "startup")
    assert workspace.get_site_config_dir() == str(tmp_path / "local")
    assert workspace.get_client_custom_dir() == str(tmp_path / "local" / "custom")
    assert workspace.get_file_path_in_root("a") == str(tmp_path / "a")
    assert workspace.get_file_path_in_startup("a") == str(tmp_path / "startup" / "a")
    assert workspace.get_run_dir("job-1") == str(job)
    assert workspace.get_app_dir("job-1") == str(job / "app_site-1")
    assert workspace.get_app_custom_dir("job-1") == str(job / "app_site-1" / "custom")
    config = job / "app_site-1" / "config"
    assert workspace.get_server_app_config_file_path("job-1") == str(
        config / "config_fed_server.json"
    )
    assert workspace.get_client_app_config_file_path("job-1") == str(
        config / "config_fed_client.json"
    )
    assert workspace.get_job_meta_path("job-1") == str(job / "meta.json")
    assert workspace.get_result_root("job-1") == workspace.get_log_root("job-1") == str(job)
    assert workspace.get_log_root() == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_first_file_that_is_there_is_taken(tmp_path: Path) -> None:
    """One name is only joined; of several it is the first that exists, or None."""
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "b").touch()
    workspace = Workspace(str(tmp_path))
    assert workspace.get_file_path_in_site_config("a") == str(tmp_path / "local" / "a")
    assert workspace.get_file_path_in_site_config(["a", "b"]) == str(tmp_path / "local" / "b")
    assert workspace.get_file_path_in_site_config(["a"]) is None
    with pytest.raises(ValueError, match="a str or a list"):
        workspace.get_file_path_in_site_config(1)  # type: ignore[arg-type]


def test_a_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """At once, and by name."""
    with pytest.raises(ValueError, match="nowhere is not a directory"):
        Workspace(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("job", ["", ".", "..", "../x", "a/b", "/etc", "a\0b", ".a", None, "a\n"])
def test_no_job_id_leads_out_of_the_root(tmp_path: Path, job: str) -> None:
    """What is no plain name is refused."""
    with pytest.raises(ValueError, match="is no job id"):
        Workspace(str(tmp_path)).get_run_dir(job)


def test_no_link_leads_out_of_the_root(tmp_path: Path) -> None:
    """A job's directory that points elsewhere is refused."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "job").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="outside the workspace"):
        Workspace(str(root)).get_run_dir("job")


@given(st.text())
def test_any_text_is_refused_or_names_a_child_of_the_root(text: str) -> None:
    """Whatever the job is called, its directory stands in the root and has its name."""
    root = Path(__file__).resolve().parent
    try:
        path = Path(Workspace(str(root)).get_run_dir(text))
    except ValueError:
        return
    assert (path.parent, path.name) == (root, text)
