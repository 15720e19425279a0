"""What all tests of the archive engine share."""

from hypothesis import settings

# An example that takes long on a busy machine says nothing about the code; tests of speed measure for themselves.
settings.register_profile("zipline", deadline=None)
settings.load_profile("zipline")
