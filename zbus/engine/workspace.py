"""The workspace: the directories of a site, and those of each job in it.

Rules of this room:

* Nothing is made or read here, only named; the root must be there.
* No job id leads out of the root: it is one plain path component (contract section 2.2).
"""

from __future__ import annotations

import os
import re

__all__ = ["Workspace"]

_JOB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", re.ASCII)


class Workspace:
    """The tree under one root: ``startup``, ``local``, and a directory per job.

    Raises:
        ValueError: the root is not a directory.
    """

    def __init__(self, root_dir: str, site_name: str = "", config_folder: str = "config") -> None:
        if not os.path.isdir(root_dir):
            raise ValueError(f"the workspace {root_dir} is not a directory")
        self.root_dir = root_dir
        self.site_name = site_name
        self.config_folder = config_folder

    # -- of the site -----------------------------------------------------------------------

    def get_root_dir(self) -> str:
        """The root."""
        return self.root_dir

    def get_startup_kit_dir(self) -> str:
        """What provisioning gave the site."""
        return os.path.join(self.root_dir, "startup")

    def get_site_config_dir(self) -> str:
        """What the site itself configures."""
        return os.path.join(self.root_dir, "local")

    def get_site_custom_dir(self) -> str:
        """Code of the site's own."""
        return os.path.join(self.get_site_config_dir(), "custom")

    def get_client_custom_dir(self) -> str:
        """The same, by its other name."""
        return self.get_site_custom_dir()

    def get_file_path_in_root(self, file_basename: str) -> str:
        """A file in the root."""
        return os.path.join(self.root_dir, file_basename)

    def get_file_path_in_startup(self, file_basename: str) -> str:
        """A file of the startup kit."""
        return os.path.join(self.get_startup_kit_dir(), file_basename)

    def get_file_path_in_site_config(self, file_basename: str | list[str]) -> str | None:
        """A file of the site's configuration; of several names the first that is there.

        Raises:
            ValueError: it is neither a str nor a list.
        """
        if isinstance(file_basename, str):
            return os.path.join(self.get_site_config_dir(), file_basename)
        if not isinstance(file_basename, list):
            raise ValueError(f"file_basename must be a str or a list, not {type(file_basename)}")
        paths = [os.path.join(self.get_site_config_dir(), name) for name in file_basename]
        return next(filter(os.path.exists, paths), None)

    # -- of a job --------------------------------------------------------------------------

    def get_run_dir(self, job_id: str) -> str:
        """The directory of a job.

        Raises:
            ValueError: the id is not letters, digits, ``_``, ``-`` and inner dots, or leads
                out of the root by a link.
        """
        text = str(job_id)
        if job_id is None or not _JOB_ID.fullmatch(text):
            raise ValueError(f"{text!a:.60} is no job id")
        root = os.path.realpath(self.root_dir)
        path = os.path.realpath(os.path.join(root, text))
        if os.path.commonpath([root, path]) != root:
            raise ValueError(f"the directory of job {text} is outside the workspace")
        return path

    def get_app_dir(self, job_id: str) -> str:
        """The job's app for this site."""
        return os.path.join(self.get_run_dir(job_id), f"app_{self.site_name}")

    def get_app_config_dir(self, job_id: str) -> str:
        """The configuration of the job's app."""
        return os.path.join(self.get_app_dir(job_id), self.config_folder)

    def get_app_custom_dir(self, job_id: str) -> str:
        """The code of the job's app."""
        return os.path.join(self.get_app_dir(job_id), "custom")

    def get_server_app_config_file_path(self, job_id: str) -> str:
        """The server's configuration of the job's app."""
        return os.path.join(self.get_app_config_dir(job_id), "config_fed_server.json")

    def get_client_app_config_file_path(self, job_id: str) -> str:
        """The client's configuration of the job's app."""
        return os.path.join(self.get_app_config_dir(job_id), "config_fed_client.json")

    def get_job_meta_path(self, job_id: str) -> str:
        """What is known about the job."""
        return os.path.join(self.get_run_dir(job_id), "meta.json")

    def get_log_root(self, job_id: str | None = None) -> str:
        """Where logs go: the job's directory, or the root."""
        return self.get_run_dir(job_id) if job_id else self.root_dir

    def get_result_root(self, job_id: str) -> str:
        """Where results go: the job's directory."""
        return self.get_run_dir(job_id)
