"""The wheel holds a program and no module compiled for one Python."""

import sysconfig

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProgramTag(BuildHookInterface):
    def initialize(self, version, build_data):
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        # auditwheel replaces the platform by what the program needs of the system.
        build_data["tag"] = f"py3-none-{platform}"
