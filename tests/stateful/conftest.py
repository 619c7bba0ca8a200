"""The crash tests' zygote serves the machine as well."""

from tests.crash.conftest import zygote

__all__ = ["zygote"]
