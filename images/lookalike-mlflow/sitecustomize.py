"""Packages are where a Python that was built from its sources looks for them."""

import pathlib
import site

site.addsitedir(str(pathlib.Path(__file__).parent / "site-packages"))
